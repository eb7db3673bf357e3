package twoskip

import (
	"fmt"
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
	if on, err := c.dummy(nexts); err != nil || !on {
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

// dummy compares the DUMMY record. Every byte of it follows from the log, so that it is made anew if it is damaged.
func (c *linkCheck) dummy(nexts []int64) (bool, error) {
	if rec, _, err := c.whole(offDummy); err == nil && rec.typ == typeDummy {
		return c.record(head, nexts)
	}
	old, err := c.v.Bytes(offDummy, dummySize)
	if err != nil {
		return false, err
	}
	now := appendDummy(nil, append([]int64{0}, nexts...))
	mend := codec.Write{Off: offDummy, New: now, Old: slices.Clone(old)}
	return c.wrong(codec.WrongLink{From: head, Have: level0(int64(be.Uint64(old[fixedHead:])), int64(be.Uint64(old[fixedHead+ptrSize:])), c.end), Want: nexts[0], Mend: mend}), nil
}

// record compares the pointers of one record with what they should be.
func (c *linkCheck) record(r tree.Ref, nexts []int64) (bool, error) {
	rec, b, err := c.headAt(r.Offset())
	if err == nil && rec.level != r.Level() {
		err = fmt.Errorf("it has level %d instead of %d", rec.level, r.Level())
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
	have := parser{c.v, c.end}.through(level0(slot0, slot1, c.end))
	fresh := slot0 < c.end && slot1 < c.end
	if have != nexts[0] || !fresh {
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
		case d.have == d.want: // only a slot that leads beyond the end is in the way
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

// Recover implements codec.Codec. The steps, each synced before the next begins:
//
//  1. header DIRTY. Every opener recovers from here on; the log up to current_size is what counts, as before. One that
//     was written in part is completed before anything else: the tail that is cut off explains it.
//  2. heads set right: links that lead beyond current_size are cleared, wrong ones lead where the log says. A head that
//     was written and one that was not are both valid, and Cyrus's recovery walks and mends again whatever is mixed.
//  3. tail cut off. No head leads there any more.
//  4. header clean, with the number of records: the commit point. Before it every opener recovers once more, to the same
//     records; after it the file is as if the unfinished transaction had never been begun.
//
// Steps that have nothing to do are left out. A file whose committed part is damaged is not touched.
func (format) Recover(v *codec.View, h codec.Header, log codec.Log, links []codec.Write, live tree.Tree, _ time.Time) (codec.Plan, error) {
	if log.State == codec.Damaged || log.End != h.End {
		return codec.Plan{}, v.Errorf(log.Offset, "", "the committed part ends at %#x, readable is it to %#x: %s", h.End, log.End, log.Problem)
	}
	dirty, clean := h, h
	dirty.Dirty, dirty.Torn = true, false
	clean.Dirty, clean.Torn, clean.Records = false, false, uint64(live.Len())
	plan := codec.Plan{Header: clean, Size: log.End}
	var heads []codec.Write
	for _, w := range links {
		if w.Off >= headerSize {
			heads = append(heads, w)
		}
	}
	cut := v.Size > log.End
	if h.Torn || !h.Dirty && (len(heads) > 0 || cut) {
		first := writeHeader(h, dirty)
		if have, err := v.Bytes(0, headerSize); err == nil {
			first.Old = slices.Clone(have) // a torn header is none that could be made again
		}
		plan.Phases = append(plan.Phases, codec.Phase{Writes: []codec.Write{first}})
		h = dirty
	}
	if len(heads) > 0 {
		plan.Phases = append(plan.Phases, codec.Phase{Writes: heads})
	}
	if cut {
		plan.Phases = append(plan.Phases, codec.Phase{Cut: log.End})
	}
	if h != clean {
		plan.Phases = append(plan.Phases, codec.Phase{Writes: []codec.Write{writeHeader(h, clean)}})
	}
	plan.CommitPhase = max(0, len(plan.Phases)-1)
	return plan, nil
}
