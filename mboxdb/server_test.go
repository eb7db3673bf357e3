package mboxdb

import (
	"context"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

var ctx = context.Background()

// kinds are the stores on which we are held against a real server.
var kinds = []struct {
	name    string
	options realcyrus.Options
	ns      Namespace
	users   []string
}{
	{"uuid", realcyrus.Options{Extra: map[string]string{"reverseacls": "yes"}}, Namespace{}, []string{"alice", "bob", "d^ot"}},
	{"legacy", realcyrus.LegacyLayout(), Namespace{VirtDomains: true, DefaultDomain: "def.example"}, []string{"alice", "bob", "dan@other.example"}},
	{"alt", realcyrus.Options{UnixHS: true, MailboxDB: "skiplist", Extra: map[string]string{"altnamespace": "yes"}},
		Namespace{UnixSep: true, Alt: true}, []string{"alice", "bob", "d.ot"}},
}

// hardNames are legal, and hard to spell.
var hardNames = []string{
	"Work", "Work|2024", "Work|2024|Q1^final", "x y", "a&-b", "&AOQ-rger", "[brack]ets", "par(en)s", "it's", "plus+comma,dot.x", "INBOX", "INBOX|Sub",
	"Drafts", "Drafts|Old", "-", "#hash", "a=b?c:d", "@at", "ToRename", "ToRename|Deep", "ToDelete", "nil", "NIL", "Other Users", "caf^e",
}

// fill makes a server with mailboxes of every sort.
func fill(t *testing.T, k int) *realcyrus.Server {
	realcyrus.NeedServer(t)
	s := realcyrus.StartServer(t, kinds[k].options)
	admin := s.Dial(t, realcyrus.AdminUser)
	ns := kinds[k].ns
	sep := string(ns.Separator())
	spell := func(s string) string {
		if ns.UnixSep {
			s = strings.ReplaceAll(s, "^", "-")
		} else {
			s = strings.ReplaceAll(s, ".", "^")
		}
		return strings.ReplaceAll(s, "|", sep)
	}
	cmd := func(format string, args ...any) {
		t.Helper()
		_, err := admin.Cmd(format, args...)
		require.NoError(t, err, format, args)
	}
	for _, user := range kinds[k].users {
		require.NoError(t, s.AddUser(strings.ReplaceAll(user, "^", ".")))
		local, domain, _ := strings.Cut(user, "@")
		at := ""
		if domain != "" {
			at = "@" + domain
		}
		root := "user" + sep + local
		cmd("CREATE %s", realcyrus.Quote(root+at))
		for _, n := range hardNames {
			cmd("CREATE %s", realcyrus.Quote(root+sep+spell(n)+at))
		}
		cmd("SETACL %s anyone lr", realcyrus.Quote(root+sep+"Work"+at))
		cmd("SETACL %s bob lrs", realcyrus.Quote(root+sep+spell("x y")+at))
		cmd("SETACL %s -bob l", realcyrus.Quote(root+sep+"Drafts"+at))
		cmd("RENAME %s %s", realcyrus.Quote(root+sep+"ToRename"+at), realcyrus.Quote(root+sep+"Renamed"+at))
		cmd("SETACL %s cyrus lrx", realcyrus.Quote(root+sep+"ToDelete"+at))
		cmd("DELETE %s", realcyrus.Quote(root+sep+"ToDelete"+at))
	}
	for _, n := range []string{"shared", "shared|sub", "News", "Notes", "In^box"} {
		cmd("CREATE %s", realcyrus.Quote(spell(n)))
	}
	cmd("SETACL shared anyone lrsp")
	cmd("SETACL %s cyrus lrx", realcyrus.Quote("shared"+sep+"sub"))
	cmd("DELETE %s", realcyrus.Quote("shared"+sep+"sub"))
	return s
}

// openList opens the list of a server's store, as it lies there.
func openList(t *testing.T, s *realcyrus.Store, k int) *List {
	l, err := Open(ctx, s.MailboxDB(), Options{DB: skiplist.Options{ReadOnly: true}, Layout: Layout{Namespace: kinds[k].ns}, Admins: []string{"cyrus"}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func TestRealStores(t *testing.T) {
	for k, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := fill(t, k)
			l := openList(t, s.Store, k)
			t.Run("records", func(t *testing.T) { everyRecord(t, l) })
			t.Run("list", func(t *testing.T) { listAgrees(t, s, l, k) })
			t.Run("paths", func(t *testing.T) { pathsAgree(t, s, l, k) })
		})
	}
}

// everyRecord reads and writes each record of a list; the bytes are the same, and those under names and ids agree.
func everyRecord(t *testing.T, l *List) {
	n := map[byte]int{}
	require.NoError(t, l.DB().View(ctx, func(s *skiplist.Snapshot) error {
		for r, err := range s.All() {
			require.NoError(t, err)
			n[r.Key[0]]++
			switch r.Key[0] {
			case nameClass:
				rec, err := DecodeName(r.Key, r.Value)
				require.NoError(t, err)
				require.Equal(t, string(r.Value), string(rec.EncodeName(nil)))
				require.Equal(t, string(r.Value), string(rec.EncodeName(r.Value)))
				if _, deleted := rec.Name.Deleted(l.ns()); !deleted {
					require.NoError(t, l.ns().Validate(rec.Name))
				}
			case idClass:
				rec, err := DecodeID(r.Key, r.Value)
				require.NoError(t, err)
				require.Equal(t, string(r.Value), string(rec.EncodeID(nil)))
				require.Equal(t, string(r.Value), string(rec.EncodeID(r.Value)))
			case raclClass:
				if string(r.Key) == raclMarker {
					continue
				}
				id, name, ok := splitRACL(r.Key)
				require.True(t, ok)
				require.Equal(t, string(r.Key), string(raclKey(l.ns(), id, name)))
			default:
				t.Errorf("key %q", r.Key)
			}
		}
		return nil
	}))
	require.Greater(t, n[nameClass], 80)
	require.Greater(t, n[idClass], 80)
}

// listAgrees compares LIST with random patterns, for users and an admin.
func listAgrees(t *testing.T, s *realcyrus.Server, l *List, k int) {
	ns := kinds[k].ns
	r := rand.New(rand.NewPCG(7, uint64(k)))
	sep := string(ns.Separator())
	pieces := []string{"*", "%", "%", sep, sep, "user", "alice", "bob", "INBOX", "inbox", "Work", "2024", "D", "a", "shared", "Other Users", "Shared Folders",
		"Alt Folders", "DELETED", "N", "user" + sep + "alice" + sep, "@other.example", "x y", "&", "^"}
	total, found := 0, 0
	for _, user := range append([]string{"cyrus"}, kinds[k].users...) {
		viewer := Viewer{Namespace: ns}
		viewer.Namespace.User = strings.ReplaceAll(user, "^", ".")
		viewer.Namespace.Admin = user == "cyrus"
		c := s.Dial(t, viewer.Namespace.User)
		patterns := []string{"", "*", "%", "INBOX", "INBOX*", "%" + sep + "%", "*%", "user" + sep + "*", "user" + sep + "%", "Shared Folders*", "a", "DELETED*"}
		for range 170 {
			patterns = append(patterns, draw(r, pieces))
		}
		for _, p := range patterns {
			n := sameList(t, c, l, viewer, p)
			total, found = total+1, found+n
		}
		// Beside another pattern an empty one does not ask for the separator.
		sameList(t, c, l, viewer, "", "INBOX")
		sameList(t, c, l, viewer, "user*", "")
	}
	t.Logf("%d patterns, %d names found", total, found)
	require.GreaterOrEqual(t, total, 500)
}

// sameList compares an answer of the server to LIST with ours, and returns how many names are in it.
func sameList(t *testing.T, c *realcyrus.Client, l *List, viewer Viewer, patterns ...string) int {
	sep := string(viewer.Namespace.Separator())
	asked := realcyrus.Quote(patterns[0])
	if len(patterns) > 1 {
		asked = "(" + asked + " " + realcyrus.Quote(patterns[1]) + ")"
	}
	answer, err := c.Cmd(`LIST "" %s`, asked)
	require.NoError(t, err)
	want := map[string]string{}
	for _, line := range answer {
		flags, rest, ok := strings.Cut(strings.TrimPrefix(line, "LIST ("), `) "`+sep+`" `)
		require.True(t, ok, "%q", line)
		exists := "exists"
		if strings.Contains(flags, `\Noselect`) {
			exists = "level"
		}
		want[unquote(rest)] = exists
	}
	got := map[string]string{}
	require.NoError(t, l.View(ctx, func(v *View) error {
		for line, err := range v.List(viewer, patterns...) {
			require.NoError(t, err)
			require.NotContains(t, got, line.Name, "user %q, patterns %q", viewer.Namespace.User, patterns)
			got[line.Name] = map[bool]string{true: "exists", false: "level"}[line.Exists]
		}
		return nil
	}))
	require.Equal(t, want, got, "user %q, patterns %q", viewer.Namespace.User, patterns)
	_, separator := want[""]
	require.Equal(t, len(patterns) == 1 && patterns[0] == "", separator, "patterns %q", patterns)
	return len(want)
}

func unquote(s string) string {
	if _, literal, ok := strings.Cut(s, "}\r\n"); ok && s[0] == '{' {
		return literal
	}
	if len(s) > 1 && s[0] == '"' {
		return strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(s[1 : len(s)-1])
	}
	return s
}

// pathsAgree finds the directory of every mailbox where Cyrus has made it.
func pathsAgree(t *testing.T, s *realcyrus.Server, l *List, k int) {
	conf := kinds[k].options.Extra
	layout := Layout{ConfigDir: s.Dir + "/conf", HashSpool: kinds[k].options.Hash, FullHash: conf["fulldirhash"] == "yes", Namespace: kinds[k].ns,
		Partitions: map[string]Partition{"default": {Data: s.Dir + "/spool"}}}
	if conf["metapartition-default"] != "" {
		layout.MetaFiles = map[FileKind]bool{HeaderFile: true, IndexFile: true, CacheFile: true, AnnotationsFile: true}
		layout.Archive = true
		layout.Partitions["default"] = Partition{Data: s.Dir + "/spool", Meta: s.Dir + "/meta", Archive: s.Dir + "/archive"}
	}
	n := 0
	require.NoError(t, l.View(ctx, func(v *View) error {
		for rec, err := range v.All() {
			require.NoError(t, err)
			for _, kind := range []FileKind{HeaderFile, IndexFile} {
				path, err := layout.Path(rec, kind)
				require.NoError(t, err)
				_, err = os.Stat(path)
				require.NoError(t, err)
			}
			dir, err := layout.MessageDir(rec, false)
			require.NoError(t, err)
			if _, deleted := rec.Name.Deleted(layout.Namespace); !deleted && k != 2 {
				admin := layout.Namespace
				admin.Admin = true
				name, ok := admin.External(rec.Name)
				require.True(t, ok)
				out := s.Run(t, "mbpath", "-D", name)
				require.Equal(t, dir, strings.TrimSpace(out), "%s", rec.Name)
			}
			n++
		}
		return nil
	}))
	require.Greater(t, n, 80)
}

// TestServerHonoursOurs changes the list beside a running server: it lists what we create, rename and delete, and grants
// the rights that we set.
func TestServerHonoursOurs(t *testing.T) {
	realcyrus.NeedServer(t)
	for _, engine := range []string{"twoskip", "skiplist"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s := realcyrus.StartServer(t, realcyrus.Options{MailboxDB: engine, Extra: map[string]string{"reverseacls": "yes"}})
			require.NoError(t, s.AddUser("alice"))
			require.NoError(t, s.AddUser("bob"))
			admin, bob := s.Dial(t, realcyrus.AdminUser), s.Dial(t, "bob")
			_, err := admin.Cmd("CREATE user.alice")
			require.NoError(t, err)
			l, err := Open(ctx, s.MailboxDB(), Options{Layout: Layout{ConfigDir: s.Dir + "/conf"}, Admins: []string{"cyrus"}})
			require.NoError(t, err)
			defer l.Close()
			names := func(c *realcyrus.Client, pattern string) (names []string) {
				answer, err := c.Cmd(`LIST "" %s`, realcyrus.Quote(pattern))
				require.NoError(t, err)
				for _, line := range answer {
					_, rest, _ := strings.Cut(line, `) "." `)
					names = append(names, unquote(rest))
				}
				return names
			}
			for _, n := range []string{"user.alice.Neu", "user.alice.Neu.Sub (x)", "user.alice.&AOQ-"} {
				_, err = l.Create(ctx, NewMailbox{Name: InternalName(n)})
				require.NoError(t, err)
			}
			require.ElementsMatch(t, []string{"user.alice", "user.alice.Neu", "user.alice.Neu.Sub (x)", "user.alice.&AOQ-"}, names(admin, "user.alice*"))
			require.Empty(t, names(bob, "user.*"))
			_, err = l.SetACL(ctx, InternalName("user.alice.Neu"), "bob", AddRights, RightLookup|RightRead)
			require.NoError(t, err)
			require.Equal(t, []string{"user.alice.Neu"}, names(bob, "user.*"))
			answer, err := bob.Cmd("MYRIGHTS user.alice.Neu")
			require.NoError(t, err)
			require.Equal(t, []string{"MYRIGHTS user.alice.Neu lr"}, answer)
			_, err = l.Rename(ctx, InternalName("user.alice.Neu"), InternalName("user.alice.Alt"), RenameOptions{})
			require.NoError(t, err)
			require.ElementsMatch(t, []string{"user.alice.Alt", "user.alice.Alt.Sub (x)"}, names(admin, "user.alice.*lt*"))
			require.Equal(t, []string{"user.alice.Alt"}, names(bob, "user.*"))
			_, err = l.Delete(ctx, InternalName("user.alice.Alt.Sub (x)"), true)
			require.NoError(t, err)
			_, err = l.Delete(ctx, InternalName("user.alice.Alt"), false)
			require.NoError(t, err)
			require.Equal(t, []string{"user.alice", "user.alice.&AOQ-"}, names(admin, "user.alice*"))
			require.Len(t, names(admin, "DELETED.*"), 1)
			require.Empty(t, names(bob, "user.*"))
			// Beside what the server itself changes, all keys agree.
			_, err = admin.Cmd("CREATE user.carol")
			require.NoError(t, err)
			require.NoError(t, l.Check(ctx, func(f Finding) { require.LessOrEqual(t, f.Severity, skiplist.Info, f.String()) }))
			require.Contains(t, s.Run(t, "cyr_dbtool", s.MailboxDB(), engine, "consistent"), "Yes, consistent")
		})
	}
}

