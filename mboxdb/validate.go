package mboxdb

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// goodChars are the characters that a new name may have, beside "&" where modified UTF-7 begins.
const goodChars = " #$'()*+,-.0123456789:=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_abcdefghijklmnopqrstuvwxyz~"

// Validate tells whether a mailbox may be created with this name, by the rules of Cyrus 3.6. Its error is an ErrName
// that says why not. Names of deleted mailboxes are not examined: what was created may be deleted.
func (ns Namespace) Validate(n Name) error {
	why := ns.fault(n)
	if why == "" {
		return nil
	}
	return fmt.Errorf("%q %s: %w", n.String(), why, ErrName)
}

func (ns Namespace) fault(n Name) string {
	s := n.String()
	if strings.HasPrefix(s, "$") {
		return `begins with "$"`
	}
	if strings.ContainsAny(n.db, "\x00\x1e") || strings.ContainsAny(n.local(), "\x1d^") {
		return "has a byte that cannot be part of a name"
	}
	if _, ok := n.Deleted(ns); ok {
		return ""
	}
	if len(s) > MaxNameBytes {
		return fmt.Sprintf("has %d bytes, the most is %d", len(s), MaxNameBytes)
	}
	hasDomain := false
	if _, rest, found := strings.Cut(s, "!"); found {
		if !ns.VirtDomains {
			return `has a domain ("!"), and virtdomains is off`
		}
		s, hasDomain = rest, true
	}
	if why := shapeFault(s); why != "" {
		return why
	}
	return charFault(s, hasDomain)
}

// shapeFault looks at a name without domain as a whole.
func shapeFault(s string) string {
	switch {
	case s == "":
		return "is empty"
	case s[0] == '.' || s[0] == '~':
		return fmt.Sprintf("begins with %q", s[0])
	case strings.HasSuffix(s, "."):
		return "ends with a separator"
	case strings.Contains(s, ".."):
		return "has an empty level"
	case s == userLevel:
		return "is the top of all users"
	case s == "user.anyone" || s == "user.anonymous":
		return "is that of a reserved user"
	case strings.HasPrefix(s, "user.%"):
		return `is that of a user who begins with "%"`
	}
	return ""
}

// charFault looks at each character.
func charFault(s string, hasDomain bool) string {
	encoded := false // the character before ended a run of modified UTF-7
	for s != "" {
		if s[0] != '&' {
			if strings.IndexByte(goodChars, s[0]) < 0 && !(hasDomain && s[0] == '!') {
				return charName(s)
			}
			s, encoded = s[1:], false
			continue
		}
		run, rest, found := strings.Cut(s[1:], "-")
		if !found {
			return `has "&" that begins no modified UTF-7`
		}
		if run != "" && encoded {
			return "has two runs of modified UTF-7 side by side"
		}
		if run != "" {
			if why := utf7Fault(run); why != "" {
				return why
			}
		}
		s, encoded = rest, run != ""
	}
	return ""
}

// charName says which character a name begins with that it may not have. One beyond ASCII is several bytes here.
func charName(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case r == utf8.RuneError && size == 1:
		return fmt.Sprintf("has the byte %#x, which is no character", s[0])
	case r >= utf8.RuneSelf:
		return fmt.Sprintf("has the character %q, which is %s in modified UTF-7", r, EncodeUTF7(string(r)))
	}
	return fmt.Sprintf("has the character %q", r)
}
