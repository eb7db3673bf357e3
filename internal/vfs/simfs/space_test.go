package simfs_test

import (
	"context"
	"syscall"
	"testing"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/stretchr/testify/require"
)

func open(t *testing.T, fs *simfs.FS, name string) vfs.File {
	f, err := fs.Open(name, vfs.ReadWrite|vfs.Create, 0o600)
	require.NoError(t, err)
	return f
}

func write(f vfs.File, n int, off int64) (int, error) {
	p := make([]byte, n)
	for k := range p {
		p[k] = 'x'
	}
	return f.WriteAt(p, off)
}

func free(t *testing.T, fs *simfs.FS) int64 {
	s, err := fs.StatFS("/")
	require.NoError(t, err)
	return s.FreeBytes / simfs.PageSize
}

func TestFullDisk(t *testing.T) {
	fs := simfs.New(simfs.Options{Blocks: 10, Inodes: 3})
	f := open(t, fs, "/a")
	require.Equal(t, int64(10), free(t, fs))
	n, err := write(f, 20*simfs.PageSize, 100)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, 10*simfs.PageSize-100, n, "what fits is written")
	n, err = write(f, 10, 0)
	require.NoError(t, err, "overwriting needs no block")
	require.Equal(t, 10, n)
	require.ErrorIs(t, f.Allocate(0, 11*simfs.PageSize), syscall.ENOSPC)
	require.NoError(t, f.Truncate(simfs.PageSize))
	require.Equal(t, int64(9), free(t, fs))

	g := open(t, fs, "/b")
	_, err = fs.Open("/c", vfs.ReadWrite|vfs.Create, 0o600)
	require.ErrorIs(t, err, syscall.ENOSPC, "no inode is left")
	require.ErrorIs(t, fs.Mkdir("/c", 0o755), syscall.ENOSPC)
	_, err = write(g, 9*simfs.PageSize, 0)
	require.NoError(t, err)
	require.NoError(t, fs.Unlink("/b"))
	require.Equal(t, int64(0), free(t, fs), "an open file keeps its blocks")
	require.NoError(t, g.Close())
	require.Equal(t, int64(9), free(t, fs))
	open(t, fs, "/c")
}

func TestAllocationIsHonoured(t *testing.T) {
	fs := simfs.New(simfs.Options{Blocks: 10})
	f, g := open(t, fs, "/a"), open(t, fs, "/b")
	require.NoError(t, f.Allocate(100, 2*simfs.PageSize), "three pages")
	require.Equal(t, int64(7), free(t, fs))
	fs.FillUp(0, true)
	_, err := write(g, 1, 0)
	require.ErrorIs(t, err, syscall.ENOSPC)
	_, err = write(f, 3*simfs.PageSize, 0)
	require.NoError(t, err)
	_, err = write(f, 1, 3*simfs.PageSize)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Truncate(10))
	require.Equal(t, int64(0), free(t, fs), "a greedy filler has what was freed")
	fs.FreeUp()
	require.Equal(t, int64(9), free(t, fs))
}

func TestAllocationSurvivesIfSynced(t *testing.T) {
	fs := simfs.New(simfs.Options{Blocks: 10})
	f := open(t, fs, "/a")
	require.NoError(t, fs.SyncDir("/"))
	require.NoError(t, f.Allocate(2*simfs.PageSize, 4*simfs.PageSize))
	at := fs.Ops()
	require.NoError(t, f.Sync())
	frees := map[int][]int64{}
	for img := range fs.Trace().Images(simfs.Search{From: at}) {
		frees[img.Op] = append(frees[img.Op], free(t, img.FS))
	}
	require.Equal(t, map[int][]int64{at: {10}, at + 1: {6}}, frees)
	require.Equal(t, int64(6), free(t, fs.Kill()))
	trace := fs.Trace()
	require.NoError(t, f.Allocate(0, simfs.PageSize))
	for img := range trace.Images(simfs.Search{From: trace.Len()}) {
		require.Equal(t, int64(6), free(t, img.FS), "the trace does not change")
	}
}

func TestDelayedAllocation(t *testing.T) {
	fs := simfs.New(simfs.Options{Blocks: 2, DelayedAlloc: true, Seed: 4})
	f := open(t, fs, "/a")
	_, err := write(f, 4*simfs.PageSize, 0)
	require.NoError(t, err, "the write does not know yet")
	require.ErrorIs(t, f.Datasync(), syscall.ENOSPC)
	require.NoError(t, f.Truncate(0))
	_, err = write(f, 2*simfs.PageSize, 0)
	require.NoError(t, err)
	require.NoError(t, f.Datasync())
	require.Equal(t, int64(0), free(t, fs))
	require.NoError(t, f.Truncate(0))
	require.NoError(t, f.Allocate(0, 2*simfs.PageSize))
	_, err = write(f, 2*simfs.PageSize, 0)
	require.NoError(t, err)
	require.NoError(t, f.Datasync(), "allocated space is honoured")
}