// TestDumpsAgree compares the dump with that of ctl_mboxlist, and loads both kinds of dump again.
func TestDumpsAgree(t *testing.T) {
	for k, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := fill(t, k)
			want := s.Run(t, "ctl_mboxlist", "-d")
			l := openList(t, s.Store, k)
			var cyrus, all strings.Builder
			require.NoError(t, l.View(ctx, func(v *View) error {
				unreadable, err := v.DumpCyrus(&cyrus)
				require.NoError(t, err)
				require.Zero(t, unreadable)
				return v.Dump(&all)
			}))
			require.Equal(t, want, cyrus.String())
			again := func(text string) *List {
				dir := realcyrus.TempDir(t)
				opts := Options{DB: skiplist.Options{Create: true, Format: l.DB().Format()}, Layout: l.Layout(), Admins: []string{"cyrus"},
					ReverseACLs: kind.options.Extra["reverseacls"] == "yes"}
				l, err := Open(ctx, dir+"/mailboxes.db", opts)
				require.NoError(t, err)
				t.Cleanup(func() { l.Close() })
				_, err = l.Undump(ctx, strings.NewReader(text))
				require.NoError(t, err)
				_, err = l.Undump(ctx, strings.NewReader(text))
				require.ErrorIs(t, err, ErrExists)
				return l
			}
			require.Equal(t, everything(t, l), everything(t, again(all.String())))
			require.Equal(t, withOneTime(everything(t, l)), everything(t, again(cyrus.String())))
		})
	}
}

