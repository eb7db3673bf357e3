package quota_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/store"
)

// undo takes a run back, and fails unless all of it was.
func (g *ground) undo(run string) (report *quota.UndoReport) {
	g.keeping(func(k *quota.Keeper, _ *store.Store) {
		var err error
		report, err = k.Undo(background, run, quota.UndoOptions{})
		require.NoError(g.t, err)
		for _, c := range report.Changes {
			require.NoError(g.t, c.Err)
		}
	})
	return report
}

// logOf is the file of a run.
func logOf(run string) string { return "conf/mailspine/quota/undo/" + run + ".log" }

// TestUndo takes back numbers and headers, keeps what has come since, and can itself be taken back.
func TestUndo(t *testing.T) {
	g, _ := simGround(t, simfs.Options{NoTrace: true})
	wrongBase(g)
	run := g.count(quota.Recalculation{}).Undo
	require.Equal(t, rightBase, g.roots())
	g.opened(func(st *store.Store) {
		require.NoError(t, deliverTo(background, st, "user.foo", 1, 1000))
		require.NoError(t, deliverTo(background, st, "user.bobby", 1, 300))
	})
	expunge(g, "user.foobar")
	after := map[string]string{"user.foo": "4000/4/1", "user.foo.sub": "4000/2/1", "user.foobar": "6000/4/1", "user.bob": "1500/1/1", "user.bobby": "6300/5/1", "user.ghost": "5/5/5"}
	require.Equal(t, after, g.roots())
	bytesBefore := g.tree()
	g.keeping(func(k *quota.Keeper, _ *store.Store) {
		plan, err := k.Undo(background, run, quota.UndoOptions{DryRun: true})
		require.NoError(t, err)
		require.Len(t, plan.Changes, 7)
		for _, c := range plan.Changes {
			require.True(t, c.Changed)
		}
	})
	require.Equal(t, bytesBefore, g.tree(), "a dry run")
	report := g.undo(run)
	require.Len(t, report.Changes, 7, "five numbers, two headers")
	undone := map[string]string{"user.foo": "1001/2/1", "user.foo.sub": "9/9/9", "user.foobar": "0/0/1", "user.bob": "77/7/1", "user.bobby": "301/2/1", "user.ghost": "5/5/5"}
	require.Equal(t, undone, g.roots(), "1 that was wrong, with what has come since, and never below nothing")
	require.Equal(t, "", g.header("user.foo"))
	require.Equal(t, "user.bob", g.header("user.foo.sub"))
	g.keeping(func(k *quota.Keeper, _ *store.Store) {
		_, err := k.Undo(background, run, quota.UndoOptions{})
		require.ErrorIs(t, err, quota.ErrUndone)
		_, err = k.Undo(background, "19990101T000000Z-1", quota.UndoOptions{})
		require.ErrorIs(t, err, quota.ErrNoRun)
		runs, err := k.UndoRuns(background)
		require.NoError(t, err)
		require.Len(t, runs, 2)
		require.Equal(t, quota.UndoRun{Name: run, Changes: 7, UndoneBy: report.Run}, runs[0])
		require.Equal(t, quota.UndoRun{Name: report.Run, Changes: 7, Of: run}, runs[1])
	})
	g.undo(report.Run)
	require.Equal(t, "user.foo.sub", g.header("user.foo.sub"))
	require.Equal(t, after, g.roots(), "also where less was taken off than the run had added")
	g.undo(run)
	require.Equal(t, "user.bob", g.header("user.foo.sub"), "a run that was restored can be undone again")
}

// TestUndoTornLog cuts a log at every byte: what it says whole is taken back, and nothing else.
func TestUndoTornLog(t *testing.T) {
	g, disk := simGround(t, simfs.Options{})
	wrongBase(g)
	run := g.count(quota.Recalculation{}).Undo
	log := g.read(logOf(run))
	require.NotContains(t, string(log), "\x00")
	for cut := 0; cut < len(log); cut += 37 {
		for _, garbage := range []string{"", "\x00\x00\x00", strings.Repeat("\xff", 50), `{"crc":"00000000","entry":{"n":1,"kind":"usage","root":"user.foo","old":[9,9,9,9],"new":[0,0,0,0]}}` + "\n"} {
			f := g.on(disk.Kill())
			f.write(logOf(run), string(log[:cut])+garbage)
			before := f.roots()
			whole := bytes.Count(log[:cut], []byte("\n"))
			f.keeping(func(k *quota.Keeper, _ *store.Store) {
				report, err := k.Undo(background, run, quota.UndoOptions{})
				if whole == 0 {
					require.ErrorIs(t, err, quota.ErrNoRun)
					return
				}
				require.NoError(t, err)
				require.LessOrEqual(t, len(report.Changes), whole)
			})
			if whole == 0 {
				require.Equal(t, before, f.roots())
			}
			f.count(quota.Recalculation{})
			require.Equal(t, rightBase, f.roots())
		}
	}
}

