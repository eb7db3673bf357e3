package quota

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/mboxdb"
)

// keepOn opens a keeper on a file system with the store of configOf in "/". It has no mailbox list, and so cannot count.
func keepOn(t testing.TB, fsys vfs.FS, lines ...string) *Keeper {
	t.Helper()
	return keepWith(t, fsys, configOf(t, fsys, "/", lines...))
}

func keepWith(t testing.TB, fsys vfs.FS, c *imapdconf.Config) *Keeper {
	t.Helper()
	r, err := OpenRoots(ctx, c, Options{FS: fsys})
	require.NoError(t, err)
	_, list := mboxdb.Configured(c)
	return NewKeeper(r, nil, list.Layout, Options{FS: fsys})
}

func limited(limits Limits, used Amounts) Record { return Record{Used: used, Limits: limits} }

// messageOf is a change by one message.
func messageOf(root, mailbox string, bytes int64) index.Usage {
	u := index.Usage{QuotaRoot: root, Mailbox: mailbox, Bytes: bytes, Messages: 1}
	if bytes < 0 {
		u.Messages = -1
	}
	return u
}

// change goes through with a change.
func change(k *Keeper, u index.Usage) error {
	p, err := k.Begin(ctx, u)
	if err != nil {
		return err
	}
	return p.Apply(ctx)
}

func usedBy(t testing.TB, k *Keeper, root string) Amounts {
	t.Helper()
	r, err := k.roots.Get(ctx, root)
	require.NoError(t, err)
	return r.Used
}

func dirtyOf(t testing.TB, k *Keeper) []string {
	t.Helper()
	list, err := k.Dirty(ctx)
	require.NoError(t, err)
	return list
}

// TestKeeper: what was changed is added, in every way in which roots are kept; what is not committed is not, and what cannot be the
// right usage is marked.
func TestKeeper(t *testing.T) {
	t.Parallel()
	for kind, lines := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			k := keepOn(t, simfs.New(simfs.Options{NoTrace: true}), lines...)
			create(t, k.roots, "user.u", limited(NoLimits(), Amounts{}))
			require.NoError(t, change(k, messageOf("user.u", "user.u", 1000)))
			require.NoError(t, change(k, index.Usage{QuotaRoot: "user.u", Bytes: 500, Messages: 1, AnnotBytes: 7, Folder: 1}))
			require.Equal(t, Amounts{1500, 2, 7, 1}, usedBy(t, k, "user.u"))
			require.NoError(t, change(k, messageOf("user.u", "user.u", -500)))
			require.Equal(t, Amounts{1000, 1, 7, 1}, usedBy(t, k, "user.u"))

			p, err := k.Begin(ctx, messageOf("user.u", "user.u", 1000))
			require.NoError(t, err)
			require.NoError(t, p.Undo())
			p, err = k.Begin(ctx, messageOf("user.u", "user.u", 1000))
			require.NoError(t, err)
			p.Leave()
			require.Equal(t, Amounts{1000, 1, 7, 1}, usedBy(t, k, "user.u"))
			require.Empty(t, dirtyOf(t, k))

			require.NoError(t, change(k, messageOf("user.u", "user.u", -5000)))
			require.Equal(t, Amounts{0, 0, 7, 1}, usedBy(t, k, "user.u"))
			require.Equal(t, []string{"user.u"}, dirtyOf(t, k), "what falls below nothing was wrong before")

			require.NoError(t, change(k, messageOf("user.gone", "user.gone", 10)), "as for Cyrus, nobody limits it")
			require.NoError(t, change(k, messageOf("bad/../name", "user.x", 10)))
			require.NoError(t, change(k, messageOf(strings.Repeat("x", 5000), "user.x", 10)))
			require.Len(t, dirtyOf(t, k), 1)
			require.NoError(t, k.roots.Close())
		})
	}
}

