package vfs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/stretchr/testify/require"
)

const sparesDir = "/conf/mailspine"

// fullDisk holds /d/a with the content "0" and another owner, a pool for it, and nothing free: what is freed is taken.
func fullDisk(t *testing.T, opts simfs.Options) *simfs.FS {
	opts.Blocks = 64
	fs := diskWith(t, opts, "0")
	require.NoError(t, vfs.MkdirAll(fs, "/conf", 0o755))
	require.NoError(t, vfs.NewSpares(fs, sparesDir).Prepare("/d/a", 100))
	fs.FillUp(0, true)
	return fs
}

// replaceOnFull puts a text into the place of /d/a.
func replaceOnFull(fs vfs.FS, text string) error { return replaceNamed(fs, "/d/a", text) }

func replaceNamed(fs vfs.FS, name, text string) error {
	opts := vfs.ReplaceOptions{Size: int64(len(text)), Spares: vfs.NewSpares(fs, sparesDir), Verify: func(f vfs.File) error {
		p := make([]byte, len(text)+1)
		if n, _ := f.ReadAt(p, 0); string(p[:n]) != text {
			return fmt.Errorf("read back %q", p[:n])
		}
		return nil
	}}
	return vfs.ReplaceFile(fs, name, opts, func(f vfs.File) error {
		_, err := f.WriteAt([]byte(text), 0)
		return err
	})
}

// numbered is a text of one of several lengths that says its number.
func numbered(n int) string { return fmt.Sprint(n) + strings.Repeat(".", n%5*700) }

// number returns the number of the text in /d/a, and insists on the whole text and on owner and mode.
func number(t *testing.T, fs vfs.FS, at string) (n int) {
	p, err := vfs.ReadFile(fs, "/d/a")
	require.NoError(t, err, at)
	_, err = fmt.Sscan(strings.TrimRight(string(p), "."), &n)
	require.NoError(t, err, at)
	require.Equal(t, numbered(n), string(p), at)
	info, err := fs.Stat("/d/a")
	require.NoError(t, err, at)
	require.Equal(t, []any{uint32(1234), uint32(2345), uint32(0o640)}, []any{info.UID, info.GID, uint32(info.Mode)}, at)
	return n
}

// TestSparesSurviveCrashes cuts the power everywhere in a row of replacements on a full disk: the file is that of the
// last replacement that was acknowledged, or of the next one, and the disk, still full, takes more of them; in which the
// power is cut again.
func TestSparesSurviveCrashes(t *testing.T) {
	for _, opts := range []simfs.Options{{}, {OrderedNames: true}, {DelayedAlloc: true}} {
		fs := fullDisk(t, opts)
		before := fs.Ops()
		const rounds = 8
		for n := 1; n <= rounds; n++ {
			require.NoError(t, replaceOnFull(fs, numbered(n)))
			fs.Mark(fmt.Sprint(n))
		}
		images, second := 0, 0
		for img := range fs.Trace().Images(simfs.Search{From: before, Limit: 200, Samples: 40}) {
			images++
			acked := len(img.Marks)
			n := number(t, img, img.Seed)
			require.True(t, n == acked || n == acked+1, "%d is there, %d was acknowledged: %s", n, acked, img.Seed)
			if images%20 != 0 {
				continue
			}
			img.FillUp(0, true)
			from := img.Ops()
			require.NoError(t, replaceOnFull(img, numbered(n+1)), img.Seed)
			require.NoError(t, replaceOnFull(img, numbered(n+2)), img.Seed)
			for again := range img.Trace().Images(simfs.Search{From: from, Limit: 4, Samples: 4}) {
				second++
				m := number(t, again, img.Seed+" then "+again.Seed)
				require.True(t, m >= n && m <= n+2)
			}
		}
		t.Logf("%d images, %d of a second crash", images, second)
	}
}

