package quota

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
)

var rewrite = flag.Bool("rewrite", false, "write the files in testdata/real anew, from a real server")

// serverKinds are the ways in which Cyrus keeps its roots.
var serverKinds = []struct {
	name    string
	options realcyrus.Options
}{
	{"files", realcyrus.Options{}},
	{"fullhash", realcyrus.Options{Hash: true, Extra: map[string]string{"fulldirhash": "yes"}}},
	{"domains", realcyrus.Options{Hash: true, Extra: map[string]string{"virtdomains": "userid"}}},
	{"both", realcyrus.Options{Extra: map[string]string{"virtdomains": "userid", "fulldirhash": "yes"}}},
	{"twoskip", realcyrus.Options{QuotaDB: "twoskip"}},
	{"skiplist", realcyrus.Options{QuotaDB: "skiplist", Extra: map[string]string{"virtdomains": "userid"}}},
	{"flat", realcyrus.Options{QuotaDB: "flat"}},
}

// server is a real Cyrus, its roots as we see them, and a session of its administrator.
type server struct {
	*realcyrus.Server
	t     *testing.T
	roots *Roots
	admin *realcyrus.Client
}

func eachServer(t *testing.T, test func(t *testing.T, s *server, kind string)) {
	for _, k := range serverKinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			realcyrus.NeedServer(t)
			test(t, startServer(t, k.options), k.name)
		})
	}
}

func startServer(t *testing.T, o realcyrus.Options) *server {
	s := &server{Server: realcyrus.StartServer(t, o), t: t}
	c, err := imapdconf.Read(vfs.OS(), s.Conf).Config("mailspine")
	require.NoError(t, err)
	s.roots, err = OpenRoots(ctx, c, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.roots.Close()) })
	s.admin = s.Dial(t, realcyrus.AdminUser)
	return s
}

func (s *server) cmd(format string, args ...any) []string {
	s.t.Helper()
	lines, err := s.admin.Cmd(format, args...)
	require.NoError(s.t, err, format, args)
	return lines
}

// fill makes mailboxes with mail, and roots of every kind.
func (s *server) fill() {
	s.cmd("CREATE user.foo")
	s.cmd("CREATE user.foo.sub")
	s.cmd("CREATE user.zero")
	s.cmd("CREATE shared")
	s.cmd("SETQUOTA user.foo (STORAGE 1000 MESSAGE 50)")
	s.cmd("SETQUOTA user.foo.sub (X-NUM-FOLDERS 3)")
	s.cmd("SETQUOTA user.zero (STORAGE 0)")
	s.cmd("SETQUOTA shared (STORAGE 5000 X-ANNOTATION-STORAGE 7)")
	if s.roots.domains {
		s.cmd("CREATE user.bar@d.org")
		s.cmd("SETQUOTA user.bar@d.org (STORAGE 77)")
	}
	require.NoError(s.t, s.AddUser("foo"))
	foo := s.Dial(s.t, "foo")
	for i, box := range []string{"INBOX", "INBOX", "INBOX.sub"} {
		require.NoError(s.t, foo.Append(box, "", time.Time{}, realcyrus.Message(1, i)))
	}
}

// report is what Cyrus's program prints of the roots.
func report(t testing.TB, r *Roots) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("   Quota   % Used     Used             Resource Root\n")
	for root, err := range r.All(ctx) {
		require.NoError(t, err)
		require.NoError(t, root.Err)
		name := root.Name
		if domain, rest, ok := strings.Cut(name, "!"); ok {
			name = rest + "@" + domain
		}
		for i := range Resource(Resources) {
			used, limit := root.Record.Used[i], root.Record.Limits[i]
			switch {
			case limit > 0:
				fmt.Fprintf(&b, " %7d %8d", limit, used/i.Unit()*100/limit)
			case limit == 0:
				fmt.Fprintf(&b, " %7d         ", 0)
			default:
				b.WriteString(strings.Repeat(" ", 17))
			}
			fmt.Fprintf(&b, " %8d %20s %s\n", used/i.Unit(), i, name)
		}
	}
	return b.String()
}

// requireSame checks that Cyrus and we say the same of all roots, and that we would write what is there.
func (s *server) requireSame() {
	s.t.Helper()
	require.Equal(s.t, s.Run(s.t, "quota"), report(s.t, s.roots))
	for root, err := range s.roots.All(ctx) {
		require.NoError(s.t, err)
		value, err := s.roots.kept.get(ctx, root.Name)
		require.NoError(s.t, err)
		require.Equal(s.t, string(value), string(root.Record.Append(nil)))
		// A record without its source is spelled in the same way: Cyrus's spelling is ours.
		bare := root.Record.copied()
		bare.source = nil
		require.Equal(s.t, string(value), string(bare.Append(nil)))
		if _, ok := s.roots.kept.(*files); ok {
			content, err := os.ReadFile(s.roots.kept.path(root.Name))
			require.NoError(s.t, err)
			require.Equal(s.t, string(content), string(frame(value)))
		}
	}
}

