//go:build linux

package vfs_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func create(t *testing.T, name string) vfs.File {
	f, err := vfs.OS().Open(name, vfs.ReadWrite|vfs.Create, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestFlagsAreDistinct(t *testing.T) {
	require.Zero(t, vfs.ReadOnly)
	for _, pair := range [][2]vfs.Flag{
		{vfs.ReadWrite, vfs.Create}, {vfs.ReadWrite, vfs.Exclusive}, {vfs.Create, vfs.Exclusive},
	} {
		require.NotZero(t, pair[0])
		require.NotZero(t, pair[1])
		require.Zero(t, pair[0]&pair[1])
	}
}

// TestTruncatedMappingFaults: the bus error of a page that is gone is an error, other panics are not swallowed.
func TestTruncatedMappingFaults(t *testing.T) {
	f := create(t, filepath.Join(t.TempDir(), "a"))
	page := int64(os.Getpagesize())
	_, err := f.WriteAt(bytes.Repeat([]byte("x"), int(2*page)), 0)
	require.NoError(t, err)
	m, err := f.Map(4 * page)
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	var sum byte
	read := func(at int64) func() error {
		return func() error { sum += m.Bytes()[at]; return nil }
	}
	require.NoError(t, vfs.Guard(m.Bytes(), read(page)))
	require.ErrorIs(t, vfs.Guard(m.Bytes(), read(3*page)), vfs.ErrFault, "beyond the end")
	require.NoError(t, f.Truncate(page))
	require.ErrorIs(t, vfs.Guard(m.Bytes(), read(page)), vfs.ErrFault, "cut off")
	require.NoError(t, vfs.Guard(m.Bytes(), read(0)))
	copied := make([]byte, 2*page)
	require.ErrorIs(t, vfs.Guard(m.Bytes(), func() error { copy(copied, m.Bytes()); return nil }), vfs.ErrFault)

	require.PanicsWithValue(t, "other", func() { _ = vfs.Guard(m.Bytes(), func() error { panic("other") }) })
	require.Panics(t, func() { _ = vfs.Guard(m.Bytes()[:page], read(2*page)) }, "a fault outside the guarded bytes")
	require.Panics(t, func() { _ = vfs.Guard(nil, read(2*page)) })
}

// TestShortWriteTellsTheTruth: the kernel writes up to the limit and fails then; n is what was written.
func TestShortWriteTellsTheTruth(t *testing.T) {
	f := create(t, filepath.Join(t.TempDir(), "a"))
	var was unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &was))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 100_000, Max: was.Max}))
	n, err := f.WriteAt(make([]byte, 150_000), 10)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &was))
	require.ErrorIs(t, err, syscall.EFBIG)
	require.Equal(t, 99_990, n)
	info, err := f.Stat()
	require.NoError(t, err)
	require.Equal(t, int64(100_000), info.Size)
}

// TestCloseDuringCalls: calls that race with Close work on the file or fail with EBADF, never on another file that got
// the same number.
func TestCloseDuringCalls(t *testing.T) {
	dir := t.TempDir()
	for range 50 {
		f := create(t, filepath.Join(dir, "a"))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 20 {
					if _, err := f.WriteAt([]byte("a"), 0); err != nil {
						require.ErrorIs(t, err, syscall.EBADF)
						return
					}
				}
			})
		}
		require.NoError(t, f.Close())
		g := create(t, filepath.Join(dir, "b"))
		wg.Wait()
		info, err := g.Stat()
		require.NoError(t, err)
		require.Zero(t, info.Size)
		require.NoError(t, g.Close())
	}
}

// TestLockOfUnlinkedFile: waiting opens the file anew, also when it has lost its name.
func TestLockOfUnlinkedFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	f, g := create(t, name), create(t, name)
	require.NoError(t, f.TryLock(vfs.Exclusively))
	require.NoError(t, vfs.OS().Unlink(name))
	done := make(chan error, 1)
	go func() { done <- g.Lock(t.Context(), vfs.Exclusively) }()
	time.Sleep(20 * time.Millisecond)
	require.NoError(t, f.Close())
	require.NoError(t, <-done)
}

// TestLocksExcludeFcntl: Cyrus locks the whole file with fcntl.
func TestLocksExcludeFcntl(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	f := create(t, name)
	c, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	require.NoError(t, unix.FcntlFlock(c.Fd(), unix.F_SETLK, &lock))
	require.ErrorIs(t, f.TryLock(vfs.Shared), syscall.EAGAIN)
	lock.Type = unix.F_UNLCK
	require.NoError(t, unix.FcntlFlock(c.Fd(), unix.F_SETLK, &lock))
	require.NoError(t, f.TryLock(vfs.Exclusively))
	lock.Type = unix.F_RDLCK
	require.Error(t, unix.FcntlFlock(c.Fd(), unix.F_SETLK, &lock))
}

