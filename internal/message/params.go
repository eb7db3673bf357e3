package message

import "bytes"

// params appends the parameters that begin at i, and joins those that RFC 2231 splits. What is malformed is skipped up
// to the next semicolon.
func (p *Parser) params(list []Param, s []byte, i int) []Param {
	first, split := len(list), false
	for {
		if i = skipSpace(s, i); i < 0 {
			break
		}
		param, next, state := p.param(s, i)
		i = next
		if state == paramSkip {
			for i < len(s) && s[i] != ';' && s[i] != '\r' && s[i] != '\n' {
				i++
			}
			if at(s, i) == ';' {
				i++
			}
			continue
		}
		if state == paramEnd {
			break
		}
		list = append(list, param)
		split = split || bytes.Contains(param.Name, sectionZero)
		if i < 0 {
			break
		}
	}
	if split {
		list = append(list[:first], joinSections(list[first:])...)
	}
	return list
}

var sectionZero = []byte("*0")

// How the reading of a parameter ended.
type paramState int

const (
	paramGood paramState = iota // go on at the returned place, which is -1 at the end of the field
	paramSkip                   // it is malformed
	paramEnd                    // so is the rest of the field
)

// param reads one parameter and the semicolon behind it.
func (p *Parser) param(s []byte, i int) (param Param, next int, state paramState) {
	start := i
	end, ok := token(s, i, "=(")
	if !ok {
		return param, end, paramSkip
	}
	if i = skipSpace(s, end); i < 0 {
		return param, 0, paramEnd
	}
	if s[i] != '=' {
		return param, i + 1, paramSkip
	}
	if i = skipSpace(s, i+1); i < 0 {
		return param, 0, paramEnd
	}
	var value []byte
	if s[i] == '"' {
		from := i
		if i = quotedEnd(s, i); i < 0 {
			return param, 0, paramEnd
		}
		value = unquote(s[from+1 : i-1])
	} else {
		from := i
		if i, ok = bareEnd(s, i); !ok {
			return param, i, paramSkip
		}
		value = s[from:i:i]
	}
	if i = skipSpace(s, i); i >= 0 {
		if i++; s[i-1] != ';' {
			return param, i, paramSkip
		}
	}
	return Param{upperName(s[start:end]), value}, i, paramGood
}

// upperName is upperCopy, without a copy for the usual names.
func upperName(b []byte) []byte {
	for _, known := range usualNames {
		if len(known) == len(b) && equalFold(known, b) {
			return known
		}
	}
	return upperCopy(b)
}

var usualNames = [][]byte{charsetName, []byte("BOUNDARY"), []byte("NAME"), []byte("FILENAME"), []byte("FORMAT")}

// quotedEnd returns the place behind the quoted string that begins at i, or -1 if it is not closed in this field.
func quotedEnd(s []byte, i int) int {
	for i++; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' {
			if i++; i == len(s) {
				return -1
			}
		}
		if s[i] == '\r' {
			if at(s, i+1) != '\n' || !isBlank(at(s, i+2)) {
				return -1
			}
			i += 2
		}
	}
	if i >= len(s) {
		return -1
	}
	return i + 1
}

// unquote returns the text of a quoted string, without backslashes and folds.
func unquote(s []byte) []byte {
	if bytes.IndexByte(s, '\\') < 0 && bytes.IndexByte(s, '\r') < 0 {
		return s[:len(s):len(s)]
	}
	text := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\r':
			i += 2
		}
		if i < len(s) {
			text = append(text, s[i])
		}
	}
	return text
}

// bareEnd returns where a value without quotes ends: before a semicolon, a comment or a CR that does not fold, without
// blanks at its end. It may hold what a token may not, but no control characters. It is never empty: Cyrus takes the
// delimiter itself for a value.
func bareEnd(s []byte, i int) (int, bool) {
	last := i
	for i < len(s) && s[i] != ';' && s[i] != '(' {
		c := s[i]
		if c == '\r' {
			if at(s, i+1) != '\n' || !isBlank(at(s, i+2)) {
				break
			}
			i += 2
			continue
		}
		if c < ' ' && c != '\t' {
			return i, false
		}
		if !isBlank(c) {
			last = i
		}
		i++
	}
	return last + 1, true
}

// sectionsMax is the number of the first section that is not joined.
const sectionsMax = 100

// joinSections joins the sections of RFC 2231: NAME*0 is followed by NAME*1 and so on, wherever they stand. Those with
// a * at the end of their name are percent-encoded; if one is, all are.
func joinSections(list []Param) []Param {
	places := make(map[string][]int, len(list))
	for i, param := range list {
		places[string(param.Name)] = append(places[string(param.Name)], i)
	}
	gone := make([]bool, len(list))
	// take returns the first section of a name, in the order of the list, and takes it away.
	take := func(plain string) (value []byte, extended, ok bool) {
		a, b := places[plain], places[plain+"*"]
		switch {
		case len(a) == 0 && len(b) == 0:
			return nil, false, false
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			places[plain], gone[a[0]] = a[1:], true
			return list[a[0]].Value, false, true
		default:
			places[plain+"*"], gone[b[0]] = b[1:], true
			return list[b[0]].Value, true, true
		}
	}
	for i := range list {
		star := bytes.IndexByte(list[i].Name, '*')
		if gone[i] || star < 0 {
			continue
		}
		if tail := string(list[i].Name[star:]); tail == "*0" || tail == "*0*" {
			list[i] = joinOne(string(list[i].Name[:star]), list[i].Value, tail == "*0*", take)
		}
	}
	kept := list[:0]
	for i, param := range list {
		if !gone[i] {
			kept = append(kept, param)
		}
	}
	return kept
}

// joinOne appends the sections of one name to the first.
func joinOne(name string, first []byte, extended bool, take func(string) ([]byte, bool, bool)) Param {
	value := bytes.Clone(first)
	for n := 1; n < sectionsMax; n++ {
		section := name + "*" + string('0'+rune(n%10))
		if n > 9 {
			section = name + "*" + string('0'+rune(n/10)) + string('0'+rune(n%10))
		}
		next, nextExtended, ok := take(section)
		if !ok {
			break
		}
		switch {
		case nextExtended && !extended:
			// Charset and language are unspecified.
			value = append(percentEncode([]byte("''"), value), next...)
			extended = true
		case extended && !nextExtended:
			value = percentEncode(value, next)
		default:
			value = append(value, next...)
		}
	}
	if extended {
		name += "*"
	}
	return Param{[]byte(name), notNil(value)}
}

// percentEncode appends text in the extended form.
func percentEncode(dst, text []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range text {
		if c <= ' ' || c >= 0x7f || c == '*' || c == '\'' || c == '%' || special(c) {
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// decodeExtended decodes an extended value to UTF-8, if it is one of a known charset.
func decodeExtended(value []byte) ([]byte, bool) {
	name, rest, ok := bytes.Cut(value, []byte("'"))
	if !ok {
		return nil, false
	}
	cs, ok := lookupCharset(name)
	if !ok {
		return nil, false
	}
	_, text, ok := bytes.Cut(rest, []byte("'"))
	if !ok {
		return nil, false
	}
	raw := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '%' {
			hi, ok1 := hexDigit(at(text, i+1))
			lo, ok2 := hexDigit(at(text, i+2))
			if !ok1 || !ok2 {
				return nil, false
			}
			c = hi<<4 | lo
			i += 2
		}
		raw = append(raw, c)
	}
	t := textDecoder{}
	t.use(cs)
	t.write(raw)
	t.flush()
	return untilNUL(t.out), true
}

// untilNUL cuts text as a C string ends.
func untilNUL(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}