func TestCopyOnWrite(t *testing.T) {
	fs := simfs.New(simfs.Options{Blocks: 4, CopyOnWrite: true})
	s, err := fs.StatFS("/")
	require.NoError(t, err)
	require.True(t, s.CopyOnWrite)
	f := open(t, fs, "/a")
	_, err = write(f, 2*simfs.PageSize, 0)
	require.NoError(t, err)
	require.NoError(t, f.Datasync())
	_, err = write(f, 4, 0)
	require.NoError(t, err)
	require.Equal(t, int64(1), free(t, fs), "the old block is still held")
	require.NoError(t, f.Datasync())
	require.Equal(t, int64(2), free(t, fs))
	fs.FillUp(0, false)
	_, err = write(f, 4, 0)
	require.ErrorIs(t, err, syscall.ENOSPC, "even overwriting four bytes")
}

func TestCapacityChanges(t *testing.T) {
	fs := simfs.New(simfs.Options{})
	f := open(t, fs, "/a")
	_, err := write(f, 5*simfs.PageSize, 0)
	require.NoError(t, err)
	fs.SetCapacity(6, 100)
	require.Equal(t, int64(1), free(t, fs))
	n, err := write(f, 2*simfs.PageSize, 5*simfs.PageSize)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, simfs.PageSize, n)
}

func TestMappingPoison(t *testing.T) {
	fs := simfs.New(simfs.Options{})
	f := open(t, fs, "/a")
	_, err := write(f, 100, 0)
	require.NoError(t, err)
	m, err := f.Map(simfs.PageSize)
	require.NoError(t, err)
	require.Equal(t, byte('x'), m.Bytes()[99])
	require.Equal(t, byte(simfs.Poison), m.Bytes()[100], "beyond the end")
	require.NoError(t, f.Truncate(50))
	require.Equal(t, byte(simfs.Poison), m.Bytes()[50], "cut off")
	require.NoError(t, f.Truncate(60))
	require.Equal(t, []byte{0, simfs.Poison}, m.Bytes()[59:61], "grown again")
	none := open(t, simfs.New(simfs.Options{NoMap: true}), "/a")
	_, err = none.Map(10)
	require.ErrorIs(t, err, syscall.ENODEV)
}

// TestMetadataIsOldOrNew until Sync; Datasync is not enough.
func TestMetadataIsOldOrNew(t *testing.T) {
	fs := simfs.New(simfs.Options{})
	f, from := open(t, fs, "/a"), open(t, fs, "/b")
	require.NoError(t, fs.SyncDir("/"))
	require.NoError(t, fs.Chown("/b", 1, 2, 0o644))
	owners := func() map[uint32]bool {
		found := map[uint32]bool{}
		for img := range fs.Trace().Images(simfs.Search{From: fs.Ops()}) {
			info, err := img.Stat("/a")
			require.NoError(t, err)
			found[info.UID] = true
		}
		return found
	}
	require.NoError(t, f.CopyMetadata(from))
	require.NoError(t, f.Datasync())
	require.Equal(t, map[uint32]bool{0: true, 1: true}, owners())
	require.NoError(t, f.Sync())
	require.Equal(t, map[uint32]bool{1: true}, owners())
}

// TestNothingRunsForTheDead: a view that exited can do nothing, and a lock that could never come is an error.
func TestNothingRunsForTheDead(t *testing.T) {
	fs := simfs.New(simfs.Options{})
	other := fs.Process("other")
	f, g := open(t, fs, "/a"), open(t, other, "/a")
	require.NoError(t, g.TryLock(vfs.Exclusively))
	require.ErrorIs(t, f.Lock(context.Background(), vfs.Shared), syscall.EDEADLK)
	require.NotZero(t, other.OpenFiles())
	other.Exit()
	require.Zero(t, other.OpenFiles())
	require.NoError(t, f.Lock(context.Background(), vfs.Shared))
	_, err := other.Stat("/a")
	require.ErrorIs(t, err, syscall.ESRCH)
	require.ErrorIs(t, g.Datasync(), syscall.ESRCH)
}
