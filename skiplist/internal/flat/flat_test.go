package flat

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// pair is a record.
type pair struct{ key, value string }

// mapped is a view of b as of a mapped file; unmapped reads it as hosts do that cannot map, and halfMapped has a
// mapping that is older than the end of the file.
func mapped(b []byte) *codec.View {
	return &codec.View{Path: "test.sub", Size: int64(len(b)), Mem: b}
}

func unmapped(b []byte) *codec.View {
	return &codec.View{Path: "test.sub", Size: int64(len(b)), File: bytes.NewReader(b)}
}

func halfMapped(b []byte) *codec.View {
	v := unmapped(b)
	v.Mem = b[:len(b)/2]
	return v
}

// replayed reads a view.
func replayed(t require.TestingT, v *codec.View, opt codec.ReplayOptions) (tree.Tree, codec.Log) {
	ed := tree.Edit(tree.Tree{}, lookup(v))
	log, err := New().Replay(v, codec.Header{}, opt, ed)
	require.NoError(t, err)
	return ed.Tree(), log
}

func lookup(v *codec.View) tree.Lookup {
	return tree.Lookup{Key: func(r tree.Ref) []byte { return New().Key(v, r) }, Compare: New().Traits().Compare}
}

// pairs lists what is live.
func pairs(t require.TestingT, v *codec.View, live tree.Tree) []pair {
	var list []pair
	for c := live.First(); c.Ref() != 0; c.Next() {
		k, val, err := New().Record(v, c.Ref())
		require.NoError(t, err)
		require.Equal(t, string(k), string(New().Key(v, c.Ref())))
		list = append(list, pair{string(k), string(val)})
	}
	return list
}

// built is the file that puts make, one transaction over an empty file.
func built(t require.TestingT, list []pair) ([]byte, tree.Tree) {
	v := mapped(nil)
	txn := &codec.Txn{View: v}
	ed := tree.Edit(tree.Tree{}, lookup(v))
	for _, p := range list {
		r, err := New().Put(txn, []byte(p.key), []byte(p.value), ed.Get([]byte(p.key)))
		require.NoError(t, err)
		ed.Put([]byte(p.key), r)
	}
	return rewritten(t, v, ed.Tree()), ed.Tree()
}

func rewritten(t require.TestingT, v *codec.View, live tree.Tree) []byte {
	var out []byte
	got, err := New().Rewrite(v, codec.Header{}, live, time.Time{}, func(b []byte) error {
		out = append(out, b...)
		return nil
	})
	require.NoError(t, err)
	require.EqualValues(t, len(out), got.Size)
	require.Equal(t, live.Len(), got.Live.Len())
	return out
}

// TestGolden holds the bytes that Cyrus 3.6.1 wrote for these records.
func TestGolden(t *testing.T) {
	cases := []struct {
		name  string
		file  string
		pairs []pair
	}{
		{"plain", "Zed\t4\na\t1\n", []pair{{"Zed", "4"}, {"a", "1"}}},
		{"escapes", "\x62\xff\xff\x80\x09\x78\xff\xff\x79\x0a", []pair{{"b\xff\x80", "x\xffy"}}},
		{"embedded TAB, empty value", "k\tvalue with tab\xff\x89here\nk2\t\n", []pair{{"k", "value with tab\there"}, {"k2", ""}}},
		{"NUL, TAB, CR, LF", "\x6b\xff\x80\xff\x89\x09\x76\xff\x8d\xff\x8a\xff\xff\x0a", []pair{{"k\x00\t", "v\r\n\xff"}}},
		{"order", "user.a\t1\nuser.a.b\t2\nuser.a-b\t3\n", []pair{{"user.a", "1"}, {"user.a.b", "2"}, {"user.a-b", "3"}}},
		{"empty file", "", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, v := range []*codec.View{mapped([]byte(c.file)), unmapped([]byte(c.file)), halfMapped([]byte(c.file))} {
				_, err := New().ReadHeader(v)
				require.NoError(t, err)
				live, log := replayed(t, v, codec.ReplayOptions{})
				require.Equal(t, codec.Log{End: v.Size}, log)
				require.Equal(t, c.pairs, pairs(t, v, live))
				require.Equal(t, c.file, string(rewritten(t, v, live)))
			}
			out, _ := built(t, c.pairs)
			require.Equal(t, c.file, string(out))
		})
	}
}

