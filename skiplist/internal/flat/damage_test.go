package flat

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

const sample = "Zed\t4\na\t1\nb\xff\xff\x80\tx\xff\xffy\nk\tvalue with tab\xff\x89here\nk2\t\nuser.a\tdefault\nuser.a.b\t%(A %(b lrs))\n" +
	"user.a-b\tv\xff\x8d\xff\x8a\xff\xff\n"

func spans(v *codec.View) []codec.Span { return slices.Collect(New().Spans(v)) }

// survey reads a file in every way there is, and checks what must hold for any bytes at all.
func survey(t require.TestingT, file []byte) {
	for _, v := range []*codec.View{mapped(file), unmapped(file), halfMapped(file)} {
		_, err := New().ReadHeader(v)
		if err != nil {
			require.ErrorIs(t, err, codec.ErrNotDatabase)
		}
		for _, opt := range []codec.ReplayOptions{{}, {Salvage: true}, {Salvage: true, Uncommitted: true}} {
			live, log := replayed(t, v, opt)
			require.True(t, log.End >= 0 && log.End <= v.Size && log.Offset <= v.Size)
			list := pairs(t, v, live)
			for i := range list[min(1, len(list)):] {
				require.Negative(t, compare([]byte(list[i].key), []byte(list[i+1].key)))
			}
			out := rewritten(t, v, live)
			again, relog := replayed(t, mapped(out), codec.ReplayOptions{})
			require.Equal(t, list, pairs(t, mapped(out), again))
			require.Equal(t, codec.Log{End: int64(len(out))}, relog, "what is written is a good file")
		}
		off := int64(0)
		for _, sp := range spans(v) {
			require.Equal(t, off, sp.Off)
			require.Positive(t, sp.Len)
			off += sp.Len
			for _, f := range sp.Fields {
				require.True(t, f.Off >= sp.Off && f.Len >= 0 && f.Off+f.Len <= sp.Off+sp.Len)
			}
		}
		require.Equal(t, v.End(), off)
	}
}

// TestEveryBitFlipped checks that a flip is seen, or changes at most the lines it touches.
func TestEveryBitFlipped(t *testing.T) {
	survey(t, []byte(sample))
	good, _ := replayed(t, mapped([]byte(sample)), codec.ReplayOptions{})
	whole := pairs(t, mapped([]byte(sample)), good)
	for bit := range len(sample) * 8 {
		file := []byte(sample)
		file[bit/8] ^= 1 << (bit % 8)
		survey(t, file)
		v := mapped(file)
		live, log := replayed(t, v, codec.ReplayOptions{Salvage: true, Uncommitted: true})
		lost := 0
		got := pairs(t, v, live)
		for _, p := range whole {
			if !slices.Contains(got, p) {
				lost++
			}
		}
		require.LessOrEqual(t, lost, 2, "bit %d: %+v", bit, log)
	}
}

func TestTruncatedAtEveryByte(t *testing.T) {
	for n := range len(sample) {
		file := []byte(sample)[:n]
		survey(t, file)
		live, log := replayed(t, mapped(file), codec.ReplayOptions{})
		require.EqualValues(t, bytes.LastIndexByte(file, '\n')+1, log.End)
		require.Equal(t, bytes.Count(file, []byte("\n")), live.Len())
		require.Equal(t, log.End != int64(n), log.State == codec.Damaged)
	}
}

// TestHoles zeroes every stretch of the file, as a lost block does.
func TestHoles(t *testing.T) {
	for from := range len(sample) {
		for to := from + 1; to <= len(sample); to += 3 {
			file := []byte(sample)
			clear(file[from:to])
			survey(t, file)
			_, log := replayed(t, mapped(file), codec.ReplayOptions{})
			require.NotEqual(t, codec.Clean, log.State)
		}
	}
}

// TestLongLines reads lines that are longer than any buffer.
func TestLongLines(t *testing.T) {
	long := bytes.Repeat([]byte("long "), 100_000)
	list := []pair{{"a", string(long)}, {"b" + string(long), "x"}, {"c", ""}}
	file, _ := built(t, list)
	for _, v := range []*codec.View{mapped(file), unmapped(file), halfMapped(file)} {
		live, log := replayed(t, v, codec.ReplayOptions{})
		require.Equal(t, codec.Log{End: v.Size}, log)
		require.Equal(t, list, pairs(t, v, live))
		for _, sp := range spans(v) {
			require.Less(t, len(fmt.Sprint(sp)), 500)
		}
	}
}

func TestSpans(t *testing.T) {
	file := "b\t2\na\t1\nbad\nk\xff\x89\tv\n\x00\x00\nc\t3"
	var got []string
	for _, sp := range spans(mapped([]byte(file))) {
		s := fmt.Sprintf("%d+%d %s", sp.Off, sp.Len, sp.Kind)
		for _, f := range sp.Fields {
			s += fmt.Sprintf(" %s@%d+%d=%s", f.Name, f.Off, f.Len, f.Value)
		}
		if sp.Problem != "" {
			s += " (" + sp.Problem + ")"
		}
		got = append(got, s)
	}
	require.Equal(t, []string{
		`0+4 line key@0+1="b" value@2+1="2"`,
		`4+4 line key@4+1="a" value@6+1="1" (sorts before an earlier line: Cyrus may not find it)`,
		`8+4 garbage text@8+3="bad" (no TAB after a key)`,
		`12+6 line key@12+3="k\t" value@16+1="v"`,
		`18+2 zeros (no writer leaves NUL bytes)`,
		`20+1 garbage text@20+0="" (no TAB after a key)`,
		`21+3 line key@21+1="c" value@23+1="3" (no LF: Cyrus ignores it)`,
	}, got)
}

func FuzzFlat(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("b\t2\na\t1\nbad\nk\xff\x89\tv\n\x00\x00\nc\t3"))
	f.Add([]byte("\xff\t\xff\n\xff\xff\t\n\t\n"))
	f.Add([]byte("\xa1\x02\x8b\x0dtwoskip file\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, file []byte) { survey(t, file) })
}
