// Package vfstest is the contract that every vfs.FS keeps: run it against the real file system and the simulated one.
package vfstest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"syscall"
	"testing"
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/stretchr/testify/require"
)

// Make returns a file system and an empty directory in it.
type Make func(t *testing.T) (fsys vfs.FS, dir string)

// Run runs the whole contract.
func Run(t *testing.T, make Make) {
	for name, test := range map[string]func(*testing.T, *env){
		"open":            testOpen,
		"read and write":  testReadWrite,
		"sparse":          testSparse,
		"truncate":        testTruncate,
		"allocate":        testAllocate,
		"sync":            testSync,
		"names":           testNames,
		"rename over":     testRenameOver,
		"exchange":        testExchange,
		"unlink open":     testUnlinkOpen,
		"directories":     testDirectories,
		"metadata":        testMetadata,
		"sole":            testSole,
		"map":             testMap,
		"locks":           testLocks,
		"lock conversion": testConversion,
		"lock waits":      testLockWaits,
		"late lock":       testLateLock,
		"late upgrade":    testLateUpgrade,
		"lock and close":  testLockClose,
		"closed":          testClosed,
		"shared word":     testSharedWord,
		"space and time":  testSpaceAndTime,
		"replace":         testReplace,
		"spares":          testSpares,
	} {
		t.Run(name, func(t *testing.T) {
			fsys, dir := make(t)
			test(t, &env{T: t, fs: fsys, dir: dir})
		})
	}
}

// env is the ground a test stands on.
type env struct {
	*testing.T
	fs  vfs.FS
	dir string
}

func (e *env) path(name string) string { return e.dir + "/" + name }

func (e *env) open(name string) vfs.File {
	f, err := e.fs.Open(e.path(name), vfs.ReadWrite|vfs.Create, 0o644)
	require.NoError(e, err)
	e.Cleanup(func() { _ = f.Close() })
	return f
}

func (e *env) write(f vfs.File, text string, off int64) {
	n, err := f.WriteAt([]byte(text), off)
	require.NoError(e, err)
	require.Equal(e, len(text), n)
}

func (e *env) file(name, text string) vfs.File {
	f := e.open(name)
	e.write(f, text, 0)
	return f
}

func (e *env) content(name string) string {
	p, err := vfs.ReadFile(e.fs, e.path(name))
	require.NoError(e, err)
	return string(p)
}

func (e *env) info(name string) vfs.Info {
	info, err := e.fs.Stat(e.path(name))
	require.NoError(e, err)
	return info
}

// fails checks the errno, and that the error says which call failed on which path.
func (e *env) fails(err error, want error) {
	e.Helper()
	require.ErrorIs(e, err, want)
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		require.NotEmpty(e, pathErr.Path)
		require.NotEmpty(e, pathErr.Op)
	}
}

func testOpen(t *testing.T, e *env) {
	_, err := e.fs.Open(e.path("a"), vfs.ReadOnly, 0)
	e.fails(err, syscall.ENOENT)
	_, err = e.fs.Open(e.path("a"), vfs.ReadWrite, 0)
	e.fails(err, syscall.ENOENT)
	_, err = e.fs.Open(e.path("no/a"), vfs.ReadWrite|vfs.Create, 0o600)
	e.fails(err, syscall.ENOENT)
	f, err := e.fs.Open(e.path("a"), vfs.ReadWrite|vfs.Create|vfs.Exclusive, 0o640)
	require.NoError(t, err)
	require.Equal(t, e.path("a"), f.Name())
	require.NoError(t, f.Close())
	require.Equal(t, fs.FileMode(0o640), e.info("a").Mode)
	_, err = e.fs.Open(e.path("a"), vfs.ReadWrite|vfs.Create|vfs.Exclusive, 0o640)
	e.fails(err, syscall.EEXIST)
	_, err = e.fs.Open(e.path("a/b"), vfs.ReadWrite|vfs.Create, 0o600)
	e.fails(err, syscall.ENOTDIR)
	_, err = e.fs.Open(e.dir, vfs.ReadWrite, 0)
	e.fails(err, syscall.EISDIR)
	r, err := e.fs.Open(e.path("a"), vfs.ReadOnly, 0)
	require.NoError(t, err)
	_, err = r.WriteAt([]byte("x"), 0)
	e.fails(err, syscall.EBADF)
	e.fails(r.Truncate(0), syscall.EINVAL)
	e.fails(r.Allocate(0, 10), syscall.EBADF)
	e.fails(r.TryLock(vfs.Exclusively), syscall.EBADF)
	require.NoError(t, r.TryLock(vfs.Shared))
	require.NoError(t, r.Close())
}

