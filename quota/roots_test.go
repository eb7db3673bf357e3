package quota

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/vfs"
)

var ctx = context.Background()

// configOf is a configuration with its directories, in dir of a file system.
func configOf(t testing.TB, fsys vfs.FS, dir string, lines ...string) *imapdconf.Config {
	t.Helper()
	require.NoError(t, vfs.MkdirAll(fsys, filepath.Join(dir, "conf", "db"), 0o755))
	text := fmt.Sprintf("configdirectory: %[1]s/conf\ndefaultpartition: default\npartition-default: %[1]s/spool\n%s\n", dir, strings.Join(lines, "\n"))
	path := filepath.Join(dir, "imapd.conf")
	require.NoError(t, vfs.ReplaceFile(fsys, path, vfs.ReplaceOptions{}, func(f vfs.File) error {
		_, err := f.WriteAt([]byte(text), 0)
		return err
	}))
	c, err := imapdconf.Read(fsys, path).Config("")
	require.NoError(t, err)
	return c
}

// openRoots opens the roots of a configuration made of lines, below dir.
func openRoots(t testing.TB, fsys vfs.FS, dir string, lines ...string) *Roots {
	t.Helper()
	r, err := OpenRoots(ctx, configOf(t, fsys, dir, lines...), Options{FS: fsys})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// kinds are the ways in which roots are kept.
var kinds = map[string][]string{
	"files":      nil,
	"full hash":  {"fulldirhash: yes"},
	"domains":    {"virtdomains: userid"},
	"both":       {"virtdomains: userid", "fulldirhash: yes"},
	"twoskip":    {"quota_db: twoskip"},
	"skiplist":   {"quota_db: skiplist", "virtdomains: userid"},
	"flat":       {"quota_db: flat"},
	"mbox order": {"quota_db: skiplist", "improved_mboxlist_sort: yes"},
}

func eachKind(t *testing.T, test func(t *testing.T, r *Roots)) {
	for name, lines := range kinds {
		t.Run(name, func(t *testing.T) { test(t, openRoots(t, vfs.OS(), t.TempDir(), lines...)) })
	}
}

func create(t testing.TB, r *Roots, root string, rec Record) {
	t.Helper()
	held, err := r.LockChanges(ctx)
	require.NoError(t, err)
	defer held.Release()
	require.NoError(t, r.Create(ctx, root, rec))
}

func names(t testing.TB, r *Roots) (list []string) {
	t.Helper()
	for root, err := range r.All(ctx) {
		require.NoError(t, err)
		list = append(list, root.Name)
	}
	return list
}

// TestRoots: a root is made, read, changed, listed and removed, however it is kept.
func TestRoots(t *testing.T) {
	eachKind(t, func(t *testing.T, r *Roots) {
		_, err := r.Get(ctx, "user.fred")
		require.ErrorIs(t, err, ErrNotFound)
		require.Empty(t, names(t, r))
		_, err = r.Update(ctx, "user.fred", func(*Record) error { return nil })
		require.ErrorIs(t, err, ErrNotFound, "a change makes no root")
		require.ErrorIs(t, r.Delete(ctx, "user.fred"), ErrNotFound)
		require.NoError(t, r.Prepare(ctx))

		all := []string{"d.org!", "d.org!user.a", "shared", "user.a", "user.a.b", "user.a.b-d", "user.fred", "user.ü"}
		for i, name := range all {
			rec := Record{Limits: NoLimits()}
			rec.Used[Storage] = int64(i)
			create(t, r, name, rec)
			require.ErrorIs(t, r.Create(ctx, name, rec), ErrExists)
		}
		require.Equal(t, all, names(t, r))
		var asked, some []string
		for root, err := range r.Some(ctx, func(root string) bool {
			asked = append(asked, root)
			return strings.HasPrefix(root, "user.a.")
		}) {
			require.NoError(t, err)
			some = append(some, root.Name)
		}
		require.Equal(t, all, asked)
		require.Equal(t, all[4:6], some)
		got, err := r.Get(ctx, "user.fred")
		require.NoError(t, err)
		require.Equal(t, Amounts{6}, got.Used)
		require.Equal(t, uint64(1), got.ModSeq)

		got, err = r.Update(ctx, "user.fred", func(rec *Record) error {
			rec.Used[Messages], rec.Limits[Storage] = 9, 0
			return nil
		})
		require.NoError(t, err)
		again, err := r.Get(ctx, "user.fred")
		require.NoError(t, err)
		require.Equal(t, got, again)
		require.Equal(t, Amounts{6, 9}, got.Used)
		require.Equal(t, uint64(2), got.ModSeq)
		got, err = r.Update(ctx, "user.fred", func(*Record) error { return nil })
		require.NoError(t, err)
		require.Equal(t, uint64(2), got.ModSeq, "what changes nothing is not written")
		no := errors.New("no")
		_, err = r.Update(ctx, "user.fred", func(rec *Record) error { rec.Used = Amounts{}; return no })
		require.ErrorIs(t, err, no)
		_, err = r.Update(ctx, "user.fred", func(rec *Record) error { rec.Used[Storage] = -1; return nil })
		require.Error(t, err)
		again, err = r.Get(ctx, "user.fred")
		require.NoError(t, err)
		require.Equal(t, got, again)

		require.NoError(t, r.Delete(ctx, "user.a.b"))
		require.ErrorIs(t, r.Delete(ctx, "user.a.b"), ErrNotFound)
		require.Equal(t, append(append([]string{}, all[:4]...), all[5:]...), names(t, r))
		left, err := r.LeftOvers(ctx)
		require.NoError(t, err)
		require.Empty(t, left)
		require.NoError(t, r.Prepare(ctx))
	})
}

// TestOwner: the longest root counts, of whole levels; a domain's counts where no other does.
func TestOwner(t *testing.T) {
	eachKind(t, func(t *testing.T, r *Roots) {
		for _, root := range []string{"user.foo", "user.foo.sub", "d.org!user.x", "d.org!", "shared"} {
			create(t, r, root, Record{Limits: NoLimits()})
		}
		domain := "d.org!"
		if !r.domains {
			domain = ""
		}
		for mailbox, want := range map[string]string{
			"user.foo": "user.foo", "user.foo.a": "user.foo", "user.foobar": "", "user.foo.sub": "user.foo.sub",
			"user.foo.sub.x.y": "user.foo.sub", "user.foo.subx": "user.foo", "user": "", "": "", "shared.a/b": "shared",
			"d.org!user.x.y": "d.org!user.x", "d.org!user.new": domain, "other.org!user.x": "",
			"user.foo." + strings.Repeat("long", 100): "user.foo",
		} {
			got, err := r.Owner(ctx, mailbox)
			require.NoError(t, err, mailbox)
			require.Equal(t, want, got, mailbox)
		}
	})
}

// TestNames: no root lies outside of its directory.
func TestNames(t *testing.T) {
	eachKind(t, func(t *testing.T, r *Roots) {
		for _, name := range []string{"", ".", "..", "a/b", "../x", "..!user.x", "!x", "a\x00b", "a\nb", "d.org!.."} {
			require.ErrorIs(t, r.Create(ctx, name, Record{}), ErrName, name)
			_, err := r.Get(ctx, name)
			require.ErrorIs(t, err, ErrName)
			found, err := r.Exists(ctx, name)
			require.NoError(t, err)
			require.False(t, found)
		}
	})
}

// TestPaths: files lie where Cyrus keeps them.
func TestPaths(t *testing.T) {
	for kind, want := range map[string]map[string]string{
		"files":     {"user.bob.sub": "b/user.bob.sub", "9num": "q/9num", "user.Xa": "x/user.Xa", "a!user.full": "f/a!user.full"},
		"full hash": {"user.full": "N/user.full"},
	} {
		r := openRoots(t, vfs.OS(), t.TempDir(), kinds[kind]...)
		for root, path := range want {
			require.True(t, strings.HasSuffix(r.kept.path(root), "conf/quota/"+path), r.kept.path(root))
		}
	}
	r := openRoots(t, vfs.OS(), t.TempDir(), kinds["both"]...)
	require.True(t, strings.HasSuffix(r.kept.path("example.com!user.full"), "conf/domain/O/example.com/quota/N/user.full"))
	require.True(t, strings.HasSuffix(r.kept.path("example.com!"), "conf/domain/O/example.com/quota/root"))
}

// TestDamagedFiles: a file that says nothing, or not all, is named with the place, and the others are read.
func TestDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	r := openRoots(t, vfs.OS(), dir)
	for name, content := range map[string]string{
		"b/user.blank": "", "b/user.bad": "%(S (1) M (2)\n", "c/user.cut": "%(S (1) M (2) AS (3))", "o/user.old": "1234\n5000\n",
		"g/user.good": "%(S (1) M (2) AS (3))\n", "g/user.misplaced": "1\n2\n", "z/user.zero": "\x00\x00\x00\x00",
		"g/user.good.NEW": "%(S (1", "n/user.NEW": "1\n2\n", "a/user.alone.NEW": "1\n2\n",
	} {
		path := filepath.Join(dir, "conf/quota", name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "conf/quota/d"), 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "conf/quota/d/user.dir"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "conf/quota/stray"), nil, 0o600))
	classes := map[string]error{
		"user.blank": ErrEmpty, "user.bad": ErrDamaged, "user.cut": ErrDamaged, "user.misplaced": ErrMisplaced, "user.zero": ErrDamaged,
		"user.old": nil, "user.good": nil, "user.NEW": nil, "user.alone.NEW": nil,
	}
	seen := 0
	for root, err := range r.All(ctx) {
		require.NoError(t, err)
		seen++
		if root.Name == "user.dir" {
			require.Error(t, root.Err)
			continue
		}
		want, known := classes[root.Name]
		require.True(t, known, root.Name)
		if want == nil {
			require.NoError(t, root.Err)
			continue
		}
		var e *RootError
		require.ErrorAs(t, root.Err, &e)
		require.ErrorIs(t, e, want)
		require.Equal(t, root.Name, e.Root)
		require.Equal(t, filepath.Base(e.Path), root.Name)
		if want == ErrDamaged {
			require.Equal(t, map[string]int64{"user.bad": 13, "user.cut": 21, "user.zero": 4}[root.Name], e.Offset)
		}
	}
	require.Equal(t, len(classes)+1, seen)

	for name, want := range map[string]bool{"user.blank": true, "user.bad": true, "user.good.NEW": false, "user.alone.NEW": true, "user.misplaced": false} {
		found, err := r.Exists(ctx, name)
		require.NoError(t, err)
		require.Equal(t, want, found, name)
	}
	for _, name := range []string{"user.blank", "user.bad", "user.cut", "user.good.NEW"} {
		_, err := r.Update(ctx, name, func(rec *Record) error { rec.Used[Storage] = 1; return nil })
		require.Error(t, err)
	}
	for _, name := range []string{"user.bad", "user.cut", "user.zero", "user.old"} {
		require.ErrorIs(t, r.Create(ctx, name, Record{}), ErrExists, name)
	}
	require.ErrorIs(t, r.Create(ctx, "user.good.NEW", Record{}), ErrName)
	require.ErrorIs(t, r.Create(ctx, "user.alone", Record{}), ErrExists)
	require.NoError(t, r.Create(ctx, "user.blank", Record{Limits: NoLimits()}), "a creation that was cut off is begun again")
	_, err := r.Update(ctx, "user.old", func(rec *Record) error { rec.Used[Folders] = 1; return nil })
	require.NoError(t, err)
	b, err := os.ReadFile(filepath.Join(dir, "conf/quota/o/user.old"))
	require.NoError(t, err)
	require.Equal(t, "%(S (1234 5000) M (0) AS (0) NF (1) MODSEQ 1)\n", string(b))

	left, err := r.LeftOvers(ctx)
	require.NoError(t, err)
	require.Equal(t, []LeftOver{{Root: "user.good", Path: filepath.Join(dir, "conf/quota/g/user.good.NEW")}}, left)
	require.NoError(t, r.RemoveLeftOver(ctx, left[0]))
	require.NoFileExists(t, left[0].Path)
	require.ErrorIs(t, r.RemoveLeftOver(ctx, LeftOver{Root: "user.good", Path: filepath.Join(dir, "conf/quota/g/user.good")}), ErrName)
	require.FileExists(t, filepath.Join(dir, "conf/quota/g/user.good"))
}
