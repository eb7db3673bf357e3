package vfs_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestOpenBesideLease: whoever looks whether he is alone holds a lease for a moment, which an open must wait for.
func TestOpenBesideLease(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("this file system has no leases: %v", err)
	}
	const wait = 50 * time.Millisecond
	began := time.Now()
	returned := make(chan struct{})
	time.AfterFunc(wait, func() {
		defer close(returned)
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	})
	g, err := vfs.OS().Open(name, vfs.ReadWrite, 0)
	<-returned
	require.NoError(t, err)
	require.NoError(t, g.Close())
	require.GreaterOrEqual(t, time.Since(began), wait)
}
