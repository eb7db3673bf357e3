package twoskip

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// history makes a file of many kinds of records, and lists what it held after each commit.
func history(t *testing.T) (*disk, [][]string) {
	d, m := newDisk(11), model{}
	for i := range 12 {
		ops := []op{set(fmt.Sprintf("user.u%02d", i), strings.Repeat("v", i*7))}
		d.Commit(t, ops...)
		m.Apply(ops)
	}
	d.Rewrite(t)
	states := [][]string{nil, m.List(New())}
	for _, ops := range [][]op{
		{set("user.u03", "again"), set("user.zz", "last")},
		{del("user.u05"), del("user.u06"), set("user.u055", "between")},
		{del("user.zz"), set("user.new", "x"), del("user.new")},
		{set("user.u05", "back"), del("user.u11")},
		{del("user.u00")},
	} {
		d.Commit(t, ops...)
		m.Apply(ops)
		states = append(states, m.List(New()))
	}
	requireSound(t, d.B, m.List(New()))
	return d, states
}

// found reads a file that may be damaged in any way. It tells what is in it and whether anything is said to be wrong.
func found(t *testing.T, b []byte) (list []string, wrong bool) {
	v := mapped(b)
	h, err := New().ReadHeader(v)
	if err != nil {
		return nil, true
	}
	ed := tree.Edit(tree.Tree{}, lookup(v))
	log, err := New().Replay(v, h, codec.ReplayOptions{}, ed)
	require.NoError(t, err)
	wrong = log.State != codec.Clean || len(log.Findings) > 0
	if !wrong {
		err := New().CheckLinks(v, h, ed.Tree(), func(codec.WrongLink) bool { wrong = true; return true })
		wrong = wrong || err != nil
	}
	return pairs(t, v, ed.Tree()), wrong
}

// salvaged reads all that can be read, with or without a header.
func salvaged(t *testing.T, b []byte, uncommitted bool) ([]string, codec.Log) {
	v := mapped(b)
	h, err := New().ReadHeader(v)
	if err != nil {
		h = codec.Header{}
	}
	ed := tree.Edit(tree.Tree{}, lookup(v))
	log, err := New().Replay(v, h, codec.ReplayOptions{Salvage: true, Uncommitted: uncommitted}, ed)
	require.NoError(t, err)
	return pairs(t, v, ed.Tree()), log
}

// owner is the record that the byte at off belongs to, as "key=value"; empty if it is none or not live.
func owner(t *testing.T, d *disk, off int64) string {
	v := d.View()
	for c := d.Live.First(); c.Ref() != 0; c.Next() {
		rec, _, err := parser{v, v.End()}.whole(c.Ref().Offset())
		require.NoError(t, err)
		if off >= rec.off && off < rec.off+rec.size {
			return pairs(t, v, d.Live)[slices.Index(refs(d.Live), c.Ref())]
		}
	}
	return ""
}

func refs(t tree.Tree) (list []tree.Ref) {
	for c := t.First(); c.Ref() != 0; c.Next() {
		list = append(list, c.Ref())
	}
	return list
}

// TestEveryBit flips each bit of a file. Either that is noticed, and what can still be read is what was committed at some
// time, or nothing is missing. A salvage then loses at most the record that was hit, and invents none.
func TestEveryBit(t *testing.T) {
	d, states := history(t)
	last := states[len(states)-1]
	ever := []string{"user.new=x"} // for the length of a transaction
	for _, s := range states {
		ever = append(ever, s...)
	}
	silent := 0
	for off := range int64(len(d.B)) {
		hit := owner(t, d, off)
		for bit := range 8 {
			b := slices.Clone(d.B)
			b[off] ^= 1 << bit
			got, wrong := found(t, b)
			if !wrong {
				silent++
				require.Equal(t, last, got, "bit %d at %#x", bit, off)
			} else if got != nil {
				require.Contains(t, states, got)
			}
			if bit != int(off)%8 {
				continue
			}
			requireSpans(t, b, false)
			rescued, _ := salvaged(t, b, false)
			require.Subset(t, ever, rescued)
			for _, p := range last {
				if p != hit {
					require.Contains(t, rescued, p, "bit %d at %#x", bit, off)
				}
			}
		}
	}
	require.Zero(t, silent, "bits that nothing depends on")
}

// TestTruncatedEverywhere cuts a file at every byte.
func TestTruncatedEverywhere(t *testing.T) {
	d, states := history(t)
	for n := range len(d.B) {
		b := d.B[:n:n]
		requireSpans(t, b, false)
		v := mapped(b)
		h, err := New().ReadHeader(v)
		if err != nil {
			require.Less(t, n, emptySize)
			continue
		}
		ed := tree.Edit(tree.Tree{}, lookup(v))
		log, err := New().Replay(v, h, codec.ReplayOptions{}, ed)
		require.NoError(t, err)
		require.Equal(t, codec.Damaged, log.State)
		require.EqualValues(t, n, log.Offset)
		require.LessOrEqual(t, log.End, int64(n))
		require.Contains(t, states, pairs(t, v, ed.Tree()))
		salvaged(t, b, n%2 == 0)
	}
}

