package quota

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/internal/vfs/vfstest"
)

// state is what the roots say, by their names: their values, or what is wrong with them.
type state map[string]string

// see reads all roots with a handle of its own, and checks that each is found by its name exactly if it is listed.
func see(fsys vfs.FS) (state, error) {
	r, err := reopen(fsys)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	st := state{}
	for root, err := range r.All(ctx) {
		if err != nil {
			return nil, err
		}
		switch {
		case errors.Is(root.Err, ErrEmpty):
			st[root.Name] = "empty"
		case root.Err != nil:
			return nil, root.Err
		default:
			st[root.Name] = string(root.Record.Append(nil))
		}
	}
	for _, name := range []string{"user.a", "user.b", "user.c", "user.blank", "user.old"} {
		found, err := r.Exists(ctx, name)
		if err != nil {
			return nil, err
		}
		if _, listed := st[name]; listed != found {
			return nil, fmt.Errorf("%s: listed %v, found %v", name, listed, found)
		}
	}
	return st, nil
}

// parsed are the configurations of disks by their text: most of the time of these tests would be that of reading them.
var parsed sync.Map

func reopen(fsys vfs.FS) (*Roots, error) {
	text, err := vfs.ReadFile(fsys, "/imapd.conf")
	if err != nil {
		return nil, err
	}
	c, known := parsed.Load(string(text))
	if !known {
		if c, err = imapdconf.Read(fsys, "/imapd.conf").Config(""); err != nil {
			return nil, err
		}
		parsed.Store(string(text), c)
	}
	return OpenRoots(ctx, c.(*imapdconf.Config), Options{FS: fsys, Random: func() uint64 { return 1 }})
}

// newDisk has roots that the cases change, durably, with the files of another user.
func newDisk(t testing.TB, lines []string, o simfs.Options) *simfs.FS {
	t.Helper()
	disk := simfs.New(o)
	configOf(t, disk, "/", lines...)
	r, err := reopen(disk)
	require.NoError(t, err)
	for i, name := range []string{"user.a", "user.b"} {
		rec := Record{Limits: limits(100, 200, -1, 0)}
		rec.Used = Amounts{int64(i+1) * 100_000, 10, 0, 1}
		require.NoError(t, r.Create(ctx, name, rec))
	}
	if _, ok := r.kept.(*files); ok {
		for name, content := range map[string]string{"user.a.NEW": "%(S (7", "user.b.NEW": "1\n2\n", "user.blank": "", "user.old": "1234\n5000\n"} {
			put(t, disk, r.kept.path(name), content)
		}
		require.NoError(t, disk.Chown(r.kept.path("user.a"), owner.UID, owner.GID, uint32(owner.Mode)))
	}
	require.NoError(t, r.Close())
	require.NoError(t, vfstest.WriteBack(disk, "/"))
	return disk
}

// owner is that of the file of user.a.
var owner = vfs.Info{UID: 1234, GID: 2345, Mode: 0o640}

