package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

var ctx = context.Background()

// kinds are the stores on which we are held against a real server.
var kinds = []struct {
	name    string
	options func() realcyrus.Options
}{
	{"uuid", func() realcyrus.Options {
		return realcyrus.Options{Extra: map[string]string{"sync_log": "yes", "statuscache": "yes"}}
	}},
	{"legacy", func() realcyrus.Options {
		o := realcyrus.LegacyLayout()
		o.Extra["conversations"], o.Extra["sync_log"], o.Extra["statuscache"] = "no", "yes", "yes"
		o.Extra["partition-other"], o.Extra["metapartition-other"], o.Extra["archivepartition-other"] = "DIR/spool2", "DIR/meta2", "DIR/archive2"
		return o
	}},
}

// eachKind runs a test on a server of each kind, with a session of the administrator.
func eachKind(t *testing.T, test func(t *testing.T, kind string, srv *realcyrus.Server, s session)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			realcyrus.NeedServer(t)
			srv := realcyrus.StartServer(t, k.options())
			test(t, k.name, srv, session{t, srv.Dial(t, realcyrus.AdminUser)})
		})
	}
}

// openReal opens the store of a real server. What is made by this test belongs to the server at once.
func openReal(t *testing.T, s *realcyrus.Store) *Store {
	t.Helper()
	c, err := imapdconf.Read(vfs.OS(), s.Conf).Config("mailspine")
	require.NoError(t, err)
	st, err := Open(ctx, c, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	return st
}

const message = "From: a@example.org\r\nSubject: hello\r\nDate: Mon, 1 Jan 2024 10:00:00 +0000\r\nMessage-ID: <%d@example.org>\r\n\r\nbody\r\n"

// session is an administrator's session that fails the test when a command does.
type session struct {
	*testing.T
	c *realcyrus.Client
}

func (s session) cmd(format string, args ...any) []string {
	s.Helper()
	answers, err := s.c.Cmd(format, args...)
	require.NoError(s, err, "%s", fmt.Sprintf(format, args...))
	return answers
}

func (s session) refused(format string, args ...any) {
	s.Helper()
	_, err := s.c.Cmd(format, args...)
	require.Error(s, err, "%s", fmt.Sprintf(format, args...))
}

func (s session) append(mailbox string, n int) {
	s.Helper()
	require.NoError(s, s.c.Append(mailbox, `\Seen`, time.Unix(1_700_000_000, 0), fmt.Appendf(nil, message, n)))
}

// exists is the number of messages that a SELECT tells.
func (s session) exists(mailbox string) string {
	s.Helper()
	for _, a := range s.cmd("SELECT %s", realcyrus.Quote(mailbox)) {
		if n, ok := strings.CutSuffix(a, " EXISTS"); ok {
			return n
		}
	}
	return "?"
}

func name(s string) mboxdb.Name { return mboxdb.InternalName(s) }

// TestServerUsesOurs: mailboxes that we create, rename, give away and delete are selected, appended to and renamed by a
// real server, which has nothing to mend in them.
func TestServerUsesOurs(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string, srv *realcyrus.Server, s session) {
		s.cmd("CREATE user.zoe") // the list is the server's
		st := openReal(t, srv.Store)
		own := func() { realcyrus.Give(t, srv.Dir) }

		moved, err := st.Create(ctx, NewMailbox{Name: name("user.alice")})
		require.NoError(t, err)
		require.Len(t, moved, 1)
		moved, err = st.Create(ctx, NewMailbox{Name: name("user.alice.a.b.c d")})
		require.NoError(t, err)
		require.Len(t, moved, 3, "what is missing above is made")
		_, err = st.Create(ctx, NewMailbox{Name: name("shared")})
		require.NoError(t, err)
		own()
		for i, m := range []string{"user.alice", "user.alice.a", "user.alice.a.b", "user.alice.a.b.c d", "shared"} {
			if m == "shared" {
				s.cmd("SETACL shared cyrus lrswipkxtecda")
			} else {
				s.cmd("SETACL %s cyrus lrswipkxtecda", realcyrus.Quote(m))
			}
			require.Equal(t, "0", s.exists(m))
			s.append(m, i)
			s.append(m, i+100)
			require.Equal(t, "2", s.exists(m))
		}

		_, err = st.Rename(ctx, Renaming{From: name("user.alice.a"), To: name("user.alice.x.y")})
		require.NoError(t, err)
		own()
		for _, m := range []string{"user.alice.x", "user.alice.x.y", "user.alice.x.y.b", "user.alice.x.y.b.c d"} {
			require.Equal(t, map[bool]string{true: "0", false: "2"}[m == "user.alice.x"], s.exists(m))
			s.append(m, 7)
		}
		s.refused("SELECT user.alice.a")
		s.refused("SELECT user.alice.a.b")
		s.cmd("RENAME user.alice.x.y user.alice.z")
		require.Equal(t, "3", s.exists("user.alice.z"))
		fetched := s.cmd("FETCH 1:* (UID FLAGS RFC822.SIZE INTERNALDATE ENVELOPE)")
		require.GreaterOrEqual(t, len(fetched), 3)

		_, err = st.SetACL(ctx, Grant{Name: name("user.alice.z.b"), Identifier: "bob", Rights: mboxdb.RightLookup | mboxdb.RightRead})
		require.NoError(t, err)
		own()
		require.Contains(t, strings.Join(s.cmd("GETACL user.alice.z.b"), "\n"), "bob lr")

		_, err = st.Delete(ctx, Deletion{Name: name("user.alice.z.b")})
		require.ErrorIs(t, err, ErrChildren)
		moved, err = st.Delete(ctx, Deletion{Name: name("user.alice.z.b"), Recursive: true})
		require.NoError(t, err)
		own()
		s.refused("SELECT user.alice.z.b")
		deleted := moved[0].After.Name.String()
		require.True(t, strings.HasPrefix(deleted, "DELETED.user.alice.z.b."), deleted)
		require.Equal(t, "3", s.exists(deleted))
		s.append(deleted, 9)
		moved, err = st.Delete(ctx, Deletion{Name: name("user.alice.z"), Immediate: true})
		require.NoError(t, err)
		own()
		s.refused("SELECT user.alice.z")
		s.cmd("CREATE user.alice.z")
		require.Equal(t, "0", s.exists("user.alice.z"))
		require.True(t, moved[0].After.Name.IsZero())

		// To another partition, and back from among the deleted.
		if kind == "legacy" {
			s.append("user.alice.x", 11)
			_, err = st.Rename(ctx, Renaming{From: name("user.alice.x"), To: name("user.alice.x"), Partition: "other"})
			require.NoError(t, err)
			own()
			require.Equal(t, "2", s.exists("user.alice.x"))
			s.append("user.alice.x", 12)
			require.DirExists(t, filepath.Join(srv.Dir, "spool2"))
		}
		_, err = st.Rename(ctx, Renaming{From: name(deleted), To: name("user.alice.back")})
		require.NoError(t, err)
		own()
		require.Equal(t, "4", s.exists("user.alice.back"))
		s.append("user.alice.back", 13)

		checkAll(t, st)
		require.NoError(t, srv.Stop())
		out := srv.Try(t, "reconstruct", nil, "-n", "-r", "user", "shared", "DELETED")
		require.Equal(t, 0, out.Code, out.Stderr)
		require.Contains(t, out.Stdout, "user.alice.back")
		for line := range strings.Lines(out.Stdout) {
			require.NotContains(t, line, ":", "reconstruct finds something to mend")
		}
	})
}