func TestDescriptorsAreNotInherited(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	create(t, name)
	found := false
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, e := range fds {
		if target, _ := os.Readlink("/proc/self/fd/" + e.Name()); target == name {
			found = true
			flags, err := os.ReadFile("/proc/self/fdinfo/" + e.Name())
			require.NoError(t, err)
			require.Regexp(t, `flags:\s+0?2[0-7]{6}\b`, string(flags), "O_CLOEXEC is 02000000")
		}
	}
	require.True(t, found)
}

// TestMetadataOfAnotherOwner: a repair run by root keeps the owner, the mode and the attributes.
func TestMetadataOfAnotherOwner(t *testing.T) {
	dir := t.TempDir()
	old, repl := create(t, filepath.Join(dir, "old")), create(t, filepath.Join(dir, "new"))
	xattr := unix.Setxattr(old.Name(), "user.note", []byte("kept"), 0) == nil
	if xattr {
		require.NoError(t, unix.Setxattr(repl.Name(), "user.other", []byte("of whom it served before"), 0))
	}
	if os.Getuid() == 0 {
		require.NoError(t, unix.Chown(old.Name(), 1234, 2345))
	}
	require.NoError(t, unix.Chmod(old.Name(), 0o4751))
	require.NoError(t, repl.CopyMetadata(old))
	want, err := old.Stat()
	require.NoError(t, err)
	got, err := repl.Stat()
	require.NoError(t, err)
	require.Equal(t, want.Mode, got.Mode)
	require.Equal(t, want.UID, got.UID)
	require.Equal(t, want.GID, got.GID)
	if xattr {
		value := make([]byte, 10)
		n, err := unix.Getxattr(repl.Name(), "user.note", value)
		require.NoError(t, err)
		require.Equal(t, "kept", string(value[:n]))
		_, err = unix.Getxattr(repl.Name(), "user.other", value)
		require.ErrorIs(t, err, unix.ENODATA, "what the old file lacks is taken away")
	}
}

// TestSharedWordOfAnotherOwner: the word file has owner and mode of the file it belongs to; a stranger's is refused.
func TestSharedWordOfAnotherOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	name := filepath.Join(t.TempDir(), "db")
	create(t, name)
	require.NoError(t, unix.Chown(name, 1234, 2345))
	require.NoError(t, unix.Chmod(name, 0o640))
	w, err := vfs.OS().SharedWord(name)
	require.NoError(t, err)
	defer func() { require.NoError(t, w.Close()) }()
	w.Store(0xfeedface)
	var found string
	files, err := filepath.Glob("/dev/shm/mailspine-*")
	require.NoError(t, err)
	for _, file := range files {
		if p, _ := os.ReadFile(file); bytes.HasPrefix(p, []byte{0xce, 0xfa, 0xed, 0xfe}) {
			found = file
		}
	}
	require.NotEmpty(t, found)
	t.Cleanup(func() { _ = os.Remove(found) })
	info, err := vfs.OS().Stat(found)
	require.NoError(t, err)
	require.Equal(t, uint32(1234), info.UID)
	require.Equal(t, os.FileMode(0o640), info.Mode)
	require.NoError(t, unix.Chown(found, 999, 999))
	_, err = vfs.OS().SharedWord(name)
	require.ErrorIs(t, err, syscall.EPERM)
}

func TestBootTime(t *testing.T) {
	boot, err := vfs.OS().BootTime()
	require.NoError(t, err)
	var up unix.Sysinfo_t
	require.NoError(t, unix.Sysinfo(&up))
	require.WithinDuration(t, time.Now().Add(-time.Duration(up.Uptime)*time.Second), boot, 5*time.Second)
}