// TestUndoKilled kills an undo before each call and does it again: each change is taken back once.
func TestUndoKilled(t *testing.T) {
	g, disk := simGround(t, simfs.Options{})
	wrongBase(g)
	run := g.count(quota.Recalculation{}).Undo
	want := map[string]string{"user.foo": "1/1/1", "user.foo.sub": "9/9/9", "user.foobar": "1/1/1", "user.bob": "77/7/1", "user.bobby": "1/1/1", "user.ghost": "5/5/5"}
	for at := 1; ; at += 11 {
		disk := disk.Kill()
		killed := simfs.Run(t, disk, simfs.Schedule{KillAt: at}, func(ctx context.Context, view *simfs.FS) {
			v := g.on(view)
			st := v.open()
			_, _ = keeperOf(v, st).Undo(ctx, run, quota.UndoOptions{})
			_ = st.Close()
		}).Killed
		f := g.on(disk.Kill())
		f.opened(func(st *store.Store) {
			_, err := st.Recover(background)
			require.NoError(t, err)
		})
		f.keeping(func(k *quota.Keeper, _ *store.Store) {
			_, err := k.Undo(background, run, quota.UndoOptions{})
			if err != nil {
				require.ErrorIs(t, err, quota.ErrUndone)
			}
		})
		for root, is := range withoutLeftOvers(f.roots()) {
			// The one at which it was killed may be left, as it is not known whether it was done.
			require.Contains(t, []string{want[root], rightBase[root]}, is, "%s, killed at %d", root, at)
		}
		if !killed {
			require.Equal(t, want, f.roots())
			return
		}
	}
}

// TestUndoVoid: what a run has noted and could not do is not taken back.
func TestUndoVoid(t *testing.T) {
	g, disk := simGround(t, simfs.Options{})
	(&scenario{}).build(g)
	for n := 0; ; n++ {
		f := g.on(disk.Kill())
		st := f.open()
		plan := &faultfs.Plan{N: n, Kinds: faultfs.Modifying, Suffix: ".NEW"}
		report, err := keeperThrough(faultfs.Wrap(f.fs, plan), f, st).Recalculate(background, quota.Recalculation{})
		require.NoError(t, err)
		require.NoError(t, st.Close())
		if report.Undo != "" {
			f.undo(report.Undo)
		}
		for root, is := range withoutLeftOvers(f.roots()) {
			require.Equal(t, "1/1/1", is, "%s, %v", root, plan)
		}
		if !plan.Fired() {
			return
		}
	}
}

