package v1

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/codectest"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// part is what a byte of a whole file belongs to: the kind of the span and the name of the field, with the record's key.
func part(b []byte, off int64) (what, key string) {
	for s := range New().Spans(codectest.Mapped(b)) {
		if off < s.Off || off >= s.Off+s.Len {
			continue
		}
		what = s.Kind + " type or filling"
		for _, f := range s.Fields {
			if off >= f.Off && off < f.Off+f.Len {
				what = s.Kind + " " + f.Name
			}
			if f.Name == "key" {
				key = strings.Trim(f.Value, `"`)
			}
		}
	}
	return what, key
}

// missing counts the pairs of want that got lacks.
func missing(want, got []string) (n int) {
	for _, p := range want {
		if !slices.Contains(got, p) {
			n++
		}
	}
	return n
}

// TestEveryBit flips each bit of a file. There are no checksums, so a flip within a key, a value or one of their lengths
// may pass for another key, value or length; every other one is noticed or makes no difference. No flip makes a
// committed transaction pass for one that a crash has left, which would be cut off. A salvage loses no other record than
// the one that was hit, or the one that its length has swallowed.
func TestEveryBit(t *testing.T) {
	d, states := history(t)
	last := states[len(states)-1]
	silent := map[string]int{}
	for off := range int64(len(d.B)) {
		what, key := part(d.B, off)
		inRecord := strings.Contains(what, "key") || strings.Contains(what, "value") || strings.Contains(what, "filling")
		for bit := range 8 {
			b := clone(d.B)
			b[off] ^= 1 << bit
			at := fmt.Sprintf("bit %d at %#x, %s", bit, off, what)
			got, log, wrong := found(t, b)
			require.NotEqual(t, codec.Torn, log.State, at)
			switch {
			case !wrong && !slices.Equal(got, last):
				require.True(t, inRecord, at)
				silent[what]++
			case wrong && log.State == codec.Clean && got != nil && !inRecord:
				require.Equal(t, last, got, at)
			}
			if log.State == codec.Damaged {
				require.Less(t, log.End, int64(len(b)))
				require.Positive(t, log.Offset)
				require.NotEmpty(t, log.Problem)
			}
			if bit != int(off)%8 {
				continue
			}
			codectest.RequireSpans(t, New(), b, false)
			rescued, _ := salvaged(t, b, false)
			others := slices.DeleteFunc(slices.Clone(last), func(p string) bool { return key != "" && strings.HasPrefix(p, key+"=") })
			allowed := 0
			if strings.Contains(what, "length") {
				allowed = 1
			}
			require.LessOrEqual(t, missing(others, rescued), allowed, "%s: %v", at, rescued)
		}
	}
	t.Logf("unnoticed, by place: %v", silent)
}

// TestTruncatedEverywhere cuts a file at every byte: in the checkpointed part that is damage, in the log a torn tail;
// what was committed before is read either way.
func TestTruncatedEverywhere(t *testing.T) {
	d, states := history(t)
	for n := range len(d.B) {
		b := d.B[:n:n]
		codectest.RequireSpans(t, New(), b, false)
		salvaged(t, b, n%2 == 0)
		v := codectest.Mapped(b)
		h, err := New().ReadHeader(v)
		if err != nil {
			require.Less(t, n, emptySize)
			requireTyped(t, err)
			continue
		}
		ed := tree.Edit(tree.Tree{}, codectest.Lookup(New(), v))
		log, err := New().Replay(v, h, codec.ReplayOptions{}, ed)
		require.NoError(t, err)
		if int64(n) < h.LogStart {
			require.Equal(t, codec.Damaged, log.State, "%#x", n)
			require.LessOrEqual(t, log.Offset, int64(n))
			continue
		}
		require.Contains(t, states, codectest.Pairs(t, New(), v, ed.Tree()))
		if log.State == codec.Torn {
			require.LessOrEqual(t, log.End, int64(n))
			b, _ = recovered(t, nil, clone(b))
			requireSound(t, b, codectest.Pairs(t, New(), v, ed.Tree()))
		} else {
			require.Equal(t, codec.Log{End: int64(n)}, log)
		}
	}
}

