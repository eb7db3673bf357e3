package message

// Address is one element of an address list: an address, or a mark where a group starts or ends. The text is raw, but
// without quotes and comments.
type Address struct {
	// Name and Route are nil if there is none. Mailbox and Host are both nil at the end of a group; at its start Host is
	// nil and Mailbox its name.
	Name, Route, Mailbox, Host []byte
}

// unspecified is the host of an address that names none.
var unspecified = []byte("unspecified-domain")

// addressParser parses an address list. It works in the list's own bytes: what it takes out never lies before what it
// has read. At the end it reads zeros.
type addressParser struct {
	s    []byte
	at   int
	list []Address
	max  int // the list ends when it has become longer
}

// Terminators of a phrase, by where it stands.
const (
	phraseOutside = ",@<:"
	phraseInGroup = ",@<;"
	phraseInAngle = "@>"
)

// parse appends the elements of a list. It changes s, and the elements are slices of it.
func (a *addressParser) parse(list []Address, s []byte) []Address {
	a.s, a.at, a.list = s, 0, list
	inGroup := false
	for tok := byte(' '); tok != 0 && len(a.list) <= a.max; {
		var phrase []byte
		if inGroup {
			phrase, tok = a.phrase(phraseInGroup)
		} else {
			phrase, tok = a.phrase(phraseOutside)
		}
		switch tok {
		case ',', ';', 0:
			if len(phrase) > 0 {
				a.add(nil, nil, phrase, nil)
			}
			if tok == ';' {
				a.endGroup()
				inGroup = false
			}
		case ':':
			a.list = append(a.list, Address{Mailbox: notNil(phrase)})
			inGroup = true
		case '@':
			var host, comment []byte
			host, comment, tok = a.host(true)
			a.add(comment, nil, phrase, host)
			if tok == ';' {
				a.endGroup()
				inGroup = false
			}
		case '<':
			tok = a.angle(phrase)
		}
	}
	if inGroup {
		a.endGroup()
	}
	list, a.s, a.list = a.list, nil, nil
	return list
}

// angle parses what stands in angle brackets. Whatever follows the closing one begins a new element.
func (a *addressParser) angle(name []byte) byte {
	mailbox, tok := a.phrase(phraseInAngle)
	if tok != '@' {
		a.add(name, nil, mailbox, nil)
		return tok
	}
	var route []byte
	if len(mailbox) == 0 {
		a.at--
		a.s[a.at] = '@'
		route, tok = a.route()
		if tok != ':' {
			a.add(name, route, nil, nil)
			return a.skipAngle(tok)
		}
		mailbox, tok = a.phrase(phraseInAngle)
		if tok != '@' {
			a.add(name, route, mailbox, nil)
			return tok
		}
	}
	host, _, tok := a.host(false)
	a.add(name, route, mailbox, host)
	return a.skipAngle(tok)
}

// skipAngle skips to the closing bracket.
func (a *addressParser) skipAngle(tok byte) byte {
	for tok != 0 && tok != '>' {
		tok = a.next()
	}
	return tok
}

func (a *addressParser) add(name, route, mailbox, host []byte) {
	if len(name) == 0 {
		name = nil
	}
	if len(route) == 0 {
		route = nil
	}
	if len(host) == 0 {
		host = unspecified
	}
	a.list = append(a.list, Address{name, route, notNil(mailbox), host})
}

func (a *addressParser) endGroup() { a.list = append(a.list, Address{}) }

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// peek returns the byte ahead, next also moves on.
func (a *addressParser) peek() byte { return at(a.s, a.at) }

func (a *addressParser) next() byte {
	c := at(a.s, a.at)
	a.at++
	return c
}

// space skips white space and comments.
func (a *addressParser) space() {
	for {
		c := a.peek()
		if c != '(' {
			if !isSpace(c) {
				return
			}
			a.at++
			continue
		}
		a.at++
		for depth := 1; depth > 0; {
			switch c := a.peek(); c {
			case 0:
				return
			case '\\':
				a.at++
				if a.peek() != 0 {
					a.at++
				}
				continue
			case '(':
				depth++
			case ')':
				depth--
			}
			a.at++
		}
	}
}