// TestKilledWriterOfASpare kills the writer after each step. The next one may cut the power at each of its own: nothing
// that a crash could bring back was overwritten.
func TestKilledWriterOfASpare(t *testing.T) {
	fs := fullDisk(t, simfs.Options{})
	require.NoError(t, replaceOnFull(fs, numbered(1)))
	before := fs.Ops()
	require.NoError(t, replaceOnFull(fs, numbered(2)))
	require.Greater(t, fs.Ops()-before, 6)
	for at := before; at <= fs.Ops(); at++ {
		next := fs.Trace().Killed(at)
		next.FillUp(0, true)
		n := number(t, next, "killed")
		from := next.Ops()
		for k := range 5 {
			require.NoError(t, replaceOnFull(next, numbered(10+k)))
			next.Mark(fmt.Sprint(10 + k))
		}
		for img := range next.Trace().Images(simfs.Search{From: from, Limit: 50, Samples: 20}) {
			m := number(t, img, fmt.Sprintf("killed at %d, %s", at, img.Seed))
			acked := 0
			if k := len(img.Marks); k > 0 {
				_, err := fmt.Sscan(img.Marks[k-1], &acked)
				require.NoError(t, err)
			}
			if acked == 0 {
				// What the killed one did not acknowledge may be there or not; what it had acknowledged before is.
				require.Contains(t, []int{1, n, 10}, m, "killed at %d, %s", at, img.Seed)
				continue
			}
			require.True(t, m == acked || m == acked+1, "%d is there, %d was acknowledged: killed at %d, %s", m, acked, at, img.Seed)
		}
	}
}

// TestPoolOfTwoDirectories kills the writer of one file, and has another process replace a file in another directory
// with the same spares: the first file is whole whenever the power goes, though nobody synced its directory for it.
func TestPoolOfTwoDirectories(t *testing.T) {
	fs := fullDisk(t, simfs.Options{})
	fs.FreeUp()
	require.NoError(t, vfs.MkdirAll(fs, "/e", 0o755))
	f, err := fs.Open("/e/b", vfs.ReadWrite|vfs.Create, 0o600)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("b"), 0)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	require.NoError(t, fs.SyncDir("/e"))
	fs.FillUp(0, true)
	before := fs.Ops()
	require.NoError(t, replaceOnFull(fs, numbered(1)))
	for at := before; at <= fs.Ops(); at++ {
		next := fs.Trace().Killed(at)
		next.FillUp(0, true)
		from := next.Ops()
		for k := range 5 {
			require.NoError(t, replaceNamed(next, "/e/b", numbered(10+k)))
		}
		for img := range next.Trace().Images(simfs.Search{From: from, Limit: 50, Samples: 20}) {
			require.LessOrEqual(t, number(t, img, fmt.Sprintf("killed at %d, %s", at, img.Seed)), 1)
		}
	}
}

func TestSparesSurviveFaults(t *testing.T) {
	for _, mode := range []faultfs.Mode{faultfs.Once, faultfs.Onwards, faultfs.EverySecond} {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EOPNOTSUPP} {
			for n := 0; ; n++ {
				fs := fullDisk(t, simfs.Options{Seed: uint64(n)})
				require.NoError(t, replaceOnFull(fs, numbered(1)))
				from := fs.Ops()
				plan := &faultfs.Plan{N: n, Err: errno, Mode: mode, Short: faultfs.Half}
				err := replaceOnFull(faultfs.Wrap(fs, plan), numbered(2))
				if !plan.Fired() {
					require.NoError(t, err)
					require.Greater(t, n, 20)
					break
				}
				plan.Stop()
				var notDurable *vfs.NotDurableError
				got := number(t, fs, plan.String())
				switch {
				case err == nil || errors.As(err, &notDurable):
					if got != 2 {
						require.ErrorContains(t, err, "exchange", "only where it cannot be found out: %v", plan)
					}
				default:
					require.Equal(t, 1, got, "%v: %v", plan, err)
				}
				for img := range fs.Trace().Images(simfs.Search{From: fs.Ops(), Samples: 5, Limit: 50}) {
					m := number(t, img, plan.String())
					require.True(t, m == got || notDurable != nil && m == 1, plan)
				}
				// The next one does not overwrite what a crash may bring back.
				fs.FillUp(0, true)
				next := replaceOnFull(fs, numbered(3))
				require.NoError(t, next, plan)
				fs.Mark("3")
				require.NoError(t, replaceOnFull(fs, numbered(4)), plan)
				for img := range fs.Trace().Images(simfs.Search{From: from, Samples: 3, Limit: 8}) {
					m := number(t, img, plan.String())
					require.True(t, len(img.Marks) == 0 || m >= 3, "%v, %s", plan, img.Seed)
				}
			}
		}
	}
}

