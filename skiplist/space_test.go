package skiplist_test

import (
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// names lists a directory.
func names(t *testing.T, fsys vfs.FS, dir string) (list []string) {
	entries, err := fsys.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		list = append(list, e.Name)
	}
	return list
}

func image(t *testing.T, fsys vfs.FS, path string) string {
	b, err := vfs.ReadFile(fsys, path)
	require.NoError(t, err)
	return string(b)
}

func putMany(t *testing.T, db *skiplist.DB, n int, value string) {
	require.NoError(t, db.Update(ctx, func(tx *skiplist.Tx) error {
		for k := range n {
			if err := tx.Put(fmt.Appendf(nil, "key%d", k), []byte(value)); err != nil {
				return err
			}
		}
		return nil
	}))
}

// TestWholeFileNeedsItsSpaceFirst has a checkpoint, a backup, a salvage, and in flat a commit, without the space for the
// new file: it fails before it has written a byte, leaves nothing behind, and the handle works on.
func TestWholeFileNeedsItsSpaceFirst(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		disk := simfs.New(simfs.Options{Blocks: 100, NoTrace: true})
		plan := &faultfs.Plan{Kinds: faultfs.Write, Mode: faultfs.EverySecond, N: 1 << 30} // only counts
		fsys := faultfs.Wrap(disk, plan)
		opts := skiplist.Options{FS: fsys, Format: f, Create: true}
		db, err := skiplist.Open(ctx, "/db", opts)
		require.NoError(t, err)
		putMany(t, db, 200, strings.Repeat("v", 500))
		disk.FillUp(10, false) // room for some of the new file, not for all of it
		before, written := image(t, disk, "/db"), plan.Count()
		fails := func(err error) {
			require.ErrorIs(t, err, skiplist.ErrNoSpace)
			require.ErrorIs(t, err, syscall.ENOSPC)
			require.Equal(t, written, plan.Count(), "not a byte was written")
			require.Equal(t, []string{"db"}, names(t, disk, "/"))
			require.Equal(t, before, image(t, disk, "/db"))
		}
		fails(db.Checkpoint(ctx))
		fails(backup(db))
		_, err = skiplist.Salvage(ctx, "/db", "/salvaged", skiplist.SalvageOptions{Options: opts})
		fails(err)
		if f == skiplist.Flat {
			fails(db.Put(ctx, []byte("key1"), []byte("x")))
			fails(db.Delete(ctx, []byte("key1")))
		} else {
			require.NoError(t, db.Delete(ctx, []byte("key1")))
		}
		disk.FreeUp()
		require.NoError(t, db.Put(ctx, []byte("key1"), []byte("x")))
		require.NoError(t, db.Checkpoint(ctx))
		require.NoError(t, db.Close())
		checkClean(t, "/db", opts)
	})
}

// TestNoSpaceLeavesNothing fails with ENOSPC at every call of a checkpoint, a backup, a salvage and a commit in turn,
// from there on: no unfinished file stays behind.
func TestNoSpaceLeavesNothing(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		for what, act := range map[string]func(*skiplist.DB, vfs.FS) error{
			"checkpoint": func(db *skiplist.DB, _ vfs.FS) error { return db.Checkpoint(ctx) },
			"backup":     func(db *skiplist.DB, _ vfs.FS) error { return backup(db) },
			"commit":     func(db *skiplist.DB, _ vfs.FS) error { return db.Put(ctx, []byte("key1"), []byte("x")) },
			"salvage": func(_ *skiplist.DB, fsys vfs.FS) error {
				opts := skiplist.SalvageOptions{Options: skiplist.Options{FS: fsys, Format: f, Random: one}}
				_, err := skiplist.Salvage(ctx, "/db", "/copy", opts)
				return err
			},
		} {
			for _, mode := range []faultfs.Mode{faultfs.Once, faultfs.Onwards} {
				for n := 0; ; n++ {
					disk := simfs.New(simfs.Options{NoTrace: true})
					opts := skiplist.Options{FS: disk, Format: f, Create: true, ManualCheckpoint: true}
					db, err := skiplist.Open(ctx, "/db", opts)
					require.NoError(t, err)
					putMany(t, db, 20, "value")
					require.NoError(t, db.Close())
					// Unlinking needs no space.
					kinds := faultfs.Create | faultfs.Write | faultfs.Allocate | faultfs.Datasync | faultfs.Sync | faultfs.Metadata
					plan := &faultfs.Plan{Kinds: kinds, N: n, Err: syscall.ENOSPC, Mode: mode, Short: faultfs.Half}
					if mode == faultfs.Onwards {
						plan.Suffix = map[string]string{"checkpoint": ".NEW", "commit": ".NEW", "backup": ".0000000000000001", "salvage": ".0000000000000001"}[what]
					}
					opts.Random = one // part of the name of an output
					opts.FS, opts.Create = keepsUnlinking{faultfs.Wrap(disk, plan), disk}, false
					if db, err = skiplist.Open(ctx, "/db", opts); err == nil {
						err = act(db, opts.FS)
						_ = db.Close()
					}
					if err != nil {
						require.ErrorIs(t, err, skiplist.ErrNoSpace, "%s: %v", what, plan)
						require.Equal(t, []string{"db"}, names(t, disk, "/"), "%s: %v", what, plan)
					}
					if !plan.Fired() {
						require.NoError(t, err)
						require.True(t, n > 0 || f == skiplist.Flat || what == "commit", what)
						break
					}
				}
			}
		}
	})
}

