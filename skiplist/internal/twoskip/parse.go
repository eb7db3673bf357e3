package twoskip

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/mailspine/mailspine/internal/planted"
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
func (r record) crcHeadOff() int64   { return r.off + r.head - 2*crcSize }
func (r record) slot(b []byte, i int) int64 {
	return int64(be.Uint64(b[r.slotOff(i)-r.off:]))
}

// errWithin says that the committed part, or the file, ends too early.
var errWithin = errors.New("the file ends within a record")

// parser reads records of a view, up to end.
type parser struct {
	v   *codec.View
	end int64
}

func (p parser) bytes(off, n int64) ([]byte, error) { return p.v.Bytes(off, n) }

// outline parses the fields that say how large the record is, and reads its head. It verifies no checksum, nor that the
// key and the value lie within the file.
func (p parser) outline(off int64) (r record, b []byte, err error) {
	if off < 0 || off > p.end-markSize {
		return r, nil, errWithin
	}
	b, err = p.bytes(off, fixedHead)
	if err != nil {
		return r, nil, err
	}
	r = record{typ: b[0], level: int(b[1]), off: off, klen: int64(be.Uint16(b[2:])), vlen: int64(be.Uint32(b[4:])), ptrs: off + fixedHead}
	if !r.possible() {
		return r, nil, fmt.Errorf("a record of type %#x with level %d, lengths %d and %d is not possible", r.typ, r.level, r.klen, r.vlen)
	}
	if err := p.long(&r); err != nil {
		return r, nil, err
	}
	r.head = r.ptrs - off + pointers(r.level)*ptrSize + 2*crcSize
	if r.klen < 0 || r.vlen < 0 || r.klen > maxLength || r.vlen > maxLength || r.typ == typeRecord && r.klen == 0 {
		return r, nil, fmt.Errorf("a key of %d bytes and a value of %d are not possible", uint64(r.klen), uint64(r.vlen))
	}
	r.size = r.head + pad(r.klen+r.vlen)
	if off > p.end-r.head {
		return r, nil, errWithin
	}
	b, err = p.bytes(off, r.head)
	if err == nil {
		r.crcTail = be.Uint32(b[r.head-crcSize:])
	}
	return r, b, err
}

// possible tells whether the fixed fields are those of a record that a writer makes.
func (r *record) possible() bool {
	switch r.typ {
	case typeRecord:
		return r.level >= 1 && r.level <= maxLevel && r.klen >= 1
	case typeDelete, typeCommit:
		return r.level == 0 && r.klen == 0 && r.vlen == 0
	case typeDummy:
		return r.level == maxLevel && r.klen == 0 && r.vlen == 0
	}
	return false
}

// shape is outline for a record that lies wholly within the file.
func (p parser) shape(off int64) (r record, b []byte, err error) {
	if r, b, err = p.outline(off); err == nil && off > p.end-r.size {
		err = fmt.Errorf("the record of %d bytes runs beyond %#x", r.size, p.end)
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
		b, err := p.bytes(r.ptrs, ptrSize)
		if err != nil {
			return errWithin
		}
		*l.n = int64(be.Uint64(b))
		r.ptrs += ptrSize
	}
	return nil
}

// headAt parses the record at off and verifies the checksum of its head.
func (p parser) headAt(off int64) (record, []byte, error) {
	r, b, err := p.shape(off)
	if err == nil {
		err = r.verifyHead(b)
	}
	if err != nil {
		return r, nil, err
	}
	return r, b, nil
}

func (r *record) verifyHead(b []byte) error {
	at := r.head - 2*crcSize
	if planted.On(planted.HeadUnchecked) {
		return nil
	}
	if got, want := be.Uint32(b[at:]), checksum(b[:at]); got != want {
		return fmt.Errorf("head checksum %08x, computed %08x", got, want)
	}
	return nil
}

