package store

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/quota"
)

// undirtied fails if a root is marked to be counted.
func undirtied(t testing.TB, st *Store) {
	t.Helper()
	dirty, err := st.quota.Dirty(ctx)
	require.NoError(t, err)
	require.Empty(t, dirty)
}

// TestQuotaOfMessages: each change of messages leaves the roots with exactly what is used, and none to be counted.
func TestQuotaOfMessages(t *testing.T) {
	for layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			st := furnish(t, newDisk(t, layout, simfs.Options{NoTrace: true}))
			t.Cleanup(func() { require.NoError(t, st.Close()) })
			const size = int64(len(message)) - 1 // with the number for its verb
			messages := func(root string, n int64) {
				t.Helper()
				u := exact(t, st)[root]
				require.Equal(t, n, u[quota.Messages])
				require.Equal(t, n*size, u[quota.Storage])
				undirtied(t, st)
			}
			messages("user.alice", 3)
			messages("user.zoe", 1)
			must := func(err error) { t.Helper(); require.NoError(t, err) }
			in := func(do func(tx *index.Tx) error) func(mailbox string) {
				return func(mailbox string) { t.Helper(); must(inMailbox(st, mailbox, do)) }
			}
			in(func(tx *index.Tx) error { return expunge(tx, 1, index.ExpungeDelayed) })("user.alice.a")
			messages("user.alice", 2)
			in(func(tx *index.Tx) error { _, err := tx.Unexpunge(1, index.FlagDeleted); return err })("user.alice.a")
			messages("user.alice", 3)
			in(func(tx *index.Tx) error { return expunge(tx, 2, index.ExpungeImmediate) })("user.alice.a")
			messages("user.alice", 2)
			in(func(tx *index.Tx) error { _, err := tx.Cleanup(0); return err })("user.alice.a")
			messages("user.alice", 2)
			in(func(tx *index.Tx) error {
				_, err := tx.SetFlags(3, index.FlagChange{Flags: index.FlagDeleted})
				return err
			})("user.alice.a")
			messages("user.alice", 2)
			in(func(tx *index.Tx) error { return errors.Join(appendTo(tx, 1, 3), expunge(tx, 3, index.ExpungeDelayed)) })("user.alice.a")
			messages("user.alice", 4)
			must(transfer(st, "user.alice.a", "user.alice.a", 4, index.CopyOptions{}))
			messages("user.alice", 5)
			must(transfer(st, "user.alice.a", "user.alice.a", 4, index.CopyOptions{Move: true}))
			messages("user.alice", 5)
			must(transfer(st, "user.alice.a", "user.alice.a.sub", 5, index.CopyOptions{Move: true}))
			messages("user.alice", 5)
			must(transfer(st, "user.alice.a", "user.zoe", 6, index.CopyOptions{Move: true}))
			messages("user.alice", 4)
			messages("user.zoe", 2)
			must(transfer(st, "user.zoe", "user.alice.a", 1, index.CopyOptions{}))
			messages("user.alice", 5)

			// At the limit what adds is refused, and nothing else.
			setLimits(t, st, "user.alice", quota.Limits{quota.Unlimited, 5, 0, 0})
			before, err := see(st)
			must(err)
			for _, add := range []func() error{
				func() error {
					return inMailbox(st, "user.alice.a", func(tx *index.Tx) error { return appendTo(tx, 1, 1) })
				},
				func() error { return transfer(st, "user.zoe", "user.alice.a", 1, index.CopyOptions{}) },
				func() error { return transfer(st, "user.zoe", "user.alice.a", 1, index.CopyOptions{Move: true}) },
				func() error { return transfer(st, "user.alice.a", "user.alice.a", 7, index.CopyOptions{}) },
				func() error { return transfer(st, "user.alice.a", "user.alice.a.sub", 7, index.CopyOptions{}) },
			} {
				require.ErrorIs(t, add(), index.ErrOverQuota)
				messages("user.alice", 5)
				now, err := see(st)
				must(err)
				require.Equal(t, before, now)
			}
			must(transfer(st, "user.alice.a", "user.alice.a.sub", 7, index.CopyOptions{Move: true}))
			must(transfer(st, "user.alice.a.sub", "user.zoe", 1, index.CopyOptions{Move: true}))
			messages("user.alice", 4)
			in(func(tx *index.Tx) error { return appendTo(tx, 1, 1) })("user.alice")
			messages("user.alice", 5)
			in(func(tx *index.Tx) error { return errors.Join(expunge(tx, 1, index.ExpungeDelayed), appendTo(tx, 2, 1)) })("user.alice")
			messages("user.alice", 5)
			setLimits(t, st, "user.alice", quota.Limits{0, 0, 0, 0})
			require.ErrorIs(t, inMailbox(st, "user.alice", func(tx *index.Tx) error { return appendTo(tx, 1, 1) }), index.ErrOverQuota)
			in(func(tx *index.Tx) error { return expunge(tx, 2, index.ExpungeDelayed) })("user.alice")
			messages("user.alice", 4)
		})
	}
}

