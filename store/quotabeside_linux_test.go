package store

import (
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/quota"
)

// TestQuotaBesideLiveCyrus: sessions of a real server and processes of ours deliver into mailboxes of one quota root, and create,
// rename and delete them, with limits that all of them meet. At rest the root records what is used; what is used passes a limit by no
// more than the server's sessions can, which ask first and add later.
func TestQuotaBesideLiveCyrus(t *testing.T) {
	const top, sessions, most, folders = "user.zoe", 2, 12, 8
	eachKind(t, func(t *testing.T, _ string, srv *realcyrus.Server, s session) {
		s.cmd("CREATE %s", top)
		s.cmd("SETACL %s cyrus lrswipkxtecda", top)
		s.append(top, 0) // makes stage.
		s.cmd("SETQUOTA %s (STORAGE 1000 MESSAGE %d X-NUM-FOLDERS %d)", top, most, folders)
		var ours []*process
		for i := range 2 {
			ours = append(ours, startBeside(t, srv.Store, i, top))
		}
		var wait sync.WaitGroup
		var failed atomic.Int64
		for i := range sessions {
			wait.Go(func() {
				imapBeside(t, srv, top, uint64(i), time.Now().Add(time.Duration(images(2))*time.Second), &failed)
			})
		}
		wait.Wait()
		for _, p := range ours {
			require.NoError(t, p.in.Close())
			out, err := io.ReadAll(p.out)
			require.NoError(t, err)
			require.NoError(t, p.cmd.Wait(), "%s", out)
			t.Logf("ours: %s", out)
		}
		st := openReal(t, srv.Store)
		u := exact(t, st)[top]
		undirtied(t, st)
		require.LessOrEqual(t, u[quota.Messages], int64(most+sessions))
		require.LessOrEqual(t, u[quota.Folders], int64(folders+sessions))
		t.Logf("%d messages in %d mailboxes", u[quota.Messages], u[quota.Folders])
	})
}

// TestQuotaAsCyrus: at a limit the server and we refuse the same, and let the same in, but for a mailbox that gets another name within
// its root.
func TestQuotaAsCyrus(t *testing.T) {
	eachKind(t, func(t *testing.T, _ string, srv *realcyrus.Server, s session) {
		for _, m := range []string{"user.zoe", "user.zoe.a", "user.amy"} {
			s.cmd("CREATE %s", m)
			s.cmd("SETACL %s cyrus lrswipkxtecda", m)
		}
		for n := range 4 {
			s.append("user.zoe", n)
			s.append("user.amy", n)
		}
		s.cmd("SETQUOTA user.zoe (MESSAGE 4 X-NUM-FOLDERS 2)")
		st := openReal(t, srv.Store)
		own := func() { realcyrus.Give(t, srv.Dir) }
		own()

		s.cmd("SELECT user.zoe")
		s.refused("COPY 1 user.zoe.a")
		require.ErrorIs(t, transfer(st, "user.zoe", "user.zoe.a", 2, index.CopyOptions{}), index.ErrOverQuota)
		s.refused("COPY 1 user.zoe")
		require.ErrorIs(t, transfer(st, "user.zoe", "user.zoe", 2, index.CopyOptions{}), index.ErrOverQuota)
		s.cmd("UID MOVE 1 user.zoe.a")
		require.NoError(t, transfer(st, "user.zoe", "user.zoe.a", 2, index.CopyOptions{Move: true}))
		own()
		exact(t, st)
		s.cmd("SELECT user.amy")
		s.refused("UID MOVE 1 user.zoe")
		require.ErrorIs(t, transfer(st, "user.amy", "user.zoe", 2, index.CopyOptions{Move: true}), index.ErrOverQuota)
		s.refused("CREATE user.zoe.b")
		_, err := st.Create(ctx, NewMailbox{Name: name("user.zoe.b")})
		require.ErrorIs(t, err, index.ErrOverQuota)
		s.refused("RENAME user.zoe.a user.zoe.b") // it wants room for one more, which the mailbox does not need
		for _, r := range []Renaming{{From: name("user.zoe.a"), To: name("user.zoe.b")}, {From: name("user.zoe.b"), To: name("user.zoe.a")}} {
			_, err = st.Rename(ctx, r)
			require.NoError(t, err)
		}
		own()
		s.cmd("CREATE user.amy.x")
		s.refused("RENAME user.amy.x user.zoe.x")
		_, err = st.Rename(ctx, Renaming{From: name("user.amy.x"), To: name("user.zoe.x")})
		require.ErrorIs(t, err, index.ErrOverQuota)

		// Over the limit, what frees goes on, and what is free is used by either.
		s.cmd("SETQUOTA user.zoe (MESSAGE 1)")
		require.NoError(t, inMailbox(st, "user.zoe", func(tx *index.Tx) error { return expunge(tx, 3, index.ExpungeDelayed) }))
		own()
		_, err = st.Delete(ctx, Deletion{Name: name("user.zoe.a")})
		require.NoError(t, err)
		own()
		require.EqualValues(t, 1, exact(t, st)["user.zoe"][quota.Messages])
		s.cmd("SETQUOTA user.zoe (MESSAGE 2)")
		s.append("user.zoe", 7)
		require.ErrorIs(t, inMailbox(st, "user.zoe", func(tx *index.Tx) error { return appendTo(tx, 1, 1) }), index.ErrOverQuota)
		require.NoError(t, inMailbox(st, "user.zoe", func(tx *index.Tx) error { return expunge(tx, 4, index.ExpungeDelayed) }))
		require.NoError(t, inMailbox(st, "user.zoe", func(tx *index.Tx) error { return appendTo(tx, 1, 1) }))
		own()
		require.Error(t, s.c.Append("user.zoe", "", time.Time{}, []byte("Subject: one too many\r\n\r\n")))
		require.Equal(t, quota.Amounts{quota.Messages: 2, quota.Folders: 1, quota.Storage: exact(t, st)["user.zoe"][quota.Storage]}, exact(t, st)["user.zoe"])
		undirtied(t, st)
	})
}
