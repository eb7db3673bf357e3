package index

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/message"
	"github.com/mailspine/mailspine/internal/message/corpus"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

// judge has a server with two pairs of mailboxes, to which the same things are done: to one by this package, to the other by
// imapd. What a client can see of them, and what their files hold, must be the same.
type judge struct {
	t      *testing.T
	s      *realcyrus.Server
	c      *realcyrus.Client // the owner, whose \Seen is in the index
	list   *mboxdb.List
	layout mboxdb.Layout
	boxes  [2]*judged
	live   []UID // the messages of both
	gone   []UID // expunged, with their files
	rnd    *rand.Rand
	texts  [][]byte
	sent   int
}

// judged is one of the mailboxes. Messages are copied and moved to the other one of its pair.
type judged struct {
	name, seen string // as the administrator and as the owner know it
	to         *judged
}

// judgeStores are the layouts of the stores. Conversations are refused, and what imapd archives when it arrives cyr_expire
// archives later where it came from us.
func judgeStores() map[string]realcyrus.Options {
	legacy := realcyrus.LegacyLayout()
	legacy.Extra = maps.Clone(legacy.Extra)
	legacy.Extra["conversations"], legacy.Extra["archive_enabled"] = "no", "no"
	return map[string]realcyrus.Options{"uuid": {}, "legacy": legacy}
}

func newJudge(t *testing.T, o realcyrus.Options, seed uint64) *judge {
	j := &judge{t: t, s: realcyrus.StartServer(t, o), rnd: rand.New(rand.NewPCG(seed, 1))}
	admin := j.s.Dial(t, realcyrus.AdminUser)
	create := func(name string) *judged {
		name = "user.judged" + name
		_, err := admin.Cmd("CREATE %s", realcyrus.Quote(name))
		require.NoError(t, err)
		return &judged{name: name, seen: "INBOX" + strings.TrimPrefix(name, "user.judged")}
	}
	require.NoError(t, j.s.AddUser("judged"))
	create("")
	for i, name := range []string{".one", ".two"} {
		j.boxes[i] = create(name)
		j.boxes[i].to = create(name + "-to")
	}
	j.c = j.s.Dial(t, "judged")
	j.cmd("ENABLE CONDSTORE") // which would be announced once more with the first answer that shows a modification sequence
	j.list, j.layout = openStore(t, j.s.Store)
	return j
}

func (j *judge) cmd(format string, args ...any) []string {
	answers, err := j.c.Cmd(format, args...)
	require.NoError(j.t, err, format)
	return answers
}

// open opens a mailbox as it is now. What is written as root belongs to Cyrus in the end.
func (j *judge) open(b *judged) *Mailbox { return openMailbox(j.t, j.list, j.layout, b.name) }

func (j *judge) give() { realcyrus.Give(j.t, j.s.Dir) }

// judgedMail is a message that is appended.
type judgedMail struct {
	text  []byte
	date  time.Time
	flags Flags
	user  []string
}

func (m *judgedMail) words() string { return strings.Join(append(m.flags.Names(), m.user...), " ") }

// mail picks the next message of the corpus and invents its flags.
func (j *judge) mail() judgedMail {
	m := judgedMail{text: j.texts[j.sent%len(j.texts)], date: time.Unix(1_500_000_000+int64(j.sent)*77, 0).UTC()}
	j.sent++
	m.flags, m.user = j.flags()
	return m
}

func (j *judge) flags() (f Flags, user []string) {
	if j.rnd.IntN(3) > 0 {
		f = Flags(j.rnd.IntN(32)) & j.randomMask() &^ FlagDeleted
	}
	for _, name := range []string{"$Label1", "Junk", "$MDNSent", "later", "x-y.z"} {
		if j.rnd.IntN(6) == 0 {
			user = append(user, name)
		}
	}
	return f, user
}

func (j *judge) randomMask() Flags { return Flags(j.rnd.IntN(32)) }

// some picks some of the live messages.
func (j *judge) some() (uids []UID) {
	for _, uid := range j.live {
		if j.rnd.IntN(4) == 0 {
			uids = append(uids, uid)
		}
	}
	if len(uids) == 0 && len(j.live) > 0 {
		uids = append(uids, j.live[j.rnd.IntN(len(j.live))])
	}
	return uids
}

func uidSet(uids []UID) string {
	words := make([]string, len(uids))
	for i, uid := range uids {
		words[i] = fmt.Sprint(uid)
	}
	return strings.Join(words, ",")
}

