package index

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// seenFile is the seen database of a user of a real store.
func seenFile(t *testing.T, s *realcyrus.Store, l *mboxdb.List, layout mboxdb.Layout, user string) string {
	rec, err := l.Lookup(t.Context(), mboxdb.InternalName("user."+user))
	require.NoError(t, err)
	if rec.Type.Legacy() {
		return layout.UserFile(user, "seen")
	}
	path, err := layout.UserFileByID(rec.UniqueID, "seen")
	require.NoError(t, err)
	return path
}

// placeOf finds a mailbox of a real store.
func placeOf(t *testing.T, l *mboxdb.List, layout mboxdb.Layout, box string) Place {
	rec, err := l.Lookup(t.Context(), mboxdb.InternalName(box))
	require.NoError(t, err)
	p, err := PlaceOf(layout, rec)
	require.NoError(t, err)
	return p
}

// imapAnswers are the answers of a server about all messages of a mailbox.
func imapAnswers(t *testing.T, c *realcyrus.Client, box string) (all []string) {
	for _, command := range []string{
		"STATUS " + realcyrus.Quote(box) + " (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)", "EXAMINE " + realcyrus.Quote(box),
		"FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (Subject)] BODY.PEEK[] MODSEQ)", "UID SEARCH SUBJECT e", "UNSELECT",
	} {
		lines, err := c.Cmd("%s", command)
		require.NoError(t, err)
		all = append(all, slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "CONDSTORE enabled") })...)
	}
	return all
}

// TestRepackBesideCyrus repacks mailboxes of a live server, in both layouts. It answers the same before and after, finds
// nothing to mend, and goes on with them.
func TestRepackBesideCyrus(t *testing.T) {
	realcyrus.EachLayout(t, func(t *testing.T, kind string, o realcyrus.Options) {
		s := realcyrus.StartServer(t, o)
		filled := s.Fill(t, 1, 1, 24, 5)
		box := filled.Mailboxes[len(filled.Mailboxes)-1]
		c := s.Dial(t, realcyrus.AdminUser)
		for _, command := range []string{"SETACL %[1]s cyrus lrswipkxtecda", "SELECT %[1]s", `STORE 2:9 +FLAGS (\Deleted \Seen)`, "EXPUNGE", `STORE 1:4 +FLAGS (\Flagged $Third)`, "UNSELECT"} {
			if strings.Contains(command, "%") {
				command = fmt.Sprintf(command, realcyrus.Quote(box))
			}
			_, err := c.Cmd("%s", command)
			require.NoError(t, err, command)
		}
		if kind == "legacy" {
			s.Run(t, "cyr_expire", "-A", "1", "-E", "1", "-D", "10000d", "-X", "10000d")
		}
		l, layout := openStore(t, s.Store)
		p := placeOf(t, l, layout, box)
		unlinkExpunged(t, p, 3)
		before := imapAnswers(t, c, box)
		done, err := Repack(t.Context(), vfs.OS(), p, RepackOptions{})
		require.NoError(t, err)
		require.NoError(t, done.Unfinished)
		require.EqualValues(t, 3, done.Dropped)
		require.Zero(t, done.Parsed)
		give(t, p)
		require.Equal(t, before, imapAnswers(t, c, box))
		checkReal(t, func(o CheckOptions) ([]finding.Finding, error) { return Check(t.Context(), vfs.OS(), p, o) })
		reconstructed(t, s.Store, box)
		require.Equal(t, before, imapAnswers(t, c, box))
		sameBytes(t, p.Paths)
		// The server goes on where we have left it.
		require.NoError(t, c.Append(box, `\Seen`, Seconds(boxTime).Time(), []byte("Subject: later\r\n\r\nx\r\n")))
		_, err = Repack(t.Context(), vfs.OS(), p, RepackOptions{})
		require.NoError(t, err)
		give(t, p)
		reconstructed(t, s.Store, box)
	})
}

// give gives what the test made as root to the server.
func give(t *testing.T, p Place) {
	for _, dir := range append(p.dirs(), p.Archive) {
		if _, err := os.Stat(dir); err == nil {
			realcyrus.Give(t, dir)
		}
	}
}

