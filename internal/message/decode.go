package message

// coding is a content transfer encoding, by the numbers of the cache record.
type coding byte

const (
	codingNone    coding = 0
	codingQuoted  coding = 1
	codingBase64  coding = 2
	codingUnknown coding = 255
)

// coding returns how the content is encoded. Messages and their like are never decoded.
func (b *Part) coding() coding {
	if string(b.Type) == "MESSAGE" {
		return codingNone
	}
	switch string(b.Encoding) {
	case "", "7BIT", "8BIT", "BINARY":
		return codingNone
	case "QUOTED-PRINTABLE":
		return codingQuoted
	case "BASE64":
		return codingBase64
	}
	return codingUnknown
}

// decoder undoes a content transfer encoding as leniently as Cyrus.
type decoder struct {
	coding coding
	header bool // the Q encoding of headers: an underscore is a space
	// quoted-printable: the line so far
	line []byte
	// base64: the bits left over, and how many sextets the group still lacks
	bits uint32
	left int
	out  []byte
}

func (d *decoder) reset(c coding) {
	d.coding, d.header, d.line, d.bits, d.left, d.out = c, false, d.line[:0], 0, 0, d.out[:0]
}

// outMax is about how many decoded bytes are handed out at once.
const outMax = 4096

// write decodes bytes. What put gets is valid during its call only.
func (d *decoder) write(b []byte, put func([]byte)) {
	if d.coding == codingBase64 {
		d.base64(b, put)
	} else {
		d.quoted(b, put)
	}
	if len(d.out) > 0 {
		put(d.out)
		d.out = d.out[:0]
	}
}

// flush decodes what is left of a line. The decoder can be used on.
func (d *decoder) flush(put func([]byte)) {
	if d.coding != codingQuoted {
		return
	}
	d.quotedLine(false)
	if len(d.out) > 0 {
		put(d.out)
		d.out = d.out[:0]
	}
}

// sextets has the value of each byte of the base64 alphabet, 64 for the padding and 255 for bytes that are ignored.
var sextets = func() (t [256]byte) {
	for i := range t {
		t[i] = 255
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	t['='] = 64
	return t
}()

// base64 decodes whatever comes: padding ends a group wherever it stands, and the complete bytes of a group that is
// never completed count.
func (d *decoder) base64(b []byte, put func([]byte)) {
	out, bits, left := d.out, d.bits, d.left
	for len(b) > 0 {
		if left == 0 && len(b) >= 4 {
			// The ordinary case: a whole group.
			s0, s1, s2, s3 := sextets[b[0]], sextets[b[1]], sextets[b[2]], sextets[b[3]]
			if s0|s1|s2|s3 < 64 {
				v := uint32(s0)<<18 | uint32(s1)<<12 | uint32(s2)<<6 | uint32(s3)
				out = append(out, byte(v>>16), byte(v>>8), byte(v))
				b = b[4:]
				if len(out) >= outMax {
					put(out)
					out = out[:0]
				}
				continue
			}
		}
		s := sextets[b[0]]
		b = b[1:]
		switch {
		case s == 255:
		case s == 64:
			bits, left = 0, 0
		case left == 0:
			bits, left = uint32(s), 3
		default:
			bits = bits<<6 | uint32(s)
			left--
			out = append(out, byte(bits>>(2*left)))
		}
	}
	d.out, d.bits, d.left = out, bits, left
}

// quotedMax is the length at which a line is decoded before its end, as Cyrus does.
const quotedMax = 998

func (d *decoder) quoted(b []byte, put func([]byte)) {
	for _, c := range b {
		switch c {
		case '\r':
		case '\n':
			d.quotedLine(true)
		default:
			d.line = append(d.line, c)
			if len(d.line) > quotedMax {
				d.quotedLine(false)
			}
		}
		if len(d.out) >= outMax {
			put(d.out)
			d.out = d.out[:0]
		}
	}
}

// quotedLine decodes the line, without the blanks at its end.
func (d *decoder) quotedLine(ended bool) {
	line := d.line
	for len(line) > 0 && isBlank(line[len(line)-1]) {
		line = line[:len(line)-1]
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '_' && d.header:
			c = ' '
		case c == '=' && i+1 == len(line):
			ended = false // a soft line break
			continue
		case c == '=' && i+2 < len(line):
			hi, ok1 := hexDigit(line[i+1])
			lo, ok2 := hexDigit(line[i+2])
			if ok1 && ok2 {
				c = hi<<4 | lo
				i += 2
			}
		}
		d.out = append(d.out, c)
	}
	if ended {
		d.out = append(d.out, '\r', '\n')
	}
	d.line = d.line[:0]
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
