package twoskip

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// recordOf is the offset of the newest RECORD with a key.
func recordOf(t *testing.T, b []byte, key string) int64 {
	p := parser{mapped(b), int64(len(b))}
	at := int64(-1)
	for off := int64(emptySize); off < p.end; {
		if off = p.skipBlanks(off); off == p.end {
			break
		}
		rec, _, err := p.whole(off)
		require.NoError(t, err)
		if k, _ := p.key(rec); rec.typ == typeRecord && string(k) == key {
			at = off
		}
		off += rec.size
	}
	require.Positive(t, at)
	return at
}

// spoil changes the last byte of the body of the newest record of a key.
func spoil(t *testing.T, b []byte, key string) []byte {
	b = slices.Clone(b)
	rec, _, err := parser{mapped(b), int64(len(b))}.whole(recordOf(t, b, key))
	require.NoError(t, err)
	b[rec.off+rec.size-1] ^= 0x40
	return b
}

// TestRecovery2Defects has a test for each thing that the salvage of Cyrus 3.6.1 gets wrong.
func TestRecovery2Defects(t *testing.T) {
	t.Run("delete takes the right key", func(t *testing.T) {
		d := built(t, []op{set("a", "1"), set("b", "2"), set("c", "3")}, []op{del("b")})
		got, log := salvaged(t, d.B, false)
		require.Equal(t, []string{"a=1", "c=3"}, got)
		require.Equal(t, codec.Clean, log.State)
	})
	t.Run("delete of the last key", func(t *testing.T) {
		d := built(t, []op{set("a", "1"), set("b", "2")}, []op{del("b")})
		got, _ := salvaged(t, d.B, false)
		require.Equal(t, []string{"a=1"}, got)
	})
	t.Run("several operations in a transaction", func(t *testing.T) {
		d := built(t, []op{set("a", "1"), set("b", "22222222222222222222"), set("c", "3")}, []op{del("b"), set("d", "4"), del("a"), set("bb", "5")})
		got, _ := salvaged(t, d.B, false)
		require.Equal(t, []string{"bb=5", "c=3", "d=4"}, got)
	})
	t.Run("nothing to rescue", func(t *testing.T) {
		d := built(t, []op{set("a", "1")}, []op{del("a")})
		got, _ := salvaged(t, d.B, false)
		require.Empty(t, got)
		clear(d.B[emptySize:])
		got, log := salvaged(t, d.B, false)
		require.Empty(t, got)
		require.Equal(t, codec.Damaged, log.State)
	})
	t.Run("generation goes on", func(t *testing.T) {
		d := built(t, []op{set("a", "1")})
		d.H.Generation = 41
		d.Rewrite(t)
		require.EqualValues(t, 42, d.H.Generation)
	})
	t.Run("goes on after the first unreadable record", func(t *testing.T) {
		d := built(t, []op{set("a", "1")}, []op{set("b", "2")}, []op{set("c", "3")})
		got, log := salvaged(t, spoil(t, d.B, "b"), false)
		require.Equal(t, []string{"a=1", "c=3"}, got)
		require.Equal(t, codec.Damaged, log.State)
	})
	t.Run("one unreadable record does not take its transaction along", func(t *testing.T) {
		d := built(t, []op{set("a", "1"), set("b", "2"), set("c", "3")})
		got, _ := salvaged(t, spoil(t, d.B, "b"), false)
		require.Equal(t, []string{"a=1", "c=3"}, got)
	})
	t.Run("fillers are passed over", func(t *testing.T) {
		var txns [][]op
		for i := range 60 {
			txns = append(txns, []op{set(string(rune('a'+i%26)), string(rune('a'+i%25)))})
		}
		d := built(t, txns...)
		require.Contains(t, string(d.B), blank)
		got, _ := salvaged(t, d.B, false)
		require.Equal(t, contents(t, d.B), got)
	})
}