// TestQuotaCounted: what a change leaves in doubt is counted by that change, once its locks are given back; what cannot be counted
// stays marked, a dry recovery names it, and a recovery counts it.
func TestQuotaCounted(t *testing.T) {
	t.Parallel()
	disk := newDisk(t, "uuid", simfs.Options{NoTrace: true})
	st := furnish(t, disk)
	spoil := func() {
		_, err := st.roots.Update(ctx, "user.zoe", func(r *quota.Record) error { r.Used = quota.Amounts{}; return nil })
		require.NoError(t, err)
	}
	// More is freed than is used: nobody knows what was wrong, so all is counted.
	spoil()
	deliver(t, st, "user.zoe", 2)
	spoil()
	require.NoError(t, inMailbox(st, "user.zoe", func(tx *index.Tx) error { return expunge(tx, 1, index.ExpungeDelayed) }))
	require.EqualValues(t, 2, exact(t, st)["user.zoe"][quota.Messages])
	undirtied(t, st)
	spoil()
	_, err := st.Create(ctx, NewMailbox{Name: name("user.zoe.x")})
	require.NoError(t, err)
	spoil()
	_, err = st.Delete(ctx, Deletion{Name: name("user.zoe.x"), Immediate: true})
	require.NoError(t, err)
	exact(t, st)
	undirtied(t, st)

	// A mailbox that nobody can read keeps its root from being counted, until it is mended.
	rec, err := st.list.Lookup(ctx, name("user.zoe"))
	require.NoError(t, err)
	p, err := st.place(rec)
	require.NoError(t, err)
	_, err = st.Create(ctx, NewMailbox{Name: name("user.zoe.y")})
	require.NoError(t, err)
	deliver(t, st, "user.zoe.y", 1)
	whole, err := vfs.ReadFile(disk, p.at.Paths.Index)
	require.NoError(t, err)
	put := func(b []byte) {
		f, err := disk.Open(p.at.Paths.Index, vfs.ReadWrite, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(b, 0)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	put(make([]byte, 100))
	spoil()
	require.NoError(t, inMailbox(st, "user.zoe.y", func(tx *index.Tx) error { return expunge(tx, 1, index.ExpungeDelayed) }))
	dirty, err := st.quota.Dirty(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"user.zoe"}, dirty)
	require.NoError(t, st.Close())
	c := config(t, disk)
	done, err := Recover(ctx, c, Options{FS: disk}, true)
	require.NoError(t, err)
	require.Equal(t, []string{"user.zoe"}, done.QuotaRoots)
	done, err = Recover(ctx, c, Options{FS: disk}, false)
	require.ErrorContains(t, err, `count quota root "user.zoe"`)
	require.Empty(t, done.QuotaRoots)
	put(whole)
	done, err = Recover(ctx, c, Options{FS: disk}, false)
	require.NoError(t, err)
	require.Equal(t, []string{"user.zoe"}, done.QuotaRoots)
	done, err = Recover(ctx, c, Options{FS: disk}, true)
	require.NoError(t, err)
	require.Empty(t, done.QuotaRoots)
	st, err = openOn(t, disk)
	require.NoError(t, err)
	exact(t, st)
	require.NoError(t, st.Close())
	require.Zero(t, disk.OpenFiles())
}

// TestQuotaKilled: a process that dies between a change and its account leaves a journal entry; the next change of the mailbox, in
// whatever process, finds it and has the root counted.
func TestQuotaKilled(t *testing.T) {
	t.Parallel()
	disk := newDisk(t, "uuid", simfs.Options{})
	require.NoError(t, furnish(t, disk).Close())
	counted := 0
	for n := 0; ; n++ {
		after := disk.Kill()
		plan := (&faultfs.Plan{Err: syscall.EIO, Mode: faultfs.Onwards, Kinds: faultfs.Modifying}).At(n) // from here on the process does not reach the disk
		st, err := openWith(config(t, after), faultfs.Wrap(after, plan))
		require.NoError(t, err)
		err = inMailbox(st, "user.zoe", func(tx *index.Tx) error { return appendTo(tx, 5, 1) })
		_ = st.Close()
		if !plan.Fired() {
			require.NoError(t, err)
			break
		}
		next, err := openOn(t, after.Kill())
		require.NoError(t, err)
		entries := len(pendingIn(t, next))
		require.NoError(t, inMailbox(next, "user.zoe", func(tx *index.Tx) error { return expunge(tx, 1, index.ExpungeDelayed) }))
		exact(t, next)
		if entries > 0 {
			counted++
			undirtied(t, next)
		}
		require.NoError(t, next.Close())
	}
	require.Positive(t, counted)
	t.Log(counted, "counted")
}

// TestQuotaFullDisk: with nothing free on the disk a delivery is refused and the record stays; to expunge works, and lowers it, again
// and again.
func TestQuotaFullDisk(t *testing.T) {
	for layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			disk := newDisk(t, layout, simfs.Options{NoTrace: true})
			st := furnish(t, disk)
			t.Cleanup(func() { require.NoError(t, st.Close()) })
			deliver(t, st, "user.zoe", 6)
			disk.SetCapacity(1<<20, 1<<20)
			disk.FillUp(0, true)
			for uid := index.UID(1); uid < 6; uid++ {
				before := exact(t, st)
				err := inMailbox(st, "user.zoe", func(tx *index.Tx) error { return appendTo(tx, 1, 1) })
				require.ErrorIs(t, err, index.ErrNoSpace)
				require.Equal(t, before, exact(t, st))
				require.NoError(t, inMailbox(st, "user.zoe", func(tx *index.Tx) error { return expunge(tx, uid, index.ExpungeMode(uid%2)) }))
				require.Equal(t, before["user.zoe"][quota.Messages]-1, exact(t, st)["user.zoe"][quota.Messages])
				undirtied(t, st)
			}
			_, err := st.Delete(ctx, Deletion{Name: name("user.zoe"), Immediate: true})
			require.NoError(t, err)
			require.Zero(t, exact(t, st)["user.zoe"])
			undirtied(t, st)
		})
	}
}

