package fuzz

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// TestFlatOnAFullDiskCrashes changes a flat database on a simulated disk with nothing free, where whatever is freed is
// taken at once, and cuts the power everywhere.
func TestFlatOnAFullDiskCrashes(t *testing.T) {
	images := 0
	for seed := range uint64(campaign(2, 30)) {
		disk := simfs.New(simfs.Options{Blocks: 100, DelayedAlloc: seed%2 == 1, OrderedNames: seed%3 == 1})
		opts := options(disk, skiplist.Flat, seed)
		opts.Prepared = "/mailspine"
		db, err := skiplist.Open(ctx, dbPath, opts)
		require.NoError(t, err)
		h := &history{states: []map[string]string{{}}}
		for k := range 40 {
			h.states[0][fmt.Sprint("key", k)] = strings.Repeat("v", 100)
		}
		require.NoError(t, db.Update(ctx, func(tx *skiplist.Tx) error {
			for k, v := range h.states[0] {
				if err := tx.Put([]byte(k), []byte(v)); err != nil {
					return err
				}
			}
			return nil
		}))
		disk.FillUp(0, true)
		from := disk.Ops()
		for n := 1; n <= 12; n++ {
			next := maps.Clone(h.last())
			keys := slices.Sorted(maps.Keys(next))
			key := keys[int(seed)*7%len(keys)]
			disk.Mark(fmt.Sprintf("begin %d", n))
			h.states = append(h.states, next)
			if n%3 == 0 {
				delete(next, key)
				require.NoError(t, db.Delete(ctx, []byte(key)), "%d", n)
			} else {
				next[key] = strings.Repeat(fmt.Sprint(n%10), 100)
				require.NoError(t, db.Put(ctx, []byte(key), []byte(next[key])), "%d", n)
			}
			disk.Mark(fmt.Sprintf("ack %d", n))
		}
		require.ErrorIs(t, db.Put(ctx, []byte("large"), make([]byte, 100<<10)), skiplist.ErrNoSpace)
		require.NoError(t, db.Close())
		for img := range disk.Trace().Images(simfs.Search{From: from, Limit: 32, Samples: 12, Seed: seed}) {
			images++
			acked, begun := h.allowed(img.Marks)
			got, err := verify(img.FS, skiplist.Flat, h.states, acked, begun)
			require.NoError(t, err, "seed %d, %s", seed, img.Seed)
			img.FillUp(0, true)
			opts := options(img.FS, skiplist.Flat, 7)
			opts.Prepared, opts.Create = "/mailspine", false
			again, err := skiplist.Open(ctx, dbPath, opts)
			require.NoError(t, err)
			for key := range got {
				require.NoError(t, again.Delete(ctx, []byte(key)), "seed %d, %s", seed, img.Seed)
				break
			}
			require.NoError(t, again.Close())
			require.NoError(t, clean(img.FS, skiplist.Flat))
		}
	}
	t.Logf("%d crash images", images)
}

// smallDisk mounts a file system for one test, in which namespaced has returned true; the test is skipped where that is
// not possible.
func smallDisk(t *testing.T, kind string, megabytes int64) string {
	d, err := mountKind(t.TempDir(), kind, megabytes<<20)
	if errors.Is(err, errNoMount) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.unmount()) })
	return d.dir
}

