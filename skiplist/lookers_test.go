package skiplist_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// TestOldFileIsNotLookedAt: Cyrus's checkpoint of a skiplist file empties the file that it replaces, before it gives back
// the lock for which the others wait.
func TestOldFileIsNotLookedAt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := open(t, path, skiplist.Options{Format: skiplist.Skiplist, Create: true})
	putMany(t, db, 500, "v")
	old, err := vfs.OS().Open(path, vfs.ReadWrite, 0)
	require.NoError(t, err)
	require.NoError(t, old.Lock(ctx, vfs.Exclusively))

	var wg sync.WaitGroup
	wg.Go(func() {
		found, err := db.Check(ctx)
		if err != nil || len(found) > 0 {
			t.Errorf("check: %v %v", found, err)
		}
	})
	wg.Go(func() {
		plan, err := db.PlanRecovery(ctx)
		if err != nil || plan.Needed {
			t.Errorf("plan: %+v %v", plan, err)
		}
	})
	wg.Go(func() {
		done, err := skiplist.Salvage(ctx, path, path+".salvaged", skiplist.SalvageOptions{})
		if err != nil || done.Records != 500 || len(done.Findings) > 0 {
			t.Errorf("salvage: %+v %v", done, err)
		}
	})
	time.Sleep(100 * time.Millisecond) // by now they wait; if one does not, it passes
	require.NoError(t, os.WriteFile(path+".NEW", readFile(t, path), 0o600))
	require.NoError(t, os.Rename(path+".NEW", path))
	require.NoError(t, old.Truncate(0))
	require.NoError(t, old.Close())
	wg.Wait()
}

// TestChecksBesideWriter checks with one handle many times at once, while another process commits.
func TestChecksBesideWriter(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		t.Run(string(f), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			db := open(t, path, skiplist.Options{Format: f, Create: true})
			putMany(t, db, 30_000, "v")
			other, err := skiplist.Open(ctx, path, skiplist.Options{})
			require.NoError(t, err)
			defer other.Close()
			var stop atomic.Bool
			var writer, checks sync.WaitGroup
			writer.Go(func() {
				for i := 0; !stop.Load(); i++ {
					if err := other.Put(ctx, fmt.Appendf(nil, "key%d", i%7000), fmt.Appendf(nil, "x%d", i)); err != nil {
						t.Error(err)
						return
					}
				}
			})
			for range 3 {
				checks.Go(func() {
					for range 8 {
						if found, err := db.Check(ctx); err != nil || len(found) > 0 {
							t.Errorf("%d findings, %v", len(found), err)
						}
					}
				})
			}
			checks.Wait()
			stop.Store(true)
			writer.Wait()
		})
	}
}
