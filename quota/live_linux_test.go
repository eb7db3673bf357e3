package quota_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/store"
)

// roleEnv makes TestBesideProcess work beside a server, on the store in the directory that it names.
const roleEnv = "MAILSPINE_QUOTA_ROLE"

// liveMax is how long a session may wait for an answer.
const liveMax = 15 * time.Second

// place is where sessions work: a tree of mailboxes with a root at its top and another one inside. What is renamed and deleted
// are the mailboxes that are not fixed.
type livePlace struct {
	login, top, seen string
	// nested is the level that has a root of its own.
	nested string
	shared bool
}

var livePlaces = []livePlace{
	{login: "amy", top: "user.amy", seen: "INBOX", nested: "nest"},
	{login: "zed", top: "user.zed", seen: "INBOX", nested: "z-nest"},
	{login: realcyrus.AdminUser, top: "pub", seen: "pub", nested: "in", shared: true},
}

func (p *livePlace) roots() []string { return []string{p.top, p.top + "." + p.nested} }

// liveRoots are all roots, one of which is not in a place.
func liveRoots() (all []string) {
	for i := range livePlaces {
		all = append(all, livePlaces[i].roots()...)
	}
	return append(all, "user.zedd")
}

// pick is a mailbox of a place, by its levels below the top.
func (p *livePlace) pick(r *rand.Rand, nested bool, mode liveMode) string {
	names := []string{"", ".a", ".a.b", ".a.b.x", ".a-d", ".a.c c"}
	if mode == liveBoth {
		names = names[:4] // the real program counts wrong where names sort otherwise than keys
	}
	below := names[r.IntN(len(names))]
	if nested {
		below = "." + p.nested + below
	}
	return below
}

// loose tells whether a mailbox may be renamed and deleted.
func (p *livePlace) loose(below string) bool { return below != "" && below != "."+p.nested }

// liveMode is what may happen in a run beside a server.
type liveMode string

const (
	// liveInside: mailboxes are renamed below the root that they count for.
	liveInside liveMode = "inside"
	// liveAcross: also from one root to another, after which Cyrus adds to the wrong one until a recalculation mends the header.
	liveAcross liveMode = "across"
	// liveBoth: the real program recalculates, too. So nothing is done in which it counts wrong: nothing is renamed or deleted. And the
	// roots are in a database, because in files it takes the new file of a changing root for a root, and fails or removes it.
	liveBoth liveMode = "both"
)

// live is one run beside a server.
type live struct {
	t       *testing.T
	g       *ground
	srv     *realcyrus.Server
	mode    liveMode
	changes atomic.Int64
	slowest atomic.Int64
}

// TestBesideLiveCyrus: sessions and deliveries of a real server, and processes of ours, change mailboxes while every root is
// recalculated again and again. When all is at rest each root has what its mailboxes have, no session was refused anything, and
// none has waited long.
func TestBesideLiveCyrus(t *testing.T) {
	for _, mode := range []liveMode{liveInside, liveAcross, liveBoth} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			realcyrus.NeedServer(t)
			l := newLive(t, mode)
			length := 3 * time.Second
			if os.Getenv("MAILSPINE_CAMPAIGN") != "" {
				length = 40 * time.Second
			}
			l.run(length)
			l.atRest()
		})
	}
}

func newLive(t *testing.T, mode liveMode) *live {
	o := realcyrus.Options{}
	if mode == liveBoth {
		o.QuotaDB = "twoskip"
	}
	g := newGround(t, o)
	for _, root := range liveRoots() {
		g.putRoot(root, rootText("0/0/0", 1_000_000_000))
	}
	boxes := []box{{"user.zedd", 2, 700}}
	for _, p := range livePlaces {
		boxes = append(boxes, box{p.top, 3, 1000}, box{p.top + "." + p.nested, 3, 500}, box{p.top + ".a", 3, 600})
	}
	g.create(boxes...)
	g.give()
	l := &live{t: t, g: g, mode: mode, srv: realcyrus.StartServerOn(t, g.real)}
	admin := l.srv.Dial(t, realcyrus.AdminUser)
	for _, b := range boxes {
		_, err := admin.Cmd("SETACL %s cyrus lrswipkxtecda", b.name)
		require.NoError(t, err)
	}
	for _, p := range livePlaces[:2] {
		require.NoError(t, l.srv.AddUser(p.login))
	}
	require.Equal(t, g.counted(), g.roots(), "at the beginning")
	return l
}

