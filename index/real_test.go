package index

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
)

var rewrite = flag.Bool("rewrite", false, "write the files in testdata/real anew, from a real server")

// cyrusVersions are those that "reconstruct -V" of Cyrus 3.6 can make.
var cyrusVersions = []Version{6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17}

// smallMail are the messages of the golden mailbox.
var smallMail = []struct{ flags, text string }{
	{"", "Subject: one\r\n\r\nbody\r\n"},
	{`\Flagged Junk`, "From: A <a@b.example>\r\nDate: Wed, 01 Jan 2020 10:11:12 +0100\r\nContent-Type: text/plain; charset=koi8-r\r\n\r\n\r\n"},
	{`\Deleted \Answered $Label1`, "Subject: =?utf-8?q?=C3=A4?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\n" +
		"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ny\r\n--b--\r\n"},
	{`\Draft`, "To: x@y\r\n\r\nz\r\n"},
}

// makeStore fills a server with Fill's mailboxes and the golden one, annotations and odd access rights included.
func makeStore(t *testing.T, o realcyrus.Options, msgs int) *realcyrus.Store {
	s := realcyrus.StartServer(t, o)
	s.Fill(t, 1, 2, msgs, 1)
	c := s.Dial(t, "u000")
	sep := s.Separator()
	_, err := c.Cmd("CREATE %s", realcyrus.Quote("INBOX"+sep+"gold"))
	require.NoError(t, err)
	for i, m := range smallMail {
		require.NoError(t, c.Append("INBOX"+sep+"gold", m.flags, time.Unix(1500000000+int64(i), 0), []byte(m.text)))
	}
	for _, command := range []string{
		"SELECT " + realcyrus.Quote("INBOX"+sep+"gold"), "EXPUNGE",
		`STORE 1:2 ANNOTATION (/comment (value.shared "ab" value.priv "cde"))`, `STORE 2 +FLAGS (Other)`, "UNSELECT",
		"SETACL " + realcyrus.Quote("INBOX"+sep+"gold") + ` anyone lr`,
		"CREATE " + realcyrus.Quote("INBOX"+sep+"empty"),
	} {
		_, err := c.Cmd("%s", command)
		require.NoError(t, err, command)
	}
	require.NoError(t, s.Stop())
	return s.Store
}

// mailboxes finds the mailboxes of a store.
func mailboxes(t *testing.T, s *realcyrus.Store) (all []Paths) {
	require.NoError(t, filepath.WalkDir(s.Dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Base(path) == IndexName {
			p := PathsIn(filepath.Dir(path))
			if rel, ok := strings.CutPrefix(path, filepath.Join(s.Dir, "meta")); ok {
				p.Archive = filepath.Join(s.Dir, "archive", filepath.Dir(rel), CacheName)
			}
			all = append(all, p)
		}
		return err
	}))
	return all
}

// sameBytes decodes and encodes every structure of a mailbox and compares it with what the files have.
func sameBytes(t *testing.T, p Paths) (records int) {
	b, err := os.ReadFile(p.Header)
	require.NoError(t, err)
	var h HeaderFile
	require.NoError(t, h.Decode(b))
	require.NoError(t, h.Validate())
	require.Equal(t, string(b), string(h.Append(nil)))
	fresh := h.values()
	require.Equal(t, string(b), string(fresh.Append(nil)), "spelled without remembering the file")

	b, err = os.ReadFile(p.Index)
	require.NoError(t, err)
	f, err := NewFile(bytes.NewReader(b), int64(len(b)), p.Index)
	require.NoError(t, err)
	require.NoError(t, f.Header.Validate())
	out := f.Header.Append(nil)
	files, err := OpenFiles(vfs.OS(), p)
	require.NoError(t, err)
	defer files.Close()
	for e, err := range f.Records(1) {
		require.NoError(t, err)
		require.NoError(t, e.Validate(f.Version()))
		out = e.Append(out, f.Version())
		no, found, err := f.Find(e.UID)
		require.NoError(t, err)
		require.Equal(t, e.No, no)
		require.Equal(t, e.Record, found)
		c, err := files.CacheRecord(&e.Record)
		require.NoError(t, err)
		require.NoError(t, c.Validate(e.CacheVersion))
		if f.Version().HasChecksums() {
			require.Equal(t, e.CacheCRC, c.Checksum())
		}
		section, err := DecodeSections(c.Item(CacheSection), e.CacheVersion)
		require.NoError(t, err)
		require.Equal(t, c.Item(CacheSection), section.Append(nil, e.CacheVersion))
		records++
	}
	require.Equal(t, b, out)
	return records
}

