package v1

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/codectest"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// counter counts how often, and how many bytes of, a file are read.
type counter struct {
	r           *bytes.Reader
	calls, size int64
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	c.calls++
	c.size += int64(len(p))
	return c.r.ReadAt(p, off)
}

// hostile makes a file of n bytes behind an empty database, of the same block again and again.
func hostile(n int, block []byte) []byte {
	b := New().Empty(now)
	return append(b, bytes.Repeat(block, n/len(block))...)
}

// patterns are files on which a careless search takes quadratic time or much memory. n is their size.
var patterns = map[string]func(n int) []byte{
	"words":   func(n int) []byte { return hostile(n, []byte("abcd")) },
	"zeros":   func(n int) []byte { return hostile(n, make([]byte, 4)) },
	"COMMITs": func(n int) []byte { return hostile(n, words(typeCommit)) },
	"DELETEs": func(n int) []byte { return hostile(n, words(typeDelete, emptySize)) },
	"ADDs without a COMMIT": func(n int) []byte {
		return append(hostile(n, raw(typeAdd, 1, "k", 0, "", 0)), words(7)...)
	},
	"zeros between ADDs": func(n int) []byte {
		return hostile(n, append(raw(typeAdd, 1, "k", 0, "", 0), 0, 0, 0, 0))
	},
	"DELETEs of one record, without a COMMIT": func(n int) []byte {
		b := append(New().Empty(now), raw(typeAdd, 1, "k", 0, "", 0)...)
		return append(append(b, bytes.Repeat(words(typeDelete, emptySize), n/8)...), words(7)...)
	},
	// Each word may begin an ADD whose key and value reach far into the others, and ends at the same pointers.
	"overlapping": func(n int) []byte {
		b := append(New().Empty(now), words(7)...)
		end := emptySize + n
		for len(b) < end {
			b = be.AppendUint32(be.AppendUint32(b, typeAdd), uint32(end-len(b)-8))
		}
		b = be.AppendUint32(b, 0) // the length of the value of all
		for range maxLevel {
			b = be.AppendUint32(b, emptySize+4)
		}
		return be.AppendUint32(b, terminator)
	},
	// All keys are half of the file, and equal for most of their length.
	"long equal keys": func(n int) []byte {
		b := append(New().Empty(now), words(7)...)
		end := emptySize + n
		for len(b) < emptySize+n/2 {
			b = be.AppendUint32(be.AppendUint32(b, typeAdd), uint32(end-len(b)-8)/8*8)
		}
		b = append(b, bytes.Repeat([]byte{0, 0, 0, 16}, (end-len(b))/4)...)
		for range maxLevel {
			b = be.AppendUint32(b, emptySize+64)
		}
		return be.AppendUint32(b, terminator)
	},
	// Two live records with the same long prefix, and DELETEs of one of them for ever.
	"DELETEs of a long key": func(n int) []byte {
		long := strings.Repeat("k", n/4)
		b := append(New().Empty(now), raw(typeAdd, uint32(len(long)), long, 0, "", 0)...)
		b = append(b, raw(typeAdd, uint32(len(long)+1), long+"l", 0, "", 0)...)
		return append(append(b, bytes.Repeat(words(typeDelete, emptySize), n/16)...), words(typeCommit)...)
	},
}