// TestOddities reads files that no release since 2.5 would write.
func TestOddities(t *testing.T) {
	type want struct {
		state    codec.LogState
		off, end int64
		disorder bool
		codes    string
		pairs    []pair
		// salvaged is what a salvage with uncommitted records finds, if it differs.
		salvaged []pair
	}
	ab := []pair{{"a", "1"}, {"b", "2"}}
	cases := []struct {
		name, file string
		want       want
	}{
		{"unterminated", "a\t1\nb\t2\nc\t3", want{state: codec.Damaged, off: 8, end: 8, pairs: ab,
			salvaged: []pair{{"a", "1"}, {"b", "2"}, {"c", "3"}}}},
		{"unterminated without TAB", "a\t1\nb\t2\nc", want{state: codec.Damaged, off: 8, end: 8, pairs: ab}},
		{"NULs at the end, as by upstream issue 4118", "a\t1\nb\t2\n\x00\x00\x00", want{state: codec.Torn, off: 8, end: 8, pairs: ab}},
		{"no TAB", "a\t1\nb2\nc\t3\n", want{state: codec.Damaged, off: 4, end: 4, pairs: ab[:1],
			salvaged: []pair{{"a", "1"}, {"c", "3"}}}},
		{"empty line", "a\t1\n\nb\t2\n", want{state: codec.Damaged, off: 4, end: 4, pairs: ab[:1], salvaged: ab}},
		{"hole in a key", "a\t1\nb\x00\x00\t2\nc\t3\n", want{state: codec.Damaged, off: 5, end: 4, pairs: ab[:1],
			salvaged: []pair{{"a", "1"}, {"c", "3"}}}},
		{"hole in a value", "a\t1\nb\t\x00\nc\t3\n", want{state: codec.Damaged, off: 6, end: 4, pairs: ab[:1],
			salvaged: []pair{{"a", "1"}, {"b", "\x00"}, {"c", "3"}}}},
		{"first block lost", "\x00\x00\x00\x00\x00\x00r.a\t0\nb\t2\n", want{state: codec.Damaged, salvaged: []pair{{"b", "2"}}}},
		{"the same line twice", "a\t1\na\t1\nb\t2\n", want{end: 12, codes: codeDuplicate, pairs: ab}},
		{"mis-sorted", "b\t2\na\t1\n", want{end: 8, codes: codeUnsorted, pairs: ab}},
		{"duplicate", "a\t0\na\t1\nb\t2\n", want{end: 12, disorder: true, codes: codeDuplicate, pairs: ab}},
		{"mis-sorted duplicate", "b\t0\na\t1\nb\t2\n", want{end: 12, disorder: true, codes: codeUnsorted + " " + codeDuplicate, pairs: ab}},
		{"raw TAB in a value", "a\t1\tx\n", want{end: 6, pairs: []pair{{"a", "1\tx"}}}},
		{"lone escape at the end of a value", "a\t1\xff\n", want{end: 5, pairs: []pair{{"a", "1"}}}},
		{"lone escape at the end of a key", "a\xff\t1\n", want{end: 5, codes: codeSpelling, pairs: []pair{{"a", "1"}}}},
		{"odd escape", "\xffa\t\xffb\n", want{end: 6, codes: codeSpelling, pairs: []pair{{"a", "b"}}}},
		{"raw CR in a key", "a\r\t1\n", want{end: 5, codes: codeSpelling, pairs: []pair{{"a\r", "1"}}}},
		{"empty key", "\t1\n", want{end: 3, pairs: []pair{{"", "1"}}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := mapped([]byte(c.file))
			_, err := New().ReadHeader(v)
			require.NoError(t, err)
			live, log := replayed(t, v, codec.ReplayOptions{})
			require.Equal(t, c.want.state, log.State)
			require.Equal(t, c.want.state != codec.Clean, log.Problem != "")
			require.Equal(t, c.want.off, log.Offset)
			require.Equal(t, c.want.end, log.End)
			require.Equal(t, c.want.disorder, log.Disorder)
			require.Equal(t, c.want.codes, codes(log))
			require.Equal(t, c.want.pairs, pairs(t, v, live))

			live, log = replayed(t, v, codec.ReplayOptions{Salvage: true, Uncommitted: true})
			require.Equal(t, c.want.state, log.State)
			if c.want.salvaged == nil {
				c.want.salvaged = c.want.pairs
			}
			require.Equal(t, c.want.salvaged, pairs(t, v, live))
			out := rewritten(t, v, live)
			again, log := replayed(t, mapped(out), codec.ReplayOptions{})
			require.Equal(t, c.want.salvaged, pairs(t, mapped(out), again))
			require.Equal(t, codec.Log{End: int64(len(out))}, log, "what was salvaged is a good file")
		})
	}
}

