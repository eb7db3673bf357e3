//go:build amd64 || arm64

package killsup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// startMax is how long the shim may take to come up.
const startMax = 30 * time.Second

// Supported returns nil if [Run] can work here: the kernel has user notification and [Main] was called.
func Supported() error {
	action := uint32(unix.SECCOMP_RET_USER_NOTIF)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	if errno != 0 {
		return fmt.Errorf("%w: %w", ErrUnsupported, errno)
	}
	if !hooked.Load() {
		return ErrNoHook
	}
	return nil
}

// Run starts the command under the plan and waits until it and all processes that inherited the filter have ended.
// The command must be fresh; Run changes it (path, arguments, environment, extra files, its own process group) and it
// cannot be used again. If ctx ends, the process group is killed and the context's error returned.
//
// The error tells that the run itself failed. A command that exits with a failure, or was killed by the plan, is not
// an error: see [Result].State.
func Run(ctx context.Context, cmd *exec.Cmd, plan Plan) (Result, error) {
	if err := Supported(); err != nil {
		return Result{}, err
	}
	if cmd.Err != nil {
		return Result{}, cmd.Err
	}
	sock, err := start(cmd, plan.Action == KillAfter)
	if err != nil {
		return Result{}, err
	}
	defer unix.Close(sock)

	s := newSupervisor(plan, cmd.Process.Pid)
	stop := context.AfterFunc(ctx, s.killGroup)
	defer stop()
	listener, err := receive(sock)
	if err != nil {
		s.killGroup()
		cmd.Wait()
		return Result{}, errors.Join(ctx.Err(), err)
	}
	defer unix.Close(listener)

	// Wait runs beside: before Linux 6.11 the listener hangs up only after the process has been reaped.
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	err = s.serve(listener)
	if err != nil {
		s.killGroup()
	}
	waitErr := <-waited
	res := Result{Calls: s.calls, Fired: s.fired, State: cmd.ProcessState}
	if err != nil {
		return res, err
	}
	if err := ctx.Err(); err != nil {
		return res, err
	}
	if text := readText(sock); text != "" {
		return res, fmt.Errorf("start %s: %s", cmd.Args[1], text)
	}
	if exit := (*exec.ExitError)(nil); waitErr != nil && !errors.As(waitErr, &exit) {
		return res, waitErr
	}
	return res, nil
}

// start turns cmd into the shim that will execute it, starts it, and returns our end of the socket to it.
func start(cmd *exec.Cmd, exit bool) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket pair for the shim: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "shim")
	defer theirs.Close()
	arg := fmt.Sprint(3 + len(cmd.ExtraFiles))
	if exit {
		arg += " " + flagExit
	}
	if len(cmd.Args) == 0 {
		cmd.Args = []string{cmd.Path}
	}
	cmd.Args = append([]string{"killsup-shim", cmd.Path}, cmd.Args...)
	cmd.Path = "/proc/self/exe" // Works for another user too, to whom the binary's directory may be closed.
	cmd.Env = append(cmd.Environ(), shimEnv+"="+arg)
	cmd.ExtraFiles = append(cmd.ExtraFiles[:len(cmd.ExtraFiles):len(cmd.ExtraFiles)], theirs)
	attr := syscall.SysProcAttr{}
	if cmd.SysProcAttr != nil {
		attr = *cmd.SysProcAttr
	}
	attr.Setpgid, attr.Pgid = true, 0
	cmd.SysProcAttr = &attr
	if err := cmd.Start(); err != nil {
		unix.Close(pair[0])
		return -1, fmt.Errorf("start the shim: %w", err)
	}
	return pair[0], nil
}

// receive waits for the listener that the shim sends.
func receive(sock int) (int, error) {
	timeout := unix.NsecToTimeval(startMax.Nanoseconds())
	if err := unix.SetsockoptTimeval(sock, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return -1, fmt.Errorf("time limit for the shim: %w", err)
	}
	text, control := make([]byte, 1024), make([]byte, unix.CmsgSpace(4))
	n, controlLen, err := recvmsg(sock, text, control)
	if err != nil {
		return -1, fmt.Errorf("receive from the shim: %w", err)
	}
	if controlLen == 0 {
		return -1, fmt.Errorf("the shim did not start: %q", text[:n])
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlLen])
	if err != nil {
		return -1, fmt.Errorf("message from the shim: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return -1, fmt.Errorf("descriptor from the shim: %w", err)
	}
	return fds[0], nil
}

// recvmsg is unix.Recvmsg, repeated when a signal interrupts it.
func recvmsg(sock int, p, control []byte) (n, controlLen int, err error) {
	for {
		n, controlLen, _, _, err = unix.Recvmsg(sock, p, control, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			return n, controlLen, err
		}
	}
}

// readText returns what the shim said after it sent the listener, which it only does if exec failed.
func readText(sock int) string {
	buf := make([]byte, 1024)
	n, _, err := unix.Recvfrom(sock, buf, unix.MSG_DONTWAIT)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(buf[:n]))
}
