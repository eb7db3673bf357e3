package twoskip

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// Put implements codec.Codec. A value that is there already is not written again. A replacement gets a height of its
// own.
func (f format) Put(t *codec.Txn, key, value []byte, old tree.Ref) (tree.Ref, error) {
	if len(key) == 0 {
		return 0, codec.ErrInvalidKey
	}
	if old != 0 {
		if _, have, err := f.Record(t.View, old); err == nil && bytes.Equal(have, value) {
			return old, nil
		}
	}
	level := drawLevel(t.Random())
	var off int64
	t.View.Tail, off = appendRecord(t.View.Tail, t.View.Size, key, value, make([]int64, pointers(level)), level)
	return tree.NewRef(off, level), nil
}

// Delete implements codec.Codec.
func (format) Delete(t *codec.Txn, _, next tree.Ref) error {
	b, _ := appendBlanks(t.View.Tail, t.View.Size, markSize)
	t.View.Tail = appendMark(b, typeDelete, next.Offset())
	return nil
}

// appendBlanks fills up so that a head of the given size can follow, and tells the offset where it will stand. base is
// the offset of b's first byte.
func appendBlanks(b []byte, base, head int64) ([]byte, int64) {
	for range blanks(base+int64(len(b)), head) {
		b = append(b, blank...)
	}
	return b, base + int64(len(b))
}

func appendRecord(b []byte, base int64, key, value []byte, ptrs []int64, level int) ([]byte, int64) {
	klen, vlen := int64(len(key)), int64(len(value))
	b, off := appendBlanks(b, base, headSize(klen, vlen, level))
	b = appendHead(b, typeRecord, level, klen, vlen, ptrs, 0)
	body := len(b)
	b = append(append(b, key...), value...)
	b = append(b, make([]byte, pad(klen+vlen)-klen-vlen)...)
	be.PutUint32(b[body-crcSize:], checksum(b[body:]))
	return b, off
}

// sealer sets the links around the changes of a transaction.
type sealer struct {
	t       *codec.Txn
	f       format
	look    tree.Lookup
	heads   map[int64]*headPatch
	deletes map[int64]int64 // where a DELETE of the transaction leads, and the last one that leads there
}

// headPatch is a head of the file that is to be rewritten.
type headPatch struct {
	rec      record
	old, now []byte
}

// Seal implements codec.Codec.
//
// Commit point: the clean header with the new current_size, one sector, written in the third phase. Before it is on the
// disk current_size is the old one and the header says DIRTY: every opener, Cyrus too, cuts the file there and follows
// the first-level pointers that do not lead beyond it, which each rewritten head keeps beside the new ones. The sync of
// the second phase has made sure that all the header vouches for is on the disk before it.
func (f format) Seal(t *codec.Txn) (codec.Plan, error) {
	s := sealer{t: t, f: f, heads: map[int64]*headPatch{}, deletes: map[int64]int64{}}
	s.look = codec.Lookup(f, t.View, t.Compare)
	s.findDeletes()
	for _, touch := range t.Touched {
		if err := s.link(touch); err != nil {
			return codec.Plan{}, err
		}
	}
	base := t.View.Size
	s.checksumTail()
	b, _ := appendBlanks(slices.Clip(t.View.Tail), base, markSize)
	t.View.Tail = appendMark(b, typeCommit, base)

	h := t.Header
	dirty := h
	dirty.Dirty = !planted.On(planted.DirtyUnmarked)
	next := h
	next.Dirty, next.End, next.Records = false, t.View.End(), uint64(t.Live.Len())
	second := []codec.Write{{Off: base, New: t.View.Tail}}
	for _, p := range s.heads {
		at := p.rec.head - 2*crcSize
		be.PutUint32(p.now[at:], checksum(p.now[:at]))
		second = append(second, codec.Write{Off: p.rec.off, New: p.now, Old: p.old})
	}
	slices.SortFunc(second[1:], func(a, b codec.Write) int { return cmp.Compare(a.Off, b.Off) })
	return codec.Plan{
		Phases: []codec.Phase{
			{Writes: []codec.Write{writeHeader(h, dirty)}},
			{Writes: second},
			{Writes: []codec.Write{writeHeader(dirty, next)}},
		},
		CommitPhase: 2,
		Header:      next,
		Size:        next.End,
	}, nil
}

// findDeletes lists the DELETE records in the tail.
func (s *sealer) findDeletes() {
	p := parser{s.t.View, s.t.View.End()}
	for off := s.t.View.Size; off < p.end; {
		if p.isBlank(off) {
			off += blankSize
			continue
		}
		rec, b, err := p.shape(off)
		if err != nil {
			return
		}
		if rec.typ == typeDelete {
			s.deletes[rec.slot(b, 0)] = off
		}
		off += rec.size
	}
}