// TestSetAndDelete makes roots, changes and removes them; numbers and headers are right after each.
func TestSetAndDelete(t *testing.T) {
	for _, lines := range [][]string{nil, {"quota_db: twoskip", "quota_db_path: /conf/quotas.db"}} {
		g, _ := simGround(t, simfs.Options{NoTrace: true}, lines...)
		g.create(baseBoxes...)
		limits := func(n int64) map[quota.Resource]int64 { return map[quota.Resource]int64{quota.Storage: n} }
		used := func(root string) (used quota.Amounts) {
			g.keeping(func(k *quota.Keeper, _ *store.Store) {
				rec, err := k.Roots().Get(background, root)
				require.NoError(t, err)
				used = rec.Used
			})
			return used
		}
		set := func(root string, n int64) (report *quota.SetReport) {
			g.keeping(func(k *quota.Keeper, _ *store.Store) {
				var err error
				report, err = k.Set(background, root, limits(n))
				require.NoError(t, err)
				dirty, err := k.Dirty(background)
				require.NoError(t, err)
				require.Empty(t, dirty)
			})
			return report
		}
		report := set("user.foo", 1000)
		require.True(t, report.Created)
		require.Equal(t, quota.Amounts{7000, 5, 0, 2}, used("user.foo"))
		require.Equal(t, "user.foo", g.header("user.foo.sub"))
		require.Equal(t, "", g.header("user.foobar"))
		report = set("user.foo", 2000)
		require.False(t, report.Created)
		require.Equal(t, int64(1000), report.Before[quota.Storage])
		require.Equal(t, int64(2000), report.After[quota.Storage])
		g.undo(report.Undo)
		g.keeping(func(k *quota.Keeper, _ *store.Store) {
			rec, err := k.Roots().Get(background, "user.foo")
			require.NoError(t, err)
			require.Equal(t, int64(1000), rec.Limits[quota.Storage])
		})
		set("user.foo.sub", 10)
		require.Equal(t, quota.Amounts{3000, 3, 0, 1}, used("user.foo"))
		require.Equal(t, quota.Amounts{4000, 2, 0, 1}, used("user.foo.sub"))
		require.Equal(t, "user.foo.sub", g.header("user.foo.sub"))
		remove := func(root string) (report *quota.SetReport) {
			g.keeping(func(k *quota.Keeper, _ *store.Store) {
				var err error
				report, err = k.Delete(background, root)
				require.NoError(t, err)
				dirty, err := k.Dirty(background)
				require.NoError(t, err)
				require.Empty(t, dirty)
				_, err = k.Roots().Get(background, root)
				require.ErrorIs(t, err, quota.ErrNotFound)
			})
			return report
		}
		gone := remove("user.foo.sub")
		require.Equal(t, int64(10), gone.Before[quota.Storage])
		require.Equal(t, quota.Amounts{7000, 5, 0, 2}, used("user.foo"))
		require.Equal(t, "user.foo", g.header("user.foo.sub"))
		g.undo(gone.Undo)
		require.Equal(t, quota.Amounts{4000, 2, 0, 1}, used("user.foo.sub"))
		require.Equal(t, quota.Amounts{3000, 3, 0, 1}, used("user.foo"))
		remove("user.foo")
		require.Equal(t, "", g.header("user.foo"))
		require.Equal(t, "user.foo.sub", g.header("user.foo.sub"))
		g.keeping(func(k *quota.Keeper, _ *store.Store) {
			_, err := k.Set(background, "user.nobody", limits(1))
			require.ErrorIs(t, err, quota.ErrNoMailbox)
			_, err = k.Set(background, "user.foo", limits(-2))
			require.Error(t, err)
			_, err = k.Delete(background, "user.foo")
			require.ErrorIs(t, err, quota.ErrNotFound)
			all := 0
			for _, err := range k.Roots().All(background) {
				require.NoError(t, err)
				all++
			}
			require.Equal(t, 1, all)
		})
	}
}

// TestSetKilled kills the making and the removal of a root before each call. Recovery and settling make all right, and the root is
// there or not.
func TestSetKilled(t *testing.T) {
	for what, do := range map[string]func(ctx context.Context, k *quota.Keeper) error{
		"make": func(ctx context.Context, k *quota.Keeper) error {
			_, err := k.Set(ctx, "user.foo.sub", map[quota.Resource]int64{quota.Storage: 1000})
			return err
		},
		"remove": func(ctx context.Context, k *quota.Keeper) error {
			_, err := k.Delete(ctx, "user.bob")
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			g, disk := simGround(t, simfs.Options{})
			(&scenario{}).build(g)
			g.putRoot("user", rootText("0/0/0"))
			g.count(quota.Recalculation{})
			for at := 1; ; at += 13 {
				disk := disk.Kill()
				killed := simfs.Run(t, disk, simfs.Schedule{KillAt: at}, func(ctx context.Context, view *simfs.FS) {
					v := g.on(view)
					st := v.open()
					_ = do(ctx, keeperOf(v, st))
					_ = st.Close()
				}).Killed
				f := g.on(disk.Kill())
				f.opened(func(st *store.Store) {
					_, err := st.Recover(background)
					require.NoError(t, err)
					require.NoError(t, deliverTo(background, st, "user.foo.sub", 1, 100))
					require.NoError(t, deliverTo(background, st, "user.bob", 1, 100))
				})
				f.keeping(func(k *quota.Keeper, _ *store.Store) {
					_, err := k.SettleAll(background)
					require.NoError(t, err)
				})
				require.Equal(t, withoutLeftOvers(f.counted()), withoutLeftOvers(f.roots()), "killed at %d", at)
				if !killed {
					return
				}
			}
		})
	}
}

