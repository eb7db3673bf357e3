package quota_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/skiplist"
	"github.com/mailspine/mailspine/store"
)

// listTwice puts a second name into the list for the files of a mailbox.
func listTwice(g *ground, name, as string) {
	rec := g.record(name)
	db, err := skiplist.Open(background, g.path("conf/mailboxes.db"), skiplist.Options{FS: g.fs})
	require.NoError(g.t, err)
	require.NoError(g.t, db.Update(background, func(tx *skiplist.Tx) error {
		value, err := tx.Get([]byte("N" + rec.Name.DB()))
		if err != nil {
			return err
		}
		return tx.Put([]byte("N"+mboxdb.InternalName(as).DB()), value)
	}))
	require.NoError(g.t, db.Close())
}

// TestTwoRootsOneMailbox has the files of one mailbox under two names, below two roots: the header can name one of them only.
func TestTwoRootsOneMailbox(t *testing.T) {
	g, _ := simGround(t, simfs.Options{NoTrace: true})
	(&scenario{}).build(g)
	listTwice(g, "user.foo.sub", "user.bob.sub")
	ctx, cancel := context.WithTimeout(background, 20*time.Second)
	defer cancel()
	g.keeping(func(k *quota.Keeper, _ *store.Store) {
		report, err := k.Recalculate(ctx, quota.Recalculation{})
		require.NoError(t, err)
		var problems []finding.Finding
		for _, o := range report.Outcomes {
			require.NoError(t, o.Err)
			problems = append(problems, o.Problems...)
		}
		require.Len(t, problems, 1)
		require.Equal(t, "header-not-mended", problems[0].Code)
	})
	require.Equal(t, wants(map[string]string{"user.bob": "5500/3/2"}), g.roots(), "each name counts")
}

// TestRootRemovedUnderway removes the root of a user while the one above all users is counted, whose number is already what it has
// to be afterwards: before each Open of the count.
func TestRootRemovedUnderway(t *testing.T) {
	for at := 1; ; at++ {
		g, disk := simGround(t, simfs.Options{NoTrace: true})
		g.putRoot("user", rootText("0/0/0"))
		g.putRoot("user.bob", rootText("0/0/0"))
		g.create(box{"user.ann", 3, 1000}, box{"user.bob", 2, 2000})
		g.putRoot("user", rootText("7000/5/2"))
		other := g.on(disk.Process("other"))
		n := 0
		done := make(chan error, 1)
		h := g.on(hooked{g.fs, func(string) {
			if n++; n != at {
				return
			}
			ended := make(chan struct{})
			go func() {
				st := other.open()
				_, err := keeperOf(other, st).Delete(background, "user.bob")
				done <- errors.Join(err, st.Close())
				close(ended)
			}()
			select {
			case <-ended:
			case <-time.After(50 * time.Millisecond): // it waits for the count
			}
		}})
		st := g.open()
		_, err := keeperOf(h, st).Recalculate(background, quota.Recalculation{Roots: []string{"user"}})
		require.NoError(t, err)
		require.NoError(t, st.Close())
		if n < at {
			require.Greater(t, at, 10)
			break
		}
		require.NoError(t, <-done)
		require.Equal(t, g.counted(), g.roots(), "before Open %d", at)
	}
}

// TestMailboxGoneUnderway counts the root above all users when a mailbox is gone from the list and not yet taken off the root, whose number
// happens to be what is right afterwards.
func TestMailboxGoneUnderway(t *testing.T) {
	g, disk := simGround(t, simfs.Options{NoTrace: true})
	g.putRoot("user", rootText("0/0/0"))
	g.create(box{"user.ann", 3, 5000}, box{"user.bob", 2, 2000})
	g.putRoot("user", rootText("15000/3/1"))
	other := g.on(disk.Process("other"))
	counted := make(chan error, 1)
	began := false
	h := g.on(hooked{g.fs, func(path string) {
		if began || !strings.HasSuffix(path, "/quota/u/user") {
			return
		}
		began = true
		go func() {
			st := other.open()
			_, err := keeperOf(other, st).Recalculate(background, quota.Recalculation{Roots: []string{"user"}})
			counted <- errors.Join(err, st.Close())
		}()
		time.Sleep(50 * time.Millisecond) // it waits for the lock of the user
	}})
	h.opened(func(st *store.Store) {
		_, err := st.Delete(background, store.Deletion{Name: mboxdb.InternalName("user.bob"), Immediate: true})
		require.NoError(t, err)
	})
	require.True(t, began)
	require.NoError(t, <-counted)
	require.Equal(t, g.counted(), g.roots())
}

// TestDeletedUnderway counts a root above what users have deleted while Cyrus deletes a mailbox of a user who has none there: it is
// added to the root, and not yet in the list under its new name.
func TestDeletedUnderway(t *testing.T) {
	for _, root := range []string{"DELETED", "DELETED.user", "DELETED.user.eve", "DELETED.user.eve.sub"} {
		t.Run(root, func(t *testing.T) {
			g, disk := simGround(t, simfs.Options{NoTrace: true})
			g.putRoot(root, rootText("0/0/0"))
			g.create(box{"user.eve", 1, 700}, box{"user.eve.sub", 1, 1000})
			var path string
			g.opened(func(st *store.Store) { path = st.Layout().UserLocks("eve")[0] })
			for seed := range uint64(10) {
				g.putRoot(root, rootText("1000/1/1"))
				held, err := locks.Acquire(background, disk.Process("cyrus"), vfs.Exclusively, path)
				require.NoError(t, err)
				meanwhile := ""
				simfs.Run(t, disk, simfs.Schedule{Seed: seed}, func(_ context.Context, view *simfs.FS) {
					for range 1000 {
						_, err := view.Stat("/conf")
						require.NoError(t, err)
					}
					meanwhile = g.on(view).roots()[root]
					held.Release()
				}, func(ctx context.Context, view *simfs.FS) {
					v := g.on(view)
					st := v.open()
					_, err := keeperOf(v, st).Recalculate(ctx, quota.Recalculation{Roots: []string{root}, ZeroOrphans: true})
					require.NoError(t, err)
					require.NoError(t, st.Close())
				})
				require.Equal(t, "1000/1/1", meanwhile, "it waits")
				require.Equal(t, "0/0/0", g.roots()[root])
			}
		})
	}
}
