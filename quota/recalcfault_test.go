package quota_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/internal/vfs/vfstest"
	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/store"
)

// TestTooManyFiles has the process run out of files at each place in turn: the root is as it was, the error says how many it takes.
func TestTooManyFiles(t *testing.T) {
	g, disk := simGround(t, simfs.Options{})
	(&scenario{}).build(g)
	told := 0
	for n := 0; ; n++ {
		f := g.on(disk.Kill())
		st := f.open()
		before := f.rootTexts()
		plan := &faultfs.Plan{N: n, Kinds: faultfs.Open | faultfs.Create, Err: syscall.EMFILE, Mode: faultfs.Onwards}
		report, err := keeperThrough(faultfs.Wrap(f.fs, plan), f, st).Recalculate(background, quota.Recalculation{Roots: []string{"user.foo"}})
		require.NoError(t, st.Close())
		if !plan.Fired() {
			require.NoError(t, err)
			require.NoError(t, report.Outcomes[0].Err)
			require.Greater(t, told, 5)
			return
		}
		if err == nil {
			err = report.Outcomes[0].Err
		}
		var many *quota.TooManyFilesError
		switch {
		case err == nil: // it was done before
			require.Equal(t, "7000/5/2", f.roots()["user.foo"])
			continue
		case errors.As(err, &many):
			require.ErrorIs(t, err, quota.ErrTooManyFiles)
			require.LessOrEqual(t, many.Files, 4, "two locks of the user and two indexes")
			told++
		default:
			require.ErrorIs(t, err, syscall.EMFILE)
		}
		require.Equal(t, before, f.rootTexts())
	}
}

// scarce lets only so many files be open at once.
type scarce struct {
	vfs.FS
	left atomic.Int64
}

func (s *scarce) Open(name string, flag vfs.Flag, perm fs.FileMode) (vfs.File, error) {
	time.Sleep(20 * time.Microsecond) // so that all are at work at once
	if s.left.Add(-1) < 0 {
		s.left.Add(1)
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
	}
	f, err := s.FS.Open(name, flag, perm)
	if err != nil {
		s.left.Add(1)
		return nil, err
	}
	return &scarceFile{File: f, s: s}, nil
}

type scarceFile struct {
	vfs.File
	s    *scarce
	once sync.Once
}

// CopyMetadata takes the file that is within another.
func (f *scarceFile) CopyMetadata(from vfs.File) error {
	if w, ok := from.(*scarceFile); ok {
		from = w.File
	}
	return f.File.CopyMetadata(from)
}

func (f *scarceFile) Close() error {
	f.once.Do(func() { f.s.left.Add(1) })
	return f.File.Close()
}

// TestFewFilesForMany: where there are too few files for all who are at work, each root is done alone.
func TestFewFilesForMany(t *testing.T) {
	fsys := &scarce{FS: simfs.New(simfs.Options{NoTrace: true})}
	fsys.left.Store(1 << 20)
	g := groundOn(t, fsys)
	var boxes []box
	want := map[string]string{}
	for i := range 8 {
		root := fmt.Sprintf("user.u%d", i)
		g.putRoot(root, rootText("1/1/1"))
		want[root] = "400/4/4"
		for _, below := range []string{"", ".a", ".b", ".c"} {
			boxes = append(boxes, box{root + below, 1, 100})
		}
	}
	g.create(boxes...)
	for root := range want {
		g.putRoot(root, rootText("1/1/1"))
	}
	g.keeping(func(k *quota.Keeper, _ *store.Store) {
		open := 1<<20 - fsys.left.Load()
		fsys.left.Store(14) // one root takes 6, and some for what else it does
		report, err := k.Recalculate(background, quota.Recalculation{Jobs: 8})
		require.NoError(t, err)
		require.Zero(t, report.Failed, "%+v", report.Outcomes)
		require.Equal(t, int64(14), fsys.left.Load(), "all are closed")
		fsys.left.Store(1<<20 - open)
	})
	require.Equal(t, want, g.roots())
}

// withoutLeftOvers are the roots without the files that changes have left which were cut off.
func withoutLeftOvers(roots map[string]string) map[string]string {
	maps.DeleteFunc(roots, func(root, _ string) bool { return strings.HasSuffix(root, ".NEW") })
	return roots
}