// TestKeeperDamagedRoot: a record that nobody can read keeps nobody from a change, and is marked.
func TestKeeperDamagedRoot(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "%(S (0", "%(S (0) M (0) AS (0))"} {
		fsys := simfs.New(simfs.Options{NoTrace: true})
		k := keepOn(t, fsys)
		create(t, k.roots, "user.u", limited(Limits{0, 0, 0, 0}, Amounts{}))
		put := func(content string) {
			require.NoError(t, vfs.ReplaceFile(fsys, "/conf/quota/u/user.u", vfs.ReplaceOptions{}, func(f vfs.File) error {
				_, err := f.WriteAt([]byte(content), 0)
				return err
			}))
		}
		put(content)
		require.NoError(t, k.Check(ctx, "user.u", Amounts{1}))
		require.NoError(t, change(k, messageOf("user.u", "user.u", 1000)))
		require.Equal(t, []string{"user.u"}, dirtyOf(t, k), "%q", content)
		got, err := vfs.ReadFile(fsys, "/conf/quota/u/user.u")
		require.NoError(t, err)
		require.Equal(t, content, string(got))
	}
}

// TestKeeperLimits: a limit is reached and not passed, by what grows alone.
func TestKeeperLimits(t *testing.T) {
	t.Parallel()
	k := keepOn(t, simfs.New(simfs.Options{NoTrace: true}))
	create(t, k.roots, "user.u", limited(Limits{1, 2, 0, Unlimited}, Amounts{}))
	over := func(u index.Usage, res Resource, text string) {
		t.Helper()
		before := usedBy(t, k, "user.u")
		_, err := k.Begin(ctx, u)
		require.ErrorIs(t, err, index.ErrOverQuota)
		var e *OverError
		require.ErrorAs(t, err, &e)
		require.Equal(t, res, e.Resource)
		require.ErrorContains(t, err, text)
		require.ErrorIs(t, k.Check(ctx, "user.u", AmountsOf(u)), index.ErrOverQuota)
		require.Equal(t, before, usedBy(t, k, "user.u"))
	}
	over(messageOf("user.u", "", 1025), Storage, `STORAGE of the quota root "user.u": 0 used, 1025 needed, 1 KiB allowed`)
	over(index.Usage{QuotaRoot: "user.u", AnnotBytes: 1}, Annotations, "1 needed, 0 KiB allowed")
	require.NoError(t, k.Check(ctx, "user.u", Amounts{1024, 2, 0, 1 << 40}))
	require.NoError(t, change(k, messageOf("user.u", "", 1024)))
	over(messageOf("user.u", "", 1), Storage, "1024 used")
	require.NoError(t, change(k, index.Usage{QuotaRoot: "user.u", Messages: 1}))
	over(index.Usage{QuotaRoot: "user.u", Messages: 1, Bytes: -1000}, Messages, "2 used, 1 needed, 2 allowed")
	require.NoError(t, change(k, index.Usage{QuotaRoot: "user.u", Folder: 3}))

	moved := messageOf("user.u", "", 600)
	moved.Moved = true
	require.NoError(t, change(k, moved), "what is moved within the root is taken away right afterwards")
	require.Equal(t, Amounts{1624, 3, 0, 3}, usedBy(t, k, "user.u"))
	require.NoError(t, change(k, messageOf("user.u", "", -100)), "more is used than allowed, and it becomes less")
	require.Equal(t, Amounts{1524, 2, 0, 3}, usedBy(t, k, "user.u"))

	create(t, k.roots, "user.v", limited(NoLimits(), Amounts{Storage: 1<<63 - 10}))
	require.NoError(t, change(k, messageOf("user.v", "", 100)))
	require.Equal(t, int64(1<<63-1), usedBy(t, k, "user.v")[Storage])
	require.Equal(t, []string{"user.v"}, dirtyOf(t, k))
}

