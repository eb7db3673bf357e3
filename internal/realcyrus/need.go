// Package realcyrus lets tests and campaigns compare mailspine with the real Cyrus IMAP, where it is installed: it runs
// a private server on loopback and fills it, runs Cyrus's programs on copies of files, and drives libcyrus itself
// through a small C program, the [Oracle], with true return codes.
//
// It is for tests only. Each entry needs some of Cyrus: call [Need] or one of its finer forms first, which skip the
// test where that is missing, or fail it if the environment has MAILSPINE_REQUIRE_CYRUS=1. All files live in
// directories made for the test; nothing of a system's own Cyrus is read or changed.
//
// Written for the Cyrus 3.6 of Debian 12 (packages cyrus-common cyrus-imapd cyrus-admin cyrus-dev sasl2-bin).
package realcyrus

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// requireEnv, set to 1, makes a missing Cyrus a failure: a run that must prove compatibility cannot pass by skipping.
const requireEnv = "MAILSPINE_REQUIRE_CYRUS"

// install is the advice given with a skip.
const install = "install cyrus-common cyrus-imapd cyrus-admin cyrus-dev sasl2-bin"

// cyrusHeader is the interface of libcyrus, which the oracle includes.
const cyrusHeader = "/usr/include/cyrus/cyrusdb.h"

// binDirs are where distributions put Cyrus's programs.
var binDirs = []string{"/usr/lib/cyrus/bin", "/usr/lib/cyrus-imapd", "/usr/libexec/cyrus-imapd", "/usr/cyrus/bin"}

// Need skips the test unless everything is here: programs, server and oracle.
func Need(t testing.TB) {
	t.Helper()
	need(t, errors.Join(programsMissing(), serverMissing(), oracleMissing()))
}

// NeedPrograms skips the test unless Cyrus's programs are installed and can be run as their user.
func NeedPrograms(t testing.TB) {
	t.Helper()
	need(t, programsMissing())
}

// NeedServer skips the test unless a private server can be started, which takes root.
func NeedServer(t testing.TB) {
	t.Helper()
	need(t, errors.Join(programsMissing(), serverMissing()))
}

// EachLayout runs a test on both kinds of store worth testing, the default and [LegacyLayout], at once. It is skipped unless a
// private server can be started.
func EachLayout(t *testing.T, test func(t *testing.T, layout string, o Options)) {
	t.Helper()
	NeedServer(t)
	t.Parallel()
	for layout, o := range map[string]Options{"uuid": {}, "legacy": LegacyLayout()} {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			test(t, layout, o)
		})
	}
}

// NeedOracle skips the test unless the oracle can be compiled. It needs no root.
func NeedOracle(t testing.TB) {
	t.Helper()
	need(t, oracleMissing())
}

// HaveOracle tells whether the oracle can be compiled, for campaigns that also make sense without it. Where Cyrus is
// required and missing it fails the test.
func HaveOracle(t testing.TB) bool {
	t.Helper()
	missing := oracleMissing()
	if missing != nil && os.Getenv(requireEnv) == "1" {
		need(t, missing)
	}
	return missing == nil
}

// need skips or fails the test if missing is an error.
func need(t testing.TB, missing error) {
	t.Helper()
	if missing == nil {
		return
	}
	text := strings.ReplaceAll(missing.Error(), "\n", "; ")
	if os.Getenv(requireEnv) == "1" {
		t.Fatalf("%s=1, but the real Cyrus is not usable: %s (%s)", requireEnv, text, install)
	}
	t.Skipf("no real Cyrus: %s (%s)", text, install)
}

// programsMissing tells why Cyrus's programs cannot be used.
func programsMissing() error {
	for _, name := range []string{"cyr_dbtool", "ctl_cyrusdb", "ctl_mboxlist", "cvt_cyrusdb", "reconstruct", "quota", "mbexamine"} {
		if _, err := Program(name); err != nil {
			return err
		}
	}
	_, err := credential()
	return err
}

// serverMissing tells why no server can be started.
func serverMissing() error {
	for _, name := range []string{"master", "imapd", "lmtpd"} {
		if _, err := Program(name); err != nil {
			return err
		}
	}
	if _, err := exec.LookPath("saslpasswd2"); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("only root can start a server")
	}
	return nil
}

// oracleMissing tells why the oracle cannot be compiled.
func oracleMissing() error {
	if _, err := exec.LookPath("gcc"); err != nil {
		return err
	}
	if _, err := os.Stat(cyrusHeader); err != nil {
		return fmt.Errorf("headers of libcyrus: %w", err)
	}
	return nil
}

// Program returns the path of one of Cyrus's programs.
func Program(name string) (string, error) {
	for _, dir := range binDirs {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("no program %s in %s", name, strings.Join(binDirs, ", "))
}

// identity is the user that Cyrus's programs run as.
type identity struct {
	uid, gid uint32
	groups   []uint32
}

// credential returns the identity to give to Cyrus's programs: nil if this process has it already.
func credential() (*identity, error) {
	u, err := user.Lookup("cyrus")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user id of cyrus: %w", err)
	}
	if os.Geteuid() == int(uid) {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("only root and cyrus can run the programs")
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("group id of cyrus: %w", err)
	}
	id := &identity{uid: uint32(uid), gid: uint32(gid)}
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of cyrus: %w", err)
	}
	for _, g := range groups {
		if n, err := strconv.ParseUint(g, 10, 32); err == nil {
			id.groups = append(id.groups, uint32(n))
		}
	}
	return id, nil
}

// own gives a tree to the user cyrus.
func own(dir string) error {
	id, err := credential()
	if err != nil || id == nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, int(id.uid), int(id.gid))
		}
		if path != dir && errors.Is(err, os.ErrNotExist) {
			return nil // a server that runs makes files and removes them
		}
		return err
	})
}

// TempDir is like t.TempDir, but the user cyrus can reach it and owns it.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mailspine-cyrus-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	if _, err := credential(); err == nil {
		if err := own(dir); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Output is what a program left behind.
type Output struct {
	Stdout, Stderr string
	// Code is the exit status, or -1 if a signal ended the program.
	Code int
}

// runProgram runs one of Cyrus's programs as the user cyrus. Only failing to start it is an error.
func runProgram(name string, stdin []byte, args ...string) (Output, error) {
	cmd, err := command(name, args...)
	if err != nil {
		return Output{}, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return Output{}, err
	}
	return Output{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}, nil
}

// command prepares one of Cyrus's programs to run as the user cyrus.
func command(name string, args ...string) (*exec.Cmd, error) {
	path, err := Program(name)
	if err != nil {
		return nil, err
	}
	id, err := credential()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = "/"
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CYRUS_") })
	become(cmd, id)
	return cmd, nil
}

// become lets a command run under an identity, if it is not nil.
func become(cmd *exec.Cmd, id *identity) {
	if id != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: id.uid, Gid: id.gid, Groups: id.groups},
		}
	}
}