// run has everybody work for a time. The recalculations end first: what comes after the last has to be added to what it wrote.
func (l *live) run(length time.Duration) {
	until := time.Now().Add(length)
	ours := l.start("deliver")
	count := l.start("recalculate")
	var all sync.WaitGroup
	for i := range livePlaces {
		for k := range 2 {
			all.Go(func() { l.session(&livePlaces[i], uint64(2*i+k), until) })
		}
	}
	all.Go(func() { l.lmtp(until) })
	last := time.Until(until) - 300*time.Millisecond
	if l.mode == liveBoth {
		l.theirs(time.Now().Add(last))
	} else {
		time.Sleep(last)
	}
	count.end()
	all.Wait()
	ours.end()
	l.t.Logf("%d changes by the server, the slowest in %v; ours: %s; recalculations: %s", l.changes.Load(), time.Duration(l.slowest.Load()), ours.said, count.said)
	require.Greater(l.t, l.changes.Load(), int64(20))
	require.NoError(l.t, l.srv.Stop())
}

// atRest compares the roots with what there is.
func (l *live) atRest() {
	if l.mode == liveAcross {
		l.g.recalculate(asked{})
	}
	require.Equal(l.t, l.g.counted(), l.g.roots())
	l.g.give()
	out := l.g.real.Try(l.t, "quota", nil, "-f", "-q")
	require.Equal(l.t, 0, out.Code, out.Stderr)
	require.Equal(l.t, "", out.Stderr, "the real program finds something to mend")
}

// theirs has the real program recalculate.
func (l *live) theirs(until time.Time) {
	n := 0
	for ; n == 0 || time.Now().Before(until); n++ {
		out := l.g.real.Try(l.t, "quota", nil, "-f", "-q")
		require.Equal(l.t, 0, out.Code, out.Stderr)
	}
	l.t.Logf("%d recalculations by the real program", n)
}

// session does in a session of a user what comes to its mind.
func (l *live) session(p *livePlace, seed uint64, until time.Time) {
	r := rand.New(rand.NewPCG(seed, 5))
	c, err := l.srv.Login(p.login)
	if err != nil {
		l.t.Error(err)
		return
	}
	for time.Now().Before(until) {
		at := time.Now()
		what, err := l.sessionOne(c, p, r)
		l.took(time.Since(at))
		if err == nil {
			l.changes.Add(1)
		} else if !answered(err) {
			l.t.Errorf("%s: %s: %v", p.login, what, err)
			return
		}
	}
	if err := c.Close(); err != nil {
		l.t.Error(err)
	}
}

func (l *live) took(d time.Duration) {
	for was := l.slowest.Load(); int64(d) > was && !l.slowest.CompareAndSwap(was, int64(d)); was = l.slowest.Load() {
	}
	if d > liveMax {
		l.t.Errorf("a session has waited for %v", d)
	}
}

// answered tells whether an error is an answer that any server may give: there is no such mailbox, or there is one already.
func answered(err error) bool {
	return slices.ContainsFunc([]string{"does not exist", "already exists", "No matching messages", "Nonexistent", "Invalid mailbox name", "has children", "No such mailbox", "HASCHILDREN", "RENAME: NO Permission denied"},
		func(s string) bool { return strings.Contains(err.Error(), s) })
}