// put makes a file with what leads to it.
func put(t testing.TB, fsys vfs.FS, path, content string) {
	t.Helper()
	require.NoError(t, vfs.MkdirAll(fsys, filepath.Dir(path), 0o755))
	f, err := fsys.Open(path, vfs.ReadWrite|vfs.Create, 0o600)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte(content), 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// changing is a change of the roots.
type changing struct {
	name string
	make func(r *Roots) error
	// files is set for what only roots in files can have; frees, if it must succeed on a full disk.
	files, frees bool
}

func update(root string, change func(*Record)) func(*Roots) error {
	return func(r *Roots) error {
		_, err := r.Update(ctx, root, func(rec *Record) error { change(rec); return nil })
		return err
	}
}

var changes = []changing{
	{name: "raise", make: update("user.a", func(r *Record) { r.Used[Storage] += 1_000_000_000 })},
	{name: "lower", make: update("user.a", func(r *Record) { r.Used[Storage] -= 50_000 }), frees: true},
	{name: "limits", make: update("user.b", func(r *Record) { r.Limits = NoLimits() })},
	{name: "create", make: func(r *Roots) error { return r.Create(ctx, "user.c", Record{Used: Amounts{3}, Limits: NoLimits()}) }},
	{name: "delete", make: func(r *Roots) error { return r.Delete(ctx, "user.b") }, frees: true},
	{name: "create over nothing", make: func(r *Roots) error { return r.Create(ctx, "user.blank", Record{Limits: NoLimits()}) }, files: true},
	{name: "new form", make: update("user.old", func(r *Record) { r.Used[Storage] = 0 }), files: true, frees: true},
	{name: "left over", make: func(r *Roots) error {
		return r.RemoveLeftOver(ctx, LeftOver{Root: "user.a", Path: r.kept.path("user.a.NEW")})
	}, files: true, frees: true},
}

// eachChange runs a test for each change and each way in which roots are kept; before and after are what the roots say without a fault.
func eachChange(t *testing.T, o simfs.Options, test func(t *testing.T, disk *simfs.FS, c changing, before, after state)) {
	for kind, lines := range kinds {
		if os.Getenv("MAILSPINE_CAMPAIGN") == "" && !slices.Contains([]string{"files", "both", "skiplist", "flat"}, kind) {
			continue
		}
		for _, c := range changes {
			legacy := !strings.Contains(strings.Join(lines, " "), "quota_db")
			if c.files && !legacy {
				continue
			}
			t.Run(kind+"/"+c.name, func(t *testing.T) {
				disk := newDisk(t, lines, o)
				before, err := see(disk)
				require.NoError(t, err)
				require.NoError(t, vfstest.WriteBack(disk, "/"))
				done := disk.Trace().Killed(disk.Ops())
				require.NoError(t, attempt(done, c))
				after, err := see(done)
				require.NoError(t, err)
				for name := range after {
					require.False(t, strings.HasSuffix(name, ".NEW"), "what is left over is no root")
				}
				test(t, disk, c, before, after)
			})
		}
	}
}

// attempt makes a change with a handle of its own.
func attempt(fsys vfs.FS, c changing) error {
	r, err := reopen(fsys)
	if err != nil {
		return err
	}
	return errors.Join(c.make(r), r.Close())
}

// either checks that a disk has one of two states, whose files are their owner's, and which of them.
func either(t testing.TB, fsys vfs.FS, before, after state, at string) (changed bool) {
	t.Helper()
	got, err := see(fsys)
	require.NoError(t, err, at)
	r, err := reopen(fsys)
	require.NoError(t, err, at)
	if _, ok := r.kept.(*files); ok {
		info, err := fsys.Stat(r.kept.path("user.a"))
		require.NoError(t, err, at)
		require.Equal(t, owner, vfs.Info{UID: info.UID, GID: info.GID, Mode: info.Mode}, at)
	}
	if maps.Equal(got, after) {
		return true
	}
	require.Equal(t, before, got, at)
	return false
}

// TestRootsCrashImages cuts the power everywhere in each change: the roots say what they said before or what they say after it, and what was
// acknowledged stays. Then they can be changed.
func TestRootsCrashImages(t *testing.T) {
	eachChange(t, simfs.Options{}, func(t *testing.T, disk *simfs.FS, c changing, before, after state) {
		from := disk.Ops()
		require.NoError(t, attempt(disk, c))
		disk.Mark("done")
		images := 0
		for img := range disk.Trace().Images(simfs.Search{From: from, Limit: 60, Samples: 20}) {
			images++
			changed := either(t, img, before, after, img.Seed)
			if len(img.Marks) > 0 && !changed {
				require.Equal(t, after, before, img.Seed)
			}
			if images%4 != 0 {
				continue
			}
			require.NoError(t, attempt(img, changing{make: update("user.a", func(r *Record) { r.Used[Messages] = 77 })}), img.Seed)
			now, err := see(img)
			require.NoError(t, err, img.Seed)
			require.Contains(t, now["user.a"], "M (77 200)", img.Seed)
			if !changed {
				continue
			}
			require.Equal(t, slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(now)), img.Seed)
		}
		require.Greater(t, images, 2)
	})
}

