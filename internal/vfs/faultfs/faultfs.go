package faultfs

import (
	"context"
	"io/fs"
	"os"
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
)

// FS is a file system whose calls fail by a [Plan].
type FS struct {
	inner vfs.FS
	plan  *Plan
}

// Wrap returns inner with the faults of plan. A nil plan has none.
func Wrap(inner vfs.FS, plan *Plan) *FS {
	if plan == nil {
		plan = &Plan{off: true}
	}
	return &FS{inner: inner, plan: plan}
}

// Unwrap returns the file system behind the faults.
func (f *FS) Unwrap() vfs.FS { return f.inner }

// do makes a call, or has it fail.
func (f *FS) do(kind Kind, name string, call func() error) error {
	if !f.plan.hit(kind, name) {
		return call()
	}
	if f.plan.After {
		if err := call(); err != nil {
			return err
		}
	}
	return f.fault(kind, name)
}

func (f *FS) fault(kind Kind, name string) error {
	return &fs.PathError{Op: kind.String(), Path: name, Err: f.plan.errno()}
}

// doLink is do for calls with two names; either one is counted by its suffix.
func (f *FS) doLink(kind Kind, old, new string, call func() error) error {
	name := new
	if f.plan.Suffix != "" && len(old) >= len(f.plan.Suffix) && old[len(old)-len(f.plan.Suffix):] == f.plan.Suffix {
		name = old
	}
	if !f.plan.hit(kind, name) {
		return call()
	}
	if f.plan.After {
		if err := call(); err != nil {
			return err
		}
	}
	return &os.LinkError{Op: kind.String(), Old: old, New: new, Err: f.plan.errno()}
}

func (f *FS) Open(name string, flag vfs.Flag, perm fs.FileMode) (vfs.File, error) {
	kind := Open
	if flag&vfs.Create != 0 {
		kind = Create
	}
	var file vfs.File
	err := f.do(kind, name, func() (err error) {
		file, err = f.inner.Open(name, flag, perm)
		return err
	})
	if err != nil {
		if file != nil {
			_ = file.Close()
		}
		return nil, err
	}
	return &File{fs: f, inner: file}, nil
}

func (f *FS) Stat(name string) (info vfs.Info, err error) {
	err = f.do(Stat, name, func() error { info, err = f.inner.Stat(name); return err })
	return info, err
}

func (f *FS) ReadDir(name string) (list []vfs.Entry, err error) {
	err = f.do(ReadDir, name, func() error { list, err = f.inner.ReadDir(name); return err })
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (f *FS) Mkdir(name string, perm fs.FileMode) error {
	return f.do(Mkdir, name, func() error { return f.inner.Mkdir(name, perm) })
}

func (f *FS) Rename(old, new string) error {
	return f.doLink(Rename, old, new, func() error { return f.inner.Rename(old, new) })
}

func (f *FS) Exchange(a, b string) error {
	return f.doLink(Exchange, a, b, func() error { return f.inner.Exchange(a, b) })
}

func (f *FS) Link(old, new string) error {
	return f.doLink(Link, old, new, func() error { return f.inner.Link(old, new) })
}

func (f *FS) Unlink(name string) error {
	return f.do(Unlink, name, func() error { return f.inner.Unlink(name) })
}

func (f *FS) Rmdir(name string) error {
	return f.do(Rmdir, name, func() error { return f.inner.Rmdir(name) })
}

func (f *FS) SyncDir(name string) error {
	return f.do(SyncDir, name, func() error { return f.inner.SyncDir(name) })
}

// Resolve is counted as a Stat.
func (f *FS) Resolve(name string) (to string, err error) {
	err = f.do(Stat, name, func() error { to, err = f.inner.Resolve(name); return err })
	return to, err
}

func (f *FS) StatFS(name string) (space vfs.Space, err error) {
	err = f.do(StatFS, name, func() error { space, err = f.inner.StatFS(name); return err })
	return space, err
}

func (f *FS) SharedWord(name string) (word vfs.SharedWord, err error) {
	err = f.do(SharedWord, name, func() error { word, err = f.inner.SharedWord(name); return err })
	if err != nil {
		if word != nil {
			_ = word.Close()
		}
		return nil, err
	}
	return word, nil
}

func (f *FS) Now() time.Time { return f.inner.Now() }

func (f *FS) BootTime() (time.Time, error) { return f.inner.BootTime() }

// File is an open file whose calls fail by the plan of its file system.
type File struct {
	fs    *FS
	inner vfs.File
}

// Unwrap returns the file behind the faults.
func (f *File) Unwrap() vfs.File { return f.inner }

func (f *File) Name() string { return f.inner.Name() }

func (f *File) do(kind Kind, call func() error) error { return f.fs.do(kind, f.inner.Name(), call) }

func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if f.fs.plan.hit(Read, f.Name()) {
		return 0, f.fs.fault(Read, f.Name())
	}
	return f.inner.ReadAt(p, off)
}