// syncing counts syncs.
type syncing struct {
	vfs.FS
	n *int
}

func (s syncing) Open(name string, flag vfs.Flag, perm fs.FileMode) (vfs.File, error) {
	f, err := s.FS.Open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return syncedFile{f, s.n}, nil
}

func (s syncing) SyncDir(name string) error { *s.n++; return s.FS.SyncDir(name) }

type syncedFile struct {
	vfs.File
	n *int
}

func (f syncedFile) Datasync() error { *f.n++; return f.File.Datasync() }
func (f syncedFile) CopyMetadata(from vfs.File) error {
	return f.File.CopyMetadata(from.(syncedFile).File)
}

func (f syncedFile) Sync() error { *f.n++; return f.File.Sync() }

// TestQuotaSyncs: a quota root costs a delivery three syncs, whether it has limits or not: the journal entry, the new record and its
// directory.
func TestQuotaSyncs(t *testing.T) {
	t.Parallel()
	disk := newDisk(t, "uuid", simfs.Options{NoTrace: true})
	st := furnish(t, disk)
	_, err := st.Create(ctx, NewMailbox{Name: name("news")})
	require.NoError(t, err)
	require.NoError(t, st.Close())
	n := 0
	st, err = openWith(config(t, disk), syncing{disk, &n})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	costs := func(mailbox string, do func(tx *index.Tx) error) int {
		m, err := st.OpenMailbox(ctx, name(mailbox))
		require.NoError(t, err)
		n = 0
		require.NoError(t, m.Update(ctx, do))
		cost := n
		require.NoError(t, m.Close())
		return cost
	}
	add := func(tx *index.Tx) error { return appendTo(tx, 1, 1) }
	costs("news", add)
	costs("user.zoe", add)
	base := costs("news", add)
	require.Equal(t, base+3, costs("user.zoe", add))
	setLimits(t, st, "user.zoe", quota.NoLimits())
	require.Equal(t, base+3, costs("user.zoe", add))
	remove := func(uid index.UID) func(tx *index.Tx) error {
		return func(tx *index.Tx) error { return expunge(tx, uid, index.ExpungeDelayed) }
	}
	require.Equal(t, costs("news", remove(1))+2, costs("user.zoe", remove(1)), "an expunge has its journal entry anyway")
	seen := func(tx *index.Tx) error {
		_, err := tx.SetFlags(2, index.FlagChange{Flags: index.FlagSeen})
		return err
	}
	require.Equal(t, costs("news", seen), costs("user.zoe", seen))
	t.Log("a delivery:", base, "syncs, with a quota root", base+3)
}

