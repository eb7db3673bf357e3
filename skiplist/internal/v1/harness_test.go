package v1

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/codectest"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// fataler is what a *testing.T and a *rapid.T have in common.
type fataler = codectest.T

type (
	op    = codectest.Op
	disk  = codectest.Disk
	model = codectest.Model
)

var (
	set = codectest.Set
	del = codectest.Del
	now = codectest.Now
)

func newDisk(seed uint64) *disk { return codectest.New(New(), seed) }

// built makes a file of some transactions.
func built(t fataler, txns ...[]op) *disk {
	d := newDisk(3)
	for _, ops := range txns {
		d.Commit(t, ops...)
	}
	return d
}

// levels makes Random yield the given levels.
func levels(list ...int) func() uint64 {
	i := 0
	return func() uint64 {
		i++
		return 1 << (list[i-1] - 1)
	}
}

func replayed(t fataler, b []byte, opt codec.ReplayOptions) (codec.Header, tree.Tree, codec.Log) {
	return codectest.Replayed(t, New(), codectest.Mapped(b), opt)
}

// contents is what a whole replay finds.
func contents(t fataler, b []byte) []string {
	_, live, _ := replayed(t, b, codec.ReplayOptions{})
	return codectest.Pairs(t, New(), codectest.Mapped(b), live)
}

func list(m model) []string { return m.List(New()) }

// requireSound checks everything that must hold for a file that nobody is writing.
func requireSound(t fataler, b []byte, want []string) {
	v := codectest.Mapped(b)
	h, live, log := replayed(t, b, codec.ReplayOptions{})
	require.Equal(t, codec.Log{End: int64(len(b))}, log)
	require.Equal(t, want, codectest.Pairs(t, New(), v, live))
	require.Empty(t, codectest.WrongLinks(t, New(), v, h, live))
	o := oracle{b}
	require.True(t, o.safeToAppend())
	require.Equal(t, want, o.walk(t))
}

// found reads a file that may be damaged in any way. It tells what is in it and whether anything is said to be wrong.
func found(t fataler, b []byte) (list []string, log codec.Log, wrong bool) {
	v := codectest.Mapped(b)
	h, err := New().ReadHeader(v)
	if err != nil {
		requireTyped(t, err)
		return nil, log, true
	}
	ed := tree.Edit(tree.Tree{}, codectest.Lookup(New(), v))
	log, err = New().Replay(v, h, codec.ReplayOptions{}, ed)
	require.NoError(t, err)
	wrong = log.State != codec.Clean || len(log.Findings) > 0 || log.Disorder
	if !wrong {
		err := New().CheckLinks(v, h, ed.Tree(), func(codec.WrongLink) bool { wrong = true; return true })
		wrong = wrong || err != nil
	}
	return codectest.Pairs(t, New(), v, ed.Tree()), log, wrong
}

// requireTyped checks that an error says which file and where.
func requireTyped(t fataler, err error) *codec.FormatError {
	var broken *codec.FormatError
	require.ErrorAs(t, err, &broken)
	require.Equal(t, "db", broken.Path)
	require.Contains(t, []error{codec.ErrDamaged, codec.ErrNotDatabase, codec.ErrVersion}, broken.Class)
	return broken
}

// salvaged reads all that can be read, with or without a header.
func salvaged(t fataler, b []byte, uncommitted bool) ([]string, codec.Log) {
	v := codectest.Mapped(b)
	h, err := New().ReadHeader(v)
	if err != nil {
		h = codec.Header{}
	}
	ed := tree.Edit(tree.Tree{}, codectest.Lookup(New(), v))
	log, err := New().Replay(v, h, codec.ReplayOptions{Salvage: true, Uncommitted: uncommitted}, ed)
	require.NoError(t, err)
	return codectest.Pairs(t, New(), v, ed.Tree()), log
}

// recordAt is the newest ADD or INORDER record of a key in a whole file.
func recordAt(t fataler, b []byte, key string) (at record) {
	p := newParser(codectest.Mapped(b), codec.Header{})
	for off := int64(emptySize); off < p.end; {
		typ, err := p.word(off)
		require.NoError(t, err)
		e := entry{}
		if typ == typeInorder {
			e.record, err = p.record(off, typ)
		} else {
			e, err = p.entry(off)
		}
		require.NoError(t, err)
		if e.typ == typeAdd || e.typ == typeInorder {
			if k, _ := p.key(e.record); string(k) == key {
				at = e.record
			}
		}
		off += e.size
	}
	require.NotZero(t, at.off, key)
	return at
}

func put32(b []byte, off int64, n uint32) { be.PutUint32(b[off:], n) }

// history makes a file of many kinds of records, and lists what it held after each commit.
func history(t *testing.T) (*disk, [][]string) {
	d, m := newDisk(11), model{}
	commit := func(ops ...op) {
		d.Commit(t, ops...)
		m.Apply(ops)
	}
	for i := range 8 {
		commit(set("user.u0"+string(rune('0'+i)), "abcdefghijklmnopqrstuvwxyz"[:i*3]))
	}
	d.Rewrite(t)
	states := [][]string{nil, list(m)}
	for _, ops := range [][]op{
		{set("user.u03", "again"), set("user.zz", "last")},
		{del("user.u05"), del("user.u06"), set("user.u055", "between")},
		{del("user.zz"), set("user.new", "x"), del("user.new")},
		{set("user.u05", "back"), del("user.u07")},
		{del("user.u00")},
		{set("user.end", "the last one")},
	} {
		commit(ops...)
		states = append(states, list(m))
	}
	requireSound(t, d.B, list(m))
	return d, states
}

// torn draws what is on the disk after a crash in one phase.
func torn(rnd *rand.Rand, before []byte, ph codec.Phase) []byte {
	return codectest.Torn(rnd, before, ph)
}

func recovered(t fataler, rnd *rand.Rand, b []byte) ([]byte, bool) {
	return codectest.Recovered(t, New(), rnd, b)
}

func perform(b []byte, ph codec.Phase) []byte { return codectest.Perform(b, ph) }

func clone(b []byte) []byte { return slices.Clone(b) }

func refs(t tree.Tree) (list []tree.Ref) {
	for c := t.First(); c.Ref() != 0; c.Next() {
		list = append(list, c.Ref())
	}
	return list
}
