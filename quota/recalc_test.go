package quota_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/skiplist"
	"github.com/mailspine/mailspine/store"
)

// simGround makes an empty store on a simulated disk.
func simGround(t testing.TB, o simfs.Options, lines ...string) (*ground, *simfs.FS) {
	disk := simfs.New(o)
	return groundOn(t, disk, lines...), disk
}

// groundOn makes one on another file system than the real one.
func groundOn(t testing.TB, fsys vfs.FS, lines ...string) *ground {
	for _, dir := range []string{"/conf", "/conf/db", "/conf/sync", "/spool"} {
		require.NoError(t, vfs.MkdirAll(fsys, dir, 0o755))
	}
	g := &ground{t: t, fs: fsys, dir: "/"}
	g.write("imapd.conf", "configdirectory: /conf\ndefaultpartition: default\npartition-default: /spool\nadmins: cyrus\nmboxlist_db: twoskip\n"+
		"altnamespace: no\nunixhierarchysep: no\n"+strings.Join(lines, "\n")+"\n")
	g.makeList()
	return g
}

// on is the same store through another file system.
func (g *ground) on(fsys vfs.FS) *ground { return &ground{t: g.t, fs: fsys, dir: g.dir, real: g.real} }

// keeping calls do with a keeper of the store.
func (g *ground) keeping(do func(k *quota.Keeper, st *store.Store)) {
	g.opened(func(st *store.Store) { do(keeperOf(g, st), st) })
}

func keeperOf(g *ground, st *store.Store) *quota.Keeper { return keeperThrough(g.fs, g, st) }

// keeperThrough is a keeper whose calls go through another file system than that of the store.
func keeperThrough(fsys vfs.FS, g *ground, st *store.Store) *quota.Keeper {
	roots, err := quota.OpenRoots(background, g.config(), quota.Options{FS: fsys})
	require.NoError(g.t, err)
	return quota.NewKeeper(roots, st.List(), st.Layout(), quota.Options{FS: fsys})
}

// count counts roots, and fails unless all went well.
func (g *ground) count(q quota.Recalculation) (report *quota.Report) {
	g.keeping(func(k *quota.Keeper, _ *store.Store) {
		// On a simulated disk whose calls nobody schedules, a context that may end says that there are others who give locks back.
		ctx, cancel := context.WithTimeout(background, time.Minute)
		defer cancel()
		var err error
		report, err = k.Recalculate(ctx, q)
		require.NoError(g.t, err)
		for _, o := range report.Outcomes {
			require.NoError(g.t, o.Err, o.Root)
		}
	})
	return report
}

// wrongBase is the base of the scenarios with all that can be wrong: numbers, headers, a scan, a nested root.
func wrongBase(g *ground) {
	s := scenario{roots: baseRoots(map[string]string{"user.foo.sub": rootText("9/9/9", 700), "user.ghost": rootText("5/5/5", 1)})}
	s.build(g)
	g.putHeader("user.foo", "")
	g.putHeader("user.foo.sub", "user.bob")
	g.write(rootFile("user.bob"), "%(S (77 100000) M (7 500) AS (0) NF (1) SCAN %(MBOX user.bob S 77 M 7 AS 0 NF 1) MODSEQ 3)\n")
}

var rightBase = map[string]string{"user.foo": "3000/3/1", "user.foo.sub": "4000/2/1", "user.foobar": "7500/5/1", "user.bob": "1500/1/1", "user.bobby": "6000/4/1",
	"user.ghost": "5/5/5"}

// TestHeaderOfNoRoot has a header that names what is no root: it is mended, and there is nothing to be counted but the roots that are.
func TestHeaderOfNoRoot(t *testing.T) {
	for _, q := range []quota.Recalculation{{}, {Under: []string{"user.foo"}}, {DryRun: true}} {
		g, _ := simGround(t, simfs.Options{NoTrace: true})
		s := scenario{roots: baseRoots(nil)}
		s.build(g)
		g.putHeader("user.foo.sub", "user.gone")
		report := g.count(q)
		require.Equal(t, 1, report.Headers)
		require.Empty(t, report.Stale)
		g.putHeader("user.foo.sub", "user.bob")
		report = g.count(quota.Recalculation{Under: []string{"user.foo"}})
		require.Equal(t, []string{"user.bob"}, report.Stale)
	}
}

// hooked calls at before each Open.
type hooked struct {
	vfs.FS
	at func(name string)
}

