package v1

import (
	"fmt"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// parser reads records of a view. Its errors are short: the caller knows the place.
type parser struct {
	v   *codec.View
	end int64
	max int // levels allowed
}

func newParser(v *codec.View, h codec.Header) parser {
	m := h.MaxLevel
	if m <= 0 || m > maxLevel {
		m = maxLevel
	}
	return parser{v: v, end: v.End(), max: m}
}

func (p parser) word(off int64) (uint32, error) {
	b, err := p.v.Bytes(off, word)
	if err != nil {
		return 0, err
	}
	return be.Uint32(b), nil
}

// record parses the INORDER or ADD record at off, whose type word was read.
func (p parser) record(off int64, typ uint32) (record, error) {
	r := record{typ: typ, off: off}
	klen, err := p.word(off + word)
	if err != nil {
		return r, fmt.Errorf("the record is cut off in its key length")
	}
	r.klen = int64(klen)
	if klen == 0 {
		return r, fmt.Errorf("the key length is 0")
	}
	if r.dlenOff() > p.end-word {
		return r, fmt.Errorf("the key of %d bytes runs beyond the end of the file", klen)
	}
	dlen, err := p.word(r.dlenOff())
	if err != nil {
		return r, err
	}
	r.dlen = int64(dlen)
	at := r.ptrOff(0)
	if at > p.end-2*word {
		return r, fmt.Errorf("the value of %d bytes runs beyond the end of the file", dlen)
	}
	n := min(int64(p.max+1)*word, (p.end-at)&^3)
	if at < p.v.Size { // never across the border between file and tail
		n = min(n, p.v.Size-at)
	}
	b, err := p.v.Bytes(at, n)
	if err != nil {
		return r, err
	}
	for i := 0; i+word <= len(b); i += word {
		to := be.Uint32(b[i:])
		if to == terminator {
			r.level = i / word
			if r.level == 0 {
				return r, fmt.Errorf("the record has no pointers")
			}
			r.size = at + int64(i) + word - off
			return r, nil
		}
		if !p.pointer(to) {
			return r, fmt.Errorf("%#x stands where a pointer should", to)
		}
	}
	if n < int64(p.max+1)*word {
		return r, fmt.Errorf("the file ends within the pointers")
	}
	return r, fmt.Errorf("the record has more than %d pointers", p.max)
}

// maxLost bounds, in bytes, how far beyond the end of the file a pointer may lead. Cyrus writes links before what they lead
// to is on the disk, so after a crash they may lead to records that never got there.
const maxLost = 64 << 20

// pointer tells whether some writer can have written to as a pointer. If not, a length is damaged, and what looks like
// pointers is something else: were such a record taken as it seems, mending its links would destroy what stands there.
func (p parser) pointer(to uint32) bool {
	return to == 0 || to%word == 0 && to >= emptySize && int64(to) < p.end+maxLost
}

// padded tells whether the bytes that fill up key and value are zeros, as every writer leaves them.
func (p parser) padded(r record) bool {
	for _, at := range []struct{ from, to int64 }{{r.keyOff() + r.klen, r.dlenOff()}, {r.valueOff() + r.dlen, r.ptrOff(0)}} {
		if at.from == at.to {
			continue
		}
		b, err := p.v.Bytes(at.to-word, word)
		if err != nil || be.Uint32(b)<<(8*(word-(at.to-at.from))) != 0 {
			return false
		}
	}
	return true
}

// entry is any record of the log.
type entry struct {
	record
	target int64 // of a DELETE
}

// entry parses the log record at off.
func (p parser) entry(off int64) (entry, error) {
	typ, err := p.word(off)
	if err != nil {
		return entry{}, fmt.Errorf("the file ends within a record")
	}
	switch typ {
	case typeAdd:
		r, err := p.record(off, typ)
		return entry{record: r}, err
	case typeDelete:
		t, err := p.word(off + word)
		if err != nil {
			return entry{}, fmt.Errorf("the file ends within a DELETE record")
		}
		return entry{record{typ: typ, off: off, size: deleteSize}, int64(t)}, nil
	case typeCommit:
		return entry{record: record{typ: typ, off: off, size: commitSize}}, nil
	}
	return entry{}, fmt.Errorf("type word %#x where ADD, DELETE or COMMIT should stand", typ)
}

// key returns the key of a parsed record.
func (p parser) key(r record) ([]byte, error) { return p.v.Bytes(r.keyOff(), r.klen) }
