//go:build amd64 || arm64

package killsup

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data, which the filter reads 32 bits at a time. Both architectures are little-endian.
const (
	dataNr   = 0
	dataArch = 4
	dataArgs = 16
)

// flagExit in the shim's argument asks for exit_group to be trapped as well.
const flagExit = "exit"

// filter assembles the program that sends the calls of the table to the listener and lets all others pass. A process
// of another architecture (a 32-bit program) is killed: its calls have other numbers and would go uncounted.
func filter(exit bool) []unix.SockFilter {
	ins := func(code uint16, jt, jf uint8, k uint32) unix.SockFilter {
		return unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k}
	}
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		anyBit = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret    = unix.BPF_RET | unix.BPF_K
	)
	prog := []unix.SockFilter{
		ins(load, 0, 0, dataArch),
		ins(equal, 1, 0, auditArch),
		ins(ret, 0, 0, unix.SECCOMP_RET_KILL_PROCESS),
		ins(load, 0, 0, dataNr),
	}
	for _, s := range table {
		if s.openFlags == 0 {
			prog = append(prog, ins(equal, 0, 1, uint32(s.nr)), ins(ret, 0, 0, unix.SECCOMP_RET_USER_NOTIF))
			continue
		}
		prog = append(prog,
			ins(equal, 0, 4, uint32(s.nr)),
			ins(load, 0, 0, uint32(dataArgs+8*(s.openFlags-1))),
			ins(anyBit, 0, 1, changing),
			ins(ret, 0, 0, unix.SECCOMP_RET_USER_NOTIF),
			ins(ret, 0, 0, unix.SECCOMP_RET_ALLOW))
	}
	if exit {
		prog = append(prog, ins(equal, 0, 1, unix.SYS_EXIT_GROUP), ins(ret, 0, 0, unix.SECCOMP_RET_USER_NOTIF))
	}
	return append(prog, ins(ret, 0, 0, unix.SECCOMP_RET_ALLOW))
}

// shim installs the filter on this thread, sends the listener over the socket that arg names and executes the command
// in os.Args[1:] (file, then its argv). It never returns. Errors go to the socket as text, for Run to report.
func shim(arg string) {
	runtime.LockOSThread() // The filter is on this thread, and exec makes this thread the process.
	fdText, flags, _ := strings.Cut(arg, " ")
	sock, err := strconv.Atoi(fdText)
	if err != nil || len(os.Args) < 3 {
		fmt.Fprintf(os.Stderr, "killsup: %s is set without reason\n", shimEnv)
		os.Exit(126)
	}
	unix.CloseOnExec(sock)
	os.Unsetenv(shimEnv)
	if err := install(sock, filter(flags == flagExit)); err != nil {
		giveUp(sock, err)
	}
	err = unix.Exec(os.Args[1], os.Args[2:], os.Environ())
	giveUp(sock, &exec.Error{Name: os.Args[1], Err: err})
}

// install puts the filter on the calling thread and sends the listener to the supervisor. Between the two there must
// be no system call that the filter traps, for nobody would answer it: hence everything is prepared first, and the two
// are raw calls of which the second, sendmsg, is not in the table.
func install(sock int, prog []unix.SockFilter) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	mark := [1]byte{1}
	iov := unix.Iovec{Base: &mark[0], Len: 1}
	control := unix.UnixRights(-1)
	slot := (*int32)(unsafe.Pointer(&control[unix.CmsgLen(0)]))
	msg := unix.Msghdr{Iov: &iov, Iovlen: 1, Control: &control[0]}
	msg.SetControllen(len(control))

	// Without WAIT_KILLABLE a signal, such as the Go runtime sends to itself to preempt, makes a waiting call start
	// over and be counted twice. Kernels before 5.19 do not have the flag.
	for _, extra := range []uintptr{unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0} {
		listener, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
			unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|extra, uintptr(unsafe.Pointer(&fprog)))
		if errno == unix.EINVAL && extra != 0 {
			continue
		}
		if errno != 0 {
			return fmt.Errorf("install the seccomp filter: %w", errno)
		}
		*slot = int32(listener)
		_, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(sock), uintptr(unsafe.Pointer(&msg)), 0)
		runtime.KeepAlive(prog)
		if errno != 0 {
			os.Exit(126) // Untrapped calls only: the socket is gone, so is the supervisor.
		}
		unix.CloseOnExec(int(listener))
		return nil
	}
	return ErrUnsupported
}

// giveUp reports err to the supervisor and ends the process. sendto is not trapped.
func giveUp(sock int, err error) {
	unix.Sendto(sock, []byte(err.Error()), 0, nil)
	os.Exit(126)
}
