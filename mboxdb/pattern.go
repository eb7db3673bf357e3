package mboxdb

import "strings"

// pattern is a pattern of IMAP's LIST: "*" stands for anything, "%" for anything without a separator.
type pattern struct {
	text string
	sep  byte
	// levels is set for a pattern such as "a.*%", which by tradition shows every level of the names it finds.
	levels bool
}

func newPattern(text string, sep byte) pattern {
	literal := strings.IndexAny(text, "*%")
	return pattern{text: text, sep: sep, levels: literal >= 0 && text[literal:] == "*%"}
}

// literal is what every match begins with.
func (p pattern) literal() string {
	if i := strings.IndexAny(p.text, "*%"); i >= 0 {
		return p.text[:i]
	}
	return p.text
}

// match returns the length of the longest leading part of name that the pattern matches and that ends where a level
// does; 0 if there is none. A match that is shorter than the name is one of a level above.
func (p pattern) match(name string) int {
	// here[i] tells whether the pattern up to the present character matches name[:i].
	here := make([]bool, len(name)+1)
	here[0] = true
	for k := range len(p.text) {
		switch c := p.text[k]; c {
		case '*', '%':
			for i := 1; i <= len(name); i++ {
				if here[i-1] && (c == '*' || name[i-1] != p.sep) {
					here[i] = true
				}
			}
		default:
			for i := len(name); i > 0; i-- {
				here[i] = here[i-1] && name[i-1] == c
			}
			here[0] = false
		}
	}
	for i := len(name); i > 0; i-- {
		if here[i] && (i == len(name) || name[i] == p.sep) {
			return i
		}
	}
	return 0
}
