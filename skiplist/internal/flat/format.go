package flat

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// The bytes with a meaning of their own. A line is the encoded key, a TAB, the encoded value and an LF.
const (
	// separator ends the key of a line: its first TAB.
	separator = '\t'
	// terminator ends a line.
	terminator = '\n'
	// escape introduces a byte that may not stand in a line as it is. Twice, it stands for itself.
	escape = 0xff
	// escapeBit is added to the byte after escape, so that NUL, TAB, LF and CR never occur.
	escapeBit = 0x80
)

// maxSize is the largest file that Cyrus can use: its binary search answers with an offset of type int.
const maxSize = 1<<31 - 1

// magicBytes begin every other database of Cyrus. No flat file does: it would have a raw CR as its fourth byte.
var magicBytes = []byte{0xa1, 0x02, 0x8b, 0x0d}

// escaped tells whether Cyrus writes c as two bytes.
func escaped(c byte) bool {
	return c == 0 || c == '\t' || c == '\n' || c == '\r' || c == escape
}

// appendEncoded appends the encoded form of s.
func appendEncoded(dst, s []byte) []byte {
	for {
		i := 0
		for i < len(s) && !escaped(s[i]) {
			i++
		}
		dst = append(dst, s[:i]...)
		if i == len(s) {
			return dst
		}
		dst = append(dst, escape, s[i]|escapeBit)
		s = s[i+1:]
	}
}

// decode returns what s stands for: s itself if nothing in it is escaped, else a fresh slice. As in Cyrus, a lone
// escape at the end is dropped, and any byte may follow one.
func decode(s []byte) []byte {
	i := bytes.IndexByte(s, escape)
	if i < 0 {
		return s
	}
	out := make([]byte, 0, len(s)-1)
	for {
		out = append(out, s[:i]...)
		if i+1 >= len(s) {
			return out
		}
		c := s[i+1]
		if c != escape {
			c &^= escapeBit
		}
		out = append(out, c)
		s = s[i+2:]
		if i = bytes.IndexByte(s, escape); i < 0 {
			return append(out, s...)
		}
	}
}

// canonical tells whether s is what Cyrus writes for decode(s). A lookup of Cyrus finds no other spelling of a key.
func canonical(s []byte) bool {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == escape:
			i++
			if i == len(s) || s[i] != escape && !(s[i]&escapeBit != 0 && escaped(s[i]&^escapeBit)) {
				return false
			}
		case escaped(s[i]):
			return false
		}
	}
	return true
}

// compare orders decoded keys as Cyrus orders the lines that hold them: by mailbox order of the encoded bytes, the TAB
// after the key included. The TAB ranks before every byte that an encoded key can hold, so that a key that is a prefix
// of another sorts first.
func compare(a, b []byte) int {
	if i := mismatch(a, b); i < len(a) && i < len(b) {
		return int(weight[a[i]]) - int(weight[b[i]])
	}
	return len(a) - len(b)
}

// mismatch is the length of the common prefix.
func mismatch(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// weight is the place of a decoded byte in the order: the ranks of the one or two bytes that encode it. '.' comes
// first, then all others by value; the escaped ones follow last, by their second byte.
var weight = func() (w [256]uint16) {
	for c := range w {
		switch b := byte(c); {
		case escaped(b):
			w[c] = escape<<8 | uint16(b|escapeBit)
		case b == '.':
			w[c] = 2 << 8
		case b <= 8:
			w[c] = uint16(b+2) << 8
		default:
			w[c] = uint16(b) << 8
		}
	}
	return w
}()