// TestUndoRunsAreForgotten keeps so many logs and no more, the newest.
func TestUndoRunsAreForgotten(t *testing.T) {
	g, _ := simGround(t, simfs.Options{NoTrace: true})
	(&scenario{}).build(g)
	for i := range 1005 {
		g.write(logOf(fmt.Sprintf("20250101T%06dZ-1", i)), "")
	}
	run := g.count(quota.Recalculation{}).Undo
	var logs []string
	for _, name := range g.list("conf/mailspine/quota/undo") {
		if strings.HasSuffix(name, ".log") {
			logs = append(logs, name)
		}
	}
	require.Len(t, logs, 1000)
	require.Equal(t, "20250101T000006Z-1.log", logs[0])
	require.Equal(t, run+".log", logs[999])
}

// sticky refuses to remove what is in the directory of the undo logs.
type sticky struct{ vfs.FS }

func (f sticky) Unlink(name string) error {
	if strings.Contains(name, "/quota/undo/") {
		return &fs.PathError{Op: "unlink", Path: name, Err: syscall.EPERM}
	}
	return f.FS.Unlink(name)
}

// TestUndoLogCannotBegin: a directory from which nothing can be removed ends a run with an error, and with one file at the most.
func TestUndoLogCannotBegin(t *testing.T) {
	g, disk := simGround(t, simfs.Options{})
	(&scenario{}).build(g)
	g.count(quota.Recalculation{}) // which prepares a log
	before := len(g.list("conf/mailspine/quota/undo"))
	for root := range baseRight {
		g.putRoot(root, rootText("1/1/1"))
	}
	st := g.open()
	report, err := keeperThrough(sticky{disk}, g, st).Recalculate(background, quota.Recalculation{Roots: []string{"user.foo"}})
	require.NoError(t, err)
	require.NoError(t, st.Close())
	require.ErrorIs(t, report.Outcomes[0].Err, syscall.EPERM)
	require.Equal(t, "1/1/1", g.roots()["user.foo"])
	require.LessOrEqual(t, len(g.list("conf/mailspine/quota/undo")), before+1)
	g.count(quota.Recalculation{})
	require.Equal(t, baseRight, withoutLeftOvers(g.roots()))
}

// TestUndoneAgain: a run whose undo was undone and redone is undone, and nothing is taken off twice.
func TestUndoneAgain(t *testing.T) {
	g, _ := simGround(t, simfs.Options{NoTrace: true})
	wrongBase(g)
	run := g.count(quota.Recalculation{}).Undo
	first := g.undo(run).Run
	undone := g.roots()
	second := g.undo(first).Run
	g.undo(second)
	require.Equal(t, undone, g.roots())
	g.keeping(func(k *quota.Keeper, _ *store.Store) {
		for _, name := range []string{run, second} {
			_, err := k.Undo(background, name, quota.UndoOptions{})
			require.ErrorIs(t, err, quota.ErrUndone, name)
		}
	})
	require.Equal(t, undone, g.roots())
	g.undo(first)
	require.Equal(t, rightBase, g.roots())
}

// TestUndoCutOff kills an undo before each of its calls that concerns a name, and undoes the run again: all is taken back once.
func TestUndoCutOff(t *testing.T) {
	g, disk := simGround(t, simfs.Options{})
	wrongBase(g)
	wrong := g.roots()
	wrong["user.bob"] = "77/7/1" // a scan that was left is nobody's any more
	run := g.count(quota.Recalculation{}).Undo
	for at := int64(1); ; at++ {
		now := disk.Kill()
		var left *simfs.FS
		h := &hookedFS{FS: now.Process("undo"), at: at}
		h.hook = func() { left = now.Kill() }
		st := g.on(now).open()
		_, err := keeperThrough(h, g.on(now), st).Undo(background, run, quota.UndoOptions{})
		require.NoError(t, err)
		require.NoError(t, st.Close())
		require.Equal(t, wrong, g.on(now).roots())
		if left == nil {
			require.Greater(t, at, int64(50))
			break
		}
		later := g.on(left)
		if fmt.Sprint(later.roots()) != fmt.Sprint(wrong) || later.header("user.foo") != "" {
			later.undo(run)
		}
		require.Equal(t, wrong, later.roots(), "call %d", at)
		require.Equal(t, []string{"", "user.bob"}, []string{later.header("user.foo"), later.header("user.foo.sub")}, "call %d", at)
	}
}