// TestSalvageWithoutHeader spoils the header; the COMMITs tell what was committed.
func TestSalvageWithoutHeader(t *testing.T) {
	d := built(t, []op{set("a", "1"), set("b", "2")}, []op{del("a")}, []op{set("c", "3")})
	d.B[30] ^= 1
	got, log := salvaged(t, d.B, false)
	require.Equal(t, []string{"b=2", "c=3"}, got)
	require.Equal(t, codec.Clean, log.State)
	require.EqualValues(t, len(d.B), log.End)

	cut := d.B[:len(d.B)-markSize]
	got, log = salvaged(t, cut, false)
	require.Equal(t, []string{"b=2"}, got)
	require.Equal(t, codec.Torn, log.State)
	require.Equal(t, 1, log.Uncommitted)
	got, _ = salvaged(t, cut, true)
	require.Equal(t, []string{"b=2", "c=3"}, got)

	clear(d.B[:emptySize])
	v := mapped(d.B)
	_, err := New().ReadHeader(v)
	require.ErrorIs(t, err, codec.ErrNotDatabase)
	got, _ = salvaged(t, d.B, false)
	require.Equal(t, []string{"b=2", "c=3"}, got)
}

// TestValuesAreNotRecords stores a database in a value. Whatever is unreadable around it, its records do not come up.
func TestValuesAreNotRecords(t *testing.T) {
	inner := built(t, []op{set("fake", "record")})
	for pad := range 8 {
		value := string(make([]byte, pad)) + string(inner.B)
		d := built(t, []op{set("a", "1"), set("box", value), set("c", "3")})
		at := recordOf(t, d.B, "box")
		rec, _, err := parser{d.View(), int64(len(d.B))}.whole(at)
		require.NoError(t, err)
		for name, off := range map[string]int64{"value": at + rec.size - 1, "pointers": rec.slotOff(1) + 7, "checksum": rec.crcHeadOff(), "last": at + rec.head - 1} {
			b := slices.Clone(d.B)
			b[off] ^= 1
			got, log := salvaged(t, b, false)
			require.Equal(t, codec.Damaged, log.State)
			require.Equal(t, []string{"a=1", "c=3"}, got, name)
			requireSpans(t, b, false)
		}
		got, _ := salvaged(t, d.B[:at+rec.size-16], true)
		require.Equal(t, []string{"a=1"}, got)
	}
}

// TestDoubtfulDeletes spoils one record of a random file. A salvage never loses another, and deletes again what it can
// prove was deleted: nearly all.
func TestDoubtfulDeletes(t *testing.T) {
	deleted, back := 0, 0
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		d, m := newDisk(seed), model{}
		var offs []int64
		for range 30 {
			ops := randomOps(rnd, 25)
			d.Commit(t, ops...)
			m.Apply(ops)
		}
		p := parser{d.View(), int64(len(d.B))}
		for off := int64(emptySize); off < p.end; {
			if off = p.skipBlanks(off); off == p.end {
				break
			}
			rec, _, err := p.whole(off)
			require.NoError(t, err)
			offs = append(offs, off)
			off += rec.size
		}
		want := m.List(New())
		for range 8 {
			at := offs[rnd.IntN(len(offs))]
			hit := owner(t, d, at)
			b := slices.Clone(d.B)
			b[at+8+int64(rnd.IntN(8))] ^= 8
			got, log := salvaged(t, b, false)
			require.Equal(t, codec.Damaged, log.State)
			for _, w := range want {
				if w != hit {
					require.Contains(t, got, w, "seed %d at %#x", seed, at)
				}
			}
			deleted += 25 - len(want)
			for _, g := range got {
				if !slices.Contains(want, g) {
					back++
				}
			}
		}
	}
	t.Logf("of %d deleted keys %d came back", deleted, back)
	require.Less(t, back*10, deleted)
}

// TestSalvageInDoubt spoils the head of a record. It is lost. The DELETE of a, which follows it, is proved by the link
// that leads to it; that of b names the lost record, so that b is kept.
func TestSalvageInDoubt(t *testing.T) {
	d := built(t, []op{set("a", "1"), set("b", "2")}, []op{set("c", "3"), del("a")}, []op{set("d", "4"), del("b")})
	b := slices.Clone(d.B)
	at := recordOf(t, b, "c")
	for i := at; i < at+40; i++ {
		b[i] = 0xff
	}
	got, log := salvaged(t, b, false)
	require.Equal(t, []string{"b=2", "d=4"}, got)
	require.Equal(t, at, log.Offset)
	require.Equal(t, []string{codeUnreadable, codeUnclear}, codes(log))
}

func codes(log codec.Log) (list []string) {
	for _, f := range log.Findings {
		list = append(list, f.Code)
	}
	return list
}
