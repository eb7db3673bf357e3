package message

import (
	"bytes"

	"golang.org/x/text/encoding/japanese"
)

// jisState is the character set that an escape sequence of ISO-2022-JP has chosen.
type jisState byte

const (
	jisASCII jisState = iota
	jisRoman          // ASCII with a yen sign and an overline
	jisKatakana
	jisDouble    // JIS X 0208, two bytes a character
	jisElsewhere // of another version of ISO-2022: an error
)

// jisEscapes are the escape sequences, without their first byte.
var jisEscapes = []struct {
	text  string
	state jisState
}{
	{"(B", jisASCII}, {"(J", jisRoman}, {"(I", jisKatakana}, {"$B", jisDouble}, {"$@", jisDouble},
	{"$(D", jisElsewhere}, {"$(C", jisElsewhere}, {"$A", jisElsewhere}, {".A", jisElsewhere}, {".F", jisElsewhere},
}

// appendISO2022JP appends text in ISO-2022-JP, decoded, with the errors that ICU sees. Each line begins in ASCII.
func appendISO2022JP(put func(rune), b []byte) {
	state := jisASCII
	for len(b) > 0 {
		c, n := b[0], 1
		switch {
		case c == 0x1b:
			state, n = jisEscape(put, b, state)
		case c == '\r' || c == '\n':
			if state != jisRoman {
				state = jisASCII
			}
			put(rune(c))
		case c == 0x0e || c == 0x0f:
			put(replacement)
		case state == jisDouble:
			n = jisPair(put, b)
		case state == jisKatakana && c > ' ' && c < 0x60:
			put(0xff61 + rune(c) - 0x21)
		case state == jisKatakana || c >= 0x80:
			put(replacement)
		case state == jisRoman && c == '\\':
			put('¥')
		case state == jisRoman && c == '~':
			put('‾')
		default:
			put(rune(c))
		}
		b = b[n:]
	}
}

// jisEscape reads an escape sequence, and returns the state behind it and its length.
func jisEscape(put func(rune), b []byte, state jisState) (jisState, int) {
	for _, e := range jisEscapes {
		switch {
		case bytes.HasPrefix(b[1:], []byte(e.text)) && e.state == jisElsewhere:
			put(replacement)
			return state, 1 + len(e.text)
		case bytes.HasPrefix(b[1:], []byte(e.text)):
			return e.state, 1 + len(e.text)
		case bytes.HasPrefix([]byte(e.text), b[1:]):
			put(replacement) // interrupted by the end
			return state, len(b)
		}
	}
	put(replacement)
	return state, 1
}

// jisPair decodes two bytes and returns how many it took. If they are no character, a second byte that may begin one
// is left.
func jisPair(put func(rune), b []byte) int {
	if len(b) < 2 {
		put(replacement)
		return 1
	}
	graphic := func(c byte) bool { return c > ' ' && c < 0x7f }
	switch second := b[1]; {
	case graphic(b[0]) && graphic(second):
		put(jisCharacter(b[0], second))
	case graphic(second) || second == 0x0e || second == 0x0f || second == 0x1b:
		put(replacement)
		return 1
	default:
		put(replacement)
	}
	return 2
}

// jisCharacter returns a character of JIS X 0208, which EUC-JP has with the highest bits set.
func jisCharacter(row, cell byte) rune {
	text, _ := japanese.EUCJP.NewDecoder().Bytes([]byte{row | 0x80, cell | 0x80})
	if runes := []rune(string(text)); len(runes) == 1 {
		return runes[0]
	}
	return replacement
}
