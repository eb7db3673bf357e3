package dlist

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The classes of errors.
var (
	// ErrSyntax means that the text is no dlist.
	ErrSyntax = errors.New("not a dlist")
	// ErrLimit means that the text may be a dlist, but costs more than [Limits] allow.
	ErrLimit = errors.New("dlist beyond the limits")
)

// Error tells where and why a text was refused. It unwraps to [ErrSyntax] or [ErrLimit].
type Error struct {
	// Offset is the place in the text, in bytes.
	Offset int
	// Found and Wanted say what stood there and what was expected.
	Found, Wanted string

	class error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%v: at byte %d: found %s, expected %s", e.class, e.Offset, e.Found, e.Wanted)
}

func (e *Error) Unwrap() error { return e.class }

// Limits bound what reading may cost. A zero field stands for its default.
type Limits struct {
	// Bytes is the longest text, 64 MiB by default.
	Bytes int
	// Depth is how deep lists may nest, 256 by default; Cyrus nests a handful.
	Depth int
	// Nodes is how many items there may be in all, 1,048,576 by default. A node takes about 130 bytes.
	Nodes int
}

// The defaults of [Limits].
const (
	DefaultBytes = 64 << 20
	DefaultDepth = 256
	DefaultNodes = 1 << 20
)

// Parser chooses what is read. The zero value reads what Cyrus stores.
type Parser struct {
	Limits
	// Keyed expects a key and a space in front of the item, as the lines of the replication protocol have it.
	Keyed bool
	// Files allows file literals, which carry messages and occur on the wire only.
	Files bool
}

// Parse reads one item that fills b.
func Parse(b []byte) (*Node, error) { return Parser{}.Parse(b) }

// Parse reads one item that fills b. The nodes do not refer to b.
func (p Parser) Parse(b []byte) (*Node, error) {
	n, rest, err := p.ParsePrefix(b)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		s := scanner{text: string(rest[:1])}
		at := len(b) - len(rest)
		return nil, &Error{Offset: at, Found: s.here(), Wanted: "the end", class: ErrSyntax}
	}
	return n, nil
}

// ParsePrefix reads the item at the start of b and returns it with what follows it.
func (p Parser) ParsePrefix(b []byte) (*Node, []byte, error) {
	limits := p.withDefaults()
	if len(b) > limits.Bytes {
		return nil, nil, limitError(limits.Bytes, fmt.Sprintf("%d bytes", len(b)), limits.Bytes, "bytes")
	}
	s := scanner{text: string(b), limits: limits, files: p.Files}
	n, err := s.item(p.Keyed)
	if err != nil {
		return nil, nil, err
	}
	return n, b[s.pos:], nil
}

func (p Parser) withDefaults() Limits {
	l := p.Limits
	for _, f := range []struct {
		field    *int
		standard int
	}{{&l.Bytes, DefaultBytes}, {&l.Depth, DefaultDepth}, {&l.Nodes, DefaultNodes}} {
		if *f.field <= 0 {
			*f.field = f.standard
		}
	}
	return l
}

func limitError(offset int, found string, limit int, unit string) error {
	return &Error{Offset: offset, Found: found, Wanted: fmt.Sprintf("at most %d %s", limit, unit), class: ErrLimit}
}

// scanner reads one text. All strings of the nodes are parts of it.
type scanner struct {
	text   string
	pos    int
	nodes  int
	limits Limits
	files  bool
}

// here describes what stands at the scanner's place. It shows one byte, since keys and values do not belong in errors.
func (s *scanner) here() string {
	if s.pos >= len(s.text) {
		return "the end"
	}
	return strconv.QuoteToASCII(s.text[s.pos : s.pos+1])
}

func (s *scanner) refuse(wanted string) error {
	return &Error{Offset: s.pos, Found: s.here(), Wanted: wanted, class: ErrSyntax}
}

func (s *scanner) at(c byte) bool { return s.pos < len(s.text) && s.text[s.pos] == c }