// phrase reads words and quoted strings up to one of the stop bytes, which it takes and returns. A quoted string that
// is not closed ends the list.
func (a *addressParser) phrase(stops string) (text []byte, stop byte) {
	a.space()
	start := min(a.at, len(a.s))
	dst := start
	for {
		c := a.next()
		switch {
		case c == '"':
			var ok bool
			if dst, ok = a.quoted(dst); !ok {
				return nil, 0
			}
		case isSpace(c) || c == '(':
			a.at--
			a.space()
			a.s[dst] = ' '
			dst++
		case c == 0 || indexByte(stops, c) >= 0:
			if dst > start && a.s[dst-1] == ' ' {
				dst--
			}
			return a.s[start:dst:dst], c
		default:
			a.s[dst] = c
			dst++
		}
	}
}

// quoted reads a quoted string behind its opening quote, and writes its text from dst on.
func (a *addressParser) quoted(dst int) (int, bool) {
	for {
		c := a.next()
		if c == 0 {
			return dst, false
		}
		if c == '\\' && a.peek() == '\r' && at(a.s, a.at+1) == '\n' {
			c = a.next() // a backslash before a line break means nothing
		}
		if c == '\r' && a.peek() == '\n' {
			a.at++
			if isBlank(a.peek()) {
				continue
			}
			return dst, false
		}
		switch {
		case c == '\r' || c == '\n':
			c = ' '
		case c != '\t' && (c < ' ' || c == 0x7f):
			continue
		case c == '"':
			return dst, true
		case c == '\\':
			if c = a.next(); c == 0 {
				return dst, false
			}
		}
		a.s[dst] = c
		dst++
	}
}

// host reads a host, and the comment behind it if that is wanted, up to a byte that belongs to neither. It takes and
// returns that byte.
func (a *addressParser) host(wantComment bool) (host, comment []byte, stop byte) {
	a.space()
	start := min(a.at, len(a.s))
	dst := start
	for {
		c := a.next()
		switch {
		case isAlpha(c) || isDigit(c) || c == '-' || c == '[' || c == ']' || c == ':' || c == '@':
			a.s[dst] = c
			dst++
			comment = nil
		case c == '.':
			if dst > start && a.s[dst-1] != '.' {
				a.s[dst] = c
				dst++
			}
			comment = nil
		case c == '(' && wantComment:
			comment = a.comment()
		case c == '(':
			a.at--
			a.space()
		case !isSpace(c):
			if dst > start && a.s[dst-1] == '.' {
				dst--
			}
			return a.s[start:dst:dst], comment, c
		}
	}
}

// comment reads the text of a comment behind its opening parenthesis.
func (a *addressParser) comment() []byte {
	start := min(a.at, len(a.s))
	dst := start
	for depth := 1; ; {
		c := a.peek()
		if c == 0 {
			return a.s[start:dst:dst]
		}
		a.at++
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		case '\\':
			if c = a.peek(); c != 0 {
				a.at++
			}
		}
		if depth == 0 {
			return a.s[start:dst:dst]
		}
		if c != 0 {
			a.s[dst] = c
			dst++
		}
	}
}

// route reads a source route up to a byte that does not belong to it, which it takes and returns.
func (a *addressParser) route() (route []byte, stop byte) {
	a.space()
	start := min(a.at, len(a.s))
	dst := start
	for {
		c := a.next()
		switch {
		case isAlpha(c) || isDigit(c) || c == '-' || c == '[' || c == ']' || c == ',' || c == '@':
			a.s[dst] = c
			dst++
		case c == '.':
			if dst > start && a.s[dst-1] != '.' {
				a.s[dst] = c
				dst++
			}
		case isSpace(c) || c == '(':
			a.at--
			a.space()
		default:
			for dst > start && (a.s[dst-1] == '.' || a.s[dst-1] == ',' || a.s[dst-1] == '@') {
				dst--
			}
			return a.s[start:dst:dst], c
		}
	}
}

// at returns a byte, or zero behind the end.
func at(s []byte, i int) byte {
	if i < len(s) {
		return s[i]
	}
	return 0
}

func indexByte(s string, c byte) int {
	for i := range len(s) {
		if s[i] == c {
			return i
		}
	}
	return -1
}