// TestKeeperScan: while Cyrus's quota is counting, a change of a mailbox that it has passed goes into its sum, too.
func TestKeeperScan(t *testing.T) {
	t.Parallel()
	k := keepOn(t, simfs.New(simfs.Options{NoTrace: true}))
	create(t, k.roots, "user.u", limited(NoLimits(), Amounts{5000, 5, 0, 2}))
	_, err := k.roots.Update(ctx, "user.u", func(r *Record) error {
		r.Scan = &Scan{Mailbox: "user.u.b", Used: Amounts{1000, 1, 0, 1}}
		return nil
	})
	require.NoError(t, err)
	scan := func() Amounts {
		r, err := k.roots.Get(ctx, "user.u")
		require.NoError(t, err)
		return r.Scan.Used
	}
	for _, m := range []string{"user.u", "user.u.b", "user.u.b-d", "user.u.c"} {
		require.NoError(t, change(k, messageOf("user.u", m, 100)))
	}
	require.Equal(t, Amounts{1200, 3, 0, 1}, scan(), "user.u.b-d and user.u.c come later")
	require.Equal(t, Amounts{5400, 9, 0, 2}, usedBy(t, k, "user.u"))
	step := index.Usage{QuotaRoot: "user.u", Bytes: 10, Folder: 2, Parts: []index.Usage{{Mailbox: "user.u.a", Bytes: 4, Folder: 1}, {Mailbox: "user.u.z", Bytes: 6, Folder: 1}}}
	require.NoError(t, change(k, step))
	require.Equal(t, Amounts{1204, 3, 0, 2}, scan())
	require.Empty(t, dirtyOf(t, k))
	require.NoError(t, change(k, messageOf("user.u", "", 100)))
	require.Equal(t, []string{"user.u"}, dirtyOf(t, k), "nobody knows whether it was passed")
}

// TestTokens: what others have asked for counts against a limit until it is added or given back, and not if they have died.
func TestTokens(t *testing.T) {
	t.Parallel()
	disk := simfs.New(simfs.Options{NoTrace: true})
	c := configOf(t, disk, "/")
	one, other := keepWith(t, disk, c), keepWith(t, disk.Process("other"), c)
	create(t, one.roots, "user.u", limited(Limits{Storage: 1, Messages: Unlimited, Annotations: Unlimited, Folders: Unlimited}, Amounts{}))
	create(t, one.roots, "user.v", limited(Limits{Storage: 1, Messages: Unlimited, Annotations: Unlimited, Folders: Unlimited}, Amounts{}))
	delta := Amounts{Storage: 600, Messages: 1}
	first, err := one.Reserve(ctx, "user.u", delta)
	require.NoError(t, err)
	_, err = other.Reserve(ctx, "user.u", delta)
	require.ErrorIs(t, err, index.ErrOverQuota)
	require.ErrorContains(t, err, "0 used, 600 more asked for, 600 needed")
	require.ErrorIs(t, other.Check(ctx, "user.u", delta), index.ErrOverQuota)
	_, err = other.Reserve(ctx, "user.v", delta)
	require.NoError(t, err, "another root")
	small, err := other.Reserve(ctx, "user.u", Amounts{Storage: 424})
	require.NoError(t, err)
	require.NoError(t, small.Release())
	require.NoError(t, small.Release())
	require.Error(t, small.Commit(ctx))
	require.NoError(t, first.Commit(ctx))
	require.NoError(t, first.Release())
	require.Error(t, first.Commit(ctx), "once")
	require.Equal(t, Amounts{600, 1, 0, 0}, usedBy(t, other, "user.u"))
	require.NoError(t, other.Check(ctx, "user.u", Amounts{Storage: 424}), "it is added, and no longer asked for")

	// Freed in a change that is not committed yet: no room for others.
	freed, err := other.Begin(ctx, index.Usage{QuotaRoot: "user.u", Bytes: -600})
	require.NoError(t, err)
	require.ErrorIs(t, one.Check(ctx, "user.u", delta), index.ErrOverQuota)
	require.NoError(t, freed.Apply(ctx))

	view := disk.Process("killed")
	killed := keepWith(t, view, c)
	_, err = killed.Reserve(ctx, "user.u", Amounts{Storage: 1000})
	require.NoError(t, err)
	require.ErrorIs(t, one.Check(ctx, "user.u", delta), index.ErrOverQuota)
	view.Exit()
	last, err := one.Reserve(ctx, "user.u", Amounts{Storage: 1024})
	require.NoError(t, err, "a process that has died asks for nothing")
	require.NoError(t, last.Release())
	list, err := disk.ReadDir("/conf/mailspine/quota/tokens")
	require.NoError(t, err)
	require.LessOrEqual(t, len(list), 3, "files are used again")

	// What is no token, or one that was cut off, is none.
	for _, b := range [][]byte{nil, {1, 2, 3}, appendToken(nil, "user.u", Amounts{Storage: 1024})[:20], append(appendToken(nil, "user.u", Amounts{Storage: 1024})[:8], make([]byte, 200)...)} {
		f, err := disk.Open("/conf/mailspine/quota/tokens/0", vfs.ReadWrite, 0)
		require.NoError(t, err)
		require.NoError(t, f.Truncate(0))
		_, err = f.WriteAt(b, 0)
		require.NoError(t, err)
		require.NoError(t, f.TryLock(vfs.Exclusively))
		require.NoError(t, one.Check(ctx, "user.u", Amounts{Storage: 1024}))
		require.NoError(t, f.Close())
	}
}