func (h hooked) Open(name string, flag vfs.Flag, perm fs.FileMode) (vfs.File, error) {
	h.at(name)
	return h.FS.Open(name, flag, perm)
}

// TestRecalculate has all that can be wrong put right at once, by one or by many at a time, and found right the second time.
func TestRecalculate(t *testing.T) {
	for _, jobs := range []int{1, 4} {
		t.Run(fmt.Sprint(jobs), func(t *testing.T) {
			g, _ := simGround(t, simfs.Options{NoTrace: true})
			wrongBase(g)
			report := g.count(quota.Recalculation{Jobs: jobs, Explain: true})
			require.Equal(t, rightBase, g.roots())
			require.Equal(t, "user.foo", g.header("user.foo"))
			require.Equal(t, "user.foo.sub", g.header("user.foo.sub"))
			require.NotEmpty(t, report.Undo)
			require.Equal(t, 6, report.Roots)
			require.Equal(t, 5, report.Changed)
			require.Equal(t, 2, report.Headers)
			require.Equal(t, 1, report.Orphans)
			require.Empty(t, report.Stale)
			foo := report.Outcomes[slices.IndexFunc(report.Outcomes, func(o quota.Outcome) bool { return o.Root == "user.foo" })]
			require.Equal(t, quota.Amounts{1, 1, 0, 1}, foo.Before)
			require.Equal(t, quota.Amounts{3000, 3, 0, 1}, foo.After)
			require.Equal(t, "user.foo", foo.Members[0].Mailbox)
			require.Equal(t, foo.After, foo.Members[0].Usage)
			require.Equal(t, int64(100000), foo.Limits[quota.Storage])
			before := g.rootTexts()
			report = g.count(quota.Recalculation{Jobs: jobs})
			require.Zero(t, report.Changed+report.Headers)
			require.Empty(t, report.Undo)
			require.Equal(t, before, g.rootTexts(), "what is right is not written")
			require.NoError(t, checkOrphan(g))
		})
	}
}

// checkOrphan sets the usage of a root without mailboxes to nothing, on demand.
func checkOrphan(g *ground) error {
	report := g.count(quota.Recalculation{Roots: []string{"user.ghost"}, ZeroOrphans: true})
	if got := g.roots()["user.ghost"]; got != "0/0/0" || !report.Outcomes[0].Orphan {
		return fmt.Errorf("user.ghost is %s, %+v", got, report.Outcomes[0])
	}
	return nil
}

// TestDryRunWritesNothing compares every file and directory, and the plan with what is then done.
func TestDryRunWritesNothing(t *testing.T) {
	g, _ := simGround(t, simfs.Options{NoTrace: true})
	wrongBase(g)
	g.create(box{"shared.x", 2, 1000})
	g.putHeader("shared.x", "user.bob")
	// As on a store that only Cyrus has used.
	for path := range g.tree() {
		if strings.HasPrefix(path, "/conf/lock/") || strings.HasPrefix(path, "/conf/mailspine/") {
			require.NoError(t, g.fs.Unlink(path))
		}
	}
	plan := &faultfs.Plan{Kinds: faultfs.Modifying, N: 1 << 30}
	before := g.tree()
	var planned *quota.Report
	dry := g.on(faultfs.Wrap(g.fs, plan))
	list, opts := mboxdb.Configured(g.config())
	opts.DB.FS, opts.DB.ReadOnly = dry.fs, true
	l, err := mboxdb.Open(background, list, opts)
	require.NoError(t, err)
	roots, err := quota.OpenRoots(background, g.config(), quota.Options{FS: dry.fs, ReadOnly: true})
	require.NoError(t, err)
	planned, err = quota.NewKeeper(roots, l, l.Layout(), quota.Options{FS: dry.fs}).Recalculate(background, quota.Recalculation{DryRun: true, Deep: true})
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.Zero(t, plan.Count(), "calls that change something")
	require.Equal(t, before, g.tree())
	done := g.count(quota.Recalculation{})
	require.Equal(t, done.Changed, planned.Changed)
	require.Equal(t, done.Headers, planned.Headers)
	require.Equal(t, done.Cleared, planned.Cleared)
	require.Equal(t, []quota.HeaderFix{{Mailbox: "shared.x", From: "user.bob"}}, done.Cleared)
	require.Len(t, planned.Outcomes, len(done.Outcomes))
	for i, o := range planned.Outcomes {
		d := done.Outcomes[i]
		require.Equal(t, []any{d.Root, d.Before, d.After, d.Limits, d.Changed, d.Scan, d.Headers}, []any{o.Root, o.Before, o.After, o.Limits, o.Changed, o.Scan, o.Headers})
	}
}

