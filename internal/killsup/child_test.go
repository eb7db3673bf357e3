//go:build linux && (amd64 || arm64)

package killsup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary one of the children below.
const childEnv = "MAILSPINE_KILLSUP_CHILD"

const (
	threads = 4
	rounds  = 20
)

// children are the programs that the tests run: each works in the directory it is given and returns an exit status.
var children = map[string]func(dir string) int{
	"steps":   childSteps,
	"errors":  childErrors,
	"threads": childThreads,
}

// childSteps makes one call of each kind, in the order of sequence, and says ACK.
func childSteps(dir string) int {
	if err := os.Chdir(dir); err != nil {
		return fail(err)
	}
	fd, err := unix.Openat(unix.AT_FDCWD, "a", unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		return fail(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	for i, step := range []func() error{
		func() error { _, err := unix.Write(fd, []byte("hello")); return err },
		func() error { return unix.Fsync(fd) },
		func() error { _, err := unix.Pwrite(fd, []byte("bye"), 5); return err },
		func() error { _, err := unix.Seek(fd, 8, 0); return err },
		func() error { _, err := unix.Writev(fd, [][]byte{[]byte("abc"), []byte("defg")}); return err },
		func() error { return unix.Fdatasync(fd) },
		func() error { return unix.Ftruncate(fd, 4) },
		func() error { return unix.Fallocate(fd, 0, 0, 64) },
		func() error { return unix.Mkdirat(unix.AT_FDCWD, path("d"), 0o700) },
		func() error { return unix.Renameat(unix.AT_FDCWD, "a", unix.AT_FDCWD, "b") },
		func() error { return unix.Linkat(unix.AT_FDCWD, path("b"), unix.AT_FDCWD, path("c"), 0) },
		func() error { return unix.Unlinkat(unix.AT_FDCWD, "./b", 0) },
		func() error { _, err := unix.Openat(unix.AT_FDCWD, "c", unix.O_RDONLY, 0); return err },
		func() error { return os.WriteFile(path("d/late"), []byte("x"), 0o600) },
	} {
		if err := step(); err != nil {
			return fail(fmt.Errorf("step %d: %w", i, err))
		}
	}
	fmt.Println("ACK")
	return 0
}

// childErrors writes six times and prints what each write returned.
func childErrors(dir string) int {
	fd, err := unix.Openat(unix.AT_FDCWD, filepath.Join(dir, "a"), unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		return fail(err)
	}
	var seen []string
	for range 6 {
		n, err := unix.Write(fd, []byte("abc"))
		errno := unix.Errno(0)
		if errors.As(err, &errno) {
			seen = append(seen, unix.ErrnoName(errno))
		} else {
			seen = append(seen, fmt.Sprint(n))
		}
	}
	fmt.Println(strings.Join(seen, " "))
	return 0
}

// childThreads writes and syncs from several threads at once, while collecting garbage to be full of signals.
func childThreads(dir string) int {
	var wg sync.WaitGroup
	errs := make([]error, threads)
	for i := range threads {
		wg.Go(func() {
			runtime.LockOSThread()
			fd, err := unix.Open(filepath.Join(dir, fmt.Sprint(i)), unix.O_RDWR|unix.O_CREAT, 0o600)
			for range rounds {
				if err == nil {
					_, err = unix.Write(fd, []byte("data"))
				}
				if err == nil {
					err = unix.Fdatasync(fd)
				}
				runtime.GC()
			}
			errs[i] = err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fail(err)
	}
	return 0
}

// fail prints the error and returns the exit status of a failed child.
func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}