// TestTokensGoroutines: of many who want the last room at once as many get it as there is room for.
func TestTokensGoroutines(t *testing.T) {
	t.Parallel()
	c := configOf(t, vfs.OS(), t.TempDir())
	_, list := mboxdb.Configured(c)
	open := func() *Keeper {
		r, err := OpenRoots(ctx, c, Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, r.Close()) })
		return NewKeeper(r, nil, list.Layout, Options{})
	}
	keepers := []*Keeper{open(), open(), open()}
	limits := NoLimits()
	limits[Messages] = 7
	create(t, keepers[0].roots, "user.u", limited(limits, Amounts{}))
	var got, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			k := keepers[i%len(keepers)]
			p, err := k.Begin(ctx, messageOf("user.u", "user.u", 10))
			if errors.Is(err, index.ErrOverQuota) {
				refused.Add(1)
				return
			}
			if err == nil {
				got.Add(1)
				err = p.Apply(ctx)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 7, got.Load())
	require.EqualValues(t, 17, refused.Load())
	require.Equal(t, Amounts{70, 7, 0, 0}, usedBy(t, keepers[0], "user.u"))
}

// TestTokensKilled has processes take and give back room in two roots in all orders, one of them killed somewhere: no limit is passed,
// and in the end nothing is asked for.
func TestTokensKilled(t *testing.T) {
	t.Parallel()
	total, kills := int64(0), 0
	for seed := range uint64(40) {
		disk := simfs.New(simfs.Options{NoTrace: true})
		c := configOf(t, disk, "/")
		k := keepWith(t, disk, c)
		limits := NoLimits()
		limits[Messages] = 3
		roots := []string{"user.u", "user.v"}
		for _, root := range roots {
			create(t, k.roots, root, limited(limits, Amounts{}))
		}
		var tasks []simfs.Task
		var asked [2]atomic.Int64 // accepted and not given back
		for i := range 3 {
			tasks = append(tasks, func(ctx context.Context, view *simfs.FS) {
				k := keepWith(t, view, c)
				for n := range 3 {
					root := (i + n) % 2
					p, err := k.Begin(ctx, messageOf(roots[root], roots[root], 10))
					if err != nil {
						continue
					}
					if now := asked[root].Add(1); now > 3 {
						t.Errorf("seed %d: %d were let in", seed, now)
					}
					if n == 1 && i > 0 {
						asked[root].Add(-1)
						_ = p.Undo()
						continue
					}
					_ = p.Apply(ctx)
				}
			})
		}
		report := simfs.Run(t, disk, simfs.Schedule{Seed: seed, Kill: int(seed % 3), KillAt: int(10 + seed*13%120)}, tasks...)
		if report.Killed {
			kills++
		}
		for _, root := range roots {
			used := usedBy(t, k, root)[Messages]
			require.LessOrEqual(t, used, int64(3), "seed %d", seed)
			total += used
			pending, err := k.tokens.pending(root)
			require.NoError(t, err)
			require.Zero(t, pending, "seed %d", seed)
		}
	}
	require.Greater(t, total, int64(100))
	require.Greater(t, kills, 10)
}

