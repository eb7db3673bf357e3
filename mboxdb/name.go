package mboxdb

import (
	"strconv"
	"strings"
)

// Name is the name of a mailbox. It is comparable; the zero Name names no mailbox.
//
// Cyrus spells a name in three ways, and mixing them up has cost people mailboxes:
//
//   - in the database (since 3.6): levels separated by the byte 1F, a domain before the byte 1D, dots as they are;
//   - internally, in cyrus.header, quota roots, directories and older databases: levels separated by ".", a domain
//     before "!", a dot within a level as "^";
//   - externally, as clients see it: see [Namespace].
//
// A Name holds the first; String is the second.
type Name struct{ db string }

// The separators of the database spelling.
const (
	levelSep  = '\x1f'
	domainSep = '\x1d'
	// recordSep separates the parts of a reverse ACL key.
	recordSep = '\x1e'
)

const userLevel = "user"

// MaxNameBytes is the longest name, in bytes of the internal spelling, that a mailbox may be created with.
const MaxNameBytes = 490

// DBName is the name with the given database spelling. Any bytes make a Name, so that what stands in a damaged file can
// be shown and kept; [Namespace.Validate] tells whether it is good.
func DBName(s string) Name { return Name{s} }

// InternalName is the name with the given internal spelling, such as "user.alice.Work" or "example.com!user.bob".
func InternalName(s string) Name {
	domain, rest, found := strings.Cut(s, "!")
	if !found {
		return Name{fromInternal(s)}
	}
	return Name{domain + string(domainSep) + fromInternal(rest)}
}

func fromInternal(s string) string { return translate(s, '.', levelSep, '^', '.') }

// DB is the database spelling.
func (n Name) DB() string { return n.db }

// String is the internal spelling.
func (n Name) String() string {
	domain, rest, found := strings.Cut(n.db, string(domainSep))
	if !found {
		return toInternal(n.db)
	}
	return domain + "!" + toInternal(rest)
}

func toInternal(s string) string { return translate(s, levelSep, '.', '.', '^') }

// translate replaces the byte a1 by b1 and a2 by b2. Names need not be UTF-8.
func translate(s string, a1, b1, a2, b2 byte) string {
	b := []byte(s)
	for i, c := range b {
		switch c {
		case a1:
			b[i] = b1
		case a2:
			b[i] = b2
		}
	}
	return string(b)
}

// IsZero tells whether n names no mailbox.
func (n Name) IsZero() bool { return n.db == "" }

// Domain is the domain of the name, empty if it has none.
func (n Name) Domain() string {
	domain, _, found := strings.Cut(n.db, string(domainSep))
	if !found {
		return ""
	}
	return domain
}

// local is the name without its domain.
func (n Name) local() string {
	if _, rest, found := strings.Cut(n.db, string(domainSep)); found {
		return rest
	}
	return n.db
}

// inDomain puts a name without domain into the domain of n.
func (n Name) inDomain(local string) Name {
	if i := strings.IndexByte(n.db, domainSep); i >= 0 {
		return Name{n.db[:i+1] + local}
	}
	return Name{local}
}

// Levels are the parts of the name without its domain, dots as they are.
func (n Name) Levels() []string {
	if local := n.local(); local != "" {
		return strings.Split(local, string(levelSep))
	}
	return nil
}

// Parent is the name one level up, in the same domain; the zero Name if there is none.
func (n Name) Parent() Name {
	local := n.local()
	i := strings.LastIndexByte(local, levelSep)
	if i < 0 {
		return Name{}
	}
	return n.inDomain(local[:i])
}

// Child is the name of a mailbox right below n.
func (n Name) Child(level string) Name { return Name{n.db + string(levelSep) + level} }

// IsBelow tells whether n lies below ancestor, at any depth, in the same domain.
func (n Name) IsBelow(ancestor Name) bool {
	return len(n.db) > len(ancestor.db) && n.db[len(ancestor.db)] == levelSep && strings.HasPrefix(n.db, ancestor.db)
}

// Move is n with from, which is n itself or above it, replaced by to.
func (n Name) Move(from, to Name) Name { return Name{to.db + n.db[len(from.db):]} }

// User is the user whose mailbox n is, "alice" or "bob@example.com", also if it is a deleted one; empty for a shared
// mailbox.
func (n Name) User(ns Namespace) string {
	levels := n.Levels()
	if _, ok := ns.deletedAt(levels); ok {
		levels = levels[1 : len(levels)-1]
	}
	if len(levels) < 2 || levels[0] != userLevel {
		return ""
	}
	if domain := ns.visibleDomain(n.Domain()); domain != "" {
		return levels[1] + "@" + domain
	}
	return levels[1]
}

// IsInbox tells whether n is a user's INBOX.
func (n Name) IsInbox() bool {
	levels := n.Levels()
	return len(levels) == 2 && levels[0] == userLevel
}

// Inbox is the INBOX of the user whose mailbox n is, or whose it was before it was deleted; the zero Name if n is shared.
func (n Name) Inbox(ns Namespace) Name {
	levels := n.Levels()
	if _, ok := ns.deletedAt(levels); ok {
		levels = levels[1 : len(levels)-1]
	}
	if len(levels) < 2 || levels[0] != userLevel {
		return Name{}
	}
	return n.inDomain(userLevel + string(levelSep) + levels[1])
}

// UserInbox is the INBOX of a user, given as "alice" or "bob@example.com".
func (ns Namespace) UserInbox(user string) Name {
	local, domain := ns.splitUser(user)
	inbox := userLevel + string(levelSep) + local
	if domain != "" {
		inbox = domain + string(domainSep) + inbox
	}
	return Name{inbox}
}

// splitUser separates a user from the domain, which is left out if it is the default one.
func (ns Namespace) splitUser(user string) (local, domain string) {
	i := strings.LastIndexByte(user, '@')
	if i < 0 {
		return user, ""
	}
	return user[:i], ns.visibleDomain(user[i+1:])
}

// visibleDomain is the domain, empty if it is the default one.
func (ns Namespace) visibleDomain(domain string) string {
	if domain == ns.DefaultDomain {
		return ""
	}
	return domain
}

// Deleted tells whether n was deleted with delayed expiry, and when, in Unix time.
func (n Name) Deleted(ns Namespace) (unix int64, ok bool) { return ns.deletedAt(n.Levels()) }

// deletedAt reads the time in the last level of a deleted name: hexadecimal seconds. As Cyrus does, it takes the digits
// that the level begins with.
func (ns Namespace) deletedAt(levels []string) (unix int64, ok bool) {
	if len(levels) < 3 || levels[0] != ns.deletedPrefix() {
		return 0, false
	}
	t := leadingHex(levels[len(levels)-1])
	return int64(t), t != 0
}

// ToDeleted is the name that a delayed delete at the given Unix time gives n.
func (n Name) ToDeleted(ns Namespace, unix int64) Name {
	sep := string(levelSep)
	return n.inDomain(ns.deletedPrefix() + sep + n.local() + sep + strings.ToUpper(strconv.FormatInt(unix, 16)))
}
