package vfs

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

func dataSync(fd int) error { return unix.Fdatasync(fd) }
func fullSync(fd int) error { return unix.Fsync(fd) }

func allocate(fd int, off, n int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// setModTime is futimens, which needs no name of the file and no /proc, as unix.Futimes does.
func setModTime(fd int, t time.Time) error {
	ts := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(t.UnixNano())}
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// sole asks for a write lease, which the kernel refuses while there is another open file description of the inode; a
// mapping keeps the one alive that it was made from.
func sole(fd int) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		return err
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	return err
}

// setLock uses open-file-description locks: they conflict with the fcntl locks of Cyrus, belong to the open file and
// not to the process, and outlive the closing of other descriptors. It returns EAGAIN where another holds the lock.
func setLock(fd int, mode lockMode, wait bool) error {
	lock := unix.Flock_t{Type: unix.F_UNLCK}
	switch mode {
	case lockShared:
		lock.Type = unix.F_RDLCK
	case lockExclusive:
		lock.Type = unix.F_WRLCK
	}
	cmd := unix.F_OFD_SETLK
	if wait {
		cmd = unix.F_OFD_SETLKW
	}
	err := retry(func() error { return unix.FcntlFlock(uintptr(fd), cmd, &lock) })
	if err == unix.EACCES {
		return unix.EAGAIN
	}
	return err
}

// reopen makes a second open file description of the file behind fd, which may have lost its name.
func reopen(fd int, flag Flag) (int, error) {
	how := unix.O_CLOEXEC | unix.O_RDONLY
	if flag&ReadWrite != 0 {
		how = unix.O_CLOEXEC | unix.O_RDWR
	}
	return retryInt(func() (int, error) { return unix.Open("/proc/self/fd/"+strconv.Itoa(fd), how, 0) })
}

const zfsMagic = 0x2fc12fc1

func statFS(name string) (Space, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(name, &st) }); err != nil {
		return Space{}, err
	}
	unit := int64(st.Frsize)
	if unit == 0 {
		unit = int64(st.Bsize)
	}
	space := Space{
		FreeBytes: int64(st.Bavail) * unit, FreeInodes: int64(st.Ffree), TotalBytes: int64(st.Blocks) * unit,
		CopyOnWrite: uint32(st.Type) == unix.BTRFS_SUPER_MAGIC || uint32(st.Type) == zfsMagic,
	}
	if st.Files == 0 {
		space.FreeInodes = math.MaxInt64 // btrfs makes inodes as they are needed.
	}
	return space, nil
}

// bootTime is what /proc/stat says as btime, without reading that file: a writer asks before every commit. It follows the
// wall clock when that is set.
func bootTime() (time.Time, error) {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}, fmt.Errorf("time since the machine was started: %w", err)
	}
	return time.Now().Add(-time.Duration(up.Nano())), nil
}

// bootID names this boot. Where it is not known all boots have one name: what it is for lies in memory, and is gone after
// a boot in any case.
func bootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text))
}