func (l *live) sessionOne(c *realcyrus.Client, p *livePlace, r *rand.Rand) (what string, err error) {
	nested := r.IntN(3) == 0
	below, other := p.pick(r, nested, l.mode), p.pick(r, nested != (l.mode == liveAcross && r.IntN(2) == 0), l.mode)
	one, two := realcyrus.Quote(p.seen+below), realcyrus.Quote(p.seen+other)
	switch n := r.IntN(12); {
	case n < 4:
		return "append to " + one, c.Append(p.seen+below, "", time.Time{}, []byte(mailOf(200+r.IntN(3000))))
	case n < 6:
		return "expunge of " + one, commands(c, "SELECT "+one, `STORE 1 +FLAGS.SILENT (\Deleted)`, "EXPUNGE", "UNSELECT")
	case n < 8:
		return "copy of " + one, commands(c, "SELECT "+one, "COPY 1:2 "+two, "UNSELECT")
	case n < 10 || p.shared || l.mode == liveBoth: // Cyrus 3.6.1 loses its own races where shared mailboxes are renamed and deleted
		return "creation of " + one, commands(c, "CREATE "+one)
	case n == 10 && p.loose(below) && p.loose(other):
		return "rename of " + one, commands(c, "RENAME "+one+" "+two)
	case p.loose(below):
		return "deletion of " + one, commands(c, "DELETE "+one)
	}
	return "nothing", commands(c, "NOOP")
}

func commands(c *realcyrus.Client, list ...string) error {
	for _, command := range list {
		if _, err := c.Cmd("%s", command); err != nil {
			_, _ = c.Cmd("UNSELECT")
			return err
		}
	}
	return nil
}

// lmtp delivers to the users' INBOXes.
func (l *live) lmtp(until time.Time) {
	conn, err := net.Dial("unix", filepath.Join(l.g.dir, "run", "lmtp"))
	if err != nil {
		l.t.Error(err)
		return
	}
	p := textproto.NewConn(conn)
	defer p.Close()
	say := func(code int, format string, args ...any) {
		if format != "" {
			if _, e := p.Cmd(format, args...); err == nil {
				err = e
			}
		}
		if err == nil {
			_, _, err = p.ReadResponse(code)
		}
	}
	say(220, "")
	say(250, "LHLO live")
	for n := 0; err == nil && time.Now().Before(until); n++ {
		at := time.Now()
		say(250, "MAIL FROM:<a@example.org>")
		say(250, "RCPT TO:<%s>", livePlaces[n%2].login)
		say(354, "DATA")
		if err == nil {
			w := p.DotWriter()
			fmt.Fprintf(w, "Message-ID: <%d.%d@example.org>\r\nSubject: live\r\n\r\n%s\r\n", n, time.Now().UnixNano(), strings.Repeat("x", n%2000))
			err = w.Close()
		}
		say(250, "")
		l.took(time.Since(at))
		l.changes.Add(1)
	}
	if err != nil {
		l.t.Errorf("lmtp: %v", err)
	}
}

// process is one of ours, that works as the user of the server.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  bytes.Buffer
	said string
}

// start runs this binary in a role.
func (l *live) start(role string) *process {
	own, err := os.Executable()
	require.NoError(l.t, err)
	binary := filepath.Join(l.g.dir, role)
	// By another process: a file that this one writes is busy for as long as any child has the descriptor by inheritance.
	require.NoError(l.t, exec.Command("cp", own, binary).Run())
	require.NoError(l.t, os.Chmod(binary, 0o755))
	u, err := user.Lookup("cyrus")
	require.NoError(l.t, err)
	uid, err := strconv.Atoi(u.Uid)
	require.NoError(l.t, err)
	gid, err := strconv.Atoi(u.Gid)
	require.NoError(l.t, err)
	p := &process{t: l.t, cmd: exec.Command(binary, "-test.run=^TestBesideProcess$", "-test.timeout=5m", "-test.v")}
	p.cmd.Dir = "/"
	p.cmd.Env = append(os.Environ(), roleEnv+"="+role+":"+string(l.mode)+":"+l.g.dir)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.in, err = p.cmd.StdinPipe()
	require.NoError(l.t, err)
	require.NoError(l.t, p.cmd.Start())
	l.t.Cleanup(func() { _ = p.in.Close() })
	return p
}