// TestListChangesUnderway changes the list, the roots or a mailbox after the members were read and before they are frozen: all is
// looked at anew.
func TestListChangesUnderway(t *testing.T) {
	name := mboxdb.InternalName
	for what, c := range map[string]struct {
		change func(g *ground, st *store.Store) error
		want   string
	}{
		"rename": {func(_ *ground, st *store.Store) error {
			_, err := st.Rename(background, store.Renaming{From: name("user.foo.sub"), To: name("user.foo.a-b")})
			return err
		}, "7000/5/2"},
		"rename away": {func(_ *ground, st *store.Store) error {
			_, err := st.Rename(background, store.Renaming{From: name("user.foo.sub"), To: name("user.foobar.sub")})
			return err
		}, "3000/3/1"},
		"delete": {func(_ *ground, st *store.Store) error {
			_, err := st.Delete(background, store.Deletion{Name: name("user.foo.sub"), Immediate: true})
			return err
		}, "3000/3/1"},
		"create": {func(_ *ground, st *store.Store) error {
			if _, err := st.Create(background, store.NewMailbox{Name: name("user.foo.new")}); err != nil {
				return err
			}
			return deliverTo(background, st, "user.foo.new", 1, 500)
		}, "7500/6/3"},
		"deliver": {func(_ *ground, st *store.Store) error { return deliverTo(background, st, "user.foo.sub", 1, 500) }, "7500/6/2"},
		"root made": {func(g *ground, _ *store.Store) error {
			g.putRoot("user.foo.sub", rootText("4000/2/1"))
			return nil
		}, "3000/3/1"},
	} {
		t.Run(what, func(t *testing.T) {
			g, disk := simGround(t, simfs.Options{NoTrace: true})
			(&scenario{}).build(g)
			other := g.on(disk.Process("other"))
			once := false
			h := g.on(hooked{g.fs, func(path string) {
				if !once && strings.Contains(path, "*U*foo") {
					once = true
					other.opened(func(st *store.Store) { require.NoError(t, c.change(other, st)) })
				}
			}})
			st := g.open()
			report, err := keeperOf(h, st).Recalculate(background, quota.Recalculation{Roots: []string{"user.foo"}})
			require.NoError(t, err)
			require.NoError(t, st.Close())
			require.True(t, once)
			require.NoError(t, report.Outcomes[0].Err)
			require.Equal(t, c.want, g.roots()["user.foo"])
			g.count(quota.Recalculation{})
			require.Equal(t, g.counted(), g.roots())
		})
	}
}

// TestFreezeGivesWay has another process hold the index of one shared mailbox and wait for that of another, in every order that the
// schedule makes: nobody waits for ever, and the count is right.
func TestFreezeGivesWay(t *testing.T) {
	g, disk := simGround(t, simfs.Options{NoTrace: true})
	g.putRoot("shared", rootText("0/0/0"))
	boxes := []box{{"shared", 1, 1000}, {"shared.a", 1, 1000}, {"shared.b", 1, 1000}, {"shared.c", 1, 1000}}
	g.create(boxes...)
	var paths []string
	for _, b := range boxes {
		paths = append(paths, g.place(b.name).Paths.Index)
	}
	waited := 0
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g.putRoot("shared", rootText("1/1/1"))
			holder := func(ctx context.Context, view *simfs.FS) {
				for round := range 60 {
					first, second := paths[(int(seed)+round)%4], paths[(int(seed)+round+3)%4]
					a, err := view.Open(first, vfs.ReadWrite, 0)
					require.NoError(t, err)
					b, err := view.Open(second, vfs.ReadWrite, 0)
					require.NoError(t, err)
					if a.Lock(ctx, vfs.Exclusively) == nil {
						if b.TryLock(vfs.Exclusively) != nil {
							waited++
							_ = b.Lock(ctx, vfs.Exclusively)
						}
					}
					require.NoError(t, errors.Join(b.Close(), a.Close()))
				}
			}
			counter := func(ctx context.Context, view *simfs.FS) {
				v := g.on(view)
				st := v.open()
				report, err := keeperOf(v, st).Recalculate(ctx, quota.Recalculation{Roots: []string{"shared"}})
				require.NoError(t, err)
				require.NoError(t, report.Outcomes[0].Err)
				require.NoError(t, st.Close())
			}
			simfs.Run(t, disk, simfs.Schedule{Seed: seed}, holder, counter)
			require.Equal(t, "4000/4/4", g.roots()["shared"])
		})
	}
	require.NotZero(t, waited, "somebody has had to wait with a lock in his hands")
}

