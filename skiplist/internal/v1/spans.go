package v1

import (
	"fmt"
	"iter"
	"time"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// maxQuoted bounds, in bytes, how much of a key or value a span shows.
const maxQuoted = 60

func quote(b []byte) string {
	if len(b) > maxQuoted {
		return fmt.Sprintf("%q... (%d bytes)", b[:maxQuoted], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// Spans implements codec.Codec.
func (f format) Spans(v *codec.View) iter.Seq[codec.Span] {
	return func(yield func(codec.Span) bool) {
		p := newParser(v, codec.Header{})
		off := int64(0)
		for _, s := range f.fixedSpans(v) {
			if !yield(s) {
				return
			}
			off += s.Len
		}
		for off < p.end {
			s := p.span(off)
			if !yield(s) {
				return
			}
			off += s.Len
		}
	}
}

// fixedSpans are the header and the DUMMY, as far as the file goes.
func (f format) fixedSpans(v *codec.View) []codec.Span {
	if v.Size < emptySize {
		if v.Size == 0 {
			return nil
		}
		return []codec.Span{{Off: 0, Len: v.Size, Kind: "garbage", Problem: "too short for an empty database"}}
	}
	h := codec.Span{Off: 0, Len: headerSize, Kind: "header"}
	if _, err := f.ReadHeader(v); err != nil {
		h.Problem = err.Error()
	}
	b, err := v.Bytes(0, emptySize)
	if err != nil {
		return nil
	}
	h.Fields = append(h.Fields, codec.Field{Off: 0, Len: offVersion, Name: "magic", Value: quote(b[:offVersion])})
	for _, n := range []struct {
		off  int64
		name string
	}{
		{offVersion, "version"}, {offMinor, "minor version"}, {offMaxLevel, "maxlevel"}, {offCurLevel, "curlevel"},
		{offListSize, "listsize"}, {offLogStart, "logstart"}, {offLastRec, "last recovery"},
	} {
		val := fmt.Sprint(be.Uint32(b[n.off:]))
		switch n.off {
		case offLogStart:
			val = fmt.Sprintf("%#x", be.Uint32(b[n.off:]))
		case offLastRec:
			val = time.Unix(int64(be.Uint32(b[n.off:])), 0).UTC().Format(time.RFC3339)
		}
		h.Fields = append(h.Fields, codec.Field{Off: n.off, Len: word, Name: n.name, Value: val})
	}
	d := codec.Span{Off: offDummy, Len: emptySize - offDummy, Kind: "dummy"}
	if err := checkDummy(v); err != nil {
		d.Problem = err.Error()
	}
	for i := range int64(maxLevel) {
		at := offDummy + 3*word + i*word
		if to := be.Uint32(b[at:]); to != 0 {
			d.Fields = append(d.Fields, pointer(at, i, to))
		}
	}
	return []codec.Span{h, d}
}

func pointer(at, level int64, to uint32) codec.Field {
	return codec.Field{Off: at, Len: word, Name: fmt.Sprintf("pointer %d", level), Value: fmt.Sprintf("%#x", to)}
}

// span describes what stands at off.
func (p parser) span(off int64) codec.Span {
	typ, err := p.word(off)
	if err != nil {
		return codec.Span{Off: off, Len: p.end - off, Kind: "garbage", Problem: "less than a word"}
	}
	switch typ {
	case 0:
		end := off
		for end+word <= p.end {
			if w, err := p.word(end); err != nil || w != 0 {
				break
			}
			end = p.v.PastZeros(end+word, p.end)
		}
		return codec.Span{Off: off, Len: end - off, Kind: "zeros", Problem: "zeros where a record should stand"}
	case typeCommit:
		return codec.Span{Off: off, Len: commitSize, Kind: "commit"}
	case typeInorder, typeAdd:
		if r, err := p.record(off, typ); err == nil {
			return p.recordSpan(r)
		}
	case typeDelete:
		if e, err := p.entry(off); err == nil {
			return codec.Span{Off: off, Len: deleteSize, Kind: "delete", Fields: []codec.Field{
				{Off: off + word, Len: word, Name: "record", Value: fmt.Sprintf("%#x", e.target)}}}
		}
	}
	return p.garbage(off)
}

func (p parser) recordSpan(r record) codec.Span {
	s := codec.Span{Off: r.off, Len: r.size, Kind: "add"}
	if r.typ == typeInorder {
		s.Kind = "inorder"
	}
	key, _ := p.v.Bytes(r.keyOff(), r.klen)
	value, _ := p.v.Bytes(r.valueOff(), r.dlen)
	s.Fields = []codec.Field{
		{Off: r.off + word, Len: word, Name: "key length", Value: fmt.Sprint(r.klen)},
		{Off: r.keyOff(), Len: r.klen, Name: "key", Value: quote(key)},
		{Off: r.dlenOff(), Len: word, Name: "value length", Value: fmt.Sprint(r.dlen)},
		{Off: r.valueOff(), Len: r.dlen, Name: "value", Value: quote(value)},
	}
	for i := range r.level {
		to, _ := p.word(r.ptrOff(i))
		s.Fields = append(s.Fields, pointer(r.ptrOff(i), int64(i), to))
	}
	return s
}

// garbage reaches to the next place where a record can be read. Each place is tried once, so that a whole file of
// garbage is read in linear time as long as records are short; lengths that reach far cost one look each.
func (p parser) garbage(off int64) codec.Span {
	_, err := p.entry(off)
	end := off + word
	for ; end+word <= p.end; end += word {
		typ, _ := p.word(end)
		if typ == typeInorder || typ == typeAdd {
			if _, err := p.record(end, typ); err == nil {
				break
			}
		}
		if typ == typeDelete || typ == typeCommit {
			break
		}
	}
	if end+word > p.end {
		end = p.end
	}
	problem := "not a record"
	if err != nil {
		problem = err.Error()
	}
	return codec.Span{Off: off, Len: end - off, Kind: "garbage", Problem: problem}
}