// item reads one item with all that is in it. Open lists are kept on a stack of their own, so nesting costs no more than
// the nodes do.
func (s *scanner) item(keyed bool) (*Node, error) {
	var open []*Node
	for {
		n, opened, err := s.start(keyed)
		if err != nil {
			return nil, err
		}
		if len(open) > 0 {
			list := open[len(open)-1]
			list.Items = append(list.Items, n)
		}
		if opened {
			if len(open) >= s.limits.Depth {
				return nil, limitError(s.pos, "a deeper list", s.limits.Depth, "levels")
			}
			open = append(open, n)
			if s.pos >= len(s.text) {
				return nil, s.refuse("an item or )")
			}
			if !s.at(')') {
				keyed = n.kind == KVList
				continue
			}
		}
		done, last, err := s.end(&open, n)
		if err != nil {
			return nil, err
		}
		if done {
			return last, nil
		}
		keyed = open[len(open)-1].kind == KVList
	}
}

// end reads what follows an item: the ends of lists, and the space before the next item. It is done, with the outermost
// item, if no list is open any more.
func (s *scanner) end(open *[]*Node, n *Node) (done bool, last *Node, err error) {
	last = n
	for len(*open) > 0 {
		list := (*open)[len(*open)-1]
		if s.at(' ') {
			s.pos++
			if s.pos >= len(s.text) {
				return false, nil, s.refuse("an item or )")
			}
			if !s.at(')') {
				return false, nil, nil
			}
			list.spaceAtEnd = true
		}
		if !s.at(')') {
			return false, nil, s.refuse("a space or )")
		}
		s.pos++
		last = list
		*open = (*open)[:len(*open)-1]
	}
	return true, last, nil
}

// start reads a key, if one is expected, and a whole string or the opening of a list.
func (s *scanner) start(keyed bool) (n *Node, opened bool, err error) {
	if s.nodes++; s.nodes > s.limits.Nodes {
		return nil, false, limitError(s.pos, "one more", s.limits.Nodes, "items")
	}
	n = &Node{}
	if keyed {
		if err := s.key(n); err != nil {
			return nil, false, err
		}
	}
	switch {
	case s.pos >= len(s.text):
		return nil, false, s.refuse("an item")
	case s.at('('):
		n.kind = List
		s.pos++
		return n, true, nil
	case s.at('%'):
		s.pos++
		if s.at('(') {
			n.kind = KVList
			s.pos++
			return n, true, nil
		}
		if s.at('{') && s.files {
			return n, false, s.fileLiteral(n)
		}
		return nil, false, s.refuse("( after %")
	}
	n.kind = String
	value, raw, form, err := s.scalar()
	if err != nil {
		return nil, false, err
	}
	n.value = value
	if form == bareNil {
		n.kind, n.value = Nil, ""
	} else if !canonical(value, raw, form) {
		n.asRead, n.raw = true, raw
	}
	return n, false, nil
}

func (s *scanner) key(n *Node) error {
	from := s.pos
	key, raw, form, err := s.scalar()
	if err != nil {
		return err
	}
	if form == bareNil {
		s.pos = from
		return s.refuse("a key other than NIL")
	}
	if !s.at(' ') {
		return s.refuse("a space after the key")
	}
	s.pos++
	n.key = key
	if !canonical(key, raw, form) {
		n.keyAsRead, n.rawKey = true, raw
	}
	return nil
}

// form is how a string is spelled.
type form uint8

const (
	atom form = iota
	quoted
	literal
	bareNil
)

// canonical tells whether the printer would choose that very spelling.
func canonical(value, raw string, f form) bool {
	switch {
	case spelling(value) != f:
		return false
	case f == literal: // {N+} without leading zeros
		return strings.HasPrefix(raw, "{"+strconv.Itoa(len(value))+"+}")
	case f == quoted: // without a backslash
		return len(raw) == len(value)+2
	}
	return true
}

