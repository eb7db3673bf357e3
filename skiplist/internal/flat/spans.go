package flat

import (
	"fmt"
	"iter"
	"strconv"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// shownBytes is how much of an encoded key or value a span shows.
const shownBytes = 64

// Spans describes the file line by line.
func (format) Spans(v *codec.View) iter.Seq[codec.Span] {
	return func(yield func(codec.Span) bool) {
		var prev []byte
		for off := int64(0); off < v.End(); {
			s := scan(v, off)
			for {
				l, ok, err := s.next()
				if err != nil {
					at := max(off, s.off)
					yield(codec.Span{Off: at, Len: v.End() - at, Kind: "unread", Problem: err.Error()})
					return
				}
				if !ok {
					break
				}
				zeros := leadingZeros(l.b)
				if zeros > 0 {
					sp := codec.Span{Off: l.off, Len: int64(zeros), Kind: "zeros", Problem: "no writer leaves NUL bytes"}
					if !yield(sp) {
						return
					}
					l.off, l.b = l.off+int64(zeros), l.b[zeros:]
					if len(l.b) == 0 && !l.whole {
						continue
					}
				}
				var sp codec.Span
				if sp, prev = describe(l, prev, zeros > 0); !yield(sp) {
					return
				}
			}
			off = s.off
		}
	}
}

func leadingZeros(b []byte) int {
	i := 0
	for i < len(b) && b[i] == 0 {
		i++
	}
	return i
}

// describe makes the span of a line. prev is the greatest key so far; the key is returned in its place if it is greater.
// A line that is cut has lost the start of its key.
func describe(l line, prev []byte, cut bool) (codec.Span, []byte) {
	n := int64(len(l.b))
	sp := codec.Span{Off: l.off, Len: n, Kind: "line"}
	if l.whole {
		sp.Len++
	}
	enc, value, ok := l.split()
	if !ok {
		sp.Kind, sp.Problem = "garbage", "no TAB after a key"
		sp.Fields = []codec.Field{{Off: l.off, Len: n, Name: "text", Value: quote(l.b)}}
		return sp, prev
	}
	tab := l.off + int64(len(enc)) + 1
	sp.Fields = []codec.Field{
		{Off: l.off, Len: int64(len(enc)), Name: "key", Value: quote(enc)},
		{Off: tab, Len: int64(len(value)), Name: "value", Value: quote(value)},
	}
	key := decode(enc)
	after := prev == nil || compare(prev, key) < 0
	_, flaw := l.flaw()
	switch {
	case cut:
		sp.Problem = "the start of its key is missing"
	case flaw != "":
		sp.Problem = flaw
	case !l.whole:
		sp.Problem = "no LF: Cyrus ignores it"
	case prev != nil && compare(prev, key) == 0:
		sp.Problem = "the key of an earlier line again"
	case !after:
		sp.Problem = "sorts before an earlier line: Cyrus may not find it"
	case !canonical(enc):
		sp.Problem = "a spelling of the key that Cyrus does not find"
	}
	if after && flaw == "" && !cut {
		return sp, key
	}
	return sp, prev
}

// quote shows the start of an encoded key or value, decoded.
func quote(enc []byte) string {
	if len(enc) <= shownBytes {
		return strconv.Quote(string(decode(enc)))
	}
	return fmt.Sprintf("%s... (%d bytes)", strconv.Quote(string(decode(enc[:shownBytes]))), len(enc))
}
