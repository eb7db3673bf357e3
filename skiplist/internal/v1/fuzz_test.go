package v1

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/codectest"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// seedFiles are the files that Cyrus has left, and some of our own.
func seedFiles(f *testing.F) (list [][]byte) {
	names, err := filepath.Glob("testdata/*.db")
	require.NoError(f, err)
	require.NotEmpty(f, names)
	for _, name := range names {
		b, err := os.ReadFile(name)
		require.NoError(f, err)
		list = append(list, b)
	}
	d := newDisk(1)
	list = append(list, d.B)
	d.Commit(f, set("a", "1"), set("b", strings.Repeat("2", 500)), set("c", "3"))
	d.Commit(f, del("b"), set("d", "4"))
	d.Commit(f, del("d"))
	list = append(list, d.B)
	p, _ := d.Plan(f, set("e", "5"), del("a"))
	list = append(list, perform(d.B, p.Phases[0]))
	damaged := clone(d.B)
	put32(damaged, recordAt(f, d.B, "c").off, 9)
	list = append(list, damaged)
	d.Rewrite(f)
	return append(list, d.B)
}

// seeds gives each file, and whether its header and DUMMY are to be replaced by good ones.
func seeds(f *testing.F) {
	for _, b := range seedFiles(f) {
		f.Add(b, false)
		f.Add(b, true)
	}
}

// mended has a fuzzer get past the header.
func mended(b []byte, mend bool) []byte {
	if !mend {
		return b
	}
	return append(New().Empty(now), b[min(len(b), emptySize):]...)
}

// maxAlloc is what reading a file of n bytes may allocate.
func maxAlloc(n int) uint64 { return uint64(n)*100 + 1<<20 }

func FuzzReadHeader(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if mend && len(b) > emptySize {
			copy(b, magic)
			put32(b, offVersion, version)
		}
		h, err := New().ReadHeader(codectest.Mapped(b))
		if err != nil {
			requireTyped(t, err)
			return
		}
		require.Equal(t, b[:headerSize], appendHeader(nil, h))
		require.LessOrEqual(t, h.CurLevel, h.MaxLevel)
	})
}

// fuzzReplay reads any bytes; what it has read must be readable, rewritable and the same again.
func fuzzReplay(t *testing.T, b []byte, opt codec.ReplayOptions) {
	v := codectest.Mapped(b)
	h, err := New().ReadHeader(v)
	if err != nil {
		if requireTyped(t, err); !opt.Salvage {
			return
		}
		h = codec.Header{}
	}
	var ed *tree.Editor
	var log codec.Log
	got := allocated(func() {
		ed = tree.Edit(tree.Tree{}, codectest.Lookup(New(), v))
		log, err = New().Replay(v, h, opt, ed)
	})
	require.NoError(t, err)
	require.Less(t, got, maxAlloc(len(b)))
	require.LessOrEqual(t, log.End, int64(len(b)))
	live := ed.Tree()
	want := codectest.Pairs(t, New(), v, live)
	_ = New().CheckLinks(v, h, live, func(codec.WrongLink) bool { return true })
	d := &disk{Codec: New(), B: b, H: h, Live: live, Random: levels(1)}
	d.Rewrite(t)
	if !log.Disorder {
		requireSound(t, d.B, want)
	}
	if opt.Salvage || log.State == codec.Damaged {
		return
	}
	_, err = New().Recover(v, h, log, nil, live, now)
	require.NoError(t, err)
	if codectest.Mapped(b).Size == log.End && len(log.Findings) == 0 && !log.Disorder {
		unmappedSame(t, b, want)
	}
}

func unmappedSame(t *testing.T, b []byte, want []string) {
	v := codectest.Unmapped(b)
	_, live, _ := codectest.Replayed(t, New(), v, codec.ReplayOptions{})
	require.Equal(t, want, codectest.Pairs(t, New(), v, live))
}

func FuzzReplay(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) { fuzzReplay(t, mended(b, mend), codec.ReplayOptions{}) })
}

func FuzzSalvage(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		b = mended(b, mend)
		fuzzReplay(t, b, codec.ReplayOptions{Salvage: true})
		fuzzReplay(t, b, codec.ReplayOptions{Salvage: true, Uncommitted: true})
	})
}

// FuzzSpans maps any bytes.
func FuzzSpans(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) { codectest.RequireSpans(t, New(), mended(b, mend), false) })
}

// FuzzRecord reads a record, or its key, at any place; if it is one, writing it gives the same bytes.
func FuzzRecord(f *testing.F) {
	for _, b := range seedFiles(f) {
		f.Add(b, uint32(emptySize), uint8(1))
		f.Add(b, uint32(len(b)-40), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, off uint32, level uint8) {
		v := codectest.Mapped(b)
		ref := tree.NewRef(int64(off), int(level%32))
		got := allocated(func() { New().Key(v, ref) })
		require.Less(t, got, maxAlloc(len(b)))
		if _, _, err := New().Record(v, ref); err != nil {
			requireTyped(t, err)
		}
		rec, err := newParser(v, codec.Header{}).record(int64(off), typeAdd)
		if err != nil {
			return
		}
		key, value, err := New().Record(v, tree.NewRef(rec.off, rec.level))
		if typ := be.Uint32(b[off:]); typ != typeAdd && typ != typeInorder {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, string(key), string(New().Key(v, ref)))
		var ptrs []uint32
		for i := range rec.level {
			ptrs = append(ptrs, be.Uint32(b[rec.ptrOff(i):]))
		}
		again := appendRecord(nil, be.Uint32(b[off:]), key, value, ptrs)
		require.EqualValues(t, rec.size, len(again))
		if (parser{v: v, end: v.End()}).padded(rec) {
			require.Equal(t, b[off:int64(off)+rec.size], again)
		}
	})
}