var (
	timeOfRecord = regexp.MustCompile(` M (\d+) A `)
	idOfRecord   = regexp.MustCompile(`^%\(T \S+ I (\S+) P `)
)

// withOneTime gives the records by unique id the times of those by name. Cyrus makes them one after the other, at times in
// two different seconds, and its dump has that of the record by name.
func withOneTime(all map[string]string) map[string]string {
	for key, value := range all {
		id, at := idOfRecord.FindStringSubmatch(value), timeOfRecord.FindString(value)
		if key[0] != 'N' || id == nil || at == "" {
			continue
		}
		all["I"+id[1]] = timeOfRecord.ReplaceAllLiteralString(all["I"+id[1]], at)
	}
	return all
}

// everything is each key and value of a list.
func everything(t *testing.T, l *List) map[string]string {
	m := map[string]string{}
	require.NoError(t, l.DB().View(ctx, func(s *skiplist.Snapshot) error {
		for r, err := range s.All() {
			require.NoError(t, err)
			m[string(r.Key)] = string(r.Value)
		}
		return nil
	}))
	return m
}

// TestConfigured opens the list as the imapd.conf of a store says, and finds the files of every mailbox.
func TestConfigured(t *testing.T) {
	realcyrus.NeedServer(t)
	for k, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := fill(t, k)
			c, err := imapdconf.Read(vfs.OS(), s.Conf).Config("")
			require.NoError(t, err)
			path, opts := Configured(c)
			require.Equal(t, s.MailboxDB(), path)
			want := kind.ns
			want.UserPrefix, want.SharedPrefix, want.AltPrefix, want.DeletedPrefix = "Other Users", "Shared Folders", "Alt Folders", "DELETED"
			want.DefaultDomain = orElse(want.DefaultDomain, "internal")
			require.Equal(t, want, opts.Layout.Namespace)
			l, err := Open(ctx, path, opts)
			require.NoError(t, err)
			defer l.Close()
			require.NoError(t, l.Check(ctx, func(f Finding) { require.LessOrEqual(t, f.Severity, skiplist.Info, f.String()) }))
			require.NoError(t, l.View(ctx, func(v *View) error {
				for rec, err := range v.All() {
					require.NoError(t, err)
					for _, kind := range []FileKind{HeaderFile, IndexFile} {
						p, err := opts.Layout.Path(rec, kind)
						require.NoError(t, err)
						require.FileExists(t, p)
					}
				}
				return nil
			}))
		})
	}
}
