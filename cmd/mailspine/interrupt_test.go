//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// start runs the program in a process of its own. kill sends it a signal and returns its exit code.
func start(t *testing.T, stdin io.Reader, args ...string) (kill func(os.Signal) int, stderr *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command("mailspine", args...)
	stderr = new(bytes.Buffer)
	cmd.Stdin, cmd.Stderr = stdin, stderr
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return func(s os.Signal) int {
		require.NoError(t, cmd.Process.Signal(s))
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
			t.Errorf("%s does not end", strings.Join(args, " "))
		}
		return cmd.ProcessState.ExitCode()
	}, stderr
}

// manyRecords makes a database of n records.
func manyRecords(t *testing.T, format skiplist.Format, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := skiplist.Open(t.Context(), path, skiplist.Options{Format: format, Create: true})
	require.NoError(t, err)
	require.NoError(t, db.Update(t.Context(), func(tx *skiplist.Tx) error {
		for i := range n {
			if err := tx.Put(fmt.Appendf(nil, "user.u%07d", i), fmt.Appendf(nil, "%%(A %%(u%d lrswipkxtecda) P default)", i)); err != nil {
				return err
			}
		}
		return nil
	}))
	require.NoError(t, db.Close())
	return path
}

// lock holds the file's exclusive lock, as another writer does.
func lock(t *testing.T, path string) (unlock func()) {
	t.Helper()
	f, err := vfs.OS().Open(path, vfs.ReadWrite, 0)
	require.NoError(t, err)
	require.NoError(t, f.Lock(t.Context(), vfs.Exclusively))
	return func() { require.NoError(t, f.Close()) }
}

// waited tells whether somebody waits for a lock on the file.
func waited(t *testing.T, path string) bool {
	t.Helper()
	info, err := vfs.OS().Stat(path)
	require.NoError(t, err)
	locks, err := os.ReadFile("/proc/locks")
	require.NoError(t, err)
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, "->") && strings.Contains(line, fmt.Sprintf(":%d ", info.Ino)) {
			return true
		}
	}
	return false
}

func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to wait")
		}
	}
}

// TestInterruptWaiting interrupts every verb while it waits: for the lock that another process holds, or for its input.
// It ends at once, with status 32, has changed nothing, and works when it is run again.
func TestInterruptWaiting(t *testing.T) {
	path := manyRecords(t, skiplist.Twoskip, 10)
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	out := filepath.Join(t.TempDir(), "out")
	for _, args := range []string{
		"info", "show", "get a", "set a 1", "delete a", "batch", "check", "recover", "repack", "salvage --out " + out, "backup " + out,
	} {
		for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
			unlock := lock(t, path)
			kill, stderr := start(t, nil, append([]string{"db", strings.Fields(args)[0], path}, strings.Fields(args)[1:]...)...)
			waitUntil(t, func() bool { return waited(t, path) })
			require.Equal(t, exitInterrupted, kill(s), args)
			require.Equal(t, "mailspine: interrupted\n", stderr.String(), args)
			unlock()
		}
	}
	for _, args := range []string{"get", "set", "delete", "batch"} {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		kill, stderr := start(t, r, "db", args, path)
		_, err = io.WriteString(w, "SHOW x\n")
		require.NoError(t, err)
		waitUntil(t, func() bool { // the line is read
			n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
			return err == nil && n == 0
		})
		require.Equal(t, exitInterrupted, kill(os.Interrupt), args)
		require.NoError(t, errors.Join(r.Close(), w.Close()))
		require.Equal(t, "mailspine: interrupted\n", stderr.String(), args)
	}
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.NoFileExists(t, out)
	_, stderr, code := cli(t, []byte("SET a 1\n"), "db", "batch", path)
	require.Zero(t, code, stderr)
}

// TestInterruptTwiceAtOnce sends a backup the same signal twice, as timeout does, at several moments of its work. It ends
// as after one, and leaves nothing half written.
func TestInterruptTwiceAtOnce(t *testing.T) {
	path := manyRecords(t, skiplist.Twoskip, 40_000)
	interrupted := 0
	for i := range 12 {
		dir := t.TempDir()
		cmd := exec.Command("mailspine", "db", "backup", path, filepath.Join(dir, "out"))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		require.NoError(t, cmd.Start())
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) { // until it writes
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			if len(left) > 0 {
				break
			}
			require.True(t, time.Now().Before(deadline), "it does not come to write")
		}
		time.Sleep(time.Duration(i) * 5 * time.Millisecond)
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		time.Sleep(2 * time.Millisecond)
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		if code := cmd.ProcessState.ExitCode(); code != exitOK {
			require.Equal(t, exitInterrupted, code, stderr.String())
			require.Empty(t, left)
			interrupted++
		} else {
			require.Len(t, left, 1)
		}
	}
	require.NotZero(t, interrupted)
}

// TestDemoBrokenPipe closes the pipe into which the demo writes: it ends without a word.
func TestDemoBrokenPipe(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	cmd := exec.Command("mailspine", "demo", "--disk", "limit")
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &stderr
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	_, err = r.Read(make([]byte, 10))
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.Error(t, cmd.Wait())
	require.Empty(t, stderr.String())
}

