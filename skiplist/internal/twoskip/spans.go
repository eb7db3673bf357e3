package twoskip

import (
	"fmt"
	"iter"

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
		if v.Size == 0 {
			return
		}
		p := parser{v, v.End()}
		header := f.headerSpan(v)
		if !yield(header) {
			return
		}
		committed := p.end
		if h, err := f.ReadHeader(v); err == nil {
			committed = h.End
		}
		for off := header.Len; off < p.end; {
			s := p.span(off)
			if off >= committed && s.Problem == "" {
				s.Problem = "not committed"
			}
			if !yield(s) {
				return
			}
			off += s.Len
		}
	}
}

func (f format) headerSpan(v *codec.View) codec.Span {
	if v.Size < headerSize {
		return codec.Span{Len: v.Size, Kind: "garbage", Problem: "too short for a header"}
	}
	s := codec.Span{Len: headerSize, Kind: "header"}
	if _, err := f.ReadHeader(v); err != nil {
		s.Problem = err.Error()
	}
	b, err := v.Bytes(0, headerSize)
	if err != nil {
		return s
	}
	s.Fields = []codec.Field{
		{Off: 0, Len: offVersion, Name: "magic", Value: quote(b[:offVersion])},
		{Off: offVersion, Len: 4, Name: "version", Value: fmt.Sprint(be.Uint32(b[offVersion:]))},
		{Off: offGeneration, Len: 8, Name: "generation", Value: fmt.Sprint(be.Uint64(b[offGeneration:]))},
		{Off: offRecords, Len: 8, Name: "num_records", Value: fmt.Sprint(be.Uint64(b[offRecords:]))},
		{Off: offRepackSize, Len: 8, Name: "repack_size", Value: fmt.Sprintf("%#x", be.Uint64(b[offRepackSize:]))},
		{Off: offSize, Len: 8, Name: "current_size", Value: fmt.Sprintf("%#x", be.Uint64(b[offSize:]))},
		{Off: offFlags, Len: 4, Name: "flags", Value: fmt.Sprintf("%#x", be.Uint32(b[offFlags:]))},
		{Off: offCRC, Len: 4, Name: "crc32", Value: fmt.Sprintf("%08x", be.Uint32(b[offCRC:]))},
	}
	return s
}

// span describes what stands at off.
func (p parser) span(off int64) codec.Span {
	if p.isBlank(off) {
		return codec.Span{Off: off, Len: blankSize, Kind: "blank"}
	}
	rec, b, err := p.headAt(off)
	if err != nil {
		end := off + 8
		for ; end < p.end; end += 8 {
			if p.isBlank(end) {
				break
			}
			if _, _, err := p.headAt(end); err == nil {
				break
			}
		}
		return codec.Span{Off: off, Len: min(end, p.end) - off, Kind: "garbage", Problem: err.Error()}
	}
	s := codec.Span{Off: off, Len: rec.size}
	ptr := func(name string, i int) {
		s.Fields = append(s.Fields, codec.Field{Off: rec.slotOff(i), Len: ptrSize, Name: name, Value: fmt.Sprintf("%#x", rec.slot(b, i))})
	}
	switch rec.typ {
	case typeDelete:
		s.Kind = "delete"
		ptr("next live record", 0)
		return s
	case typeCommit:
		s.Kind = "commit"
		ptr("start", 0)
		return s
	case typeDummy:
		s.Kind = "dummy"
	default:
		s.Kind = "record"
	}
	s.Fields = append(s.Fields, codec.Field{Off: off + 1, Len: 1, Name: "level", Value: fmt.Sprint(rec.level)})
	ptr("slot 0", 0)
	ptr("slot 1", 1)
	for i := 1; i < rec.level; i++ {
		if rec.typ == typeRecord || rec.slot(b, i+1) != 0 {
			ptr(fmt.Sprintf("level %d", i), i+1)
		}
	}
	if _, _, err := p.whole(off); err != nil {
		s.Problem = err.Error()
	}
	if rec.typ == typeRecord {
		body, _ := p.v.Bytes(rec.body(), rec.klen+rec.vlen)
		s.Fields = append(s.Fields,
			codec.Field{Off: rec.body(), Len: rec.klen, Name: "key", Value: quote(body[:rec.klen])},
			codec.Field{Off: rec.body() + rec.klen, Len: rec.vlen, Name: "value", Value: quote(body[rec.klen:])})
	}
	return s
}
