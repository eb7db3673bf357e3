package twoskip

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

func unhex(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(s))
	require.NoError(t, err)
	return b
}

func TestEmptyIsCyrusEmpty(t *testing.T) {
	want := unhex(t, `a1028b0d 74776f73 6b697020 66696c65 00000000 00000001
		0000000000000001 0000000000000000 0000000000000150 0000000000000150 00000000 a2943880
		3d1f0000 00000000`+strings.Repeat("0000000000000000", 32)+`4339bc53 00000000`)
	require.Equal(t, want, New().Empty(time.Unix(1, 0)))
	require.Len(t, want, emptySize)
	requireSound(t, want, nil)
}

// levels makes Random yield the given levels.
func levels(list ...int) func() uint64 {
	i := 0
	return func() uint64 {
		i++
		return 1 << (list[i-1] - 1)
	}
}

// TestGoldenTransactions makes the file that Cyrus 3.6.1 makes of `set apple=red; set apple=green; delete apple`.
func TestGoldenTransactions(t *testing.T) {
	want := unhex(t, `a1028b0d 74776f73 6b697020 66696c65 00000000 00000001
		0000000000000001 0000000000000000 0000000000000150 0000000000000228 00000000 eda2e120
		3d1f0000 00000000 00000000000001a0 00000000000001f8`+strings.Repeat("0000000000000000", 30)+`00000000 00000000
		2b030005 00000003 0000000000000000 0000000000000000 0000000000000000 0000000000000000 edb3e135 cb33b946 6170706c65726564
		24000000 00000000 0000000000000150 5dc51c1a 00000000
		2b020005 00000005 0000000000000000 0000000000000000 0000000000000000 7e230436 6d3ccd85 6170706c65677265656e 000000000000
		24000000 00000000 00000000000001a0 e078ee06 00000000
		20424c41 4e4b07a0
		2d000000 00000000 0000000000000000 f2ce7271 00000000
		24000000 00000000 00000000000001f0 8b13bff2 00000000`)
	be.PutUint32(want[0x148:], checksum(want[0x40:0x148]))
	d := newDisk(1)
	d.Random = levels(3, 2)
	d.Commit(t, set("apple", "red"))
	d.Commit(t, set("apple", "green"))
	d.Commit(t, del("apple"))
	require.Equal(t, hex.Dump(want), hex.Dump(d.B))
	requireSound(t, d.B, nil)
}

func TestLongLengths(t *testing.T) {
	d := newDisk(1)
	d.Random = levels(4, 1)
	d.Commit(t, set(strings.Repeat("k", 70000), "value"))
	require.Equal(t, unhex(t, "2b04 ffff 00000005 0000000000011170"), d.B[emptySize:emptySize+16])
	off := len(d.B)
	d.Commit(t, set(strings.Repeat("j", 65534), "v"))
	for string(d.B[off:off+8]) == blank {
		off += 8
	}
	require.Equal(t, unhex(t, "2b01 fffe"), d.B[off:off+4])
	requireSound(t, d.B, []string{strings.Repeat("j", 65534) + "=v", strings.Repeat("k", 70000) + "=value"})

	// Nobody can afford a value of 4 GiB in a test; its head can be had.
	head := appendHead(nil, typeRecord, 1, 3, longValue+1, []int64{0, 0}, 0)
	require.Equal(t, unhex(t, "2b01 0003 ffffffff 0000000100000000"), head[:16])
	require.EqualValues(t, len(head), headSize(3, longValue+1, 1))
	if int64(maxLength) < longValue {
		return // no room for it in the address space
	}
	rec, _, err := parser{mapped(head), 1 << 40}.outline(0)
	require.NoError(t, err)
	require.Equal(t, int64(longValue+1), rec.vlen)
	require.EqualValues(t, len(head), rec.head)
}

