package fuzz

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// TestNameOfAnother has a process die after it gave a new file the name and before that was durable, at its creation or
// in a checkpoint. What the next process acknowledges must not go away with the name.
func TestNameOfAnother(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		for _, died := range []string{"create", "checkpoint"} {
			t.Run(fmt.Sprintf("%s/%s", f, died), func(t *testing.T) {
				disk := simfs.New(simfs.Options{})
				first := disk.Process("first")
				plan := &faultfs.Plan{Kinds: faultfs.SyncDir, Mode: faultfs.Onwards}
				if died == "checkpoint" {
					db, err := skiplist.Open(ctx, dbPath, options(first, f, 1))
					require.NoError(t, err)
					require.NoError(t, db.Put(ctx, []byte("k"), []byte("old")))
					require.NoError(t, db.Close())
				}
				db, err := skiplist.Open(ctx, dbPath, options(faultfs.Wrap(first, plan), f, 1))
				if err == nil {
					require.Error(t, db.Checkpoint(ctx))
				}
				require.True(t, plan.Fired())
				first.Exit()

				db, err = skiplist.Open(ctx, dbPath, options(disk, f, 2))
				require.NoError(t, err)
				require.NoError(t, db.Put(ctx, []byte("k"), []byte("new")))
				trace := disk.Trace()
				for img := range trace.Images(simfs.Search{From: trace.Len()}) {
					again, err := skiplist.Open(ctx, dbPath, skiplist.Options{FS: img.FS, Format: f})
					require.NoError(t, err, img.Seed)
					v, err := again.Get(ctx, []byte("k"))
					require.NoError(t, err, img.Seed)
					require.Equal(t, "new", string(v), img.Seed)
				}
			})
		}
	}
}

// TestCreateWithoutLinks has processes create the database and use it at once, on a file system without hard links:
// whoever comes second finds the file of the first, and no record is lost. A crash leaves no file or an empty one before
// that.
func TestCreateWithoutLinks(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		t.Run(string(f), func(t *testing.T) {
			for seed := range uint64(campaign(60, 600)) {
				disk := simfs.New(simfs.Options{})
				creator := func(k int) simfs.Task {
					return func(ctx context.Context, fs *simfs.FS) {
						noLinks := faultfs.Wrap(fs, &faultfs.Plan{Kinds: faultfs.Link, Err: syscall.EPERM})
						db, err := skiplist.Open(ctx, dbPath, options(noLinks, f, seed+uint64(k)))
						require.NoError(t, err)
						require.NoError(t, db.Put(ctx, []byte{byte('a' + k)}, []byte("v")))
						require.NoError(t, db.Close())
					}
				}
				simfs.Run(t, disk, simfs.Schedule{Seed: seed}, creator(0), creator(1), creator(2))
				got, err := verify(disk, f, []map[string]string{{"a": "v", "b": "v", "c": "v"}}, 0, 0)
				require.NoError(t, err, "seed %d", seed)
				require.Len(t, got, 3)
				names, err := disk.ReadDir("/")
				require.NoError(t, err)
				require.Len(t, names, 1, "nothing is left over")
				if seed%10 > 0 {
					continue
				}
				for img := range disk.Trace().Images(simfs.Search{Limit: 2, Samples: 1}) {
					db, err := skiplist.Open(ctx, dbPath, options(img.FS, f, 1))
					require.NoError(t, err, img.Seed)
					require.NoError(t, db.Put(ctx, []byte("z"), nil))
					require.NoError(t, db.Close())
				}
			}
		})
	}
}