// TestScanWaits has Cyrus's program at work, which holds the lock of changes of roots and has marked the record: the mark stays until it
// is done.
func TestScanWaits(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g, disk := simGround(t, simfs.Options{NoTrace: true})
			(&scenario{}).build(g)
			scanning := "%(S (1 100000) M (1 500) AS (0) NF (1) SCAN %(MBOX user.foo S 3000 M 3 AS 0 NF 1) MODSEQ 3)\n"
			g.write(rootFile("user.foo"), scanning)
			path := ""
			g.opened(func(st *store.Store) { path = st.Layout().LockPath("$QUOTACHANGE") })
			held, err := locks.Acquire(background, disk, vfs.Exclusively, path)
			require.NoError(t, err)
			over := false
			cyrus := func(ctx context.Context, view *simfs.FS) {
				for range 30 {
					_, err := view.Stat("/conf") // others go on meanwhile
					require.NoError(t, err)
				}
				require.Equal(t, scanning, string(g.on(view).read(rootFile("user.foo"))))
				over = true
				held.Release()
			}
			ours := func(ctx context.Context, view *simfs.FS) {
				v := g.on(view)
				st := v.open()
				report, err := keeperOf(v, st).Recalculate(ctx, quota.Recalculation{Roots: []string{"user.foo"}})
				require.NoError(t, err)
				require.True(t, over)
				require.True(t, report.Outcomes[0].Scan)
				require.NoError(t, st.Close())
			}
			simfs.Run(t, disk, simfs.Schedule{Seed: seed}, cyrus, ours)
			require.Equal(t, "7000/5/2", g.roots()["user.foo"])
		})
	}
}

// TestDamagedListNeverLowers: what can be read of a damaged list raises usage, and lowers none unless that is allowed.
func TestDamagedListNeverLowers(t *testing.T) {
	g, disk := simGround(t, simfs.Options{})
	(&scenario{}).build(g)
	g.create(box{"user.zoe", 1, 1000}, box{"user.zoe.a", 1, 1000}, box{"user.zoe.b", 1, 1000}, box{"user.zoe.c", 1, 1000})
	g.putRoot("user.zoe", rootText("4000/4/4", 1))
	g.putRoot("user.foo", rootText("5000/9/1", 100000))
	g.count(quota.Recalculation{Roots: []string{"user.zoe"}})
	b := g.read("conf/mailboxes.db")
	at := bytes.Index(b, []byte("Nuser\x1fzoe\x1fb"))
	require.Positive(t, at)
	clear(b[at : at+100])
	g.write("conf/mailboxes.db", string(b))
	run := func(g *ground, allow bool) *quota.Report {
		list, opts := mboxdb.Configured(g.config())
		opts.DB.FS, opts.DB.ReadOnly, opts.DB.AllowDamaged = g.fs, true, true
		l, err := mboxdb.Open(background, list, opts)
		require.NoError(t, err)
		defer l.Close()
		roots, err := quota.OpenRoots(background, g.config(), quota.Options{FS: g.fs})
		require.NoError(t, err)
		report, err := quota.NewKeeper(roots, l, l.Layout(), quota.Options{FS: g.fs}).Recalculate(background, quota.Recalculation{AllowDamaged: allow})
		require.NoError(t, err)
		require.ErrorIs(t, report.ListDamage, skiplist.ErrDamaged)
		return report
	}
	run(g, false)
	after := g.roots()
	require.Equal(t, "4000/4/4", after["user.zoe"], "some of its mailboxes are not in what can be read")
	require.Equal(t, "7000/9/2", after["user.foo"], "bytes and mailboxes were too few")
	allowed := g.on(disk.Kill())
	run(allowed, true)
	after = allowed.roots()
	require.NotEqual(t, "4000/4/4", after["user.zoe"])
	require.Equal(t, "7000/5/2", after["user.foo"])
}

