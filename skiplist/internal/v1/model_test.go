package v1

import (
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/codectest"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

var genKey = rapid.Custom(func(t *rapid.T) string {
	if rapid.IntRange(0, 200).Draw(t, "long") == 0 {
		return strings.Repeat("k", rapid.IntRange(longKey-2, longKey+2).Draw(t, "length"))
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

// changing makes operations such that each changes something: the format has no record of a deletion of nothing.
func changing(m model, ops []op) []op { return codectest.Effective(maps.Clone(m), ops) }

// TestModel drives files with random transactions, checkpoints, crashes and replays, and compares with a map.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDisk(rapid.Uint64().Draw(t, "seed"))
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "crash"), 1))
		m := model{}
		var earlier *disk
		end := int64(0) // of the log of earlier
		commit := func(ops []op) {
			if ops = changing(m, ops); len(ops) == 0 {
				return
			}
			d.Commit(t, ops...)
			m.Apply(ops)
		}
		t.Repeat(map[string]func(*rapid.T){
			"commit": func(t *rapid.T) { commit(rapid.SliceOfN(genOp, 0, 8).Draw(t, "ops")) },
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
				earlier, end = &disk{H: d.H, Live: d.Live}, int64(len(d.B))
			},
			"goOn": func(t *rapid.T) {
				if earlier == nil {
					return
				}
				v := d.View()
				ed := tree.Edit(earlier.Live, codectest.Lookup(New(), v))
				log, err := New().Replay(v, d.H, codec.ReplayOptions{From: end}, ed)
				require.NoError(t, err)
				require.Equal(t, codec.Log{End: int64(len(d.B))}, log)
				require.Equal(t, list(m), codectest.Pairs(t, New(), v, ed.Tree()))
			},
			"crash": func(t *rapid.T) {
				ops := changing(m, rapid.SliceOfN(genOp, 1, 8).Draw(t, "ops"))
				if len(ops) == 0 {
					return
				}
				p, _ := d.Plan(t, ops...)
				b, _ := recovered(t, nil, torn(rnd, d.B, p.Phases[0]))
				requireSound(t, b, list(m))
				earlier, d.B = nil, b
				d.H, d.Live, _ = replayed(t, b, codec.ReplayOptions{})
			},
			"unmapped": func(t *rapid.T) {
				v := codectest.Unmapped(d.B)
				_, live, log := codectest.Replayed(t, New(), v, codec.ReplayOptions{Salvage: rapid.Bool().Draw(t, "salvage")})
				require.Equal(t, codec.Log{End: int64(len(d.B))}, log)
				require.Equal(t, list(m), codectest.Pairs(t, New(), v, live))
			},
			"": func(t *rapid.T) {
				requireSound(t, d.B, list(m))
				codectest.RequireSpans(t, New(), d.B, true)
				require.Equal(t, list(m), codectest.Pairs(t, New(), d.View(), d.Live))
			},
		})
	})
}

// TestLongTransactions crosses the length from which a transaction is read twice.
func TestLongTransactions(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	d, m := newDisk(1), model{}
	for _, n := range []int{longTransaction - 1, longTransaction, longTransaction + 1, 3 * longTransaction} {
		var ops []op
		for changes := 0; changes < n; {
			key := string([]byte{'a' + byte(rnd.IntN(26)), 'a' + byte(rnd.IntN(26)), 'a' + byte(rnd.IntN(26))})
			if rnd.IntN(3) == 0 {
				ops = append(ops, del(key))
			} else {
				ops = append(ops, set(key, string(rune('a'+rnd.IntN(26)))))
			}
			changes++
		}
		before := maps.Clone(m)
		p, live := d.Plan(t, ops...)
		m.Apply(ops)
		b := perform(d.B, p.Phases[0])

		// Without its COMMIT it is as if it had never been, unless a salvage asks for it.
		require.Equal(t, list(before), contents(t, b))
		got, log := salvaged(t, b, true)
		require.Equal(t, list(m), got)
		require.Greater(t, log.Uncommitted, n/2)

		d.B, d.H, d.Live = perform(b, p.Phases[1]), p.Header, live
		requireSound(t, d.B, list(m))
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
		for range 1 + rnd.IntN(12) {
			key := string(rune('a' + rnd.IntN(9)))
			if rnd.IntN(2) == 0 {
				ops = append(ops, del(key))
			} else {
				ops = append(ops, set(key, string(rune('0'+rnd.IntN(3)))))
			}
		}
		if ops = changing(m, ops); len(ops) == 0 {
			continue
		}
		d.Commit(t, ops...)
		m.Apply(ops)
		requireSound(t, d.B, list(m))
	}
}
