package mboxdb

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Rights are what an identifier may do with a mailbox (RFC 4314).
type Rights uint32

// The rights, in the order in which they are written.
const (
	RightLookup        Rights = 1 << iota // l: see the mailbox in lists
	RightRead                             // r: open it
	RightSeen                             // s: keep one's own \Seen
	RightWrite                            // w: set flags other than \Seen and \Deleted
	RightInsert                           // i: append
	RightPost                             // p: send mail to it
	RightCreate                           // k: create mailboxes below
	RightDeleteMailbox                    // x: delete or rename it
	RightDeleteMessage                    // t: set \Deleted
	RightExpunge                          // e: expunge
	RightAdmin                            // a: change the ACL
	RightAnnotate                         // n: annotate messages
	RightUser0                            // 0, and so on to 9: for the site's own use
)

// RightsAll are all rights of RFC 4314 and n.
const RightsAll = RightUser0 - 1

// letters are the rights in the order in which Cyrus writes them; c and d, which stand for several, come after e.
const (
	rightLetters = "lrswipkxtean0123456789"
	beforeMacros = "lrswipkxte"
)

// ErrACL means that an ACL, an identifier in it or a right is not valid.
var ErrACL = errors.New("not a valid access control list")

// ACLRules are the options that say what the old rights c and d mean.
type ACLRules struct {
	// DeleteRight is the right that allows deleting a mailbox (deleteright), by default "c".
	DeleteRight byte
}

func (r ACLRules) deleteRight() byte {
	if r.DeleteRight == 0 {
		return 'c'
	}
	return r.DeleteRight
}

// macros are the rights that the old rights c (create) and d (delete) stand for.
func (r ACLRules) macros() (c, d Rights) {
	c, d = RightCreate, RightDeleteMessage|RightExpunge
	switch r.deleteRight() {
	case 'c':
		c |= RightDeleteMailbox
	case 'd':
		d |= RightDeleteMailbox
	}
	return c, d
}

// ParseRights reads rights. A c or d adds what it stands for, unless a part of that is there already. Unknown letters
// are an ErrACL; the known ones are returned with it.
func (r ACLRules) ParseRights(s string) (Rights, error) {
	macroC, macroD := r.macros()
	var rights, c, d Rights
	var unknown []byte
	for i := range len(s) {
		letter := s[i]
		known := true
		switch at := strings.IndexByte(rightLetters, letter); {
		case letter == 'c':
			c = macroC
		case letter == 'd':
			d = macroD
		case at >= 0:
			rights |= 1 << at
		default:
			known = false
		}
		if letter == r.deleteRight() && letter != 'c' && letter != 'd' {
			rights |= RightDeleteMailbox
			known = true
		}
		if !known {
			unknown = append(unknown, letter)
		}
	}
	if rights&c == 0 {
		rights |= c
	}
	if rights&d == 0 {
		rights |= d
	}
	if unknown != nil {
		return rights, fmt.Errorf("unknown rights %q: %w", unknown, ErrACL)
	}
	return rights, nil
}

// FormatRights writes rights as Cyrus does: with c and d for old clients, if a part of what they stand for is there.
func (r ACLRules) FormatRights(rights Rights) string {
	macroC, macroD := r.macros()
	var b strings.Builder
	for i := range len(rightLetters) {
		if i == len(beforeMacros) {
			if rights&macroC != 0 {
				b.WriteByte('c')
			}
			if rights&macroD != 0 {
				b.WriteByte('d')
			}
		}
		if rights&(1<<i) != 0 {
			b.WriteByte(rightLetters[i])
		}
	}
	return b.String()
}

// ACLEntry gives rights to an identifier: a user, "anyone", "anonymous" or "group:NAME"; with "-" before it, it takes
// them away.
type ACLEntry struct {
	Identifier string `json:"identifier"`
	// Rights is how the rights are written; unknown letters are kept.
	Rights string `json:"rights"`
}

// ACL is an access control list, in the order in which it was set.
type ACL []ACLEntry

// ParseACL reads the form with tabs: identifier TAB rights TAB, again and again. What follows the last complete entry
// is left out, as Cyrus does, and reported as ErrACL.
func ParseACL(s string) (ACL, error) {
	var acl ACL
	for s != "" {
		id, rest, ok := strings.Cut(s, "\t")
		if !ok {
			return acl, fmt.Errorf("%q at the end has no rights: %w", s, ErrACL)
		}
		rights, after, ok := strings.Cut(rest, "\t")
		if !ok {
			return acl, fmt.Errorf("the rights %q at the end have no TAB after them: %w", rest, ErrACL)
		}
		acl = append(acl, ACLEntry{id, rights})
		s = after
	}
	return acl, nil
}

// String is the form with tabs.
func (a ACL) String() string {
	var b strings.Builder
	for _, e := range a {
		b.WriteString(e.Identifier + "\t" + e.Rights + "\t")
	}
	return b.String()
}

// Get returns the rights that stand beside an identifier.
func (a ACL) Get(identifier string) (rights string, ok bool) {
	for _, e := range a {
		if e.Identifier == identifier {
			return e.Rights, true
		}
	}
	return "", false
}

// ACLMode says how Set changes what an identifier has.
type ACLMode int

const (
	ReplaceRights ACLMode = iota
	AddRights
	RemoveRights
)

// Set returns a copy of the list in which the rights of an identifier are changed. An entry keeps its place, a new one
// comes last, one without rights is left out. An identifier that could be none is an ErrACL.
func (r ACLRules) Set(a ACL, identifier string, mode ACLMode, rights Rights) (ACL, error) {
	if err := checkIdentifier(identifier); err != nil && (rights != 0 || identifier == "") {
		return nil, err // but whatever stands in the list can be removed
	}
	out := make(ACL, 0, len(a)+1)
	done := false
	put := func(old Rights) {
		switch mode {
		case AddRights:
			rights |= old
		case RemoveRights:
			rights = old &^ rights
		}
		if rights != 0 {
			out = append(out, ACLEntry{identifier, r.FormatRights(rights)})
		}
		done = true
	}
	for _, e := range a {
		if e.Identifier == identifier && !done {
			old, _ := r.ParseRights(e.Rights)
			put(old)
			continue
		}
		out = append(out, e)
	}
	if !done {
		put(0)
	}
	return out, nil
}

// maxIdentifier is the longest identifier, in bytes.
const maxIdentifier = 80

// checkIdentifier tells whether an identifier could be that of a user or a group.
func checkIdentifier(id string) error {
	id = strings.TrimPrefix(id, "-")
	bad := func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune("%&*/:?", r) }
	switch group := strings.TrimPrefix(id, "group:"); {
	case id == "" || group == "":
		return fmt.Errorf("an identifier is empty: %w", ErrACL)
	case len(id) > maxIdentifier:
		return fmt.Errorf("an identifier of %d bytes, the most is %d: %w", len(id), maxIdentifier, ErrACL)
	case strings.IndexFunc(group, bad) >= 0:
		return fmt.Errorf("the identifier %q has a character that none has: %w", id, ErrACL)
	}
	return nil
}

// MyRights are the rights of a user who is a member of the given groups ("group:NAME").
func (r ACLRules) MyRights(a ACL, user string, groups []string) Rights {
	var have, lack Rights
	for _, e := range a {
		id, negative := strings.CutPrefix(e.Identifier, "-")
		if id != user && id != "anyone" && !slices.Contains(groups, id) {
			continue
		}
		rights, _ := r.ParseRights(e.Rights)
		if negative {
			lack |= rights
		} else {
			have |= rights
		}
	}
	return have &^ lack
}
