// Package locks takes Cyrus's named locks: empty files under a lock directory, of which a process locks the whole with
// fcntl. They are never deleted while anybody may hold them.
package locks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/mailspine/mailspine/internal/vfs"
)

// dirMode and fileMode are Cyrus's, before umask.
const (
	dirMode  fs.FileMode = 0o755
	fileMode fs.FileMode = 0o666
)

// Held is a set of locks that are held.
type Held struct{ files []vfs.File }

// Acquire takes the locks of the given files, in the order of their paths, so that two who want the same ones cannot
// wait for each other. Missing files and directories are made. It waits until all are free or ctx ends; then none is held.
func Acquire(ctx context.Context, fsys vfs.FS, kind vfs.LockKind, paths ...string) (*Held, error) {
	return InOrder(ctx, fsys, kind, slices.Sorted(slices.Values(paths))...)
}

// InOrder is Acquire in the order given, for locks that others take in an order that is not that of the paths. A path that
// is given twice is locked once.
func InOrder(ctx context.Context, fsys vfs.FS, kind vfs.LockKind, paths ...string) (*Held, error) {
	h := &Held{}
	for i, p := range paths {
		if slices.Contains(paths[:i], p) {
			continue
		}
		f, err := File(ctx, fsys, kind, p, fileMode)
		if err != nil {
			h.Release()
			return nil, fmt.Errorf("lock %s: %w", p, err)
		}
		h.files = append(h.files, f)
	}
	return h, nil
}

// File opens a file, makes it with its directories if it is missing, and locks it. It is the file that has the name once it
// is locked: others may rename or remove it meanwhile. Closing it gives the lock back.
func File(ctx context.Context, fsys vfs.FS, kind vfs.LockKind, path string, mode fs.FileMode) (vfs.File, error) {
	return lock(ctx, fsys, kind, path, func() (vfs.File, error) { return open(fsys, path, mode) })
}

// Existing is File for a file that must be there: if it is missing, or goes while the lock is waited for, that is the error.
func Existing(ctx context.Context, fsys vfs.FS, kind vfs.LockKind, path string) (vfs.File, error) {
	how := vfs.ReadOnly
	if kind == vfs.Exclusively {
		how = vfs.ReadWrite
	}
	return lock(ctx, fsys, kind, path, func() (vfs.File, error) { return fsys.Open(path, how, 0) })
}

// lock locks what open opens, until that has the name.
func lock(ctx context.Context, fsys vfs.FS, kind vfs.LockKind, path string, open func() (vfs.File, error)) (vfs.File, error) {
	for {
		f, err := open()
		if err != nil {
			return nil, err
		}
		if err = f.Lock(ctx, kind); err == nil {
			var held, named vfs.Info
			if held, err = f.Stat(); err == nil {
				named, err = fsys.Stat(path)
			}
			if err == nil && held.SameFile(named) {
				return f, nil
			}
		}
		_ = f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		// Somebody has replaced or removed the file while we waited: the lock of a file without a name is nobody's.
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
	}
}

func open(fsys vfs.FS, path string, mode fs.FileMode) (vfs.File, error) {
	f, err := fsys.Open(path, vfs.ReadWrite|vfs.Create, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := mkdirAll(fsys, filepath.Dir(path)); err != nil {
			return nil, err
		}
		f, err = fsys.Open(path, vfs.ReadWrite|vfs.Create, mode)
	}
	return f, err
}

// mkdirAll makes a directory with all that lead to it. They need not outlive a crash, so one that was made and could not
// be synced is as good.
func mkdirAll(fsys vfs.FS, dir string) error {
	var notDurable *vfs.NotDurableError
	err := vfs.MkdirAll(fsys, dir, dirMode)
	for made := ""; errors.As(err, &notDurable) && notDurable.Path != made; err = vfs.MkdirAll(fsys, dir, dirMode) {
		made = notDurable.Path // it is there now, and the next attempt makes what is below it
	}
	return err
}

// Release gives the locks back. It may be called again, and on nil.
func (h *Held) Release() {
	if h == nil {
		return
	}
	for _, f := range slices.Backward(h.files) {
		_ = f.Close()
	}
	h.files = nil
}
