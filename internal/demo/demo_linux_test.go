package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
	"github.com/mailspine/mailspine/store"
)

// TestMain runs the tests in a process that does not note which files it looks at. Go's test command has that written to a file,
// for its cache, and the tests would run into their own limits on the size of files with it.
func TestMain(m *testing.M) {
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool { return strings.HasPrefix(a, "-test.testlogfile=") })
	if len(args) == len(os.Args)-1 {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	runtime.LockOSThread() // the signal comes when the thread ends that started it
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// TestLimited plays the whole story under a limit on files, and finds the limit lifted afterwards.
func TestLimited(t *testing.T) {
	var before, after unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &before))
	var out bytes.Buffer
	require.NoError(t, Run(t.Context(), Options{Out: &out}, t.TempDir(), &limited{}), "%s", &out)
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &after))
	require.Equal(t, before, after)
	text := out.String()
	for _, want := range []string{
		"a limit on the size of files stands in for it", "refused with ErrNoSpace",
		"deletions wait too", "acknowledged mailboxes: 0 lost, 0 stale, 0 back from the dead", "names, unique ids and reverse ACLs agree", "300 more changes, none refused",
		"db check", "refused: nothing is written to a damaged file", "into a new file", "format skiplist", "format twoskip",
		"50 of 50 flags removed, 50 of 50 messages expunged", "expunged: 0 lost, 0 stale, 0 half applied", "index, cache, counters and message files agree",
		"2 roots say twice what is used", "2 of 2 numbers lowered", "recalculations, two at a time", "and nothing found wrong again",
		"acknowledged messages: 0 too low, 0 too high, 0 doubled, 0 removed",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "\x1b")
}

// TestLossIsTold shows that the comparison sees each kind of difference, and fails.
func TestLossIsTold(t *testing.T) {
	list, err := openList(t.Context(), filepath.Join(t.TempDir(), "db"), skiplist.Options{Create: true})
	require.NoError(t, err)
	defer list.Close()
	l := newLedger(list, "")
	require.NoError(t, l.fill(t.Context()))
	d, err := l.differences(t.Context())
	require.NoError(t, err)
	require.Zero(t, d)
	l.acked[name(mailboxes)] = "x"
	l.acked[name(1)] = "an older record"
	delete(l.acked, name(2))
	delete(l.acked, name(3))
	require.NoError(t, list.DB().Delete(t.Context(), []byte("I"+id(t, list, name(4)))))
	d, err = l.differences(t.Context())
	require.NoError(t, err)
	require.Equal(t, differences{lost: 1, stale: 1, extra: 2, findings: 1}, d)
	var out bytes.Buffer
	s := &story{w: &out, color: true}
	require.ErrorContains(t, s.compare(t.Context(), l), "not what was acknowledged")
	require.Contains(t, out.String(), fmt.Sprintf("%d acknowledged mailboxes: 1 lost, 1 stale, 2 back from the dead\n", mailboxes-1))
}

func id(t *testing.T, l *mboxdb.List, n mboxdb.Name) string {
	rec, err := l.Lookup(t.Context(), n)
	require.NoError(t, err)
	return rec.UniqueID
}

// roomy is a disk that never fills up.
type roomy struct{ limited }

func (*roomy) Fill(ctx context.Context, _ string, refused func() int64) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

// TestInterrupted ends the story early.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	o := Options{Out: writerFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte("twoskip")) || bytes.Contains(p, []byte("A mailbox list")) {
			cancel()
		}
		return out.Write(p)
	})}
	require.ErrorIs(t, Run(ctx, o, t.TempDir(), &roomy{}), context.Canceled)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// newPost is a mailbox with messages, some of them changed.
func newPost(t *testing.T) *post {
	st, err := newStore(t.Context(), vfs.OS(), t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	fred := mboxdb.InternalName("user.fred")
	_, err = st.Create(t.Context(), store.NewMailbox{Name: fred})
	require.NoError(t, err)
	p, err := openPost(t.Context(), st, fred, &tally{what: "mailbox"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.close()) })
	_, err = p.fill(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.work(t.Context(), 20))
	d, err := p.differences(t.Context())
	require.NoError(t, err)
	require.Zero(t, d)
	return p
}

