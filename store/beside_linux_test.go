package store

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

// roleEnv makes this binary the process that works beside a server, as the server's user, instead of running tests.
const roleEnv = "MAILSPINE_STORE_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(beside(os.Args[1], os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

// beside changes mailboxes at random, until standard input ends, and prints every error that is no answer.
func beside(conf, seed, top string) int {
	end := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(end)
	}()
	c, err := imapdconf.Read(vfs.OS(), conf).Config("mailspine")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	st, err := Open(ctx, c, Options{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	n, _ := strconv.ParseUint(seed, 10, 64)
	r := rand.New(rand.NewPCG(n, 2))
	code, done, refused := 0, 0, 0
	for {
		select {
		case <-end:
			fmt.Printf("%d changes, %d over quota\n", done, refused)
			return code
		default:
		}
		what, err := besideOne(st, r, top)
		switch {
		case err == nil:
			done++
		case errors.Is(err, index.ErrOverQuota):
			refused++
		case errors.Is(err, mboxdb.ErrExists), errors.Is(err, mboxdb.ErrNotFound), errors.Is(err, mboxdb.ErrName), errors.Is(err, ErrChildren):
		default:
			fmt.Printf("%s: %v\n", what, err)
			code = 1
		}
	}
}

// besidePick is one of the few names that all of them change.
func besidePick(r *rand.Rand, top string) string {
	s := top + "." + string(rune('a'+r.IntN(4)))
	if r.IntN(2) == 0 {
		s += "." + string(rune('a'+r.IntN(3)))
	}
	return s
}

// besideOne makes one change of the mailboxes below a name.
func besideOne(st *Store, r *rand.Rand, top string) (what string, err error) {
	n, to := name(besidePick(r, top)), name(besidePick(r, top))
	switch r.IntN(6) {
	case 0, 1:
		what = "create " + n.String()
		_, err = st.Create(ctx, NewMailbox{Name: n})
	case 2:
		what = fmt.Sprintf("rename %s to %s", n, to)
		_, err = st.Rename(ctx, Renaming{From: n, To: to})
	case 3:
		what = "delete " + n.String()
		_, err = st.Delete(ctx, Deletion{Name: n, Recursive: r.IntN(2) == 0, Immediate: r.IntN(2) == 0})
	default:
		what = "append to " + n.String()
		err = besideAppend(st, n)
	}
	return what, err
}

func besideAppend(st *Store, n mboxdb.Name) error {
	m, err := st.OpenMailbox(ctx, n)
	if errors.Is(err, os.ErrNotExist) {
		return mboxdb.ErrNotFound // it was deleted or renamed between the look at the list and the opening
	}
	if err != nil {
		return err
	}
	err = m.Update(ctx, func(tx *index.Tx) error {
		_, err := tx.Append(index.NewMessage{Body: strings.NewReader(fmt.Sprintf(message, 1)), InternalDate: time.Unix(1_700_000_000, 0)})
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		err = mboxdb.ErrNotFound
	}
	return errors.Join(err, m.Close())
}

// TestBesideLiveCyrus: sessions of a real server and processes of ours create, rename and delete the same mailboxes, and
// append to them. What is left at the end is consistent, and none of them met anything but answers.
func TestBesideLiveCyrus(t *testing.T) {
	for i, k := range append(kinds, kinds...) {
		top := map[bool]string{true: "user.zoe", false: "pub"}[i < len(kinds)]
		t.Run(k.name+"/"+top, func(t *testing.T) {
			t.Parallel()
			realcyrus.NeedServer(t)
			srv := realcyrus.StartServer(t, k.options())
			s := session{t, srv.Dial(t, realcyrus.AdminUser)}
			s.cmd("CREATE %s", top)
			s.cmd("SETACL %s cyrus lrswipkxtecda", top)
			// The first message makes stage., the directory for messages that have no number yet. Cyrus looks for it, makes it,
			// and takes it for an I/O error if another process has made it in between.
			s.append(top, 0)
			var ours []*process
			for i := range 2 {
				ours = append(ours, startBeside(t, srv.Store, i, top))
			}
			length := time.Duration(images(2)) * time.Second
			var sessions sync.WaitGroup
			var failed atomic.Int64
			for i := range 2 {
				sessions.Go(func() { imapBeside(t, srv, top, uint64(i), time.Now().Add(length), &failed) })
			}
			sessions.Wait()
			requireOwnRaces(t, srv, top, failed.Load())
			for _, p := range ours {
				require.NoError(t, p.in.Close())
				out, err := io.ReadAll(p.out)
				require.NoError(t, err)
				require.NoError(t, p.cmd.Wait(), "%s", out)
				t.Logf("ours: %s", out)
			}
			checkAll(t, openReal(t, srv.Store))
			require.NoError(t, srv.Stop())
			out := srv.Try(t, "reconstruct", nil, "-n", "-r", "user", "pub", "DELETED")
			require.Equal(t, 0, out.Code, out.Stderr)
			for line := range strings.Lines(out.Stdout) {
				require.NotContains(t, line, ":", "reconstruct finds something to mend")
			}
		})
	}
}

const ioError = "System I/O error"

// ownRaces are what Cyrus 3.6.1 tells its log when it answers so because another session, one of its own too, has deleted or
// renamed the mailbox meanwhile. An APPEND asks the list whether it may, and then anew, without a lock, for the directory in which
// to put the message. A shared mailbox is opened without the lock under which it is renamed and deleted: its files may be gone, or,
// where directories go by the id, they are open under a name that the list has not any more.
var ownRaces = map[string]*regexp.Regexp{
	"user.zoe": regexp.MustCompile(noStage),
	"pub": regexp.MustCompile(noStage + `|IOERROR: opening index failed: .*syserror=<No such file or directory>` +
		`|IOERROR: creating message file: filename=<[^/>]*> .*func=<append_fromstage_full>`),
}

const noStage = `couldn't find stage directory for mbox: '[^']*': Mailbox does not exist$`

// requireOwnRaces checks that Cyrus's own races explain all answers that name an I/O error, where the log was kept.
func requireOwnRaces(t *testing.T, srv *realcyrus.Server, top string, failed int64) {
	t.Helper()
	log := srv.Log()
	if len(log) == 0 {
		return
	}
	for _, line := range log {
		if ownRaces[top].MatchString(line) {
			failed--
		}
	}
	require.LessOrEqual(t, failed, int64(0), "so many times the server met an I/O error that is not of its own making")
}

// imapBeside does in a session what besideOne does, and counts the answers that name an I/O error.
func imapBeside(t *testing.T, srv *realcyrus.Server, top string, seed uint64, until time.Time, failed *atomic.Int64) {
	r := rand.New(rand.NewPCG(seed, 3))
	done := 0
	c, err := srv.Login(realcyrus.AdminUser)
	for err == nil && time.Now().Before(until) {
		n, to := besidePick(r, top), besidePick(r, top)
		var answer error
		switch r.IntN(6) {
		case 0, 1:
			_, answer = c.Cmd("CREATE %s", n)
		case 2:
			_, answer = c.Cmd("RENAME %s %s", n, to)
		case 3:
			_, answer = c.Cmd("DELETE %s", n)
		default:
			answer = c.Append(n, "", time.Time{}, fmt.Appendf(nil, message, 2))
		}
		if answer == nil {
			done++
		} else if !strings.Contains(answer.Error(), "NO ") {
			t.Errorf("the server: %v", answer)
			return
		}
		// It then does not read the message either: a new session.
		if answer != nil && strings.Contains(answer.Error(), ioError) {
			failed.Add(1)
			_ = c.Close()
			c, err = srv.Login(realcyrus.AdminUser)
		}
	}
	if err != nil {
		t.Errorf("the server: %v", err)
		return
	}
	_ = c.Close()
	t.Logf("the server: %d changes", done)
}

type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.ReadCloser
}

// startBeside starts a process of ours as the user of the server.
func startBeside(t *testing.T, store *realcyrus.Store, seed int, top string) *process {
	t.Helper()
	own, err := os.ReadFile(func() string { p, err := os.Executable(); require.NoError(t, err); return p }())
	require.NoError(t, err)
	binary := filepath.Join(store.Dir, fmt.Sprintf("beside%d", seed))
	// A process that another test forks now would have the file open for writing until it becomes what it is to be, and what
	// is open for writing cannot be executed.
	syscall.ForkLock.RLock()
	err = os.WriteFile(binary, own, 0o755)
	syscall.ForkLock.RUnlock()
	require.NoError(t, err)
	u, err := user.Lookup("cyrus")
	require.NoError(t, err)
	uid, err := strconv.Atoi(u.Uid)
	require.NoError(t, err)
	gid, err := strconv.Atoi(u.Gid)
	require.NoError(t, err)
	p := &process{cmd: exec.Command(binary, store.Conf, strconv.Itoa(seed), top)}
	p.cmd.Env = append(os.Environ(), roleEnv+"=beside")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	p.cmd.Stderr = os.Stderr
	p.in, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	p.out, err = p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	return p
}