// reconstructed requires that Cyrus finds nothing to mend.
func reconstructed(t *testing.T, s *realcyrus.Store, box string) {
	index := func() []byte {
		l, layout := openStore(t, s)
		b, err := os.ReadFile(placeOf(t, l, layout, box).Paths.Index)
		require.NoError(t, err)
		return b
	}
	before := index()
	out := s.Try(t, "reconstruct", nil, "-n", box)
	require.Equal(t, 0, out.Code)
	require.Equal(t, box, strings.TrimSpace(out.Stdout+out.Stderr))
	require.Equal(t, before, index())
}

// unlinkExpunged marks the first n expunged records as Cyrus's cyr_expire does: silently.
func unlinkExpunged(t *testing.T, p Place, n int) {
	f, err := OpenFiles(vfs.OS(), p.Paths)
	require.NoError(t, err)
	defer f.Close()
	out, err := os.OpenFile(p.Paths.Index, os.O_RDWR, 0)
	require.NoError(t, err)
	defer out.Close()
	for e, err := range f.Index.Records(1) {
		require.NoError(t, err)
		if e.Expunged() && n > 0 {
			e.Flags |= FlagUnlinked | FlagNeedsCleanup
			_, err = out.WriteAt(e.Append(nil, f.Index.Version()), f.Index.Offset(e.No))
			require.NoError(t, err)
			n--
		}
	}
	require.Zero(t, n)
}

// TestUpgradeAsCyrus converts mailboxes between all versions that Cyrus can convert between, and compares all files with
// those that Cyrus's reconstruct makes of the same mailbox.
func TestUpgradeAsCyrus(t *testing.T) {
	realcyrus.EachLayout(t, func(t *testing.T, _ string, o realcyrus.Options) {
		made := makeStore(t, o, 8)
		const box = "user.u000.gold"
		for _, from := range convertVersions {
			for _, to := range convertVersions {
				if from == to || os.Getenv("MAILSPINE_CAMPAIGN") == "" && from != 17 && to != 17 {
					continue
				}
				upgradeAsCyrus(t, made, box, from, to)
			}
		}
	})
}

func upgradeAsCyrus(t *testing.T, made *realcyrus.Store, box string, from, to Version) {
	theirs := made.Copy(t)
	if from != 17 {
		theirs.Run(t, "reconstruct", "-V", fmt.Sprint(from), box)
	}
	ours := theirs.Copy(t)
	out := theirs.Try(t, "reconstruct", nil, "-V", fmt.Sprint(to), box)
	l, layout := openStore(t, ours)
	p := placeOf(t, l, layout, box)
	opts := RepackOptions{Seen: seenFile(t, ours, l, layout, "u000")}
	_, err := Upgrade(t.Context(), vfs.OS(), p, to, opts)
	require.NoError(t, err, "%d to %d", from, to)
	tl, tlayout := openStore(t, theirs)
	tp := placeOf(t, tl, tlayout, box)
	why := fmt.Sprintf("%d to %d", from, to)
	a, b := describe(t, tp, seenFile(t, theirs, tl, tlayout, "u000")), describe(t, p, opts.Seen)
	if a.header.Version == to { // else Cyrus has failed, as it does between 10 and others if any message is \Seen
		a.forgive(b, from, to)
		require.Equal(t, a, b, why)
	} else {
		t.Logf("%s: Cyrus does not: %d %s %s", why, a.header.Version, out.Stdout, out.Stderr)
	}
	give(t, p)
	realcyrus.Give(t, filepath.Join(ours.Dir, "conf"))
	sameBytes(t, p.Paths)
	checkReal(t, func(o CheckOptions) ([]finding.Finding, error) { return Check(t.Context(), vfs.OS(), p, o) })
	if to >= 14 {
		reconstructed(t, ours, box)
		return
	}
	// It always finds what these versions do not have.
	found := func(s *realcyrus.Store) string { return s.Try(t, "reconstruct", nil, "-n", box).Stdout }
	if a.header.Version == to && from.HasChecksums() {
		require.Equal(t, found(theirs), found(ours), why)
	}
}

// described is all of a mailbox that two programs should agree on.
type described struct {
	header  Header
	records []Record
	caches  []string
	kept    map[string]string
}