// TestRootsKilled kills the process after each call of each change: the next one finds the roots as before or after it.
func TestRootsKilled(t *testing.T) {
	eachChange(t, simfs.Options{}, func(t *testing.T, disk *simfs.FS, c changing, before, after state) {
		from := disk.Ops()
		require.NoError(t, attempt(disk, c))
		for at := from; at <= disk.Ops(); at++ {
			next := disk.Trace().Killed(at)
			either(t, next, before, after, fmt.Sprint(at))
			require.NoError(t, attempt(next, changing{make: update("user.a", func(r *Record) { r.Used[Messages] = 77 })}), at)
		}
	})
}

// TestRootsErrno has each call of each change fail, once, from then on, and every second time: after an error nothing is changed, now and
// after a crash, unless it says that this is unknown.
func TestRootsErrno(t *testing.T) {
	eachChange(t, simfs.Options{}, func(t *testing.T, disk *simfs.FS, c changing, before, after state) {
		cells, unknown := 0, 0
		// That a write of a few bytes in a database is cut off, and then cannot be taken back, is for the tests of package skiplist.
		short := faultfs.Nothing
		if r, err := reopen(disk); err == nil {
			if _, ok := r.kept.(*files); ok {
				short = faultfs.Half
			}
		}
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
			for _, mode := range []faultfs.Mode{faultfs.Once, faultfs.Onwards, faultfs.EverySecond} {
				for _, late := range []bool{false, true} {
					if errno == syscall.ENOSPC && (late || mode == faultfs.EverySecond) {
						continue
					}
					for n := 0; ; n++ {
						plan := &faultfs.Plan{N: n, Err: errno, Mode: mode, After: late, Short: short, Kinds: faultfs.All &^ faultfs.SharedWord}
						if !faulty(t, disk, plan, c, before, after, &unknown) {
							break
						}
						cells++
					}
				}
			}
		}
		t.Logf("%d calls failed, %d times the answer was unknown", cells, unknown)
		require.Greater(t, cells, 30)
		require.Less(t, unknown, cells/2)
	})
}

// faulty makes a change on a copy of the disk whose calls fail by a plan. It tells whether one did.
func faulty(t *testing.T, disk *simfs.FS, plan *faultfs.Plan, c changing, before, after state, unknown *int) bool {
	t.Helper()
	now := disk.Trace().Killed(disk.Ops())
	err := attempt(faultfs.Wrap(now, plan), c)
	at := fmt.Sprintf("%v: %v", plan, err)
	if !plan.Fired() {
		require.NoError(t, err)
		return false
	}
	plan.Stop()
	changed := either(t, now, before, after, at)
	search := simfs.Search{From: now.Ops(), Limit: 8, Samples: 4}
	switch {
	case errors.Is(err, ErrCommitUnknown):
		*unknown++
	case err != nil:
		require.False(t, changed && !maps.Equal(before, after), at)
		for img := range now.Trace().Images(search) {
			require.False(t, either(t, img, before, after, at) && !maps.Equal(before, after), "%s, %s", at, img.Seed)
		}
	default:
		require.True(t, changed, at)
		for img := range now.Trace().Images(search) {
			require.True(t, either(t, img, before, after, at), "%s, %s", at, img.Seed)
		}
	}
	require.NoError(t, attempt(now, changing{make: update("user.a", func(r *Record) { r.Used[Messages] = 77 })}), at)
	return true
}

// TestRootsFullDisk: on a disk where every block that is freed is taken, what lowers a usage or removes a root works on, if there was
// space before; all else is done too, or ErrNoSpace, and then nothing is changed.
func TestRootsFullDisk(t *testing.T) {
	for _, delayed := range []bool{false, true} {
		eachChange(t, simfs.Options{Blocks: 400, DelayedAlloc: delayed}, func(t *testing.T, disk *simfs.FS, c changing, before, after state) {
			disk.FillUp(0, true)
			err := attempt(disk, c)
			if c.frees {
				require.NoError(t, err)
			}
			if err != nil {
				require.ErrorIs(t, err, ErrNoSpace)
			}
			require.Equal(t, err == nil, either(t, disk, before, after, "full"))
			for i := range 20 {
				require.NoError(t, attempt(disk, changing{make: update("user.a", func(r *Record) { r.Used[Storage] -= 10 })}), i)
			}
			disk.FreeUp()
			if err != nil {
				require.NoError(t, attempt(disk, c))
			}
		})
	}
}

