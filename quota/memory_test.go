package quota_test

import (
	"context"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/quota"
)

// thinFS has the files of a filled store's mailboxes without keeping them anywhere: they are made when they are opened.
type thinFS struct {
	vfs.FS
	f *filled
	// look is called before every call number a multiple of every.
	look         func()
	calls, every int
}

func (t *thinFS) call() {
	if t.calls++; t.look != nil && t.calls%t.every == 0 {
		t.look()
	}
}

// thinFile is such a file. Nobody writes to it, so everybody has its lock.
type thinFile struct {
	vfs.File
	name    string
	content []byte
}

// find tells which mailbox's file has a name.
func (t *thinFS) find(name string) (u, folder int, ok bool) {
	dir, file := filepath.Split(name)
	if !strings.Contains(dir, "/uuid/") || file != "cyrus.header" && file != "cyrus.index" {
		return 0, 0, false
	}
	id := filepath.Base(dir)
	n, err := strconv.Atoi(strings.TrimLeft(id[2:], "0"))
	if err != nil {
		n = 0
	}
	return n / 1000, n % 1000, true
}

func (t *thinFS) Open(name string, flag vfs.Flag, perm fs.FileMode) (vfs.File, error) {
	t.call()
	u, folder, ok := t.find(name)
	if !ok {
		return t.FS.Open(name, flag, perm)
	}
	header, content := t.f.content(u, folder, filledUser(u))
	if strings.HasSuffix(name, "header") {
		content = header
	}
	return &thinFile{name: name, content: content}, nil
}

func (t *thinFS) Stat(name string) (vfs.Info, error) {
	t.call()
	if _, _, ok := t.find(name); ok {
		return thinInfo(name, 0), nil
	}
	return t.FS.Stat(name)
}

func thinInfo(name string, size int) vfs.Info {
	h := fnv.New64()
	_, _ = io.WriteString(h, name)
	return vfs.Info{Dev: 1, Ino: h.Sum64(), Nlink: 1, Size: int64(size), Mode: 0o644}
}

func (f *thinFile) Name() string                             { return f.name }
func (f *thinFile) Stat() (vfs.Info, error)                  { return thinInfo(f.name, len(f.content)), nil }
func (f *thinFile) Lock(context.Context, vfs.LockKind) error { return nil }
func (f *thinFile) TryLock(vfs.LockKind) error               { return nil }
func (f *thinFile) Unlock() error                            { return nil }
func (f *thinFile) Close() error                             { return nil }
func (f *thinFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(f.content)) {
		return 0, io.EOF
	}
	n := copy(p, f.content[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// liveHeap is how many bytes are in use, without what is garbage.
func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// recalculationHeap recalculates a store and returns by how much the live heap grew at most since before the store was opened, looked
// at in the middle of calls all over the run, and how much of that is the open store.
func recalculationHeap(t *testing.T, users, folders int) (peak, opened int64) {
	f := fill(t, users, folders, false)
	before := liveHeap()
	fsys := &thinFS{FS: vfs.OS(), f: f}
	k := f.keep(fsys, false)
	opened = liveHeap() - before
	looks := 0
	fsys.every = users*folders/10 + 1
	fsys.look = func() { looks, peak = looks+1, max(peak, liveHeap()-before) }
	// With one job nobody makes garbage while the collector is at work.
	report, err := k.Recalculate(t.Context(), quota.Recalculation{Each: func(o quota.Outcome) {
		require.NoError(t, o.Err)
		require.Equal(t, folders, o.Count)
	}})
	require.NoError(t, err)
	require.Equal(t, users, report.Roots)
	require.Greater(t, looks, 30)
	require.NoError(t, k.close())
	return peak, opened
}

// TestMemory: of a mailbox more, a recalculation needs no more than 64 bytes more, with what the open mailbox list needs.
func TestMemory(t *testing.T) {
	const folders = 20
	few, many := 100, 1000
	if os.Getenv("MAILSPINE_CAMPAIGN") != "" {
		many = 5000
	}
	small, smallOpen := recalculationHeap(t, few, folders)
	large, largeOpen := recalculationHeap(t, many, folders)
	mailboxes := float64((many - few) * folders)
	per, open := float64(large-small)/mailboxes, float64(largeOpen-smallOpen)/mailboxes
	t.Logf("%d mailboxes: %d bytes; %d mailboxes: %d bytes: %.1f for each more, %.1f of them for the list", few*folders, small, many*folders, large, per, open)
	require.LessOrEqual(t, per, 64.0)
}