func describe(t *testing.T, p Place, seen string) (d described) {
	f, err := OpenFiles(vfs.OS(), p.Paths)
	require.NoError(t, err)
	defer f.Close()
	d.header = f.Index.Header
	d.header.LastRepack, d.header.ChangesEpoch = 0, 0
	for e, err := range f.Index.Records(1) {
		require.NoError(t, err)
		d.records = append(d.records, e.Record)
	}
	for _, path := range []string{p.Paths.Cache, p.Paths.Archive} {
		b, err := os.ReadFile(path)
		if err == nil {
			d.caches = append(d.caches, string(b))
		}
	}
	d.kept = map[string]string{}
	for _, path := range []string{p.Paths.Annotations, seen} {
		db, err := skiplist.Open(t.Context(), path, skiplist.Options{ReadOnly: true})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		require.NoError(t, db.View(t.Context(), func(s *skiplist.Snapshot) error {
			for r, err := range s.All() {
				require.NoError(t, err)
				// Cyrus leaves a mark where it has deleted an annotation.
				if path == seen {
					var s Seen
					require.NoError(t, s.Decode(r.Value))
					s.LastRead = 0 // is now
					d.kept[string(r.Key)] = string(s.Append(nil))
				} else if _, deleted := annotationValue(r.Value); !deleted {
					d.kept[string(r.Key)] = string(r.Value)
				}
			}
			return nil
		}))
		require.NoError(t, db.Close())
	}
	return d
}

// forgive takes over from ours what Cyrus 3.6.1 does wrong.
func (d *described) forgive(ours described, from, to Version) {
	if from < versionModSeq && to >= versionModSeq {
		// It gives modification sequence 0 to messages that come from a version without, older than their creation.
		d.header.HighestModSeq, d.header.DeletedModSeq, d.header.SyncBasic = ours.header.HighestModSeq, ours.header.DeletedModSeq, ours.header.SyncBasic
		for i := range d.records {
			if d.records[i].ModSeq == 0 {
				d.records[i].ModSeq = max(1, ours.records[i].CreatedModSeq)
			}
		}
	}
	if from >= versionChecksums {
		return
	}
	for i := range d.records {
		// It parses the messages, and gives no dates to one without a Date.
		if r, o := &d.records[i], &ours.records[i]; r.GMTime == 0 && r.SentDate == 0 {
			r.SentDate = o.SentDate
			if o.GMTime == o.InternalDate {
				r.GMTime = o.GMTime
			}
		}
	}
	if to < versionChecksums {
		return
	}
	// It neither looks for expunged messages nor sums up the header file.
	if d.header.FirstExpunged == 0 {
		d.header.FirstExpunged = ours.header.FirstExpunged
	}
	if d.header.HeaderFileCRC == 0 {
		d.header.HeaderFileCRC = ours.header.HeaderFileCRC
	}
	for i := range d.records {
		// It writes the conversation into an annotation without leading zeros, and reads it only with them.
		if r, o := &d.records[i], &ours.records[i]; r.CID == 0 && o.CID>>60 == 0 {
			r.CID = o.CID
			d.header.SyncAnnot = ours.header.SyncAnnot
		}
	}
}