func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if !f.fs.plan.hit(Write, f.Name()) {
		return f.inner.WriteAt(p, off)
	}
	part := f.fs.plan.Short.length(off, len(p))
	if f.fs.plan.After {
		part = len(p)
	}
	if part > 0 {
		if n, err := f.inner.WriteAt(p[:part], off); err != nil {
			return n, err
		}
	}
	return part, f.fs.fault(Write, f.Name())
}

func (f *File) Truncate(size int64) error {
	return f.do(Truncate, func() error { return f.inner.Truncate(size) })
}

func (f *File) Allocate(off, n int64) error {
	return f.do(Allocate, func() error { return f.inner.Allocate(off, n) })
}

func (f *File) Datasync() error { return f.sync(Datasync, f.inner.Datasync) }

func (f *File) Sync() error { return f.sync(Sync, f.inner.Sync) }

// sync fails as the kernel does: the pages are not written, but marked clean.
func (f *File) sync(kind Kind, call func() error) error {
	if !f.fs.plan.hit(kind, f.Name()) {
		return call()
	}
	if f.fs.plan.After {
		if err := call(); err != nil {
			return err
		}
		return f.fs.fault(kind, f.Name())
	}
	for file := f.inner; ; {
		switch inner := file.(type) {
		case interface{ DropDirty() }:
			inner.DropDirty()
		case interface{ Unwrap() vfs.File }:
			file = inner.Unwrap()
			continue
		}
		return f.fs.fault(kind, f.Name())
	}
}

func (f *File) Stat() (info vfs.Info, err error) {
	err = f.do(Stat, func() error { info, err = f.inner.Stat(); return err })
	return info, err
}

func (f *File) Sole() error { return f.do(Sole, f.inner.Sole) }

func (f *File) CopyMetadata(from vfs.File) error {
	for {
		wrapped, ok := from.(interface{ Unwrap() vfs.File })
		if !ok {
			break
		}
		from = wrapped.Unwrap()
	}
	return f.do(Metadata, func() error { return f.inner.CopyMetadata(from) })
}

func (f *File) SetModTime(t time.Time) error {
	return f.do(Metadata, func() error { return f.inner.SetModTime(t) })
}

func (f *File) Lock(ctx context.Context, kind vfs.LockKind) error {
	return f.locked(func() error { return f.inner.Lock(ctx, kind) })
}

func (f *File) TryLock(kind vfs.LockKind) error {
	return f.locked(func() error { return f.inner.TryLock(kind) })
}

// locked never takes the lock and reports that it did not: After has no meaning here.
func (f *File) locked(call func() error) error {
	if f.fs.plan.hit(Lock, f.Name()) {
		return f.fs.fault(Lock, f.Name())
	}
	return call()
}

func (f *File) Unlock() error { return f.do(Unlock, f.inner.Unlock) }

func (f *File) Map(n int64) (mapping vfs.Mapping, err error) {
	if f.fs.plan.hit(Map, f.Name()) {
		return nil, f.fs.fault(Map, f.Name())
	}
	return f.inner.Map(n)
}

// Close closes the file also where it reports an error, as the kernel does.
func (f *File) Close() error {
	err := f.inner.Close()
	if f.fs.plan.hit(Close, f.Name()) {
		return f.fs.fault(Close, f.Name())
	}
	return err
}