// mbexamined is what Cyrus's mbexamine prints of a record, written from ours.
func mbexamined(r *Record, c *CacheRecord, v Version) (lines []string) {
	var seen []string
	for i, name := range []string{"FLAG_ANSWERED", "FLAG_FLAGGED", "FLAG_DELETED", "FLAG_DRAFT", "FLAG_SEEN"} {
		if r.Flags&(1<<i) != 0 {
			seen = append(seen, name)
		}
	}
	lines = append(lines,
		fmt.Sprintf("> UID:%08d   INT_DATE:%d SENTDATE:%d SAVEDATE:%d SIZE:%-6d\n", r.UID, r.InternalDate.Unix(), r.SentDate.Unix(), r.SaveDate.Unix(), r.Size),
		fmt.Sprintf("      > HDRSIZE:%-6d LASTUPD :%d SYSFLAGS:%08X", r.HeaderSize, r.LastUpdated.Unix(), uint32(r.Flags&(1<<26-1))),
		fmt.Sprintf("> CACHEVER:%-2d", r.CacheVersion),
		fmt.Sprintf("> USERFLAGS: %08X %08X %08X %08X\n", r.UserFlags[3], r.UserFlags[2], r.UserFlags[1], r.UserFlags[0]))
	lines = append(lines, seen...)
	if v >= versionGUID {
		lines = append(lines, " GUID:"+r.GUID.String())
	}
	if v >= versionModSeq {
		lines = append(lines, fmt.Sprintf(" MODSEQ:%d", r.ModSeq))
	}
	if v >= versionCID && r.CID != 0 {
		lines = append(lines, fmt.Sprintf("THRID: %x", r.CID))
	}
	for name, item := range map[string]CacheItem{" Envel": CacheEnvelope, " BdyStr": CacheBodyStructure, "   Body": CacheBody, " CacHdr": CacheHeaders,
		"   From": CacheFrom, "     To": CacheTo, "     Cc": CacheCc, "    Bcc": CacheBcc, "  Subjct": CacheSubject} {
		b := c.Item(item)
		lines = append(lines, fmt.Sprintf("%s>{%d}%s\n", strings.TrimLeft(name, " "), len(b), b))
	}
	return lines
}

// sameAsExamined compares a mailbox with the output of mbexamine.
func sameAsExamined(t *testing.T, p Paths, output string) {
	files, err := OpenFiles(vfs.OS(), p)
	require.NoError(t, err)
	defer files.Close()
	h := &files.Index.Header
	for _, s := range []string{
		fmt.Sprintf("Generation Number: %d\n", h.Generation), fmt.Sprintf("Minor Version: %d\n", h.Version),
		fmt.Sprintf("Header Size: %d bytes  Record Size: %d bytes\n", h.StartOffset, h.RecordSize),
		fmt.Sprintf("Number of Messages: %d  Mailbox Size: %d bytes  Annotations Size: %d bytes\n", h.Normalized().Exists, h.QuotaUsed, h.QuotaAnnot),
		fmt.Sprintf("UIDValidity: %d  Last UID: %d\n", h.UIDValidity, h.LastUID),
		fmt.Sprintf("Deleted: %d  Answered: %d  Flagged: %d\n", h.Deleted, h.Answered, h.Flagged),
		fmt.Sprintf("Highest Mod Sequence: %d\n", h.Normalized().HighestModSeq),
		fmt.Sprintf("Last Append Date: (%d)", h.LastAppend.Unix()), "Unique ID: " + files.Header.UniqueID + "\n",
		"User Flags: " + strings.Join(files.Header.Flags, " "),
	} {
		require.Contains(t, output, s)
	}
	blocks := strings.Split(output, "> UID:")[1:]
	for e, err := range files.Index.Records(1) {
		require.NoError(t, err)
		if e.Expunged() {
			continue
		}
		require.NotEmpty(t, blocks, "mbexamine shows fewer records")
		block := "> UID:" + blocks[0]
		blocks = blocks[1:]
		c, err := files.CacheRecord(&e.Record)
		require.NoError(t, err)
		for _, s := range mbexamined(&e.Record, &c, h.Version) {
			require.Contains(t, block, s)
		}
	}
	require.Empty(t, blocks, "mbexamine shows more records")
}

