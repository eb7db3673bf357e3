// Package vfs is the only door to files. Everything that mailspine stores passes through [FS] and [File], so that a
// test can put a simulated disk (package simfs) or a failing one (package faultfs) in the place of the real one.
//
// The guarantees stated on each call are those of a POSIX file system after a power cut, and no more: a write, a
// truncation or a change of a directory may be lost, or reach the disk in any order, until the sync that covers it
// has returned nil. Every error carries the errno of the failed system call (errors.Is(err, syscall.ENOSPC)) in an
// *fs.PathError or *LinkError.
package vfs

import (
	"context"
	"errors"
	"io/fs"
	"time"
)

// Flag chooses how [FS.Open] opens a file.
type Flag int

const (
	// ReadOnly opens for reading. The file must exist.
	ReadOnly Flag = 0
	// ReadWrite opens for reading and writing.
	ReadWrite Flag = 1 << iota
	// Create creates the file if it is missing. The new name is durable only after [FS.SyncDir].
	Create
	// Exclusive, with Create, fails with EEXIST if the name exists in any form.
	Exclusive
	// NoFollow fails with ELOOP if the name is a symbolic link.
	NoFollow
)

// ErrNotRegular is the error of opening what is neither a file nor a directory: a device, a FIFO, a socket.
var ErrNotRegular = errors.New("not a regular file")

// FS is a file system and the few facts of its host that crash safety depends on. All methods may be called at once
// from many goroutines.
type FS interface {
	// Open opens or creates a file; perm (before umask) is for a new file only. It does not wait for the other end of a
	// FIFO: that is ErrNotRegular.
	Open(name string, flag Flag, perm fs.FileMode) (File, error)
	// Stat describes what the name leads to, following symbolic links.
	Stat(name string) (Info, error)
	// Resolve returns the name of the file that a symbolic link leads to, and any other name as it is, whether there is
	// such a file or not. It fails with ENOENT if a link leads nowhere.
	Resolve(name string) (string, error)
	// ReadDir lists a directory, sorted by name.
	ReadDir(name string) ([]Entry, error)
	// Mkdir creates one directory.
	Mkdir(name string, perm fs.FileMode) error
	// Rename moves old over new atomically: whoever looks finds the one file or the other. After a crash the name
	// leads to either, until SyncDir of the directory (of both directories, if they differ) has returned nil.
	Rename(old, new string) error
	// Exchange swaps the files behind two existing names atomically, as Rename otherwise. It fails with EINVAL, ENOSYS or
	// EOPNOTSUPP where the file system cannot. The files need not notice: XFS leaves even their ctime as it was.
	Exchange(a, b string) error
	// Link makes new a further name of the file old.
	Link(old, new string) error
	// Unlink removes a name; the file lives on while it is open or has another name.
	Unlink(name string) error
	// Rmdir removes an empty directory.
	Rmdir(name string) error
	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error
	// StatFS tells the space left on the file system that holds name.
	StatFS(name string) (Space, error)
	// SharedWord returns the 64-bit word that all processes of this boot see under the given name (an absolute path or
	// other string that identifies the file it belongs to). It is zero after a boot.
	SharedWord(name string) (SharedWord, error)
	// Now is the wall clock.
	Now() time.Time
	// BootTime is when the machine started. What was written before it, and not synced, may be lost.
	BootTime() (time.Time, error)
}

// File is an open file. Reads, writes, Stat and Map may be called at once from many goroutines; locks belong to the
// open file, not to the process: two opens of one path exclude each other also within one process.
type File interface {
	// Name is the path given to Open.
	Name() string
	// ReadAt fills p from offset off. It returns io.EOF with n < len(p) at the end of the file.
	ReadAt(p []byte, off int64) (n int, err error)
	// WriteAt writes all of p at off, extending the file as needed. With an error, n is the true number of bytes that
	// were written before it. Nothing is durable before Datasync or Sync.
	WriteAt(p []byte, off int64) (n int, err error)
	// Truncate sets the size. It also frees whatever Allocate reserved beyond it.
	Truncate(size int64) error
	// Allocate reserves disk blocks for [off, off+n) without changing the size or any byte, also beyond the end of the
	// file; later writes there do not fail for want of space on file systems that do not copy on write. It fails with
	// ENOSPC, EDQUOT or EFBIG leaving the content as it was, or with EOPNOTSUPP where the file system cannot. On a full
	// disk it may fail even if all of it is allocated already (XFS): then Info.Blocks tells.
	Allocate(off, n int64) error
	// Datasync makes the bytes and the size durable. After an error the pages written since the last sync may be on
	// the disk or not, and the system will not write them again: rewrite them, do not call Datasync again alone.
	Datasync() error
	// Sync is Datasync and also makes owner, mode and times durable.
	Sync() error
	// Stat describes the open file, whatever its name leads to by now.
	Stat() (Info, error)
	// CopyMetadata gives this file the owner, group, mode and extended attributes of from, and takes away those that from
	// lacks. They are durable after Sync.
	CopyMetadata(from File) error
	// SetModTime sets the time of the last change, which mail servers take for the date of a message. It is durable after Sync.
	SetModTime(t time.Time) error
	// Sole returns nil if, at this moment, nobody else on this machine has the file open or mapped: no process, and no
	// other open of this one. It fails with EAGAIN if somebody has, with EACCES or EOPNOTSUPP where it cannot be told.
	// (Linux grants a write lease only then; the lease is given back at once.)
	Sole() error
	// Lock takes a whole-file lock, compatible with fcntl locks of other programs, waiting until it is free or ctx
	// ends. It converts a lock that this file already holds.
	Lock(ctx context.Context, kind LockKind) error
	// TryLock takes the lock if it is free now, else it fails with EAGAIN.
	TryLock(kind LockKind) error
	// Unlock gives the lock back. Close does so too.
	Unlock() error
	// Map maps n bytes from the start of the file for reading; n may lie beyond the end of the file, and what is
	// written there later shows. Bytes beyond the end must not be touched: see [Guard].
	Map(n int64) (Mapping, error)
	// Close closes the file. It syncs nothing.
	Close() error
}

// LockKind is shared (readers) or exclusive (one writer).
type LockKind int

const (
	Shared LockKind = iota
	Exclusively
)

// Mapping is a read-only view of a file that shows later writes.
type Mapping interface {
	// Bytes is valid until Close. A page that is not there any more (the file was truncated, or the disk fails) faults
	// when touched: only touch it inside [Guard].
	Bytes() []byte
	Close() error
}

// SharedWord is a 64-bit word shared between the processes of one machine.
type SharedWord interface {
	Load() uint64
	Store(uint64)
	Close() error
}

// Info describes a file. Dev and Ino together identify it.
type Info struct {
	Dev, Ino uint64
	Nlink    uint64
	Size     int64
	// Blocks is the space allocated, in 512-byte units.
	Blocks       int64
	Mode         fs.FileMode
	UID, GID     uint32
	Mtime, Ctime time.Time
}

// SameFile tells whether two descriptions are of one file.
func (i Info) SameFile(o Info) bool { return i.Dev == o.Dev && i.Ino == o.Ino }

// Entry is one name of a directory.
type Entry struct {
	Name string
	Dir  bool
}

// Space is the room on a file system.
type Space struct {
	// FreeBytes is what an ordinary user can still allocate, FreeInodes the files that can still be created.
	FreeBytes, FreeInodes, TotalBytes int64
	// CopyOnWrite is set where even overwriting allocated bytes may need new space (btrfs, ZFS).
	CopyOnWrite bool
}
