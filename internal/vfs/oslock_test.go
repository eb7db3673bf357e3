//go:build linux || darwin

package vfs

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestPollingForALock is the way where a file cannot be opened anew.
func TestPollingForALock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	var files [2]*osFile
	for k := range files {
		f, err := OS().Open(name, ReadWrite|Create, 0o600)
		require.NoError(t, err)
		files[k] = f.(*osFile)
	}
	require.NoError(t, files[0].TryLock(Exclusively))
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, files[1].lock.poll(short, lockShared), context.DeadlineExceeded)
	done := make(chan error, 1)
	go func() { done <- files[1].lock.poll(t.Context(), lockExclusive) }()
	time.Sleep(20 * time.Millisecond)
	require.NoError(t, files[0].Unlock())
	require.NoError(t, <-done)
	require.ErrorIs(t, files[0].TryLock(Shared), unix.EAGAIN)
	go func() { done <- files[0].lock.poll(t.Context(), lockExclusive) }()
	time.Sleep(20 * time.Millisecond)
	require.NoError(t, files[0].Close())
	require.ErrorIs(t, <-done, unix.EBADF)
	require.NoError(t, files[1].Close())
}