// TestTail appends to a clean file what is not committed.
func TestTail(t *testing.T) {
	d, states := history(t)
	last := states[len(states)-1]
	e := &disk{Codec: New(), B: slices.Clone(d.B), H: d.H, Live: d.Live, Random: d.Random}
	e.Commit(t, set("x", "1"), del("user.u03"), set("y", "2"))
	full := e.B[len(d.B):]
	for _, c := range []struct {
		name        string
		tail        []byte
		uncommitted int
	}{
		{"zeros", make([]byte, 1000), 0},
		{"garbage", []byte(strings.Repeat("=+-$", 99)), 0},
		{"one byte", []byte{'+'}, 0},
		{"whole", full, 3},
		{"without its COMMIT", full[:len(full)-markSize], 3},
		{"within its COMMIT", full[:len(full)-1], 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := append(slices.Clone(d.B), c.tail...)
			v := mapped(b)
			_, live, log := replayed(t, v, codec.ReplayOptions{})
			require.Equal(t, last, pairs(t, v, live))
			require.Equal(t, codec.Torn, log.State)
			require.Equal(t, d.H.End, log.End)
			require.Equal(t, d.H.End, log.Offset)
			require.Equal(t, c.uncommitted, log.Uncommitted)
			requireSpans(t, b, false)
			got, log := salvaged(t, b, false)
			require.Equal(t, last, got)
			require.Equal(t, codec.Torn, log.State)
			got, _ = salvaged(t, b, true)
			if c.uncommitted > 0 {
				require.Contains(t, got, "x=1")
				require.Contains(t, got, "y=2")
			} else {
				require.Equal(t, last, got)
			}
			b, _ = recovered(t, nil, b)
			requireSound(t, b, last)
		})
	}
	// Zeros where something was committed are damage.
	for n := 8; n < len(d.B)-emptySize; n += 8 {
		b := slices.Clone(d.B)
		clear(b[len(b)-n:])
		_, _, log := replayed(t, mapped(b), codec.ReplayOptions{})
		require.Equal(t, codec.Damaged, log.State)
	}
}

func TestReadHeader(t *testing.T) {
	good := New().Empty(time.Time{})
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		class  error
		offset int64
	}{
		{"another magic", func(b []byte) []byte { b[7] = 'x'; return b }, codec.ErrNotDatabase, 0},
		{"text", func([]byte) []byte { return []byte("user.fred\tdefault\n") }, codec.ErrNotDatabase, 0},
		{"version 2", func(b []byte) []byte { b[23] = 2; fixHeader(b); return b }, codec.ErrVersion, offVersion},
		{"checksum", func(b []byte) []byte { b[39] = 2; return b }, codec.ErrDamaged, offCRC},
		{"short", func(b []byte) []byte { return b[:335] }, codec.ErrDamaged, 335},
		{"short header", func(b []byte) []byte { return b[:40] }, codec.ErrDamaged, 40},
		{"size too small", func(b []byte) []byte { put64(b, offSize, 328); fixHeader(b); return b }, codec.ErrDamaged, offSize},
		{"size not aligned", func(b []byte) []byte { put64(b, offSize, 337); fixHeader(b); return b }, codec.ErrDamaged, offSize},
		{"size negative", func(b []byte) []byte { put64(b, offSize, -8); fixHeader(b); return b }, codec.ErrDamaged, offSize},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New().ReadHeader(mapped(c.change(slices.Clone(good))))
			require.ErrorIs(t, err, c.class)
			var broken *codec.FormatError
			require.ErrorAs(t, err, &broken)
			require.Equal(t, c.offset, broken.Offset)
		})
	}
}

