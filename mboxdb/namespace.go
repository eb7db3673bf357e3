package mboxdb

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Namespace says how clients see names: the options of imapd.conf that decide it, and who looks. The zero Namespace is
// that of a server with "." as separator, INBOX.x for one's own folders, no domains, and nobody logged in.
type Namespace struct {
	// UnixSep makes "/" the separator (unixhierarchysep); dots are then ordinary characters.
	UnixSep bool
	// Alt shows one's own folders beside INBOX instead of below it (altnamespace). It is ignored for an admin.
	Alt bool
	// UserPrefix, SharedPrefix and AltPrefix are the top levels of the alternate namespace (userprefix, sharedprefix,
	// altprefix), by default "Other Users", "Shared Folders" and "Alt Folders".
	UserPrefix, SharedPrefix, AltPrefix string
	// DeletedPrefix is the first level of deleted mailboxes (deletedprefix), by default "DELETED".
	DeletedPrefix string
	// VirtDomains allows domains (virtdomains). DefaultDomain is the one whose mailboxes have none in their names.
	VirtDomains   bool
	DefaultDomain string
	// CrossDomains shows users the mailboxes of other domains (crossdomains), and CrossDomainsOther leaves out the domain
	// in names of one's own (crossdomains_onlyother).
	CrossDomains, CrossDomainsOther bool
	// Admin is set for an administrator, who sees all names as they are.
	Admin bool
	// User is who looks: "alice" or "bob@example.com".
	User string
}

// ErrName means that a name cannot be that of a mailbox.
var ErrName = errors.New("not a name of a mailbox")

func (ns Namespace) deletedPrefix() string { return orElse(ns.DeletedPrefix, "DELETED") }
func (ns Namespace) userPrefix() string    { return orElse(ns.UserPrefix, "Other Users") }
func (ns Namespace) sharedPrefix() string  { return orElse(ns.SharedPrefix, "Shared Folders") }
func (ns Namespace) altPrefix() string     { return orElse(ns.AltPrefix, "Alt Folders") }

func orElse(s, standard string) string {
	if s == "" {
		return standard
	}
	return s
}

// Separator is the character between levels.
func (ns Namespace) Separator() byte {
	if ns.UnixSep {
		return '/'
	}
	return '.'
}

func (ns Namespace) isAlt() bool   { return ns.Alt && !ns.Admin }
func (ns Namespace) crosses() bool { return ns.CrossDomains && !ns.Admin }

// parts is a name taken apart.
type parts struct {
	domain  string // empty: none, or the default one
	deleted uint64 // the time, 0 if it is no deleted mailbox
	user    string
	hasUser bool
	levels  []string // below the user, or all of a shared one
}

// name puts the parts together.
func (p parts) name(ns Namespace) Name {
	var levels []string
	if p.deleted != 0 {
		levels = append(levels, ns.deletedPrefix())
	}
	if p.hasUser {
		levels = append(levels, userLevel, p.user)
	}
	levels = append(levels, p.levels...)
	if p.deleted != 0 {
		levels = append(levels, hexTime(p.deleted))
	}
	db := strings.Join(levels, string(levelSep))
	if p.domain != "" {
		db = p.domain + string(domainSep) + db
	}
	return Name{db}
}

// hexTime is how Cyrus spells the time of a deletion: as a 32-bit number.
func hexTime(t uint64) string { return strings.ToUpper(strconv.FormatUint(uint64(uint32(t)), 16)) }

// take takes a name apart.
func (ns Namespace) take(n Name) parts {
	p := parts{domain: ns.visibleDomain(n.Domain()), levels: n.Levels()}
	if t, ok := ns.deletedAt(p.levels); ok {
		p.deleted = uint64(t)
		p.levels = p.levels[1 : len(p.levels)-1]
	}
	if len(p.levels) > 1 && p.levels[0] == userLevel {
		p.user, p.hasUser, p.levels = p.levels[1], true, p.levels[2:]
	}
	return p
}

// Parse reads a name as a client writes it. Empty levels are left out, as Cyrus does. It does not check whether the name
// may be created: see Validate.
func (ns Namespace) Parse(external string) (Name, error) {
	domain, rest, err := ns.parseDomain(external)
	if err != nil {
		return Name{}, err
	}
	levels, err := ns.split(rest)
	if err != nil {
		return Name{}, err
	}
	p := parts{domain: domain, levels: levels}
	if ns.isAlt() {
		ns.parseAlt(&p)
	} else {
		ns.parseStandard(&p)
	}
	if !p.hasUser && len(p.levels) == 0 {
		return Name{}, fmt.Errorf("%q: %w", external, ErrName)
	}
	return p.name(ns), nil
}

