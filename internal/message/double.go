package message

import (
	_ "embed"
	"strings"
	"sync"
	stdutf8 "unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// doubleDiffs has a line for each charset of one and two bytes: its name in ICU, the ranges of first bytes (@81-fe),
// and where ICU 72 differs from golang.org/x/text, all in hexadecimal: "a1" or "a140", then a colon and the character, a
// "!" and the character that stands for an error of two bytes, or a "?" where the first byte alone is wrong; "+n" if
// the next second bytes go on like this, with the next characters.
//
//go:embed double.txt
var doubleDiffs string

// double decodes a charset of one and two bytes, of which golang.org/x/text knows most characters.
type double struct {
	enc    encoding.Encoding
	diffs  string
	dec    *encoding.Decoder
	once   sync.Once
	single [256]rune
	// pairs has the character of each pair whose first byte is 0x80 or more, wrongFirst where that cannot begin one.
	pairs [128 * 256]rune
}

const wrongFirst = -1

// doubles are the charsets of doubleDiffs.
func doubles() map[string]*double {
	m := map[string]*double{}
	for line := range strings.Lines(doubleDiffs) {
		name, diffs, _ := strings.Cut(strings.TrimSpace(line), " ")
		m[name] = &double{enc: multibyte[name], diffs: diffs}
	}
	return m
}

// load fills the tables.
func (d *double) load() {
	d.dec = d.enc.NewDecoder()
	for i := range d.single {
		d.single[i] = d.ask(byte(i))
	}
	for i := range d.pairs {
		d.pairs[i] = wrongFirst
	}
	for _, diff := range strings.Fields(d.diffs) {
		if leads, ok := strings.CutPrefix(diff, "@"); ok {
			from, to, _ := strings.Cut(leads, "-")
			for a := hexNumber(from); a <= hexNumber(to); a++ {
				for b := range 256 {
					d.pairs[(a&0x7f)<<8|b] = d.ask(byte(a), byte(b))
				}
			}
			continue
		}
		d.differ(diff)
	}
}

// ask returns the one character that golang.org/x/text has for some bytes, or wrongFirst. It is for load alone.
func (d *double) ask(b ...byte) rune {
	return only(d.dec, b)
}

// only decodes bytes to one character, or to wrongFirst.
func only(dec *encoding.Decoder, b []byte) rune {
	var text [32]byte
	dec.Reset()
	n, _, err := dec.Transform(text[:], b, true)
	if r, size := stdutf8.DecodeRune(text[:n]); err == nil && n > 0 && size == n {
		return r
	}
	return wrongFirst
}

// differ applies one difference.
func (d *double) differ(diff string) {
	diff, count, _ := strings.Cut(diff, "+")
	n := max(hexNumber(count), 1)
	i := strings.IndexAny(diff, ":!?")
	code, char := hexNumber(diff[:i]), rune(hexNumber(diff[i+1:]))
	if i == 2 {
		d.single[code] = char
		return
	}
	for k := range n {
		c := char
		switch diff[i] {
		case ':':
			c += rune(k)
		case '?':
			c = wrongFirst
		}
		d.pairs[code&0x7fff+k] = c
	}
}

// decode writes text.
func (d *double) decode(put func(rune), b []byte) {
	d.once.Do(d.load)
	for len(b) > 0 {
		c, n := d.long(b)
		if n == 0 {
			c, n = d.single[b[0]], 1
			if len(b) > 1 && b[0] >= 0x80 {
				if pair := d.pairs[int(b[0]&0x7f)<<8|int(b[1])]; pair != wrongFirst {
					c, n = pair, 2
				}
			}
		}
		put(c)
		b = b[n:]
	}
}

// long decodes what may be a character of three bytes in EUC-JP or of four in GB 18030. They are those that
// golang.org/x/text knows. It returns a length of 0 if a shorter one begins here.
func (d *double) long(b []byte) (rune, int) {
	if len(b) < 3 || b[0] < 0x80 {
		return 0, 0
	}
	n := 0
	switch {
	case d.enc == japanese.EUCJP && b[0] == 0x8f:
		n = 3
		if b[1] < 0xa1 || b[1] == 0xff {
			return 0, 0
		}
		if b[2] < 0xa1 || b[2] == 0xff {
			return d.single[b[0]], 1
		}
	case d.enc == simplifiedchinese.GB18030 && b[0] > 0x80 && b[0] < 0xff && isDigit(b[1]):
		n = 4
		switch {
		case b[2] < 0x81 || b[2] == 0xff, len(b) > 3 && !isDigit(b[3]):
			return replacement, 1
		case len(b) == 3:
			return replacement, 3
		}
	default:
		return 0, 0
	}
	if c := only(d.enc.NewDecoder(), b[:n]); c != wrongFirst {
		return c, n
	}
	return replacement, n
}
