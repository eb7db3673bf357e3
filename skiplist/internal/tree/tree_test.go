package tree

import (
	"bytes"
	"cmp"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The tests keep keys in a table, at the offset that the reference names.
type table [][]byte

func (tb *table) add(key []byte, level int) Ref {
	*tb = append(*tb, key)
	return NewRef(int64(len(*tb)), level)
}

func (tb *table) lookup() Lookup {
	return Lookup{
		Key:     func(r Ref) []byte { return (*tb)[r.Offset()-1] },
		Compare: func(a, b []byte) int { return slices.Compare(a, b) },
	}
}

type version struct {
	t    Tree
	refs []Ref
}

// TestTreeAgainstSortedSlice drives an editor with random puts, deletions, appends, versions and returns to versions,
// and compares every version, cursors on every level included, with a sorted slice.
func TestTreeAgainstSortedSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tb := &table{}
		look := tb.lookup()
		e := Edit(Tree{}, look)
		var want []Ref
		var kept []version
		pos := func(key []byte) (int, bool) {
			return slices.BinarySearchFunc(want, key, func(r Ref, k []byte) int { return look.Compare(look.Key(r), k) })
		}
		keys := rapid.Custom(func(t *rapid.T) []byte {
			n := rapid.IntRange(0, 3000).Draw(t, "n")
			return []byte{byte(n >> 8), byte(n)}
		})
		levels := rapid.Custom(func(t *rapid.T) int {
			return 1 + bits.TrailingZeros32(rapid.Uint32().Draw(t, "bits")|1<<18)
		})
		put := func(key []byte, level int) {
			r := tb.add(key, level)
			old := e.Put(key, r)
			if i, ok := pos(key); ok {
				require.Equal(t, want[i], old)
				want[i] = r
			} else {
				require.Zero(t, old)
				want = slices.Insert(want, i, r)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				put(keys.Draw(t, "key"), levels.Draw(t, "level"))
			},
			"putRun": func(t *rapid.T) {
				k := keys.Draw(t, "from")
				n := int(k[0])<<8 + int(k[1])
				for i := range rapid.IntRange(1, 400).Draw(t, "count") {
					put([]byte{byte((n + i) >> 8), byte(n + i)}, 1+bits.TrailingZeros(uint(i)|1<<10))
				}
			},
			"append": func(t *rapid.T) {
				key := []byte{255, 255, byte(len(*tb) >> 16), byte(len(*tb) >> 8), byte(len(*tb))}
				r := tb.add(key, levels.Draw(t, "level"))
				e.Append(r, key)
				want = append(want, r)
			},
			"deleteRun": func(t *rapid.T) {
				if len(want) == 0 {
					return
				}
				i := rapid.IntRange(0, len(want)-1).Draw(t, "from")
				n := min(len(want)-i, rapid.IntRange(1, 500).Draw(t, "count"))
				for _, r := range want[i : i+n] {
					require.Equal(t, r, e.Delete(look.Key(r)))
					require.Zero(t, e.Delete(look.Key(r)))
				}
				want = slices.Delete(want, i, i+n)
			},
			"keep": func(*rapid.T) {
				kept = append(kept, version{e.Tree(), slices.Clone(want)})
			},
			"return": func(t *rapid.T) {
				if len(kept) > 0 {
					v := rapid.SampledFrom(kept).Draw(t, "version")
					e.Reset(v.t)
					want = slices.Clone(v.refs)
				}
			},
			"seek": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				i, exact := pos(key)
				c, got := e.Seek(key)
				require.Equal(t, exact, got)
				for level := range 5 {
					f, b := c, c
					require.Equal(t, at(want, next(want, i, level)), f.ForwardTo(level))
					require.Equal(t, at(want, prev(want, min(i, len(want)-1), level)), b.BackTo(level))
				}
				if exact {
					require.Equal(t, want[i], e.Get(key))
				} else {
					require.Zero(t, e.Get(key))
				}
			},
			"": func(t *rapid.T) {
				require.Equal(t, len(want), e.Len())
			},
		})
		kept = append(kept, version{e.Tree(), want})
		for _, v := range kept {
			if v.t.root != nil {
				checkNode(t, look, v.t.root, v.t.height)
			}
			require.Equal(t, len(v.refs), v.t.Len())
			require.True(t, slices.Equal(v.refs, forward(v.t)))
			require.True(t, slices.Equal(v.refs, backward(v.t)))
		}
	})
}

