package realcyrus

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

//go:embed testdata/oracle.c
var oracleSource []byte

// oracleFlags come after the compiler's other arguments.
var oracleFlags = []string{"-D_GNU_SOURCE", "-O2", "-Wall", "-Werror", "-lcyrus", "-lcyrus_min"}

// callMax is how long one call of the library may take before the oracle counts as hung, for example on a lock that
// the caller itself holds.
const callMax = 2 * time.Minute

// ErrOracleGone is in the error of a call whose process has ended, by [Oracle.Kill] or by itself. If the call was to
// change something, it may have happened or not.
var ErrOracleGone = errors.New("the oracle's process has ended")

// FatalError is what libcyrus said when it gave up and ended the process.
type FatalError struct{ Text string }

func (e *FatalError) Error() string { return "libcyrus: fatal: " + e.Text }

// OracleOptions choose how libcyrus runs. The zero value is a process of the current user without a skipstamp.
type OracleOptions struct {
	// ConfDir is Cyrus's configdirectory; db/skipstamp in it decides on the recovery of skiplists (see
	// [WriteSkipstamp]). If it is empty there is none, and every opening of a skiplist recovers it.
	ConfDir string
	// AsCyrus runs it as the user cyrus, as a real server does, instead of as the current user.
	AsCyrus bool
	// AlwaysCheckpoint sets skiplist_always_checkpoint: a skiplist is checkpointed at the end of each recovery.
	AlwaysCheckpoint bool
	// Run starts the command and waits for its end, if the oracle is to run under a supervisor such as killsup.Run.
	// It may change the command. Its error is what [Oracle.Wait] returns. If it is nil, the command is just run.
	Run func(*exec.Cmd) error
}

// Oracle is a process of libcyrus, with up to 8 databases open. Its calls and those of its databases are for one
// goroutine at a time; Kill may come from any other, in the middle of a call.
type Oracle struct {
	// Cmd is the process. With OracleOptions.Run it belongs to that function until Wait has returned.
	Cmd *exec.Cmd

	in      io.WriteCloser
	out     *bufio.Reader
	handles [8]bool
	err     error // why the oracle is of no use any more
	stderr  bytes.Buffer

	pid    atomic.Int64 // 0 before hello
	killed atomic.Bool
	ended  chan struct{} // closed when the process has been waited for
	runErr error         // valid once ended is closed
}

// StartOracle starts libcyrus and ends it with the test. Call [NeedOracle] before.
func StartOracle(t testing.TB, options OracleOptions) *Oracle {
	t.Helper()
	o, err := startOracle(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		o.Kill()
		o.Wait()
	})
	return o
}

func startOracle(options OracleOptions) (*Oracle, error) {
	program, err := compileOracle()
	if err != nil {
		return nil, err
	}
	conf, always := options.ConfDir, "0"
	if conf == "" {
		conf = "/nonexistent"
	}
	if options.AlwaysCheckpoint {
		always = "1"
	}
	o := &Oracle{Cmd: exec.Command(program, conf, always), ended: make(chan struct{})}
	if options.AsCyrus {
		id, err := credential()
		if err != nil {
			return nil, err
		}
		become(o.Cmd, id)
	}
	o.Cmd.Dir = "/"
	o.Cmd.Stderr = &o.stderr
	// The pipes are ours: those of exec.Cmd are closed by its Wait, which runs beside the last answers.
	stdin, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, stdin.Close(), in.Close())
	}
	o.Cmd.Stdin, o.Cmd.Stdout = stdin, stdout
	o.in, o.out = in, bufio.NewReaderSize(out, 1<<16)
	run := options.Run
	if run == nil {
		run = o.run
	}
	go func() {
		o.runErr = run(o.Cmd)
		stdin.Close()
		stdout.Close() // Only now can a reader see the end.
		close(o.ended)
	}()
	if err := o.hello(); err != nil {
		return nil, errors.Join(err, o.Wait())
	}
	return o, nil
}

// run is what [OracleOptions].Run is by default. Ending by a signal that Kill sent is no error.
func (o *Oracle) run(cmd *exec.Cmd) error {
	err := cmd.Run()
	if o.killed.Load() && cmd.ProcessState != nil {
		return nil
	}
	return err
}

// hello waits until the process answers, and learns its id: exec.Cmd tells it to the goroutine that runs it.
func (o *Oracle) hello() error {
	a, err := o.ask("pid")
	if err != nil {
		return err
	}
	if err := a.code(); err != nil || len(a.words) != 2 {
		return fmt.Errorf("the oracle answered %q: %w", a.words, err)
	}
	pid, err := strconv.Atoi(a.words[1])
	o.pid.Store(int64(pid))
	return err
}

