package v1

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// Put implements codec.Codec. A record that replaces another has as many levels as that one.
func (format) Put(t *codec.Txn, key, value []byte, old tree.Ref) (tree.Ref, error) {
	if len(key) == 0 {
		return 0, codec.ErrInvalidKey
	}
	level := old.Level()
	if old == 0 {
		level = randomLevel(t.Random())
	}
	size := recordSize(int64(len(key)), int64(len(value)), level)
	if t.View.End()+size+deleteSize+commitSize > maxFile {
		return 0, errTooLarge
	}
	b := t.View.Tail
	if old != 0 {
		b = appendDelete(b, old)
	}
	ref := tree.NewRef(t.View.Size+int64(len(b)), level)
	t.View.Tail = appendRecord(b, typeAdd, key, value, make([]uint32, level))
	return ref, nil
}

// Delete implements codec.Codec.
func (format) Delete(t *codec.Txn, old, _ tree.Ref) error {
	if t.View.End()+deleteSize+commitSize > maxFile {
		return errTooLarge
	}
	t.View.Tail = appendDelete(t.View.Tail, old)
	return nil
}

// randomLevel is 1, and one more with probability ½ again and again.
func randomLevel(random uint64) int {
	return 1 + min(bits.TrailingZeros64(random), maxLevel-1)
}

func appendDelete(b []byte, old tree.Ref) []byte {
	return be.AppendUint32(be.AppendUint32(b, typeDelete), uint32(old.Offset()))
}

func appendRecord(b []byte, typ uint32, key, value []byte, ptrs []uint32) []byte {
	b = be.AppendUint32(be.AppendUint32(b, typ), uint32(len(key)))
	b = appendPadded(b, key)
	b = be.AppendUint32(b, uint32(len(value)))
	b = appendPadded(b, value)
	for _, p := range ptrs {
		b = be.AppendUint32(b, p)
	}
	return be.AppendUint32(b, terminator)
}

func appendPadded(b, data []byte) []byte {
	b = append(b, data...)
	return append(b, "\x00\x00\x00"[:-len(data)&3]...)
}

// slotOff is where a record, or the DUMMY, keeps its pointer of a level.
func slotOff(v *codec.View, r tree.Ref, level int) (int64, error) {
	if r == head {
		return offDummy + 3*word + int64(level)*word, nil
	}
	b, err := v.Bytes(r.Offset()+word, word)
	if err != nil {
		return 0, err
	}
	rec := record{off: r.Offset(), klen: int64(be.Uint32(b))}
	if b, err = v.Bytes(rec.dlenOff(), word); err != nil {
		return 0, err
	}
	rec.dlen = int64(be.Uint32(b))
	return rec.ptrOff(level), nil
}

// sealer sets the links around the changes of a transaction.
type sealer struct {
	t       *codec.Txn
	look    tree.Lookup
	patches map[int64]codec.Write
	top     int // highest level in use
}

// Seal implements codec.Codec.
//
// Commit point: the COMMIT word, four aligned bytes, written in the second phase. Before it is on the disk the
// transaction is a tail without a commit, which every opener drops and whose links every writer sets right again; the
// sync of the first phase has made sure that what the COMMIT word vouches for is on the disk before it. After the sync
// of the second phase also the links are, so that a Cyrus process that does not recover finds everything.
//
// A higher curlevel is on the disk before the COMMIT word: Cyrus's recovery sets links right but not curlevel, and with
// one that is too low its insertions put the upper levels out of order. One that is too high does no harm.
func (f format) Seal(t *codec.Txn) (codec.Plan, error) {
	s := sealer{t: t, patches: map[int64]codec.Write{}, top: t.Header.CurLevel}
	s.look = codec.Lookup(f, t.View, t.Compare)
	return s.plan()
}

func (s *sealer) plan() (codec.Plan, error) {
	t := s.t
	for _, touch := range t.Touched {
		s.top = max(s.top, touch.Level) // Cyrus's recovery links, for a moment, also what was deleted in the same transaction
		if err := s.link(touch); err != nil {
			return codec.Plan{}, err
		}
	}
	base := t.View.Size
	commitAt := t.View.End()
	records := t.View.Tail
	t.View.Tail = be.AppendUint32(slices.Clip(records), typeCommit)
	if planted.On(planted.CommitWithRecords) {
		records = t.View.Tail
	}
	h := t.Header
	first := []codec.Write{{Off: base, New: records}}
	second := make([]codec.Write, 0, len(s.patches)+1)
	for _, w := range s.patches {
		second = append(second, w)
	}
	slices.SortFunc(second, func(a, b codec.Write) int { return cmp.Compare(a.Off, b.Off) })
	if s.top > h.CurLevel && !planted.On(planted.CurLevelStale) {
		old := h
		h.CurLevel = s.top
		first = append(first, mendHeader(old, h))
	}
	second = append(second, codec.Write{Off: commitAt, New: be.AppendUint32(nil, typeCommit)})
	return codec.Plan{
		Phases: []codec.Phase{
			{Writes: first},
			{Writes: second},
		},
		CommitPhase: 1,
		Header:      h,
		Size:        commitAt + commitSize,
	}, nil
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
	for level := range max(touch.Level, self.Level()) {
		next := after.ForwardTo(level)
		prev := before.BackTo(level)
		if prev == 0 {
			prev = head
		}
		if level < self.Level() {
			if err := s.set(self, level, next); err != nil {
				return err
			}
			next = self
		}
		if err := s.set(prev, level, next); err != nil {
			return err
		}
	}
	return nil
}

// set makes the pointer of r on level lead to next: in the tail if r stands there, else by a patch of the file.
func (s *sealer) set(r tree.Ref, level int, next tree.Ref) error {
	v := s.t.View
	off, err := slotOff(v, r, level)
	if err != nil {
		return err
	}
	if off >= v.Size {
		be.PutUint32(v.Tail[off-v.Size:], uint32(next.Offset()))
		return nil
	}
	old, err := v.Bytes(off, word)
	if err != nil {
		return err
	}
	if be.Uint32(old) == uint32(next.Offset()) {
		delete(s.patches, off)
		return nil
	}
	s.patches[off] = codec.Write{Off: off, New: be.AppendUint32(nil, uint32(next.Offset())), Old: slices.Clone(old)}
	return nil
}