// TestVersionsStay takes a version after every single change: whatever later versions share with it, it stays.
func TestVersionsStay(t *testing.T) {
	tb := &table{}
	look := tb.lookup()
	e := Edit(Tree{}, look)
	var want []Ref
	var kept []version
	order := rand.New(rand.NewPCG(1, 1)).Perm(3000)
	for _, n := range slices.Concat(order, order[:2000]) {
		key := []byte{byte(n >> 8), byte(n)}
		i, there := slices.BinarySearchFunc(want, key, func(r Ref, k []byte) int { return look.Compare(look.Key(r), k) })
		if there {
			e.Delete(key)
			want = slices.Delete(want, i, i+1)
		} else {
			r := tb.add(key, 1+bits.TrailingZeros(uint(n)|1<<10))
			e.Put(key, r)
			want = slices.Insert(want, i, r)
		}
		if v := e.Tree(); n%16 == 0 {
			kept = append(kept, version{v, slices.Clone(want)})
		}
	}
	for _, v := range kept {
		checkNode(t, look, v.t.root, v.t.height)
		require.True(t, slices.Equal(v.refs, forward(v.t)))
	}
}

// checkNode verifies the invariants of a node and all below it: separators, levels and height. It returns the first
// and the last key.
func checkNode(t require.TestingT, look Lookup, nd *node, height int) (first, last []byte) {
	require.NotZero(t, nd.size())
	require.LessOrEqual(t, nd.size(), nd.full())
	require.Equal(t, height == 1, nd.kids == nil)
	if nd.kids == nil {
		for i, ref := range nd.refs {
			require.Equal(t, markOf(look.Key(ref)), nd.marks[i])
		}
		return look.Key(nd.refs[0]), look.Key(nd.refs[len(nd.refs)-1])
	}
	require.Empty(t, nd.refs)
	require.Len(t, nd.seps, len(nd.kids))
	for i, kid := range nd.kids {
		require.Equal(t, kid.topLevel(), nd.levels[i])
		from, to := checkNode(t, look, kid, height-1)
		if i == 0 {
			first = from
		} else {
			require.Negative(t, look.Compare(last, nd.seps[i]))
			require.LessOrEqual(t, look.Compare(nd.seps[i], from), 0)
		}
		last = to
	}
	return first, last
}

// TestAppendKeepsLevels appends a record of every height in turn, so that high ones begin new nodes.
func TestAppendKeepsLevels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tb := &table{}
		e := Edit(Tree{}, tb.lookup())
		for i := range rapid.IntRange(1, 9000).Draw(t, "n") {
			level := 1
			if i%leafFanout == 0 {
				level = rapid.IntRange(1, 20).Draw(t, "level")
			}
			key := []byte{byte(i >> 8), byte(i)}
			e.Append(tb.add(key, level), key)
		}
		v := e.Tree()
		checkNode(t, tb.lookup(), v.root, v.height)
	})
}

func forward(t Tree) (refs []Ref) {
	for c := t.First(); c.Ref() != 0; c.Next() {
		refs = append(refs, c.Ref())
	}
	return refs
}

func backward(t Tree) (refs []Ref) {
	for c := t.Last(); c.Ref() != 0; c.Prev() {
		refs = append(refs, c.Ref())
	}
	slices.Reverse(refs)
	return refs
}

func at(refs []Ref, i int) Ref {
	if i < 0 || i >= len(refs) {
		return 0
	}
	return refs[i]
}

func next(refs []Ref, i, level int) int {
	for i < len(refs) && refs[i].Level() <= level {
		i++
	}
	return i
}

func prev(refs []Ref, i, level int) int {
	for i >= 0 && refs[i].Level() <= level {
		i--
	}
	return i
}

func TestRef(t *testing.T) {
	for _, off := range []int64{1, 144, 1<<31 + 4, 1<<58 - 8} {
		for level := 1; level <= 31; level++ {
			r := NewRef(off, level)
			require.Equal(t, off, r.Offset())
			require.Equal(t, level, r.Level())
		}
	}
}

func BenchmarkGet(b *testing.B) {
	tb := &table{}
	e := Edit(Tree{}, tb.lookup())
	const n = 200_000
	for i := range n {
		key := []byte{byte(i >> 16), byte(i >> 8), byte(i)}
		e.Append(tb.add(key, 1+bits.TrailingZeros(uint(i)|1<<20)), key)
	}
	t := e.Tree()
	for i := 0; b.Loop(); i++ {
		j := cmp.Compare(0, 0) + i*7919%n
		if t.Get(tb.lookup(), []byte{byte(j >> 16), byte(j >> 8), byte(j)}) == 0 {
			b.Fatal("missing")
		}
	}
}

// TestGetEqualKeys asks with keys that are equal in the order and not alike: mailbox order has such.
func TestGetEqualKeys(t *testing.T) {
	tb := &table{}
	look := Lookup{Key: tb.lookup().Key, Compare: func(a, b []byte) int { return bytes.Compare(bytes.ToLower(a), bytes.ToLower(b)) }}
	e := Edit(Tree{}, look)
	for c := range 1000 {
		key := fmt.Appendf(nil, "key%d", c)
		ref := tb.add(key, 1)
		e.Put(key, ref)
		require.Equal(t, ref, e.Get(key))
		require.Equal(t, ref, e.Get(bytes.ToUpper(key)))
		require.Equal(t, ref, e.Put(bytes.ToUpper(key), tb.add(bytes.ToUpper(key), 1)))
		require.NotZero(t, e.Get(key))
	}
}