// TestRepackWhileCyrusWorks repacks a mailbox again and again while a client appends, flags and expunges over IMAP.
func TestRepackWhileCyrusWorks(t *testing.T) {
	realcyrus.NeedServer(t)
	t.Parallel()
	s := realcyrus.StartServer(t, realcyrus.Options{})
	filled := s.Fill(t, 1, 1, 4, 5)
	box := filled.Mailboxes[0]
	c := s.Dial(t, filled.Users[0])
	l, layout := openStore(t, s.Store)
	p := placeOf(t, l, layout, box)
	give(t, p)
	realcyrus.Give(t, filepath.Join(s.Dir, "conf"))
	var stop atomic.Bool
	repacks := make(chan int, 1)
	go func() {
		n := 0
		for ; !stop.Load(); n++ {
			done, err := Repack(t.Context(), vfs.OS(), p, RepackOptions{})
			if err == nil {
				err = done.Unfinished
			}
			if err != nil {
				t.Error(err)
				break
			}
			time.Sleep(5 * time.Millisecond) // who waits in the kernel for a lock gets it only if it is free for a moment
		}
		repacks <- n
	}()
	expunged := 0
	_, err := c.Cmd("SELECT INBOX")
	require.NoError(t, err)
	before := len(imapUIDs(t, c))
	const rounds = 60
	for i := range rounds {
		require.NoError(t, c.Append("INBOX", `\Flagged`, Seconds(boxTime).Time(), boxMessage(UID(i+1))))
		_, err := c.Cmd(`STORE * +FLAGS (\Seen Number%d)`, i%5)
		require.NoError(t, err)
		if i%3 == 0 {
			_, err = c.Cmd(`STORE 1 +FLAGS (\Deleted)`)
			require.NoError(t, err)
			_, err = c.Cmd("EXPUNGE")
			require.NoError(t, err)
			expunged++
		}
	}
	stop.Store(true)
	n := <-repacks
	t.Logf("%d repacks during %d appends", n, rounds)
	require.Greater(t, n, 3)
	require.Len(t, imapUIDs(t, c), before+rounds-expunged)
	checkReal(t, func(o CheckOptions) ([]finding.Finding, error) { return Check(t.Context(), vfs.OS(), p, o) })
	reconstructed(t, s.Store, box)
}

func imapUIDs(t *testing.T, c *realcyrus.Client) (uids []string) {
	lines, err := c.Cmd("UID SEARCH ALL")
	require.NoError(t, err)
	for _, l := range lines {
		if words := strings.Fields(l); len(words) > 0 && words[0] == "SEARCH" {
			uids = append(uids, words[1:]...)
		}
	}
	return uids
}

// TestCyrusReadsHalfARepack has a live server look at a mailbox whose repack ended, for want of a disk that goes on, after
// each of its renames: it answers as before, and again when the repack was finished or taken back.
func TestCyrusReadsHalfARepack(t *testing.T) {
	realcyrus.NeedServer(t)
	t.Parallel()
	s := realcyrus.StartServer(t, realcyrus.LegacyLayout())
	filled := s.Fill(t, 1, 1, 12, 5)
	box := filled.Mailboxes[0]
	s.Run(t, "cyr_expire", "-A", "1", "-E", "1", "-D", "10000d", "-X", "10000d")
	c := s.Dial(t, filled.Users[0])
	l, layout := openStore(t, s.Store)
	p := placeOf(t, l, layout, box)
	opts := RepackOptions{Seen: seenFile(t, s.Store, l, layout, filled.Users[0])}
	answers := func() (all []string) {
		give(t, p)
		realcyrus.Give(t, filepath.Join(s.Dir, "conf"))
		for _, command := range []string{"EXAMINE INBOX", "FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])", "SEARCH SUBJECT e", "UNSELECT"} {
			lines, err := c.Cmd("%s", command)
			require.NoError(t, err)
			if command != "EXAMINE INBOX" {
				all = append(all, lines...)
			}
		}
		return all
	}
	before := answers()
	halves := 0
	for _, to := range []Version{0, 10, 17} {
		for n, fired := 0, true; fired; n++ {
			plan := &faultfs.Plan{N: n, Kinds: faultfs.Rename, Mode: faultfs.Onwards}
			// Nothing is taken back, as if the process had died.
			done, err := repackTo(t.Context(), faultfs.Wrap(vfs.OS(), plan), p, to, opts)
			if fired = plan.Fired(); !fired {
				require.NoError(t, err)
				require.NoError(t, done.Unfinished)
				break
			}
			found, e := interrupted(vfs.OS(), p)
			require.NoError(t, e)
			require.True(t, found || err != nil, "call %d", n)
			if found {
				halves++
			}
			require.Equal(t, before, answers(), "to %d, call %d", to, n)
			_, err = FinishRepack(t.Context(), vfs.OS(), p, OpenOptions{})
			require.NoError(t, err)
			require.Equal(t, before, answers(), "to %d, call %d", to, n)
		}
		require.Equal(t, before, answers(), "to %d", to)
	}
	require.Greater(t, halves, 3)
	reconstructed(t, s.Store, box)
}
