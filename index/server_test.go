package index

import (
	"crypto/sha1"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
)

// TestServerAnswersTheSame compares what a mailbox of each version that Cyrus 3.6 can make holds with what a live server
// answers, in both layouts: flags, dates, sizes, modification sequences, ids, envelope, structure and bytes of every
// message. Every structure encodes to the bytes that it was decoded from, and every number of the header follows from the
// records. In a campaign each mailbox has more than a thousand messages.
func TestServerAnswersTheSame(t *testing.T) {
	msgs := 14
	if os.Getenv("MAILSPINE_CAMPAIGN") != "" {
		msgs = 1010
	}
	realcyrus.EachLayout(t, func(t *testing.T, kind string, o realcyrus.Options) {
		s := realcyrus.StartServer(t, o)
		filled := s.Fill(t, 1, 1, msgs, 5)
		boxes := makeVersions(t, s, filled.Mailboxes[0])
		if kind == "legacy" {
			s.Run(t, "cyr_expire", "-A", "1", "-E", "1", "-D", "10000d", "-X", "10000d")
		}
		l, layout := openStore(t, s.Store)
		owner := s.Dial(t, filled.Users[0])
		for _, v := range cyrusVersions {
			box := boxes[v]
			m := openMailbox(t, l, layout, box)
			require.Equal(t, v, m.cur.Index.Version())
			before, err := os.ReadFile(m.Place().Paths.Index)
			require.NoError(t, err)
			requireArchived(t, m, kind == "legacy")
			n := sameAnswers(t, owner, m, "INBOX"+strings.TrimPrefix(box, filled.Mailboxes[0]), kind == "legacy")
			require.GreaterOrEqual(t, n, msgs-4)
			require.GreaterOrEqual(t, sameBytes(t, m.Place().Paths), n)
			checkReal(t, func(o CheckOptions) ([]finding.Finding, error) { return Check(t.Context(), vfs.OS(), m.Place(), o) })
			sameAsExamined(t, m.Place().Paths, s.Run(t, "mbexamine", box))
			after, err := os.ReadFile(m.Place().Paths.Index)
			require.NoError(t, err)
			require.Equal(t, before, after, "the server changed what was compared with its answers")
			t.Logf("version %d: %d messages", v, n)
		}
		changesAgree(t, s.Dial(t, realcyrus.AdminUser), openMailbox(t, l, layout, filled.Mailboxes[0]), filled.Mailboxes[0])
	})
}

// requireArchived requires that some messages are archived and some are not, or none are.
func requireArchived(t *testing.T, m *Mailbox, some bool) {
	s, err := m.Snapshot(t.Context())
	require.NoError(t, err)
	archived := 0
	for _, msg := range s.Messages {
		if msg.Flags&FlagArchived != 0 {
			archived++
		}
	}
	require.Equal(t, some, archived > 0)
	require.Less(t, archived, len(s.Messages))
}

// makeVersions copies a mailbox into one for each version, changes and expunges some messages, and converts it.
func makeVersions(t *testing.T, s *realcyrus.Server, from string) map[Version]string {
	c := s.Dial(t, realcyrus.AdminUser)
	owner := s.Dial(t, "u000") // whose \Seen is in the index
	boxes := map[Version]string{}
	cmd := func(c *realcyrus.Client, format string, args ...any) {
		_, err := c.Cmd(format, args...)
		require.NoError(t, err, format)
	}
	for _, v := range cyrusVersions {
		box := fmt.Sprintf("%s%sv%d", from, s.Separator(), v)
		boxes[v] = box
		cmd(c, "CREATE %s", realcyrus.Quote(box))
		cmd(c, "SETACL %s cyrus lrswipkxtecda", realcyrus.Quote(box))
		cmd(c, "SELECT %s", realcyrus.Quote(from))
		cmd(c, "COPY 1:* %s", realcyrus.Quote(box))
		require.NoError(t, c.Append(box, "", time.Time{}, []byte("Subject: too young for the archive\r\n\r\nbody\r\n")))
		cmd(owner, "SELECT %s", realcyrus.Quote("INBOX"+strings.TrimPrefix(box, from)))
		cmd(owner, `STORE 2,4,6 +FLAGS (\Seen \Flagged $Third)`)
		cmd(owner, `STORE 3 +FLAGS (\Deleted)`)
		cmd(owner, "EXPUNGE")
		cmd(owner, `STORE 5 +FLAGS (\Deleted Kept)`)
		if v == 10 {
			// Cyrus 3.6 fails to convert a mailbox with \Seen messages to this version.
			cmd(owner, `STORE 1:* -FLAGS (\Seen)`)
		}
		cmd(owner, "UNSELECT")
		if v != VersionWritten {
			s.Run(t, "reconstruct", "-V", fmt.Sprint(v), box)
		}
	}
	return boxes
}