// Pid is the id of the process.
func (o *Oracle) Pid() int { return int(o.pid.Load()) }

// Kill ends the process with SIGKILL, wherever it is, also in the middle of a call of another goroutine. It does
// nothing if the process has ended.
func (o *Oracle) Kill() {
	o.killed.Store(true)
	select {
	case <-o.ended:
		return
	default:
	}
	// The process is not reaped before it has ended, so the number is its own but for that very moment.
	if pid := o.Pid(); pid > 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
		return
	}
	o.in.Close() // It has not said hello yet, and ends at the end of its input.
}

// Wait closes the oracle's input, so that it closes its databases and ends unless it has already, and waits for that.
// It returns what [OracleOptions].Run returned or how the process failed; being killed by Kill is no failure.
func (o *Oracle) Wait() error {
	o.in.Close()
	<-o.ended
	if o.err == nil {
		o.err = ErrOracleGone
	}
	return o.runErr
}

// answer is what the oracle said to one command.
type answer struct {
	rows  [][][]byte
	words []string // the words of the last line, after its sign
	sign  string
}

// ask sends one command and reads its answer.
func (o *Oracle) ask(words ...string) (*answer, error) {
	if o.err != nil {
		return nil, o.err
	}
	timer := time.AfterFunc(callMax, o.Kill)
	defer timer.Stop()
	a, err := o.exchange(strings.Join(words, " ") + "\n")
	if err != nil {
		o.err = err
	}
	return a, err
}

func (o *Oracle) exchange(command string) (*answer, error) {
	if _, err := io.WriteString(o.in, command); err != nil {
		return nil, o.gone(err)
	}
	a := &answer{}
	for {
		line, err := o.out.ReadString('\n')
		if err != nil {
			return nil, o.gone(err)
		}
		sign, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch sign {
		case "+":
			row, err := unhexRow(rest)
			if err != nil {
				return nil, err
			}
			a.rows = append(a.rows, row)
		case "!":
			return nil, &FatalError{Text: rest}
		default:
			a.sign, a.words = sign, strings.Fields(rest)
			return a, nil
		}
	}
}

// gone describes the end of the process, which an error of the pipes has shown.
func (o *Oracle) gone(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, os.ErrClosed) {
		return err
	}
	select {
	case <-o.ended:
	case <-time.After(callMax):
		return err
	}
	if o.killed.Load() || o.stderr.Len() == 0 {
		return ErrOracleGone
	}
	return fmt.Errorf("%w: %s", ErrOracleGone, strings.TrimSpace(o.stderr.String()))
}

func unhexRow(text string) ([][]byte, error) {
	var row [][]byte
	for _, word := range strings.Fields(text) {
		if word == "-" {
			row = append(row, []byte{})
			continue
		}
		b, err := hex.DecodeString(word)
		if err != nil {
			return nil, fmt.Errorf("answer of the oracle: %w", err)
		}
		row = append(row, b)
	}
	return row, nil
}

// hexWord is how the protocol spells bytes.
func hexWord(b []byte) string {
	if len(b) == 0 {
		return "-"
	}
	return hex.EncodeToString(b)
}

// ---- compiling it ----

// compileOracle compiles the oracle once a process and returns the program.
var compileOracle = sync.OnceValues(func() (string, error) { return compile(oracleSource, oracleFlags) })

// compile compiles a C program. It is kept in the temporary directory, under a name that changes with its source and
// with libcyrus's interface, so that the next process finds it.
func compile(text []byte, flags []string) (string, error) {
	header, err := os.ReadFile(cyrusHeader)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, part := range [][]byte{text, header, []byte(strings.Join(flags, " "))} {
		fmt.Fprintf(sum, "%d:%s", len(part), part)
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("mailspine-oracle-%d", os.Geteuid()))
	if err := ownDir(dir); err != nil {
		return "", err
	}
	program := filepath.Join(dir, hex.EncodeToString(sum.Sum(nil)[:8]))
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	work, err := os.MkdirTemp(dir, "compile-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	source, made := filepath.Join(work, "oracle.c"), filepath.Join(work, "oracle")
	if err := os.WriteFile(source, text, 0o644); err != nil {
		return "", err
	}
	args := slices.Concat([]string{"-o", made, source}, flags)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the oracle: %w\n%s", err, out)
	}
	if err := os.Chmod(made, 0o755); err != nil {
		return "", err
	}
	// Another process may have compiled it too: the last one wins, and both are the same.
	return program, os.Rename(made, program)
}

// ownDir makes a directory in a place where anybody may make one, and refuses one that is somebody else's: the
// programs in it are run as this user. The user cyrus can reach it.
func ownDir(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a directory of this user alone", dir)
	}
	return os.Chmod(dir, 0o755)
}
