package twoskip

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/codectest"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// The harness is that of codectest, with this codec.
type (
	fataler = codectest.T
	disk    = codectest.Disk
	op      = codectest.Op
	model   = codectest.Model
)

var (
	set, del         = codectest.Set, codectest.Del
	mapped, unmapped = codectest.Mapped, codectest.Unmapped
	perform, torn    = codectest.Perform, codectest.Torn
	randomOps        = codectest.RandomOps
)

var noTime time.Time

func newDisk(seed uint64) *disk { return codectest.New(New(), seed) }

func lookup(v *codec.View) tree.Lookup { return codectest.Lookup(New(), v) }

func replayed(t fataler, v *codec.View, opt codec.ReplayOptions) (codec.Header, tree.Tree, codec.Log) {
	return codectest.Replayed(t, New(), v, opt)
}

func pairs(t fataler, v *codec.View, live tree.Tree) []string {
	return codectest.Pairs(t, New(), v, live)
}

func wrongLinks(t fataler, v *codec.View, h codec.Header, live tree.Tree) []codec.WrongLink {
	return codectest.WrongLinks(t, New(), v, h, live)
}

func recovered(t fataler, rnd *rand.Rand, b []byte) ([]byte, bool) {
	return codectest.Recovered(t, New(), rnd, b)
}

// plan prepares a transaction, whose second phase has the commit point.
func plan(t fataler, d *disk, ops ...op) (codec.Plan, tree.Tree) {
	p, live := d.Plan(t, ops...)
	require.Equal(t, 2, p.CommitPhase)
	return p, live
}

// contents is what a whole replay finds.
func contents(t fataler, b []byte) []string {
	v := mapped(b)
	_, live, _ := replayed(t, v, codec.ReplayOptions{})
	return pairs(t, v, live)
}

// requireSound checks everything that must hold for a file that nobody is writing.
func requireSound(t fataler, b []byte, want []string) {
	v := mapped(b)
	h, live, log := replayed(t, v, codec.ReplayOptions{})
	require.Equal(t, codec.Log{End: int64(len(b))}, log)
	require.Equal(t, want, pairs(t, v, live))
	require.Empty(t, wrongLinks(t, v, h, live))
	require.Equal(t, want, oracle{b}.walk(t))
}

// requireSpans checks that the byte map of a file covers it and, if it is whole, finds nothing wrong.
func requireSpans(t fataler, b []byte, whole bool) {
	off := int64(0)
	for s := range New().Spans(mapped(b)) {
		require.Equal(t, off, s.Off)
		require.Positive(t, s.Len)
		if whole {
			require.Empty(t, s.Problem)
		}
		requireFields(t, s)
		off += s.Len
	}
	require.Equal(t, int64(len(b)), off)
}

// requireFields checks that the fields of a span are adjacent and fill it.
func requireFields(t fataler, s codec.Span) {
	if len(s.Fields) == 0 {
		return
	}
	at := s.Off
	for _, f := range s.Fields {
		if at != f.Off {
			require.Equal(t, at, f.Off, "%s of %+v", f.Name, s)
		}
		at += f.Len
	}
	require.Equal(t, s.Off+s.Len, at, "%+v", s)
}

// fixHeader makes the checksum of the header right again.
func fixHeader(b []byte) { binary.BigEndian.PutUint32(b[60:], checksum(b[:60])) }

func u64(b []byte, off int64) int64 { return int64(binary.BigEndian.Uint64(b[off:])) }

func put64(b []byte, off, n int64) { binary.BigEndian.PutUint64(b[off:], uint64(n)) }

// built makes a file of some transactions.
func built(t *testing.T, txns ...[]op) *disk {
	d := newDisk(3)
	for _, ops := range txns {
		d.Commit(t, ops...)
	}
	return d
}