// stride is how many calls are left out between two that are tried: none in a campaign.
func stride(n int) int {
	if os.Getenv("MAILSPINE_CAMPAIGN") != "" {
		return 1
	}
	return n
}

// TestRecalculateErrno fails each call in turn: roots say what they said or what is right, and the next run puts all right.
func TestRecalculateErrno(t *testing.T) {
	g, disk := simGround(t, simfs.Options{})
	wrongBase(g)
	before := g.roots()
	for _, plan := range []*faultfs.Plan{{Err: syscall.EIO}, {Err: syscall.ENOSPC, Kinds: faultfs.Modifying}, {Err: syscall.EIO, Kinds: faultfs.Modifying, After: true}} {
		cells := 0
		for n := 0; ; n += stride(5) {
			f := g.on(disk.Kill())
			failing := plan.At(n)
			st := f.open()
			report, err := keeperThrough(faultfs.Wrap(f.fs, failing), f, st).Recalculate(background, quota.Recalculation{})
			require.NoError(t, st.Close())
			if !failing.Fired() {
				require.NoError(t, err)
				require.Equal(t, rightBase, f.roots())
				break
			}
			cells++
			for root, is := range withoutLeftOvers(f.roots()) {
				require.Contains(t, []string{before[root], rightBase[root], strings.TrimSuffix(before[root], "/SCAN")}, is, "%s, %v", root, failing)
			}
			complete := err == nil && report.Failed+report.Incomplete == 0 && !slices.ContainsFunc(report.Outcomes, func(o quota.Outcome) bool { return len(o.Problems) > 0 })
			if complete && len(report.Problems) == 0 {
				require.Equal(t, rightBase, withoutLeftOvers(f.roots()), "%v", failing)
			}
			f.count(quota.Recalculation{})
			require.Equal(t, rightBase, withoutLeftOvers(f.roots()), "%v", failing)
			require.Equal(t, "user.foo.sub", f.header("user.foo.sub"))
		}
		t.Logf("%d cells", cells)
	}
}

// TestRecalculateFullDisk: with nothing free usage can be lowered, and what cannot be done is refused and changes nothing.
func TestRecalculateFullDisk(t *testing.T) {
	g, disk := simGround(t, simfs.Options{})
	(&scenario{}).build(g) // mail has come while there was space, and nothing was ever recalculated
	for what, wrong := range map[string]string{"lower": "900000/800/70", "raise": "1/1/1"} {
		for _, greedy := range []bool{false, true} {
			f := g.on(disk.Kill())
			for root := range baseRight {
				f.putRoot(root, rootText(wrong, 100000, 500))
			}
			full := f.fs.(*simfs.FS)
			full.SetCapacity(1<<20, 1<<20)
			full.FillUp(0, greedy)
			before := f.rootTexts()
			f.keeping(func(k *quota.Keeper, _ *store.Store) {
				report, err := k.Recalculate(background, quota.Recalculation{})
				require.NoError(t, err)
				for _, o := range report.Outcomes {
					if what == "lower" {
						require.NoError(t, o.Err)
					}
					if o.Err != nil {
						require.ErrorIs(t, o.Err, quota.ErrNoSpace)
						require.Equal(t, before[o.Root], f.rootTexts()[o.Root])
					} else {
						require.Equal(t, baseRight[o.Root], f.roots()[o.Root], what)
					}
				}
			})
			full.FreeUp()
			f.count(quota.Recalculation{})
			require.Equal(t, baseRight, f.roots())
		}
	}
}