// TestWithServer: what a live server writes we read, and the other way round, however the roots are kept.
func TestWithServer(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server, kind string) {
		s.fill()
		s.requireSame()
		if *rewrite {
			s.record(kind)
			s.Run(t, "quota") // even a report takes away what the recalculation has left
		}
		before, err := os.Stat(s.roots.kept.path("user.foo"))
		require.NoError(t, err)
		rec, err := s.roots.Update(ctx, "user.foo", func(r *Record) error {
			r.Used[Storage], r.Used[Annotations] = 123_456, 4096
			r.Limits = limits(2000, -1, 9, 0)
			return nil
		})
		require.NoError(t, err)
		requireOwner(t, before, s.roots.kept.path("user.foo"))
		s.requireSame()
		require.Contains(t, strings.Join(s.cmd("GETQUOTA user.foo"), "\n"), "(STORAGE 120 2000 X-ANNOTATION-STORAGE 4 9 X-NUM-FOLDERS 1 0)")

		s.cmd("SETQUOTA user.foo (STORAGE 3000)")
		got, err := s.roots.Get(ctx, "user.foo")
		require.NoError(t, err)
		require.Equal(t, rec.Used, got.Used)
		require.Equal(t, limits(3000, -1, -1, -1), got.Limits)
		require.Equal(t, rec.ModSeq+1, got.ModSeq)
		got, err = s.roots.Get(ctx, "shared")
		require.NoError(t, err)
		require.Zero(t, got.ModSeq)
		got, err = s.roots.Update(ctx, "shared", func(r *Record) error { r.Used[Messages]++; return nil })
		require.NoError(t, err)
		require.Zero(t, got.ModSeq, "a shared root has no modification sequence")

		// A root that we have made is one, and one that we have removed is none.
		held, err := s.roots.LockChanges(ctx)
		require.NoError(t, err)
		require.NoError(t, s.roots.Create(ctx, "user.new", Record{Limits: limits(10, 20, 30, 40), Used: Amounts{10240}}))
		require.NoError(t, s.roots.Delete(ctx, "user.foo.sub"))
		held.Release()
		realcyrus.Give(t, filepath.Join(s.Dir, "conf"))
		require.Contains(t, strings.Join(s.cmd("GETQUOTA user.new"), "\n"), "(STORAGE 10 10 MESSAGE 0 20 X-ANNOTATION-STORAGE 0 30 X-NUM-FOLDERS 0 40)")
		_, err = s.admin.Cmd("GETQUOTA user.foo.sub")
		require.Error(t, err)
		s.cmd("SETQUOTA user.new (MESSAGE 1)")
		s.requireSame()
	})
}

func requireOwner(t testing.TB, before fs.FileInfo, path string) {
	t.Helper()
	now, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, before.Mode(), now.Mode())
	a, err := vfs.OS().Stat(path)
	require.NoError(t, err)
	dir, err := vfs.OS().Stat(filepath.Dir(path))
	require.NoError(t, err)
	require.Equal(t, dir.UID, a.UID, "the server can still change its file")
}