// whole parses the record at off and verifies both checksums.
func (p parser) whole(off int64) (record, []byte, error) {
	r, b, err := p.headAt(off)
	if err != nil {
		return r, nil, err
	}
	body, err := p.bytes(r.body(), r.size-r.head)
	if err != nil {
		return r, nil, err
	}
	if got := checksum(body); got != r.crcTail {
		return r, nil, fmt.Errorf("checksum of key and value %08x, computed %08x", r.crcTail, got)
	}
	return r, b, nil
}

// quick is whole for the usual case, a short RECORD in the mapped file. For everything else, what is damaged included,
// it returns 0.
func (p parser) quick(off int64) (size int64, level int) {
	end := min(p.end, int64(len(p.v.Mem)))
	if off > end-fixedHead {
		return 0, 0
	}
	b := p.v.Mem[off:end:end]
	if b[0] != typeRecord {
		return 0, 0
	}
	klen, vlen := int64(be.Uint16(b[2:])), int64(be.Uint32(b[4:]))
	if level = int(b[1]); level == 0 || level > maxLevel || klen == 0 || klen == longKey || vlen == longValue {
		return 0, 0
	}
	head := fixedHead + pointers(level)*ptrSize + 2*crcSize
	size = head + pad(klen+vlen)
	if size > int64(len(b)) || be.Uint32(b[head-2*crcSize:]) != checksum(b[:head-2*crcSize]) ||
		be.Uint32(b[head-crcSize:]) != checksum(b[head:size]) {
		return 0, 0
	}
	return size, level
}

// settled is whole for readers without a lock. A writer may be rewriting the head at this moment; if only the head does
// not verify it is read again, for about as long as a writer can be held up in the middle of a copy.
func (p parser) settled(off int64) (record, []byte, error) {
	for try := 0; ; try++ {
		r, b, err := p.whole(off)
		if err == nil || try == 70 || !p.bodyVerifies(off) {
			return r, b, err
		}
		if try < 50 {
			runtime.Gosched()
		} else {
			time.Sleep(time.Millisecond)
		}
	}
}

// apartFromLinks is whole for a salvage: a record whose head does not verify, while its key and value do, is taken for
// one whose links were being rewritten when the disk failed.
func (p parser) apartFromLinks(off int64) (record, []byte, error) {
	r, b, err := p.whole(off)
	if err != nil && p.bodyVerifies(off) {
		if r, b, err := p.shape(off); err == nil && r.typ == typeRecord {
			return r, b, nil
		}
	}
	return r, b, err
}

// bodyVerifies tells whether key and value are whole, whatever the pointers are.
func (p parser) bodyVerifies(off int64) bool {
	r, _, err := p.shape(off)
	if err != nil {
		return false
	}
	body, err := p.bytes(r.body(), r.size-r.head)
	return err == nil && checksum(body) == r.crcTail
}

func (p parser) isBlank(off int64) bool {
	if off > p.end-blankSize {
		return false
	}
	b, err := p.bytes(off, blankSize)
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
func (p parser) key(r record) ([]byte, error) { return p.bytes(r.body(), r.klen) }

// rawNext is where the first-level link of the record at off leads, be it a DELETE record; 0 if there is none.
func (p parser) rawNext(off int64) int64 {
	rec, b, err := p.headAt(off)
	if err != nil || rec.level == 0 {
		return 0
	}
	return level0(rec.slot(b, 0), rec.slot(b, 1), p.end)
}

// through follows the DELETE records of a first-level link to the live one. They only lead backwards in the file, so
// the way ends.
func (p parser) through(to int64) int64 {
	for to >= emptySize && to < p.end {
		rec, b, err := p.headAt(to)
		if err != nil || rec.typ != typeDelete {
			return to
		}
		next := rec.slot(b, 0)
		if next >= to {
			return next
		}
		to = next
	}
	return to
}

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
	case *slot0 >= committed || planted.On(planted.OldSlotOverwritten):
		*slot0 = to
	case *slot1 >= committed:
		*slot1 = to
	case *slot1 > *slot0:
		*slot0 = to
	default:
		*slot1 = to
	}
}
