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
					t.Logf("round %d: %s", round, did)
				}
				j.compare("after round")
			}
		})
	}
}