// TestNoFollow: a name that somebody made a link of is not followed where that was asked for.
func TestNoFollow(t *testing.T) {
	dir := t.TempDir()
	create(t, filepath.Join(dir, "a"))
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink("a", link))
	_, err := vfs.OS().Open(link, vfs.ReadWrite|vfs.NoFollow, 0)
	require.ErrorIs(t, err, syscall.ELOOP)
	f, err := vfs.OS().Open(link, vfs.ReadWrite, 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	f, err = vfs.OS().Open(filepath.Join(dir, "a"), vfs.ReadWrite|vfs.NoFollow, 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// TestPoolWithALink: a link in the pool is not written through.
func TestPoolWithALink(t *testing.T) {
	dir := t.TempDir()
	name, victim, pool := filepath.Join(dir, "a"), filepath.Join(dir, "victim"), filepath.Join(dir, "pool")
	require.NoError(t, os.WriteFile(name, []byte("old"), 0o600))
	require.NoError(t, os.WriteFile(victim, bytes.Repeat([]byte("v"), 100_000), 0o600))
	sp := vfs.NewSpares(vfs.OS(), pool)
	if err := sp.Prepare(name, 3); err != nil {
		t.Skip(err)
	}
	for k := range 4 {
		spare := fmt.Sprintf("%s/spare.%d", pool, k)
		require.NoError(t, os.Remove(spare))
		require.NoError(t, os.Symlink(victim, spare))
	}
	full := vfs.ReplaceOptions{Spares: sp}
	first := true
	err := vfs.ReplaceFile(vfs.OS(), name, full, func(f vfs.File) error {
		if first {
			first = false
			return syscall.ENOSPC
		}
		_, err := f.WriteAt([]byte("new"), 0)
		return err
	})
	require.ErrorIs(t, err, syscall.ENOSPC)
	p, err := os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, bytes.Repeat([]byte("v"), 100_000), p)
	require.NoError(t, vfs.NewSpares(vfs.OS(), pool).Prepare(name, 3), "others take their place")
	info, err := os.Lstat(pool + "/spare.0")
	require.NoError(t, err)
	require.True(t, info.Mode().IsRegular())
}

// TestOpenOnlyFiles: what is no file is refused at once, and left as it is.
func TestOpenOnlyFiles(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	names := []string{fifo}
	socket := filepath.Join(dir, "socket")
	if l, err := net.Listen("unix", socket); err == nil { // the path may be too long
		defer l.Close()
		names = append(names, socket)
	}
	null := filepath.Join(dir, "null")
	if err := unix.Mknod(null, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err == nil {
		names = append(names, null)
	} else {
		t.Logf("without a device: %v", err)
	}
	for _, name := range names {
		before, err := os.Lstat(name)
		require.NoError(t, err)
		for _, flag := range []vfs.Flag{vfs.ReadOnly, vfs.ReadWrite, vfs.ReadWrite | vfs.Create} {
			_, err := vfs.OS().Open(name, flag, 0o600)
			require.ErrorIs(t, err, vfs.ErrNotRegular, name)
			require.ErrorContains(t, err, name)
		}
		_, err = vfs.ReadFile(vfs.OS(), name)
		require.ErrorIs(t, err, vfs.ErrNotRegular, name)
		err = vfs.ReplaceFile(vfs.OS(), name, vfs.ReplaceOptions{}, func(f vfs.File) error { return nil })
		require.ErrorIs(t, err, vfs.ErrNotRegular, name)
		after, err := os.Lstat(name)
		require.NoError(t, err)
		require.True(t, os.SameFile(before, after), name)
	}
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, list, len(names), "nothing is left over")
}

// TestReplaceThroughLinks replaces the file that a chain of links leads to.
func TestReplaceThroughLinks(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "there"), 0o700))
	file, link, again := filepath.Join(dir, "there", "file"), filepath.Join(dir, "link"), filepath.Join(dir, "again")
	require.NoError(t, os.WriteFile(file, []byte("old"), 0o640))
	require.NoError(t, os.Symlink(filepath.Join("there", "file"), link))
	require.NoError(t, os.Symlink("link", again))
	err := vfs.ReplaceFile(vfs.OS(), again, vfs.ReplaceOptions{}, func(f vfs.File) error {
		require.Equal(t, "there", filepath.Base(filepath.Dir(f.Name())))
		_, err := f.WriteAt([]byte("new"), 0)
		return err
	})
	require.NoError(t, err)
	for _, name := range []string{link, again} {
		info, err := os.Lstat(name)
		require.NoError(t, err)
		require.Equal(t, fs.ModeSymlink, info.Mode().Type())
	}
	info, err := os.Lstat(file)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o640), info.Mode())
	text, err := os.ReadFile(again)
	require.NoError(t, err)
	require.Equal(t, "new", string(text))

	require.NoError(t, os.Remove(file))
	err = vfs.ReplaceFile(vfs.OS(), again, vfs.ReplaceOptions{}, func(vfs.File) error { return nil })
	require.ErrorIs(t, err, fs.ErrNotExist, "a link that leads nowhere stays as it is")
	name, err := vfs.OS().Resolve(filepath.Join(dir, "nothing"))
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "nothing"), name)
}
