package message

import "bytes"

// reencode gives parameters of a Content-Type that was an encoded word, and whose values are now in UTF-8, back as
// encoded words.
func reencode(params []Param) {
	for i, param := range params {
		if n := len(param.Name); n == 0 || param.Name[n-1] == '*' {
			continue
		}
		if !ascii(param.Value) {
			params[i].Value = encodeHeader(param.Value)
		}
	}
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

const (
	wordStart = "=?UTF-8?Q?"
	wordBreak = "?=\r\n =?UTF-8?Q?"
	// encodedLineMax is how long a line of encoded text becomes, wordBreakLen what Cyrus counts for a new one.
	encodedLineMax = 72
	wordBreakLen   = 11
)

// encodeHeader encodes text that is not ASCII. If it looks like a list of addresses, these are left as they are.
func encodeHeader(s []byte) []byte {
	start, end, ok := findAddress(s)
	if !ok {
		out, _ := encodeWord(nil, s, 0, inHeader)
		return out
	}
	var out []byte
	column := 0
	for {
		name := s[:start]
		if len(name) > 0 {
			out, column = encodePhrase(out, name, column)
		}
		if column+end-start >= encodedLineMax {
			out, column = append(out, "\r\n "...), 1
		}
		out = append(out, s[start:end]...)
		column += end - start
		s = s[end:]
		if start, end, ok = findAddress(s); !ok {
			break
		}
	}
	if len(s) > 0 {
		// What follows the last address is not encoded.
		if column+len(s) >= encodedLineMax {
			out = append(out, "\r\n "...)
		}
		out = append(out, s...)
	}
	return out
}

// encodePhrase appends a display name, on a line of its own if it may be too long.
func encodePhrase(out, name []byte, column int) ([]byte, int) {
	need, plain := len(name), ascii(name)
	if !plain {
		need = 3*need + 12
	}
	if column+need >= encodedLineMax {
		out, column = append(out, "\r\n "...), 1
	}
	if plain {
		return append(out, name...), column + len(name)
	}
	return encodeWord(out, name, column, inPhrase)
}

// safe tells whether a byte stands for itself in an encoded word.
type safe func(byte) bool

func inHeader(c byte) bool { return c > ' ' && c < 0x7f && c != '=' && c != '?' && c != '_' }

func inPhrase(c byte) bool { return isAlpha(c) || isDigit(c) || indexByte("!*+-/", c) >= 0 }

// encodeWord appends encoded words, of which no line is long and no character is split.
func encodeWord(out, s []byte, column int, literal safe) ([]byte, int) {
	const digits = "0123456789ABCDEF"
	out = append(out, wordStart...)
	column += len(wordStart)
	for _, c := range s {
		need := 0
		switch {
		case c >= 0xf8 || c < 0xc0:
		case c >= 0xf0:
			need = 9
		case c >= 0xe0:
			need = 6
		default:
			need = 3
		}
		if column+need >= encodedLineMax {
			out, column = append(out, wordBreak...), wordBreakLen
		}
		switch {
		case literal(c):
			out = append(out, c)
			column++
		case c == ' ':
			out = append(out, '_')
			column++
		default:
			out = append(out, '=', digits[c>>4], digits[c&15])
			column += 3
		}
	}
	return append(out, "?="...), column
}

const notAtom = "()<>[]:;@\\,.\" \t"

func atomByte(c byte) bool { return indexByte(notAtom, c) < 0 }

// findAddress finds the first @ and returns the bounds of the address around it, with what separates it from its
// neighbours. It fails if that is none.
func findAddress(s []byte) (start, end int, ok bool) {
	if len(s) < 3 {
		return 0, 0, false
	}
	at := bytes.IndexByte(s[1:], '@') + 1
	if at == 0 || at+1 >= len(s) {
		return 0, 0, false
	}
	end, angle, ok := hostEnd(s, at+1)
	if !ok {
		return 0, 0, false
	}
	start, ok = mailboxStart(s, at-1, angle)
	return start, end, ok
}

// hostEnd returns where an address ends whose host begins at i, and whether it is in angle brackets.
func hostEnd(s []byte, i int) (end int, angle, ok bool) {
	switch {
	case s[i] == '[':
		for i++; i < len(s) && s[i] != '[' && s[i] != ']' && s[i] != '\\'; i++ {
		}
		if i == len(s) || s[i] != ']' {
			return 0, false, false
		}
		i++
	case !isSpace(s[i]) && atomByte(s[i]):
		for i++; i < len(s) && (s[i] == '.' || atomByte(s[i])); i++ {
		}
		if s[i-1] == '.' {
			return 0, false, false
		}
	default:
		return 0, false, false
	}
	if i < len(s) && s[i] == '>' {
		angle = true
		i++
	}
	i = skipWhite(s, i)
	if i < len(s) {
		if s[i] != ',' {
			return 0, false, false
		}
		i = skipWhite(s, i+1)
	}
	return i, angle, true
}

func skipWhite(s []byte, i int) int {
	for i < len(s) && isSpace(s[i]) {
		i++
	}
	return i
}

// mailboxStart returns where an address begins whose mailbox ends at i.
func mailboxStart(s []byte, i int, angle bool) (start int, ok bool) {
	switch {
	case s[i] == '"':
		for i--; i >= 0; i-- {
			if s[i] == '"' {
				if i--; i < 0 || s[i] != '\\' {
					break
				}
			}
		}
		if s[i+1] != '"' {
			return 0, false
		}
	case !isSpace(s[i]) && atomByte(s[i]):
		for i--; i >= 0 && (s[i] == '.' || atomByte(s[i])); i-- {
		}
		if s[i+1] == '.' {
			return 0, false
		}
	default:
		return 0, false
	}
	switch {
	case i < 0:
		return 0, true
	case angle:
		for ok = s[i] == '<'; ok && i > 0 && isSpace(s[i-1]); i-- {
		}
		return i, ok
	}
	return i, isSpace(s[i]) || s[i] == ','
}
