package twoskip

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// CheckLinks implements codec.Codec.
func (f format) CheckLinks(v *codec.View, h codec.Header, live tree.Tree, wrong func(codec.WrongLink) bool) error {
	p := parser{v, v.End()}
	c := linkCheck{parser: p, end: h.End, wrong: wrong}
	nexts := make([]int64, maxLevel)
	// From the last record to the first, so that the successor on each level is known.
	for cur := live.Last(); cur.Ref() != 0; cur.Prev() {
		r := cur.Ref()
		if on, err := c.record(r, nexts); err != nil || !on {
			return err
		}
		for i := range r.Level() {
			nexts[i] = r.Offset()
		}
	}
	if on, err := c.record(head, nexts); err != nil || !on {
		return err
	}
	if h.Records != uint64(live.Len()) {
		now := h
		now.Records = uint64(live.Len())
		wrong(codec.WrongLink{Have: int64(h.Records), Want: int64(live.Len()), Mend: writeHeader(h, now)})
	}
	return nil
}

type linkCheck struct {
	parser
	end   int64
	wrong func(codec.WrongLink) bool
}

// record compares the pointers of one record with what they should be.
func (c *linkCheck) record(r tree.Ref, nexts []int64) (bool, error) {
	rec, b, err := c.headAt(r.Offset())
	torn := err != nil && c.bodyVerifies(r.Offset())
	if torn {
		rec, b, err = c.shape(r.Offset())
	}
	if err != nil {
		return false, c.v.Errorf(r.Offset(), "head", "%v", err)
	}
	type diff struct {
		level      int
		have, want int64
	}
	var diffs []diff
	slot0, slot1 := rec.slot(b, 0), rec.slot(b, 1)
	have := c.through(level0(slot0, slot1, c.end))
	fresh := slot0 < c.end && slot1 < c.end
	if have != nexts[0] || !fresh || torn {
		diffs = append(diffs, diff{0, have, nexts[0]})
	}
	for level := 1; level < rec.level; level++ {
		if have := rec.slot(b, level+1); have != nexts[level] {
			diffs = append(diffs, diff{level, have, nexts[level]})
		}
	}
	if len(diffs) == 0 {
		return true, nil
	}
	now := slices.Clone(b)
	for _, d := range diffs {
		switch {
		case d.level > 0:
			be.PutUint64(now[rec.slotOff(d.level+1)-rec.off:], uint64(d.want))
		case d.have == d.want && !torn: // only a slot that leads beyond the end is in the way
			for i, s := range []int64{slot0, slot1} {
				if s >= c.end {
					be.PutUint64(now[rec.slotOff(i)-rec.off:], 0)
				}
			}
		default:
			be.PutUint64(now[rec.slotOff(0)-rec.off:], 0)
			be.PutUint64(now[rec.slotOff(1)-rec.off:], uint64(d.want))
		}
	}
	at := rec.head - 2*crcSize
	be.PutUint32(now[at:], checksum(now[:at]))
	mend := codec.Write{Off: rec.off, New: now, Old: slices.Clone(b)}
	for _, d := range diffs {
		if !c.wrong(codec.WrongLink{From: r, Level: d.level, Have: d.have, Want: d.want, Mend: mend}) {
			return false, nil
		}
	}
	return true, nil
}

// through follows the DELETE records of a first-level link to the live one. They only lead backwards in the file, so
// the way ends.
func (c *linkCheck) through(to int64) int64 {
	for range 1 << 16 {
		if to < emptySize || to >= c.end {
			return to
		}
		rec, b, err := c.headAt(to)
		if err != nil || rec.typ != typeDelete {
			return to
		}
		next := rec.slot(b, 0)
		if next >= to {
			return next
		}
		to = next
	}
	return -1
}

