package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// diskBytes is the size of the small disk.
const diskBytes = 1 << 20

// Environment variables for the child that plays the story on the small disk.
const (
	envDir  = "MAILSPINE_DEMO_DIR"
	envKind = "MAILSPINE_DEMO_DISK"
)

// Main plays the story on a small disk that it makes and removes: a tmpfs in a mount namespace of its own, which needs no
// privilege where user namespaces are allowed; else a limit on the size of files stands in for the disk.
func Main(ctx context.Context, out, errOut io.Writer) error {
	if dir := os.Getenv(envDir); dir != "" {
		return child(ctx, out, dir, os.Getenv(envKind))
	}
	dir, err := os.MkdirTemp("", "mailspine-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	err = errNoDisk
	for _, kind := range []string{"tmpfs", "limit"} {
		if err = parent(ctx, out, errOut, dir, kind); !errors.Is(err, errNoDisk) {
			break
		}
	}
	return err
}

var errNoDisk = errors.New("no small disk can be made here")

// exitNoDisk is how the child says so.
const exitNoDisk = 77

func parent(ctx context.Context, out, errOut io.Writer, dir, kind string) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "demo")
	cmd.Stdout, cmd.Stderr = out, errOut
	cmd.Env = append(os.Environ(), envDir+"="+dir, envKind+"="+kind)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if kind == "tmpfs" {
		attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		if uid := os.Getuid(); uid != 0 {
			attr.Cloneflags |= unix.CLONE_NEWUSER
			attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		cmd.SysProcAttr = attr
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: %w", errNoDisk, err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitNoDisk {
		return errNoDisk
	}
	return err
}

func child(ctx context.Context, out io.Writer, dir, kind string) error {
	disk := "a tmpfs of " + strconv.Itoa(diskBytes>>10) + " KiB"
	if kind == "tmpfs" {
		// The mounts of this namespace must not show in the one it came from.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			os.Exit(exitNoDisk)
		}
		if err := unix.Mount("demo", dir, "tmpfs", 0, "size="+strconv.Itoa(diskBytes)); err != nil {
			os.Exit(exitNoDisk)
		}
	} else {
		disk = "files may have " + strconv.Itoa(limitBytes>>10) + " KiB each (a resource limit: no tmpfs can be mounted here)"
		lim := unix.Rlimit{Cur: limitBytes, Max: limitBytes}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &lim); err != nil {
			return fmt.Errorf("limit the size of files: %w", err)
		}
	}
	sub := filepath.Join(dir, "conf")
	if err := os.Mkdir(sub, 0o700); err != nil {
		return err
	}
	return Run(ctx, out, sub, disk)
}

// limitBytes is the limit on a file's size where no disk can be mounted.
const limitBytes = 128 << 10
