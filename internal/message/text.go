package message

import (
	"unicode/utf16"
	stdutf8 "unicode/utf8"
)

const replacement = '\uFFFD'

// textDecoder decodes bytes of changing charsets to UTF-8, which it appends to out.
type textDecoder struct {
	out []byte
	cs  *charset
	// kindUTF8: the character so far, and how many bytes it lacks
	char rune
	left int
	// other kinds: what has not been decoded
	piece []byte
}

// use changes the charset. What it has begun with another one is over.
func (t *textDecoder) use(cs *charset) {
	t.flush()
	t.cs, t.char, t.left = cs, 0, 0
}

// replace writes U+FFFD for what cannot be decoded.
func (t *textDecoder) replace() {
	t.flush()
	t.put(replacement)
	t.char, t.left = 0, 0
}

func (t *textDecoder) put(r rune) { t.out = stdutf8.AppendRune(t.out, r) }

func (t *textDecoder) write(b []byte) {
	switch t.cs.kind {
	case kindASCII:
		for _, c := range b {
			switch {
			case c >= 0x80:
				t.put(replacement)
			case c != 0: // Cyrus's own table has no character for it
				t.out = append(t.out, c)
			}
		}
	case kindUTF8:
		for _, c := range b {
			t.utf8(c)
		}
	case kindTable:
		for _, c := range b {
			t.put(t.cs.table[c])
		}
	default:
		t.piece = append(t.piece, b...)
	}
}

// flush ends a piece. Only a character of UTF-8 goes on in the next.
func (t *textDecoder) flush() {
	if len(t.piece) == 0 {
		return
	}
	switch t.cs.kind {
	case kindMulti:
		text, err := t.cs.enc.NewDecoder().Bytes(t.piece)
		if err != nil {
			t.put(replacement)
		} else {
			t.out = append(t.out, text...)
		}
	case kindDouble:
		t.cs.pairs.decode(t.put, t.piece)
	case kindUTF7:
		t.out = appendUTF7(t.out, t.piece)
	case kindISO2022JP:
		appendISO2022JP(t.put, t.piece)
	case kindOpaque:
		for _, c := range t.piece {
			if c >= 0x80 || c == 0x1b {
				t.put(replacement)
			} else {
				t.out = append(t.out, c)
			}
		}
	}
	t.piece = t.piece[:0]
}

// utf8 decodes the next byte of UTF-8. An interrupted character and a stray byte become U+FFFD each; one that is
// written longer than needed is let pass, as Cyrus does.
func (t *textDecoder) utf8(c byte) {
	switch {
	case c < 0x80:
		t.interrupted()
		t.out = append(t.out, c)
		return
	case c < 0xc0:
		if t.left == 0 {
			t.put(replacement)
			return
		}
		t.char = t.char<<6 | rune(c&0x3f)
		if t.left--; t.left == 0 {
			if utf16.IsSurrogate(t.char) || t.char > stdutf8.MaxRune {
				t.char = replacement
			}
			t.put(t.char)
		}
		return
	case c >= 0xf8:
		t.put(replacement)
		t.char, t.left = 0, 0
		return
	}
	t.interrupted()
	switch {
	case c == 0xc0 || c == 0xc1 || c >= 0xf5:
		t.put(replacement)
	case c < 0xe0:
		t.char, t.left = rune(c&0x1f), 1
	case c < 0xf0:
		t.char, t.left = rune(c&0x0f), 2
	default:
		t.char, t.left = rune(c&0x07), 3
	}
}

func (t *textDecoder) interrupted() {
	if t.left > 0 {
		t.put(replacement)
	}
	t.char, t.left = 0, 0
}