// TestNeverPrepared: where nothing was prepared a full disk refuses changes, and nothing is changed.
func TestNeverPrepared(t *testing.T) {
	disk := simfs.New(simfs.Options{Blocks: 400})
	configOf(t, disk, "/")
	put(t, disk, "/conf/quota/a/user.a", "100\n200\n")
	r, err := reopen(disk)
	require.NoError(t, err)
	disk.FillUp(0, true)
	require.ErrorIs(t, r.Prepare(ctx), ErrNoSpace)
	require.ErrorIs(t, update("user.a", func(r *Record) { r.Used[Storage] = 1 })(r), ErrNoSpace)
	require.ErrorIs(t, r.Create(ctx, "user.b", Record{}), ErrNoSpace)
	st, err := see(disk)
	require.NoError(t, err)
	require.Equal(t, state{"user.a": "100 200"}, st)
	disk.FreeUp()
	require.NoError(t, r.Prepare(ctx))
	disk.FillUp(0, true)
	require.NoError(t, update("user.a", func(r *Record) { r.Used[Storage] = 1 })(r))
	for i := range 10 {
		require.NoError(t, r.Prepare(ctx), "what is prepared stays so")
		require.NoError(t, update("user.a", func(r *Record) { r.Used[Storage] = int64(i) * 1_000_000_000 })(r))
	}
}

// syncHook calls before for each sync of a directory; its error is that of the sync.
type syncHook struct {
	vfs.FS
	before func(dir string) error
}

func (h *syncHook) SyncDir(dir string) error {
	if err := h.before(dir); err != nil {
		return err
	}
	return h.FS.SyncDir(dir)
}

// TestPutBackLosesNothing: a change whose last sync fails is put back; another process that wants to change the record meanwhile waits,
// or the old content would take the place of its own.
func TestPutBackLosesNothing(t *testing.T) {
	dir := t.TempDir()
	r := openRoots(t, vfs.OS(), dir)
	create(t, r, "user.a", Record{Limits: NoLimits()})
	other := make(chan error, 1)
	hook := &syncHook{FS: vfs.OS()}
	failed := false
	hook.before = func(at string) error {
		if failed || !strings.HasSuffix(at, "quota/a") {
			return nil
		}
		failed = true
		go func() {
			_, err := r.Update(ctx, "user.a", func(rec *Record) error { rec.Used[Messages]++; return nil })
			other <- err
		}()
		select {
		case err := <-other:
			other <- err
			t.Errorf("the other change did not wait: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		return syscall.EIO
	}
	c, err := imapdconf.Read(vfs.OS(), filepath.Join(dir, "imapd.conf")).Config("")
	require.NoError(t, err)
	failing, err := OpenRoots(ctx, c, Options{FS: hook})
	require.NoError(t, err)
	_, err = failing.Update(ctx, "user.a", func(rec *Record) error { rec.Used[Storage]++; return nil })
	require.ErrorIs(t, err, syscall.EIO)
	require.NotErrorIs(t, err, ErrCommitUnknown)
	require.NoError(t, <-other)
	rec, err := r.Get(ctx, "user.a")
	require.NoError(t, err)
	require.Equal(t, Amounts{0, 1, 0, 0}, rec.Used)
}

// TestUnsyncedDirectories: directories that another process has made and not synced, as it was killed, are no reason to lose a root.
func TestUnsyncedDirectories(t *testing.T) {
	disk := newDisk(t, []string{"virtdomains: userid"}, simfs.Options{})
	c := changing{make: func(r *Roots) error { return r.Create(ctx, "d.org!user.c", Record{Limits: NoLimits()}) }}
	for _, dir := range []string{"/conf/domain", "/conf/domain/d", "/conf/domain/d/d.org", "/conf/domain/d/d.org/quota", "/conf/domain/d/d.org/quota/c"} {
		require.NoError(t, disk.Mkdir(dir, 0o755))
	}
	require.NoError(t, attempt(disk, c))
	for img := range disk.Trace().Images(simfs.Search{From: disk.Ops()}) {
		st, err := see(img)
		require.NoError(t, err, img.Seed)
		require.Contains(t, st, "d.org!user.c", img.Seed)
	}
}