// TestLocksWithServer: the lock of a record and that of all changes keep a live server away, and no change is lost.
func TestLocksWithServer(t *testing.T) {
	eachServer(t, func(t *testing.T, s *server, _ string) {
		s.fill()
		waits := func(command string, free func()) {
			t.Helper()
			done := make(chan error, 1)
			other := s.Dial(t, realcyrus.AdminUser)
			go func() { _, err := other.Cmd("%s", command); done <- err }()
			select {
			case err := <-done:
				require.Fail(t, "the server did not wait", "%s: %v", command, err)
			case <-time.After(300 * time.Millisecond):
			}
			free()
			require.NoError(t, <-done)
		}
		s.cmd("CREATE user.other")
		held, err := s.roots.LockChanges(ctx)
		require.NoError(t, err)
		waits("SETQUOTA user.other (STORAGE 1)", held.Release)

		begun, end := make(chan struct{}), make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			_, err := s.roots.Update(ctx, "user.foo", func(r *Record) error {
				close(begun)
				<-end
				r.Used[Annotations] = 5
				return nil
			})
			ended <- err
		}()
		<-begun
		waits("SETQUOTA user.foo (STORAGE 99)", func() { close(end) })
		require.NoError(t, <-ended)
		got, err := s.roots.Get(ctx, "user.foo")
		require.NoError(t, err)
		require.Equal(t, int64(5), got.Used[Annotations])
		require.Equal(t, limits(99, -1, -1, -1), got.Limits)

		const rounds = 40
		var work sync.WaitGroup
		for range 2 {
			work.Go(func() {
				for range rounds {
					if _, err := s.roots.Update(ctx, "user.foo", func(r *Record) error { r.Used[Annotations]++; return nil }); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for i := range rounds {
			s.cmd("SETQUOTA user.foo (STORAGE %d)", 1000+i)
		}
		work.Wait()
		after, err := s.roots.Get(ctx, "user.foo")
		require.NoError(t, err)
		require.Equal(t, got.Used[Annotations]+2*rounds, after.Used[Annotations])
		require.Equal(t, limits(1000+rounds-1, -1, -1, -1), after.Limits)
		require.Equal(t, got.ModSeq+3*rounds, after.ModSeq, "each change has a number of its own")
	})
}

// TestModSeqWithServer: with conversations the number of a change comes from the user's counters, in both layouts, so that no other
// change gets the same.
func TestModSeqWithServer(t *testing.T) {
	for name, extra := range map[string]map[string]string{
		"uuid":   {"conversations": "yes"},
		"legacy": {"conversations": "yes", "mailbox_legacy_dirs": "yes", "virtdomains": "userid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			realcyrus.NeedServer(t)
			s := startServer(t, realcyrus.Options{Extra: extra})
			s.fill()
			path, err := s.roots.modSeqs.countersPath(ctx, "user.foo.sub", "foo")
			require.NoError(t, err)
			counters := func() (c index.Counters) {
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				require.NoError(t, c.Decode(b))
				require.NoError(t, c.Validate())
				return c
			}
			before := counters()
			info, err := os.Stat(path)
			require.NoError(t, err)
			for i := range index.ModSeq(3) {
				rec, err := s.roots.Update(ctx, "user.foo.sub", func(r *Record) error { r.Used[Storage]++; return nil })
				require.NoError(t, err)
				now := counters()
				require.Equal(t, before.Values[index.CounterHighest]+i+1, now.Values[index.CounterHighest])
				require.Equal(t, now.Values[index.CounterHighest], now.Values[index.CounterQuota])
				require.EqualValues(t, now.Values[index.CounterQuota], rec.ModSeq)
				require.Equal(t, before.Generation+uint32(i)+1, now.Generation)
			}
			requireOwner(t, info, path)
			s.cmd("SETQUOTA user.foo (STORAGE 4321)")
			rec, err := s.roots.Get(ctx, "user.foo")
			require.NoError(t, err)
			require.EqualValues(t, before.Values[index.CounterHighest]+4, rec.ModSeq, "the server goes on from there")
			s.requireSame()

			// Without the counters the change is made all the same.
			require.NoError(t, os.WriteFile(path, []byte("damaged"), 0o600))
			again, err := s.roots.Update(ctx, "user.foo", func(r *Record) error { r.Used[Storage]++; return nil })
			require.NoError(t, err)
			require.Equal(t, rec.ModSeq+1, again.ModSeq)
		})
	}
}

// record copies what the server has written to testdata/real, with a record that a recalculation which was killed has left.
func (s *server) record(kind string) {
	s.t.Helper()
	dir := filepath.Join("testdata", "real", kind)
	require.NoError(s.t, os.RemoveAll(dir))
	require.NoError(s.t, os.MkdirAll(dir, 0o755))
	conf := filepath.Join(s.Dir, "conf")
	require.NoError(s.t, os.WriteFile(filepath.Join(dir, "report.txt"), []byte(s.Run(s.t, "quota")), 0o644))
	s.cutScan(conf)
	for _, name := range []string{"quota", "domain", "quotas.db"} {
		err := filepath.WalkDir(filepath.Join(conf, name), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || name == "domain" && !strings.Contains(path, "/quota/") {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(conf, path)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(rel)), 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, rel), b, 0o644)
		})
		if !errors.Is(err, fs.ErrNotExist) {
			require.NoError(s.t, err)
		}
	}
}

// cutScan kills a recalculation after the first mailbox of user.foo: with -Z it waits for a file before each.
func (s *server) cutScan(conf string) {
	s.t.Helper()
	sync := filepath.Join(conf, "quota-sync")
	require.NoError(s.t, os.MkdirAll(sync, 0o755))
	require.NoError(s.t, os.WriteFile(filepath.Join(sync, "user.foo"), nil, 0o644))
	realcyrus.Give(s.t, sync)
	cmd := s.Command(s.t, "quota", "-f", "-Z", "user.foo")
	require.NoError(s.t, cmd.Start())
	require.Eventually(s.t, func() bool {
		value, err := s.roots.kept.get(ctx, "user.foo")
		return err == nil && bytes.Contains(value, []byte("MBOX user.foo "))
	}, 10*time.Second, 20*time.Millisecond)
	require.NoError(s.t, cmd.Process.Kill())
	_ = cmd.Wait()
}

