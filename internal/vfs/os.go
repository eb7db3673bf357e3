//go:build linux || darwin

package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// OS returns the file system of this machine.
//
// Descriptors are plain numbers that the runtime's poller never sees: reads, writes and waits for locks are blocking
// system calls, and each carries its own errno.
func OS() FS { return osFS{} }

// OrOS is fsys, or the file system of this machine if it is nil: programs outside of this module can name no other.
func OrOS(fsys FS) FS {
	if fsys == nil {
		return OS()
	}
	return fsys
}

type osFS struct{}

func (osFS) Open(name string, flag Flag, perm fs.FileMode) (File, error) {
	how := unix.O_CLOEXEC | unix.O_RDONLY
	if flag&ReadWrite != 0 {
		how = unix.O_CLOEXEC | unix.O_RDWR
	}
	if flag&Create != 0 {
		how |= unix.O_CREAT
	}
	if flag&Exclusive != 0 {
		how |= unix.O_EXCL
	}
	if flag&NoFollow != 0 {
		how |= unix.O_NOFOLLOW
	}
	open := func(how int) (int, error) {
		return retryInt(func() (int, error) { return unix.Open(name, how, uint32(perm.Perm())) })
	}
	// A FIFO would have the open wait for its other end.
	fd, err := open(how | unix.O_NONBLOCK)
	if err == unix.EAGAIN {
		fd, err = open(how) // somebody is about to give back a lease (see Sole), which only a regular file can have
	}
	if err == unix.ENXIO {
		err = ErrNotRegular // a socket, or a device that is not there
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	if err := ordinary(fd); err != nil {
		_ = unix.Close(fd)
		return nil, pathError("open", name, err)
	}
	return newOSFile(name, fd, flag), nil
}

// ordinary fails unless fd is a file or a directory, and has its calls wait as they usually do.
func ordinary(fd int) error {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return err
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return ErrNotRegular
	}
	return unix.SetNonblock(fd, false)
}

func (osFS) Stat(name string) (Info, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Stat(name, &st) })
	if err != nil {
		return Info{}, pathError("stat", name, err)
	}
	return infoOf(&st), nil
}

func (osFS) Resolve(name string) (string, error) {
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return name, nil
	case err != nil:
		return "", err
	case info.Mode()&fs.ModeSymlink == 0:
		return name, nil
	}
	return filepath.EvalSymlinks(name)
}

func (osFS) ReadDir(name string) ([]Entry, error) {
	list, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(list))
	for i, e := range list {
		entries[i] = Entry{Name: e.Name(), Dir: e.IsDir()}
	}
	return entries, nil
}

func (osFS) Mkdir(name string, perm fs.FileMode) error {
	return pathError("mkdir", name, retry(func() error { return unix.Mkdir(name, uint32(perm.Perm())) }))
}

func (osFS) Rename(old, new string) error {
	return linkError("rename", old, new, retry(func() error { return unix.Rename(old, new) }))
}

func (osFS) Exchange(a, b string) error {
	return linkError("exchange", a, b, retry(func() error { return exchange(a, b) }))
}

func (osFS) Link(old, new string) error {
	return linkError("link", old, new, retry(func() error { return unix.Link(old, new) }))
}

func (osFS) Unlink(name string) error {
	return pathError("unlink", name, retry(func() error { return unix.Unlink(name) }))
}

func (osFS) Rmdir(name string) error {
	return pathError("rmdir", name, retry(func() error { return unix.Rmdir(name) }))
}

func (osFS) SyncDir(name string) error {
	fd, err := retryInt(func() (int, error) {
		return unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return pathError("syncdir", name, err)
	}
	err = retry(func() error { return fullSync(fd) })
	_ = unix.Close(fd)
	if err == unix.EINVAL {
		return nil // The file system keeps its directories in its own order and offers no call for it.
	}
	return pathError("syncdir", name, err)
}

func (osFS) StatFS(name string) (Space, error) {
	space, err := statFS(name)
	return space, pathError("statfs", name, err)
}

func (osFS) Now() time.Time { return time.Now() }

func (osFS) BootTime() (time.Time, error) { return bootTime() }

// retry repeats a call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func retryInt(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func linkError(op, old, new string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: old, New: new, Err: err}
}

func infoOf(st *unix.Stat_t) Info {
	return Info{
		Dev: uint64(st.Dev), Ino: uint64(st.Ino), Nlink: uint64(st.Nlink),
		Size: st.Size, Blocks: int64(st.Blocks),
		Mode: modeOf(uint32(st.Mode)), UID: st.Uid, GID: st.Gid,
		Mtime: time.Unix(st.Mtim.Unix()), Ctime: time.Unix(st.Ctim.Unix()),
	}
}

// modeOf turns the bits of a stat call into Go's.
func modeOf(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	switch bits & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	}
	if bits&unix.S_ISUID != 0 {
		mode |= fs.ModeSetuid
	}
	if bits&unix.S_ISGID != 0 {
		mode |= fs.ModeSetgid
	}
	if bits&unix.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}