// checksumTail computes the head checksums of the new records, now that their pointers are final.
func (s *sealer) checksumTail() {
	v := s.t.View
	p := parser{v, v.End()}
	for off := v.Size; off < p.end; {
		if p.isBlank(off) {
			off += blankSize
			continue
		}
		rec, b, err := p.shape(off)
		if err != nil {
			return
		}
		at := rec.head - 2*crcSize
		be.PutUint32(v.Tail[off-v.Size+at:], checksum(b[:at]))
		off += rec.size
	}
}

// link sets the pointers of a changed record, and those that lead over its place.
func (s *sealer) link(touch codec.Touch) error {
	at, exact := s.t.Live.Seek(s.look, touch.Key)
	self := tree.Ref(0)
	after := at
	if exact {
		self = at.Ref()
		after.Next()
	}
	before := at
	before.Prev()
	base := s.t.View.Size
	for level := range max(touch.Level, self.Level()) {
		next := after.ForwardTo(level)
		prev := before.BackTo(level)
		if prev == 0 {
			prev = head
		}
		if level < self.Level() && self.Offset() >= base {
			to := next.Offset()
			if level == 0 {
				to = s.first(self, prev, next, touch.Key)
			}
			s.setNew(self, level, to)
		}
		if level < self.Level() {
			next = self
		}
		if prev.Offset() < base {
			if err := s.setOld(prev, level, next.Offset()); err != nil {
				return err
			}
		}
	}
	return nil
}

// first is what the first-level link of a new record leads to. It is the next record, unless one between them was
// deleted after the new one was added: then it is that DELETE, so that a salvage can tell (see certain) that the new
// record was not what it deleted. Where Cyrus would copy a link that leads to the next record over an older DELETE, so
// do we.
func (s *sealer) first(self, prev, next tree.Ref, key []byte) int64 {
	base := s.t.View.Size
	if d := s.deletes[next.Offset()]; d > self.Offset() {
		return d
	}
	if prev.Offset() >= base || next.Offset() >= base {
		return next.Offset()
	}
	p := parser{s.t.View, base}
	raw := p.rawNext(prev.Offset())
	if rec, _, err := p.headAt(p.through(raw)); err == nil && rec.typ == typeRecord {
		if k, err := p.key(rec); err == nil && s.t.Compare(k, key) == 0 {
			raw = p.rawNext(rec.off) // the record that is replaced
		}
	}
	if p.through(raw) != next.Offset() {
		return next.Offset()
	}
	return raw
}

// setOld makes the pointer of a record that was there before lead to next.
func (s *sealer) setOld(r tree.Ref, level int, next int64) error {
	v := s.t.View
	p := s.heads[r.Offset()]
	if p == nil {
		rec, b, err := parser{v, v.Size}.headAt(r.Offset())
		if err == nil && rec.level != r.Level() {
			err = fmt.Errorf("it has level %d instead of %d", rec.level, r.Level())
		}
		if err != nil {
			return v.Errorf(r.Offset(), "head", "%v", err)
		}
		p = &headPatch{rec: rec, old: slices.Clone(b), now: slices.Clone(b)}
	}
	changed := false
	if level > 0 {
		slot := p.now[p.rec.slotOff(level+1)-p.rec.off:]
		if changed = be.Uint64(slot) != uint64(next); changed {
			be.PutUint64(slot, uint64(next))
		}
	} else {
		changed = s.setOld0(p, next)
	}
	if changed {
		s.heads[r.Offset()] = p
	}
	return nil
}

// setNew sets a pointer of a record of this transaction. On the first level the second alternative is used.
func (s *sealer) setNew(r tree.Ref, level int, next int64) {
	v := s.t.View
	rec, _, err := parser{v, v.End()}.shape(r.Offset())
	if err != nil {
		return // it was written by Put
	}
	be.PutUint64(v.Tail[rec.slotOff(level+1)-v.Size:], uint64(next))
}

// setOld0 sets the first-level pointer of a record that was there before. It may only lead to what this transaction
// appends, so that until the commit the other alternative holds: to a new record or, where records were deleted, to the
// DELETE record that leads to the next.
func (s *sealer) setOld0(p *headPatch, next int64) (changed bool) {
	slot0, slot1 := p.rec.slot(p.now, 0), p.rec.slot(p.now, 1)
	base := s.t.View.Size
	if d := s.deletes[next]; d != 0 {
		next = d
	} else if next < base {
		return false // nothing between the two has changed
	}
	if level0(slot0, slot1, s.t.View.End()) == next {
		return false
	}
	setLevel0(&slot0, &slot1, base, next)
	be.PutUint64(p.now[p.rec.slotOff(0)-p.rec.off:], uint64(slot0))
	be.PutUint64(p.now[p.rec.slotOff(1)-p.rec.off:], uint64(slot1))
	return true
}