// TestGolden reads what a real Cyrus 3.6.1 has written, wherever the test runs, and writes it again byte for byte.
func TestGolden(t *testing.T) {
	for _, k := range serverKinds {
		t.Run(k.name, func(t *testing.T) {
			golden := filepath.Join("testdata", "real", k.name)
			want, err := os.ReadFile(filepath.Join(golden, "report.txt"))
			require.NoError(t, err)
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(filepath.Join(dir, "conf"), os.DirFS(golden)))
			var lines []string
			for name, value := range k.options.Extra {
				lines = append(lines, name+": "+value)
			}
			if k.options.QuotaDB != "" {
				lines = append(lines, "quota_db: "+k.options.QuotaDB)
			}
			r := openRoots(t, vfs.OS(), dir, lines...)
			require.Equal(t, string(want), report(t, r))
			scan := 0
			for _, name := range names(t, r) {
				value, err := r.kept.get(ctx, name)
				require.NoError(t, err)
				rec, err := r.Get(ctx, name)
				require.NoError(t, err)
				require.Equal(t, string(value), string(rec.Append(nil)))
				again := rec.copied()
				again.source = nil
				require.Equal(t, string(value), string(again.Append(nil)))
				if rec.Scan != nil {
					scan++
					require.Equal(t, "user.foo", rec.Scan.Mailbox)
					require.Equal(t, Amounts{rec.Used[Storage], 2, 0, 1}, rec.Scan.Used)
				}
				if _, ok := r.kept.(*files); ok {
					content, err := os.ReadFile(r.kept.path(name))
					require.NoError(t, err)
					require.Equal(t, string(content), string(frame(value)))
				}
			}
			require.Equal(t, 1, scan)
			left, err := r.LeftOvers(ctx)
			require.NoError(t, err)
			require.Empty(t, left)
			require.True(t, slices.Contains(names(t, r), "user.zero"))
		})
	}
}

// TestFormsWithCyrus: of records in old forms the real program reads what we read. Of those that we refuse as damaged it reads
// something, mostly that nothing is limited; or it refuses them, and all others with them.
func TestFormsWithCyrus(t *testing.T) {
	realcyrus.NeedPrograms(t)
	for name, options := range map[string]realcyrus.Options{"files": {}, "twoskip": {QuotaDB: "twoskip"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := realcyrus.NewStore(t, options)
			c, err := imapdconf.Read(vfs.OS(), s.Conf).Config("")
			require.NoError(t, err)
			r, err := OpenRoots(ctx, c, Options{})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, r.Close()) })
			set := func(root, value string) {
				if files, ok := r.kept.(*files); ok {
					put(t, vfs.OS(), files.path(root), string(frame([]byte(value))))
					return
				}
				db, err := r.kept.(*database).open(ctx, true)
				require.NoError(t, err)
				require.NoError(t, db.Put(ctx, []byte(root), []byte(value)))
			}
			for i, value := range []string{
				"1234567 5000", "1234567 -1", "99999 100 M 5 1000", "99999 100 77 M 5 -1 4 AS 6666 7 8", "99999 0", "0 0 AS 6666 7",
				"%(S (7777 100) M (5) AS (0))", "%(AS (9999) X-NEW (1 2) M (5) S (7777 8) MODSEQ 3 Y %(a b))",
				"%(S (9223372036854775807 9007199254740991) M (5) AS (0) NF (1))",
			} {
				set(fmt.Sprintf("user.u%d", i), value)
			}
			if files, ok := r.kept.(*files); ok {
				put(t, vfs.OS(), newFile("user.u0", files.path("user.u0")), "1\n2\n") // a creation that was cut off
			}
			realcyrus.Give(t, s.Dir)
			require.Equal(t, s.Run(t, "quota"), report(t, r))

			set("user.cut", "%(S (7777")
			realcyrus.Give(t, s.Dir)
			_, err = r.Get(ctx, "user.cut")
			require.ErrorIs(t, err, ErrDamaged)
			out := s.Try(t, "quota", nil, "user.cut")
			require.Zero(t, out.Code)
			require.Contains(t, out.Stdout, strings.Repeat(" ", 17)+"        0              STORAGE user.cut\n", "nothing is used, and nothing limited")
		})
	}
}
