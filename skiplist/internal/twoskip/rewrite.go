package twoskip

import (
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// emitChunk is how many bytes of a new file are handed on at once.
const emitChunk = 256 << 10

// Rewrite implements codec.Codec. It goes through the records twice: first for their sizes, from which follows where
// each will stand, then to copy them. Heights are drawn anew, as Cyrus does, from a generator that begins the same way
// every time: they need not be hard to guess, and the same records make the same file.
//
// The new file has one transaction, from the end of the empty file, and repack_size leads to its COMMIT. An empty
// database gets no COMMIT.
func (f format) Rewrite(v *codec.View, h codec.Header, live tree.Tree, _ time.Time, emit func([]byte) error) (codec.Rewritten, error) {
	next, end, err := f.layOut(v, live)
	if err != nil {
		return codec.Rewritten{}, err
	}
	out := codec.Header{
		Version: version, Generation: h.Generation + 1, Records: uint64(live.Len()), LogStart: end, End: end, MaxLevel: maxLevel,
	}
	if planted.On(planted.GenerationRestarts) {
		out.Generation = 1
	}
	if live.Len() > 0 {
		out.End = end + blankSize*blanks(end, markSize) + markSize
	}
	w := rewriter{format: f, v: v, emit: emit, buf: make([]byte, 0, emitChunk+emitChunk/4)}
	w.buf = appendHeader(w.buf, out)
	w.buf = appendDummy(w.buf, w.links(next))
	to := next.First()
	for from := live.First(); from.Ref() != 0; from.Next() {
		if err := w.record(from.Ref(), to.Ref()); err != nil {
			return codec.Rewritten{}, err
		}
		to.Next()
	}
	if live.Len() > 0 {
		w.buf, _ = appendBlanks(w.buf, w.base, markSize)
		w.buf = appendMark(w.buf, typeCommit, emptySize)
	}
	if err := emit(w.buf); err != nil {
		return codec.Rewritten{}, err
	}
	return codec.Rewritten{Live: next, Header: out, Size: out.End}, nil
}

// layOut decides on the levels and offsets of the records in a new file. end is the offset after the last of them.
func (f format) layOut(v *codec.View, live tree.Tree) (next tree.Tree, end int64, err error) {
	random := rand.New(rand.NewPCG(1, 2))
	ed := tree.Edit(tree.Tree{}, tree.Lookup{})
	p := parser{v, v.End()}
	end = emptySize
	for c := live.First(); c.Ref() != 0; c.Next() {
		rec, _, err := p.shape(c.Ref().Offset())
		if err != nil {
			return tree.Tree{}, 0, v.Errorf(c.Ref().Offset(), "record", "%v", err)
		}
		level := drawLevel(random.Uint64())
		head := headSize(rec.klen, rec.vlen, level)
		at := end + blankSize*blanks(end, head)
		key, err := p.key(rec)
		if err != nil {
			return tree.Tree{}, 0, v.Errorf(rec.off, "key", "%v", err)
		}
		ed.Append(tree.NewRef(at, level), key)
		end = at + head + pad(rec.klen+rec.vlen)
	}
	return ed.Tree(), end, nil
}

// drawLevel makes a height of random bits: one more for each that is zero, as often as not.
func drawLevel(random uint64) int { return 1 + min(bits.TrailingZeros64(random), maxLevel-1) }

// rewriter writes a new file from its beginning to its end.
type rewriter struct {
	format
	v    *codec.View
	emit func([]byte) error
	buf  []byte
	base int64 // the offset of buf in the file
	// ahead has, for each level, a cursor on the next record that is linked on it.
	ahead [maxLevel]tree.Cursor
	slots [maxLevel + 1]int64
}

// links is what the DUMMY's slots hold.
func (w *rewriter) links(t tree.Tree) []int64 {
	for level := range w.ahead {
		w.ahead[level] = t.First()
		w.slots[level+1] = w.ahead[level].ForwardTo(level).Offset()
	}
	return w.slots[:]
}

// record copies one record to the place that was laid out for it.
func (w *rewriter) record(from, to tree.Ref) error {
	key, value, err := w.Record(w.v, from)
	if err != nil {
		return err
	}
	for level := range to.Level() {
		w.ahead[level].Next()
		w.slots[level+1] = w.ahead[level].ForwardTo(level).Offset()
	}
	var off int64
	w.buf, off = appendRecord(w.buf, w.base, key, value, w.slots[:pointers(to.Level())], to.Level())
	if off != to.Offset() {
		return w.v.Errorf(from.Offset(), "record", "its size has changed while it was copied")
	}
	if len(w.buf) < emitChunk {
		return nil
	}
	err = w.emit(w.buf)
	w.base += int64(len(w.buf))
	w.buf = w.buf[:0]
	return err
}
