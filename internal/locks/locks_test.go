package locks

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// TestExclude: of those who want two locks, in whatever order they name them, one at a time has both.
func TestExclude(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "U", "*U*alice.lock"), filepath.Join(dir, "U", "*U*bob.lock")
	var wg sync.WaitGroup
	var holders, total atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				names := []string{a, b, a}
				if i%2 == 0 {
					names = []string{b, a}
				}
				h, err := Acquire(t.Context(), vfs.OS(), vfs.Exclusively, names...)
				if err != nil {
					t.Error(err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold the locks", n)
				}
				total.Add(1)
				holders.Add(-1)
				h.Release()
				h.Release()
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 400, total.Load())
	require.FileExists(t, a)
}

// TestGiveUp: a wait that ends leaves no lock behind, not even the first of two.
func TestGiveUp(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	held, err := Acquire(t.Context(), vfs.OS(), vfs.Shared, b)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = Acquire(ctx, vfs.OS(), vfs.Exclusively, b, a)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	also, err := Acquire(t.Context(), vfs.OS(), vfs.Shared, b)
	require.NoError(t, err)
	also.Release()
	first, err := Acquire(t.Context(), vfs.OS(), vfs.Exclusively, a)
	require.NoError(t, err)
	first.Release()
	held.Release()
	var none *Held
	none.Release()
}

// TestFileTakenAway: the lock of a file that has lost its name, or has another file under it, is nobody's.
func TestFileTakenAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	fsys := vfs.OS()
	held, err := Acquire(t.Context(), fsys, vfs.Exclusively, path)
	require.NoError(t, err)
	waiting := make(chan *Held)
	go func() {
		h, err := Acquire(t.Context(), fsys, vfs.Exclusively, path)
		if err != nil {
			t.Error(err)
		}
		waiting <- h
	}()
	time.Sleep(20 * time.Millisecond)
	require.NoError(t, fsys.Unlink(path))
	held.Release()
	late := <-waiting
	// It holds the file that everybody finds now.
	f, err := fsys.Open(path, vfs.ReadWrite, 0)
	require.NoError(t, err)
	require.ErrorIs(t, f.TryLock(vfs.Exclusively), syscall.EAGAIN)
	late.Release()
	require.NoError(t, f.TryLock(vfs.Exclusively))
	require.NoError(t, f.Close())
}

// TestEveryCallFails: with each call failing in turn the locks are held, or an error is told and none is.
func TestEveryCallFails(t *testing.T) {
	for n := 0; ; n++ {
		disk := simfs.New(simfs.Options{})
		plan := &faultfs.Plan{N: n, Err: syscall.EIO, Kinds: faultfs.All}
		h, err := Acquire(t.Context(), faultfs.Wrap(disk, plan), vfs.Exclusively, "/lock/U/a", "/lock/U/b")
		if !plan.Fired() {
			require.NoError(t, err)
			h.Release()
			return
		}
		if err != nil {
			require.ErrorIs(t, err, syscall.EIO)
		}
		h.Release()
		again, err := Acquire(t.Context(), disk, vfs.Exclusively, "/lock/U/a", "/lock/U/b")
		require.NoError(t, err)
		again.Release()
	}
}

// TestExisting: a file that is missing is not made, one that goes while the lock is waited for is missing, and one that comes in its
// place is the one that is locked.
func TestExisting(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	for _, kind := range []vfs.LockKind{vfs.Shared, vfs.Exclusively} {
		_, err := Existing(t.Context(), vfs.OS(), kind, path)
		require.ErrorIs(t, err, syscall.ENOENT)
		require.NoFileExists(t, path)
	}
	for _, replaced := range []bool{false, true} {
		held, err := File(t.Context(), vfs.OS(), vfs.Exclusively, path, 0o600)
		require.NoError(t, err)
		type answer struct {
			f   vfs.File
			err error
		}
		got := make(chan answer)
		go func() {
			f, err := Existing(t.Context(), vfs.OS(), vfs.Exclusively, path)
			got <- answer{f, err}
		}()
		select {
		case <-got:
			require.Fail(t, "the lock was not waited for")
		case <-time.After(50 * time.Millisecond):
		}
		require.NoError(t, vfs.OS().Unlink(path))
		if replaced {
			f, err := vfs.OS().Open(path, vfs.ReadWrite|vfs.Create, 0o600)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
		require.NoError(t, held.Close())
		a := <-got
		if !replaced {
			require.ErrorIs(t, a.err, syscall.ENOENT)
			continue
		}
		require.NoError(t, a.err)
		info, err := a.f.Stat()
		require.NoError(t, err)
		at, err := vfs.OS().Stat(path)
		require.NoError(t, err)
		require.True(t, at.SameFile(info))
		require.NoError(t, a.f.Close())
	}
}
