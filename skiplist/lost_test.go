package skiplist_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/skiplist"
)

const lostRecords = 3000

// lostDB makes a database that is large enough for an iteration to be far from its end when the file goes away.
func lostDB(t *testing.T, path string, f skiplist.Format) {
	db, err := skiplist.Open(ctx, path, skiplist.Options{Format: f, Create: true, Mode: 0o666})
	require.NoError(t, err)
	require.NoError(t, db.Update(ctx, func(tx *skiplist.Tx) error {
		for i := range lostRecords {
			if err := tx.Put(fmt.Appendf(nil, "user.%05d", i), fmt.Appendf(nil, "value %d of the first state", i)); err != nil {
				return err
			}
		}
		return nil
	}))
	require.NoError(t, db.Close())
}

// TestSnapshotLost has another process checkpoint the file under snapshots: rename, and in skiplist an ftruncate of the
// old file to nothing, as Cyrus does it. Whatever a snapshot of before answers is right, or it is ErrSnapshotLost; in
// twoskip, where nobody cuts the old file, all of it is right. New snapshots work. Each way is tried with a mapped file,
// where a page that is gone raises a signal, and with one that is read.
func TestSnapshotLost(t *testing.T) {
	checkpoints := map[string]func(t *testing.T, path string, f skiplist.Format){
		"as Cyrus does": func(t *testing.T, path string, f skiplist.Format) {
			old, err := os.OpenFile(path, os.O_RDWR, 0)
			require.NoError(t, err)
			other, err := skiplist.Open(ctx, path, skiplist.Options{})
			require.NoError(t, err)
			require.NoError(t, other.Checkpoint(ctx))
			require.NoError(t, other.Close())
			if f == skiplist.Skiplist {
				require.NoError(t, old.Truncate(0))
			}
			require.NoError(t, old.Close())
		},
		"libcyrus": func(t *testing.T, path string, f skiplist.Format) {
			realcyrus.NeedOracle(t)
			o := realcyrus.StartOracle(t, realcyrus.OracleOptions{})
			db, err := o.Open(string(f), path, 0)
			require.NoError(t, err)
			require.NoError(t, db.Checkpoint())
			require.NoError(t, db.Close())
		},
	}
	for name, checkpoint := range checkpoints {
		for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
			for _, mapped := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/mapped=%v", name, f, mapped), func(t *testing.T) {
					dir := t.TempDir()
					path := filepath.Join(dir, "db")
					lostDB(t, path, f)
					opts := skiplist.Options{}
					if !mapped {
						opts.FS = faultfs.Wrap(vfs.OS(), &faultfs.Plan{Kinds: faultfs.Map, Mode: faultfs.Onwards})
					}
					loseSnapshots(t, path, opts, f == skiplist.Skiplist, func() { checkpoint(t, path, f) })
				})
			}
		}
	}
}

func loseSnapshots(t *testing.T, path string, opts skiplist.Options, lost bool, checkpoint func()) {
	db, err := skiplist.Open(ctx, path, opts)
	require.NoError(t, err)
	defer db.Close()
	s, err := db.Snapshot(ctx)
	require.NoError(t, err)
	defer s.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() { keepReading(t, s, g, stop) })
	}
	seen, last := 0, error(nil)
	for r, err := range s.All() {
		if last = err; err != nil {
			break
		}
		require.Equal(t, fmt.Sprintf("user.%05d", seen), string(r.Key))
		require.Equal(t, fmt.Sprintf("value %d of the first state", seen), string(r.Value))
		if seen++; seen == 20 {
			checkpoint()
		}
	}
	time.Sleep(5 * time.Millisecond)
	close(stop)
	wg.Wait()
	v, err := s.Get([]byte("user.02999"))
	_, errHas := s.Has([]byte("nobody"))
	var errScan error
	for _, errScan = range s.Prefix([]byte("user.001")) {
		break
	}
	if lost {
		require.ErrorIs(t, last, skiplist.ErrSnapshotLost)
		require.ErrorIs(t, err, skiplist.ErrSnapshotLost)
		require.ErrorIs(t, errHas, skiplist.ErrSnapshotLost)
		require.ErrorIs(t, errScan, skiplist.ErrSnapshotLost)
	} else {
		require.NoError(t, errors.Join(last, err, errHas, errScan))
		require.Equal(t, "value 2999 of the first state", string(v))
		require.Equal(t, lostRecords, seen)
	}
	require.NoError(t, db.View(ctx, func(s *skiplist.Snapshot) error {
		require.Len(t, contents(t, s), lostRecords)
		return nil
	}))
	require.NoError(t, db.Put(ctx, []byte("next"), []byte("works")))
	v, err = db.Get(ctx, []byte("user.00007"))
	require.NoError(t, err)
	require.Equal(t, "value 7 of the first state", string(v))
	checkClean(t, path, skiplist.Options{})
}

// keepReading reads single records, until it is told to stop: each is right, or the snapshot is lost for good.
func keepReading(t *testing.T, s *skiplist.Snapshot, g int, stop chan struct{}) {
	gone := false
	for i := g; ; i = (i + 7) % lostRecords {
		select {
		case <-stop:
			return
		default:
		}
		v, err := s.Get(fmt.Appendf(nil, "user.%05d", i))
		switch {
		case errors.Is(err, skiplist.ErrSnapshotLost):
			gone = true
		case err != nil:
			t.Errorf("record %d: %v", i, err)
			return
		case gone || string(v) != fmt.Sprintf("value %d of the first state", i):
			t.Errorf("record %d is %q, after the loss: %v", i, v, gone)
			return
		}
	}
}