// TestInterruptInTransaction interrupts a batch between BEGIN and COMMIT.
func TestInterruptInTransaction(t *testing.T) {
	path := manyRecords(t, skiplist.Skiplist, 10)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	kill, _ := start(t, r, "db", "batch", path)
	_, err = io.WriteString(w, "SET kept 1\nBEGIN\nSET dropped 1\n")
	require.NoError(t, err)
	f, err := vfs.OS().Open(path, vfs.ReadWrite, 0)
	require.NoError(t, err)
	defer f.Close()
	size := func() int64 { info, err := f.Stat(); require.NoError(t, err); return info.Size }
	whole := size()
	waitUntil(t, func() bool {
		if size() == whole || f.TryLock(vfs.Shared) != nil {
			return size() > whole // the first change is made, and the transaction holds the lock
		}
		require.NoError(t, f.Unlock())
		return false
	})
	require.Equal(t, exitInterrupted, kill(os.Interrupt))
	out, _, code := cli(t, nil, "db", "show", path)
	require.Zero(t, code)
	require.Contains(t, out, "kept\t1\n")
	require.NotContains(t, out, "dropped")
}

// interrupter ends a context at the n-th write of progress.
type interrupter struct {
	n      int
	cancel context.CancelFunc
	bytes.Buffer
}

func (i *interrupter) Write(p []byte) (int, error) {
	if i.n--; i.n == 0 {
		i.cancel()
	}
	return i.Buffer.Write(p)
}

// TestInterruptWorking interrupts the long verbs while they work, at the first sign of progress: no new file is left, the
// old one is as it was, and the next run does the work.
func TestInterruptWorking(t *testing.T) {
	const records = 40_000
	clock := time.Unix(0, 0)
	now := func() time.Time { clock = clock.Add(time.Minute); return clock } // nobody is patient
	for _, format := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		path := manyRecords(t, format, records)
		before, err := fingerprint(filepath.Dir(path))
		require.NoError(t, err)
		out := filepath.Join(t.TempDir(), "out")
		for _, args := range [][]string{
			{"check", path}, {"repack", path}, {"backup", path, out}, {"salvage", path, "--out", out}, {"info", path},
		} {
			ctx, cancel := context.WithCancel(t.Context())
			errs := &interrupter{n: 1, cancel: cancel}
			args := append([]string{"db"}, args...)
			if os.Geteuid() == 0 {
				args = append(args, "--as", "root")
			}
			code := run(ctx, args, streams{in: nil, out: io.Discard, err: errs, errTerminal: true, now: now})
			cancel()
			require.Equal(t, exitInterrupted, code, "%v: %s", args, errs)
			require.Contains(t, errs.String(), "\r\x1b[K", "the progress line")
			require.True(t, strings.HasSuffix(errs.String(), "\r\x1b[Kmailspine: interrupted\n"), "%q", errs)
			after, err := fingerprint(filepath.Dir(path))
			require.NoError(t, err)
			if args[1] != "repack" { // which makes a file beside it, and removes it
				require.Equal(t, before, after, "%v", args)
			}
			require.NoFileExists(t, path+".NEW")
			left, err := os.ReadDir(filepath.Dir(out))
			require.NoError(t, err)
			require.Empty(t, left)
		}
		_, stderr, code := cli(t, nil, "db", "repack", path)
		require.Zero(t, code, stderr)
		_, stderr, code = cli(t, nil, "db", "check", path)
		require.Zero(t, code, stderr)
	}
}

// TestQuotaProgress: on a terminal a count that takes a while shows how far it has come, how fast, and how long it will take.
func TestQuotaProgress(t *testing.T) {
	dir := fixture(t, "wrong quotas")
	now := time.Unix(0, 0)
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"quota", "-f", "-C", filepath.Join(dir, "imapd.conf")}, streams{out: &out, err: &errs, errTerminal: true,
		now: func() time.Time { now = now.Add(time.Second); return now }})
	require.Zero(t, code, errs.String())
	require.Regexp(t, `quota roots \[=+\] 100 %, 1 roots/s`, errs.String())
	require.Contains(t, errs.String(), "\r\x1b[Kmailspine: 1 quota root counted", "what is said does not stand behind the progress")
}

// TestInterruptQuota interrupts the verbs of mailspine quota while they wait for a mailbox that another process holds: they end at once,
// with status 32, no root is changed, and run again they do their work.
func TestInterruptQuota(t *testing.T) {
	dir := fixture(t, "wrong quotas")
	conf := filepath.Join(dir, "imapd.conf")
	program, err := exec.LookPath("mailspine")
	require.NoError(t, err)
	link := filepath.Join(dir, linkName)
	require.NoError(t, os.Symlink(program, link))
	path, err := exec.Command("mailspine", "mailbox", "path", "--kind", "index", "-C", conf, "user.fred.Trash").Output()
	require.NoError(t, err)
	index := strings.TrimSpace(string(path))
	root := filepath.Join(dir, "imap", "quota", "f", "user.fred")
	before, err := os.ReadFile(root)
	require.NoError(t, err)
	for _, args := range [][]string{
		{"mailspine", "quota", "-f"}, {"mailspine", "quota", "-f", "-n", "--jobs", "1"}, {"mailspine", "quota", "check"}, {link, "-f"},
	} {
		for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
			unlock := lock(t, index)
			cmd := exec.Command(args[0], append(args[1:], "-C", conf)...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			require.NoError(t, cmd.Start())
			waitUntil(t, func() bool { return waited(t, index) })
			require.NoError(t, cmd.Process.Signal(s))
			var exit *exec.ExitError
			require.ErrorAs(t, cmd.Wait(), &exit, args)
			require.Equal(t, exitInterrupted, exit.ExitCode(), args)
			require.Equal(t, "interrupted\n", strings.TrimPrefix(stderr.String(), "mailspine: "), args)
			require.Empty(t, stdout.String(), args)
			unlock()
			after, err := os.ReadFile(root)
			require.NoError(t, err)
			require.Equal(t, before, after, args)
		}
	}
	out, err := exec.Command("mailspine", "quota", "-f", "-C", conf).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "user.fred: STORAGE usage was 99999, now ")
}
