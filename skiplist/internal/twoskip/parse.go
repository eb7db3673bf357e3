package twoskip

import (
	"fmt"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// record is a parsed record of any type.
type record struct {
	typ        byte
	level      int
	off        int64
	klen, vlen int64
	ptrs       int64 // where the pointers stand
	head       int64 // size of the head, up to and including both checksums
	size       int64
	crcTail    uint32
}

func (r record) body() int64         { return r.off + r.head }
func (r record) slotOff(i int) int64 { return r.ptrs + int64(i)*ptrSize }
func (r record) slot(b []byte, i int) int64 {
	return int64(be.Uint64(b[r.slotOff(i)-r.off:]))
}

// parser reads records of a view.
type parser struct {
	v   *codec.View
	end int64
}

// shape parses the fields that say how large the record is, without verifying checksums. b is the head.
func (p parser) shape(off int64) (r record, b []byte, err error) {
	if off > p.end-markSize {
		return r, nil, fmt.Errorf("the file ends within a record")
	}
	b, err = p.v.Bytes(off, fixedHead)
	if err != nil {
		return r, nil, err
	}
	r = record{typ: b[0], level: int(b[1]), off: off, klen: int64(be.Uint16(b[2:])), vlen: int64(be.Uint32(b[4:])), ptrs: off + fixedHead}
	switch r.typ {
	case typeDummy, typeRecord, typeDelete, typeCommit:
	default:
		return r, nil, fmt.Errorf("type %#x is none of a record", r.typ)
	}
	if r.level > maxLevel || r.typ == typeRecord && (r.level == 0 || r.klen == 0) {
		return r, nil, fmt.Errorf("level %d, key length %d: not possible", r.level, r.klen)
	}
	if err := p.long(&r); err != nil {
		return r, nil, err
	}
	r.head = r.ptrs - off + pointers(r.level)*ptrSize + 2*crcSize
	if r.klen < 0 || r.vlen < 0 || r.klen > p.end || r.vlen > p.end {
		return r, nil, fmt.Errorf("a key of %d bytes and a value of %d do not fit", r.klen, r.vlen)
	}
	r.size = r.head + pad(r.klen+r.vlen)
	if off > p.end-r.size {
		return r, nil, fmt.Errorf("the record of %d bytes runs beyond the end", r.size)
	}
	b, err = p.v.Bytes(off, r.head)
	if err == nil {
		r.crcTail = be.Uint32(b[r.head-crcSize:])
	}
	return r, b, err
}

// long reads the lengths that do not fit into their fields.
func (p parser) long(r *record) error {
	for _, l := range []struct {
		n    *int64
		mark int64
	}{{&r.klen, longKey}, {&r.vlen, longValue}} {
		if *l.n != l.mark {
			continue
		}
		b, err := p.v.Bytes(r.ptrs, ptrSize)
		if err != nil {
			return fmt.Errorf("the file ends within a length")
		}
		*l.n = int64(be.Uint64(b))
		r.ptrs += ptrSize
	}
	return nil
}

// head parses the record at off and verifies the checksum of its head.
func (p parser) headAt(off int64) (record, []byte, error) {
	r, b, err := p.shape(off)
	if err != nil {
		return r, nil, err
	}
	at := r.head - 2*crcSize
	if got, want := be.Uint32(b[at:]), checksum(b[:at]); got != want {
		return r, nil, fmt.Errorf("head checksum %08x, computed %08x", got, want)
	}
	return r, b, nil
}

// whole parses the record at off and verifies both checksums.
func (p parser) whole(off int64) (record, []byte, error) {
	r, b, err := p.headAt(off)
	if err != nil {
		return r, nil, err
	}
	body, err := p.v.Bytes(r.body(), r.size-r.head)
	if err != nil {
		return r, nil, err
	}
	if got := checksum(body); got != r.crcTail {
		return r, nil, fmt.Errorf("checksum of key and value %08x, computed %08x", r.crcTail, got)
	}
	return r, b, nil
}

// settled is whole for records that a replay has accepted: of the head it wants no more than its shape. A writer may be
// rewriting the links in it at this moment, and readers have no need of them.
func (p parser) settled(off int64) (record, []byte, error) {
	r, b, err := p.whole(off)
	if err != nil && p.bodyVerifies(off) {
		return p.shape(off)
	}
	return r, b, err
}

// bodyVerifies tells whether key and value are whole, whatever the pointers are.
func (p parser) bodyVerifies(off int64) bool {
	r, _, err := p.shape(off)
	if err != nil {
		return false
	}
	body, err := p.v.Bytes(r.body(), r.size-r.head)
	return err == nil && checksum(body) == r.crcTail
}

func (p parser) isBlank(off int64) bool {
	if off > p.end-blankSize {
		return false
	}
	b, err := p.v.Bytes(off, blankSize)
	return err == nil && string(b) == blank
}

// skipBlanks is where the next record stands.
func (p parser) skipBlanks(off int64) int64 {
	for p.isBlank(off) {
		off += blankSize
	}
	return off
}

// key returns the key of a parsed record.
func (p parser) key(r record) ([]byte, error) { return p.v.Bytes(r.body(), r.klen) }

// level0 is the effective pointer of the first level when the log ends at end: of the two alternatives the larger that
// is not beyond it.
func level0(slot0, slot1, end int64) int64 {
	switch {
	case slot0 >= end:
		return slot1
	case slot1 >= end:
		return slot0
	}
	return max(slot0, slot1)
}

// setLevel0 writes a new pointer of the first level into the slots so that the one that was valid at the last commit,
// when the file ended at committed, stays.
func setLevel0(slot0, slot1 *int64, committed, to int64) {
	switch {
	case *slot0 >= committed:
		*slot0 = to
	case *slot1 >= committed:
		*slot1 = to
	case *slot1 > *slot0:
		*slot0 = to
	default:
		*slot1 = to
	}
}