// TestQuotaProcesses has processes deliver, expunge, rename and recover at once, one of them killed: no limit is passed, and once what
// was left behind is recovered each root records what is used.
func TestQuotaProcesses(t *testing.T) {
	t.Parallel()
	delivered, refused, kills := 0, 0, 0
	for seed := range uint64(images(10)) {
		disk := newDisk(t, "uuid", simfs.Options{NoTrace: true})
		st := furnish(t, disk)
		setLimits(t, st, "user.zoe", quota.Limits{quota.Unlimited, 4, quota.Unlimited, quota.Unlimited})
		require.NoError(t, st.Close())
		c := config(t, disk)
		var tasks []simfs.Task
		for i := range 3 {
			tasks = append(tasks, func(ctx context.Context, view *simfs.FS) {
				id := uint64(i) << 40
				st, err := Open(ctx, c, Options{FS: view, Random: func() uint64 { id++; return id }})
				if err != nil {
					return
				}
				defer st.Close()
				for n := range 3 {
					m, err := st.OpenMailbox(ctx, name("user.zoe"))
					if err != nil {
						return
					}
					err = m.Update(ctx, func(tx *index.Tx) error {
						if i == 1 && n == 1 {
							return expunge(tx, 1, index.ExpungeDelayed)
						}
						return appendTo(tx, 10*i+n, 1)
					})
					switch {
					case errors.Is(err, index.ErrOverQuota):
						refused++
					case err == nil:
						delivered++
					}
					_ = m.Close()
					if i == 2 && n == 1 {
						_, _ = st.Rename(ctx, Renaming{From: name("user.alice.a.sub"), To: name("user.alice.b")})
					}
				}
			})
		}
		limit := int64(4)
		if simfs.Run(t, disk, simfs.Schedule{Seed: seed, Kill: int(seed % 3), KillAt: int(30 + seed*37%500)}, tasks...).Killed {
			kills++
			limit++ // a message whose process died before it was added is not known to who asks before it is found
		}
		after, err := openOn(t, disk)
		require.NoError(t, err)
		_, err = after.Recover(ctx)
		require.NoError(t, err, "seed %d", seed)
		require.LessOrEqual(t, exact(t, after)["user.zoe"][quota.Messages], limit, "seed %d", seed)
		undirtied(t, after)
		require.NoError(t, settled(after), "seed %d", seed)
		require.NoError(t, after.Close())
	}
	t.Log(delivered, "delivered,", refused, "refused,", kills, "killed")
	require.Positive(t, delivered)
	require.Positive(t, refused)
	if !racing {
		require.Positive(t, kills)
	}
}