// append appends messages to both: each on its own, or all in one transaction of ours. What imapd refuses, such as bare line
// feeds, is left out.
func (j *judge) append(ours, theirs *judged, n int, atOnce bool) {
	var taken []judgedMail
	for range n {
		m := j.mail()
		if err := j.c.Append(theirs.seen, m.words(), m.date, m.text); err != nil {
			require.ErrorContains(j.t, err, "NO ")
			continue
		}
		taken = append(taken, m)
	}
	m := j.open(ours)
	j.update(m, func(tx *Tx) error {
		for i := range taken {
			if i > 0 && !atOnce {
				return nil
			}
			if err := j.appendOne(tx, &taken[i]); err != nil {
				return err
			}
		}
		return nil
	})
	for i := 1; i < len(taken) && !atOnce; i++ {
		j.update(m, func(tx *Tx) error { return j.appendOne(tx, &taken[i]) })
	}
	j.give()
}

func (j *judge) appendOne(tx *Tx, m *judgedMail) error {
	rec, err := tx.Append(NewMessage{Body: strings.NewReader(string(m.text)), InternalDate: m.date, Flags: m.flags, User: m.user})
	j.live = append(j.live, rec.UID)
	return err
}

func (j *judge) update(m *Mailbox, do func(tx *Tx) error) {
	require.NoError(j.t, m.Update(j.t.Context(), do))
}

// store changes flags in both.
func (j *judge) store(ours, theirs *judged, uids []UID, c FlagChange) {
	verb := []string{"+FLAGS", "-FLAGS", "FLAGS"}[c.Op]
	since := ""
	if c.UnchangedSince > 0 {
		since = fmt.Sprintf("(UNCHANGEDSINCE %d) ", c.UnchangedSince)
	}
	j.cmd("SELECT %s", realcyrus.Quote(theirs.seen))
	_, err := j.c.Cmd("UID STORE %s %s%s (%s)", uidSet(uids), since, verb, strings.Join(append(c.Flags.Names(), c.User...), " "))
	if c.UnchangedSince == 0 {
		require.NoError(j.t, err)
	}
	j.cmd("UNSELECT")
	j.update(j.open(ours), func(tx *Tx) error {
		for _, uid := range uids {
			if _, err := tx.SetFlags(uid, c); err != nil && !errors.Is(err, ErrModified) {
				return err
			}
		}
		return nil
	})
	j.give()
}

// expunge removes messages from both.
func (j *judge) expunge(ours, theirs *judged, uids []UID) {
	j.store(ours, theirs, uids, FlagChange{Op: AddFlags, Flags: FlagDeleted})
	j.cmd("SELECT %s", realcyrus.Quote(theirs.seen))
	j.cmd("UID EXPUNGE %s", uidSet(uids))
	j.cmd("UNSELECT")
	j.update(j.open(ours), func(tx *Tx) error {
		for _, uid := range uids {
			if _, err := tx.Expunge(uid, ExpungeDelayed); err != nil {
				return err
			}
		}
		return nil
	})
	j.give()
	j.live = slices.DeleteFunc(j.live, func(uid UID) bool { return slices.Contains(uids, uid) })
	j.gone = append(j.gone, uids...)
}

// unexpunge restores messages in both, with the program that Cyrus has for it.
func (j *judge) unexpunge(ours, theirs *judged, uids []UID) {
	args := []string{"-d", "-u", theirs.name}
	for _, uid := range uids {
		args = append(args, fmt.Sprint(uid))
	}
	j.s.Run(j.t, "unexpunge", args...)
	j.update(j.open(ours), func(tx *Tx) error {
		for _, uid := range uids {
			rec, err := tx.Unexpunge(uid, FlagDeleted)
			if err != nil {
				return err
			}
			j.live = append(j.live, rec.UID)
		}
		return nil
	})
	j.give()
	j.gone = slices.DeleteFunc(j.gone, func(uid UID) bool { return slices.Contains(uids, uid) })
}

// transfer copies or moves messages of both.
func (j *judge) transfer(ours, theirs *judged, uids []UID, move bool) {
	j.cmd("SELECT %s", realcyrus.Quote(theirs.seen))
	j.cmd("UID %s %s %s", map[bool]string{true: "MOVE", false: "COPY"}[move], uidSet(uids), realcyrus.Quote(theirs.to.seen))
	j.cmd("UNSELECT")
	copied, err := Copy(j.t.Context(), j.open(ours), j.open(ours.to), uids, CopyOptions{Move: move})
	require.NoError(j.t, err)
	require.Len(j.t, copied, len(uids))
	j.give()
	if move {
		j.live = slices.DeleteFunc(j.live, func(uid UID) bool { return slices.Contains(uids, uid) })
		j.gone = append(j.gone, uids...)
	}
}

