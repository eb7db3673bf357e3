package fuzz

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mailspine/mailspine/internal/killsup"
	"github.com/mailspine/mailspine/skiplist"
)

var formats = []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat}

// long tells whether this is a campaign and not go test ./...
func long() bool { return campaign(0, 1) > 0 }

// childMax is how long a child may take: one that hangs is a failure.
const childMax = 60 * time.Second

// role prepares a child of this program.
func role(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// supervised runs a command under a plan and returns what it said.
func supervised(cmd *exec.Cmd, plan killsup.Plan) (killsup.Result, []byte, error) {
	within, cancel := context.WithTimeout(ctx, childMax)
	defer cancel()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	res, err := killsup.Run(within, cmd, plan)
	if err != nil {
		return res, out.Bytes(), fmt.Errorf("%w\n%s%s", err, &out, &errOut)
	}
	if !res.Fired && !res.State.Success() {
		return res, out.Bytes(), fmt.Errorf("the writer failed: %v\n%s%s", res.State, &out, &errOut)
	}
	return res, out.Bytes(), nil
}

func needSupervisor(t *testing.T) {
	if err := killsup.Supported(); err != nil {
		t.Skip(err)
	}
}

// judge looks at what a process has left behind, through all the eyes there are.
type judge struct {
	format skiplist.Format
	cyrus  *cyrus // nil where the real Cyrus is not installed
	// absent allows that there is no database yet.
	absent bool
	// skipstamp is the path of Cyrus's skipstamp, if the next writer is to be told of it.
	skipstamp string
	// refused counts torn skiplists that Cyrus would not recover.
	refused int
	changes int
}

// after returns an error if a database holds what it must not: for the next reader, who changes nothing; for Cyrus, on
// a copy; for the next writer, whose change must work; and after that for the check, and for Cyrus again.
func (j *judge) after(path string, o *outcome) error {
	_, err := j.afterwards(path, o)
	return err
}

// afterwards is after; it returns what is in the database now.
func (j *judge) afterwards(path string, o *outcome) (map[string]string, error) {
	before, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && j.absent && len(o.sure) == 0 {
		state := map[string]string{}
		return state, j.next(path, state)
	}
	if err != nil {
		return nil, err
	}
	seen, err := j.reader(path, o)
	if err != nil {
		return nil, fmt.Errorf("the next reader: %w", err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(before, now) {
		return nil, fmt.Errorf("the next reader has changed the file: %w", err)
	}
	if j.cyrus != nil {
		// Cyrus recovers what it opens, so it gets a copy. It may decide otherwise than we about a transaction that
		// nobody was told of.
		got, err := j.cyrus.listCopy(j.format, path)
		switch {
		case err != nil && j.format == skiplist.Skiplist:
			// Cyrus's recovery gives up on a record that is cut off within its first words, whoever wrote it. It
			// loses nothing by that; the next writer of ours mends the file.
			j.refused++
		case err != nil:
			return nil, fmt.Errorf("cyrus, after its recovery: %w", err)
		case !o.allows(got):
			return nil, fmt.Errorf("cyrus, after its recovery, lists %s", o.difference(got))
		}
	}
	return seen, j.next(path, seen)
}

func (j *judge) reader(path string, o *outcome) (map[string]string, error) {
	got, err := j.read(path)
	if err == nil && !o.allows(got) {
		err = errors.New(o.difference(got))
	}
	return got, err
}

func (j *judge) read(path string) (map[string]string, error) {
	db, err := skiplist.Open(ctx, path, skiplist.Options{Format: j.format, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return contents(db)
}

// next makes one change more, in the file and in state, and looks at what has become of it.
func (j *judge) next(path string, state map[string]string) error {
	db, err := skiplist.Open(ctx, path, skiplist.Options{Format: j.format, Create: j.absent, Skipstamp: j.skipstamp})
	if err != nil {
		return fmt.Errorf("the next writer: %w", err)
	}
	defer db.Close()
	j.changes++ // the same value again would be no change
	value := fmt.Sprint("works ", j.changes)
	if err := db.Put(ctx, []byte("next"), []byte(value)); err != nil {
		return fmt.Errorf("the next change: %w", err)
	}
	state["next"] = value
	return j.agree(db, state)
}

// agree holds an open database, its check, and what Cyrus lists, against what should be there.
func (j *judge) agree(db *skiplist.DB, want map[string]string) error {
	o := &outcome{sure: want}
	got, err := contents(db)
	if err != nil {
		return fmt.Errorf("read after the next change: %w", err)
	}
	if !o.allows(got) {
		return fmt.Errorf("after the next change there are %s", o.difference(got))
	}
	found, err := skiplist.Check(ctx, db.Path(), skiplist.Options{Format: j.format})
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	for _, x := range found {
		if x.Severity > skiplist.Info {
			return fmt.Errorf("check after the next change: %v", x)
		}
	}
	if j.cyrus == nil {
		return nil
	}
	if got, err = j.cyrus.listCopy(j.format, db.Path()); err != nil {
		return fmt.Errorf("cyrus, after the next change: %w", err)
	}
	if !o.allows(got) {
		return fmt.Errorf("cyrus lists %s", o.difference(got))
	}
	return nil
}

// cell names one point of a campaign, such as "skiplist/kill/3/17": what -point takes.
func cell(parts ...any) string {
	words := make([]string, len(parts))
	for i, p := range parts {
		words[i] = fmt.Sprint(p)
	}
	return strings.Join(words, "/")
}

// chosen tells whether a cell, or a part of a campaign, is to be run.
func chosen(name string) bool {
	return *point == "" || name == *point || strings.HasPrefix(*point, name+"/")
}

func failCell(t *testing.T, name string, err error, said []byte) {
	t.Helper()
	t.Fatalf("%s: %v%s\nreproduce: MAILSPINE_CAMPAIGN=%s go test ./fuzz -run '%s' -point '%s'",
		name, err, refusals(said), os.Getenv("MAILSPINE_CAMPAIGN"), t.Name(), name)
}

// fastDir is a directory of the test in memory, where there is one: these campaigns make no use of what a sync does, and
// on a disk they would wait for tens of thousands of them.
func fastDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "mailspine-fuzz-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// workDir is a directory in which the copies of many cells are made and removed.
type workDir struct {
	dir string
	n   int
}

// fresh empties the directory and returns the path of a database in it, with the given bytes unless they are nil.
func (w *workDir) fresh(base []byte) (string, error) {
	if err := os.RemoveAll(filepath.Join(w.dir, strconv.Itoa(w.n))); err != nil {
		return "", err
	}
	w.n++
	dir := filepath.Join(w.dir, strconv.Itoa(w.n))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "db")
	if base == nil {
		return path, nil
	}
	return path, os.WriteFile(path, base, 0o644)
}
