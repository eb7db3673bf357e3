package flat

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// cyrusRank is the table that Cyrus's lib/bsearch.c describes, written down once more.
func cyrusRank(c byte) int {
	switch {
	case c == 0:
		return 0
	case c == '\t', c == '\n':
		return 1
	case c == '.':
		return 2
	case c < 9:
		return int(c) + 2
	}
	return int(c)
}

// cyrusCompare does what the inner loop of bsearch_mem_mbox does with a word, an encoded key ending in NUL, and the
// line that it meets.
func cyrusCompare(word, line []byte) int {
	word = append(bytes.Clone(word), 0)
	cmp, i := 0, 0
	n := len(line)
	for n > 0 {
		n--
		if cmp = cyrusRank(word[i]) - cyrusRank(line[i]); cmp != 0 {
			n++
			break
		}
		i++
	}
	switch {
	case n > 0 && word[i] == 0:
		cmp = cyrusRank('\t') - cyrusRank(line[i])
	case cmp == 0:
		cmp = 1
	}
	return cmp
}

func sign(n int) int { return max(-1, min(1, n)) }

// TestOrderIsThatOfCyrus compares decoded keys with our comparison, and their lines with that of Cyrus.
func TestOrderIsThatOfCyrus(t *testing.T) {
	check := func(t require.TestingT, a, b []byte) {
		line := append(appendEncoded(nil, b), "\tvalue\n"...)
		want := sign(cyrusCompare(appendEncoded(nil, a), line))
		require.Equal(t, want, sign(compare(a, b)), "%q %q", a, b)
		require.Equal(t, -want, sign(compare(b, a)), "%q %q", b, a)
	}
	for a := range 256 {
		for b := range 256 {
			check(t, []byte{'x', byte(a)}, []byte{'x', byte(b)})
			check(t, []byte{'x', byte(a)}, []byte{'x', byte(a), byte(b)})
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		common := rapid.SliceOfN(spiteful, 0, 20).Draw(t, "common")
		a := append(bytes.Clone(common), anyBytes.Draw(t, "a")...)
		b := append(bytes.Clone(common), anyBytes.Draw(t, "b")...)
		check(t, a, b)
	})
}

func TestComparingAllocatesNothing(t *testing.T) {
	a, b := []byte("user.\x00\t\xffa"), []byte("user.\x00\t\xffb")
	require.Zero(t, testing.AllocsPerRun(100, func() { compare(a, b) }))
	v := mapped([]byte("user.bob\t%(A %(bob lrs))\n"))
	require.Zero(t, testing.AllocsPerRun(100, func() { New().Key(v, 1); _, _, _ = New().Record(v, 1) }))
}

func BenchmarkKey(b *testing.B) {
	v := mapped([]byte("user.somebody.Archive.2026\t%(A %(somebody lrswipkxtecdan))\n"))
	for b.Loop() {
		New().Key(v, 1)
	}
}

func BenchmarkCompare(b *testing.B) {
	x, y := []byte("user.somebody.Archive.2026"), []byte("user.somebody.Archive.2027")
	for b.Loop() {
		compare(x, y)
	}
}
