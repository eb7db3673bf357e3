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
		if v.End() == 0 {
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
		budget := 4 * p.end
		for off := header.Len; off < p.end; {
			s := p.span(off, &budget)
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

// headerFields are the parts of the header, in order.
var headerFields = []struct {
	name      string
	off, size int64
	hex       bool
}{
	{"magic", 0, 20, false},
	{"version", offVersion, 4, false},
	{"generation", offGeneration, 8, false},
	{"num_records", offRecords, 8, false},
	{"repack_size", offRepackSize, 8, true},
	{"current_size", offSize, 8, true},
	{"flags", offFlags, 4, true},
	{"crc32", offCRC, 4, true},
}

func (f format) headerSpan(v *codec.View) codec.Span {
	s := codec.Span{Len: min(headerSize, v.End()), Kind: "header"}
	b, err := v.Bytes(0, s.Len)
	if err == nil && len(b) < headerSize {
		err = errWithin
	}
	if err != nil {
		s.Kind, s.Problem = "garbage", err.Error()
		return s
	}
	if _, err := f.ReadHeader(v); err != nil {
		s.Problem = err.Error()
	}
	for _, h := range headerFields {
		part := b[h.off : h.off+h.size]
		value := quote(part)
		if h.size <= 8 {
			value = number(part, h.hex)
		}
		s.Fields = append(s.Fields, codec.Field{Off: h.off, Len: h.size, Name: h.name, Value: value})
	}
	return s
}

// number shows a big-endian integer.
func number(b []byte, hex bool) string {
	n := uint64(0)
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	if hex {
		return fmt.Sprintf("%#x", n)
	}
	return fmt.Sprint(n)
}

// span describes what stands at off.
func (p parser) span(off int64, budget *int64) codec.Span {
	if p.isBlank(off) {
		return codec.Span{Off: off, Len: blankSize, Kind: "blank"}
	}
	rec, b, err := p.whole(off)
	if err == nil && (off == offDummy) == (rec.typ == typeDummy) {
		return p.recordSpan(rec, b)
	}
	if err == nil {
		err = fmt.Errorf("a record of type %q does not belong here", rec.typ)
	}
	s := codec.Span{Off: off, Len: p.resync(off, budget) - off, Kind: "garbage", Problem: err.Error()}
	if rec, b, err := p.shape(off); err == nil && rec.size == s.Len {
		problem := s.Problem
		s = p.recordSpan(rec, b)
		s.Problem = problem
	} else if p.isZero(off, s.Len) {
		s.Kind = "zeros"
	}
	return s
}

func (p parser) isZero(off, n int64) bool {
	const step = 8
	for end := off + n; off < end; off = p.v.PastZeros(off+step, end) {
		b, err := p.bytes(off, min(end-off, step))
		if err != nil {
			return false
		}
		for _, c := range b {
			if c != 0 {
				return false
			}
		}
	}
	return true
}

var spanKinds = map[byte]string{typeDummy: "dummy", typeRecord: "record", typeDelete: "delete", typeCommit: "commit"}

// recordSpan describes a record that lies within the file; b is its head.
func (p parser) recordSpan(rec record, b []byte) codec.Span {
	s := codec.Span{Off: rec.off, Len: rec.size, Kind: spanKinds[rec.typ]}
	at := rec.off
	add := func(name string, n int64, value string) {
		s.Fields = append(s.Fields, codec.Field{Off: at, Len: n, Name: name, Value: value})
		at += n
	}
	part := func(n int64) []byte { return b[at-rec.off : at-rec.off+n] }
	add("type", 1, fmt.Sprintf("%q", rec.typ))
	add("level", 1, fmt.Sprint(rec.level))
	add("keylen", 2, number(part(2), false))
	add("vallen", 4, number(part(4), false))
	if be.Uint16(b[2:]) == longKey {
		add("long keylen", ptrSize, fmt.Sprint(rec.klen))
	}
	if be.Uint32(b[4:]) == longValue {
		add("long vallen", ptrSize, fmt.Sprint(rec.vlen))
	}
	for i := range int(pointers(rec.level)) {
		add(slotName(rec.typ, i), ptrSize, number(part(ptrSize), true))
	}
	body, bodyErr := p.bytes(rec.body(), rec.size-rec.head)
	add("crc_head", crcSize, checked(part(crcSize), checksum(b[:rec.head-2*crcSize]), nil))
	add("crc_tail", crcSize, checked(part(crcSize), checksum(body), bodyErr))
	if rec.typ != typeRecord || bodyErr != nil {
		return s
	}
	add("key", rec.klen, quote(body[:rec.klen]))
	add("value", rec.vlen, quote(body[rec.klen:rec.klen+rec.vlen]))
	if n := rec.size - rec.head - rec.klen - rec.vlen; n > 0 {
		add("pad", n, "")
	}
	return s
}

func slotName(typ byte, i int) string {
	switch {
	case typ == typeDelete:
		return "next"
	case typ == typeCommit:
		return "start"
	case i < 2:
		return fmt.Sprintf("level 0 slot %d", i)
	}
	return fmt.Sprintf("level %d", i-1)
}

// checked shows a checksum and whether it is right.
func checked(have []byte, want uint32, err error) string {
	got := be.Uint32(have)
	switch {
	case err != nil:
		return fmt.Sprintf("%08x, not verified: %v", got, err)
	case got != want:
		return fmt.Sprintf("%08x, computed %08x", got, want)
	}
	return fmt.Sprintf("%08x ok", got)
}