// TestMarks: a root that was marked is marked after any crash, until a count that began later takes the mark away.
func TestMarks(t *testing.T) {
	t.Parallel()
	disk := simfs.New(simfs.Options{})
	c := configOf(t, disk, "/")
	k := keepWith(t, disk, c)
	p, err := k.Begin(ctx, messageOf("user.u", "user.u", 100))
	require.NoError(t, err)
	note := slices.Clone(p.Journal())
	for _, root := range []string{"user.u", "user.v", "user.u"} {
		note := append([]byte{note[0]}, root...)
		require.NoError(t, k.Recover(ctx, note))
		disk.Mark("marked " + root)
	}
	require.Equal(t, []string{"user.u", "user.v"}, dirtyOf(t, k))
	n := 0
	for img := range disk.Trace().Images(simfs.Search{Limit: 400, Samples: 200}) {
		n++
		dirty := dirtyOf(t, keepWith(t, img.FS, c))
		for _, mark := range img.Marks {
			require.Contains(t, dirty, strings.TrimPrefix(mark, "marked "), img.Seed)
		}
	}
	t.Log(n, "images")
	for _, bad := range [][]byte{nil, {1}, {2, 'x'}, append([]byte{1}, "a/b"...)} {
		require.Error(t, k.Recover(ctx, bad))
	}

	// A count takes away the marks that it has seen, and none that was made since.
	seen, err := k.marks(ctx, "user.u")
	require.NoError(t, err)
	require.NoError(t, k.mark(ctx, "user.u"))
	require.NoError(t, k.unmark(ctx, "user.u", seen))
	require.Equal(t, []string{"user.u", "user.v"}, dirtyOf(t, k))
	seen, err = k.marks(ctx, "user.u")
	require.NoError(t, err)
	require.Len(t, seen, 1, "a newer mark stands for the older ones")
	require.NoError(t, k.unmark(ctx, "user.u", seen))
	require.Equal(t, []string{"user.v"}, dirtyOf(t, k))
	settled, err := k.SettleAll(ctx)
	require.NoError(t, err)
	require.Empty(t, settled, "without a mailbox list nobody can count")
	require.Equal(t, []string{"user.v"}, dirtyOf(t, k))
}

// TestMarksFullDisk: where a change was let in there is room for the mark that it may need; without any, the mark that is there
// stands for a new one.
func TestMarksFullDisk(t *testing.T) {
	t.Parallel()
	disk := simfs.New(simfs.Options{NoTrace: true, Blocks: 100})
	k := keepOn(t, disk)
	create(t, k.roots, "user.u", limited(NoLimits(), Amounts{}))
	p, err := k.Begin(ctx, messageOf("user.u", "user.u", 100))
	require.NoError(t, err)
	disk.FillUp(0, true)
	require.NoError(t, p.Apply(ctx))
	require.Equal(t, Amounts{100, 1, 0, 0}, usedBy(t, k, "user.u"), "a prepared file")
	require.Empty(t, dirtyOf(t, k))
	require.NoError(t, k.mark(ctx, "user.u"))
	before, err := k.marks(ctx, "user.u")
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, k.mark(ctx, "user.u"))
	}
	after, err := k.marks(ctx, "user.u")
	require.NoError(t, err)
	require.NotEqual(t, before, after, "a count that began before must not take it away")
	require.Len(t, after, 1)
	require.ErrorIs(t, k.mark(ctx, "user.other"), syscall.ENOSPC)
	require.Equal(t, []string{"user.u"}, dirtyOf(t, k))
	_, err = k.Begin(ctx, messageOf("user.u", "user.u", 100))
	require.ErrorIs(t, err, index.ErrNoSpace, "there is no room for another mark")
	require.NoError(t, change(k, messageOf("user.u", "user.u", -100)), "what frees room is never refused")
	require.Equal(t, Amounts{}, usedBy(t, k, "user.u"))
}

