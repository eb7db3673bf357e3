package message

import (
	"time"
)

// parseDate parses a Date header as Cyrus does, in seconds since 1970. With dayOnly it looks at the day alone, which
// then begins at midnight of the zone; else the zone that the header names counts. Numbers are not checked for their
// range: the 31st of February is in March.
func parseDate(text []byte, dayOnly bool, zone *time.Location) (int64, bool) {
	if text == nil {
		return 0, false
	}
	s := dateScanner{s: text}
	year, month, day, ok := s.day()
	if !ok {
		return 0, false
	}
	if dayOnly {
		t := time.Date(year, month, day, 0, 0, 0, 0, zone).Unix()
		return t, t >= 0
	}
	hour, minute, second, ok := s.clock()
	if !ok {
		return 0, false
	}
	t := time.Date(year, month, day, hour, minute, second, 0, time.UTC).Unix()
	return t - 60*int64(s.zone()), t >= 0
}

// dateScanner reads a date token by token. It is over at the end of the text or at a byte 0xFF, which the C library
// took for the end.
type dateScanner struct {
	s  []byte
	at int
}

// peek returns the byte ahead and false at the end.
func (d *dateScanner) peek() (byte, bool) {
	if d.at < len(d.s) && d.s[d.at] != 0xff {
		return d.s[d.at], true
	}
	return 0, false
}

// token returns a run of letters and digits, cut at tokenMax. It fails at the end.
func (d *dateScanner) token() ([]byte, bool) {
	if _, ok := d.peek(); !ok {
		return nil, false
	}
	start := d.at
	for d.at-start < tokenMax {
		c, ok := d.peek()
		if !ok && d.at < len(d.s) {
			return d.s[start:d.at], false
		}
		if !isAlpha(c) && !isDigit(c) {
			break
		}
		d.at++
	}
	return d.s[start:d.at], true
}

const tokenMax = 32

func (d *dateScanner) space() {
	for d.at < len(d.s) && (isBlank(d.s[d.at]) || d.s[d.at] == '\r' || d.s[d.at] == '\n') {
		d.at++
	}
}

// separator skips one byte, whatever it is, and then white space if that follows.
func (d *dateScanner) separator() {
	if d.at < len(d.s) {
		d.at++
	}
	d.space()
}

// number returns the value of a token of digits.
func number(token []byte) (int, bool) {
	var n int32 // overflows as it does there
	for _, c := range token {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int32(c-'0')
	}
	return int(n), true
}

// short reads a number of one or two digits.
func (d *dateScanner) short() (int, bool) {
	token, ok := d.token()
	if !ok || len(token) < 1 || len(token) > 2 {
		return 0, false
	}
	return number(token)
}

// day reads the optional name of the day, and the day.
func (d *dateScanner) day() (year int, month time.Month, day int, ok bool) {
	d.space()
	c, ok := d.peek()
	if !ok {
		return 0, 0, 0, false
	}
	if isAlpha(c) {
		name, ok := d.token()
		if !ok || len(name) != 3 || at(d.s, d.at) != ',' {
			return 0, 0, 0, false
		}
		d.at++
		d.space()
	}
	if day, ok = d.short(); !ok {
		return 0, 0, 0, false
	}
	d.separator()
	name, ok := d.token()
	if !ok || len(name) != 3 {
		return 0, 0, 0, false
	}
	if month, ok = monthOf(name); !ok {
		return 0, 0, 0, false
	}
	d.separator()
	digits, ok := d.token()
	if !ok {
		return 0, 0, 0, false
	}
	if year, ok = number(digits); !ok {
		return 0, 0, 0, false
	}
	switch {
	case len(digits) != 2:
		ok = year >= 1900
	case year < 70:
		year += 2000
	default:
		year += 1900
	}
	return year, month, day, ok
}

var months = [...]string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}

func monthOf(name []byte) (time.Month, bool) {
	low := [3]byte{lower(name[0]), lower(name[1]), lower(name[2])}
	for i, m := range months {
		if string(low[:]) == m {
			return time.Month(i + 1), true
		}
	}
	return 0, false
}

// clock reads the time of day.
func (d *dateScanner) clock() (hour, minute, second int, ok bool) {
	d.space()
	if hour, ok = d.short(); !ok || !d.colon() {
		return 0, 0, 0, false
	}
	if minute, ok = d.short(); !ok {
		return 0, 0, 0, false
	}
	if d.colon() {
		second, ok = d.short()
	}
	return hour, minute, second, ok
}

// colon takes a colon or dot.
func (d *dateScanner) colon() bool {
	c, _ := d.peek()
	if c != ':' && c != '.' {
		return false
	}
	d.at++
	return true
}

// zone reads a zone and returns its minutes east of Greenwich. Cyrus counts an unsigned number as west.
func (d *dateScanner) zone() int {
	d.space()
	sign, _ := d.peek()
	if sign == '+' || sign == '-' {
		d.at++
	}
	z, ok := d.token()
	if !ok {
		return 0
	}
	switch len(z) {
	case 1:
		return military(z[0])
	case 3:
		return american(z)
	case 4:
		n, ok := number(z)
		if !ok {
			return 0
		}
		n = n/100*60 + n%100
		if sign != '+' {
			n = -n
		}
		return n
	}
	return 0
}

// military is the zone of one letter. The arithmetic is that of Cyrus, which also applies it to lower case and digits.
func military(c byte) int {
	switch u := upper(c); {
	case u < 'J':
		return (int(c) - 'A' + 1) * 60
	case u == 'J':
		return 0
	case u <= 'M':
		return (int(c) - 'A') * 60
	case u < 'Z':
		return ('M' - int(c)) * 60
	}
	return 0
}

// american is a zone like EST or PDT.
func american(z []byte) int {
	i := indexByte("BHYPMCEA", upper(z[0]))
	if i < 0 || upper(z[2]) != 'T' {
		return 0
	}
	offset := (i - 11) * 60
	switch upper(z[1]) {
	case 'D':
		return offset + 60
	case 'S':
		return offset
	}
	return 0
}
