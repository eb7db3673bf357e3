package skiplist_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// failing is a database whose last change has an unknown fate, on a disk that works again until second fires.
type failing struct {
	db     *skiplist.DB
	disk   *simfs.FS
	second *faultfs.Plan
}

func newFailing(t *testing.T, f skiplist.Format, kinds faultfs.Kind, suffix string) *failing {
	x := &failing{disk: simfs.New(simfs.Options{NoTrace: true})}
	first := &faultfs.Plan{Kinds: faultfs.Datasync, N: 1 << 30, Mode: faultfs.Onwards}
	x.second = &faultfs.Plan{Kinds: kinds, N: 1 << 30, Suffix: suffix}
	fsys := faultfs.Wrap(faultfs.Wrap(x.disk, x.second), first)
	var err error
	x.db, err = skiplist.Open(ctx, "/db", skiplist.Options{FS: fsys, Format: f, Create: true})
	require.NoError(t, err)
	require.NoError(t, x.db.Put(ctx, []byte("a"), []byte("1")))
	before := first.Count()
	require.NoError(t, x.db.Put(ctx, []byte("b"), []byte("1")))
	first.N = first.Count() + (first.Count() - before) - 1 // the sync that separates done from not done
	require.ErrorIs(t, x.db.Put(ctx, []byte("c"), []byte("1")), skiplist.ErrCommitUnknown)
	first.Stop()
	return x
}

// readers read through the handle until they are stopped. They must come back then.
func (x *failing) readers(t *testing.T) (stop func()) {
	limited, cancel := context.WithTimeout(ctx, 30*time.Second)
	var done atomic.Bool
	var wg sync.WaitGroup
	begun := make(chan struct{}, 2)
	for range cap(begun) {
		wg.Go(func() {
			for !done.Load() {
				v, err := x.db.Get(limited, []byte("a"))
				select {
				case begun <- struct{}{}:
				default:
				}
				if err != nil || string(v) != "1" {
					t.Errorf("a reader got %q: %v", v, err)
					break
				}
			}
		})
		<-begun
	}
	return func() {
		defer cancel()
		done.Store(true)
		back := make(chan struct{})
		go func() { wg.Wait(); close(back) }()
		select {
		case <-back:
		case <-time.After(40 * time.Second):
			t.Fatal("a reader does not come back")
		}
	}
}

// works has the handle and another one read and write, within a deadline.
func (x *failing) works(t *testing.T) {
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	read := make(chan error, 1)
	go func() {
		_, err := x.db.Get(limited, []byte("a"))
		read <- err
	}()
	select {
	case err := <-read:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("a reader does not come back")
	}
	other, err := skiplist.Open(limited, "/db", skiplist.Options{FS: x.disk})
	require.NoError(t, err, "the lock was not given back")
	require.NoError(t, other.Put(limited, []byte("other"), []byte("1")))
	require.NoError(t, other.Close())
	require.NoError(t, x.db.Put(limited, []byte("e"), []byte("1")))
	require.NoError(t, x.db.View(ctx, func(s *skiplist.Snapshot) error {
		all := contents(t, s)
		delete(all, "c")
		delete(all, "d")
		require.Equal(t, map[string]string{"a": "1", "b": "1", "other": "1", "e": "1"}, all)
		return nil
	}))
	require.NoError(t, x.db.Close())
	require.Zero(t, x.disk.OpenFiles(), "files are left open")
	checkClean(t, "/db", skiplist.Options{FS: x.disk})
}

// TestFailedRebuildFreesTheLock fails the sync of the directory in a rebuild: the lock of the new file is given back.
func TestFailedRebuildFreesTheLock(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		t.Run(string(f), func(t *testing.T) {
			x := newFailing(t, f, faultfs.SyncDir, "")
			x.second.N = x.second.Count()
			require.Error(t, x.db.Put(ctx, []byte("d"), []byte("1")))
			x.works(t)
		})
	}
}

// TestRebuildOfAReplacedFile has another process replace the file before the handle rebuilds it, and fails each open of
// the rebuild in turn: readers, who read all the time, go on, and no file stays open.
func TestRebuildOfAReplacedFile(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		t.Run(string(f), func(t *testing.T) {
			for n, fired := 0, true; fired; n++ {
				x := newFailing(t, f, faultfs.Open, "/db")
				other, err := skiplist.Open(ctx, "/db", skiplist.Options{FS: x.disk})
				require.NoError(t, err)
				require.NoError(t, other.Checkpoint(ctx))
				require.NoError(t, other.Close())
				stop := x.readers(t)
				x.second.N = x.second.Count() + n
				err = x.db.Put(ctx, []byte("d"), []byte("1"))
				stop()
				fired = x.second.Fired()
				require.Equal(t, fired, err != nil, "open %d: %v", n, err)
				x.second.Stop()
				x.works(t)
			}
		})
	}
}
