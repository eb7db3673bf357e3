package faultfs_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/stretchr/testify/require"
)

// calls makes each call once and returns the errors by kind. What it needs is made on the inner file system.
func calls(t *testing.T, inner, fsys vfs.FS, dir string) map[faultfs.Kind]error {
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"a", "b", "c", "d"} {
		f, err := inner.Open(path(name), vfs.ReadWrite|vfs.Create, 0o600)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte("content"), 0)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	require.NoError(t, inner.Mkdir(path("empty"), 0o755))
	errs := map[faultfs.Kind]error{}
	f, err := fsys.Open(path("a"), vfs.ReadWrite, 0)
	errs[faultfs.Open] = err
	if err != nil {
		return errs
	}
	created, err := fsys.Open(path("new"), vfs.ReadWrite|vfs.Create, 0o600)
	errs[faultfs.Create] = err
	if err == nil {
		_ = created.Close()
	}
	_, errs[faultfs.Write] = f.WriteAt([]byte("12345678"), 0)
	_, errs[faultfs.Read] = f.ReadAt(make([]byte, 1), 0)
	errs[faultfs.Truncate] = f.Truncate(5)
	errs[faultfs.Allocate] = f.Allocate(0, 4096)
	errs[faultfs.Datasync] = f.Datasync()
	errs[faultfs.Sync] = f.Sync()
	errs[faultfs.Metadata] = f.CopyMetadata(f)
	_, errs[faultfs.Stat] = f.Stat()
	errs[faultfs.Sole] = f.Sole()
	errs[faultfs.Lock] = f.Lock(context.Background(), vfs.Shared)
	errs[faultfs.Unlock] = f.Unlock()
	m, err := f.Map(10)
	errs[faultfs.Map] = err
	if err == nil {
		require.NoError(t, m.Close())
	}
	errs[faultfs.Close] = f.Close()
	_, err = f.(*faultfs.File).Unwrap().Stat()
	require.ErrorIs(t, err, syscall.EBADF, "closed, whatever Close said")
	errs[faultfs.SyncDir] = fsys.SyncDir(dir)
	errs[faultfs.Exchange] = fsys.Exchange(path("a"), path("b"))
	errs[faultfs.Link] = fsys.Link(path("a"), path("link"))
	errs[faultfs.Rename] = fsys.Rename(path("c"), path("e"))
	errs[faultfs.Unlink] = fsys.Unlink(path("d"))
	errs[faultfs.Mkdir] = fsys.Mkdir(path("dir"), 0o755)
	errs[faultfs.Rmdir] = fsys.Rmdir(path("empty"))
	_, errs[faultfs.ReadDir] = fsys.ReadDir(dir)
	_, errs[faultfs.StatFS] = fsys.StatFS(dir)
	w, err := fsys.SharedWord(path("a"))
	errs[faultfs.SharedWord] = err
	if err == nil {
		require.NoError(t, w.Close())
	}
	return errs
}

func disks(t *testing.T) map[string]func() (vfs.FS, string) {
	return map[string]func() (vfs.FS, string){
		"os":    func() (vfs.FS, string) { return vfs.OS(), t.TempDir() },
		"simfs": func() (vfs.FS, string) { return simfs.New(simfs.Options{}), "/" },
	}
}

func TestEachKindFails(t *testing.T) {
	for name, disk := range disks(t) {
		for kind := faultfs.Open; kind <= faultfs.SharedWord; kind <<= 1 {
			for _, after := range []bool{false, true} {
				t.Run(name+" "+kind.String(), func(t *testing.T) {
					inner, dir := disk()
					plan := &faultfs.Plan{Kinds: kind, Err: syscall.EDQUOT, After: after}
					if kind == faultfs.Close {
						plan.Suffix = "/a" // The others are closed on the way.
					}
					errs := calls(t, inner, faultfs.Wrap(inner, plan), dir)
					require.True(t, plan.Fired())
					require.Contains(t, plan.String(), kind.String())
					for k, err := range errs {
						if k != kind {
							require.NoError(t, err, k)
							continue
						}
						require.ErrorIs(t, err, syscall.EDQUOT)
						if link, ok := err.(*os.LinkError); ok {
							require.NotEmpty(t, link.New)
						} else {
							require.IsType(t, &fs.PathError{}, err)
						}
					}
				})
			}
		}
	}
}

