package twoskip

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// fataler is what a *testing.T and a *rapid.T have in common.
type fataler = require.TestingT

var noTime time.Time

// disk is a database in memory, driven through the codec as package skiplist does.
type disk struct {
	b      []byte
	h      codec.Header
	live   tree.Tree
	random func() uint64
	// unmapped has the bytes read through File.
	unmapped bool
}

func newDisk(seed uint64) *disk {
	d := &disk{b: New().Empty(time.Time{}), random: rand.New(rand.NewPCG(seed, 7)).Uint64}
	d.h, _ = New().ReadHeader(d.view())
	return d
}

func mapped(b []byte) *codec.View { return &codec.View{Path: "db", Size: int64(len(b)), Mem: b} }

func unmapped(b []byte) *codec.View {
	return &codec.View{Path: "db", Size: int64(len(b)), File: bytes.NewReader(b)}
}

func (d *disk) view() *codec.View {
	if d.unmapped {
		return unmapped(slices.Clone(d.b))
	}
	return mapped(d.b)
}

func lookup(v *codec.View) tree.Lookup {
	return tree.Lookup{Key: func(r tree.Ref) []byte { return New().Key(v, r) }, Compare: bytes.Compare}
}

// op is a change: a put, or a deletion if del is set.
type op struct {
	key, value string
	del        bool
}

func set(key, value string) op { return op{key: key, value: value} }
func del(key string) op        { return op{key: key, del: true} }

// plan prepares a transaction and returns it with the tree after it.
func (d *disk) plan(t fataler, ops ...op) (codec.Plan, tree.Tree) {
	v := &codec.View{Path: "db", Size: int64(len(d.b)), Mem: d.b}
	txn := &codec.Txn{View: v, Header: d.h, Random: d.random, Compare: bytes.Compare}
	ed := tree.Edit(d.live, lookup(v))
	for _, o := range ops {
		key := []byte(o.key)
		old := ed.Get(key)
		if o.del {
			if old == 0 {
				continue
			}
			next, _ := ed.Seek(key)
			next.Next()
			at := v.End()
			require.NoError(t, New().Delete(txn, old, next.Ref()))
			ed.Delete(key)
			txn.Touched = append(txn.Touched, codec.Touch{Key: key, Level: old.Level(), At: at, Deleted: true})
			continue
		}
		ref, err := New().Put(txn, key, []byte(o.value), old)
		require.NoError(t, err)
		if ref == old {
			continue
		}
		k, value, err := New().Record(v, ref)
		require.NoError(t, err)
		require.Equal(t, o.key, string(k))
		require.Equal(t, o.value, string(value))
		ed.Put(key, ref)
		txn.Touched = append(txn.Touched, codec.Touch{Key: key, Level: max(old.Level(), ref.Level()), At: ref.Offset()})
	}
	txn.Live = ed.Tree()
	p, err := New().Seal(txn)
	require.NoError(t, err)
	require.Equal(t, 2, p.CommitPhase)
	require.Len(t, p.Phases, 3)
	return p, txn.Live
}

// commit carries a transaction out.
func (d *disk) commit(t fataler, ops ...op) {
	p, live := d.plan(t, ops...)
	for _, ph := range p.Phases {
		for _, w := range ph.Writes {
			if w.Old != nil {
				require.Equal(t, d.b[w.Off:w.Off+int64(len(w.Old))], w.Old)
			}
		}
		d.b = perform(d.b, ph)
	}
	d.h, d.live = p.Header, live
	require.Equal(t, p.Size, int64(len(d.b)))
}

// perform carries out one phase on a copy.
func perform(b []byte, ph codec.Phase) []byte {
	b = slices.Clone(b)
	for _, w := range ph.Writes {
		if end := int(w.Off) + len(w.New); end > len(b) {
			b = append(b, make([]byte, end-len(b))...)
		}
		copy(b[w.Off:], w.New)
	}
	if ph.Cut > 0 {
		b = b[:ph.Cut]
	}
	return b
}

// rewrite replaces the file by a checkpoint of it.
func (d *disk) rewrite(t fataler) {
	var out []byte
	w, err := New().Rewrite(d.view(), d.h, d.live, time.Time{}, func(b []byte) error {
		out = append(out, b...)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, w.Size, int64(len(out)))
	require.Equal(t, d.live.Len(), w.Live.Len())
	d.b, d.h, d.live = out, w.Header, w.Live
}

// replayed reads a file from its beginning.
func replayed(t fataler, v *codec.View, opt codec.ReplayOptions) (codec.Header, tree.Tree, codec.Log) {
	h, err := New().ReadHeader(v)
	require.NoError(t, err)
	ed := tree.Edit(tree.Tree{}, lookup(v))
	log, err := New().Replay(v, h, opt, ed)
	require.NoError(t, err)
	return h, ed.Tree(), log
}

// pairs lists the live records as "key=value".
func pairs(t fataler, v *codec.View, live tree.Tree) (list []string) {
	for c := live.First(); c.Ref() != 0; c.Next() {
		key, value, err := New().Record(v, c.Ref())
		require.NoError(t, err)
		list = append(list, string(key)+"="+string(value))
	}
	return list
}

// contents is what a whole replay finds.
func contents(t fataler, b []byte) []string {
	v := mapped(b)
	_, live, _ := replayed(t, v, codec.ReplayOptions{})
	return pairs(t, v, live)
}

func wrongLinks(t fataler, v *codec.View, h codec.Header, live tree.Tree) (list []codec.WrongLink) {
	require.NoError(t, New().CheckLinks(v, h, live, func(w codec.WrongLink) bool {
		list = append(list, w)
		return true
	}))
	return list
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

// model is what a database should hold.
type model map[string]string

func (m model) apply(ops []op) {
	for _, o := range ops {
		if o.del {
			delete(m, o.key)
		} else {
			m[o.key] = o.value
		}
	}
}

func (m model) list() (list []string) {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		list = append(list, k+"="+m[k])
	}
	return list
}

// fixHeader makes the checksum of the header right again.
func fixHeader(b []byte) { binary.BigEndian.PutUint32(b[60:], checksum(b[:60])) }

func u64(b []byte, off int64) int64 { return int64(binary.BigEndian.Uint64(b[off:])) }

func put64(b []byte, off, n int64) { binary.BigEndian.PutUint64(b[off:], uint64(n)) }

// built makes a file of some transactions.
func built(t *testing.T, txns ...[]op) *disk {
	d := newDisk(3)
	for _, ops := range txns {
		d.commit(t, ops...)
	}
	return d
}
