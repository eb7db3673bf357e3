package fuzz

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// namespaceEnv names the test that runs in a mount namespace of its own.
const namespaceEnv = "MAILSPINE_FUZZ_NAMESPACE"

// namespaced runs a top-level test again in a process with a mount namespace of its own, so that nothing stays mounted
// however the test ends; loop devices free themselves with the last mount. It returns true in that process, where the
// test is to go on. Who is not root gets a user namespace too, where a tmpfs can be mounted but no image.
func namespaced(t *testing.T) bool {
	if os.Getenv(namespaceEnv) == t.Name() {
		require.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), "make the mounts private")
		return true
	}
	args := []string{"-test.run=^" + regexp.QuoteMeta(t.Name()) + "$", "-test.v", "-test.count=1", "-point=" + *point}
	if deadline, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+max(time.Until(deadline)-5*time.Second, time.Second).String())
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), namespaceEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Skipf("no mount namespace can be made here: %v", err)
	}
	err := cmd.Wait()
	text := out.String()
	switch {
	case err != nil:
		t.Fatalf("%v\n%s", err, text)
	case bytes.Contains(out.Bytes(), []byte("--- SKIP: "+t.Name()+" ")):
		t.Skip(text)
	case !bytes.Contains(out.Bytes(), []byte("--- PASS: "+t.Name()+" ")):
		t.Fatalf("the test did not run in its namespace:\n%s", text)
	}
	for line := range bytes.Lines(out.Bytes()) {
		if bytes.HasPrefix(line, []byte("    ")) {
			t.Log(string(bytes.TrimSpace(line)))
		}
	}
	return false
}

// disk is a mounted file system of a test.
type disk struct {
	dir, kind string
	mounted   bool
}

// errNoMount says that this kind of disk cannot be had here.
var errNoMount = errors.New("cannot be mounted here")

// mountTmpfs mounts a tmpfs on dir. Options are such as "size=64k,nr_inodes=5".
func mountTmpfs(dir, options string) (*disk, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount("fuzz", dir, "tmpfs", 0, options); err != nil {
		return nil, fmt.Errorf("tmpfs: %w: %w", errNoMount, err)
	}
	return &disk{dir: dir, kind: "tmpfs", mounted: true}, nil
}

// resize changes the options of a tmpfs.
func (d *disk) resize(options string) error {
	return unix.Mount("fuzz", d.dir, "tmpfs", unix.MS_REMOUNT, options)
}

// unmount retries for a moment: a file that a dying process had open keeps the disk busy.
func (d *disk) unmount() error {
	if !d.mounted {
		return nil
	}
	var err error
	for range 200 {
		if err = unix.Unmount(d.dir, 0); err != unix.EBUSY {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	d.mounted = err != nil
	return err
}

// makeImage makes a file system of a kind (ext4, xfs, btrfs) in a file.
func makeImage(image, kind string, size int64) error {
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	args := map[string][]string{
		"ext4":  {"-q", "-F", "-m", "0", "-I", "256", "-b", "4096"},
		"xfs":   {"-q", "-f"},
		"btrfs": {"-q", "-f", "--mixed"},
	}[kind]
	out, err := exec.Command("mkfs."+kind, append(args, image)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.%s: %w: %w: %s", kind, errNoMount, err, out)
	}
	return nil
}

// mountImage mounts an image on dir through a loop device that goes away with the mount.
func mountImage(image, kind, dir string) (*disk, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	loop, err := attach(image)
	if err != nil {
		return nil, fmt.Errorf("loop device: %w: %w", errNoMount, err)
	}
	defer loop.Close()
	if err := unix.Mount(loop.Name(), dir, kind, 0, ""); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", kind, errNoMount, err)
	}
	return &disk{dir: dir, kind: kind, mounted: true}, nil
}

// attach finds a free loop device, which somebody else may take at the same moment.
func attach(image string) (*os.File, error) {
	back, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer back.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range 100 {
		var n int
		if n, err = unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE); err != nil {
			return nil, err
		}
		var loop *os.File
		if loop, err = os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDWR, 0); err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(back.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		if err = unix.IoctlLoopConfigure(int(loop.Fd()), &config); err == nil {
			return loop, nil
		}
		loop.Close()
		if err != unix.EBUSY {
			return nil, err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil, err
}

// needTmpfs skips a test that runs in its namespace where even there nothing can be mounted.
func needTmpfs(t *testing.T) {
	d, err := mountTmpfs(filepath.Join(t.TempDir(), "try"), "size=64k")
	if err != nil {
		t.Skip(err)
	}
	require.NoError(t, d.unmount())
}

// ballast fills a disk to the last block.
type ballast struct{ path string }

// fill writes until there is no space; bytes is where it stops, if it is not negative.
func (b ballast) fill(bytes int64) error {
	f, err := os.OpenFile(b.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, piece := range []int{256 << 10, 4 << 10, 512, 1} {
		block := make([]byte, piece)
		for bytes < 0 || bytes >= int64(piece) {
			n, err := f.Write(block)
			if bytes >= 0 {
				bytes -= int64(n)
			}
			if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
				break
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (b ballast) release() error { return removeIfThere(b.path) }