// TestZeroTails puts zeros in the place of the last n bytes of the log, and behind its end.
func TestZeroTails(t *testing.T) {
	d, states := history(t)
	whole := int64(len(d.B))
	for n := int64(1); n < whole-d.H.LogStart; n++ {
		b := clone(d.B)
		clear(b[whole-n:])
		got, log, _ := found(t, b)
		require.Contains(t, states, got)
		require.Equal(t, codec.Torn, log.State, "%d zeros", n)
		b, _ = recovered(t, nil, b)
		requireSound(t, b, got)
	}
	for _, n := range []int{1, 2, 3, 4, 5, 8, 100, 4096, 100_001} {
		b := append(clone(d.B), make([]byte, n)...)
		got, log, _ := found(t, b)
		require.Equal(t, states[len(states)-1], got)
		require.Equal(t, codec.Torn, log.State)
		require.Equal(t, whole, log.End)
		codectest.RequireSpans(t, New(), b, false)
		b, _ = recovered(t, nil, b)
		require.Equal(t, d.B[headerSize:], b[headerSize:])
	}
}

// TestTail appends to a clean file what is not committed.
func TestTail(t *testing.T) {
	d, states := history(t)
	last := states[len(states)-1]
	p, _ := d.Plan(t, set("x", "1"), del("user.u03"), set("y", "2"))
	full := p.Phases[0].Writes[0].New
	for _, c := range []struct {
		name        string
		tail        []byte
		uncommitted int
	}{
		{"garbage", []byte(strings.Repeat("=+-$", 99)), 0},
		{"one byte", []byte{2}, 0},
		{"without its COMMIT", full, 3},
		{"cut within its last record", full[:len(full)-4], 2},
		{"half a COMMIT", append(clone(full), 0, 0), 3},
		{"all but a byte of the COMMIT", append(clone(full), 0, 0, 0), 3},
		{"zeros behind", append(clone(full), make([]byte, 512)...), 3},
		{"garbage behind", append(clone(full), "garbage"...), 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := append(clone(d.B), c.tail...)
			_, live, log := replayed(t, b, codec.ReplayOptions{})
			require.Equal(t, last, codectest.Pairs(t, New(), codectest.Mapped(b), live))
			require.Equal(t, codec.Torn, log.State)
			require.EqualValues(t, len(d.B), log.End)
			require.EqualValues(t, len(d.B), log.Offset)
			require.Equal(t, c.uncommitted, log.Uncommitted)
			codectest.RequireSpans(t, New(), b, false)
			got, log := salvaged(t, b, false)
			require.Equal(t, last, got)
			require.Equal(t, codec.Torn, log.State)
			got, _ = salvaged(t, b, true)
			if c.uncommitted > 0 {
				require.Contains(t, got, "x=1")
			} else {
				require.Equal(t, last, got)
			}
			b, _ = recovered(t, nil, b)
			requireSound(t, b, last)
		})
	}
}

func TestReadHeader(t *testing.T) {
	good := New().Empty(now)
	with := func(off int64, n uint32) func([]byte) []byte {
		return func(b []byte) []byte { put32(b, off, n); return b }
	}
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		class  error
		offset int64
	}{
		{"another magic", func(b []byte) []byte { b[7] = 'x'; return b }, codec.ErrNotDatabase, 0},
		{"text", func([]byte) []byte { return []byte("user.fred\tdefault\n") }, codec.ErrNotDatabase, 0},
		{"twoskip", func(b []byte) []byte { copy(b[4:], "twoskip file"); return b }, codec.ErrNotDatabase, 0},
		{"version 0", with(offVersion, 0), codec.ErrVersion, offVersion},
		{"version 2", with(offVersion, 2), codec.ErrVersion, offVersion},
		{"maxlevel 21", with(offMaxLevel, 21), codec.ErrDamaged, offMaxLevel},
		{"maxlevel 19", with(offMaxLevel, 19), codec.ErrDamaged, offMaxLevel},
		{"maxlevel huge", with(offMaxLevel, math.MaxUint32), codec.ErrDamaged, offMaxLevel},
		{"curlevel above", with(offCurLevel, 21), codec.ErrDamaged, offCurLevel},
		{"curlevel huge", with(offCurLevel, math.MaxUint32), codec.ErrDamaged, offCurLevel},
		{"DUMMY type", with(offDummy, 1), codec.ErrDamaged, offDummy},
		{"DUMMY key", with(offDummy+4, 4), codec.ErrDamaged, offDummy + 4},
		{"DUMMY value", with(offDummy+8, math.MaxUint32), codec.ErrDamaged, offDummy + 8},
		{"DUMMY terminator", with(emptySize-4, 0), codec.ErrDamaged, emptySize - 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.change(clone(good))
			_, err := New().ReadHeader(codectest.Mapped(b))
			require.ErrorIs(t, err, c.class)
			require.Equal(t, c.offset, requireTyped(t, err).Offset)
			codectest.RequireSpans(t, New(), b, false)
		})
	}
	for _, fill := range []byte{0, 0xff, 'x'} { // sizes 1 to 143, of the file itself and of what a crash may leave
		for n := 1; n < emptySize; n++ {
			for _, b := range [][]byte{good[:n], append(clone(good[:n/2]), slices.Repeat([]byte{fill}, n-n/2)...)} {
				_, err := New().ReadHeader(codectest.Mapped(b))
				requireTyped(t, err)
				codectest.RequireSpans(t, New(), b, false)
				got, _ := salvaged(t, b, true)
				require.Empty(t, got)
			}
		}
	}
}