func one() uint64 { return 1 }

func backup(db *skiplist.DB) error {
	_, err := db.BackupFile(ctx, "/copy")
	return err
}

// keepsUnlinking is a full disk, on which names can be removed.
type keepsUnlinking struct {
	vfs.FS
	disk *simfs.FS
}

func (k keepsUnlinking) Unlink(name string) error { return k.disk.Unlink(name) }

// TestCheckpointBacksOff: a checkpoint that is due and has no space is not tried at every commit.
func TestCheckpointBacksOff(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		t.Run(string(f), func(t *testing.T) {
			disk := simfs.New(simfs.Options{NoTrace: true})
			opts := skiplist.Options{FS: disk, Format: f, Create: true}
			db, err := skiplist.Open(ctx, "/db", opts)
			require.NoError(t, err)
			putMany(t, db, 100, strings.Repeat("v", 300))
			require.NoError(t, db.Checkpoint(ctx))
			require.NoError(t, db.Close())
			// There is never room for a new file.
			plan := &faultfs.Plan{Kinds: faultfs.Create, Suffix: ".NEW", Err: syscall.ENOSPC, Mode: faultfs.Onwards}
			full := opts
			full.FS = faultfs.Wrap(disk, plan)
			db, err = skiplist.Open(ctx, "/db", full)
			require.NoError(t, err)
			put := func(value string) {
				require.NoError(t, db.Put(ctx, []byte("key1"), []byte(strings.Repeat(value, 300))))
				require.Less(t, db.Stats().Commits, int64(10_000))
			}
			for db.Stats().FailedCheckpoints == 0 {
				put(fmt.Sprint(db.Stats().Commits % 10))
			}
			at := db.Stats().Committed
			for db.Stats().FailedCheckpoints == 1 {
				put(fmt.Sprint(db.Stats().Commits % 10))
			}
			require.GreaterOrEqual(t, db.Stats().Committed, at+at/4, "not before the log has grown by a quarter")
			require.LessOrEqual(t, db.Stats().Committed, at+at/4+1000)
			plan.Stop()
			at = db.Stats().Committed
			for db.Stats().Checkpoints == 0 {
				put(fmt.Sprint(db.Stats().Commits % 10))
			}
			require.Less(t, db.Stats().Committed, at)
			require.NoError(t, db.Close())
			checkClean(t, "/db", opts)
		})
	}
}

// allocations notes what was allocated last from the start of a file.
type allocations struct {
	vfs.FS
	last *int64
}

type allocated struct {
	vfs.File
	last *int64
}

func (a allocations) Open(name string, flag vfs.Flag, perm fs.FileMode) (vfs.File, error) {
	f, err := a.FS.Open(name, flag, perm)
	if err != nil || flag&vfs.Create == 0 {
		return f, err
	}
	return allocated{f, a.last}, nil
}

func (a allocated) Allocate(off, n int64) error {
	*a.last = n
	return a.File.Allocate(off, n)
}

// TestRewriteSizeIsExact compares what is allocated for a new file with its size, for random contents.
func TestRewriteSizeIsExact(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		rapid.Check(t, func(t *rapid.T) {
			var last int64
			fsys := allocations{simfs.New(simfs.Options{NoTrace: true}), &last}
			db, err := skiplist.Open(ctx, "/db", skiplist.Options{FS: fsys, Format: f, Create: true})
			require.NoError(t, err)
			key := rapid.SliceOfN(rapid.Byte(), 1, 6)
			for range rapid.IntRange(0, 30).Draw(t, "changes") {
				if rapid.IntRange(0, 4).Draw(t, "kind") == 0 {
					require.NoError(t, db.Delete(ctx, key.Draw(t, "key")))
					continue
				}
				require.NoError(t, db.Put(ctx, key.Draw(t, "key"), rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "value")))
			}
			last = 0
			require.NoError(t, backup(db))
			info, err := fsys.Stat("/copy")
			require.NoError(t, err)
			require.Equal(t, info.Size, last)
			require.NoError(t, db.Close())
		})
	})
}
