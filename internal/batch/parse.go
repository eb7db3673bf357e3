package batch

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
)

// maxWord bounds, in bytes, a command, an atom or a quoted string; maxLiteral what a literal may hold.
const (
	maxWord    = 1 << 20
	maxLiteral = 1 << 30
)

// parser reads lines as Cyrus's getword and getbastring do: words are ended by a white byte, a parenthesis or a double
// quote, exactly one space stands between them, and a line ends with LF or CR LF.
type parser struct {
	in   *bufio.Reader
	line int
}

// command is one line of the input; an empty line has an empty name.
type command struct {
	name string
	args [][]byte
}

// next reads one line. At the end of the input it returns io.EOF; a line without its end is ErrSyntax, because the rest
// of it may be missing.
func (p *parser) next() (c command, err error) {
	p.line++
	word, end, err := p.word(nil)
	// To Cyrus a command is a C string.
	word, _, _ = bytes.Cut(word, []byte{0})
	c.name = string(word)
	if err == io.EOF && c.name == "" {
		return c, io.EOF
	}
	for err == nil && end == ' ' && len(c.args) < 2 {
		var arg []byte
		arg, end, err = p.argument()
		c.args = append(c.args, arg)
	}
	if err == nil && end == '\r' {
		end, err = p.in.ReadByte()
	}
	if err == nil && end != '\n' || err == io.EOF {
		err = ErrSyntax
	}
	return c, err
}

// word reads up to the byte that ends a word, which is returned too.
func (p *parser) word(w []byte) (word []byte, end byte, err error) {
	for {
		c, err := p.in.ReadByte()
		if err != nil {
			return w, 0, err
		}
		switch c {
		case ' ', '\t', '\n', '\v', '\f', '\r', '(', ')', '"':
			return w, c, nil
		}
		if w = append(w, c); len(w) > maxWord {
			return w, 0, ErrSyntax
		}
	}
}

// argument reads an atom, a quoted string or a literal, and the byte after it.
func (p *parser) argument() (w []byte, end byte, err error) {
	c, err := p.in.ReadByte()
	if err != nil {
		return nil, 0, err
	}
	switch c {
	case '"':
		w, err = p.quoted()
	case '{':
		w, err = p.literal()
	default:
		_ = p.in.UnreadByte()
		if w, end, err = p.word(nil); err == nil && len(w) == 0 {
			err = ErrSyntax
		}
		return w, end, err
	}
	if err == nil {
		end, err = p.in.ReadByte()
	}
	return w, end, err
}

// quoted reads a quoted string after its first quote.
func (p *parser) quoted() (w []byte, err error) {
	for {
		c, err := p.in.ReadByte()
		switch {
		case err != nil:
			return w, err
		case c == '"':
			return w, nil
		case c == '\\':
			if c, err = p.in.ReadByte(); err != nil {
				return w, err
			}
		}
		if c == '\r' || c == '\n' || len(w) == maxWord {
			return w, ErrSyntax
		}
		w = append(w, c)
	}
}

// literal reads n+} CRLF and n bytes, after the first brace.
func (p *parser) literal() ([]byte, error) {
	head, err := p.digits()
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(head, 10, 31)
	if err != nil || n > maxLiteral {
		return nil, ErrSyntax
	}
	for _, want := range []byte("}\r\n") {
		if c, err := p.in.ReadByte(); err != nil || c != want {
			return nil, errors.Join(ErrSyntax, notEOF(err))
		}
	}
	// A length is only believed as far as the bytes arrive.
	w, err := io.ReadAll(io.LimitReader(p.in, int64(n)))
	if err == nil && len(w) != int(n) {
		err = ErrSyntax
	}
	return w, err
}

// digits reads the length of a literal, up to its plus sign.
func (p *parser) digits() (string, error) {
	const most = 20
	var head []byte
	for len(head) < most {
		c, err := p.in.ReadByte()
		if err != nil {
			return "", err
		}
		if c == '+' {
			return string(head), nil
		}
		if c < '0' || c > '9' {
			break
		}
		head = append(head, c)
	}
	return "", ErrSyntax
}

func notEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
