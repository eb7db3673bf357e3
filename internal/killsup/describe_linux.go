//go:build amd64 || arm64

package killsup

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Limits on what is read from the child, whose memory may hold anything.
const (
	pathMax  = 4096
	iovMax   = 1024
	writeMax = 16 << 20
	page     = 4096 // The smallest page size: a read inside one page either works or fails as a whole.
)

// describe turns a notification into a Call and tells whether the plan counts it.
func (s *supervisor) describe(n *notification) (*Call, bool) {
	sp := specs[int(n.nr)]
	if sp == nil {
		return nil, false // exit_group
	}
	call := &Call{Name: sp.name, Offset: -1, Len: -1, Thread: int(n.thread)}
	if sp.fd > 0 {
		call.Path = fdPath(n, int32(n.args[sp.fd-1]))
	} else {
		call.Path = namePath(n, sp.dir, sp.path)
		if sp.path2 > 0 {
			call.NewPath = namePath(n, sp.dir2, sp.path2)
		}
	}
	if !s.inside(call.Path) && !s.inside(call.NewPath) {
		return nil, false
	}
	if sp.offset > 0 {
		call.Offset = int64(n.args[sp.offset-1])
	}
	if sp.length > 0 {
		call.Len = int64(n.args[sp.length-1])
	}
	if sp.vector {
		call.Len = 0
		for _, v := range vector(n, sp) {
			call.Len += int64(v.Len)
		}
	}
	if sp.name == "openat2" {
		// The flags are in memory, where the filter cannot look.
		how := readMemory(n, n.args[2], 8)
		if len(how) == 8 && *(*uint64)(unsafe.Pointer(&how[0]))&changing == 0 {
			return nil, false
		}
	}
	return call, s.plan.Match == nil || s.plan.Match(call)
}

// inside tells whether path is one that the plan counts.
func (s *supervisor) inside(path string) bool {
	if !strings.HasPrefix(path, "/") {
		return false // "pipe:[17]", "socket:[4]", "anon_inode:[eventfd]", or a name that could not be read.
	}
	if s.plan.Dir == "" {
		for _, other := range []string{"/dev", "/proc", "/sys"} {
			if under(path, other) {
				return false
			}
		}
		return true
	}
	for _, dir := range s.dirs {
		if under(path, dir) {
			return true
		}
	}
	return false
}

// under tells whether path is dir or below it.
func under(path, dir string) bool {
	return strings.HasPrefix(path, dir) && (len(path) == len(dir) || dir == "/" || path[len(dir)] == '/')
}

// fdPath is what a descriptor of the child leads to, also after that file has been unlinked.
func fdPath(n *notification, fd int32) string {
	var link string
	if fd == unix.AT_FDCWD {
		link = fmt.Sprintf("/proc/%d/cwd", n.thread)
	} else {
		link = fmt.Sprintf("/proc/%d/fd/%d", n.thread, fd)
	}
	target, err := os.Readlink(link)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(target, " (deleted)")
}

// namePath reads a name from the child's memory and makes it absolute. dir is 0 for calls relative to the working
// directory only.
func namePath(n *notification, dir, path int) string {
	name := readString(n, n.args[path-1])
	if strings.HasPrefix(name, "/") {
		return filepath.Clean(name)
	}
	fd := int32(unix.AT_FDCWD)
	if dir > 0 {
		fd = int32(n.args[dir-1])
	}
	base := fdPath(n, fd)
	if base == "" {
		return ""
	}
	return filepath.Join(base, name)
}

// readString reads a NUL-terminated string, page by page so as not to run into an unmapped one.
func readString(n *notification, addr uint64) string {
	var text []byte
	for len(text) < pathMax {
		part := readMemory(n, addr, int(page-addr%page))
		if end := bytes.IndexByte(part, 0); end >= 0 {
			return string(append(text, part[:end]...))
		}
		if len(part) == 0 {
			return ""
		}
		text = append(text, part...)
		addr += uint64(len(part))
	}
	return ""
}

// readMemory reads up to length bytes at addr in the child; fewer, or none, if they are not there.
func readMemory(n *notification, addr uint64, length int) []byte {
	if length <= 0 {
		return nil
	}
	buf := make([]byte, length)
	local := []unix.Iovec{{Base: &buf[0], Len: uint64(length)}}
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: length}}
	got, err := unix.ProcessVMReadv(int(n.thread), local, remote, 0)
	if err != nil {
		return nil
	}
	return buf[:got]
}

// vector reads the iovecs of a writev.
func vector(n *notification, sp *spec) []unix.RemoteIovec {
	count := min(n.args[sp.length-1], iovMax)
	const size = uint64(unsafe.Sizeof(unix.RemoteIovec{}))
	raw := readMemory(n, n.args[1], int(count*size))
	list := make([]unix.RemoteIovec, uint64(len(raw))/size)
	for i := range list {
		list[i] = *(*unix.RemoteIovec)(unsafe.Pointer(&raw[uint64(i)*size]))
	}
	return list
}

// writePart executes the first Plan.Bytes bytes of the write that waits in n, on a duplicate of the child's
// descriptor. ok is false, and nothing is written, if the call is no write or would not be cut.
func (s *supervisor) writePart(n *notification) (done int, ok bool) {
	sp := specs[int(n.nr)]
	if s.plan.Bytes <= 0 || s.plan.Bytes > writeMax || sp == nil || !sp.write {
		return 0, false
	}
	parts := []unix.RemoteIovec{{Base: uintptr(n.args[1]), Len: int(n.args[2])}}
	if sp.vector {
		parts = vector(n, sp)
	}
	var data []byte
	total := 0
	for _, p := range parts {
		total += p.Len
		if want := min(p.Len, s.plan.Bytes-len(data)); want > 0 {
			data = append(data, readMemory(n, uint64(p.Base), want)...)
		}
	}
	if total <= s.plan.Bytes || len(data) < s.plan.Bytes {
		return 0, false
	}
	fd, err := duplicate(s.group, int(n.thread), int(n.args[0]))
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	for done < len(data) {
		var w int
		if sp.offset > 0 {
			w, err = unix.Pwrite(fd, data[done:], int64(n.args[sp.offset-1])+int64(done))
		} else {
			w, err = unix.Write(fd, data[done:])
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil || w <= 0 {
			break
		}
		done += w
	}
	return done, done > 0
}

// duplicate takes a copy of a descriptor of another process, with the same offset and locks. The process is known by
// one of its threads, but pidfd_open wants the first one.
func duplicate(group, thread, fd int) (int, error) {
	pid := group
	if thread != group {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", thread))
		if err != nil {
			return -1, err
		}
		_, rest, _ := strings.Cut(string(status), "\nTgid:")
		if _, err := fmt.Sscan(rest, &pid); err != nil {
			return -1, err
		}
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	return unix.PidfdGetfd(pidfd, fd, 0)
}