func testReadWrite(t *testing.T, e *env) {
	f := e.open("a")
	n, err := f.ReadAt(make([]byte, 4), 0)
	require.Equal(t, 0, n)
	require.Equal(t, io.EOF, err)
	e.write(f, "hello", 0)
	e.write(f, "LL", 2)
	require.Equal(t, "heLLo", e.content("a"))
	p := make([]byte, 10)
	n, err = f.ReadAt(p, 3)
	require.Equal(t, io.EOF, err)
	require.Equal(t, "Lo", string(p[:n]))
	n, err = f.ReadAt(p[:2], 3)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	n, err = f.ReadAt(p, 100)
	require.Equal(t, 0, n)
	require.Equal(t, io.EOF, err)
	n, err = f.ReadAt(nil, 0)
	require.NoError(t, err)
	require.Equal(t, 0, n)
	n, err = f.WriteAt(nil, 0)
	require.NoError(t, err)
	require.Equal(t, 0, n)
	_, err = f.ReadAt(p, -1)
	e.fails(err, syscall.EINVAL)
	_, err = f.WriteAt(p, -1)
	e.fails(err, syscall.EINVAL)
}

func testSparse(t *testing.T, e *env) {
	f := e.open("a")
	e.write(f, "x", 10_000)
	require.Equal(t, string(make([]byte, 10_000))+"x", e.content("a"))
	info, err := f.Stat()
	require.NoError(t, err)
	require.Equal(t, int64(10_001), info.Size)
}

func testTruncate(t *testing.T, e *env) {
	f := e.file("a", "hello world")
	require.NoError(t, f.Truncate(5))
	require.Equal(t, "hello", e.content("a"))
	require.NoError(t, f.Truncate(8))
	require.Equal(t, "hello\x00\x00\x00", e.content("a"))
	e.write(f, "!", 9)
	require.Equal(t, "hello\x00\x00\x00\x00!", e.content("a"))
	require.NoError(t, f.Truncate(0))
	require.Empty(t, e.content("a"))
	e.fails(f.Truncate(-1), syscall.EINVAL)
}

func testAllocate(t *testing.T, e *env) {
	f := e.file("a", "hello")
	err := f.Allocate(0, 100_000)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		t.Skip("this file system does not allocate")
	}
	require.NoError(t, err)
	require.Equal(t, "hello", e.content("a"), "neither size nor bytes change")
	require.GreaterOrEqual(t, e.info("a").Blocks, int64(100_000/512))
	require.NoError(t, f.Truncate(5))
	require.Less(t, e.info("a").Blocks, int64(100_000/512), "the reserve is freed")
	e.fails(f.Allocate(0, 0), syscall.EINVAL)
	e.fails(f.Allocate(-1, 10), syscall.EINVAL)
}

func testSync(t *testing.T, e *env) {
	f := e.file("a", "hello")
	require.NoError(t, f.Datasync())
	require.NoError(t, f.Sync())
	require.NoError(t, e.fs.SyncDir(e.dir))
	e.fails(e.fs.SyncDir(e.path("no")), syscall.ENOENT)
	e.fails(e.fs.SyncDir(e.path("a")), syscall.ENOTDIR)
}

func testNames(t *testing.T, e *env) {
	e.file("a", "1")
	require.Equal(t, uint64(1), e.info("a").Nlink)
	before := e.info("a")
	require.NoError(t, e.fs.Link(e.path("a"), e.path("b")))
	require.Equal(t, uint64(2), e.info("a").Nlink)
	require.True(t, e.info("a").SameFile(e.info("b")))
	require.False(t, e.info("a").Ctime.Before(before.Ctime))
	e.fails(e.fs.Link(e.path("a"), e.path("b")), syscall.EEXIST)
	e.fails(e.fs.Link(e.path("no"), e.path("c")), syscall.ENOENT)
	require.NoError(t, e.fs.Rename(e.path("a"), e.path("b")), "both are one file: nothing happens")
	require.Equal(t, uint64(2), e.info("a").Nlink)
	require.NoError(t, e.fs.Unlink(e.path("a")))
	require.Equal(t, uint64(1), e.info("b").Nlink)
	e.fails(e.fs.Unlink(e.path("a")), syscall.ENOENT)
	e.fails(e.fs.Rename(e.path("a"), e.path("c")), syscall.ENOENT)
	e.fails(e.fs.Rename(e.path("b"), e.path("no/c")), syscall.ENOENT)
	_, err := e.fs.Stat(e.path("a"))
	e.fails(err, syscall.ENOENT)
}

