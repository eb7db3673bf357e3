package mboxdb

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// TestApply: a change that was decided beforehand is made while the caller holds the locks, and refused if the list is not
// any more what it was decided by.
func TestApply(t *testing.T) {
	disk := simfs.New(simfs.Options{})
	layout := Layout{LockDir: "/lock"}
	l, err := Open(t.Context(), "/mailboxes.db", Options{DB: skiplist.Options{FS: disk, Create: true, Format: skiplist.Twoskip}, Layout: layout})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })

	held, err := locks.InOrder(t.Context(), disk, vfs.Exclusively, layout.UserLocks("alice")...)
	require.NoError(t, err)
	defer held.Release()
	inbox := Record{Name: InternalName("user.alice"), Type: Mail, UniqueID: "a1", Partition: "default", UIDValidity: 7, CreatedModSeq: 1, FolderModSeq: 1, ACL: ACL{{"alice", "lrs"}}}
	require.NoError(t, l.Apply(t.Context(), []Put{{Record: inbox}}, false))
	got, err := l.Lookup(t.Context(), inbox.Name)
	require.NoError(t, err)
	require.True(t, got.same(inbox))

	work := inbox
	work.Name, work.UniqueID = InternalName("user.alice.Work"), "a2"
	for what, was := range map[string]Record{"nothing was there": {}, "another ACL was there": {Name: inbox.Name, ACL: ACL{}}} {
		require.ErrorIs(t, l.Apply(t.Context(), []Put{{Record: work}, {Was: was, Record: inbox}}, false), ErrChanged, what)
	}
	_, err = l.Lookup(t.Context(), work.Name)
	require.ErrorIs(t, err, ErrNotFound)

	dead := inbox
	dead.Type, dead.Partition, dead.ACL = dead.Type.With('d'), "", nil
	require.NoError(t, l.Apply(t.Context(), []Put{{Was: inbox, Record: dead}}, true))
	require.NoError(t, l.View(t.Context(), func(v *View) error {
		require.NoError(t, v.UnusedID("a1"))
		rec, err := v.Entry(inbox.Name)
		require.True(t, rec.same(dead))
		return err
	}))
	require.NoError(t, l.Apply(t.Context(), []Put{{Was: dead, Record: dead, Forget: true}}, true))
	require.NoError(t, l.DB().View(t.Context(), func(s *skiplist.Snapshot) error {
		for r, err := range s.All() {
			require.NoError(t, err)
			require.Fail(t, "left over", "%q", r.Key)
		}
		return nil
	}))
}

// TestUserLocks: every name that a release gives to the lock of a user, in the order in which Cyrus takes those of two.
func TestUserLocks(t *testing.T) {
	l := Layout{ConfigDir: "/conf", HashSpool: true, FullHash: true, Namespace: Namespace{VirtDomains: true, DefaultDomain: "def.example"}}
	require.Equal(t, []string{l.LockPath("*U*"),
		l.LockPath("*U*bob"), l.LockPath("*U*user.bob"),
		l.LockPath("*U*d^ot"), l.LockPath("*U*user.d^ot"),
		l.LockPath("*U*dan@other^example"), l.LockPath("*U*other.example!user.dan"),
	}, l.UserLocks("dan@other.example", "d.ot", "", "bob", "bob"))
	require.Equal(t, "/conf/lock/I/*U*bob.lock", l.UserLocks("bob")[0])
	require.Equal(t, "/lock/*U*user/bob.lock", Layout{LockDir: "/lock"}.UserLocks("bob")[1])
}
