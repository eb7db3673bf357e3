package message

import (
	"unicode/utf16"
	stdutf8 "unicode/utf8"
)

// appendUTF7 appends text in UTF-7, decoded. A stretch of base64 that is none becomes one U+FFFD.
func appendUTF7(dst, s []byte) []byte {
	for len(s) > 0 {
		c := s[0]
		s = s[1:]
		switch {
		case c >= 0x80 || c == '~' || c == '\\':
			dst = stdutf8.AppendRune(dst, replacement)
		case c != '+':
			dst = append(dst, c)
		case len(s) > 0 && s[0] == '-':
			dst, s = append(dst, '+'), s[1:]
		default:
			n := 0
			for n < len(s) && sextets[s[n]] < 64 {
				n++
			}
			dst = appendUTF7Base64(dst, s[:n], n == len(s))
			if s = s[n:]; len(s) > 0 && s[0] == '-' {
				s = s[1:]
			}
		}
	}
	return dst
}

// appendUTF7Base64 appends a stretch of base64. One that the end of the text interrupts may be incomplete.
func appendUTF7Base64(dst, s []byte, last bool) []byte {
	var units []uint16
	bits, count := uint32(0), 0
	for _, c := range s {
		bits = bits<<6 | uint32(sextets[c])
		if count += 6; count >= 16 {
			count -= 16
			units = append(units, uint16(bits>>count))
		}
	}
	if !last && (len(s) == 0 || count >= 6 || bits&(1<<count-1) != 0) {
		units = append(units, replacement)
	}
	return append(dst, string(utf16.Decode(units))...)
}
