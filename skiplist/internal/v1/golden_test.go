package v1

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/codectest"
)

func unhex(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(s))
	require.NoError(t, err)
	return b
}

// at is the time in the golden files.
var goldenTime = time.Unix(0x6b041cbb, 0)

const (
	goldenMagic = `a1028b0d 736b6970 6c697374 2066696c 65000000`
	nineteen    = `00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000
		00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 `
)

func TestEmptyIsCyrusEmpty(t *testing.T) {
	want := unhex(t, goldenMagic+`00000001 00000002 00000014 00000001 00000000 00000090 6b041cbb
		00000101 00000000 00000000 00000000 `+nineteen+`ffffffff`)
	require.Equal(t, want, New().Empty(goldenTime))
	require.Len(t, want, emptySize)
	requireSound(t, want, nil)
}

// golden makes the file that Cyrus 3.6.1 makes of `set apple=red; set bee=zz; set apple=green; delete bee`.
func golden(t *testing.T) *disk {
	d := newDisk(1)
	d.B = New().Empty(goldenTime)
	d.H.LastRecovery = goldenTime
	d.Random = levels(1, 1)
	d.Commit(t, set("apple", "red"))
	d.Commit(t, set("bee", "zz"))
	d.Commit(t, set("apple", "green"))
	d.Commit(t, del("bee"))
	return d
}

func TestGoldenTransactions(t *testing.T) {
	want := unhex(t, goldenMagic+`00000001 00000002 00000014 00000001 00000000 00000090 6b041cbb
		00000101 00000000 00000000 000000dc `+nineteen+`ffffffff
		00000002 00000005 6170706c 65000000 00000003 72656400 000000b4 ffffffff
		000000ff
		00000002 00000003 62656500 00000002 7a7a0000 00000000 ffffffff
		000000ff
		00000004 00000090
		00000002 00000005 6170706c 65000000 00000005 67726565 6e000000 00000000 ffffffff
		000000ff
		00000004 000000b4
		000000ff`)
	d := golden(t)
	require.Equal(t, hex.Dump(want), hex.Dump(d.B))
	requireSound(t, d.B, []string{"apple=green"})
}

func TestGoldenCheckpoint(t *testing.T) {
	want := unhex(t, goldenMagic+`00000001 00000002 00000014 00000001 00000001 000000b4 6b041cbb
		00000101 00000000 00000000 00000090 `+nineteen+`ffffffff
		00000001 00000005 6170706c 65000000 00000005 67726565 6e000000 00000000 ffffffff`)
	d := golden(t)
	var out []byte
	w, err := New().Rewrite(d.View(), d.H, d.Live, goldenTime, func(b []byte) error { out = append(out, b...); return nil })
	require.NoError(t, err)
	require.Equal(t, hex.Dump(want), hex.Dump(out))
	require.Equal(t, codec.Header{Version: 1, MinorVersion: 2, MaxLevel: 20, CurLevel: 1, Records: 1, LogStart: 0xb4, LastRecovery: goldenTime}, w.Header)
	requireSound(t, out, []string{"apple=green"})
}

// TestGoldenLostCommit reads the file that Cyrus leaves, and calls committed, when two bytes of the COMMIT word find no
// space.
func TestGoldenLostCommit(t *testing.T) {
	d := newDisk(1)
	d.Random = levels(1, 1)
	d.Commit(t, set("k2", "v2"))
	b := append(clone(d.B), unhex(t, `00000002 00000002 6b330000 00000002 76330000 00000000 ffffffff 0000`)...)
	_, _, log := replayed(t, b, codec.ReplayOptions{})
	require.Equal(t, codec.Torn, log.State)
	require.EqualValues(t, len(d.B), log.End)
	require.Equal(t, 1, log.Uncommitted)
	require.Equal(t, []string{"k2=v2"}, contents(t, b))
	got, _ := salvaged(t, b, true)
	require.Equal(t, []string{"k2=v2", "k3=v3"}, got)
}

