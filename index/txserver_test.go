package index

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
)

// TestServerServesChanges: mailboxes of every version that a transaction has changed are served by a live Cyrus with the
// answers that our own reading gives, reconstruct has nothing to say of them, and Cyrus's changes and ours go on in turn.
func TestServerServesChanges(t *testing.T) {
	realcyrus.NeedServer(t)
	legacy := realcyrus.LegacyLayout()
	legacy.Extra["conversations"] = "no"
	for name, o := range map[string]realcyrus.Options{"uuid": {}, "legacy": legacy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := realcyrus.StartServer(t, o)
			filled := s.Fill(t, 1, 1, 6, 8)
			boxes := makeVersions(t, s, filled.Mailboxes[0])
			l, layout := openStore(t, s.Store)
			owner := s.Dial(t, filled.Users[0])
			for _, v := range cyrusVersions {
				box := boxes[v]
				m := openMailbox(t, l, layout, box)
				changeByUs(t, m)
				realcyrus.Give(t, s.Dir)
				external := "INBOX" + strings.TrimPrefix(box, filled.Mailboxes[0])
				repackedByCyrus(t, owner, m, external)
				require.GreaterOrEqual(t, sameAnswers(t, owner, m, external, false), 6)
				checkChanged(t, m)
				changeByCyrus(t, owner, external)
				changeByUs(t, m)
				realcyrus.Give(t, s.Dir)
				repackedByCyrus(t, owner, m, external)
				require.GreaterOrEqual(t, sameAnswers(t, owner, m, external, false), 7)
				checkChanged(t, m)
				if v < versionCID {
					continue // reconstruct updates numbers that such a version has no place for, of its own mailboxes too
				}
				out := s.Try(t, "reconstruct", nil, "-n", box)
				require.Equal(t, strings.TrimSpace(box), strings.TrimSpace(string(out.Stdout)), "version %d: %s", v, out.Stderr)
			}
		})
	}
}

// changeByUs appends, flags, expunges and restores.
func changeByUs(t *testing.T, m *Mailbox) {
	require.NoError(t, m.Update(t.Context(), func(tx *Tx) error {
		var last Record
		for i := range 3 {
			var err error
			last, err = tx.Append(NewMessage{Body: bytes.NewReader(realcyrus.Message(77, i)), InternalDate: time.Unix(1_600_000_000+int64(i), 0),
				Flags: FlagFlagged, User: []string{"$Ours", "Also"}})
			require.NoError(t, err)
		}
		_, err := tx.SetFlags(last.UID-1, FlagChange{Op: ReplaceFlags, Flags: FlagSeen | FlagDraft, User: []string{"$Another"}})
		require.NoError(t, err)
		_, err = tx.Expunge(last.UID-2, ExpungeDelayed)
		require.NoError(t, err)
		_, err = tx.Unexpunge(last.UID-2, 0)
		require.NoError(t, err)
		return nil
	}))
	s, err := m.Snapshot(t.Context())
	require.NoError(t, err)
	require.NoError(t, m.Update(t.Context(), func(tx *Tx) error {
		_, err := tx.SetFlags(s.Messages[0].UID, FlagChange{Op: AddFlags, Flags: FlagAnswered})
		require.NoError(t, err)
		_, err = tx.Expunge(s.Messages[1].UID, ExpungeDelayed)
		return err
	}))
	checkChanged(t, m)
}

// repackedByCyrus has the server do what it does with a mailbox of which a message was restored: it drops the old record.
func repackedByCyrus(t *testing.T, c *realcyrus.Client, m *Mailbox, box string) {
	for _, command := range []string{"SELECT " + realcyrus.Quote(box), "UNSELECT"} {
		_, err := c.Cmd("%s", command)
		require.NoError(t, err)
	}
	require.NoError(t, m.Refresh(t.Context()))
}

func checkChanged(t *testing.T, m *Mailbox) {
	checkReal(t, func(o CheckOptions) ([]finding.Finding, error) { return Check(t.Context(), vfs.OS(), m.Place(), o) })
}

func changeByCyrus(t *testing.T, c *realcyrus.Client, box string) {
	cmd := func(format string, args ...any) {
		_, err := c.Cmd(format, args...)
		require.NoError(t, err)
	}
	require.NoError(t, c.Append(box, `\Flagged $Ours`, time.Time{}, realcyrus.Message(78, 1)))
	cmd("SELECT %s", realcyrus.Quote(box))
	cmd(`STORE 1:* +FLAGS (\Answered $Theirs)`)
	cmd(`STORE 2 +FLAGS (\Deleted)`)
	cmd("EXPUNGE")
	cmd("UNSELECT")
}