// step does something at random.
func (j *judge) step(ours, theirs *judged) string {
	switch n := j.rnd.IntN(20); {
	case n < 5 || len(j.live) < 4:
		count := 1 + j.rnd.IntN(4)
		j.append(ours, theirs, count, n%2 == 0)
		return fmt.Sprintf("append %d", count)
	case n < 12:
		c := FlagChange{Op: FlagOp(j.rnd.IntN(3))}
		c.Flags, c.User = j.flags()
		if c.Flags == 0 && len(c.User) == 0 {
			c.Flags = FlagFlagged
		}
		if c.Op == RemoveFlags {
			c.User = nil // imapd gives numbers to the names of flags that are taken from messages
		}
		if n < 7 {
			h, err := j.open(ours).Header()
			require.NoError(j.t, err)
			c.UnchangedSince = h.HighestModSeq - ModSeq(j.rnd.IntN(10))%h.HighestModSeq
		}
		uids := j.some()
		j.store(ours, theirs, uids, c)
		return fmt.Sprintf("store %v %+v", uids, c)
	case n < 15:
		uids := j.some()
		j.expunge(ours, theirs, uids)
		return fmt.Sprintf("expunge %v", uids)
	case n < 17 && len(j.gone) > 0:
		uids := slices.Clone(j.gone[:1+j.rnd.IntN(len(j.gone))])
		slices.Sort(uids)
		j.unexpunge(ours, theirs, uids)
		return fmt.Sprintf("unexpunge %v", uids)
	default:
		uids := j.some()
		j.transfer(ours, theirs, uids, n == 19)
		return fmt.Sprintf("copy %v, moved: %v", uids, n == 19)
	}
}

// compare compares all that there is of both pairs, and has everybody check the files.
func (j *judge) compare(what string) {
	one, two := j.boxes[0], j.boxes[1]
	for _, pair := range [][2]*judged{{one, two}, {one.to, two.to}} {
		j.sameAnswers(pair, what)
		j.sameFiles(pair, what)
		for _, b := range pair {
			j.sound(b, what)
		}
	}
}

// asked is what a client asks for.
const asked = "UID FLAGS INTERNALDATE RFC822.SIZE MODSEQ CREATEDMODSEQ DIGEST.SHA1 ENVELOPE BODYSTRUCTURE BODY " +
	"BODY.PEEK[HEADER.FIELDS (From To Subject Date X-Mailer Content-Type)] BODY.PEEK[TEXT] BODY.PEEK[]"

// sameAnswers compares the answers of imapd to a client that looks at each.
func (j *judge) sameAnswers(pair [2]*judged, what string) {
	var got [2][]string
	for i, b := range pair {
		status := j.cmd("STATUS %s (MESSAGES UIDNEXT UNSEEN HIGHESTMODSEQ)", realcyrus.Quote(b.seen))
		last := status[len(status)-1]
		got[i] = []string{last[strings.LastIndex(last, "("):]}
		answers := j.cmd("EXAMINE %s", realcyrus.Quote(b.seen))
		got[i] = append(got[i], slices.DeleteFunc(answers, func(a string) bool { return !strings.HasPrefix(a, "FLAGS ") })...)
		if !strings.HasPrefix(got[i][0], "(MESSAGES 0 ") {
			got[i] = append(got[i], j.cmd("FETCH 1:* (%s)", asked)...)
		}
		j.cmd("UNSELECT")
		for k, a := range got[i] {
			// What is recent depends on who has selected the mailbox.
			got[i][k] = recent.ReplaceAllString(a, "$1")
		}
	}
	for k := range min(len(got[0]), len(got[1])) {
		require.Equal(j.t, got[1][k], got[0][k], what)
	}
	require.Equal(j.t, len(got[1]), len(got[0]), what)
}

var recent = regexp.MustCompile(`(FLAGS \()\\Recent ?`)

