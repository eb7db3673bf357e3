package v1

import (
	"math"
	"slices"
	"time"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// CheckLinks implements codec.Codec.
func (format) CheckLinks(v *codec.View, h codec.Header, live tree.Tree, wrong func(codec.WrongLink) bool) error {
	var at [maxLevel]int64 // where the pointer stands that must lead to the next record of the level
	var from [maxLevel]tree.Ref
	for i := range at {
		from[i] = head
		at[i], _ = slotOff(v, head, i)
	}
	check := func(level int, want int64) (bool, error) {
		b, err := v.Bytes(at[level], word)
		if err != nil {
			return false, err
		}
		have := int64(be.Uint32(b))
		if have == want {
			return true, nil
		}
		mend := codec.Write{Off: at[level], New: be.AppendUint32(nil, uint32(want)), Old: be.AppendUint32(nil, uint32(have))}
		return wrong(codec.WrongLink{From: from[level], Level: level, Have: have, Want: want, Mend: mend}), nil
	}
	top := 0
	for c := live.First(); c.Ref() != 0; c.Next() {
		r := c.Ref()
		slot, err := slotOff(v, r, 0)
		if err != nil {
			return err
		}
		if r.Offset() > math.MaxUint32 {
			return v.Errorf(r.Offset(), "", "the record stands beyond the 4 GiB that links can address")
		}
		top = max(top, r.Level())
		for i := range min(r.Level(), maxLevel) {
			if on, err := check(i, r.Offset()); err != nil || !on {
				return err
			}
			at[i], from[i] = slot+int64(i)*word, r
		}
	}
	for i := range at {
		if on, err := check(i, 0); err != nil || !on {
			return err
		}
	}
	if top > h.CurLevel {
		now := h
		now.CurLevel = top
		wrong(codec.WrongLink{Have: int64(h.CurLevel), Want: int64(top), Mend: mendHeader(h, now)})
	}
	return nil
}

// Recover implements codec.Codec. The steps, each synced before the next begins, and what a crash after it leaves:
//
//  1. links and curlevel set right: the tail is still there, so every writer still recovers;
//  2. tail cut off: the file is whole, Cyrus may take it as it is;
//  3. header with the time of this recovery: nobody recovers again.
func (format) Recover(v *codec.View, h codec.Header, log codec.Log, links []codec.Write, live tree.Tree, now time.Time) (codec.Plan, error) {
	next := h
	next.Records, next.LastRecovery = uint64(live.Len()), now
	for c := live.First(); c.Ref() != 0; c.Next() {
		next.CurLevel = max(next.CurLevel, c.Ref().Level())
	}
	if log.State == codec.Damaged {
		return codec.Plan{}, v.Errorf(log.Offset, "", "%s", log.Problem)
	}
	plan := codec.Plan{Header: next, Size: log.End}
	var first []codec.Write
	for _, w := range links {
		if w.Off >= headerSize {
			first = append(first, w)
		}
	}
	if next.CurLevel > h.CurLevel {
		raised := h
		raised.CurLevel = next.CurLevel
		first = append(first, mendHeader(h, raised))
		h = raised
	}
	if len(first) > 0 {
		plan.Phases = append(plan.Phases, codec.Phase{Writes: first})
	}
	if v.Size > log.End {
		plan.Phases = append(plan.Phases, codec.Phase{Cut: log.End})
	}
	if planted.On(planted.CutBeforeLinks) {
		slices.Reverse(plan.Phases)
	}
	plan.Phases = append(plan.Phases, codec.Phase{Writes: []codec.Write{mendHeader(h, next)}})
	plan.CommitPhase = len(plan.Phases) - 1
	return plan, nil
}

// emitChunk is how much of a new file is handed on at once.
const emitChunk = 256 << 10

// Rewrite implements codec.Codec. Levels are kept, as Cyrus keeps them. It needs, for a while, 8 bytes for each pointer
// of a record, two on average.
func (f format) Rewrite(v *codec.View, h codec.Header, live tree.Tree, now time.Time, emit func([]byte) error) (codec.Rewritten, error) {
	lay, err := f.layOut(v, live)
	if err != nil {
		return codec.Rewritten{}, err
	}
	out := codec.Header{
		Version: version, MinorVersion: max(h.MinorVersion, versionMinor), MaxLevel: maxLevel,
		CurLevel: max(h.CurLevel, lay.top, 1), Records: uint64(live.Len()), LogStart: lay.size, LastRecovery: now,
	}
	buf := appendHeader(make([]byte, 0, emitChunk+emitChunk/4), out)
	buf = appendDummy(buf, lay.first[:])
	ed := tree.Edit(tree.Tree{}, tree.Lookup{})
	off, ptrs := int64(emptySize), lay.ptrs
	for c := live.First(); c.Ref() != 0; c.Next() {
		r := c.Ref()
		key, value, err := f.Record(v, r)
		if err != nil {
			return codec.Rewritten{}, err
		}
		n := len(buf)
		buf = appendRecord(buf, typeInorder, key, value, ptrs[:r.Level()])
		ed.Append(tree.NewRef(off, r.Level()), key)
		off += int64(len(buf) - n)
		ptrs = ptrs[r.Level():]
		if len(buf) >= emitChunk {
			if err := emit(buf); err != nil {
				return codec.Rewritten{}, err
			}
			buf = buf[:0]
		}
	}
	if err := emit(buf); err != nil {
		return codec.Rewritten{}, err
	}
	return codec.Rewritten{Live: ed.Tree(), Header: out, Size: off}, nil
}

// layout is where everything in a new file will stand.
type layout struct {
	size  int64
	top   int
	ptrs  []uint32 // the pointers of all records, one record after the other
	first [maxLevel]uint32
}

// layOut computes the offsets of the records in a new file and from them the pointers.
func (f format) layOut(v *codec.View, live tree.Tree) (*layout, error) {
	lay := &layout{size: emptySize}
	var last [maxLevel]int // where in ptrs the pointer stands that waits for its target; -1 for the DUMMY's
	for i := range last {
		last[i] = -1
	}
	for c := live.First(); c.Ref() != 0; c.Next() {
		r := c.Ref()
		key, value, err := f.Record(v, r)
		if err != nil {
			return nil, err
		}
		start := len(lay.ptrs)
		for i := range r.Level() {
			if last[i] < 0 {
				lay.first[i] = uint32(lay.size)
			} else {
				lay.ptrs[last[i]] = uint32(lay.size)
			}
			last[i] = start + i
			lay.ptrs = append(lay.ptrs, 0)
		}
		lay.top = max(lay.top, r.Level())
		lay.size += recordSize(int64(len(key)), int64(len(value)), r.Level())
		if lay.size > maxFile {
			return nil, errTooLarge
		}
	}
	return lay, nil
}
