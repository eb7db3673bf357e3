package skiplist_test

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// TestStampAhead: a skipstamp of a time that has not come yet has the file recovered once, not at every commit.
func TestStampAhead(t *testing.T) {
	disk := simfs.New(simfs.Options{NoTrace: true})
	stamp, err := disk.Open("/stamp", vfs.ReadWrite|vfs.Create, 0o644)
	require.NoError(t, err)
	_, err = stamp.WriteAt(binary.BigEndian.AppendUint32(nil, uint32(disk.Now().Add(time.Hour).Unix())), 0)
	require.NoError(t, err)
	require.NoError(t, stamp.Close())
	opts := skiplist.Options{FS: disk, Format: skiplist.Skiplist, Create: true, Skipstamp: "/stamp"}
	db, err := skiplist.Open(ctx, "/db", opts)
	require.NoError(t, err)
	for i := range 10 {
		require.NoError(t, db.Put(ctx, fmt.Appendf(nil, "k%d", i), []byte("v")))
	}
	require.LessOrEqual(t, db.Stats().Recoveries, int64(1))
	plan, err := db.PlanRecovery(ctx)
	require.NoError(t, err)
	require.False(t, plan.Needed, plan.Reason)
	require.NoError(t, db.Close())
}

// TestCheckpointOfNothing: a file of zero bytes is of no format, until the caller names one.
func TestCheckpointOfNothing(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Auto, skiplist.Skiplist, skiplist.Twoskip} {
		disk := simfs.New(simfs.Options{NoTrace: true})
		file, err := disk.Open("/db", vfs.ReadWrite|vfs.Create, 0o644)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		db, err := skiplist.Open(ctx, "/db", skiplist.Options{FS: disk, Format: f})
		require.NoError(t, err)
		err = db.Checkpoint(ctx)
		info, e := disk.Stat("/db")
		require.NoError(t, e)
		if f == skiplist.Auto {
			require.ErrorIs(t, err, skiplist.ErrNotDatabase)
			require.ErrorIs(t, db.Put(ctx, []byte("k"), nil), skiplist.ErrNotDatabase)
			require.Zero(t, info.Size)
		} else {
			require.NoError(t, err)
			require.NotZero(t, info.Size)
			checkClean(t, "/db", skiplist.Options{FS: disk, Format: f})
		}
		require.NoError(t, db.Close())
	}
}

// TestNestedPanics: what a function changed before it panicked is taken back, as if it had returned an error.
func TestNestedPanics(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		db, err := skiplist.Open(ctx, "/db", skiplist.Options{FS: simfs.New(simfs.Options{NoTrace: true}), Format: f, Create: true})
		require.NoError(t, err)
		defer db.Close()
		require.NoError(t, db.Update(ctx, func(tx *skiplist.Tx) error {
			require.NoError(t, tx.Put([]byte("a"), []byte("kept")))
			require.Panics(t, func() {
				_ = tx.Nested(func() error {
					require.NoError(t, tx.Put([]byte("a"), []byte("half")))
					require.NoError(t, tx.Put([]byte("b"), []byte("half")))
					panic("in the middle")
				})
			})
			return nil
		}))
		require.NoError(t, db.View(ctx, func(s *skiplist.Snapshot) error {
			require.Equal(t, map[string]string{"a": "kept"}, contents(t, s))
			return nil
		}))
	})
}

// TestReserveHasALimit: a reserve that cannot be added to the length of a file is refused.
func TestReserveHasALimit(t *testing.T) {
	opts := skiplist.Options{FS: simfs.New(simfs.Options{NoTrace: true}), Create: true, Reserve: math.MaxInt64}
	_, err := skiplist.Open(ctx, "/db", opts)
	require.ErrorContains(t, err, "a reserve of 9223372036854775807 bytes")
	opts.Reserve = 1<<40 + 1
	_, err = skiplist.Open(ctx, "/db", opts)
	require.Error(t, err)
}

// TestReserveAfterAFailure: a change that fails is cut off together with the reserve behind it, which is there again when
// the disk fills up.
func TestReserveAfterAFailure(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		t.Run(string(f), func(t *testing.T) {
			disk := simfs.New(simfs.Options{Blocks: 1024, NoTrace: true})
			plan := &faultfs.Plan{Kinds: faultfs.Datasync, N: 1 << 30}
			db, err := skiplist.Open(ctx, "/db", skiplist.Options{FS: faultfs.Wrap(disk, plan), Format: f, Create: true})
			require.NoError(t, err)
			putMany(t, db, 100, "v")
			plan.N = plan.Count()
			require.ErrorIs(t, db.Put(ctx, []byte("new"), []byte("v")), syscall.EIO)
			disk.FillUp(0, true)
			require.ErrorIs(t, db.Put(ctx, []byte("new"), make([]byte, 4*skiplist.DefaultReserve)), skiplist.ErrNoSpace)
			for k := range 100 {
				require.NoError(t, db.Delete(ctx, fmt.Appendf(nil, "key%d", k)))
			}
			disk.FreeUp()
			require.NoError(t, db.Close())
			checkClean(t, "/db", skiplist.Options{FS: disk})
		})
	}
}

// TestIterationOutlivesItsTransaction: it ends with ErrClosed at its next step.
func TestIterationOutlivesItsTransaction(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		db, err := skiplist.Open(ctx, "/db", skiplist.Options{FS: simfs.New(simfs.Options{NoTrace: true}), Format: f, Create: true})
		require.NoError(t, err)
		defer db.Close()
		putMany(t, db, 100, "v")
		var begun, fresh iter.Seq2[skiplist.Record, error]
		var next func() (skiplist.Record, error, bool)
		var stop func()
		require.NoError(t, db.Update(ctx, func(tx *skiplist.Tx) error {
			begun, fresh = tx.All(), tx.Prefix([]byte("key"))
			next, stop = iter.Pull2(begun)
			_, err, ok := next()
			require.True(t, ok)
			return err
		}))
		defer stop()
		require.NoError(t, db.Checkpoint(ctx))
		_, err, ok := next()
		require.True(t, ok)
		require.ErrorIs(t, err, skiplist.ErrClosed)
		_, _, ok = next()
		require.False(t, ok)
		for _, err := range fresh {
			require.ErrorIs(t, err, skiplist.ErrClosed)
		}
	})
}