// scalar reads an atom, a quoted string or a literal and returns also the text that it was read from.
func (s *scanner) scalar() (value, raw string, f form, err error) {
	from := s.pos
	switch {
	case s.at('"'):
		value, err = s.quotedString()
		return value, s.text[from:s.pos], quoted, err
	case s.at('{'):
		value, err = s.literal()
		return value, s.text[from:s.pos], literal, err
	}
	// An atom is whatever stands before the next space, less the parentheses that close lists.
	end := strings.IndexByte(s.text[from:], ' ')
	if end < 0 {
		end = len(s.text) - from
	}
	value = strings.TrimRight(s.text[from:from+end], ")")
	s.pos = from + len(value)
	if value == "NIL" {
		return value, value, bareNil, nil
	}
	return value, value, atom, nil
}

func (s *scanner) quotedString() (string, error) {
	rest := s.text[s.pos+1:]
	end := strings.IndexAny(rest, `"\`)
	if end >= 0 && rest[end] == '"' {
		s.pos += end + 2
		return rest[:end], nil
	}
	var b strings.Builder
	for i := 0; i < len(rest); i++ {
		switch rest[i] {
		case '"':
			s.pos += i + 2
			return b.String(), nil
		case '\\':
			if i++; i == len(rest) {
				continue
			}
		}
		b.WriteByte(rest[i])
	}
	s.pos = len(s.text)
	return "", s.refuse("a closing quote")
}

// literal reads "{N}" or "{N+}", a line end, and N bytes.
func (s *scanner) literal() (string, error) {
	s.pos++
	size := 0
	for ; s.pos < len(s.text) && s.text[s.pos] >= '0' && s.text[s.pos] <= '9'; s.pos++ {
		if size = size*10 + int(s.text[s.pos]-'0'); size > len(s.text) {
			return "", s.refuse("a size that the text can hold")
		}
	}
	if s.at('+') {
		s.pos++
	}
	for _, c := range []byte("}\r\n") {
		if !s.at(c) {
			return "", s.refuse(strconv.QuoteToASCII(string(rune(c))) + " after the size of a literal")
		}
		s.pos++
	}
	if size > len(s.text)-s.pos {
		s.pos = len(s.text)
		return "", s.refuse("the rest of a literal")
	}
	s.pos += size
	return s.text[s.pos-size : s.pos], nil
}

// fileLiteral reads "{partition guid size}", a line end, and the content.
func (s *scanner) fileLiteral(n *Node) error {
	from := s.pos
	s.pos++
	n.kind, n.file = File, &fileHead{}
	for _, field := range []*string{&n.file.partition, &n.file.guid} {
		value, _, form, err := s.scalar()
		if err != nil {
			return err
		}
		if form == bareNil || !s.at(' ') {
			return s.refuse("partition, id and size of a file, each a space apart")
		}
		s.pos++
		*field = value
	}
	if _, ok := n.GUID(); !ok {
		return s.refuse("an id of 40 hexadecimal digits before this")
	}
	size, digits := 0, s.pos
	for ; s.pos < len(s.text) && s.text[s.pos] >= '0' && s.text[s.pos] <= '9'; s.pos++ {
		if size = size*10 + int(s.text[s.pos]-'0'); size > len(s.text) {
			return s.refuse("a size that the text can hold")
		}
	}
	if s.pos == digits || !s.at('}') {
		return s.refuse("the size of a file and }")
	}
	s.pos++
	if s.at('\r') {
		s.pos++
	}
	if !s.at('\n') {
		return s.refuse("a line end after the head of a file")
	}
	s.pos++
	n.raw = s.text[from:s.pos]
	if size > len(s.text)-s.pos {
		s.pos = len(s.text)
		return s.refuse("the rest of a file")
	}
	s.pos += size
	n.value = s.text[s.pos-size : s.pos]
	n.asRead = n.raw != fileHeadText(n)
	return nil
}
