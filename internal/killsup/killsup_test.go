//go:build linux && (amd64 || arm64)

package killsup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	Main()
	if name := os.Getenv(childEnv); name != "" {
		os.Exit(children[name](os.Args[1]))
	}
	os.Exit(m.Run())
}

// run starts the named child (see children) on a fresh directory.
func run(t *testing.T, name string, plan Plan) (res Result, dir, stdout string) {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	dir = t.TempDir()
	plan.Dir = dir
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	var out, errout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errout
	res, err := Run(ctx, cmd, plan)
	if err != nil {
		t.Fatalf("run %s: %v\n%s", name, err, &errout)
	}
	if !res.Fired && !res.State.Success() {
		t.Fatalf("child %s failed: %v\n%s", name, res.State, &errout)
	}
	return res, dir, out.String()
}

// trace is the calls' names and base names of files.
func trace(calls []Call) (list []string) {
	for _, c := range calls {
		line := c.Name + " " + filepath.Base(c.Path)
		if c.NewPath != "" {
			line += " " + filepath.Base(c.NewPath)
		}
		list = append(list, line)
	}
	return list
}

// sequence is what the child "steps" does.
var sequence = []string{
	"openat a", "write a", "fsync a", "pwrite64 a", "writev a", "fdatasync a", "ftruncate a", "fallocate a",
	"mkdirat d", "renameat a b", "linkat b c", "unlinkat b", "openat d", "write d",
}

func TestCountIsDeterministic(t *testing.T) {
	t.Parallel()
	for range 5 {
		res, dir, stdout := run(t, "steps", Plan{})
		got := trace(res.Calls)
		got[12], got[13] = strings.Replace(got[12], "late", "d", 1), strings.Replace(got[13], "late", "d", 1)
		if !slices.Equal(got, sequence) {
			t.Fatalf("calls\n%q\nwant\n%q", got, sequence)
		}
		if res.Fired || strings.Count(stdout, "ACK") != 1 {
			t.Errorf("fired %v, stdout %q", res.Fired, stdout)
		}
		for i, c := range res.Calls {
			if c.N != i+1 || c.Faulted {
				t.Errorf("call %d: %+v", i, c)
			}
		}
		if c := res.Calls[3]; c.Offset != 5 || c.Len != 3 || c.Path != filepath.Join(dir, "a") {
			t.Errorf("pwrite: %+v", c)
		}
		if c := res.Calls[4]; c.Len != 7 {
			t.Errorf("writev: %+v", c)
		}
	}
}

func TestKillBeforeEachCall(t *testing.T) {
	t.Parallel()
	for n := 1; n <= len(sequence)+1; n++ {
		res, dir, stdout := run(t, "steps", Plan{Action: Kill, At: n})
		if n > len(sequence) {
			if res.Fired || stdout != "ACK\n" {
				t.Errorf("after the last call: fired %v, stdout %q", res.Fired, stdout)
			}
			break
		}
		status := res.State.Sys().(syscall.WaitStatus)
		if !res.Fired || !status.Signaled() || status.Signal() != unix.SIGKILL || len(res.Calls) != n || !res.Calls[n-1].Faulted {
			t.Fatalf("kill at %d: fired %v, %v, %d calls", n, res.Fired, res.State, len(res.Calls))
		}
		if stdout != "" {
			t.Errorf("kill at %d: stdout %q", n, stdout)
		}
		checkState(t, dir, n-1)
	}
}

// checkState compares the directory with what the first done calls of "steps" leave behind.
func checkState(t *testing.T, dir string, done int) {
	t.Helper()
	content := ""
	for i, full := range []string{"", "", "hello", "hello", "hellobye", "hellobyeabcdefg", "hellobyeabcdefg", "hell"} {
		if done >= i {
			content = full
		}
	}
	if done >= 8 {
		content = "hell" + strings.Repeat("\x00", 60)
	}
	want := map[string]string{}
	if done >= 1 && done < 10 {
		want["a"] = content
	}
	if done >= 9 {
		want["d"] = "dir"
	}
	if done == 10 || done == 11 {
		want["b"] = content
	}
	if done >= 11 {
		want["c"] = content
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		if e.IsDir() {
			got[e.Name()] = "dir"
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(b)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("after %d calls: %q, want %q", done, got, want)
	}
}

func TestKillAfterLetsNoAckOut(t *testing.T) {
	t.Parallel()
	for n := 1; n <= len(sequence); n++ {
		res, dir, stdout := run(t, "steps", Plan{Action: KillAfter, At: n})
		if !res.Fired || len(res.Calls) != n || res.State.Success() || stdout != "" {
			t.Fatalf("kill after %d: fired %v, %d calls, %v, stdout %q", n, res.Fired, len(res.Calls), res.State, stdout)
		}
		checkState(t, dir, n)
	}
}

func TestTornWriteThenKill(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{2: "he", 4: "helloby", 5: "hellobyeab"} {
		res, dir, _ := run(t, "steps", Plan{Action: Kill, At: n, Bytes: 2})
		got, err := os.ReadFile(filepath.Join(dir, "a"))
		if err != nil || string(got) != want || !res.Fired {
			t.Errorf("torn call %d: %q, %v, want %q", n, got, err, want)
		}
	}
}

func TestErrnoReachesChild(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		plan Plan
		want string
	}{
		{Plan{Action: Observe}, "3 3 3 3 3 3"},
		{Plan{Action: Errno, At: 3, Errno: unix.ENOSPC}, "3 ENOSPC 3 3 3 3"},
		{Plan{Action: Errno, At: 3, Errno: unix.EIO, Persistent: true}, "3 EIO EIO EIO EIO EIO"},
		{Plan{Action: Errno, At: 2, Errno: unix.EDQUOT, Every: 2}, "EDQUOT 3 EDQUOT 3 EDQUOT 3"},
		{Plan{Action: Short, At: 3, Bytes: 2}, "3 2 3 3 3 3"},
		{Plan{Action: Short, At: 3, Bytes: 2, Errno: unix.ENOSPC}, "3 2 ENOSPC 3 3 3"},
		{Plan{Action: Short, At: 3, Bytes: 1, Errno: unix.ENOSPC, Persistent: true}, "3 1 ENOSPC ENOSPC ENOSPC ENOSPC"},
		{Plan{Action: Short, At: 3, Bytes: 3, Errno: unix.ENOSPC}, "3 3 3 3 3 3"},
	} {
		res, _, stdout := run(t, "errors", c.plan)
		if strings.TrimSpace(stdout) != c.want {
			t.Errorf("%+v: child saw %q, want %q", c.plan, stdout, c.want)
		}
		if fired := c.want != "3 3 3 3 3 3"; res.Fired != fired || !res.State.Success() {
			t.Errorf("%+v: fired %v, %v", c.plan, res.Fired, res.State)
		}
	}
}