// raw is a record with any fields.
func raw(typ, klen uint32, key string, dlen uint32, value string, ptrs ...uint32) []byte {
	b := be.AppendUint32(be.AppendUint32(nil, typ), klen)
	b = appendPadded(b, []byte(key))
	b = appendPadded(be.AppendUint32(b, dlen), []byte(value))
	for _, p := range ptrs {
		b = be.AppendUint32(b, p)
	}
	return be.AppendUint32(b, terminator)
}

func words(list ...uint32) (b []byte) {
	for _, w := range list {
		b = be.AppendUint32(b, w)
	}
	return b
}

// TestImpossibleRecords has records that no writer makes follow good ones, with a COMMIT, before good ones. All are
// damage where they stand, and a salvage gets out what is before and behind.
func TestImpossibleRecords(t *testing.T) {
	many := make([]uint32, maxLevel+1)
	for name, rec := range map[string][]byte{
		"unknown type":             raw(3, 1, "k", 1, "v", 0),
		"INORDER in the log":       raw(typeInorder, 1, "k", 1, "v", 0),
		"DUMMY in the log":         raw(typeDummy, 1, "k", 1, "v", 0),
		"type of all ones":         raw(math.MaxUint32, 1, "k", 1, "v", 0),
		"empty key":                raw(typeAdd, 0, "", 1, "v", 0),
		"huge key":                 raw(typeAdd, math.MaxUint32, "k", 1, "v", 0),
		"huge key, rounded to 0":   raw(typeAdd, math.MaxUint32-2, "k", 1, "v", 0),
		"key of 2 GiB":             raw(typeAdd, 1<<31, "k", 1, "v", 0),
		"key to the end":           raw(typeAdd, 500, "k", 1, "v", 0),
		"huge value":               raw(typeAdd, 1, "k", math.MaxUint32, "v", 0),
		"value of 2 GiB":           raw(typeAdd, 1, "k", 1<<31, "v", 0),
		"value of 500 bytes":       raw(typeAdd, 1, "k", 500, "v", 0),
		"no pointers":              raw(typeAdd, 1, "k", 1, "v"),
		"21 pointers":              raw(typeAdd, 1, "k", 1, "v", many...),
		"pointer to the header":    raw(typeAdd, 1, "k", 1, "v", 4),
		"pointer across words":     raw(typeAdd, 1, "k", 1, "v", emptySize+2),
		"pointer near 4 GiB":       raw(typeAdd, 1, "k", 1, "v", math.MaxUint32-3),
		"DELETE of nothing":        words(typeDelete, 0),
		"DELETE of the DUMMY":      words(typeDelete, offDummy),
		"DELETE of itself":         words(typeDelete, emptySize+28+4),
		"DELETE of a later record": words(typeDelete, emptySize+28+4+8+4),
		"DELETE across words":      words(typeDelete, emptySize+1),
		"DELETE far away":          words(typeDelete, 1<<31),
		"DELETE near 4 GiB":        words(typeDelete, math.MaxUint32-3),
		"DELETE within a record":   words(typeDelete, emptySize+8),
		"DELETE of a COMMIT":       words(typeDelete, emptySize+28),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(1)
			d.Random = levels(1)
			d.Commit(t, set("a", "1"))
			b := append(clone(d.B), rec...)
			b = append(b, words(typeCommit)...)
			b = append(b, raw(typeAdd, 1, "z", 1, "9", 0)...)
			b = append(b, words(typeCommit)...)
			for _, v := range []*codec.View{codectest.Mapped(b), codectest.Unmapped(b)} {
				_, live, log := codectest.Replayed(t, New(), v, codec.ReplayOptions{})
				require.Equal(t, codec.Damaged, log.State)
				require.EqualValues(t, len(d.B), log.End)
				require.EqualValues(t, len(d.B), log.Offset)
				require.Equal(t, []string{"a=1"}, codectest.Pairs(t, New(), v, live))
			}
			codectest.RequireSpans(t, New(), b, false)
			got, log := salvaged(t, b, false)
			require.Equal(t, []string{"a=1", "z=9"}, got)
			require.Equal(t, codec.Damaged, log.State)
		})
	}
}

