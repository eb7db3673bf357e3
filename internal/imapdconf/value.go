package imapdconf

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// switchWords are the documented values of a switch. Cyrus decides by the first letter, or two, and takes much more.
var switchWords = map[string]bool{
	"yes": true, "on": true, "t": true, "true": true, "1": true, "no": false, "off": false, "f": false, "false": false, "0": false,
	"y": true, "n": false,
}

// parseSwitch reads a switch as Cyrus does: by its first letters, in lower case.
func parseSwitch(s string) (value, ok bool) {
	switch {
	case s == "":
	case strings.IndexByte("0nf", s[0]) >= 0, strings.HasPrefix(s, "of"):
		return false, true
	case strings.IndexByte("1yt", s[0]) >= 0, strings.HasPrefix(s, "on"):
		return true, true
	}
	return false, false
}

// parseInt reads a number as C's strtol does with base 0. A number that does not fit is clamped, and clamped tells so.
func parseInt(s string) (value int64, clamped, ok bool) {
	digits := s
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	base := 10
	switch lower := strings.ToLower(digits); {
	case strings.HasPrefix(lower, "0x"):
		base, digits = 16, digits[2:]
	case len(lower) > 1 && lower[0] == '0':
		base, digits = 8, digits[1:]
	}
	if digits == "" || strings.ContainsAny(digits, "+-_") {
		return 0, false, false
	}
	magnitude, err := strconv.ParseUint(digits, base, 64)
	if err != nil && magnitude != math.MaxUint64 {
		return 0, false, false
	}
	if clamped = magnitude > math.MaxInt64; clamped {
		magnitude = math.MaxInt64
	}
	value = int64(magnitude)
	if negative {
		value = -value
	}
	return value, clamped, true
}

// parseDuration reads a duration. A number without a unit at the end has the given one. Cyrus counts in 32 bits: wrapped
// tells of a value for which that is too little.
func parseDuration(s string, unit byte) (value time.Duration, wrapped, ok bool) {
	if unit == 0 {
		unit = 's'
	}
	body, negative := strings.CutPrefix(s, "-")
	if body != "" && body[len(body)-1] >= '0' && body[len(body)-1] <= '9' {
		body += string(unit)
	}
	var seconds, number int64
	digits := false
	for _, c := range []byte(body) {
		if c >= '0' && c <= '9' {
			digits = true
			number = min(number*10+int64(c-'0'), math.MaxInt32+1)
			continue
		}
		scale, known := map[byte]int64{'d': 86400, 'h': 3600, 'm': 60, 's': 1}[c]
		if !digits || !known {
			return 0, false, false
		}
		seconds = min(seconds+number*scale, math.MaxInt32+1)
		number, digits = 0, false
	}
	if wrapped = seconds > math.MaxInt32; wrapped {
		seconds = math.MaxInt32
	}
	if negative {
		seconds = -seconds
	}
	return time.Duration(seconds) * time.Second, wrapped, true
}

// parseEnum finds the word that a value of an Enum stands for.
func parseEnum(o *Option, s string) (string, bool) {
	switch s {
	case "1", "yes", "t", "true":
		s = "on"
	case "0", "no", "f", "false":
		s = "off"
	}
	return s, slices.Contains(o.Values, s)
}

// word is a part of a value and where it begins.
type word struct {
	text string
	at   int
}

// words splits a value at white space.
func words(s string) (list []word) {
	for at := 0; at < len(s); {
		if strings.IndexByte(spaces, s[at]) >= 0 {
			at++
			continue
		}
		end := strings.IndexAny(s[at:], spaces)
		if end < 0 {
			end = len(s) - at
		}
		list = append(list, word{s[at : at+end], at})
		at += end
	}
	return list
}

// check finds what is wrong with the value of an option.
func (o *Option) check(s *Setting, report func(*Problem)) {
	name := "option " + show(s.Key)
	bad := func(at Pos, found, expected, fix string) {
		report(refused(at, "bad-value", found+" for "+name, expected, fix))
	}
	switch o.Type {
	case Switch:
		o.checkSwitch(s, report)
	case Int:
		v, clamped, ok := parseInt(s.Value)
		switch {
		case !ok:
			bad(s.ValuePos, show(s.Value), o.Type.String(), "")
		case clamped, v > math.MaxInt32, v < -math.MaxInt32:
			report(harmful(s.ValuePos, "value-too-large", show(s.Value)+" for "+name, "a number of 32 bits", "Cyrus cuts it off"))
		case strings.HasPrefix(strings.TrimLeft(s.Value, "+-"), "0") && v > 7:
			if digits := strings.TrimLeft(s.Value, "+-"); strings.ToLower(digits[:2]) != "0x" {
				report(warning(s.ValuePos, "octal", show(s.Value)+" for "+name, "a decimal number",
					fmt.Sprintf("the leading 0 makes it octal: %d", v)))
			}
		}
	case Enum:
		if _, ok := parseEnum(o, s.Value); !ok {
			bad(s.ValuePos, show(s.Value), oneOf(o.Values), suggest(s.Value, o.Values))
		}
	case StringList:
		if !slices.Contains(o.Values, s.Value) {
			bad(s.ValuePos, show(s.Value), oneOf(o.Values), suggest(s.Value, o.Values))
		}
	case Bitfield:
		for _, w := range words(s.Value) {
			if !slices.Contains(o.Values, w.text) {
				bad(s.within(w.at), show(w.text), "words of "+strings.Join(o.Values, " "), suggestWord(w.text, o.Values))
			} else if preferred := o.Same[w.text]; preferred != "" {
				report(warning(s.within(w.at), "deprecated-value", show(w.text)+" for "+name, show(preferred), "write the new word"))
			}
		}
	case Duration:
		_, wrapped, ok := parseDuration(s.Value, o.Unit)
		if !ok {
			bad(s.ValuePos, show(s.Value), "numbers with the units d, h, m or s, such as 1h30m", "")
		} else if wrapped {
			report(harmful(s.ValuePos, "value-too-large", show(s.Value)+" for "+name, "at most 68 years", "Cyrus counts seconds in 32 bits"))
		}
	}
}

func (o *Option) checkSwitch(s *Setting, report func(*Problem)) {
	name := "option " + show(s.Key)
	v, ok := parseSwitch(s.Value)
	if !ok {
		fix := ""
		if lower, isWord := parseSwitch(strings.ToLower(s.Value)); isWord {
			fix = "write it in lower case: " + map[bool]string{true: "yes", false: "no"}[lower]
		}
		report(refused(s.ValuePos, "bad-value", show(s.Value)+" for "+name, "yes or no (on, off, t, f, true, false, 1, 0)", fix))
		return
	}
	if _, documented := switchWords[s.Value]; !documented {
		report(warning(s.ValuePos, "odd-value", show(s.Value)+" for "+name, "yes or no",
			"Cyrus looks at the first letters and takes it for "+map[bool]string{true: "yes", false: "no"}[v]))
	}
}

func oneOf(values []string) string { return "one of " + strings.Join(values, ", ") }

// suggestWord is suggest for one word of several.
func suggestWord(s string, values []string) string {
	if strings.ContainsAny(s, ",;") {
		return "words are separated by spaces, not by commas"
	}
	return suggest(s, values)
}

// suggest is the advice for a misspelt word.
func suggest(s string, values []string) string {
	for _, v := range values {
		if strings.EqualFold(v, s) {
			return "write " + v
		}
	}
	if v := nearest(s, values); v != "" {
		return "did you mean " + v + "?"
	}
	return ""
}
