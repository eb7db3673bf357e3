package vfs

import (
	"time"

	"golang.org/x/sys/unix"
)

func exchange(a, b string) error { return unix.RenamexNp(a, b, unix.RENAME_SWAP) }

// fullSync asks the drive too: on darwin fsync stops at its cache.
func fullSync(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_FULLFSYNC, 0)
	if err == unix.ENOTSUP || err == unix.ENOTTY {
		return unix.Fsync(fd)
	}
	return err
}

func dataSync(fd int) error { return fullSync(fd) }

func setModTime(fd int, t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	return unix.Futimes(fd, []unix.Timeval{tv, tv})
}

// allocate reports that the space cannot be promised: F_PREALLOCATE reserves only behind the last block.
func allocate(int, int64, int64) error { return unix.EOPNOTSUPP }

// sole cannot be told here.
func sole(int) error { return unix.EOPNOTSUPP }

// setLock uses flock, which belongs to the open file as our interface wants. It does not exclude the fcntl locks of a
// Cyrus on the same darwin machine.
func setLock(fd int, mode lockMode, wait bool) error {
	how := unix.LOCK_UN
	switch mode {
	case lockShared:
		how = unix.LOCK_SH
	case lockExclusive:
		how = unix.LOCK_EX
	}
	if !wait {
		how |= unix.LOCK_NB
	}
	return retry(func() error { return unix.Flock(fd, how) })
}

// reopen is not possible by descriptor here; waiting falls back to asking again.
func reopen(int, Flag) (int, error) { return -1, unix.ENOTSUP }

func statFS(name string) (Space, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(name, &st) }); err != nil {
		return Space{}, err
	}
	unit := int64(st.Bsize)
	return Space{
		FreeBytes: int64(st.Bavail) * unit, FreeInodes: int64(st.Ffree), TotalBytes: int64(st.Blocks) * unit,
		CopyOnWrite: unix.ByteSliceToString(st.Fstypename[:]) == "apfs",
	}, nil
}

func bootTime() (time.Time, error) {
	tv, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(tv.Unix()), nil
}

func bootID() string {
	boot, _ := bootTime()
	return boot.UTC().String()
}