// TestFlatOnAFullDisk changes a flat database on real file systems with nothing free, while somebody grabs each block
// that is freed: replacements and deletions succeed without end; another handle, idle in between, sees each of them, and
// a snapshot from before keeps what it had.
func TestFlatOnAFullDisk(t *testing.T) {
	if !namespaced(t) {
		return
	}
	for kind, megabytes := range map[string]int64{"tmpfs": 4, "ext4": 16, "xfs": 320} {
		t.Run(kind, func(t *testing.T) {
			conf := filepath.Join(smallDisk(t, kind, megabytes), "conf")
			require.NoError(t, os.Mkdir(conf, 0o755))
			path := filepath.Join(conf, "fred.sub")
			opts := skiplist.Options{Format: skiplist.Flat, Create: true, Prepared: filepath.Join(conf, "mailspine")}
			db, err := skiplist.Open(ctx, path, opts)
			require.NoError(t, err)
			model := map[string]string{}
			require.NoError(t, db.Update(ctx, func(tx *skiplist.Tx) error {
				for k := range 100 {
					key := fmt.Sprintf("user.fred.folder%d", k)
					model[key] = strings.Repeat("v", 100)
					if err := tx.Put([]byte(key), []byte(model[key])); err != nil {
						return err
					}
				}
				return nil
			}))
			other, err := skiplist.Open(ctx, path, opts)
			require.NoError(t, err)
			snap, err := other.Snapshot(ctx)
			require.NoError(t, err)
			before := maps.Clone(model)
			stop, err := grabAll(conf)
			require.NoError(t, err)
			keys := slices.Sorted(maps.Keys(model))
			same := func(db *skiplist.DB) {
				got, err := contents(db)
				require.NoError(t, err)
				require.True(t, maps.Equal(model, got))
			}
			for n := range campaign(100, 1000) {
				key := keys[n*13%len(keys)]
				model[key] = strings.Repeat(string(rune('a'+n%26)), 100)
				require.NoError(t, db.Put(ctx, []byte(key), []byte(model[key])), "replacement %d", n)
				if n%3 == 0 {
					same(other)
				}
			}
			require.ErrorIs(t, db.Put(ctx, []byte("large"), make([]byte, 1<<20)), skiplist.ErrNoSpace)
			for n, key := range keys {
				w := db
				if n%2 == 1 {
					w = other // two writers share the pool
				}
				delete(model, key)
				require.NoError(t, w.Delete(ctx, []byte(key)), "deletion %d", n)
				same(db)
				same(other)
			}
			got := map[string]string{}
			for r, err := range snap.All() {
				require.NoError(t, err)
				got[string(r.Key)] = string(r.Value)
			}
			require.True(t, maps.Equal(before, got), "the snapshot keeps its file")
			snap.Close()
			require.NoError(t, stop())
			require.NoError(t, db.Put(ctx, []byte("large"), make([]byte, 1<<20)))
			model["large"] = string(make([]byte, 1<<20))
			same(other)
			require.NoError(t, db.Close())
			require.NoError(t, other.Close())
			require.NoError(t, checkFile(path))
			left, err := os.ReadDir(conf)
			require.NoError(t, err)
			require.Len(t, left, 2, "the file and the pool")
		})
	}
}

func checkFile(path string) error {
	found, err := skiplist.Check(ctx, path, skiplist.Options{})
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("%v", found)
	}
	return err
}

// TestExchangeIsNoticed: a file that exchanged its name with another may look exactly as before; a handle that is open
// on it notices all the same, on every file system.
func TestExchangeIsNoticed(t *testing.T) {
	if !namespaced(t) {
		return
	}
	for kind, megabytes := range map[string]int64{"tmpfs": 4, "ext4": 16, "xfs": 320, "btrfs": 120} {
		t.Run(kind, func(t *testing.T) {
			dir := smallDisk(t, kind, megabytes)
			path, next := filepath.Join(dir, "a"), filepath.Join(dir, "b")
			require.NoError(t, os.WriteFile(path, []byte("k\t1\n"), 0o600))
			require.NoError(t, os.WriteFile(next, []byte("k\t2\n"), 0o600))
			db, err := skiplist.Open(ctx, path, skiplist.Options{Format: skiplist.Flat})
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			for n := range 20 {
				v, err := db.Get(ctx, []byte("k"))
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(1+n%2), string(v))
				require.NoError(t, vfs.OS().Exchange(path, next))
			}
		})
	}
}

// TestPoolOnAnotherDisk: prepared files on another file system are of no use, and no harm.
func TestPoolOnAnotherDisk(t *testing.T) {
	if !namespaced(t) {
		return
	}
	dir, other := smallDisk(t, "tmpfs", 1), t.TempDir()
	path, pool := filepath.Join(dir, "a.sub"), filepath.Join(other, "mailspine")
	elsewhere := filepath.Join(other, "b.sub")
	for _, p := range []string{elsewhere, path} { // the first one makes the pool
		db, err := skiplist.Open(ctx, p, skiplist.Options{Format: skiplist.Flat, Create: true, Prepared: pool})
		require.NoError(t, err)
		require.NoError(t, db.Put(ctx, []byte("k"), []byte("1")))
		if p == path {
			stop, err := grabAll(dir)
			require.NoError(t, err)
			require.ErrorIs(t, db.Put(ctx, []byte("k"), []byte("2")), skiplist.ErrNoSpace)
			require.NoError(t, stop())
		}
		require.NoError(t, db.Put(ctx, []byte("k"), []byte("3")))
		require.NoError(t, db.Close())
		require.NoError(t, checkFile(p))
	}
	require.ErrorIs(t, vfs.NewSpares(vfs.OS(), pool).Prepare(path, 1), unix.EXDEV)
}