// end has the process end, and fails the test if anything went wrong in it.
func (p *process) end() {
	require.NoError(p.t, p.in.Close())
	err := p.cmd.Wait()
	require.NoError(p.t, err, "%s", p.out.String())
	for s := bufio.NewScanner(&p.out); s.Scan(); {
		if _, said, ok := strings.Cut(s.Text(), "DONE "); ok {
			p.said = said
		}
	}
}

// TestBesideProcess is no test: it is what TestBesideLiveCyrus runs as processes of their own, until standard input ends.
func TestBesideProcess(t *testing.T) {
	role, rest, ok := strings.Cut(os.Getenv(roleEnv), ":")
	if !ok {
		t.Skip("it is run by TestBesideLiveCyrus")
	}
	mode, dir, _ := strings.Cut(rest, ":")
	g := &ground{t: t, fs: vfs.OS(), dir: dir}
	end := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(end)
	}()
	one := besideRecalculate(g)
	if role == "deliver" {
		one = besideDeliver(g, liveMode(mode))
	}
	for n := 0; ; n++ {
		select {
		case <-end:
			t.Logf("DONE %d", n)
			return
		default:
		}
		one(n)
	}
}

// besideRecalculate recalculates all roots, or one.
func besideRecalculate(g *ground) func(n int) {
	return func(n int) {
		a := asked{}
		if n%3 == 2 {
			a.roots = []string{liveRoots()[n%len(liveRoots())]}
		}
		k := g.keep(g.fs, false)
		outcomes, err := k.recalculate(g.t.Context(), a)
		require.NoError(g.t, err)
		for root, o := range outcomes {
			require.NoError(g.t, o.Err, root)
			require.False(g.t, o.Incomplete, "%s: %v", root, o.Problems)
		}
		require.NoError(g.t, k.close())
	}
}

// besideDeliver changes mailboxes at random.
func besideDeliver(g *ground, mode liveMode) func(n int) {
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 6))
	st := g.open()
	g.t.Cleanup(func() { require.NoError(g.t, st.Close()) })
	return func(int) {
		p := &livePlaces[r.IntN(len(livePlaces))]
		nested := r.IntN(3) == 0
		below, other := p.pick(r, nested, mode), p.pick(r, nested != (mode == liveAcross && r.IntN(2) == 0), mode)
		name := mboxdb.InternalName(p.top + below)
		var err error
		switch n := r.IntN(10); {
		case n < 5:
			err = deliverTo(g.t.Context(), st, p.top+below, 1+r.IntN(2), 200+r.IntN(3000))
		case n < 7:
			err = besideExpunge(g.t.Context(), st, p.top+below)
		case n == 7 || p.shared || mode == liveBoth || !p.loose(below):
			_, err = st.Create(g.t.Context(), store.NewMailbox{Name: name})
		case n == 8 && p.loose(other):
			_, err = st.Rename(g.t.Context(), store.Renaming{From: name, To: mboxdb.InternalName(p.top + other)})
		default:
			_, err = st.Delete(g.t.Context(), store.Deletion{Name: name})
		}
		for _, answer := range []error{mboxdb.ErrExists, mboxdb.ErrNotFound, mboxdb.ErrName, store.ErrChildren, fs.ErrNotExist} {
			if errors.Is(err, answer) {
				return
			}
		}
		require.NoError(g.t, err)
	}
}

// besideExpunge expunges the first message.
func besideExpunge(ctx context.Context, st *store.Store, name string) error {
	m, err := st.OpenMailbox(ctx, mboxdb.InternalName(name))
	if err != nil {
		return err
	}
	err = m.Update(ctx, func(tx *index.Tx) error {
		for rec, err := range tx.Records() {
			if err != nil {
				return err
			}
			if rec.Flags&index.FlagExpunged == 0 {
				_, err = tx.Expunge(rec.UID, index.ExpungeDelayed)
				return err
			}
		}
		return nil
	})
	return errors.Join(err, m.Close())
}
