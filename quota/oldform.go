package quota

import (
	"strconv"
	"strings"
)

// word is a part of an old record, with its place.
type word struct {
	text   string
	offset int
}

// words are the parts of a text between blanks.
func words(text string) (list []word) {
	const blanks = " \t\r\n"
	for i := 0; i < len(text); {
		if strings.IndexByte(blanks, text[i]) >= 0 {
			i++
			continue
		}
		end := strings.IndexAny(text[i:], blanks)
		if end < 0 {
			end = len(text) - i
		}
		list = append(list, word{text[i : i+end], i})
		i += end
	}
	return list
}

// parseNumbers reads the form of Cyrus up to 2.4, "used limit", and that of the development of 2.5, in which more resources
// follow, each behind its key. A third number was what a recalculation had counted so far.
func (s *source) parseNumbers() error {
	s.record.Limits = NoLimits()
	list := words(s.text)
	end := word{offset: len(s.text)}
	next := func() word {
		if len(list) == 0 {
			return end
		}
		w := list[0]
		list = list[1:]
		return w
	}
	for res := Storage; ; {
		used, limit := next(), next()
		var ok bool
		if s.record.Used[res], ok = digits(used.text); !ok {
			return damaged(used.offset, "%s: expected the usage, a number of at most 63 bits", resources[res].key)
		}
		if limit.text == "-1" {
			s.record.Limits[res] = Unlimited
		} else if s.record.Limits[res], ok = digits(limit.text); !ok {
			return damaged(limit.offset, "%s: expected a limit, -1 or a number of at most 63 bits", resources[res].key)
		}
		if len(list) > 0 {
			if _, scratch := digits(list[0].text); scratch {
				list = list[1:]
			}
		}
		if len(list) == 0 {
			return nil
		}
		key := next()
		last := res
		for r := res + 1; int(r) < Resources; r++ {
			if resources[r].key == key.text {
				res = r
			}
		}
		if res == last {
			return damaged(key.offset, "expected the end, or the key of a further resource")
		}
	}
}

// digits reads a number without a sign.
func digits(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
