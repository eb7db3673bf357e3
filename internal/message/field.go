package message

// Structured fields. Their text runs to the end of the header block, as where a field ends is part of its grammar: a
// line feed that no blank follows.

// skipSpace skips white space and comments, and returns the place behind them or -1 at the end of the field.
func skipSpace(s []byte, i int) int {
	for i < len(s) {
		switch c := s[i]; {
		case c == '\n':
			if !isBlank(at(s, i+1)) {
				return -1
			}
			i++
		case c == '(':
			if i = skipComment(s, i+1); i < 0 {
				return -1
			}
		case isSpace(c):
			i++
		default:
			return i
		}
	}
	return -1
}

// skipComment skips a comment behind its opening parenthesis.
func skipComment(s []byte, i int) int {
	for depth := 1; depth > 0; i++ {
		switch at(s, i) {
		case 0:
			return -1
		case '\n':
			i++
			if !isBlank(at(s, i)) {
				return -1
			}
		case '\\':
			i++
			if i >= len(s) {
				return -1
			}
		case '(':
			depth++
		case ')':
			depth--
		}
	}
	return i
}

// token returns where a token that begins at i ends, before white space or one of the stop bytes, and whether all its
// bytes may be in one. It may be empty.
func token(s []byte, i int, stops string) (int, bool) {
	for ; i < len(s) && !isSpace(s[i]) && indexByte(stops, s[i]) < 0; i++ {
		if c := s[i]; c < ' ' || c >= 0x80 || special(c) {
			return i, false
		}
	}
	return i, true
}

// special tells whether a byte is one of the tspecials of MIME.
func special(c byte) bool {
	return indexByte("()<>@,;:\\\"/[]?=", c) >= 0
}

// parseEncoding parses Content-Transfer-Encoding: one token and nothing more.
func parseEncoding(s []byte) []byte {
	i := skipSpace(s, 0)
	if i < 0 {
		return nil
	}
	end, ok := token(s, i, "(")
	if !ok || skipSpace(s, end) >= 0 {
		return nil
	}
	switch name := s[i:end]; string(name) {
	case "7bit", "7BIT":
		return sevenBit
	case "quoted-printable":
		return quotedPrintable
	case "base64":
		return base64Name
	default:
		return upperCopy(name)
	}
}

var (
	sevenBit        = []byte("7BIT")
	quotedPrintable = []byte("QUOTED-PRINTABLE")
	base64Name      = []byte("BASE64")
)

// parseLanguage appends the tags of Content-Language, up to the first error.
func parseLanguage(tags [][]byte, s []byte) [][]byte {
	for i := 0; ; {
		if i = skipSpace(s, i); i < 0 {
			return tags
		}
		start := i
		for ; i < len(s) && !isSpace(s[i]) && s[i] != ',' && s[i] != '('; i++ {
			if s[i] != '-' && !isAlpha(s[i]) {
				return tags
			}
		}
		end := i
		if i = skipSpace(s, i); i >= 0 && s[i] != ',' {
			return tags
		}
		tags = append(tags, upperCopy(s[start:end]))
		if i < 0 {
			return tags
		}
		i++
	}
}

// disposition parses Content-Disposition.
func (p *Parser) disposition(b *Part, s []byte) {
	if b.Disposition != nil {
		b.Disposition, b.DispositionParams = nil, b.DispositionParams[:0]
	}
	i := skipSpace(s, 0)
	if i < 0 {
		return
	}
	end, ok := token(s, i, ";(")
	if !ok {
		return
	}
	j := skipSpace(s, end)
	if j >= 0 && s[j] != ';' {
		return
	}
	b.Disposition = upperCopy(s[i:end])
	if j >= 0 {
		b.DispositionParams = p.params(b.DispositionParams[:0], s, j+1)
	}
}

// encodedTypeMax is how much of a header is decoded for one Content-Type: there may be as many as lines.
const encodedTypeMax = 64 << 10

// contentType parses Content-Type. If it is not valid the entity has none, not even an earlier one.
func (p *Parser) contentType(b *Part, s []byte) {
	b.Type, b.Subtype, b.Params = nil, nil, b.Params[:0]
	i := skipSpace(s, 0)
	if i < 0 {
		return
	}
	encoded := false
	if at(s, i) == '=' && at(s, i+1) == '?' && len(s)-i > 2 {
		// Old versions of Apple Mail encode the whole field. Cyrus decodes all that is left of the header.
		rest := s[i:min(len(s), i+encodedTypeMax)]
		if text := decodeWords(nil, rest); string(text) != string(rest) {
			if len(rest) < len(s)-i && len(fieldText(text)) == len(text) {
				p.limited("encoded Content-Type")
			}
			s, i, encoded = text, 0, true
		}
	}
	typ := i
	typEnd, ok := token(s, i, "/(")
	if !ok {
		return
	}
	if i = skipSpace(s, typEnd); i < 0 || s[i] != '/' {
		return
	}
	if i = skipSpace(s, i+1); i < 0 {
		return
	}
	sub := i
	subEnd, ok := token(s, i, ";(")
	if !ok {
		return
	}
	i = skipSpace(s, subEnd)
	if i >= 0 && s[i] != ';' {
		return
	}
	b.Type, b.Subtype = upperType(s[typ:typEnd]), upperType(s[sub:subEnd])
	if i < 0 {
		return
	}
	b.Params = p.params(b.Params, s, i+1)
	if encoded {
		reencode(b.Params)
	}
}

// upperType is upperCopy, without a copy for the usual types.
func upperType(b []byte) []byte {
	for _, known := range usualTypes {
		if len(known) == len(b) && equalFold(known, b) {
			return known
		}
	}
	return upperCopy(b)
}

var usualTypes = [][]byte{textType, plainType, []byte("HTML"), []byte("MULTIPART"), []byte("MIXED"), []byte("ALTERNATIVE"),
	[]byte("MESSAGE"), []byte("RFC822"), []byte("APPLICATION"), []byte("PDF"), []byte("OCTET-STREAM"), []byte("IMAGE")}

// equalFold compares with a string in upper case.
func equalFold(upperCase, b []byte) bool {
	for i, c := range b {
		if upper(c) != upperCase[i] {
			return false
		}
	}
	return true
}