// TestMailLossIsTold shows that the comparison sees each kind of difference, and fails.
func TestMailLossIsTold(t *testing.T) {
	p := newPost(t)
	paths := p.box.Place().Paths
	before, err := os.ReadFile(paths.Index)
	require.NoError(t, err)

	// Three messages, and a change of flags of two, are acknowledged and lost: files and cache records are there, and nobody
	// knows them.
	_, err = p.append(t.Context(), 3)
	require.NoError(t, err)
	require.NoError(t, p.unflag(t.Context(), 1, 2))
	require.NoError(t, os.WriteFile(paths.Index, before, 0o600))
	d, err := p.differences(t.Context())
	require.NoError(t, err)
	require.Equal(t, mailDifferences{lost: 3, stale: 2, findings: 4}, d)
	var out bytes.Buffer
	s := &story{w: &out}
	require.ErrorContains(t, s.comparePost(t.Context(), p), "not what was acknowledged")
	require.Contains(t, out.String(), "expunged: 3 lost, 2 stale, 0 half applied\n")
	require.Contains(t, out.String(), "4 findings of the check\n")
}

// TestMailTracesAreTold shows that the comparison sees what nobody acknowledged.
func TestMailTracesAreTold(t *testing.T) {
	p := newPost(t)
	require.NoError(t, p.box.Update(t.Context(), func(tx *index.Tx) error {
		_, err := tx.Append(index.NewMessage{Body: strings.NewReader(letter(0))})
		if err == nil {
			_, err = tx.Expunge(7, index.ExpungeDelayed)
		}
		return err
	}))
	require.NoError(t, os.WriteFile(filepath.Join(p.box.Place().Stage, "1-2-3"), nil, 0o600))
	// A message that is another one is a loss.
	other := p.acked[9]
	other.guid[0]++
	p.acked[9] = other
	d, err := p.differences(t.Context())
	require.NoError(t, err)
	require.Equal(t, mailDifferences{lost: 1, half: 2, findings: 1}, d)
	require.NoError(t, os.WriteFile(p.box.Place().Message(&index.Record{UID: 9}), []byte("x"), 0o600))
	d, err = p.differences(t.Context())
	require.NoError(t, err)
	require.Greater(t, d.findings, 1, "the files of messages are compared")
}

// forgetful is a disk that loses what was written to the mailbox since it began to fill up.
type forgetful struct {
	limited
	index  string
	before []byte
}

func (f *forgetful) Fill(ctx context.Context, file string, refused func() int64) (how string, err error) {
	f.index = filepath.Join(filepath.Dir(file), "cyrus.index")
	if f.before, err = os.ReadFile(f.index); err != nil && !os.IsNotExist(err) {
		return "", err
	}
	return f.limited.Fill(ctx, file, refused)
}

func (f *forgetful) StillFull() (string, error) {
	if f.before != nil {
		if err := os.WriteFile(f.index, f.before, 0o600); err != nil {
			return "", err
		}
		f.before = nil
	}
	return f.limited.StillFull()
}

// TestForgetfulDisk shows that the story does not end well if acknowledged changes are lost.
func TestForgetfulDisk(t *testing.T) {
	var out bytes.Buffer
	disk := &forgetful{}
	s := &story{w: &out, dir: t.TempDir(), disk: disk, fs: vfs.OS()}
	require.ErrorContains(t, s.playMailbox(t.Context()), "the mailbox is not what was acknowledged")
	require.NoError(t, disk.Close())
	require.Regexp(t, `expunged: [1-9]\d* lost, `, &out)
	require.NotContains(t, out.String(), "space again")
}

// tight is a disk on which nothing can be written any more, not even where there is something.
type tight struct{ limited }

func (d *tight) StillFull() (string, error) {
	return "", unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1, Max: d.before.Max})
}

// TestExpungeRefused shows that an expunge that needs space is told.
func TestExpungeRefused(t *testing.T) {
	disk := &tight{}
	s := &story{w: io.Discard, dir: t.TempDir(), disk: disk, fs: vfs.OS()}
	require.ErrorContains(t, s.playMailbox(t.Context()), "for want of space")
	require.NoError(t, disk.Close())
}