// sameFiles compares the files of two mailboxes, byte for byte, but for times of changes and the ids of mailboxes.
func (j *judge) sameFiles(pair [2]*judged, what string) {
	var headers, indexes, caches [2]string
	var listed [2][]string
	for i, b := range pair {
		m := j.open(b)
		p := m.Place()
		raw, err := os.ReadFile(p.Paths.Index)
		require.NoError(j.t, err)
		indexes[i] = timeless(j.t, m, int64(len(raw)))
		h, err := m.HeaderFile()
		require.NoError(j.t, err)
		fresh := *h
		fresh.Name, fresh.UniqueID = "", "id"
		headers[i] = fmt.Sprintf("%+v", fresh.values())
		cache, err := os.ReadFile(p.Paths.Cache)
		require.True(j.t, err == nil || errors.Is(err, fs.ErrNotExist), "%v", err)
		caches[i] = string(cache)
		listed[i] = j.messageFiles(p.Messages)
		require.NoError(j.t, m.Close())
	}
	require.Equal(j.t, headers[1], headers[0], what)
	require.Equal(j.t, indexes[1], indexes[0], what)
	require.Equal(j.t, listed[1], listed[0], what)
	require.True(j.t, caches[1] == caches[0], "%s: the caches differ", what)
}

// timeless prints a mailbox's index without the times of changes, the ids, and what is made of them.
func timeless(t *testing.T, m *Mailbox, size int64) string {
	h, err := m.Header()
	require.NoError(t, err)
	c := *h
	c.UIDValidity, c.LastAppend, c.HeaderFileCRC, c.SyncBasic, c.SyncAnnot, c.ChangesEpoch, c.RecentUID, c.RecentTime, c.LastRepack = 0, 0, 0, 0, 0, 0, 0, 0, 0
	if c.FirstExpunged != 0 {
		c.FirstExpunged = 1
	}
	text := fmt.Sprintf("%d bytes\n%+v\n", size, c)
	for e, err := range m.Records(t.Context()) {
		require.NoError(t, err)
		r := e.Record
		r.LastUpdated, r.SaveDate = 0, 0
		text += fmt.Sprintf("%+v\n", r)
	}
	return text
}

// messageFiles describes the files of the messages.
func (j *judge) messageFiles(dir string) (list []string) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it comes with the first message
	}
	require.NoError(j.t, err)
	for _, e := range entries {
		info, err := e.Info()
		require.NoError(j.t, err)
		if strings.HasSuffix(e.Name(), ".") && info.Mode().IsRegular() {
			list = append(list, fmt.Sprint(e.Name(), " ", info.Size(), " ", info.ModTime().Unix()))
		}
	}
	return list
}

// sound has the check of this package and a reconstruct of Cyrus find nothing.
func (j *judge) sound(b *judged, what string) {
	m := j.open(b)
	p := m.Place()
	require.NoError(j.t, m.Close())
	found, err := Check(j.t.Context(), vfs.OS(), p, CheckOptions{Owner: "judged", Contents: true})
	require.NoError(j.t, err)
	require.Empty(j.t, found, "%s: %s", what, b.name)
	before := bytesOf(j.t, p)
	out := j.s.Try(j.t, "reconstruct", nil, "-n", b.name)
	require.Zero(j.t, out.Code)
	require.Equal(j.t, b.name+"\n", out.Stdout, what)
	require.Empty(j.t, out.Stderr, what)
	require.Equal(j.t, before, bytesOf(j.t, p), "%s: reconstruct -n has changed something", what)
}

// bytesOf reads the files of a mailbox.
func bytesOf(t *testing.T, p Place) map[string]string {
	all := map[string]string{}
	for _, path := range []string{p.Paths.Header, p.Paths.Index, p.Paths.Cache} {
		b, err := os.ReadFile(path)
		if !errors.Is(err, fs.ErrNotExist) {
			require.NoError(t, err)
		}
		all[filepath.Base(path)] = string(b)
	}
	return all
}

// judgedTexts are messages that two programs derive the same from; see internal/message. IMAP cannot send all of them.
func judgedTexts(t *testing.T, n int) (texts [][]byte) {
	var p message.Parser
	all := corpus.Messages(300)
	step := max(1, len(all)/n)
	for i := 0; i < len(all); i += step {
		m, err := p.Parse(strings.NewReader(all[i].Text))
		require.NoError(t, err)
		if !m.Unsure() && m.Limited == "" && !strings.Contains(all[i].Text, "\x00") && !strings.Contains(strings.ReplaceAll(all[i].Text, "\r\n", ""), "\n") {
			texts = append(texts, []byte(all[i].Text))
		}
	}
	return texts
}