// checkAll compares the list, the directories, the header files and the indexes of a store with each other.
func checkAll(t *testing.T, st *Store) {
	t.Helper()
	require.NoError(t, st.list.Check(ctx, func(f mboxdb.Finding) {
		require.LessOrEqual(t, f.Severity, mboxdb.Finding{}.Severity, "%v", f)
	}))
	require.NoError(t, st.list.View(ctx, func(v *mboxdb.View) error {
		for rec, err := range v.All() {
			require.NoError(t, err)
			if rec.Type.Exists() {
				checkOne(t, st, rec)
			}
		}
		return nil
	}))
}

func checkOne(t *testing.T, st *Store, rec mboxdb.Record) {
	t.Helper()
	p, err := st.place(rec)
	require.NoError(t, err)
	m, err := index.Open(ctx, st.fs, p.at)
	require.NoError(t, err, rec.Name)
	defer m.Close()
	h, err := m.HeaderFile()
	require.NoError(t, err)
	head, err := m.Header()
	require.NoError(t, err)
	require.Equal(t, rec.UniqueID, h.UniqueID)
	require.Equal(t, headerACL(rec.ACL), h.ACL, rec.Name)
	require.Equal(t, h.Checksum(), head.HeaderFileCRC)
	require.Equal(t, rec.UIDValidity, head.UIDValidity)
	require.GreaterOrEqual(t, uint64(head.HighestModSeq), rec.FolderModSeq, rec.Name)
	if !rec.Type.Legacy() {
		require.Equal(t, rec.Name.String(), h.Name)
	}
}

