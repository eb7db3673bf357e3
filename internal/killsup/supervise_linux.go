//go:build amd64 || arm64

package killsup

import (
	"fmt"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notification is struct seccomp_notif: one trapped call, whose thread waits for the reply.
type notification struct {
	id     uint64
	thread uint32
	flags  uint32
	nr     int32
	arch   uint32
	ip     uint64
	args   [6]uint64
}

// reply is struct seccomp_notif_resp.
type reply struct {
	id    uint64
	val   int64
	errno int32 // Negative, as in the kernel.
	flags uint32
}

// supervisor answers the notifications of one run. All but killGroup belongs to the goroutine in serve.
type supervisor struct {
	plan  Plan
	dirs  []string
	group int

	calls []Call
	fired bool
	// killed: nothing is answered any more. doomed: the next call of any kind is where KillAfter kills.
	killed, doomed bool
	// full: Short has fired with an Errno, which the next call gets.
	full bool

	killOnce sync.Once
}

// newSupervisor prepares the run of the process group led by group.
func newSupervisor(plan Plan, group int) *supervisor {
	s := &supervisor{plan: plan, group: group}
	if plan.Dir != "" {
		dir, err := filepath.Abs(plan.Dir)
		if err == nil {
			s.dirs = append(s.dirs, dir)
		}
		// Descriptors show the real path, arguments what the program was given.
		if real, err := filepath.EvalSymlinks(dir); err == nil && real != dir {
			s.dirs = append(s.dirs, real)
		}
	}
	return s
}

// killGroup sends SIGKILL to the whole process group, once.
func (s *supervisor) killGroup() {
	s.killOnce.Do(func() { unix.Kill(-s.group, unix.SIGKILL) })
}

// serve answers notifications until no process with the filter is left.
func (s *supervisor) serve(listener int) error {
	// The thread that made a call is then woken on this CPU at once. Not in kernels before 6.6; it only saves time.
	unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS,
		unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			return fmt.Errorf("poll the listener: %w", err)
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			return nil // POLLHUP: the last process is gone.
		}
		var n notification
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n)))
		if errno == unix.EINTR || errno == unix.ENOENT {
			continue // ENOENT: the thread was killed in between.
		}
		if errno != 0 {
			return fmt.Errorf("receive a notification: %w", errno)
		}
		r, answer := s.decide(&n)
		if !answer {
			continue
		}
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
		if errno != 0 && errno != unix.ENOENT {
			return fmt.Errorf("answer a notification: %w", errno)
		}
	}
}

// decide counts the call and says what becomes of it. Without an answer the call is never executed: its thread waits
// until the kill reaches it.
func (s *supervisor) decide(n *notification) (r reply, answer bool) {
	proceed := reply{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if s.killed {
		s.killThread(n)
		return r, false
	}
	if s.doomed {
		s.kill(n)
		return r, false
	}
	call, counted := s.describe(n)
	if !counted {
		return proceed, true
	}
	call.N = len(s.calls) + 1
	fail := reply{id: n.id, errno: -int32(s.plan.Errno)}
	hit := call.N == s.plan.At
	r, answer = proceed, true
	switch s.plan.Action {
	case Kill:
		if hit {
			s.writePart(n)
			s.kill(n)
			call.Faulted, answer = true, false
		}
	case KillAfter:
		s.doomed = hit
		s.fired = s.fired || hit
		call.Faulted = hit
	case Errno:
		if call.Faulted = s.fails(call.N); call.Faulted {
			s.fired, r = true, fail
		}
	case Short:
		switch {
		case hit:
			if done, ok := s.writePart(n); ok {
				s.fired, s.full, call.Faulted = true, s.plan.Errno != 0, true
				r = reply{id: n.id, val: int64(done)}
			}
		case s.full:
			call.Faulted, r, s.full = true, fail, s.plan.Persistent
		}
	}
	s.calls = append(s.calls, *call)
	return r, answer
}

// fails tells whether Action Errno is for call number n.
func (s *supervisor) fails(n int) bool {
	switch past := n - s.plan.At; {
	case s.plan.At <= 0 || past < 0:
		return false
	case past == 0 || s.plan.Persistent:
		return true
	default:
		return s.plan.Every > 0 && past%s.plan.Every == 0
	}
}

// kill ends the run here.
func (s *supervisor) kill(n *notification) {
	s.fired, s.killed = true, true
	s.killGroup()
	s.killThread(n)
}

// killThread kills the process of the calling thread, which may have left the process group.
func (s *supervisor) killThread(n *notification) { unix.Kill(int(n.thread), unix.SIGKILL) }
