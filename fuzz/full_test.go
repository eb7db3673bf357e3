package fuzz

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// TestFullDisk fills the disk to the last block, with somebody waiting for each that is freed. A change for which there
// is no space leaves the file byte for byte as it was, does not drag down a deletion that is committed with it, and
// deletions go on until the reserve is used up: at 12 bytes each in skiplist, about 56 in twoskip.
func TestFullDisk(t *testing.T) {
	for f, each := range map[skiplist.Format]int{skiplist.Skiplist: 12, skiplist.Twoskip: 56} {
		t.Run(string(f), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { fullDisk(t, f, skiplist.DefaultReserve/each) })
		})
	}
}

func fullDisk(t *testing.T, f skiplist.Format, deletions int) {
	disk := simfs.New(simfs.Options{Blocks: 1024, NoTrace: true})
	opts := options(disk, f, 1)
	opts.Reserve = skiplist.DefaultReserve
	db, err := skiplist.Open(ctx, dbPath, opts)
	require.NoError(t, err)
	want := map[string]string{}
	require.NoError(t, db.Update(ctx, func(tx *skiplist.Tx) error {
		for i := range 4 * deletions {
			k := fmt.Sprintf("k%06d", i)
			want[k] = "v"
			if err := tx.Put([]byte(k), []byte("v")); err != nil {
				return err
			}
		}
		return nil
	}))
	require.NoError(t, db.Put(ctx, []byte("last"), nil)) // with the reserve behind it
	want["last"] = ""
	disk.FillUp(0, true)

	before, err := vfs.ReadFile(disk, dbPath)
	require.NoError(t, err)
	large := bytes.Repeat([]byte("x"), 3*skiplist.DefaultReserve)
	require.ErrorIs(t, db.Put(ctx, []byte("large"), large), skiplist.ErrNoSpace)
	after, err := vfs.ReadFile(disk, dbPath)
	require.NoError(t, err)
	require.True(t, bytes.Equal(before, after), "a refused change has changed the file")

	put, del := together(t, db,
		func(tx *skiplist.Tx) error { return tx.Put([]byte("large"), large) },
		func(tx *skiplist.Tx) error { return tx.Delete([]byte("last")) })
	require.ErrorIs(t, put, skiplist.ErrNoSpace)
	require.NoError(t, del, "a deletion in one group with it")
	delete(want, "last")

	done := 1
	for ; done < 4*deletions; done++ {
		k := fmt.Sprintf("k%06d", done)
		if err := db.Delete(ctx, []byte(k)); err != nil {
			require.ErrorIs(t, err, skiplist.ErrNoSpace)
			break
		}
		delete(want, k)
	}
	require.GreaterOrEqual(t, done, deletions)
	t.Logf("%d deletions on a full disk", done)
	got, err := contents(db)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.NoError(t, sound(disk, f))

	disk.FreeUp()
	require.NoError(t, db.Put(ctx, []byte("next"), []byte("works")))
	require.NoError(t, db.Close())
	require.NoError(t, clean(disk, f))
}

// together has two callers of Batch share a commit.
func together(t *testing.T, db *skiplist.DB, first, second func(*skiplist.Tx) error) (error, error) {
	var errs [2]error
	var wg sync.WaitGroup
	// A transaction without changes holds the turn until both stand in the queue.
	err := db.Update(ctx, func(*skiplist.Tx) error {
		for i, call := range []func(*skiplist.Tx) error{first, second} {
			wg.Go(func() { errs[i] = db.Batch(ctx, call) })
			synctest.Wait()
		}
		return nil
	})
	wg.Wait()
	require.NoError(t, err)
	return errs[0], errs[1]
}
