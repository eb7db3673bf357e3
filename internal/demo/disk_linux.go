package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// Environment variables for the child that plays the story on the small disk.
const (
	envDir  = "MAILSPINE_DEMO_DIR"
	envKind = "MAILSPINE_DEMO_DISK"
)

// Main plays the story on a small disk that it makes and removes: a tmpfs in a mount namespace of its own, which needs no
// privilege where user namespaces are allowed; else a limit on the size of files stands in for the disk.
func Main(ctx context.Context, o Options) error {
	if dir := os.Getenv(envDir); dir != "" {
		return child(ctx, o, dir, os.Getenv(envKind))
	}
	dir, err := os.MkdirTemp("", "mailspine-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.Kind != "auto" {
		return parent(ctx, o, dir, o.Kind)
	}
	err = parent(ctx, o, dir, "tmpfs")
	if errors.Is(err, errNoDisk) && ctx.Err() == nil {
		err = parent(ctx, o, dir, "limit")
	}
	return err
}

var errNoDisk = errors.New("no small disk can be made here")

// exitNoDisk is how the child says so.
const exitNoDisk = 77

// parent runs this program once more, where it has a disk of its own.
func parent(ctx context.Context, o Options, dir, kind string) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "demo")
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = o.Out, o.Err
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

// child has a mount namespace of its own, if kind is tmpfs, and plays the story in it.
func child(ctx context.Context, o Options, dir, kind string) error {
	sub := filepath.Join(dir, "conf")
	var disk Disk = &limited{}
	if kind == "tmpfs" {
		// The mounts of this namespace must not show in the one it came from.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			os.Exit(exitNoDisk)
		}
		if err := unix.Mount("demo", dir, "tmpfs", 0, "size="+strconv.Itoa(diskBytes)); err != nil {
			os.Exit(exitNoDisk)
		}
		disk = &mounted{dir: sub}
	}
	if err := os.Mkdir(sub, 0o700); err != nil {
		return err
	}
	return errors.Join(Run(ctx, o, sub, disk), disk.Close())
}

// enough is how many changes have to be refused until the disk counts as full.
const enough = 50

// diskBytes is the size of the small disk.
const diskBytes = 4 << 20

// mounted is a small file system.
type mounted struct{ dir string }

func (m *mounted) Describe() []string {
	return []string{fmt.Sprintf("a file system of %d KiB in memory, mounted for this demo alone", diskBytes>>10)}
}

func (m *mounted) Options() skiplist.Options { return skiplist.Options{} }
func (m *mounted) Close() error              { return nil }
func (m *mounted) HasReserve() bool          { return true }

// core is the file that eats the disk.
func (m *mounted) core() string { return filepath.Join(m.dir, "core") }

// Fill writes a core file until there is no space, and on until enough was refused: what others free it takes.
func (m *mounted) Fill(ctx context.Context, _ string, refused func() int64) (string, error) {
	f, err := vfs.OS().Open(m.core(), vfs.ReadWrite|vfs.Create, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	block := make([]byte, 128<<10)
	var size int64
	for n := len(block); refused() < enough; time.Sleep(time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return "", fmt.Errorf("the disk did not fill up: %w", err)
		}
		k, err := f.WriteAt(block[:n], size)
		size += int64(k)
		if err != nil { // full: take what is left in small pieces
			n = 512
		}
	}
	return fmt.Sprintf("core dumps of %d KiB take every block there is", size>>10), nil
}

// StillFull has the core file grow by what there is.
func (m *mounted) StillFull() (string, error) {
	f, err := vfs.OS().Open(m.core(), vfs.ReadWrite, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	for size := info.Size; err == nil; size += 512 {
		_, err = f.WriteAt(make([]byte, 512), size)
	}
	if !errors.Is(err, unix.ENOSPC) {
		return "", err
	}
	space, err := vfs.OS().StatFS(m.dir)
	if err == nil && space.FreeBytes > 0 {
		err = fmt.Errorf("the disk has %d bytes free", space.FreeBytes)
	}
	return "0 bytes free", err
}

// Free removes the core file.
func (m *mounted) Free() error {
	if err := vfs.OS().Unlink(m.core()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// limited is no disk of its own, but a limit of this process on the size of files, which is lowered for a while.
type limited struct{ before *unix.Rlimit }

func (l *limited) Describe() []string {
	return []string{
		"none can be mounted here: a limit on the size of files stands in for it,",
		"and checkpoints are off, because the limit would not keep them from working",
	}
}

func (l *limited) Options() skiplist.Options { return skiplist.Options{ManualCheckpoint: true} }
func (l *limited) Close() error              { return l.Free() }
func (l *limited) HasReserve() bool          { return false }

// roomBytes is how much a file may still grow under the limit.
const roomBytes = 32 << 10

// Fill sets the limit a little behind the end of the file, and waits until enough was refused.
func (l *limited) Fill(ctx context.Context, file string, refused func() int64) (string, error) {
	info, err := vfs.OS().Stat(file)
	if err != nil {
		return "", err
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		return "", fmt.Errorf("ask for the limit on files: %w", err)
	}
	limit := uint64(info.Size + roomBytes)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: was.Max}); err != nil {
		return "", fmt.Errorf("limit the size of files: %w", err)
	}
	l.before = &was
	for refused() < enough {
		if err := ctx.Err(); err != nil {
			return "", fmt.Errorf("the limit was not reached: %w", err)
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Sprintf("no file may grow beyond %d KiB any more", limit>>10), nil
}

// StillFull finds the limit in place.
func (l *limited) StillFull() (string, error) {
	if l.before == nil {
		return "", errors.New("there is no limit")
	}
	return "the limit is still there", nil
}

// Free lifts the limit.
func (l *limited) Free() error {
	if l.before == nil {
		return nil
	}
	err := unix.Setrlimit(unix.RLIMIT_FSIZE, l.before)
	l.before = nil
	return err
}