func testRenameOver(t *testing.T, e *env) {
	old := e.file("a", "old")
	e.file("b", "new")
	was := e.info("b")
	require.NoError(t, e.fs.Rename(e.path("b"), e.path("a")))
	require.Equal(t, "new", e.content("a"))
	require.True(t, e.info("a").SameFile(was))
	p := make([]byte, 3)
	_, err := old.ReadAt(p, 0)
	require.NoError(t, err)
	require.Equal(t, "old", string(p), "who has it open keeps it")
	info, err := old.Stat()
	require.NoError(t, err)
	require.Equal(t, uint64(0), info.Nlink)
	require.False(t, info.SameFile(e.info("a")))
}

func testExchange(t *testing.T, e *env) {
	e.file("a", "A")
	e.file("b", "B")
	err := e.fs.Exchange(e.path("a"), e.path("b"))
	if errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.EINVAL) {
		t.Skip("this file system does not exchange")
	}
	require.NoError(t, err)
	require.Equal(t, "B", e.content("a"))
	require.Equal(t, "A", e.content("b"))
	require.Equal(t, uint64(1), e.info("a").Nlink)
	e.fails(e.fs.Exchange(e.path("a"), e.path("no")), syscall.ENOENT)
	require.NoError(t, e.fs.Exchange(e.path("a"), e.path("a")))
}

func testUnlinkOpen(t *testing.T, e *env) {
	f := e.file("a", "one")
	require.NoError(t, e.fs.Unlink(e.path("a")))
	e.write(f, "two", 3)
	p := make([]byte, 6)
	_, err := f.ReadAt(p, 0)
	require.NoError(t, err)
	require.Equal(t, "onetwo", string(p))
	require.NoError(t, f.Datasync())
}

func testDirectories(t *testing.T, e *env) {
	require.NoError(t, e.fs.Mkdir(e.path("d"), 0o755))
	e.fails(e.fs.Mkdir(e.path("d"), 0o755), syscall.EEXIST)
	e.fails(e.fs.Mkdir(e.path("no/d"), 0o755), syscall.ENOENT)
	e.file("d/z", "")
	e.file("d/a", "")
	require.NoError(t, e.fs.Mkdir(e.path("d/m"), 0o755))
	list, err := e.fs.ReadDir(e.path("d"))
	require.NoError(t, err)
	require.Equal(t, []vfs.Entry{{Name: "a"}, {Name: "m", Dir: true}, {Name: "z"}}, list)
	_, err = e.fs.ReadDir(e.path("no"))
	e.fails(err, syscall.ENOENT)
	_, err = e.fs.ReadDir(e.path("d/a"))
	e.fails(err, syscall.ENOTDIR)
	e.fails(e.fs.Rmdir(e.path("d")), syscall.ENOTEMPTY)
	e.fails(e.fs.Rmdir(e.path("d/a")), syscall.ENOTDIR)
	e.fails(e.fs.Unlink(e.path("d/m")), syscall.EISDIR)
	e.fails(e.fs.Rename(e.path("d"), e.path("d/m/x")), syscall.EINVAL)
	e.fails(e.fs.Rename(e.path("d/a"), e.path("d/m")), syscall.EISDIR)
	e.fails(e.fs.Rename(e.path("d/m"), e.path("d/a")), syscall.ENOTDIR)
	require.NoError(t, e.fs.Rename(e.path("d"), e.path("e")))
	require.True(t, e.info("e").Mode.IsDir())
	require.NoError(t, e.fs.Unlink(e.path("e/a")))
	require.NoError(t, e.fs.Unlink(e.path("e/z")))
	require.NoError(t, e.fs.Rmdir(e.path("e/m")))
	require.NoError(t, e.fs.Rmdir(e.path("e")))
	require.NoError(t, vfs.MkdirAll(e.fs, e.path("x/y/z"), 0o755))
	require.NoError(t, vfs.MkdirAll(e.fs, e.path("x/y/z"), 0o755))
	require.True(t, e.info("x/y/z").Mode.IsDir())
	e.file("f", "")
	e.fails(vfs.MkdirAll(e.fs, e.path("f"), 0o755), syscall.ENOTDIR)
}