// checkFiles is CheckFiles as a check for checkReal.
func checkFiles(t *testing.T, p Paths) func(CheckOptions) ([]finding.Finding, error) {
	return func(o CheckOptions) ([]finding.Finding, error) { return CheckFiles(t.Context(), vfs.OS(), p, o) }
}

// checkReal checks a mailbox of a real server; it must be without findings. What Cyrus 3.6 leaves when it converts a
// mailbox to a version that knows no expunged messages is allowed there, and it repacks no garbage away.
func checkReal(t *testing.T, check func(CheckOptions) ([]finding.Finding, error)) {
	found, err := check(CheckOptions{Owner: "u000", Contents: true})
	require.NoError(t, err)
	for _, f := range found {
		if f.Severity > finding.Info {
			require.Empty(t, found, "%s", f)
		}
	}
	for _, f := range found {
		require.Contains(t, []string{recordBits.code, cacheLeak.code}, f.Code)
	}
}

// TestRealStores reads the mailboxes of real servers in all versions that Cyrus 3.6 can write.
func TestRealStores(t *testing.T) {
	realcyrus.NeedServer(t)
	t.Parallel()
	legacy := realcyrus.LegacyLayout()
	for name, o := range map[string]realcyrus.Options{"uuid": {}, "legacy": legacy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			made := makeStore(t, o, 12)
			for _, v := range cyrusVersions {
				s := made
				if v != VersionWritten {
					s = made.Copy(t)
					s.Run(t, "reconstruct", "-r", "-V", fmt.Sprint(v), "user.u000")
				}
				records := 0
				for _, p := range mailboxes(t, s) {
					f, err := OpenFiles(vfs.OS(), p)
					require.NoError(t, err)
					if v == 10 && f.Index.Version() == VersionWritten {
						continue // Cyrus 3.6 fails to convert a mailbox with \Seen messages to this version.
					}
					require.Equal(t, v, f.Index.Version())
					require.NoError(t, f.Close())
					records += sameBytes(t, p)
					checkReal(t, checkFiles(t, p))
					var h HeaderFile
					b, err := os.ReadFile(p.Header)
					require.NoError(t, err)
					require.NoError(t, h.Decode(b))
					sameAsExamined(t, p, s.Run(t, "mbexamine", h.Name))
					if *rewrite && name == "uuid" && strings.HasSuffix(h.Name, ".gold") {
						keep(t, p, filepath.Join("testdata", "real", fmt.Sprintf("v%d", v)))
					}
				}
				if v != 10 {
					require.Equal(t, 28, records)
				}
				require.Positive(t, records)
			}
			readCounters(t, made, name == "legacy")
		})
	}
}

// readCounters reads the counters of a store.
func readCounters(t *testing.T, s *realcyrus.Store, wanted bool) {
	read := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(s.Dir, "conf"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "counters") {
			return err
		}
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		var c Counters
		require.NoError(t, c.Decode(b))
		require.NoError(t, c.Validate())
		require.Equal(t, b, c.Append(nil))
		read++
		if *rewrite && filepath.Base(path) == "u000.counters" {
			require.NoError(t, os.WriteFile(filepath.Join("testdata", "real", "counters"), b, 0o644))
		}
		return nil
	}))
	require.Equal(t, wanted, read > 0)
}

// keep copies the files of a mailbox.
func keep(t *testing.T, p Paths, dir string) {
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, path := range []string{p.Header, p.Index, p.Cache, p.Annotations} {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(path)), b, 0o644))
	}
}