func TestMatchLimitsCounting(t *testing.T) {
	t.Parallel()
	res, _, _ := run(t, "steps", Plan{Match: func(c *Call) bool { return strings.HasPrefix(c.Name, "f") }})
	if got := trace(res.Calls); len(got) != 4 || got[3] != "fallocate a" {
		t.Errorf("matched %q", got)
	}
	res, _, _ = run(t, "steps", Plan{Match: NeedsSpace})
	for _, c := range res.Calls {
		if c.Name == "unlinkat" || c.Name == "ftruncate" {
			t.Errorf("%s does not need space", c.Name)
		}
	}
}

// TestThreads checks that all threads share one count and that none goes on after the kill.
func TestThreads(t *testing.T) {
	t.Parallel()
	const calls = threads * (1 + 2*rounds)
	res, _, _ := run(t, "threads", Plan{})
	if len(res.Calls) != calls {
		t.Errorf("%d calls, want %d", len(res.Calls), calls)
	}
	seen := map[int]bool{}
	for _, c := range res.Calls {
		seen[c.Thread] = true
	}
	if len(seen) < 2 {
		t.Errorf("calls of %d threads", len(seen))
	}
	for n := 10; n < calls; n += 37 {
		res, dir, _ := run(t, "threads", Plan{Action: Kill, At: n})
		if !res.Fired || len(res.Calls) != n {
			t.Fatalf("kill at %d: fired %v after %d calls", n, res.Fired, len(res.Calls))
		}
		written, sum := map[string]int64{}, int64(0)
		for _, c := range res.Calls[:n-1] {
			if c.Name == "write" {
				written[c.Path] += c.Len
			}
		}
		for path, want := range written {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			// Calls that were let through just before the kill may have been cut off by it, later ones never ran.
			if info.Size() > want || info.Size() < want-4 {
				t.Errorf("kill at %d: %s has %d bytes, counted %d", n, path, info.Size(), want)
			}
			sum += info.Size()
		}
		if files, _ := os.ReadDir(dir); len(files) > threads || sum == 0 {
			t.Errorf("kill at %d: %d files, %d bytes", n, len(files), sum)
		}
	}
}

// TestGrandchildren checks that a process started by the child is counted and killed with it.
func TestGrandchildren(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", "echo one >x; (echo two >y; sleep 60 >z) & wait; echo late >w")
	cmd.Dir = dir
	begin := time.Now()
	res, err := Run(t.Context(), cmd, Plan{Dir: dir, Action: Kill, At: 5})
	if err != nil {
		t.Fatal(err)
	}
	got := trace(res.Calls)
	if want := []string{"openat x", "write x", "openat y", "write y", "openat z"}; !slices.Equal(got, want) || !res.Fired {
		t.Errorf("calls %q, want %q", got, want)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %v: the sleeping grandchild was not killed", took)
	}
}

func TestContextEndsRun(t *testing.T) {
	t.Parallel()
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, exec.Command("sleep", "60"), Plan{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline's", err)
	}
}

func TestCommandThatDoesNotExist(t *testing.T) {
	t.Parallel()
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	if _, err := Run(t.Context(), exec.Command("/nonexistent/program"), Plan{}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error %v, want no such file", err)
	}
	if _, err := Run(t.Context(), exec.Command("no-such-program-at-all"), Plan{}); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("error %v, want %v", err, exec.ErrNotFound)
	}
}

// BenchmarkRun measures one run of a small Go child that makes 14 counted calls.
func BenchmarkRun(b *testing.B) {
	if err := Supported(); err != nil {
		b.Skip(err)
	}
	for b.Loop() {
		dir := b.TempDir()
		cmd := exec.Command(os.Args[0], dir)
		cmd.Env = append(os.Environ(), childEnv+"=steps")
		if _, err := Run(b.Context(), cmd, Plan{Dir: dir, Action: Kill, At: 14}); err != nil {
			b.Fatal(err)
		}
	}
}