func TestModes(t *testing.T) {
	run := func(plan *faultfs.Plan) (failed []int) {
		sim := simfs.New(simfs.Options{})
		f, err := faultfs.Wrap(sim, plan).Open("/a", vfs.ReadWrite|vfs.Create, 0o600)
		require.NoError(t, err)
		for k := range 6 {
			if _, err := f.WriteAt([]byte("x"), 0); err != nil {
				failed = append(failed, k)
			}
			if _, err := f.ReadAt(make([]byte, 1), 0); err != nil && k > 0 {
				failed = append(failed, 100+k)
			}
		}
		return failed
	}
	require.Equal(t, []int{2}, run(&faultfs.Plan{N: 2, Kinds: faultfs.Write}))
	require.Equal(t, []int{2, 3, 4, 5}, run(&faultfs.Plan{N: 2, Kinds: faultfs.Write, Mode: faultfs.Onwards}))
	require.Equal(t, []int{2, 4}, run(&faultfs.Plan{N: 2, Kinds: faultfs.Write, Mode: faultfs.EverySecond}))
	require.Equal(t, []int{101, 102, 103, 104, 105}, run(&faultfs.Plan{N: 1, Kinds: faultfs.Read, Mode: faultfs.Onwards}))
	require.Empty(t, run(&faultfs.Plan{Kinds: faultfs.Write, Suffix: "/b"}))
	require.Equal(t, []int{0}, run(&faultfs.Plan{Kinds: faultfs.Write, Suffix: "/a"}))
	require.Empty(t, run(nil))
	plan := &faultfs.Plan{N: 1000}
	require.Empty(t, run(plan))
	require.False(t, plan.Fired())
	require.Equal(t, 13, plan.Count())
	plan = &faultfs.Plan{Kinds: faultfs.Write, Mode: faultfs.Onwards}
	plan.Stop()
	require.Empty(t, run(plan))
}

// TestOnwardsIsOneClass: after a full disk at a write, creating fails as well, reading does not.
func TestOnwardsIsOneClass(t *testing.T) {
	inner := simfs.New(simfs.Options{})
	errs := calls(t, inner, faultfs.Wrap(inner, &faultfs.Plan{Kinds: faultfs.Write, Mode: faultfs.Onwards}), "/")
	for kind, err := range errs {
		before := kind == faultfs.Create
		require.Equal(t, kind&faultfs.Modifying != 0 && !before, err != nil && kind != faultfs.Read, kind)
	}
}

func TestShortWrites(t *testing.T) {
	for name, disk := range disks(t) {
		for _, short := range faultfs.Shorts {
			inner, dir := disk()
			plan := &faultfs.Plan{Kinds: faultfs.Write, Short: short, Err: syscall.ENOSPC}
			f, err := faultfs.Wrap(inner, plan).Open(dir+"/a", vfs.ReadWrite|vfs.Create, 0o600)
			require.NoError(t, err)
			n, err := f.WriteAt(make([]byte, 10_000), 100)
			require.ErrorIs(t, err, syscall.ENOSPC)
			want := map[faultfs.Short]int{
				faultfs.OneByte: 1, faultfs.ThreeBytes: 3, faultfs.Half: 5000, faultfs.AllButOne: 9999, faultfs.ToPageEdge: 3996,
			}[short]
			require.Equal(t, want, n, name)
			info, err := f.Stat()
			require.NoError(t, err)
			if want > 0 {
				require.Equal(t, int64(100+want), info.Size)
			} else {
				require.Zero(t, info.Size)
			}
			require.NoError(t, f.Close())
		}
	}
}

// TestFailedSyncDropsPages: on the simulated disk a failed sync leaves the page cache different from the disk.
func TestFailedSyncDropsPages(t *testing.T) {
	differs := 0
	for seed := range uint64(10) {
		sim := simfs.New(simfs.Options{Seed: seed})
		// Wrapped twice: the fault finds the disk through both.
		fsys := faultfs.Wrap(faultfs.Wrap(sim, nil), &faultfs.Plan{Kinds: faultfs.Syncs})
		f, err := fsys.Open("/a", vfs.ReadWrite|vfs.Create, 0o600)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte("data"), 0)
		require.NoError(t, err)
		require.ErrorIs(t, f.Datasync(), syscall.EIO)
		require.NoError(t, f.Datasync(), "the second sync has nothing to do and succeeds")
		sim.DropCaches()
		p, err := vfs.ReadFile(sim, "/a")
		require.NoError(t, err)
		if string(p) != "data" {
			differs++
		}
	}
	require.Positive(t, differs)
	require.Less(t, differs, 10)
}

func TestUnwrap(t *testing.T) {
	sim := simfs.New(simfs.Options{})
	fsys := faultfs.Wrap(sim, nil)
	require.Same(t, sim, fsys.Unwrap())
	f, err := fsys.Open("/a", vfs.ReadWrite|vfs.Create, 0o600)
	require.NoError(t, err)
	require.IsType(t, &simfs.File{}, f.(*faultfs.File).Unwrap())
	require.Equal(t, "/a", f.Name())
}