// TestHalfATransactionIsNone has the last record of a transaction make no sense: the others must not show.
func TestHalfATransactionIsNone(t *testing.T) {
	for _, n := range []int{0, longTransaction} {
		d := built(t, []op{set("a", "1"), set("b", "2"), set("c", "3")})
		want := contents(t, d.B)
		ops := []op{set("b", "new"), del("c"), set("c", "newer"), del("a"), set("d", "new")}
		for i := range n {
			ops = append(ops, set(fmt.Sprint("e", i), "new"))
		}
		p, _ := d.Plan(t, ops...)
		b := append(perform(d.B, p.Phases[0]), words(typeDelete, uint32(refs(d.Live)[0].Offset()), typeCommit)...) // a, again
		_, live, log := replayed(t, b, codec.ReplayOptions{})
		require.Equal(t, codec.Damaged, log.State)
		require.EqualValues(t, len(d.B), log.End)
		require.EqualValues(t, len(b)-12, log.Offset)
		require.Equal(t, want, codectest.Pairs(t, New(), codectest.Mapped(b), live))
		got, _ := salvaged(t, b, false)
		require.Len(t, got, 3+n)
		require.Contains(t, got, "c=newer")
	}
}

// TestDisorder has checkpointed records out of order noticed.
func TestDisorder(t *testing.T) {
	d := built(t, []op{set("a", "1"), set("\xff", "2"), set("c", "3")})
	d.Rewrite(t)
	v := d.View()
	look := codectest.Lookup(New(), v)
	look.Compare = func(a, b []byte) int { return slices.Compare(a, b) }
	ed := tree.Edit(tree.Tree{}, look)
	log, err := New().Replay(v, d.H, codec.ReplayOptions{}, ed)
	require.NoError(t, err)
	require.True(t, log.Disorder)
	require.Equal(t, recordAt(t, d.B, "a").off, log.DisorderAt)
	require.Equal(t, []string{"a=1", "c=3", "\xff=2"}, codectest.Pairs(t, New(), v, ed.Tree()))
	_, _, log = replayed(t, d.B, codec.ReplayOptions{})
	require.False(t, log.Disorder)
}

// TestFindings has each oddity that does not hinder reported, and what it means for what is read.
func TestFindings(t *testing.T) {
	d := newDisk(1)
	d.Random = levels(1, 1, 1)
	d.Commit(t, set("a", "1"), set("b", "2"))
	for code, b := range map[string][]byte{
		codeZeroGap:   append(append(clone(d.B), 0, 0, 0, 0, 0, 0, 0, 0), append(raw(typeAdd, 1, "c", 1, "3", 0), words(typeCommit)...)...),
		codeAddExists: append(clone(d.B), append(raw(typeAdd, 1, "b", 1, "3", 0), words(typeCommit)...)...),
		codePadding:   append(clone(d.B), append([]byte("\x00\x00\x00\x02\x00\x00\x00\x01c\x00x\x00\x00\x00\x00\x013\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff"), words(typeCommit)...)...),
		codeLogStart:  func() []byte { b := clone(d.B); put32(b, offLogStart, emptySize+20); return b }(),
	} {
		_, live, log := replayed(t, b, codec.ReplayOptions{})
		require.Equal(t, codec.Clean, log.State, code)
		require.EqualValues(t, len(b), log.End)
		require.Len(t, log.Findings, 1)
		require.Equal(t, code, log.Findings[0].Code)
		want := map[string][]string{codeAddExists: {"a=1", "b=3"}, codeLogStart: {"a=1", "b=2"}}[code]
		if want == nil {
			want = []string{"a=1", "b=2", "c=3"}
		}
		require.Equal(t, want, codectest.Pairs(t, New(), codectest.Mapped(b), live), code)
		b, _ = recovered(t, nil, b)
		require.Equal(t, want, oracle{b}.walk(t), code)
	}
}
