package main

import (
	"bufio"
	"errors"
	"io"
)

// errNUL means that a message cannot be kept: readers of mail take a NUL for its end.
var errNUL = errors.New("there is a NUL in the message, which no mail may have")

// crlfReader reads a message with the line ends of the spool, CR LF, whatever it came with. Bytes that are no line ends stay.
type crlfReader struct {
	in   *bufio.Reader
	last byte
	rest byte // an LF that has to follow
}

func newCRLFReader(in io.Reader) *crlfReader { return &crlfReader{in: bufio.NewReader(in)} }

// Read implements io.Reader.
func (r *crlfReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if r.rest != 0 {
			p[n], r.last, r.rest = r.rest, r.rest, 0
			n++
			continue
		}
		if n > 0 && r.in.Buffered() == 0 {
			return n, nil
		}
		c, err := r.in.ReadByte()
		if err != nil {
			return n, err
		}
		switch {
		case c == 0:
			return n, errNUL
		case c == '\n' && r.last != '\r':
			c, r.rest = '\r', '\n'
		}
		p[n], r.last = c, c
		n++
	}
	return n, nil
}