func codes(log codec.Log) string {
	var list []string
	for _, f := range log.Findings {
		list = append(list, f.Code)
	}
	return strings.Join(list, " ")
}

// TestRewriteKeepsOldValues checks that a line stays as it is if Cyrus can find it, whatever its value looks like.
func TestRewriteKeepsOldValues(t *testing.T) {
	v := mapped([]byte("a\t1\tx\xff\nb\xff\t\rraw\n"))
	live, _ := replayed(t, v, codec.ReplayOptions{})
	require.Equal(t, "a\t1\tx\xff\nb\t\rraw\n", string(rewritten(t, v, live)))
}

func TestReadHeaderRefuses(t *testing.T) {
	native := append([]byte("\x9fspine-skiplist2"), 2, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0)
	native = append(native, bytes.Repeat([]byte("\x00\x01key\tvalue\n"), 20)...)
	for name, file := range map[string][]byte{
		"skiplist":       []byte("\xa1\x02\x8b\x0dskiplist file\x00\x00\x00"),
		"twoskip":        []byte("\xa1\x02\x8b\x0dtwoskip file\x00\x00\x00\x00\t\n"),
		"twom":           []byte("\xa1\x02\x8b\x0dtwomfile\x00\x00\x00\x00\t\n"),
		"native":         native,
		"zeros":          make([]byte, 200_000),
		"zeros, binary":  append(make([]byte, 100_000), native...),
		"prose":          []byte("configdirectory: /var/imap\npartition-default: /var/spool\n"),
		"one bare word":  []byte("word"),
		"only linefeeds": []byte("\n\n\n"),
	} {
		t.Run(name, func(t *testing.T) {
			for _, v := range []*codec.View{mapped(file), unmapped(file), halfMapped(file)} {
				_, err := New().ReadHeader(v)
				require.ErrorIs(t, err, codec.ErrNotDatabase)
				var fe *codec.FormatError
				require.ErrorAs(t, err, &fe)
				require.Equal(t, "test.sub", fe.Path)
			}
		})
	}
}

func TestReadErrorsPassOn(t *testing.T) {
	broken := errors.New("the disk is broken")
	v := &codec.View{Path: "test.sub", Size: 100, File: readerFunc(func([]byte, int64) (int, error) { return 0, broken })}
	guarded := func(call func() error) {
		require.ErrorIs(t, vfs.Guard(nil, call), broken)
	}
	guarded(func() error { _, err := New().ReadHeader(v); return err })
	guarded(func() error {
		_, err := New().Replay(v, codec.Header{}, codec.ReplayOptions{}, tree.Edit(tree.Tree{}, lookup(v)))
		return err
	})
	guarded(func() error { _, _, err := New().Record(v, tree.NewRef(3, 1)); return err })
	guarded(func() error { New().Key(v, tree.NewRef(3, 1)); return nil })
	guarded(func() error {
		for range New().Spans(v) {
			break
		}
		return nil
	})
}

type readerFunc func(p []byte, off int64) (int, error)

func (f readerFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// TestOutOfPlace asks for records where there are none.
func TestOutOfPlace(t *testing.T) {
	v := mapped([]byte("a\t1\nbc\nd\t2\n"))
	v.Size = 8 // what follows is not committed
	v.Tail = []byte("e\t3\nf")
	for _, off := range []int64{4, 8 + 4, 8 + 5, 100, 1 << 40} {
		require.Nil(t, New().Key(v, tree.NewRef(off, 1)), off)
		_, _, err := New().Record(v, tree.NewRef(off, 1))
		require.ErrorIs(t, err, codec.ErrDamaged, off)
	}
	k, val, err := New().Record(v, tree.NewRef(8, 1))
	require.NoError(t, err)
	require.Equal(t, "e=3", string(k)+"="+string(val))
}

func TestInPlaceCallsAreRefused(t *testing.T) {
	_, err := New().Seal(&codec.Txn{View: mapped(nil)})
	require.Error(t, err)
	_, err = New().Recover(mapped(nil), codec.Header{}, codec.Log{}, nil, tree.Tree{}, time.Time{})
	require.Error(t, err)
	_, err = New().Put(&codec.Txn{View: mapped(nil)}, nil, []byte("x"), 0)
	require.ErrorIs(t, err, codec.ErrInvalidKey)
	require.NoError(t, New().Delete(&codec.Txn{View: mapped(nil)}, 0, 0))
	require.NoError(t, New().CheckLinks(mapped(nil), codec.Header{}, tree.Tree{}, nil))
	require.False(t, New().CheckpointDue(codec.Header{}, 1<<40))
	require.Empty(t, New().Empty(time.Now()))
}

// TestProgressEndsReplay checks that an error of the callback, as of an ended context, ends a long replay.
func TestProgressEndsReplay(t *testing.T) {
	file := bytes.Repeat([]byte("k\t"+strings.Repeat("v", 1000)+"\n"), 5000)
	calls := 0
	opt := codec.ReplayOptions{Progress: func(off int64) error {
		if calls++; calls == 3 {
			return context.Canceled
		}
		return nil
	}}
	_, err := New().Replay(mapped(file), codec.Header{}, opt, tree.Edit(tree.Tree{}, lookup(mapped(file))))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 3, calls)
}

