package twoskip

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

var genKey = rapid.Custom(func(t *rapid.T) string {
	if rapid.IntRange(0, 200).Draw(t, "long") == 0 {
		return strings.Repeat("k", rapid.IntRange(65530, 65540).Draw(t, "length"))
	}
	return rapid.StringMatching(`[a-d\x00\xff]{1,3}`).Draw(t, "key")
})

var genOp = rapid.Custom(func(t *rapid.T) op {
	key := genKey.Draw(t, "key")
	if rapid.IntRange(0, 2).Draw(t, "kind") == 0 {
		return del(key)
	}
	return set(key, strings.Repeat("v", rapid.SampledFrom([]int{0, 1, 5, 8, 40, 600}).Draw(t, "size"))+rapid.StringN(0, 2, 8).Draw(t, "value"))
})

var genOps = rapid.SliceOfN(genOp, 0, 8)

// TestModel drives files with random transactions, checkpoints and replays, and compares with a map.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDisk(rapid.Uint64().Draw(t, "seed"))
		m := model{}
		var earlier *disk
		commit := func(ops []op) {
			d.Commit(t, ops...)
			m.Apply(ops)
		}
		t.Repeat(map[string]func(*rapid.T){
			"commit": func(t *rapid.T) { commit(genOps.Draw(t, "ops")) },
			"many": func(t *rapid.T) {
				var ops []op
				for i := range rapid.IntRange(1, 60).Draw(t, "n") {
					ops = append(ops, set(string(rune('a'+i%26))+string(rune('a'+i/26)), "many"))
				}
				commit(ops)
			},
			"checkpoint": func(t *rapid.T) {
				d.Rewrite(t)
				earlier = nil
			},
			"remember": func(*rapid.T) {
				earlier = &disk{Codec: New(), B: slices.Clone(d.B), H: d.H, Live: d.Live}
			},
			"goOn": func(t *rapid.T) {
				if earlier == nil {
					return
				}
				v := d.View()
				ed := tree.Edit(earlier.Live, lookup(v))
				log, err := New().Replay(v, d.H, codec.ReplayOptions{From: earlier.H.End}, ed)
				require.NoError(t, err)
				require.Equal(t, codec.Log{End: int64(len(d.B))}, log)
				require.Equal(t, m.List(New()), pairs(t, v, ed.Tree()))
			},
			"unmapped": func(t *rapid.T) {
				v := unmapped(d.B)
				_, live, log := replayed(t, v, codec.ReplayOptions{Salvage: rapid.Bool().Draw(t, "salvage")})
				require.Equal(t, codec.Log{End: int64(len(d.B))}, log)
				require.Equal(t, m.List(New()), pairs(t, v, live))
			},
			"": func(t *rapid.T) {
				requireSound(t, d.B, m.List(New()))
				requireSpans(t, d.B, true)
				require.Equal(t, m.List(New()), pairs(t, d.View(), d.Live))
			},
		})
	})
}

// TestLongTransactions crosses the length from which a transaction is applied while it is being read.
func TestLongTransactions(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	d, m := newDisk(1), model{}
	for _, n := range []int{longTransaction - 1, longTransaction, longTransaction + 1, 3 * longTransaction} {
		var ops []op
		for range n {
			key := string([]byte{'a' + byte(rnd.IntN(26)), 'a' + byte(rnd.IntN(26)), 'a' + byte(rnd.IntN(26))})
			if rnd.IntN(3) == 0 {
				ops = append(ops, del(key))
			} else {
				ops = append(ops, set(key, string(rune('a'+rnd.IntN(26)))))
			}
		}
		before := maps.Clone(m)
		d.Commit(t, ops...)
		m.Apply(ops)
		requireSound(t, d.B, m.List(New()))

		// Without its COMMIT it must be as if it had never been.
		b := slices.Clone(d.B)
		b[len(b)-1] ^= 1
		v := mapped(b)
		_, live, log := replayed(t, v, codec.ReplayOptions{})
		require.Equal(t, codec.Damaged, log.State)
		require.Equal(t, before.List(New()), pairs(t, v, live))
	}
}

// TestSealDoesNotCareForOrder puts and deletes the same keys over and over in one transaction.
func TestSealDoesNotCareForOrder(t *testing.T) {
	d, m := newDisk(9), model{}
	base := []op{set("b", "1"), set("d", "1"), set("f", "1"), set("h", "1")}
	d.Commit(t, base...)
	m.Apply(base)
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		var ops []op
		for range rnd.IntN(12) {
			key := string(rune('a' + rnd.IntN(9)))
			if rnd.IntN(2) == 0 {
				ops = append(ops, del(key))
			} else {
				ops = append(ops, set(key, string(rune('0'+rnd.IntN(3)))))
			}
		}
		d.Commit(t, ops...)
		m.Apply(ops)
		requireSound(t, d.B, m.List(New()))
	}
}