// TestRunsOnFullDisk: one run after the other can be noted on a full disk, as long as nobody takes what the log of the last one has left.
func TestRunsOnFullDisk(t *testing.T) {
	g, disk := simGround(t, simfs.Options{})
	(&scenario{}).build(g)
	for root := range baseRight {
		g.putRoot(root, rootText("900000/800/70", 100000, 500))
	}
	f := g.on(disk.Kill())
	full := f.fs.(*simfs.FS)
	full.SetCapacity(1<<20, 1<<20)
	full.FillUp(0, false)
	f.keeping(func(k *quota.Keeper, _ *store.Store) {
		for root := range baseRight {
			report, err := k.Recalculate(background, quota.Recalculation{Roots: []string{root}})
			require.NoError(t, err)
			require.NoError(t, report.Outcomes[0].Err, root)
			require.NotEmpty(t, report.Undo)
		}
		require.Equal(t, baseRight, f.roots())
		_, err := k.Set(background, "user.foo", map[quota.Resource]int64{quota.Messages: 3})
		require.NoError(t, err, "a limit takes no space, either")
		_, err = k.Set(background, "user.foo.sub", map[quota.Resource]int64{quota.Messages: 3})
		require.ErrorIs(t, err, quota.ErrNoSpace)
		require.Equal(t, baseRight, f.roots())
	})
}

// TestRecalculateKilled kills it before each of its calls, as a process and with the machine; mail comes, and the next run is exact.
func TestRecalculateKilled(t *testing.T) {
	g, disk := simGround(t, simfs.Options{})
	wrongBase(g)
	require.NoError(t, vfstest.WriteBack(disk, "/"))
	right := maps.Clone(rightBase)
	right["user.foo"] = "4000/4/1"
	for at := 1; ; at += stride(7) {
		run := disk.Kill()
		report := simfs.Run(t, run, simfs.Schedule{Kill: 0, KillAt: at}, func(ctx context.Context, view *simfs.FS) {
			v := g.on(view)
			st := v.open()
			_, _ = keeperOf(v, st).Recalculate(ctx, quota.Recalculation{})
			_ = st.Close()
		})
		f := g.on(run.Kill())
		f.opened(func(st *store.Store) {
			_, err := st.Recover(background)
			require.NoError(t, err)
			require.NoError(t, deliverTo(background, st, "user.foo", 1, 1000))
		})
		f.count(quota.Recalculation{})
		require.Equal(t, right, f.roots(), "killed at %d", at)
		require.Equal(t, "user.foo.sub", f.header("user.foo.sub"))
		if !report.Killed {
			return
		}
	}
}

// TestRecalculateCrashImages cuts the power at every operation. In each image a root says what it said or what is right; an undo of the
// run finds every change that the disk has, and the next recalculation puts all right.
func TestRecalculateCrashImages(t *testing.T) {
	g, disk := simGround(t, simfs.Options{})
	wrongBase(g)
	g.count(quota.Recalculation{DryRun: true})
	require.NoError(t, vfstest.WriteBack(disk, "/"))
	before := g.roots()
	before["user.bob"] = "77/7/1" // the mark of a scan is not given back
	from := disk.Ops()
	run := g.count(quota.Recalculation{}).Undo
	n := 0
	for img := range disk.Trace().Images(simfs.Search{Limit: 2, Samples: 2, Seed: 7, From: from}) {
		n++
		f := g.on(img.FS)
		for root, is := range withoutLeftOvers(f.roots()) {
			require.Contains(t, []string{before[root], before[root] + "/SCAN", rightBase[root]}, is, "%s, %s", root, img.Seed)
		}
		again := g.on(img.FS.Kill())
		again.opened(func(st *store.Store) {
			_, err := st.Recover(background)
			require.NoError(t, err)
		})
		again.keeping(func(k *quota.Keeper, _ *store.Store) {
			_, err := k.Undo(background, run, quota.UndoOptions{})
			if err != nil {
				require.ErrorIs(t, err, quota.ErrNoRun)
			}
		})
		for root, is := range withoutLeftOvers(again.roots()) {
			require.Equal(t, before[root], strings.TrimSuffix(is, "/SCAN"), "%s is not undone, %s", root, img.Seed)
		}
		require.Equal(t, "", again.header("user.foo"), img.Seed)
		require.Equal(t, "user.bob", again.header("user.foo.sub"), img.Seed)
		f.opened(func(st *store.Store) {
			_, err := st.Recover(background)
			require.NoError(t, err)
		})
		f.count(quota.Recalculation{})
		require.Equal(t, rightBase, withoutLeftOvers(f.roots()), img.Seed)
	}
	t.Logf("%d images", n)
}