// appendRaw appends a record with any fields and right checksums.
func appendRaw(b []byte, typ byte, level int, klen uint16, vlen uint32, long []uint64, slots []int64, body []byte) []byte {
	start := len(b)
	b = append(b, typ, byte(level))
	b = binary.BigEndian.AppendUint16(b, klen)
	b = binary.BigEndian.AppendUint32(b, vlen)
	for _, n := range long {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for _, p := range slots {
		b = binary.BigEndian.AppendUint64(b, uint64(p))
	}
	b = binary.BigEndian.AppendUint32(b, checksum(b[start:]))
	b = binary.BigEndian.AppendUint32(b, checksum(body))
	return append(b, body...)
}

// TestImpossibleRecords appends records with right checksums that no writer makes.
func TestImpossibleRecords(t *testing.T) {
	a := []byte("a\x00\x00\x00\x00\x00\x00\x00")
	two := []int64{0, 0}
	for name, rec := range map[string][]byte{
		"unknown type":        appendRaw(nil, '!', 1, 1, 0, nil, two, a),
		"level 0":             appendRaw(nil, '+', 0, 1, 0, nil, two[:1], a),
		"level 32":            appendRaw(nil, '+', 32, 1, 0, nil, make([]int64, 33), a),
		"empty key":           appendRaw(nil, '+', 1, 0, 1, nil, two, a),
		"empty long key":      appendRaw(nil, '+', 1, 0xffff, 1, []uint64{0}, two, a),
		"huge key":            appendRaw(nil, '+', 1, 0xffff, 0, []uint64{math.MaxUint64}, two, a),
		"huge value":          appendRaw(nil, '+', 1, 1, 0xffffffff, []uint64{math.MaxInt64 - 100}, two, a),
		"huge both":           appendRaw(nil, '+', 1, 0xffff, 0xffffffff, []uint64{1 << 62, 1 << 62}, two, a),
		"beyond the end":      appendRaw(nil, '+', 1, 1, 5000, nil, two, a),
		"DUMMY":               appendDummy(nil, make([]int64, 32)),
		"COMMIT of another":   appendMark(nil, typeCommit, 0x158),
		"DELETE with a key":   appendRaw(nil, '-', 0, 1, 0, nil, two[:1], a),
		"DELETE of nothing":   appendMark(nil, typeDelete, 0),
		"DELETE before DUMMY": appendMark(nil, typeDelete, 64),
		"DELETE of itself":    appendMark(nil, typeDelete, emptySize),
		"DELETE far away":     appendMark(nil, typeDelete, 1<<60),
		"DELETE negative":     appendMark(nil, typeDelete, -8),
		"no COMMIT":           appendRaw(nil, '+', 1, 1, 0, nil, two, a),
	} {
		t.Run(name, func(t *testing.T) {
			b := append(New().Empty(time.Time{}), rec...)
			if name != "no COMMIT" {
				b = appendMark(b, typeCommit, emptySize)
			}
			put64(b, offSize, int64(len(b)))
			fixHeader(b)
			for _, v := range []*codec.View{mapped(b), unmapped(b)} {
				_, live, log := replayed(t, v, codec.ReplayOptions{})
				require.Equal(t, codec.Damaged, log.State)
				require.EqualValues(t, emptySize, log.End)
				require.EqualValues(t, emptySize, log.Offset)
				require.Zero(t, live.Len())
			}
			requireSpans(t, b, false)
			salvaged(t, b, true)
		})
	}
}

// TestHalfATransactionIsNone has the second change of a transaction make no sense: the first must not show.
func TestHalfATransactionIsNone(t *testing.T) {
	d := built(t, []op{set("a", "1"), set("b", "2"), set("c", "3")})
	want := contents(t, d.B)
	v := &codec.View{Path: "db", Size: d.H.End, Mem: d.B}
	txn := &codec.Txn{View: v, Random: levels(1, 1)}
	_, err := New().Put(txn, []byte("b"), []byte("new"), 0)
	require.NoError(t, err)
	_, err = New().Put(txn, []byte("d"), []byte("new"), 0)
	require.NoError(t, err)
	b := append(slices.Clone(d.B), v.Tail...)
	b = appendMark(b, typeDelete, 0)                        // d goes
	b = appendMark(b, typeDelete, refs(d.Live)[0].Offset()) // nothing stands before a
	b = appendMark(b, typeCommit, d.H.End)
	put64(b, offSize, int64(len(b)))
	fixHeader(b)
	v = mapped(b)
	_, live, log := replayed(t, v, codec.ReplayOptions{})
	require.Equal(t, codec.Damaged, log.State)
	require.Equal(t, d.H.End, log.End)
	require.Equal(t, want, pairs(t, v, live))
}

// TestDisorder has checkpointed records out of order noticed.
func TestDisorder(t *testing.T) {
	d := built(t, []op{set("a", "1"), set("B", "2"), set("c", "3")})
	d.Rewrite(t)
	v := d.View()
	look := lookup(v)
	look.Compare = func(a, b []byte) int { return strings.Compare(strings.ToLower(string(a)), strings.ToLower(string(b))) }
	ed := tree.Edit(tree.Tree{}, look)
	log, err := New().Replay(v, d.H, codec.ReplayOptions{}, ed)
	require.NoError(t, err)
	require.True(t, log.Disorder)
	require.Equal(t, []string{"a=1", "B=2", "c=3"}, pairs(t, v, ed.Tree()))
	_, _, log = replayed(t, v, codec.ReplayOptions{})
	require.False(t, log.Disorder)
}