// TestSyncLogAsCyrus: for the same changes we add the lines that a real server adds.
func TestSyncLogAsCyrus(t *testing.T) {
	eachKind(t, func(t *testing.T, _ string, srv *realcyrus.Server, s session) {
		log := filepath.Join(srv.Dir, "conf", "sync", "log")
		lines := func() []string {
			b, err := os.ReadFile(log)
			require.NoError(t, err)
			require.NoError(t, os.Remove(log))
			var list []string
			for line := range strings.Lines(string(b)) {
				list = append(list, strings.TrimSuffix(line, "\n"))
			}
			return list
		}
		kind := func(list []string, user string) []string {
			var out []string
			for _, line := range list {
				if strings.HasPrefix(line, "SEEN ") {
					continue // what a session has seen, which none of ours has
				}
				line = strings.ReplaceAll(line, user, "U")
				if i := strings.Index(line, "DELETED."); i >= 0 {
					line = line[:i] + "DELETED"
				}
				if !slices.Contains(out, line) {
					out = append(out, line)
				}
			}
			slices.Sort(out)
			return out
		}
		st := openReal(t, srv.Store)
		steps := []struct {
			what  string
			imap  string
			store func() error
		}{
			{"create", "CREATE user.zoe", func() error { _, err := st.Create(ctx, NewMailbox{Name: name("user.amy")}); return err }},
			{"create a folder", `CREATE "user.zoe.a (b) c"`, func() error { _, err := st.Create(ctx, NewMailbox{Name: name("user.amy.a (b) c")}); return err }},
			{"setacl", "SETACL user.zoe bob lr", func() error {
				_, err := st.SetACL(ctx, Grant{Name: name("user.amy"), Identifier: "bob", Rights: mboxdb.RightLookup | mboxdb.RightRead})
				return err
			}},
			{"rights", "SETACL \"user.zoe.a (b) c\" cyrus lrxciswte", func() error {
				_, err := st.SetACL(ctx, Grant{Name: name("user.amy.a (b) c"), Identifier: "cyrus", Rights: mboxdb.RightLookup})
				return err
			}},
			{"append", "", func() error { deliver(t, st, "user.amy.a (b) c", 1); return nil }},
			{"flags", "STORE 1 +FLAGS.SILENT (\\Flagged)", func() error {
				m, err := st.OpenMailbox(ctx, name("user.amy.a (b) c"))
				require.NoError(t, err)
				require.NoError(t, m.Update(ctx, func(tx *index.Tx) error {
					_, err := tx.SetFlags(1, index.FlagChange{Op: index.AddFlags, Flags: index.FlagFlagged})
					return err
				}))
				return m.Close()
			}},
			{"rename", `RENAME "user.zoe.a (b) c" user.zoe.d`, func() error {
				_, err := st.Rename(ctx, Renaming{From: name("user.amy.a (b) c"), To: name("user.amy.d")})
				return err
			}},
			{"delete", "DELETE user.zoe.d", func() error { _, err := st.Delete(ctx, Deletion{Name: name("user.amy.d")}); return err }},
		}
		for _, step := range steps {
			if step.imap == "" {
				s.append("user.zoe.a (b) c", 1)
				require.Equal(t, "1", s.exists("user.zoe.a (b) c"))
			} else {
				s.cmd("%s", step.imap)
			}
			want := lines()
			require.NoError(t, step.store(), step.what)
			realcyrus.Give(t, srv.Dir)
			require.Equal(t, kind(want, "user.zoe"), kind(lines(), "user.amy"), step.what)
		}
	})
}

// TestStatusCache: after a change of ours a real server that caches the answers to STATUS does not answer from its cache.
func TestStatusCache(t *testing.T) {
	t.Parallel()
	realcyrus.NeedServer(t)
	srv := realcyrus.StartServer(t, kinds[0].options())
	s := session{t, srv.Dial(t, realcyrus.AdminUser)}
	s.cmd("CREATE user.zoe")
	s.cmd("SETACL user.zoe cyrus lrswipkxtecda")
	s.append("user.zoe", 1)
	status := func() string {
		return strings.Join(s.cmd("STATUS user.zoe (MESSAGES UIDNEXT UNSEEN HIGHESTMODSEQ)"), "\n")
	}
	require.Contains(t, status(), "MESSAGES 1 UIDNEXT 2")
	cached := func() string {
		return srv.Run(t, "cyr_dbtool", filepath.Join(srv.Dir, "conf", "statuscache.db"), "twoskip", "show")
	}
	require.Contains(t, cached(), "user.zoe%")
	st := openReal(t, srv.Store)
	deliver(t, st, "user.zoe", 2)
	realcyrus.Give(t, srv.Dir)
	require.NotContains(t, cached(), "user.zoe%")
	require.Contains(t, status(), "MESSAGES 3 UIDNEXT 4")
	require.Contains(t, cached(), "user.zoe%")
	_, err := st.Delete(ctx, Deletion{Name: name("user.zoe")})
	require.NoError(t, err)
	require.NotContains(t, cached(), "user.zoe%")
}
