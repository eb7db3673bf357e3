package mboxdb

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Modified UTF-7 (RFC 3501, section 5.1.3): printable ASCII stands for itself, "&" is "&-", and a run of anything else
// is "&", its UTF-16 in base64 with "," for "/" and without padding, "-".

const utf7Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,"

var utf7Encoding = base64.NewEncoding(utf7Alphabet).WithPadding(base64.NoPadding)

// EncodeUTF7 is the modified UTF-7 of a UTF-8 string.
func EncodeUTF7(s string) string {
	var out strings.Builder
	var run []uint16
	flush := func() {
		if len(run) == 0 {
			return
		}
		b := make([]byte, 0, 2*len(run))
		for _, u := range run {
			b = append(b, byte(u>>8), byte(u))
		}
		out.WriteString("&" + utf7Encoding.EncodeToString(b) + "-")
		run = run[:0]
	}
	for _, r := range s {
		switch {
		case r == '&':
			flush()
			out.WriteString("&-")
		case r >= ' ' && r <= '~':
			flush()
			out.WriteByte(byte(r))
		default:
			run = utf16.AppendRune(run, r)
		}
	}
	flush()
	return out.String()
}

// DecodeUTF7 is the UTF-8 of a string in modified UTF-7. What is not proper modified UTF-7 is an ErrName.
func DecodeUTF7(s string) (string, error) {
	var out strings.Builder
	rest, encoded := s, false
	for rest != "" {
		if rest[0] != '&' {
			if rest[0] < ' ' || rest[0] > '~' {
				return "", fmt.Errorf("%q has the byte %#x: %w", s, rest[0], ErrName)
			}
			out.WriteByte(rest[0])
			rest, encoded = rest[1:], false
			continue
		}
		run, after, found := strings.Cut(rest[1:], "-")
		if !found || run != "" && (encoded || utf7Fault(run) != "") {
			return "", fmt.Errorf("%q is not modified UTF-7: %w", s, ErrName)
		}
		if run == "" {
			out.WriteByte('&')
		} else if err := decodeRun(&out, run); err != nil {
			return "", fmt.Errorf("%q: %w", s, err)
		}
		rest, encoded = after, run != ""
	}
	return out.String(), nil
}

// decodeRun decodes what stands between "&" and "-".
func decodeRun(out *strings.Builder, run string) error {
	b, err := utf7Encoding.DecodeString(run)
	if err != nil {
		return fmt.Errorf("%w: %w", err, ErrName)
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = uint16(b[2*i])<<8 | uint16(b[2*i+1])
	}
	for i := 0; i < len(units); i++ {
		r := rune(units[i])
		if utf16.IsSurrogate(r) {
			if i+1 == len(units) {
				return fmt.Errorf("half a surrogate pair: %w", ErrName)
			}
			if r = utf16.DecodeRune(r, rune(units[i+1])); r == utf8.RuneError {
				return fmt.Errorf("half a surrogate pair: %w", ErrName)
			}
			i++
		}
		out.WriteRune(r)
	}
	return nil
}

// utf7Fault says what Cyrus dislikes in a run: characters that are not base64, ASCII that needs no encoding, or bits
// left over that are not zero. Surrogates it does not look at.
func utf7Fault(run string) string {
	const bad = "has modified UTF-7 that is not proper: "
	bits, have := uint32(0), 0
	for i := range len(run) {
		c := strings.IndexByte(utf7Alphabet, run[i])
		if c < 0 {
			return fmt.Sprintf("%sthe character %q", bad, run[i])
		}
		bits, have = bits<<6|uint32(c), have+6
		if have >= 16 {
			have -= 16
			if bits>>have&0xff80 == 0 {
				return bad + "ASCII is encoded"
			}
			bits &= 1<<have - 1
		}
	}
	if have >= 6 || bits != 0 {
		return bad + "it does not end with a character"
	}
	return ""
}