// TestFarOffsets commits to a file whose committed part ends beyond 4 GiB.
func TestFarOffsets(t *testing.T) {
	const far = int64(5 << 30)
	v := &codec.View{Path: "db", Size: far, Mem: New().Empty(time.Time{})}
	h := codec.Header{Version: 1, Generation: 1, LogStart: emptySize, End: far}
	txn := &codec.Txn{View: v, Header: h, Random: levels(2), Compare: lookup(v).Compare}
	ref, err := New().Put(txn, []byte("key"), []byte("value"), 0)
	require.NoError(t, err)
	require.EqualValues(t, far, ref.Offset())
	ed := tree.Edit(tree.Tree{}, lookup(v))
	ed.Put([]byte("key"), ref)
	txn.Live = ed.Tree()
	txn.Touched = []codec.Touch{{Key: []byte("key"), Level: 2, At: far}}
	p, err := New().Seal(txn)
	require.NoError(t, err)
	dummy := p.Phases[1].Writes[1].New
	require.EqualValues(t, offDummy, p.Phases[1].Writes[1].Off)
	require.EqualValues(t, far, be.Uint64(dummy[fixedHead+ptrSize:]))
	require.EqualValues(t, far, be.Uint64(dummy[fixedHead+2*ptrSize:]))
	header := p.Phases[2].Writes[0].New
	require.EqualValues(t, p.Size, be.Uint64(header[offSize:]))
	key, value, err := New().Record(v, ref)
	require.NoError(t, err)
	require.Equal(t, "key=value", string(key)+"="+string(value))
}

func TestPut(t *testing.T) {
	d := built(t, []op{set("a", "1")})
	v := d.View()
	txn := &codec.Txn{View: v, Header: d.H, Random: levels(1), Compare: lookup(v).Compare}
	_, err := New().Put(txn, nil, []byte("x"), 0)
	require.ErrorIs(t, err, codec.ErrInvalidKey)
	old := d.Live.First()
	ref, err := New().Put(txn, []byte("a"), []byte("1"), old.Ref())
	require.NoError(t, err)
	require.Equal(t, old.Ref(), ref)
	require.Empty(t, v.Tail)
}

// TestBlanks holds the rule to what it is for: nothing that is ever rewritten lies in two sectors.
func TestBlanks(t *testing.T) {
	for level := 1; level <= maxLevel; level++ {
		for _, key := range []int64{1, longKey} {
			head := headSize(key, 0, level)
			for off := int64(0); off < 2*sector; off += 8 {
				at := off + blankSize*blanks(off, head)
				require.LessOrEqual(t, at-off, int64(sector))
				require.Equal(t, (at+8)/sector, (at+head-2*crcSize+crcSize-1)/sector, "level %d at %d", level, off)
			}
		}
	}
}

func TestCheckpointDue(t *testing.T) {
	for _, c := range []struct {
		end, repack int64
		due         bool
	}{{16834, 0x150, false}, {16842, 0x150, true}, {20000, 10000, false}, {20008, 10000, true}, {1 << 40, 1 << 62, false}} {
		require.Equal(t, c.due, New().CheckpointDue(codec.Header{LogStart: c.repack}, c.end), "%+v", c)
	}
}

// TestCheckpoint compares a checkpoint with its parts.
func TestCheckpoint(t *testing.T) {
	d := newDisk(1)
	m := model{}
	for i := range 3000 {
		ops := []op{set("user."+string(rune('a'+i%26))+strings.Repeat("x", i%97), strings.Repeat("v", i%211))}
		d.Commit(t, ops...)
		m.Apply(ops)
	}
	d.Rewrite(t)
	requireSound(t, d.B, m.List(New()))
	require.EqualValues(t, 2, d.H.Generation)
	require.Equal(t, byte(typeCommit), d.B[d.H.End-markSize])
	require.EqualValues(t, emptySize, u64(d.B, d.H.End-markSize+8))
	require.LessOrEqual(t, d.H.End-markSize-d.H.LogStart, int64(sector))
	h, err := New().ReadHeader(d.View())
	require.NoError(t, err)
	require.Equal(t, d.H, h)
	again := d.B
	d.Rewrite(t)
	require.Equal(t, len(again), len(d.B))

	e := newDisk(1)
	e.Rewrite(t)
	requireSound(t, e.B, nil)
	e.Commit(t, set("a", "b"))
	requireSound(t, e.B, []string{"a=b"})
}
