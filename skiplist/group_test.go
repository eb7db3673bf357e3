package skiplist_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

var errGone = errors.New("the goroutine has ended")

// grouped has callers of Batch commit together, in their order, and returns what each is told, or errGone.
func grouped(t *testing.T, db *skiplist.DB, calls ...func(*skiplist.Tx) error) []error {
	errs := make([]error, len(calls))
	var wg sync.WaitGroup
	// A transaction without changes holds the turn until all stand in the queue.
	require.NoError(t, db.Update(ctx, func(*skiplist.Tx) error {
		for i, call := range calls {
			errs[i] = errGone
			wg.Go(func() {
				defer func() {
					if r := recover(); r != nil {
						errs[i] = fmt.Errorf("panic: %v", r)
					}
				}()
				errs[i] = db.Batch(ctx, call)
			})
			synctest.Wait()
		}
		return nil
	}))
	wg.Wait()
	return errs
}

// TestGroupAnswersForWhatIsThere fails the commit of a group in which later members are told of what the first has
// changed: no answer speaks of a change that was refused.
func TestGroupAnswersForWhatIsThere(t *testing.T) {
	insert := func(value string) func(*skiplist.Tx) error {
		return func(tx *skiplist.Tx) error { return tx.Insert([]byte("new"), []byte(value)) }
	}
	mustBeMissing := func(tx *skiplist.Tx) error {
		if has, err := tx.Has([]byte("new")); err != nil || has {
			panic("it is there")
		}
		return errors.New("missing")
	}
	for _, c := range []struct {
		name  string
		kinds faultfs.Kind
		mode  faultfs.Mode
		errno syscall.Errno
		// kept tells whether a member that is run again succeeds.
		kept bool
	}{
		{"full disk", faultfs.Allocate | faultfs.Write, faultfs.Onwards, syscall.ENOSPC, false},
		{"one failed sync", faultfs.Datasync | faultfs.Sync, faultfs.Once, syscall.EIO, true},
		{"failing disk", faultfs.Datasync | faultfs.Sync, faultfs.Onwards, syscall.EIO, false},
	} {
		eachFormat(t, func(t *testing.T, f skiplist.Format) {
			synctest.Test(t, func(t *testing.T) {
				plan := &faultfs.Plan{Kinds: c.kinds, Mode: c.mode, Err: c.errno, N: 1 << 30}
				disk := simfs.New(simfs.Options{NoTrace: true})
				opts := skiplist.Options{FS: faultfs.Wrap(disk, plan), Format: f, Create: true, Reserve: -1}
				db, err := skiplist.Open(ctx, "/db", opts)
				require.NoError(t, err)
				require.NoError(t, db.Put(ctx, []byte("a"), []byte("1")))
				plan.N = plan.Count()
				errs := grouped(t, db, insert("first"), insert("second"), mustBeMissing, insert("third"))
				require.True(t, plan.Fired())
				require.ErrorIs(t, errs[0], c.errno, c.name)
				v, err := db.Get(ctx, []byte("new"))
				if c.kept {
					require.NoError(t, err)
					require.Equal(t, "second", string(v), c.name)
					require.NoError(t, errs[1], c.name)
					require.EqualError(t, errs[2], "panic: it is there", c.name)
					require.ErrorIs(t, errs[3], skiplist.ErrExists, c.name)
				} else {
					require.ErrorIs(t, err, skiplist.ErrNotFound, c.name)
					require.Error(t, errs[1])
					require.NotErrorIs(t, errs[1], skiplist.ErrExists, c.name)
					require.EqualError(t, errs[2], "missing", c.name)
					require.NotErrorIs(t, errs[3], skiplist.ErrExists, c.name)
				}
				plan.Stop()
				require.NoError(t, db.Put(ctx, []byte("b"), []byte("1")))
				require.NoError(t, db.Close())
				checkClean(t, "/db", skiplist.Options{FS: disk})
			})
		})
	}
}

// TestGroupWithoutItsLeader ends the goroutine that commits for a group: what the others were told before does not count.
func TestGroupWithoutItsLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := skiplist.Open(ctx, "/db", skiplist.Options{FS: simfs.New(simfs.Options{NoTrace: true}), Create: true})
		require.NoError(t, err)
		defer db.Close()
		inserted := 0
		insert := func(tx *skiplist.Tx) error {
			err := tx.Insert([]byte("new"), []byte("v"))
			if err == nil {
				inserted++
			}
			return err
		}
		end := func(tx *skiplist.Tx) error { // ends every goroutine that finds the key
			if has, _ := tx.Has([]byte("new")); has && inserted == 1 {
				runtime.Goexit()
			}
			return nil
		}
		errs := grouped(t, db, insert, insert, end)
		require.Equal(t, 2, inserted, "the insert that was not committed was made again")
		_, err = db.Get(ctx, []byte("new"))
		require.NoError(t, err)
		require.True(t, (errs[0] == nil) != (errs[1] == nil), "one insert was told that it was made: %v", errs)
	})
}