// Recover implements codec.Codec. The steps, each synced before the next begins, and what a crash after it leaves:
//
//  1. header DIRTY: every opener recovers;
//  2. heads set right; none of them leads beyond the committed end any more;
//  3. tail cut off;
//  4. header clean, with the number of records.
func (format) Recover(v *codec.View, h codec.Header, log codec.Log, links []codec.Write, live tree.Tree, _ time.Time) (codec.Plan, error) {
	dirty, clean := h, h
	dirty.Dirty = true
	clean.Dirty, clean.Records = false, uint64(live.Len())
	plan := codec.Plan{Header: clean, Size: log.End}
	if !h.Dirty {
		plan.Phases = append(plan.Phases, codec.Phase{Writes: []codec.Write{writeHeader(h, dirty)}})
	}
	var heads []codec.Write
	for _, w := range links {
		if w.Off >= headerSize {
			heads = append(heads, w)
		}
	}
	if len(heads) > 0 {
		plan.Phases = append(plan.Phases, codec.Phase{Writes: heads})
	}
	if v.Size > log.End {
		plan.Phases = append(plan.Phases, codec.Phase{Cut: log.End})
	}
	plan.Phases = append(plan.Phases, codec.Phase{Writes: []codec.Write{writeHeader(dirty, clean)}})
	plan.CommitPhase = len(plan.Phases) - 1
	return plan, nil
}

// emitChunk is how much of a new file is handed on at once.
const emitChunk = 256 << 10

// Rewrite implements codec.Codec. Heights are drawn anew, as Cyrus does, from a generator that begins the same way every
// time: they need not be hard to guess, and the same records make the same file. It needs, for a while, 8 bytes for each
// pointer of a record.
func (f format) Rewrite(v *codec.View, h codec.Header, live tree.Tree, _ time.Time, emit func([]byte) error) (codec.Rewritten, error) {
	lay, err := f.layOut(v, live)
	if err != nil {
		return codec.Rewritten{}, err
	}
	commitAt := lay.end + blankSize*blanks(lay.end, markSize)
	out := codec.Header{
		Version: version, Generation: h.Generation + 1, Records: uint64(live.Len()), LogStart: lay.end,
		End: commitAt + markSize, MaxLevel: maxLevel,
	}
	if live.Len() == 0 {
		out.End = lay.end
	}
	buf := appendHeader(make([]byte, 0, emitChunk+emitChunk/4), out)
	buf = appendDummy(buf, lay.first[:])
	ed := tree.Edit(tree.Tree{}, tree.Lookup{})
	base, ptrs := int64(0), lay.ptrs
	i := 0
	for c := live.First(); c.Ref() != 0; c.Next() {
		key, value, err := f.Record(v, c.Ref())
		if err != nil {
			return codec.Rewritten{}, err
		}
		level := int(lay.levels[i])
		var off int64
		buf, off = appendRecord(buf, base, key, value, ptrs[:level+1], level)
		ed.Append(tree.NewRef(off, level))
		ptrs = ptrs[level+1:]
		i++
		if len(buf) >= emitChunk {
			if err := emit(buf); err != nil {
				return codec.Rewritten{}, err
			}
			base += int64(len(buf))
			buf = buf[:0]
		}
	}
	if live.Len() > 0 {
		buf, _ = appendBlanks(buf, base, markSize)
		buf = appendMark(buf, typeCommit, emptySize)
	}
	if err := emit(buf); err != nil {
		return codec.Rewritten{}, err
	}
	return codec.Rewritten{Live: ed.Tree(), Header: out, Size: out.End}, nil
}

// layout is where everything in a new file will stand.
type layout struct {
	end    int64
	levels []uint8
	ptrs   []int64 // the slots of all records, one record after the other
	first  [maxLevel + 1]int64
}

// layOut computes the offsets of the records in a new file and from them the pointers.
func (f format) layOut(v *codec.View, live tree.Tree) (*layout, error) {
	lay := &layout{end: emptySize}
	random := rand.New(rand.NewPCG(1, 2))
	var last [maxLevel]int // where in ptrs the pointer stands that waits for its target; -1 for the DUMMY's
	for i := range last {
		last[i] = -1
	}
	for c := live.First(); c.Ref() != 0; c.Next() {
		key, value, err := f.Record(v, c.Ref())
		if err != nil {
			return nil, err
		}
		level := 1 + min(bits.TrailingZeros64(random.Uint64()), maxLevel-1)
		hs := headSize(int64(len(key)), int64(len(value)), level)
		off := lay.end + blankSize*blanks(lay.end, hs)
		start := len(lay.ptrs)
		lay.ptrs = append(lay.ptrs, make([]int64, level+1)...)
		for i := range level {
			if last[i] < 0 {
				lay.first[i+1] = off
			} else {
				lay.ptrs[last[i]] = off
			}
			last[i] = start + i + 1
		}
		lay.levels = append(lay.levels, uint8(level))
		lay.end = off + hs + pad(int64(len(key)+len(value)))
	}
	return lay, nil
}