// TestSparesOfManyProcesses lets processes share a pool on a full disk, in an order that a seed decides; with more of
// them than spares some wait. Each has a file of its own. In half of the runs one is killed on the way: the others go on.
func TestSparesOfManyProcesses(t *testing.T) {
	for seed := range uint64(60) {
		fs := fullDisk(t, simfs.Options{})
		fs.FreeUp()
		const workers = 6
		path := func(w int) string { return fmt.Sprintf("/d/%d", w) }
		var tasks []simfs.Task
		done := make([]int, workers)
		for w := range workers {
			f, err := fs.Open(path(w), vfs.ReadWrite|vfs.Create, 0o600)
			require.NoError(t, err)
			_, err = f.WriteAt(fmt.Appendf(nil, "%d 0", w), 0)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			tasks = append(tasks, func(_ context.Context, fs *simfs.FS) {
				for k := 1; k <= 3; k++ {
					text := fmt.Sprintf("%d %d", w, k)
					opts := vfs.ReplaceOptions{Size: int64(len(text)), Spares: vfs.NewSpares(fs, sparesDir)}
					err := vfs.ReplaceFile(fs, path(w), opts, func(f vfs.File) error {
						_, err := f.WriteAt([]byte(text), 0)
						return err
					})
					if err != nil {
						t.Errorf("seed %d, worker %d: %v", seed, w, err)
					}
					done[w] = k
				}
			})
		}
		fs.FillUp(0, true)
		schedule := simfs.Schedule{Seed: seed}
		if seed%2 == 1 {
			schedule.Kill, schedule.KillAt = int(seed/2)%workers, int(seed)
		}
		report := simfs.Run(t, fs, schedule, tasks...)
		for w := range workers {
			p, err := vfs.ReadFile(fs, path(w))
			require.NoError(t, err)
			want := []string{fmt.Sprintf("%d %d", w, done[w])}
			if report.Killed && w == schedule.Kill {
				want = append(want, fmt.Sprintf("%d %d", w, done[w]+1))
			} else {
				require.Equal(t, 3, done[w])
			}
			require.Contains(t, want, string(p), "seed %d", seed)
		}
	}
}

// TestExchangeIsNotEverywhere falls back to a rename, each of which uses a spare up.
func TestExchangeIsNotEverywhere(t *testing.T) {
	fs := fullDisk(t, simfs.Options{})
	plan := &faultfs.Plan{Kinds: faultfs.Exchange, Err: syscall.EINVAL, Mode: faultfs.Onwards}
	n := 0
	for ; ; n++ {
		plan := &faultfs.Plan{Kinds: plan.Kinds, Err: plan.Err}
		if err := replaceOnFull(faultfs.Wrap(fs, plan), numbered(n+1)); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			break
		}
		require.True(t, plan.Fired())
		require.Equal(t, n+1, number(t, fs, ""))
	}
	require.Equal(t, 4, n)
	require.Equal(t, n, number(t, fs, ""))
}

func TestNoSparesWhereSpaceCannotBePromised(t *testing.T) {
	fs := simfs.New(simfs.Options{CopyOnWrite: true})
	f, err := fs.Open("/a", vfs.ReadWrite|vfs.Create, 0o600)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.ErrorIs(t, vfs.NewSpares(fs, "/pool").Prepare("/a", 1), syscall.EOPNOTSUPP)
	list, err := fs.ReadDir("/")
	require.NoError(t, err)
	require.Len(t, list, 1, "nothing was made")
}