// TestFindingsAreBounded keeps the report of a hopeless file short.
func TestFindingsAreBounded(t *testing.T) {
	_, log := replayed(t, mapped(bytes.Repeat([]byte("a\t1\n"), 100_000)), codec.ReplayOptions{})
	require.Len(t, log.Findings, maxFindings)
	require.Contains(t, log.Findings[0].Detail, "99999")
}

// TestReplayGoesOn reads a file in two parts.
func TestReplayGoesOn(t *testing.T) {
	file := []byte("a\t1\nb\t2\nc\t3\n")
	v := mapped(file)
	ed := tree.Edit(tree.Tree{}, lookup(v))
	log, err := New().Replay(v.Sub(8), codec.Header{}, codec.ReplayOptions{}, ed)
	require.NoError(t, err)
	require.EqualValues(t, 8, log.End)
	log, err = New().Replay(v, codec.Header{}, codec.ReplayOptions{From: log.End}, ed)
	require.NoError(t, err)
	require.Equal(t, codec.Log{End: 12}, log)
	require.Equal(t, []pair{{"a", "1"}, {"b", "2"}, {"c", "3"}}, pairs(t, v, ed.Tree()))
}

// TestRoundTrip writes arbitrary keys and values, changes some in further transactions, and reads them back.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]string{}
		var file []byte
		for range rapid.IntRange(1, 4).Draw(t, "transactions") {
			v := mapped(file)
			live, _ := replayed(t, v, codec.ReplayOptions{})
			ed := tree.Edit(live, lookup(v))
			txn := &codec.Txn{View: v}
			for range rapid.IntRange(0, 30).Draw(t, "changes") {
				key := anyKey.Draw(t, "key")
				old := ed.Get(key)
				_, known := want[string(key)]
				require.Equal(t, known, old != 0)
				if rapid.IntRange(0, 3).Draw(t, "delete") == 0 && known {
					require.NoError(t, New().Delete(txn, old, 0))
					ed.Delete(key)
					delete(want, string(key))
					continue
				}
				value := anyBytes.Draw(t, "value")
				r, err := New().Put(txn, key, value, old)
				require.NoError(t, err)
				ed.Put(key, r)
				want[string(key)] = string(value)
			}
			file = rewritten(t, v, ed.Tree())
		}
		for _, v := range []*codec.View{mapped(file), unmapped(file), halfMapped(file)} {
			_, err := New().ReadHeader(v)
			require.NoError(t, err)
			live, log := replayed(t, v, codec.ReplayOptions{})
			require.Equal(t, codec.Log{End: v.Size}, log)
			got := map[string]string{}
			for _, p := range pairs(t, v, live) {
				got[p.key] = p.value
			}
			require.Equal(t, want, got)
		}
	})
}

var (
	// spiteful bytes are those with a meaning in the format or the order, and their neighbours.
	spiteful = rapid.SampledFrom([]byte("\x00\x01\x08\t\n\x0b\r\x0e-./ab\x7f\x80\x89\x8a\x8d\xfe\xff"))
	anyBytes = rapid.OneOf(rapid.SliceOfN(spiteful, 0, 8), rapid.SliceOfN(rapid.Byte(), 0, 40))
	anyKey   = rapid.OneOf(rapid.SliceOfN(spiteful, 1, 4), rapid.SliceOfN(rapid.Byte(), 1, 20))
)

func TestDecodeUndoesEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := anyBytes.Draw(t, "bytes")
		enc := appendEncoded(nil, b)
		require.False(t, bytes.ContainsAny(enc, "\x00\t\n\r"))
		require.True(t, canonical(enc))
		require.Equal(t, string(b), string(decode(enc)))

		raw := anyBytes.Draw(t, "raw")
		require.Equal(t, bytes.Equal(raw, appendEncoded(nil, decode(raw))), canonical(raw))
	})
}
