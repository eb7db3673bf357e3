package quota_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/store"
)

// duringScenario is one in which somebody changes a mailbox while the root user.X is recalculated, where X is its own.
type duringScenario struct {
	no, what string
	// after is the mailbox after whose scan by Cyrus the change comes.
	after string
	// theirs makes the change in a session of the owner, ours in our own store.
	theirs func(c *realcyrus.Client) error
	ours   changing
	want   string
	cyrus  *verdict
}

// user is whose mailboxes a scenario is about.
func (s *duringScenario) user() string {
	number, _, _ := strings.Cut(strings.ToLower(s.no), " ")
	return "u" + number
}

// boxes are those of scenario 15: one with a byte below "." sorts by its key where it does not by its name. The last one is for
// the real program to wait before.
func (s *duringScenario) boxes() []box {
	u := "user." + s.user()
	return []box{{u, 1, 1000}, {u + ".b", 2, 1000}, {u + ".b.c", 3, 1000}, {u + ".b-d", 4, 1000}, {u + ".z", 0, 0}}
}

// changing is what our store does to the mailboxes of a user, whose INBOX it is given.
type changing func(ctx context.Context, st *store.Store, inbox string) error

func changeAppend(below string) changing {
	return func(ctx context.Context, st *store.Store, inbox string) error {
		return deliverTo(ctx, st, inbox+below, 1, 1000)
	}
}

func changeRename(from, to string) changing {
	return func(ctx context.Context, st *store.Store, inbox string) error {
		_, err := st.Rename(ctx, store.Renaming{From: mboxdb.InternalName(inbox + from), To: mboxdb.InternalName(inbox + to)})
		return err
	}
}

func changeDelete(below string) changing {
	return func(ctx context.Context, st *store.Store, inbox string) error {
		_, err := st.Delete(ctx, store.Deletion{Name: mboxdb.InternalName(inbox + below)})
		return err
	}
}

func appendTheirs(mailbox string) func(c *realcyrus.Client) error {
	return func(c *realcyrus.Client) error { return c.Append(mailbox, "", time.Time{}, []byte(mailOf(1000))) }
}

func commandTheirs(command string) func(c *realcyrus.Client) error {
	return func(c *realcyrus.Client) error {
		_, err := c.Cmd("%s", command)
		return err
	}
}

func duringScenarios() []duringScenario {
	return []duringScenario{
		{no: "15 (D3)", what: "mail for `b-d` beside `b.c`, which was counted already", after: ".b.c", theirs: appendTheirs("INBOX.b-d"), ours: changeAppend(".b-d"), want: "11000/11/5",
			cyrus: &verdict{says: "the message is counted twice", ours: "counted once", roots: map[string]string{"": "12000/12/5"}}},
		{no: "16 (D3)", what: "mail for `b.c` after `b-d` was counted, too", after: ".b-d", theirs: appendTheirs("INBOX.b.c"), ours: changeAppend(".b.c"), want: "11000/11/5",
			cyrus: &verdict{says: "the message is not counted", ours: "counted once", roots: map[string]string{"": "10000/10/5"}}},
		{no: "17 (D4)", what: "a mailbox renamed after it was counted", after: ".b.c", theirs: commandTheirs("RENAME INBOX.b.c INBOX.zzz"), ours: changeRename(".b.c", ".zzz"),
			want:  "10000/10/5",
			cyrus: &verdict{says: "the mailbox is counted twice", ours: "counted once", roots: map[string]string{"": "13000/13/6"}}},
		{no: "18", what: "a mailbox deleted after it was counted", after: ".b-d", theirs: commandTheirs("DELETE INBOX.b.c"), ours: changeDelete(".b.c"), want: "7000/7/4",
			cyrus: &verdict{says: "the mailbox is counted", ours: "not counted", roots: map[string]string{"": "10000/10/5"}}},
		{no: "D5", what: "the next mailbox deleted", after: ".b", theirs: commandTheirs("DELETE INBOX.b.c"), ours: changeDelete(".b.c"), want: "7000/7/4",
			cyrus: &verdict{code: 69, says: "the run ends there, and no root is set right", ours: "not counted", roots: map[string]string{"": "0/0/0/SCAN"}}},
	}
}

// TestCyrusSaysDuring has a session of a real server change mailboxes in the middle of a run of the real program, which
// waits before each mailbox until it is let on.
func TestCyrusSaysDuring(t *testing.T) {
	realcyrus.NeedServer(t)
	t.Parallel()
	g := newGround(t, realcyrus.Options{})
	for _, s := range duringScenarios() {
		g.putRoot("user."+s.user(), rootText("1/1/1"))
		g.create(s.boxes()...)
		g.putRoot("user."+s.user(), rootText("1/1/1"))
	}
	g.give()
	srv := realcyrus.StartServerOn(t, g.real)
	for _, s := range duringScenarios() {
		t.Run(s.no, func(t *testing.T) {
			require.NoError(t, srv.AddUser(s.user()))
			c := srv.Dial(t, s.user())
			root := "user." + s.user()
			code, out := stepped(t, g, root, s.after, func() { require.NoError(t, s.theirs(c)) })
			require.Equal(t, s.cyrus.code, code, out)
			got := g.roots()[root]
			require.NotEqual(t, s.want, got, "the real program is right")
			require.Equal(t, s.cyrus.roots[""], got, out)
			require.Equal(t, s.want, g.counted()[root], "what is there after the change")
		})
	}
}

// stepped runs quota -f on a root, and calls do when it has counted a mailbox and waits before the next.
func stepped(t *testing.T, g *ground, root, after string, do func()) (code int, output string) {
	gate := filepath.Join(g.dir, "conf", "quota-sync")
	require.NoError(t, os.MkdirAll(gate, 0o755))
	let := func(name string) {
		require.NoError(t, os.WriteFile(filepath.Join(gate, root+name), nil, 0o644))
		realcyrus.Give(t, gate)
	}
	cmd := g.real.Command(t, "quota", "-f", "-Z", root)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	order := []string{"", ".b", ".b.c", ".b-d", ".z", ".zzz"}
	next := 0
	for ; next == 0 || order[next-1] != after; next++ {
		let(order[next])
	}
	require.NoError(t, cmd.Start())
	counted := fmt.Sprintf("SCAN %%(MBOX %s ", root+after)
	require.Eventually(t, func() bool { return strings.Contains(string(g.read(rootFile(root))), counted) }, 20*time.Second, 5*time.Millisecond,
		"%s is not counted", after)
	do()
	for ; next < len(order); next++ {
		let(order[next])
	}
	err := cmd.Wait()
	if exit := (interface{ ExitCode() int })(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	require.NoError(t, os.RemoveAll(gate))
	return cmd.ProcessState.ExitCode(), out.String()
}