// TestGoldenLevels has the links of several levels and a raised curlevel.
func TestGoldenLevels(t *testing.T) {
	d := newDisk(1)
	d.Random = levels(2, 1, 3)
	d.Commit(t, set("b", "1"), set("c", ""))
	d.Commit(t, set("a", "22222"))
	require.Equal(t, unhex(t, `00000002 00000001 62000000 00000001 31000000 000000b0 00000000 ffffffff
		00000002 00000001 63000000 00000000 00000000 ffffffff
		000000ff
		00000002 00000001 61000000 00000005 32323232 32000000 00000090 00000090 00000000 ffffffff
		000000ff`), d.B[emptySize:])
	require.Equal(t, unhex(t, `000000cc 000000cc 000000cc 00000000`), d.B[offDummy+12:offDummy+28])
	require.EqualValues(t, 3, be.Uint32(d.B[offCurLevel:]))
	requireSound(t, d.B, []string{"a=22222", "b=1", "c="})
	d.Random = nil // a replacement has the level of what it replaces
	d.Commit(t, set("a", "3"))
	require.Equal(t, 3, refs(d.Live)[0].Level())
	requireSound(t, d.B, []string{"a=3", "b=1", "c="})
}

// TestSignedOrder holds the order of Cyrus on machines where char is signed.
func TestSignedOrder(t *testing.T) {
	d := built(t, []op{set("a", "4"), set("\x80", "1"), set("\xff", "2"), set("\x01", "3"), set("aa", "5"), set("a\x80", "6")})
	want := []string{"\x80=1", "\xff=2", "\x01=3", "a=4", "a\x80=6", "aa=5"}
	requireSound(t, d.B, want)
	d.Rewrite(t)
	requireSound(t, d.B, want)
}

func TestPutRefuses(t *testing.T) {
	d := built(t, []op{set("a", "1")})
	v := d.View()
	txn := &codec.Txn{View: v, Header: d.H, Random: levels(1)}
	_, err := New().Put(txn, nil, []byte("x"), 0)
	require.ErrorIs(t, err, codec.ErrInvalidKey)
	require.Empty(t, v.Tail)
}

func TestCheckpointDue(t *testing.T) {
	for _, c := range []struct {
		end, logstart int64
		due           bool
	}{
		{4 + 16834 + 2*144, 144, false}, {4 + 16834 + 2*144 + 1, 144, true}, {4 + 16834 + 20000, 10000, false}, {4 + 16834 + 20001, 10000, true},
		{1<<31 - 1, 1 << 30, false}, {1 << 32, 1<<31 - 1<<15, true},
	} {
		require.Equal(t, c.due, New().CheckpointDue(codec.Header{LogStart: c.logstart}, c.end), "%+v", c)
	}
}

// TestRandomLevels holds the distribution: one more with probability one half, 20 at most.
func TestRandomLevels(t *testing.T) {
	require.Equal(t, 1, randomLevel(1))
	require.Equal(t, 4, randomLevel(8))
	require.Equal(t, maxLevel, randomLevel(1<<(maxLevel-1)))
	require.Equal(t, maxLevel, randomLevel(1<<40))
	require.Equal(t, maxLevel, randomLevel(0))
}

// TestLimit refuses, with advice, to write what 32 bits cannot address.
func TestLimit(t *testing.T) {
	header := New().Empty(now)
	for _, c := range []struct {
		size int64
		ok   bool
	}{{maxFile - 100, true}, {maxFile - 40, true}, {maxFile - 36, false}, {maxFile, false}, {maxFile + 100, false}, {1 << 32, false}, {1 << 40, false}} {
		v := &codec.View{Path: "db", Size: c.size, Mem: header}
		txn := &codec.Txn{View: v, Header: codec.Header{CurLevel: 1}, Random: levels(1)}
		ref, err := New().Put(txn, []byte("k"), []byte("v"), 0)
		if !c.ok {
			require.ErrorIs(t, err, codec.ErrTooLarge, "%d", c.size)
			require.ErrorContains(t, err, "convert it to twoskip")
			require.Empty(t, v.Tail)
			continue
		}
		require.NoError(t, err, "%d", c.size)
		require.Equal(t, c.size, ref.Offset())
		require.LessOrEqual(t, v.End()+commitSize, int64(maxFile))
	}
	old := codectest.New(New(), 1)
	old.Commit(t, set("a", "1"))
	v := &codec.View{Path: "db", Size: maxFile - 8, Mem: old.B}
	require.ErrorIs(t, New().Delete(&codec.Txn{View: v}, refs(old.Live)[0], 0), codec.ErrTooLarge)
	require.Empty(t, v.Tail)
	v.Size = maxFile - 12
	require.NoError(t, New().Delete(&codec.Txn{View: v}, refs(old.Live)[0], 0))
}
