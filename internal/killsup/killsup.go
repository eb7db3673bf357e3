// Package killsup runs a command and interferes with it at its N-th change to the disk: a kill just before or just
// after that system call, a failure with a chosen errno, or a write cut short. It is the harness for questions like
// "is the store whole if the process dies here, for every here?".
//
// It works on any binary, Go or C, without its help: a seccomp filter makes the kernel ask this process before each
// system call that can change files, over all threads and all child processes, and calls are counted in one order.
// Nothing but PR_SET_NO_NEW_PRIVS is needed, so it also runs unprivileged. Linux on amd64 and arm64 only; elsewhere
// every call returns an error that is [ErrUnsupported].
//
// The filter has to be installed by the child itself. So the test binary starts itself again as a shim, which installs
// the filter, hands the listening descriptor back and executes the real command. A package that uses [Run] therefore
// needs
//
//	func TestMain(m *testing.M) {
//		killsup.Main()
//		os.Exit(m.Run())
//	}
//
// Changes made through a shared writable mapping or io_uring are not system calls of their own and are not seen.
package killsup

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
)

// Action is what happens at the chosen call.
type Action int

const (
	// Observe only counts and lists the calls.
	Observe Action = iota
	// Kill ends the process group with SIGKILL instead of executing the call. With Plan.Bytes the first bytes of a
	// write are written all the same: a torn write.
	Kill
	// KillAfter executes the call and kills the process group at the next trapped system call of any kind and any
	// thread (a write to standard output too, so no acknowledgement gets out), or when the process ends.
	KillAfter
	// Errno lets the call fail with Plan.Errno without executing it.
	Errno
	// Short executes only the first Plan.Bytes bytes of a write and reports that count, as the kernel may. If
	// Plan.Errno is set, the following call fails with it, as on a disk that is full. A call that writes no more
	// than Bytes bytes, or that is no write, is executed as it is and Result.Fired stays false.
	Short
)

// Plan says which calls to count and what to do to which of them. The zero Plan counts every change to any file.
type Plan struct {
	// Dir limits counting to paths and descriptors at or below this directory. If it is empty every file counts but
	// those below /dev, /proc and /sys. Pipes, sockets and terminals never count.
	Dir string
	// Match, if set, limits counting further, for example to [NeedsSpace] or to calls on one file. It runs for calls
	// below Dir only, while the child waits; its argument is valid during the call.
	Match func(*Call) bool
	// Action is what to do at call number At, counted from 1.
	Action Action
	At     int
	// Errno is the error that Action Errno (and Short) gives.
	Errno syscall.Errno
	// Persistent lets every later call fail too. It applies to Errno, and to Short with an Errno.
	Persistent bool
	// Every, if positive, lets the calls At, At+Every, At+2*Every, ... fail. It applies to Errno.
	Every int
	// Bytes is how much of the write is executed, for Short and Kill.
	Bytes int
}

// Call is one counted system call.
type Call struct {
	// N is its number, from 1.
	N int
	// Name is the system call's, such as "pwrite64".
	Name string
	// Path is the file it changes; NewPath the second name that rename and link have. They are as the kernel knows
	// them for descriptors, and lexically cleaned, with symbolic links left in, for names.
	Path, NewPath string
	// Offset and Len are the arguments of that meaning, -1 if the call has none. Len of ftruncate is the new size.
	Offset, Len int64
	// Thread is the thread that made the call.
	Thread int
	// Faulted tells that the call was killed, failed or cut short.
	Faulted bool
}

// Result is what happened.
type Result struct {
	// Calls lists the counted calls in order; the last one is where a killed process died.
	Calls []Call
	// Fired tells that the action took place. If it is false the child made fewer calls than Plan.At: a sweep over
	// all points of a run ends there.
	Fired bool
	// State is how the process ended.
	State *os.ProcessState
}

var (
	// ErrUnsupported is returned where the kernel or platform lacks seccomp user notification.
	ErrUnsupported = errors.New("seccomp user notification is not supported here")
	// ErrNoHook is returned if [Main] was not called when the process started.
	ErrNoHook = errors.New("killsup.Main was not called at the start of this process")
)

// shimEnv makes a process that calls [Main] the shim. Its value is "FD FLAGS".
const shimEnv = "MAILSPINE_KILLSUP_SHIM"

// hooked records that Main ran: without it a re-executed test binary would run the tests again, without end.
var hooked atomic.Bool

// Main must be called first in TestMain (or main) of a binary that uses [Run]. In the shim process it does not
// return; in every other it does nothing but note that it was called.
func Main() {
	if arg := os.Getenv(shimEnv); arg != "" {
		shim(arg)
	}
	hooked.Store(true)
}

// NeedsSpace tells whether a call can run out of disk space, inodes or quota on a real file system. It is meant for
// [Plan].Match, to simulate a disk that stays full but still deletes.
func NeedsSpace(c *Call) bool {
	for _, prefix := range []string{"write", "pwrite", "fallocate", "open", "creat", "mkdir", "mknod", "link", "symlink",
		"rename", "fsync", "fdatasync", "sync", "copy_file_range", "sendfile", "splice", "setxattr", "fsetxattr"} {
		if strings.HasPrefix(c.Name, prefix) {
			return true
		}
	}
	return false
}