// TestLinear reads hostile files of two sizes in every way. What is read, in calls and bytes, and what is allocated stays
// within a fixed multiple of the file's size.
func TestLinear(t *testing.T) {
	const (
		callsPerWord = 60 // a candidate has 20 pointers, each of which leads to a record of a few fields
		bytesPerByte = 4000
		allocPerByte = 40
	)
	for name, make := range patterns {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1 << 14, 1 << 17} {
				b := make(n)
				size := int64(len(b))
				for _, opt := range []codec.ReplayOptions{{}, {Salvage: true}, {Salvage: true, Uncommitted: true}} {
					c := &counter{r: bytes.NewReader(b)}
					v := &codec.View{Path: "db", Size: size, File: c}
					h, err := New().ReadHeader(v)
					require.NoError(t, err)
					_, err = New().Replay(v, h, opt, tree.Edit(tree.Tree{}, codectest.Lookup(New(), v)))
					require.NoError(t, err)
					require.Less(t, c.calls, size/word*callsPerWord, "%+v of %d bytes", opt, n)
					require.Less(t, c.size, size*bytesPerByte, "%+v of %d bytes", opt, n)

					mapped := codectest.Mapped(b)
					got := allocated(func() {
						_, err = New().Replay(mapped, h, opt, tree.Edit(tree.Tree{}, codectest.Lookup(New(), mapped)))
						require.NoError(t, err)
					})
					require.Less(t, got, uint64(size*allocPerByte+1<<20), "%+v of %d bytes", opt, n)
				}
				c := &counter{r: bytes.NewReader(b)}
				n := int64(0)
				for s := range New().Spans(&codec.View{Path: "db", Size: size, File: c}) {
					n += s.Len
				}
				require.Equal(t, size, n)
				require.Less(t, c.calls, size/word*callsPerWord)
				require.Less(t, c.size, size*100)
			}
		})
	}
}

// allocated tells how many bytes f allocates, whether or not they are freed meanwhile.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestMarks compares the set of offsets with a map.
func TestMarks(t *testing.T) {
	m, want := marks{}, map[int64]bool{}
	for i := range int64(3000) {
		off := i * i * 52 % (1 << 33) &^ 3
		require.Equal(t, want[off], m.has(off))
		m.add(off)
		want[off] = true
		require.True(t, m.has(off))
		require.Equal(t, want[off+word], m.has(off+word))
	}
}

// TestValuesAreNotRecords commits values that hold whole transactions, and leaves others uncommitted: nothing in them is
// read, or taken for what proves damage.
func TestValuesAreNotRecords(t *testing.T) {
	other := built(t, []op{set("bogus", "x"), set("bogus2", "y")}, []op{del("bogus")})
	for _, inner := range [][]byte{
		other.B, other.B[emptySize:], words(typeCommit, typeCommit), words(typeDelete, 4, typeCommit),
		append(raw(typeAdd, 1, "k", 1, "v", 1<<20), words(typeCommit)...),
	} {
		d := built(t, []op{set("a", "1")})
		d.Commit(t, set("v", string(inner)))
		want := []string{"a=1", "v=" + string(inner)}
		requireSound(t, d.B, want)
		p, _ := d.Plan(t, set("w", string(inner)+"tail"))
		b := perform(d.B, p.Phases[0])
		for cut := len(d.B); cut <= len(b); cut++ {
			_, _, log := replayed(t, b[:cut:cut], codec.ReplayOptions{})
			require.NotEqual(t, codec.Clean, log.State == codec.Torn && log.End != int64(len(d.B)))
			if log.State == codec.Damaged {
				// Only what would fit into this very file passes for a committed transaction.
				require.True(t, bytes.Contains(inner, words(typeCommit)), "cut at %#x", cut)
			}
			require.Equal(t, want, contents(t, b[:cut:cut]))
		}
	}
}

