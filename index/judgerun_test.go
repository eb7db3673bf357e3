package index

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
)

// TestJudge does the same things to two mailboxes, to one with this package and to the other over IMAP, at random, and then
// the other way round, again and again: all that a client can ask is answered alike, and the files hold the same bytes, but for
// times and ids. Neither our check nor a reconstruct finds anything.
func TestJudge(t *testing.T) {
	realcyrus.NeedServer(t)
	texts, rounds, steps := 40, 3, 6
	switch os.Getenv("MAILSPINE_CAMPAIGN") {
	case "":
	case "ci":
		texts, rounds, steps = 400, 8, 12
	default:
		texts, rounds, steps = 4000, 40, 25
	}
	for name, o := range judgeStores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newJudge(t, o, 11)
			j.texts = judgedTexts(t, texts)
			for len(j.live) < len(j.texts) && j.sent < len(j.texts) {
				j.append(j.boxes[j.sent%2], j.boxes[1-j.sent%2], 5, j.sent%3 == 0)
			}
			require.Greater(t, len(j.live), len(j.texts)*9/10, "imapd refuses too many")
			j.compare("appended")
			for round := range rounds {
				ours, theirs := j.boxes[round%2], j.boxes[1-round%2]
				for range steps {
					did := j.step(ours, theirs)
					t.Logf("round %d: %.100s", round, did)
				}
				j.compare("after round")
			}
		})
	}
}

// TestJudgeArchived changes messages that imapd has archived as they arrived: their files and cache records are on another
// partition. Copies are not archived.
func TestJudgeArchived(t *testing.T) {
	realcyrus.NeedServer(t)
	t.Parallel()
	o := realcyrus.LegacyLayout()
	o.Extra["conversations"] = "no"
	j := newJudge(t, o, 3)
	j.texts = judgedTexts(t, 12)
	box := j.boxes[0]
	for range 8 {
		m := j.mail()
		require.NoError(t, j.c.Append(box.seen, "", m.date, m.text))
	}
	m := j.open(box)
	for e, err := range m.Records(t.Context()) {
		require.NoError(t, err)
		require.NotZero(t, e.Flags&FlagArchived)
	}
	j.update(m, func(tx *Tx) error {
		for _, uid := range []UID{1, 3, 4} {
			_, err := tx.SetFlags(uid, FlagChange{Flags: FlagFlagged, User: []string{"x"}})
			require.NoError(t, err)
		}
		for _, uid := range []UID{2, 3} {
			_, err := tx.Expunge(uid, ExpungeDelayed)
			require.NoError(t, err)
		}
		_, err := tx.Expunge(8, ExpungeImmediate)
		require.NoError(t, err)
		return nil
	})
	j.update(m, func(tx *Tx) error {
		rec, err := tx.Unexpunge(3, FlagDeleted)
		require.NoError(t, err)
		require.Equal(t, FlagFlagged, rec.Flags)
		return nil
	})
	for _, move := range []bool{false, true} {
		_, err := Copy(t.Context(), m, j.open(box.to), []UID{4, 5}, CopyOptions{Move: move})
		require.NoError(t, err)
	}
	j.give()
	for _, b := range []*judged{box, box.to} {
		sameAnswers(t, j.c, j.open(b), b.seen, false)
		j.cmd("UNSELECT")
		j.sound(b, "archived")
	}
}
