package index

import (
	"crypto/sha1"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/mailspine/mailspine/internal/realcyrus"
)

// session is a session of Cyrus.
func (b *beside) session(name string, seed uint64, end time.Time) error {
	c, err := b.s.Login("u000")
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(seed, 9))
	if _, err := c.Cmd("ENABLE CONDSTORE"); err != nil {
		return err
	}
	if _, err := c.Cmd("SELECT INBOX.beside"); err != nil {
		return err
	}
	var mine []UID
	set := map[UID]bool{}
	for n := 0; time.Now().Before(end); n++ {
		var err error
		switch k := rnd.IntN(10); {
		case k < 4 || len(mine) == 0:
			var uid UID
			if uid, err = b.imapAppend(c, name, n); err == nil {
				mine = append(mine, uid)
			}
		case k < 8:
			err = b.imapFlag(c, name, rnd, set)
		default:
			i := rnd.IntN(len(mine))
			if err = b.imapExpunge(c, name, mine[i]); err == nil {
				mine = slices.Delete(mine, i, i+1)
			}
		}
		if err != nil {
			return err
		}
	}
	return c.Close()
}

func (b *beside) imapAppend(c *realcyrus.Client, name string, n int) (uid UID, err error) {
	text := besideText(name, n)
	if err := c.Append("INBOX.beside", "", time.Time{}, []byte(text)); err != nil {
		return 0, err
	}
	var validity uint32
	if _, err := fmt.Sscanf(c.Status, "OK [APPENDUID %d %d]", &validity, &uid); err != nil {
		return 0, fmt.Errorf("%q: %w", c.Status, err)
	}
	b.add(ack{Worker: name, Op: "append", UID: uid, GUID: fmt.Sprintf("%x", sha1.Sum([]byte(text)))})
	return uid, nil
}

func (b *beside) imapFlag(c *realcyrus.Client, name string, rnd *rand.Rand, set map[UID]bool) error {
	answers, err := c.Cmd("UID SEARCH ALL")
	if err != nil {
		return err
	}
	var words []string
	for _, a := range answers {
		if list, ok := strings.CutPrefix(a, "SEARCH"); ok {
			words = strings.Fields(list)
		}
	}
	if len(words) == 0 {
		return nil
	}
	var uid UID
	if _, err := fmt.Sscan(words[rnd.IntN(len(words))], &uid); err != nil {
		return err
	}
	sign, op := "+", "flag"
	if set[uid] {
		sign, op = "-", "unflag"
	}
	if answers, err = c.Cmd("UID STORE %d %sFLAGS (%s)", uid, sign, name); err != nil {
		return err
	}
	// One that somebody has expunged is passed over without a word.
	for _, a := range answers {
		_, list, ok := strings.Cut(a, " FETCH (")
		if !ok || !strings.Contains(list+" ", fmt.Sprintf("UID %d)", uid)) && !strings.Contains(list, fmt.Sprintf("UID %d ", uid)) {
			continue
		}
		_, flags, _ := strings.Cut(list, "FLAGS (")
		flags, _, _ = strings.Cut(flags, ")")
		if slices.Contains(strings.Fields(flags), name) == (op == "flag") {
			set[uid] = op == "flag"
			b.add(ack{Worker: name, Op: op, UID: uid})
			return nil
		}
	}
	return nil
}

func (b *beside) imapExpunge(c *realcyrus.Client, name string, uid UID) error {
	for _, command := range []string{`UID STORE %d +FLAGS.SILENT (\Deleted)`, "UID EXPUNGE %d"} {
		if _, err := c.Cmd(command, uid); err != nil {
			return err
		}
	}
	b.add(ack{Worker: name, Op: "expunge", UID: uid})
	return nil
}