// TestSalvage damages a file in several ways at once and counts what comes out.
func TestSalvage(t *testing.T) {
	d, m := newDisk(2), model{}
	commit := func(ops ...op) {
		d.Commit(t, ops...)
		m.Apply(ops)
	}
	for i := range 30 {
		commit(set(fmt.Sprintf("base%02d", i), "checkpointed"))
	}
	d.Rewrite(t)
	for i := range 30 {
		commit(set(fmt.Sprintf("log%02d", i), "in the log"))
	}
	commit(set("base03", "again"), set("base04", "again"), del("base05"))
	all := list(m)
	spoil := func(b []byte, key string) []byte { put32(b, recordAt(t, d.B, key).off, 99); return b }
	without := func(gone ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(p string) bool {
			return slices.ContainsFunc(gone, func(g string) bool { return strings.HasPrefix(p, g+"=") })
		})
	}
	t.Run("nothing", func(t *testing.T) {
		got, log := salvaged(t, d.B, false)
		require.Equal(t, all, got)
		require.Equal(t, codec.Clean, log.State)
	})
	t.Run("one in each part", func(t *testing.T) {
		got, log := salvaged(t, spoil(spoil(clone(d.B), "base10"), "log10"), false)
		require.Equal(t, without("base10", "log10"), got)
		require.Equal(t, codec.Damaged, log.State)
		require.Equal(t, recordAt(t, d.B, "base10").off, log.Offset)
	})
	t.Run("many", func(t *testing.T) {
		b := clone(d.B)
		var gone []string
		for i := range 10 {
			gone = append(gone, fmt.Sprintf("base%02d", 2*i+6), fmt.Sprintf("log%02d", 3*i))
			spoil(spoil(b, gone[len(gone)-1]), gone[len(gone)-2])
		}
		got, _ := salvaged(t, b, false)
		require.Equal(t, without(gone...), got)
	})
	t.Run("the header", func(t *testing.T) {
		b := clone(d.B)
		clear(b[:emptySize])
		got, _ := salvaged(t, b, false)
		require.Equal(t, all, got)
		got, _ = salvaged(t, spoil(b, "base00"), false)
		require.Equal(t, without("base00"), got)
		got, _ = salvaged(t, spoil(b, "base12"), false)
		require.Equal(t, without("base00", "base12"), got)
	})
	t.Run("a replacement", func(t *testing.T) {
		got, _ := salvaged(t, spoil(clone(d.B), "base03"), false)
		require.Equal(t, append([]string{"base03=checkpointed"}, without("base03")...), moved(got, "base03=checkpointed"))
	})
	t.Run("a DELETE", func(t *testing.T) {
		b := clone(d.B)
		put32(b, int64(len(b))-12, typeDelete|64)
		got, log := salvaged(t, b, false)
		require.Equal(t, append([]string{"base05=checkpointed"}, all...), moved(got, "base05=checkpointed"))
		require.Equal(t, codec.Damaged, log.State)
	})
	t.Run("a hole", func(t *testing.T) {
		b := clone(d.B)
		from, to := recordAt(t, b, "log05").off, recordAt(t, b, "log15").off
		clear(b[from:to])
		var gone []string
		for i := 5; i < 15; i++ {
			gone = append(gone, fmt.Sprintf("log%02d", i))
		}
		got, _ := salvaged(t, b, false)
		require.Equal(t, without(gone...), got)
	})
	t.Run("a torn tail", func(t *testing.T) {
		p, _ := d.Plan(t, set("base00", "not committed"), set("x", "y"))
		b := perform(spoil(clone(d.B), "log10"), p.Phases[0])
		put32(b, int64(len(d.B))-commitSize, typeCommit)
		got, log := salvaged(t, b, false)
		require.Equal(t, without("log10"), got)
		require.Equal(t, codec.Damaged, log.State)
		b = spoil(b, "base05") // the DELETE of it is the last record
		got, _ = salvaged(t, b, false)
		require.Equal(t, without("log10"), got)
	})
	t.Run("the COMMITs of all", func(t *testing.T) {
		b := clone(d.B)
		for s := range New().Spans(d.View()) {
			if s.Kind == "commit" && s.Off < int64(len(b))-commitSize {
				put32(b, s.Off, 98)
			}
		}
		got, _ := salvaged(t, b, false)
		require.Equal(t, all, got)
	})
}

// moved puts one pair to the front.
func moved(list []string, pair string) []string {
	return append([]string{pair}, slices.DeleteFunc(slices.Clone(list), func(p string) bool { return p == pair })...)
}