// parseDomain finds the domain in which a name stands: for an admin what follows the last "@", else the user's.
func (ns Namespace) parseDomain(external string) (domain, rest string, err error) {
	if external == "" {
		return "", "", fmt.Errorf("%q is empty: %w", external, ErrName)
	}
	if i := strings.IndexAny(external, "\x00\x1d\x1e\x1f"); i >= 0 {
		return "", "", fmt.Errorf("%q has the byte %#02x, which separates names in the list: %w", external, external[i], ErrName)
	}
	_, own := ns.splitUser(ns.User)
	switch {
	case ns.VirtDomains && ns.Admin:
		if i := strings.LastIndexByte(external, '@'); i >= 0 {
			return ns.visibleDomain(external[i+1:]), external[:i], nil
		}
		return own, external, nil
	case ns.crosses():
		return "", external, nil
	}
	return own, external, nil
}

// split separates the levels. In a namespace with "." a client writes "^" for a dot within a level.
func (ns Namespace) split(s string) ([]string, error) {
	levels := strings.FieldsFunc(s, func(r rune) bool { return r == rune(ns.Separator()) })
	for i, l := range levels {
		reserved := "/"
		if ns.UnixSep {
			reserved = "^"
		}
		if strings.Contains(l, reserved) {
			return nil, fmt.Errorf("%q has the character %q, which no name may have where levels are separated by %q: %w",
				s, reserved, string(ns.Separator()), ErrName)
		}
		if !ns.UnixSep {
			levels[i] = strings.ReplaceAll(l, "^", ".")
		}
	}
	if len(levels) == 0 {
		return nil, fmt.Errorf("%q is nothing but separators: %w", s, ErrName)
	}
	return levels, nil
}

// own makes p a mailbox of the user who looks. The domain is known already, unless the namespace crosses domains.
func (ns Namespace) own(p *parts) {
	user, domain := ns.splitUser(ns.User)
	p.user, p.hasUser = user, ns.User != ""
	if ns.crosses() {
		p.domain = domain
	}
}

// crossDomain takes the domain off a user or shared folder of another domain, in a namespace that crosses domains.
func (ns Namespace) crossDomain(p *parts, level *string) {
	if !ns.crosses() {
		return
	}
	if i := strings.LastIndexByte(*level, '@'); i >= 0 {
		p.domain = ns.visibleDomain((*level)[i+1:])
		*level = (*level)[:i]
	} else if ns.CrossDomainsOther {
		_, p.domain = ns.splitUser(ns.User)
	}
}

// takeUser makes the first level the user.
func (ns Namespace) takeUser(p *parts) {
	if len(p.levels) == 0 {
		return
	}
	p.user, p.hasUser, p.levels = p.levels[0], true, p.levels[1:]
	ns.crossDomain(p, &p.user)
}

func (ns Namespace) parseAlt(p *parts) {
	switch top := p.levels[0]; {
	case top == ns.altPrefix():
		p.levels = p.levels[1:]
		ns.own(p)
	case top == ns.userPrefix():
		p.levels = p.levels[1:]
		ns.takeUser(p)
	case top == ns.sharedPrefix():
		p.levels = p.levels[1:]
		if len(p.levels) > 0 {
			ns.crossDomain(p, &p.levels[0])
		}
	default:
		ns.own(p)
		if !strings.EqualFold(top, "INBOX") {
			return
		}
		if len(p.levels) == 1 {
			p.levels = nil
		} else {
			p.levels[0] = "INBOX"
		}
	}
}

func (ns Namespace) parseStandard(p *parts) {
	if strings.EqualFold(p.levels[0], "INBOX") {
		p.levels = p.levels[1:]
		ns.own(p)
		return
	}
	if ns.Admin && p.levels[0] == ns.deletedPrefix() {
		p.levels = p.levels[1:]
		if n := len(p.levels); n > 0 {
			p.deleted = leadingHex(p.levels[n-1])
			p.levels = p.levels[:n-1]
		}
	}
	if len(p.levels) == 0 {
		return
	}
	if p.levels[0] == userLevel {
		p.levels = p.levels[1:]
		ns.takeUser(p)
		return
	}
	if ns.VirtDomains && !ns.Admin || ns.crosses() {
		_, p.domain = ns.splitUser(ns.User)
	}
}

// leadingHex is the number that s begins with.
func leadingHex(s string) uint64 {
	n := strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", r) })
	if n >= 0 {
		s = s[:n]
	}
	v, _ := strconv.ParseUint(s, 16, 64)
	return v
}