// TestKeeperErrno fails every call of a change in turn: either it is refused and nothing is added, or it is added exactly, or the
// root is marked, or an error tells that the journal has to remember it.
func TestKeeperErrno(t *testing.T) {
	t.Parallel()
	for _, lines := range [][]string{nil, {"quota_db: twoskip"}, {"quota_db: flat"}} {
		base := simfs.New(simfs.Options{NoTrace: false})
		c := configOf(t, base, "/", lines...)
		k := keepWith(t, base, c)
		create(t, k.roots, "user.u", limited(Limits{10, 10, 10, 10}, Amounts{1000, 1, 0, 0}))
		require.NoError(t, k.roots.Close())
		cells, marked, told := 0, 0, 0
		for _, like := range []*faultfs.Plan{{Err: syscall.ENOSPC, Kinds: faultfs.All}, {Err: syscall.EIO, Kinds: faultfs.All}, {Err: syscall.EIO, After: true, Kinds: faultfs.Modifying},
			{Err: syscall.ENOSPC, Mode: faultfs.Onwards, Kinds: faultfs.Modifying}, {Err: syscall.EIO, Mode: faultfs.Onwards, Kinds: faultfs.All}} {
			for _, u := range []index.Usage{messageOf("user.u", "user.u", 100), messageOf("user.u", "user.u", -100)} {
				for n := 0; ; n++ {
					plan := like.At(n)
					disk := base.Kill()
					k := keepWith(t, faultfs.Wrap(disk, plan), c)
					p, err := k.Begin(ctx, u)
					want := Amounts{1000, 1, 0, 0}
					var failed error
					if err == nil {
						want[Storage] += u.Bytes
						want[Messages] += u.Messages
						failed = p.Apply(ctx)
					} else {
						require.Positive(t, u.Bytes, "what frees room is not refused: %v: %v", plan, err)
					}
					_ = k.roots.Close()
					if !plan.Fired() {
						require.NoError(t, err)
						require.NoError(t, failed)
						break
					}
					cells++
					next := keepWith(t, disk.Kill(), c)
					dirty := slices.Contains(dirtyOf(t, next), "user.u")
					switch got := usedBy(t, next, "user.u"); {
					case got == want && failed == nil:
					case err == nil && dirty:
						marked++
					case err == nil && failed != nil:
						told++
					default:
						t.Fatalf("%v: begin %v, apply %v: %v, not %v", plan, err, failed, got, want)
					}
					pending, err := next.tokens.pending("user.u")
					require.NoError(t, err)
					require.Zero(t, pending)
					_ = next.roots.Close()
				}
			}
		}
		t.Log(lines, cells, "cells,", marked, "marked,", told, "told")
		require.Positive(t, marked)
		require.Positive(t, told)
	}
}

// FuzzToken gives the decoder any bytes.
func FuzzToken(f *testing.F) {
	f.Add(appendToken(nil, "user.u", Amounts{1, 2, 3, 4}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		root, delta, ok := decodeToken(b)
		if ok {
			again, same, ok := decodeToken(appendToken(nil, root, delta))
			require.True(t, ok)
			require.Equal(t, fmt.Sprint(root, delta), fmt.Sprint(again, same))
		}
	})
}