func testMetadata(t *testing.T, e *env) {
	from, err := e.fs.Open(e.path("a"), vfs.ReadWrite|vfs.Create, 0o604)
	require.NoError(t, err)
	to, err := e.fs.Open(e.path("b"), vfs.ReadWrite|vfs.Create, 0o640)
	require.NoError(t, err)
	require.NoError(t, to.CopyMetadata(from))
	require.Equal(t, fs.FileMode(0o604), e.info("b").Mode)
	require.Equal(t, e.info("a").UID, e.info("b").UID)
	before := e.info("b")
	time.Sleep(10 * time.Millisecond)
	e.write(to, "x", 0)
	require.True(t, e.info("b").Ctime.After(before.Ctime), "a write moves ctime")
	require.True(t, e.info("b").Mtime.After(before.Mtime), "and mtime")
	day := time.Unix(1_234_567_890, 0)
	require.NoError(t, to.SetModTime(day))
	require.NoError(t, to.Sync())
	require.True(t, e.info("b").Mtime.Equal(day))
	require.NoError(t, from.Close())
	e.fails(to.CopyMetadata(from), syscall.EBADF)
	e.fails(from.SetModTime(day), syscall.EBADF)
	require.NoError(t, to.Close())
}

func testMap(t *testing.T, e *env) {
	f := e.file("a", "hello")
	m, err := f.Map(3 * 4096)
	require.NoError(t, err)
	require.Len(t, m.Bytes(), 3*4096)
	require.Equal(t, "hello", string(m.Bytes()[:5]))
	e.write(f, "J", 0)
	e.write(f, " world", 5)
	require.Equal(t, "Jello world", string(m.Bytes()[:11]), "later writes show")
	e.write(f, "far", 4096)
	require.Equal(t, "far", string(m.Bytes()[4096:4099]), "also beyond the size at the time of the map")
	other := e.open("a")
	e.write(other, "other", 8192)
	require.Equal(t, "other", string(m.Bytes()[8192:8197]), "and those of others")
	require.NoError(t, f.Close())
	require.Equal(t, "Jello", string(m.Bytes()[:5]), "a mapping outlives its file")
	require.NoError(t, m.Close())
	e.fails(m.Close(), syscall.EINVAL)
	_, err = other.Map(0)
	e.fails(err, syscall.EINVAL)
}

func testClosed(t *testing.T, e *env) {
	f := e.file("a", "x")
	require.NoError(t, f.Close())
	_, err := f.ReadAt(make([]byte, 1), 0)
	e.fails(err, syscall.EBADF)
	_, err = f.WriteAt(make([]byte, 1), 0)
	e.fails(err, syscall.EBADF)
	_, err = f.Stat()
	e.fails(err, syscall.EBADF)
	_, err = f.Map(10)
	e.fails(err, syscall.EBADF)
	for _, err := range []error{
		f.Close(), f.Truncate(0), f.Allocate(0, 1), f.Datasync(), f.Sync(), f.TryLock(vfs.Shared),
		f.Lock(context.Background(), vfs.Shared), f.Unlock(),
	} {
		e.fails(err, syscall.EBADF)
	}
}

func testSharedWord(t *testing.T, e *env) {
	e.file("a", "")
	w, err := e.fs.SharedWord(e.path("a"))
	require.NoError(t, err)
	require.Zero(t, w.Load())
	w.Store(1 << 40)
	again, err := e.fs.SharedWord(e.path("a"))
	require.NoError(t, err)
	require.Equal(t, uint64(1<<40), again.Load())
	again.Store(7)
	require.Equal(t, uint64(7), w.Load())
	other, err := e.fs.SharedWord(e.path("b"))
	require.NoError(t, err)
	require.Zero(t, other.Load())
	require.NoError(t, w.Close())
	require.NoError(t, again.Close())
	require.NoError(t, other.Close())
}

func testSpaceAndTime(t *testing.T, e *env) {
	s, err := e.fs.StatFS(e.dir)
	require.NoError(t, err)
	require.Positive(t, s.FreeBytes)
	require.Positive(t, s.FreeInodes)
	require.GreaterOrEqual(t, s.TotalBytes, s.FreeBytes)
	_, err = e.fs.StatFS(e.path("no"))
	e.fails(err, syscall.ENOENT)
	boot, err := e.fs.BootTime()
	require.NoError(t, err)
	require.False(t, boot.After(e.fs.Now()))
}