// TestUnreadableRootsStay: a record that is damaged or empty is not touched; what was counted is reported, and headers are mended.
func TestUnreadableRootsStay(t *testing.T) {
	for what, text := range map[string]string{"empty": "", "torn": "%(S (1 100000) M (1 500) AS", "no line end": "%(S (1 1) M (1) AS (0) NF (1) MODSEQ 3)", "nonsense": "\xff\xfe\n"} {
		t.Run(what, func(t *testing.T) {
			g, _ := simGround(t, simfs.Options{NoTrace: true})
			(&scenario{}).build(g)
			g.write(rootFile("user.foo"), text)
			g.putHeader("user.foo.sub", "user.bob")
			g.keeping(func(k *quota.Keeper, _ *store.Store) {
				report, err := k.Recalculate(background, quota.Recalculation{})
				require.NoError(t, err)
				o := report.Outcomes[slices.IndexFunc(report.Outcomes, func(o quota.Outcome) bool { return o.Root == "user.foo" })]
				require.Error(t, o.Err)
				require.Equal(t, quota.Amounts{7000, 5, 0, 2}, o.After)
				require.False(t, o.Changed)
				require.Equal(t, 1, report.Failed)
			})
			require.Equal(t, text, g.rootTexts()["user.foo"])
			require.Equal(t, "user.foo", g.header("user.foo.sub"))
			require.Equal(t, "6000/4/1", g.roots()["user.bobby"])
		})
	}
}

// TestSelection: a root that is meant twice is one, a subtree is not what begins with the same letters.
func TestSelection(t *testing.T) {
	g, _ := simGround(t, simfs.Options{NoTrace: true}, "virtdomains: userid")
	roots := []string{"user.foo", "user.foo.sub", "user.foobar", "shared", "dom.org!", "dom.org!user.foo"}
	for _, root := range roots {
		g.putRoot(root, rootText("1/1/1"))
	}
	for what, c := range map[string]struct {
		ask  quota.Recalculation
		want []string
	}{
		"all":      {quota.Recalculation{}, []string{"dom.org!", "dom.org!user.foo", "shared", "user.foo", "user.foo.sub", "user.foobar"}},
		"twice":    {quota.Recalculation{Roots: []string{"user.foo", "user.foo"}, Under: []string{"user.foo.sub", "user.foo.sub"}}, []string{"user.foo", "user.foo.sub"}},
		"under":    {quota.Recalculation{Under: []string{"user.foo"}}, []string{"user.foo", "user.foo.sub"}},
		"domain":   {quota.Recalculation{Under: []string{"dom.org!"}}, []string{"dom.org!", "dom.org!user.foo"}},
		"prefix":   {quota.Recalculation{Prefixes: []string{"user.foo"}}, []string{"user.foo", "user.foo.sub", "user.foobar"}},
		"user":     {quota.Recalculation{Users: []string{"foo", "foo"}}, []string{"user.foo", "user.foo.sub"}},
		"dom user": {quota.Recalculation{Users: []string{"foo@dom.org"}}, []string{"dom.org!user.foo"}},
		"nobody":   {quota.Recalculation{Users: []string{"fo"}}, nil},
	} {
		c.ask.DryRun = true
		var got []string
		for _, o := range g.count(c.ask).Outcomes {
			got = append(got, o.Root)
		}
		require.Equal(t, c.want, got, what)
	}
	g.keeping(func(k *quota.Keeper, _ *store.Store) {
		report, err := k.Recalculate(background, quota.Recalculation{Roots: []string{"user.gone"}})
		require.NoError(t, err)
		require.ErrorIs(t, report.Outcomes[0].Err, quota.ErrNotFound)
	})
}

