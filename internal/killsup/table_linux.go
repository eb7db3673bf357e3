//go:build amd64 || arm64

package killsup

import "golang.org/x/sys/unix"

// spec says which arguments of a trapped system call mean what. Argument positions count from 1, so that 0 means that
// the call has no such argument.
type spec struct {
	nr   int
	name string
	// fd is the descriptor that is changed.
	fd int
	// path is the name that is changed and dir the directory descriptor it is relative to; path2 and dir2 the second.
	path, dir, path2, dir2 int
	offset, length         int
	// openFlags is the argument with O_ flags: the call is trapped only if they can change something.
	openFlags int
	// write tells that the call writes from memory: argument 2 is a buffer of length bytes, or, if vector, an array
	// of that many iovecs.
	write, vector bool
}

// changing are the open flags that can change the disk. The last is the part of O_TMPFILE that is not O_DIRECTORY.
const changing = unix.O_CREAT | unix.O_TRUNC | (unix.O_TMPFILE &^ unix.O_DIRECTORY)

// table lists the trapped calls that both architectures have; legacyTable those of amd64 only.
var table = append([]spec{
	{nr: unix.SYS_WRITE, name: "write", fd: 1, length: 3, write: true},
	{nr: unix.SYS_PWRITE64, name: "pwrite64", fd: 1, length: 3, offset: 4, write: true},
	{nr: unix.SYS_WRITEV, name: "writev", fd: 1, length: 3, write: true, vector: true},
	{nr: unix.SYS_PWRITEV, name: "pwritev", fd: 1, length: 3, offset: 4, write: true, vector: true},
	{nr: unix.SYS_PWRITEV2, name: "pwritev2", fd: 1, length: 3, offset: 4, write: true, vector: true},
	{nr: unix.SYS_COPY_FILE_RANGE, name: "copy_file_range", fd: 3, length: 5},
	{nr: unix.SYS_SENDFILE, name: "sendfile", fd: 1, length: 4},
	{nr: unix.SYS_SPLICE, name: "splice", fd: 3, length: 5},
	{nr: unix.SYS_FTRUNCATE, name: "ftruncate", fd: 1, length: 2},
	{nr: unix.SYS_TRUNCATE, name: "truncate", path: 1, length: 2},
	{nr: unix.SYS_FALLOCATE, name: "fallocate", fd: 1, offset: 3, length: 4},
	{nr: unix.SYS_FSYNC, name: "fsync", fd: 1},
	{nr: unix.SYS_FDATASYNC, name: "fdatasync", fd: 1},
	{nr: unix.SYS_SYNC_FILE_RANGE, name: "sync_file_range", fd: 1, offset: 2, length: 3},
	{nr: unix.SYS_SYNCFS, name: "syncfs", fd: 1},
	{nr: unix.SYS_FCHMOD, name: "fchmod", fd: 1},
	{nr: unix.SYS_FCHMODAT, name: "fchmodat", dir: 1, path: 2},
	{nr: unix.SYS_FCHOWN, name: "fchown", fd: 1},
	{nr: unix.SYS_FCHOWNAT, name: "fchownat", dir: 1, path: 2},
	{nr: unix.SYS_FSETXATTR, name: "fsetxattr", fd: 1},
	{nr: unix.SYS_SETXATTR, name: "setxattr", path: 1},
	{nr: unix.SYS_OPENAT, name: "openat", dir: 1, path: 2, openFlags: 3},
	{nr: unix.SYS_MKDIRAT, name: "mkdirat", dir: 1, path: 2},
	{nr: unix.SYS_MKNODAT, name: "mknodat", dir: 1, path: 2},
	{nr: unix.SYS_UNLINKAT, name: "unlinkat", dir: 1, path: 2},
	{nr: unix.SYS_RENAMEAT2, name: "renameat2", dir: 1, path: 2, dir2: 3, path2: 4},
	{nr: unix.SYS_RENAMEAT, name: "renameat", dir: 1, path: 2, dir2: 3, path2: 4},
	{nr: unix.SYS_LINKAT, name: "linkat", dir: 1, path: 2, dir2: 3, path2: 4},
	{nr: unix.SYS_SYMLINKAT, name: "symlinkat", dir: 2, path: 3},
	{nr: unix.SYS_OPENAT2, name: "openat2", dir: 1, path: 2},
}, legacyTable...)

// specs finds the trapped calls by number.
var specs = func() map[int]*spec {
	m := make(map[int]*spec, len(table))
	for i := range table {
		m[table[i].nr] = &table[i]
	}
	return m
}()
