// Package codectest drives a codec in tests, without package skiplist: a database in memory, transactions, checkpoints,
// crashes within a phase, recovery, and the comparison of what is read with a map.
package codectest

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// T is what a *testing.T, a *testing.B and a *rapid.T have in common.
type T = require.TestingT

// Now is the time that is written into headers.
var Now = time.Unix(1_795_000_000, 0)

// Disk is a database in memory, driven through its codec as package skiplist does.
type Disk struct {
	Codec  codec.Codec
	B      []byte
	H      codec.Header
	Live   tree.Tree
	Random func() uint64
	// Unmapped has the bytes read through File.
	Unmapped bool
}

// New returns an empty database.
func New(c codec.Codec, seed uint64) *Disk {
	d := &Disk{Codec: c, B: c.Empty(Now), Random: rand.New(rand.NewPCG(seed, 7)).Uint64}
	d.H, _ = c.ReadHeader(d.View())
	return d
}

// Mapped is a view of b as a mapped file.
func Mapped(b []byte) *codec.View { return &codec.View{Path: "db", Size: int64(len(b)), Mem: b} }

// Unmapped is a view of b as a file that is read.
func Unmapped(b []byte) *codec.View {
	return &codec.View{Path: "db", Size: int64(len(b)), File: bytes.NewReader(b)}
}

// View is a view of the whole file.
func (d *Disk) View() *codec.View {
	if d.Unmapped {
		return Unmapped(slices.Clone(d.B))
	}
	return Mapped(d.B)
}

// Lookup compares records of v as the format does.
func Lookup(c codec.Codec, v *codec.View) tree.Lookup {
	return tree.Lookup{Key: func(r tree.Ref) []byte { return c.Key(v, r) }, Compare: c.Traits().Order.Func()}
}

// Op is a change: a put, or a deletion if Del is set.
type Op struct {
	Key, Value string
	Del        bool
}

// Set is a put.
func Set(key, value string) Op { return Op{Key: key, Value: value} }

// Del is a deletion.
func Del(key string) Op { return Op{Key: key, Del: true} }

// Plan prepares a transaction and returns it with the tree after it.
func (d *Disk) Plan(t T, ops ...Op) (codec.Plan, tree.Tree) {
	v := &codec.View{Path: "db", Size: int64(len(d.B)), Mem: d.B}
	look := Lookup(d.Codec, v)
	txn := &codec.Txn{View: v, Header: d.H, Random: d.Random, Compare: look.Compare}
	ed := tree.Edit(d.Live, look)
	for _, o := range ops {
		key := []byte(o.Key)
		old := ed.Get(key)
		if o.Del {
			if old == 0 {
				continue
			}
			next, _ := ed.Seek(key)
			next.Next()
			at := v.End()
			require.NoError(t, d.Codec.Delete(txn, old, next.Ref()))
			ed.Delete(key)
			txn.Touched = append(txn.Touched, codec.Touch{Key: key, Level: old.Level(), At: at, Deleted: true})
			continue
		}
		ref, err := d.Codec.Put(txn, key, []byte(o.Value), old)
		require.NoError(t, err)
		if ref == old {
			continue
		}
		k, value, err := d.Codec.Record(v, ref)
		require.NoError(t, err)
		require.Equal(t, o.Key, string(k))
		require.Equal(t, o.Value, string(value))
		ed.Put(key, ref)
		txn.Touched = append(txn.Touched, codec.Touch{Key: key, Level: max(old.Level(), ref.Level()), At: ref.Offset()})
	}
	txn.Live = ed.Tree()
	p, err := d.Codec.Seal(txn)
	require.NoError(t, err)
	require.Len(t, p.Phases, d.Codec.Traits().Syncs)
	return p, txn.Live
}

// Commit carries a transaction out.
func (d *Disk) Commit(t T, ops ...Op) {
	p, live := d.Plan(t, ops...)
	for _, ph := range p.Phases {
		RequireOld(t, d.B, ph)
		d.B = Perform(d.B, ph)
	}
	d.H, d.Live = p.Header, live
	require.Equal(t, p.Size, int64(len(d.B)))
}

// RequireOld checks that what a phase says it overwrites is what stands there.
func RequireOld(t T, b []byte, ph codec.Phase) {
	for _, w := range ph.Writes {
		if w.Old != nil {
			require.Equal(t, b[w.Off:w.Off+int64(len(w.Old))], w.Old)
			require.Len(t, w.New, len(w.Old))
		}
	}
}

// Perform carries out one phase on a copy.
func Perform(b []byte, ph codec.Phase) []byte {
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

// Rewrite replaces the file by a checkpoint of it.
func (d *Disk) Rewrite(t T) {
	var out []byte
	w, err := d.Codec.Rewrite(d.View(), d.H, d.Live, Now, func(b []byte) error {
		out = append(out, b...)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, w.Size, int64(len(out)))
	require.Equal(t, d.Live.Len(), w.Live.Len())
	d.B, d.H, d.Live = out, w.Header, w.Live
}

// Replayed reads a file from its beginning.
func Replayed(t T, c codec.Codec, v *codec.View, opt codec.ReplayOptions) (codec.Header, tree.Tree, codec.Log) {
	h, err := c.ReadHeader(v)
	require.NoError(t, err)
	ed := tree.Edit(tree.Tree{}, Lookup(c, v))
	log, err := c.Replay(v, h, opt, ed)
	require.NoError(t, err)
	return h, ed.Tree(), log
}

// Pairs lists the live records as "key=value".
func Pairs(t T, c codec.Codec, v *codec.View, live tree.Tree) (list []string) {
	for cur := live.First(); cur.Ref() != 0; cur.Next() {
		key, value, err := c.Record(v, cur.Ref())
		require.NoError(t, err)
		list = append(list, string(key)+"="+string(value))
	}
	return list
}

// WrongLinks lists the links of a file that are not those of the tree.
func WrongLinks(t T, c codec.Codec, v *codec.View, h codec.Header, live tree.Tree) (list []codec.WrongLink) {
	require.NoError(t, c.CheckLinks(v, h, live, func(w codec.WrongLink) bool {
		list = append(list, w)
		return true
	}))
	return list
}

// RequireSpans checks that the byte map of a file covers it and, if it is whole, finds nothing wrong.
func RequireSpans(t T, c codec.Codec, b []byte, whole bool) {
	off := int64(0)
	for s := range c.Spans(Mapped(b)) {
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

// requireFields checks that the fields of a span stand in order within it.
func requireFields(t T, s codec.Span) {
	at := s.Off
	for _, f := range s.Fields {
		if f.Off < at || f.Len < 0 {
			require.Fail(t, "fields overlap", "%s of %+v", f.Name, s)
		}
		at = f.Off + f.Len
	}
	require.LessOrEqual(t, at, s.Off+s.Len, "%+v", s)
}