// TestUnderADomain counts mailboxes with names that sort before others' levels, for a domain and for users in it, and waits for
// who makes a mailbox for a user who has none.
func TestUnderADomain(t *testing.T) {
	g, disk := simGround(t, simfs.Options{NoTrace: true}, "virtdomains: userid")
	g.putRoot("dom.org!", rootText("1/1/1", 5000))
	g.putRoot("dom.org!user.ann", rootText("1/1/1"))
	g.create(box{"dom.org!user.ann", 1, 1000}, box{"dom.org!user.ann.b", 1, 1000}, box{"dom.org!user.ann-x", 1, 700}, box{"dom.org!user.bob", 2, 1000},
		box{"dom.org!shared", 1, 500}, box{"user.ann", 1, 900})
	g.count(quota.Recalculation{})
	require.Equal(t, map[string]string{"dom.org!": "3200/4/3", "dom.org!user.ann": "2000/2/2"}, g.roots())
	require.Equal(t, "dom.org!", g.header("dom.org!user.ann-x"))
	path := ""
	g.opened(func(st *store.Store) { path = st.Layout().UserLocks("eve@dom.org")[0] })
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g.putRoot("dom.org!", rootText("3200/4/3", 5000))
			held, err := locks.Acquire(background, disk, vfs.Exclusively, path)
			require.NoError(t, err)
			// Cyrus makes a mailbox of eve: it has added it to the root, and will add it to the list. Here it goes no further.
			g.putRoot("dom.org!", rootText("3200/4/4", 5000))
			over := false
			simfs.Run(t, disk, simfs.Schedule{Seed: seed}, func(_ context.Context, view *simfs.FS) {
				for range 20 {
					_, err := view.Stat("/conf")
					require.NoError(t, err)
				}
				require.Equal(t, "3200/4/4", g.on(view).roots()["dom.org!"])
				over = true
				held.Release()
			}, func(ctx context.Context, view *simfs.FS) {
				v := g.on(view)
				st := v.open()
				_, err := keeperOf(v, st).Recalculate(ctx, quota.Recalculation{Roots: []string{"dom.org!"}})
				require.NoError(t, err)
				require.True(t, over)
				require.NoError(t, st.Close())
			})
			require.Equal(t, "3200/4/3", g.roots()["dom.org!"])
		})
	}
}

// TestShallowAndDeep: a header of an index that contradicts its records is believed, unless records are to be counted.
func TestShallowAndDeep(t *testing.T) {
	g, _ := simGround(t, simfs.Options{NoTrace: true})
	(&scenario{}).build(g)
	expunge(g, "user.foo")
	g.putIndex("user.foo.sub", func(h *index.Header) { h.QuotaUsed, h.Exists = 99999, 50 })
	g.count(quota.Recalculation{Roots: []string{"user.foo"}})
	require.Equal(t, "101999/52/2", g.roots()["user.foo"])
	report := g.count(quota.Recalculation{Roots: []string{"user.foo"}, Deep: true})
	require.Equal(t, "6000/4/2", g.roots()["user.foo"])
	require.Len(t, report.Outcomes[0].Problems, 1)
	require.Equal(t, "usage-not-of-records", report.Outcomes[0].Problems[0].Code)
}

// TestOldList counts by a mailbox list as releases before 3.6 have it, in either order of keys, with names that lie between a
// mailbox and what is below it in the one and not in the other.
func TestOldList(t *testing.T) {
	for what, improved := range map[string]string{"plain order": "no", "improved order": "yes"} {
		t.Run(what, func(t *testing.T) {
			g, _ := simGround(t, simfs.Options{NoTrace: true}, "mailbox_legacy_dirs: yes", "improved_mboxlist_sort: "+improved)
			g.putRoot("user.a", rootText("1/1/1"))
			g.putRoot("user.a.b", rootText("1/1/1"))
			g.create(box{"user.a", 1, 1000}, box{"user.a.b", 1, 2000}, box{"user.a.b.c", 1, 4000}, box{"user.a.b-d", 1, 8000}, box{"user.a-z", 1, 16000}, box{"user.ab", 1, 32000})
			require.NoError(t, g.fs.Unlink("/conf/mailboxes.db"))
			names := []string{"user.a", "user.a-z", "user.a.b", "user.a.b-d", "user.a.b.c", "user.ab"}
			if improved == "yes" {
				names = []string{"user.a", "user.a.b", "user.a.b.c", "user.a.b-d", "user.a-z", "user.ab"}
			}
			text := ""
			for _, name := range names {
				text += name + "\t0 default a\tlrswipkxtecda\t\n"
			}
			g.write("conf/mailboxes.db", text)
			list, opts := mboxdb.Configured(g.config())
			opts.DB.FS, opts.DB.ReadOnly, opts.DB.Format = g.fs, true, skiplist.Flat
			l, err := mboxdb.Open(background, list, opts)
			require.NoError(t, err)
			defer l.Close()
			require.Equal(t, mboxdb.Form20, l.Form())
			roots, err := quota.OpenRoots(background, g.config(), quota.Options{FS: g.fs})
			require.NoError(t, err)
			report, err := quota.NewKeeper(roots, l, l.Layout(), quota.Options{FS: g.fs}).Recalculate(background, quota.Recalculation{})
			require.NoError(t, err)
			require.Zero(t, report.Failed+report.Incomplete, "%+v", report.Outcomes)
			require.Equal(t, map[string]string{"user.a": "9000/2/2", "user.a.b": "6000/2/2"}, g.roots())
		})
	}
}
