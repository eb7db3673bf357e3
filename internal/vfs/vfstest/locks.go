package vfstest

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/stretchr/testify/require"
)

func testLocks(t *testing.T, e *env) {
	a, b, c := e.open("a"), e.open("a"), e.open("a")
	require.NoError(t, a.TryLock(vfs.Shared))
	require.NoError(t, b.TryLock(vfs.Shared))
	e.fails(c.TryLock(vfs.Exclusively), syscall.EAGAIN)
	require.NoError(t, a.Unlock())
	e.fails(c.TryLock(vfs.Exclusively), syscall.EAGAIN)
	require.NoError(t, b.Close())
	require.NoError(t, c.TryLock(vfs.Exclusively), "close gives the lock back")
	e.fails(a.TryLock(vfs.Shared), syscall.EAGAIN)
	require.NoError(t, c.TryLock(vfs.Exclusively), "one's own lock is no hindrance")
	other := e.open("b")
	require.NoError(t, other.TryLock(vfs.Exclusively), "another file has a lock of its own")
	require.NoError(t, c.Unlock())
	require.NoError(t, c.Unlock(), "unlocking what is not locked is nothing")
	require.NoError(t, a.Lock(context.Background(), vfs.Exclusively))
}

func testConversion(t *testing.T, e *env) {
	a, b := e.open("a"), e.open("a")
	require.NoError(t, a.TryLock(vfs.Exclusively))
	require.NoError(t, a.TryLock(vfs.Shared))
	require.NoError(t, b.TryLock(vfs.Shared), "the lock was converted down")
	e.fails(a.TryLock(vfs.Exclusively), syscall.EAGAIN)
	e.fails(b.TryLock(vfs.Exclusively), syscall.EAGAIN)
	require.NoError(t, b.Unlock())
	require.NoError(t, a.TryLock(vfs.Exclusively), "and up")
	e.fails(b.TryLock(vfs.Shared), syscall.EAGAIN)
	require.NoError(t, a.Unlock())
	require.NoError(t, b.TryLock(vfs.Exclusively))
}

// waiting starts a Lock in a goroutine and gives it the time to begin waiting.
func (e *env) waiting(ctx context.Context, f vfs.File, kind vfs.LockKind) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f.Lock(ctx, kind) }()
	select {
	case err := <-done:
		require.Fail(e, "the lock did not wait", "%v", err)
	case <-time.After(30 * time.Millisecond):
	}
	return done
}

func (e *env) ends(done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		require.Fail(e, "the wait for a lock does not end")
		return nil
	}
}

// free waits until f can be locked: a late lock is given back a moment after it came, and nobody knows when it comes.
func (e *env) free(f vfs.File, kind vfs.LockKind) {
	e.Helper()
	require.Eventually(e, func() bool { return f.TryLock(kind) == nil }, 10*time.Second, time.Millisecond)
}

func (e *env) cancelable() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	e.Cleanup(cancel)
	return ctx, cancel
}

func testLockWaits(t *testing.T, e *env) {
	a, b := e.open("a"), e.open("a")
	ctx, _ := e.cancelable()
	require.NoError(t, a.Lock(ctx, vfs.Exclusively))
	done := e.waiting(ctx, b, vfs.Exclusively)
	require.NoError(t, a.Unlock())
	require.NoError(t, e.ends(done))
	e.fails(a.TryLock(vfs.Shared), syscall.EAGAIN)
	done = e.waiting(ctx, a, vfs.Shared)
	require.NoError(t, b.Close())
	require.NoError(t, e.ends(done))
	require.NoError(t, a.Unlock(), "a lock that waited is unlocked like any other")
	require.NoError(t, e.open("a").TryLock(vfs.Exclusively))

	ended, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("enough")
	cancel(cause)
	e.fails(a.Lock(ended, vfs.Shared), cause)
}

// testLateLock gives up a wait, and checks that the lock that comes later is given back, and undoes nothing.
func testLateLock(t *testing.T, e *env) {
	a, b, c := e.open("a"), e.open("a"), e.open("a")
	require.NoError(t, a.TryLock(vfs.Exclusively))
	ctx, cancel := context.WithCancelCause(context.Background())
	done := e.waiting(ctx, b, vfs.Exclusively)
	cause := errors.New("enough")
	cancel(cause)
	e.fails(e.ends(done), cause)
	require.NoError(t, a.Unlock())
	e.free(c, vfs.Exclusively)
	require.NoError(t, c.Unlock())

	// The same with a lock of b that came before the late one.
	e.free(a, vfs.Shared)
	ctx2, cancel2 := e.cancelable()
	done = e.waiting(ctx2, b, vfs.Exclusively)
	cancel2()
	e.fails(e.ends(done), context.Canceled)
	require.NoError(t, b.TryLock(vfs.Shared), "the abandoned wait does not hinder another lock")
	require.NoError(t, a.Unlock())
	time.Sleep(30 * time.Millisecond)
	e.fails(c.TryLock(vfs.Exclusively), syscall.EAGAIN)
	require.NoError(t, b.Unlock())
	e.free(c, vfs.Exclusively)
}

// testLateUpgrade gives up the wait for a conversion: the lock held before stays, whatever comes late.
func testLateUpgrade(t *testing.T, e *env) {
	a, b, c := e.open("a"), e.open("a"), e.open("a")
	require.NoError(t, a.TryLock(vfs.Shared))
	require.NoError(t, b.TryLock(vfs.Shared))
	ctx, cancel := e.cancelable()
	done := e.waiting(ctx, b, vfs.Exclusively)
	cancel()
	e.fails(e.ends(done), context.Canceled)
	require.NoError(t, a.Unlock())
	e.free(c, vfs.Shared)
	e.fails(c.TryLock(vfs.Exclusively), syscall.EAGAIN)
	require.NoError(t, c.Unlock())

	// A second upgrade while the first, given up, still waits.
	e.free(a, vfs.Shared)
	ctx2, cancel2 := e.cancelable()
	done = e.waiting(ctx2, b, vfs.Exclusively)
	cancel2()
	e.fails(e.ends(done), context.Canceled)
	ctx3, _ := e.cancelable()
	done = e.waiting(ctx3, b, vfs.Exclusively)
	require.NoError(t, a.Unlock())
	require.NoError(t, e.ends(done))
	time.Sleep(30 * time.Millisecond)
	e.fails(c.TryLock(vfs.Shared), syscall.EAGAIN)
	require.NoError(t, b.Unlock())
	e.free(c, vfs.Exclusively)
	require.NoError(t, c.Unlock())

	// Unlock and Close while an upgrade still waits.
	e.free(a, vfs.Shared)
	e.free(b, vfs.Shared)
	ctx4, cancel4 := e.cancelable()
	done = e.waiting(ctx4, b, vfs.Exclusively)
	cancel4()
	e.fails(e.ends(done), context.Canceled)
	require.NoError(t, b.Close())
	require.NoError(t, a.TryLock(vfs.Exclusively), "close dropped the lock at once")
	require.NoError(t, a.Unlock())
	e.free(c, vfs.Exclusively)
}

// testLockClose closes a file while it waits.
func testLockClose(t *testing.T, e *env) {
	a, b, c := e.open("a"), e.open("a"), e.open("a")
	ctx, _ := e.cancelable()
	require.NoError(t, a.TryLock(vfs.Exclusively))
	done := e.waiting(ctx, b, vfs.Exclusively)
	require.NoError(t, b.Close())
	e.fails(e.ends(done), syscall.EBADF)
	require.NoError(t, a.Close())
	e.free(c, vfs.Exclusively)
}