// sameAnswers compares a mailbox with the answers to its owner, who only looks: the server changes nothing.
func sameAnswers(t *testing.T, c *realcyrus.Client, m *Mailbox, box string, conversations bool) int {
	h, err := m.Header()
	require.NoError(t, err)
	n := h.Normalized()
	status, err := c.Cmd("STATUS %s (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)", realcyrus.Quote(box))
	require.NoError(t, err)
	require.Contains(t, status[len(status)-1]+" ", fmt.Sprintf("(MESSAGES %d UIDNEXT %d UIDVALIDITY %d HIGHESTMODSEQ %d)", n.Exists, n.LastUID+1, n.UIDValidity, n.HighestModSeq))
	_, err = c.Cmd("EXAMINE %s", realcyrus.Quote(box))
	require.NoError(t, err)
	snapshot, err := m.Snapshot(t.Context())
	require.NoError(t, err)
	if n.Version >= versionChecksums {
		require.Len(t, snapshot.Messages, int(n.Exists))
	} else {
		require.Len(t, snapshot.Messages, int(n.Exists)-len(snapshot.Expunged), "STATUS counts expunged messages, and no one is shown them")
	}
	items := "UID RFC822.SIZE INTERNALDATE MODSEQ FLAGS ENVELOPE BODYSTRUCTURE BODY DIGEST.SHA1 LASTUPDATED CREATEDMODSEQ SAVEDATE BODY.PEEK[]"
	if conversations {
		items += " CID"
	}
	answers, err := c.Cmd("FETCH 1:* (%s)", items)
	require.NoError(t, err)
	answers = slices.DeleteFunc(answers, func(a string) bool { return !strings.Contains(a, " FETCH (") })
	require.Len(t, answers, len(snapshot.Messages))
	for i, msg := range snapshot.Messages {
		rec, err := m.Record(t.Context(), msg.UID)
		require.NoError(t, err)
		number, list, ok := strings.Cut(answers[i], " FETCH (")
		require.True(t, ok)
		require.Equal(t, strconv.Itoa(i+1), number)
		sameMessage(t, m, &rec, n.Version, fetched(t, list))
	}
	return len(snapshot.Messages)
}

// fetched takes the answer to FETCH apart: the value of each item, as it was sent.
func fetched(t *testing.T, list string) map[string]string {
	items := map[string]string{}
	for !strings.HasPrefix(list, ")") {
		name, rest, ok := strings.Cut(list, " ")
		require.True(t, ok, "%.100q", list)
		n := valueLen(rest)
		items[name], list = rest[:n], strings.TrimPrefix(rest[n:], " ")
	}
	return items
}

// valueLen is the length of the value at the start of s: an atom, a string, or a list of values.
func valueLen(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth == 0 {
				return i
			}
			depth--
		case ' ':
			if depth == 0 {
				return i
			}
		case '"':
			for i++; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' {
					i++
				}
			}
		case '{':
			digits, _, _ := strings.Cut(s[i+1:], "}")
			if n, err := strconv.Atoi(digits); err == nil {
				i += len("{}\r\n") + len(digits) + n - 1
			}
		}
	}
	return len(s)
}

// sameMessage compares a record, its cache record and its file with what was fetched.
func sameMessage(t *testing.T, m *Mailbox, rec *Record, v Version, got map[string]string) {
	require.Equal(t, fmt.Sprint(rec.UID), got["UID"])
	require.Equal(t, fmt.Sprint(rec.Size), got["RFC822.SIZE"])
	require.Equal(t, fmt.Sprintf("(%d)", rec.ModSeq), got["MODSEQ"])
	require.Equal(t, fmt.Sprintf("(%d)", rec.CreatedModSeq), got["CREATEDMODSEQ"])
	require.Equal(t, rec.GUID.String(), got["DIGEST.SHA1"])
	sameTime(t, rec.InternalDate, got["INTERNALDATE"])
	sameTime(t, rec.LastUpdated, got["LASTUPDATED"])
	if v >= versionSaveDate {
		sameTime(t, rec.SaveDate, got["SAVEDATE"]) // before, the server answers with another date
	}
	if cid, ok := got["CID"]; ok && v >= versionCID {
		require.Equal(t, map[bool]string{true: "NIL", false: fmt.Sprintf("%016x", rec.CID)}[rec.CID == 0], cid)
	}
	flags := slices.DeleteFunc(strings.Fields(strings.Trim(got["FLAGS"], "()")), func(f string) bool {
		return f == `\Recent` || f == `\Seen` && v < versionChecksums // which is in the seen database then
	})
	names, err := m.FlagNames(rec.Flags, rec.UserFlags)
	require.NoError(t, err)
	require.ElementsMatch(t, flags, names)
	cached, err := m.Cache(rec)
	require.NoError(t, err)
	require.Equal(t, got["ENVELOPE"], string(cached.Item(CacheEnvelope)))
	require.Equal(t, got["BODYSTRUCTURE"], string(cached.Item(CacheBodyStructure)))
	require.Equal(t, got["BODY"], string(cached.Item(CacheBody)))
	sameBody(t, m, rec, v, got["BODY[]"])
}

func sameTime(t *testing.T, ours Time, answer string) {
	at, err := time.Parse("_2-Jan-2006 15:04:05 -0700", strings.Trim(answer, `"`))
	require.NoError(t, err)
	require.Equal(t, at.Unix(), ours.Unix())
}

// sameBody compares the message file with what was fetched, a literal, and with size and id of the record.
func sameBody(t *testing.T, m *Mailbox, rec *Record, v Version, literal string) {
	body, err := m.Body(rec)
	require.NoError(t, err)
	defer body.Close()
	b, err := io.ReadAll(body)
	require.NoError(t, err)
	require.Equal(t, literal, fmt.Sprintf("{%d}\r\n%s", len(b), b))
	require.Len(t, b, int(rec.Size))
	if v >= versionGUID {
		require.Equal(t, GUID(sha1.Sum(b)), rec.GUID)
	}
}
