//go:build linux || darwin

package vfs

import (
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// maxIO bounds one system call; the kernel would cut larger ones short anyway.
const maxIO = 1 << 30

// osFile is an open file. The descriptor is closed when Close was called and the last call that uses it has ended, so
// that no call ever works on a number that meanwhile names another file.
type osFile struct {
	name string
	flag Flag
	fd   int
	// users counts the calls that use fd now; closedBit is added by Close.
	users atomic.Int64
	lock  fileLock
}

const closedBit = 1 << 62

func newOSFile(name string, fd int, flag Flag) *osFile {
	f := &osFile{name: name, flag: flag, fd: fd}
	f.lock.init(fd, flag)
	return f
}

func (f *osFile) Name() string { return f.name }

// use runs call with the descriptor held open.
func (f *osFile) use(op string, call func(fd int) error) error {
	if !f.acquire() {
		return pathError(op, f.name, unix.EBADF)
	}
	defer f.release()
	return pathError(op, f.name, retry(func() error { return call(f.fd) }))
}

func (f *osFile) acquire() bool {
	for {
		n := f.users.Load()
		if n&closedBit != 0 {
			return false
		}
		if f.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (f *osFile) release() {
	if f.users.Add(-1) == closedBit {
		_ = unix.Close(f.fd)
	}
}

func (f *osFile) Close() error {
	for {
		n := f.users.Load()
		if n&closedBit != 0 {
			return pathError("close", f.name, unix.EBADF)
		}
		// The lock goes before the descriptor may: a waiter holds a duplicate that would keep the lock alive.
		f.lock.close()
		if !f.users.CompareAndSwap(n, n|closedBit) {
			continue
		}
		if n > 0 {
			return nil
		}
		// Linux has closed the descriptor even where it reports EINTR, so this is never repeated.
		if err := unix.Close(f.fd); err != nil && err != unix.EINTR {
			return pathError("close", f.name, err)
		}
		return nil
	}
}

func (f *osFile) ReadAt(p []byte, off int64) (n int, err error) {
	if !f.acquire() {
		return 0, pathError("read", f.name, unix.EBADF)
	}
	defer f.release()
	for n < len(p) {
		k, err := unix.Pread(f.fd, p[n:min(len(p), n+maxIO)], off+int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, pathError("read", f.name, err)
		case k == 0:
			return n, io.EOF
		default:
			n += k
		}
	}
	return n, nil
}

func (f *osFile) WriteAt(p []byte, off int64) (n int, err error) {
	if !f.acquire() {
		return 0, pathError("write", f.name, unix.EBADF)
	}
	defer f.release()
	for n < len(p) {
		// On a nearly full disk the kernel writes what fits and reports no error; the next call then tells the errno.
		k, err := unix.Pwrite(f.fd, p[n:min(len(p), n+maxIO)], off+int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, pathError("write", f.name, err)
		case k == 0:
			return n, pathError("write", f.name, unix.EIO)
		default:
			n += k
		}
	}
	return n, nil
}

func (f *osFile) Truncate(size int64) error {
	return f.use("truncate", func(fd int) error { return unix.Ftruncate(fd, size) })
}

func (f *osFile) Allocate(off, n int64) error {
	return f.use("allocate", func(fd int) error { return allocate(fd, off, n) })
}

func (f *osFile) Datasync() error { return f.use("datasync", dataSync) }

func (f *osFile) Sync() error { return f.use("sync", fullSync) }

// Stat is called for every snapshot, so it does without the closures of use.
func (f *osFile) Stat() (Info, error) {
	if !f.acquire() {
		return Info{}, pathError("stat", f.name, unix.EBADF)
	}
	defer f.release()
	var st unix.Stat_t
	err := unix.Fstat(f.fd, &st)
	for err == unix.EINTR {
		err = unix.Fstat(f.fd, &st)
	}
	if err != nil {
		return Info{}, pathError("stat", f.name, err)
	}
	return infoOf(&st), nil
}

func (f *osFile) Sole() error { return f.use("sole", sole) }

func (f *osFile) CopyMetadata(from File) error {
	src, ok := from.(*osFile)
	if !ok {
		return pathError("copymetadata", f.name, unix.EXDEV)
	}
	return f.use("copymetadata", func(fd int) error {
		return src.use("copymetadata", func(old int) error { return copyMetadata(fd, old) })
	})
}

func (f *osFile) SetModTime(t time.Time) error {
	return f.use("setmodtime", func(fd int) error { return setModTime(fd, t) })
}

// copyMetadata changes the owner first, because that clears the set-id bits, and the mode before the extended
// attributes, because an access list among them is the finer statement.
func copyMetadata(fd, from int) error {
	var was, want unix.Stat_t
	if err := unix.Fstat(fd, &was); err != nil {
		return err
	}
	if err := unix.Fstat(from, &want); err != nil {
		return err
	}
	if was.Uid != want.Uid || was.Gid != want.Gid {
		if err := unix.Fchown(fd, int(want.Uid), int(want.Gid)); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, uint32(want.Mode)&0o7777); err != nil {
		return err
	}
	return copyXattrs(fd, from)
}

func copyXattrs(fd, from int) error {
	names, err := listXattrs(from)
	if err != nil {
		return ignoreUnsupported(err)
	}
	if err := dropXattrs(fd, names); err != nil {
		return err
	}
	for _, name := range names {
		value, err := readXattr(func(p []byte) (int, error) { return unix.Fgetxattr(from, name, p) })
		if err == nil {
			err = unix.Fsetxattr(fd, name, value, 0)
		}
		// Labels of a security module belong to the system: who may not write them inherits the directory's.
		if errors.Is(err, unix.EPERM) && !strings.HasPrefix(name, "user.") && unix.Geteuid() != 0 {
			continue
		}
		if err := ignoreUnsupported(err); err != nil {
			return err
		}
	}
	return nil
}

// dropXattrs takes away the attributes that are not among those to keep: a file may have served another owner before.
// Labels of a security module are not ours to remove.
func dropXattrs(fd int, keep []string) error {
	names, err := listXattrs(fd)
	if err != nil {
		return ignoreUnsupported(err)
	}
	for _, name := range names {
		if slices.Contains(keep, name) || strings.HasPrefix(name, "security.") {
			continue
		}
		err := unix.Fremovexattr(fd, name)
		if errors.Is(err, unix.EPERM) && !strings.HasPrefix(name, "user.") && unix.Geteuid() != 0 {
			continue
		}
		if err := ignoreUnsupported(err); err != nil {
			return err
		}
	}
	return nil
}

func listXattrs(fd int) ([]string, error) {
	list, err := readXattr(func(p []byte) (int, error) { return unix.Flistxattr(fd, p) })
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimRight(string(list), "\x00"), "\x00"), nil
}

// readXattr asks for the length, then for the value, again if it grew in between.
func readXattr(get func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := get(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		p := make([]byte, n)
		n, err = get(p)
		if err != unix.ERANGE {
			return p[:max(n, 0)], err
		}
	}
}

func ignoreUnsupported(err error) error {
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

func (f *osFile) Map(n int64) (Mapping, error) {
	if n <= 0 || n != int64(int(n)) {
		return nil, pathError("map", f.name, unix.EINVAL)
	}
	var data []byte
	err := f.use("map", func(fd int) (err error) {
		data, err = unix.Mmap(fd, 0, int(n), unix.PROT_READ, unix.MAP_SHARED)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &osMapping{name: f.name, data: data}, nil
}

// osMapping outlives the descriptor: the kernel keeps the file for it.
type osMapping struct {
	name string
	data []byte
}

func (m *osMapping) Bytes() []byte { return m.data }

func (m *osMapping) Close() error {
	data := m.data
	if data == nil {
		return pathError("unmap", m.name, unix.EINVAL)
	}
	m.data = nil
	return pathError("unmap", m.name, unix.Munmap(data))
}
