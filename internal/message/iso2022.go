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

// appendISO2022JP appends text in ISO-2022-JP, decoded. Each line begins in ASCII.
func appendISO2022JP(put func(rune), b []byte) {
	state := jisASCII
	for len(b) > 0 {
		c := b[0]
		switch {
		case c == 0x1b:
			n := 0
			for _, e := range jisEscapes {
				if bytes.HasPrefix(b[1:], []byte(e.text)) {
					n = len(e.text)
					if e.state == jisElsewhere {
						put(replacement)
					} else {
						state = e.state
					}
				}
			}
			if n == 0 {
				put(replacement)
			}
			b = b[n+1:]
			continue
		case c == '\r' || c == '\n':
			state = jisASCII
			put(rune(c))
		case c >= 0x80 || c == 0x0e || c == 0x0f:
			put(replacement)
		case state == jisDouble && c > ' ':
			if len(b) < 2 || b[1] <= ' ' || b[1] >= 0x7f {
				put(replacement)
				break
			}
			put(jisCharacter(c, b[1]))
			b = b[1:]
		case state == jisKatakana && c > ' ' && c < 0x60:
			put(0xff61 + rune(c) - 0x21)
		case state == jisRoman && c == '\\':
			put('¥')
		case state == jisRoman && c == '~':
			put('‾')
		default:
			put(rune(c))
		}
		b = b[1:]
	}
}

// jisCharacter returns a character of JIS X 0208, which EUC-JP has with the highest bits set.
func jisCharacter(row, cell byte) rune {
	text, _ := japanese.EUCJP.NewDecoder().Bytes([]byte{row | 0x80, cell | 0x80})
	if runes := []rune(string(text)); len(runes) == 1 {
		return runes[0]
	}
	return replacement
}
