package skiplist_test

import (
	"context"
	"io/fs"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// openFiles counts the files that are open.
type openFiles struct {
	vfs.FS
	n *atomic.Int64
}

type countedFile struct {
	vfs.File
	n *atomic.Int64
}

func (o openFiles) Open(name string, flag vfs.Flag, perm fs.FileMode) (vfs.File, error) {
	f, err := o.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	o.n.Add(1)
	return countedFile{f, o.n}, nil
}

func (f countedFile) Close() error {
	f.n.Add(-1)
	return f.File.Close()
}

func (f countedFile) Unwrap() vfs.File { return f.File }

// failing is a database whose last change has an unknown fate, on a disk that works again until second fires.
type failing struct {
	db     *skiplist.DB
	disk   *simfs.FS
	second *faultfs.Plan
	open   atomic.Int64
}

func newFailing(t *testing.T, f skiplist.Format, kinds faultfs.Kind, suffix string) *failing {
	x := &failing{disk: simfs.New(simfs.Options{NoTrace: true})}
	first := &faultfs.Plan{Kinds: faultfs.Datasync, N: 1 << 30, Mode: faultfs.Onwards}
	x.second = &faultfs.Plan{Kinds: kinds, N: 1 << 30, Suffix: suffix}
	fsys := openFiles{faultfs.Wrap(faultfs.Wrap(x.disk, x.second), first), &x.open}
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
	require.Zero(t, x.open.Load(), "files are left open")
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
// the rebuild in turn: readers go on, and no file stays open.
func TestRebuildOfAReplacedFile(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		t.Run(string(f), func(t *testing.T) {
			for n, fired := 0, true; fired; n++ {
				x := newFailing(t, f, faultfs.Open, "/db")
				other, err := skiplist.Open(ctx, "/db", skiplist.Options{FS: x.disk})
				require.NoError(t, err)
				require.NoError(t, other.Checkpoint(ctx))
				require.NoError(t, other.Close())
				x.second.N = x.second.Count() + n
				err = x.db.Put(ctx, []byte("d"), []byte("1"))
				fired = x.second.Fired()
				require.Equal(t, fired, err != nil, "open %d: %v", n, err)
				x.second.Stop()
				x.works(t)
			}
		})
	}
}
