package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mailspine/mailspine/internal/realcyrus"
)

// TestMain lets the scripts, and the tests that need a process of its own, run this test binary as mailspine, and as quota.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mailspine": func() { os.Exit(program()) }, linkName: func() { os.Exit(program()) }})
}

// TestScripts runs the scripts in testdata/script. Beside the commands of testscript they have:
//
//	status N PROGRAM [ARG...]   run it and expect the exit status
//	damage FILE                 destroy 256 bytes in the middle
//	tear FILE                   leave what a crash leaves: bytes without a commit behind the last one
//	remember DIR, unchanged DIR every name, byte, time, owner and mode in DIR is as it was
//	unlucky PROGRAM [ARG...]    run it as a user who is not root, whoever runs the test
//	owned PATH USER             expect the owner
//
// and the conditions [root], [unprivileged] (there is a way not to be root), [tmpfs] (a disk can be mounted in a user
// namespace) and [cyrus] (the real one is here).
func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

func runScripts(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		WorkdirRoot:         openDir(t),
		Setup: func(env *testscript.Env) error {
			// Every user may work here, and no locale and no terminal decides what is printed.
			env.Setenv("LC_ALL", "C")
			env.Setenv("CYRUS", cyrusDir())
			return errors.Join(os.Chmod(env.WorkDir, 0o777), os.Chmod(filepath.Join(env.WorkDir, ".tmp"), 0o1777))
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": scriptStatus, "damage": scriptDamage, "tear": scriptTear, "remember": scriptRemember,
			"unchanged": scriptUnchanged, "unlucky": scriptUnlucky, "owned": scriptOwned,
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "unprivileged":
				return os.Geteuid() != 0 || canSetpriv(), nil
			case "tmpfs":
				return canMount(), nil
			case "cyrus":
				return cyrusDir() != "", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	})
}

// openDir is a directory that every user can reach, unlike that of t.TempDir.
func openDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "mailspine-cli-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func canSetpriv() bool {
	return exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "true").Run() == nil
}

func canMount() bool {
	return exec.Command("unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt").Run() == nil
}

// cyrusDir is where Cyrus's programs are, empty if they are not or cannot be used here.
func cyrusDir() string {
	path, err := realcyrus.Program("cyr_dbtool")
	if err != nil || os.Geteuid() != 0 {
		if os.Getenv("MAILSPINE_REQUIRE_CYRUS") == "1" {
			panic("MAILSPINE_REQUIRE_CYRUS=1, but Cyrus's programs cannot be used")
		}
		return ""
	}
	return filepath.Dir(path)
}

func scriptStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s: exit status %d, not %d\nstdout: %s\nstderr: %s", strings.Join(args[1:], " "), got, want,
			ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

func scriptDamage(ts *testscript.TestScript, _ bool, args []string) {
	b, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	const damaged = 256
	clear(b[len(b)/2 : len(b)/2+damaged])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0))
}

func scriptTear(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_WRONLY, 0)
	ts.Check(err)
	_, err = f.WriteString("half a transaction..")
	ts.Check(errors.Join(err, f.Close()))
}

// fingerprint describes everything in a directory.
func fingerprint(dir string) (string, error) {
	var text strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		sum := ""
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum = fmt.Sprintf("%x", sha256.Sum256(b))
		}
		_, err = fmt.Fprintln(&text, path, info.Mode(), info.Size(), info.ModTime().UnixNano(), ownerOf(info), sum)
		return err
	})
	return text.String(), err
}

func scriptRemember(ts *testscript.TestScript, _ bool, args []string) {
	text, err := fingerprint(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Setenv("remembered_"+args[0], text)
}

func scriptUnchanged(ts *testscript.TestScript, _ bool, args []string) {
	now, err := fingerprint(ts.MkAbs(args[0]))
	ts.Check(err)
	if before := ts.Getenv("remembered_" + args[0]); before != now {
		ts.Fatalf("%s has changed:\nbefore\n%s\nnow\n%s", args[0], before, now)
	}
}

func scriptUnlucky(ts *testscript.TestScript, neg bool, args []string) {
	if os.Geteuid() == 0 {
		args = append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, args...)
	}
	scriptStatus(ts, neg, append([]string{"8"}, args...))
}

func scriptOwned(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := ownerOf(info); got != args[1] {
		ts.Fatalf("%s belongs to %s, not to %s", args[0], got, args[1])
	}
}
