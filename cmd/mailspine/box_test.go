package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
)

// runBox runs a command that has to end well, as the user that runs the test.
func runBox(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := boxCode(t, args...)
	require.Zero(t, code, "%v: %s", args, stderr)
	require.Empty(t, stderr)
	return stdout
}

func boxCode(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	if os.Geteuid() == 0 && !strings.Contains(strings.Join(args, " "), "message parse") {
		args = append(args, "--as", "root")
	}
	return cli(t, nil, args...)
}

// jsonList reads the output of a command with --json.
func jsonList[T any](t *testing.T, text string) (list []T) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &list), text)
	return list
}

// copyMailbox copies the files of a recorded mailbox to a directory that may be damaged.
func copyMailbox(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(filepath.Join("../../index/testdata/real", version))))
	return dir
}

// TestMailboxDirectory reads recorded mailboxes of the first and the last version by their directory.
func TestMailboxDirectory(t *testing.T) {
	for _, version := range []string{"v6", "v17"} {
		t.Run(version, func(t *testing.T) {
			dir := copyMailbox(t, version)
			require.Contains(t, runBox(t, "index", "show", dir), "version "+version[1:])
			shown := runBox(t, "index", "show", dir)
			require.Equal(t, version == "v17", strings.Contains(shown, "unseen"), "version 6 does not count them")
			require.NotContains(t, shown, "of these", "which is counted from version 18 on")
			require.Equal(t, version == "v17", strings.Contains(runBox(t, "index", "show", dir, "--json"), `"unseen"`))
			require.Contains(t, runBox(t, "header", "show", dir), "u000 lrswipkxtecdan")
			stdout, _, code := boxCode(t, "index", "check", dir)
			require.Equal(t, exitDamage, code)
			require.Contains(t, stdout, "3 damaged places, 1 warning") // the recorded mailbox has no message files
			require.Contains(t, runBox(t, "cache", "check", dir), "fine")
			require.Equal(t, 4, strings.Count(runBox(t, "index", "records", dir), "\n"))
			require.Equal(t, 3, strings.Count(runBox(t, "message", "list", dir), "\n"))
			records := jsonList[indexRecordJSON](t, runBox(t, "index", "records", dir, "2", "--json"))
			require.Len(t, records, 1)
			require.ElementsMatch(t, []string{`\Flagged`, "Junk", "Other"}, records[0].Flags)
			require.Contains(t, runBox(t, "cache", "show", dir, "1"), `"one"`)
			require.Contains(t, runBox(t, "index", "dump", dir), "record 4, UID 4")
		})
	}
}

// TestMailboxDamaged has every command look at a mailbox that is damaged, missing, or named in a wrong way.
func TestMailboxDamaged(t *testing.T) {
	dir := copyMailbox(t, "v17")
	path := filepath.Join(dir, "cyrus.index")
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	write := func(b []byte) {
		require.NoError(t, os.WriteFile(path, b, 0o600))
	}
	for _, c := range []struct {
		name   string
		args   string
		damage func(b []byte) []byte
		code   int
		out    string
	}{
		{"no such UID", "index records DIR 99", nil, exitNo, "UID 99"},
		{"not a UID", "index records DIR x", nil, exitUsage, "not a UID"},
		{"no such directory", "index show DIR/none", nil, exitFailed, "no such file"},
		{"a list without a store", "index show DIR --list x", nil, exitUsage, "--list goes with -C"},
		{"no message file", "message cat DIR 1", nil, exitFailed, "no such file"},
		{"empty", "index show DIR", func([]byte) []byte { return nil }, exitDamage, "index check"},
		{"empty, dumped", "index dump DIR", func([]byte) []byte { return nil }, exitDamage, "!!"},
		{"a record's bit", "index records DIR", func(b []byte) []byte { b[len(b)-30] ^= 1; return b }, exitDamage, "1 record cannot be read"},
		{"a record's bit, dumped", "index dump DIR", func(b []byte) []byte { b[len(b)-30] ^= 1; return b }, exitDamage, "record 4, UID 4, 112 bytes  !!"},
		{"a record's bit, checked", "index check DIR", func(b []byte) []byte { b[len(b)-30] ^= 1; return b }, exitDamage, "record-checksum"},
		{"cut off", "index dump DIR", func(b []byte) []byte { return b[:len(b)-7] }, exitDamage, "records, cut off, 105 bytes  !!"},
		{"cut off between records", "index dump DIR", func(b []byte) []byte { return b[:len(b)-112] }, exitDamage, "records, cut off, 0 bytes  !!"},
		{"cut off, its records", "index records DIR", func(b []byte) []byte { return b[:len(b)-7] }, exitDamage, "3\t1500000002"},
		{"cut off, shown", "index show DIR --json", func(b []byte) []byte { return b[:len(b)-7] }, exitDamage, `"damaged"`},
		{"cut off, its messages", "message list DIR", func(b []byte) []byte { return b[:len(b)-112*3] }, exitDamage, "one"},
		{"cut off, its cache shown", "cache show DIR 1", func(b []byte) []byte { return b[:len(b)-7] }, exitDamage, `"one"`},
		{"cut off, a UID of it", "cache show DIR 4", func(b []byte) []byte { return b[:len(b)-7] }, exitDamage, "UID 4"},
		{"a header's bit, shown", "index show DIR", func(b []byte) []byte { b[30] ^= 1; return b }, exitDamage, "!! damaged"},
		{"a header's bit, its messages", "message list DIR --json", func(b []byte) []byte { b[30] ^= 1; return b }, exitDamage, `"subject":"one"`},
		{"a header's bit, its cache", "cache show DIR", func(b []byte) []byte { b[30] ^= 1; return b }, exitDamage, `"one"`},
		{"cut off, its cache", "cache check DIR", func(b []byte) []byte { return b[:len(b)-7] }, exitDamage, "index-truncated"},
		{"no index, its cache", "cache check DIR", func(b []byte) []byte { return nil }, exitDamage, "index-short"},
		{"more than it should be", "index dump DIR", func(b []byte) []byte { return append(b, "more"...) }, exitOK, "bytes after the last record"},
		{"a header's bit", "index dump DIR", func(b []byte) []byte { b[30] ^= 1; return b }, exitDamage, "header, 160 bytes  !!"},
		{"an unknown version", "index dump DIR", func(b []byte) []byte { b[11] = 99; return b }, exitDamage, "!!"},
		{"no cache", "cache check DIR", func(b []byte) []byte { require.NoError(t, os.Remove(filepath.Join(dir, "cyrus.cache"))); return b }, exitNo, "cache-missing"},
		{"no cache, shown", "cache show DIR", nil, exitNo, "no cache record"},
		{"no header file", "index records DIR", func(b []byte) []byte { require.NoError(t, os.Remove(filepath.Join(dir, "cyrus.header"))); return b }, exitDamage, "flag 2"},
		{"no header file, shown", "index show DIR", nil, exitDamage, "!! damaged"},
		{"no header file, its messages", "message list DIR", nil, exitDamage, "flag 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(whole)
			if c.damage != nil {
				write(c.damage(slices.Clone(whole)))
			}
			stdout, stderr, code := boxCode(t, strings.Fields(strings.ReplaceAll(c.args, "DIR", dir))...)
			require.Equal(t, c.code, code, "%s%s", stdout, stderr)
			require.Contains(t, stdout+stderr, c.out)
		})
	}
}

// TestHeaderFileInDoubt: names of flags and rights out of a cyrus.header that is not the one whose checksum the index has are
// printed, and not passed off as good.
func TestHeaderFileInDoubt(t *testing.T) {
	dir := copyMailbox(t, "v17")
	path := filepath.Join(dir, "cyrus.header")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(b), "Junk", "Junj", 1)), 0o600))
	for args, code := range map[string]int{
		"index show": exitNo, "index records": exitNo, "message list": exitNo, "header show": exitNo, "index check": exitDamage, // no messages
		"cache show": exitOK, "cache check": exitOK,
	} {
		stdout, stderr, got := boxCode(t, append(strings.Fields(args), dir)...)
		require.Equal(t, code, got, args)
		if code == exitNo {
			require.Contains(t, stdout, "Junj", args)
			require.Contains(t, stderr, "not the one that cyrus.index knows", args)
			jsonText, _, got := boxCode(t, append(strings.Fields(args), dir, "--json")...)
			require.Equal(t, exitNo, got)
			require.True(t, json.Valid([]byte(jsonText)), jsonText)
		}
	}
	stdout, stderr, code := boxCode(t, "index", "records", dir, "99", "1")
	require.Equal(t, exitNo, code)
	require.Contains(t, stderr, "UID 99")
	require.Contains(t, stderr, "not the one that cyrus.index knows", stdout)
}

// TestCatVerifies: a message file that is not the message whose id the index has is printed, and said to be damaged; one that
// is lost does not hide the others.
func TestCatVerifies(t *testing.T) {
	dir := copyMailbox(t, "v17")
	records := jsonList[indexRecordJSON](t, runBox(t, "index", "records", dir, "--json"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "2."), []byte("Subject: two\r\n\r\nother\r\n"), 0o600))
	stdout, stderr, code := boxCode(t, "message", "cat", dir, "1", "2")
	require.Equal(t, exitDamage, code)
	require.Equal(t, "Subject: two\r\n\r\nother\r\n", stdout)
	require.Contains(t, stderr, "1.: no such file")
	require.Contains(t, stderr, records[1].GUID+" in the index")
	for i, text := range recordedMail {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.", i+1)), []byte(text), 0o600))
	}
	require.Equal(t, strings.Join(recordedMail, ""), runBox(t, "message", "cat", dir, "1", "2", "3", "4"))
}

// examined finds in the output of mbexamine what it says of each message.
var examined = regexp.MustCompile(`UID:(\d+)\s+INT_DATE:(\d+)\s+SENTDATE:(\d+)\s+SAVEDATE:(\d+)\s+SIZE:(\d+)\s+> HDRSIZE:(\d+)\s+LASTUPD :(\d+)\s+SYSFLAGS:\w+\s+` +
	`> CACHEVER:(\d+) GUID:(\w+) MODSEQ:(\d+)`)

// TestRecordsAreThoseOfMbexamine compares, on a live store, our commands with Cyrus's mbexamine and with each other.
func TestRecordsAreThoseOfMbexamine(t *testing.T) {
	realcyrus.EachLayout(t, func(t *testing.T, _ string, o realcyrus.Options) {
		s := realcyrus.StartServer(t, o)
		for _, box := range s.Fill(t, 1, 2, 12, 5).Mailboxes {
			theirs := s.Try(t, "mbexamine", nil, box).Stdout
			records := jsonList[indexRecordJSON](t, runBox(t, "index", "records", "-C", s.Conf, box, "--json"))
			matches := examined.FindAllStringSubmatch(theirs, -1)
			var live []indexRecordJSON
			for _, r := range records {
				if !r.Expunged {
					live = append(live, r)
				}
			}
			require.Len(t, matches, len(live))
			for i, m := range matches {
				r := live[i]
				require.Equal(t, strings.Join(m[1:], " "), fmt.Sprintf("%08d %d %d %d %d %d %d %d %s %d", r.UID, r.InternalDate, r.SentDate, r.SaveDate,
					r.Size, r.HeaderSize, r.LastUpdated, r.CacheVersion, r.GUID, r.ModSeq))
			}
			require.Contains(t, runBox(t, "index", "check", "--contents", "-C", s.Conf, box), "fine")
			messagesAgree(t, s, box, theirs)
		}
	})
}

// messagesAgree compares message list, cat and parse with index records, cache show, and what Cyrus says.
func messagesAgree(t *testing.T, s *realcyrus.Server, box, theirs string) {
	list := jsonList[listedMessageJSON](t, runBox(t, "message", "list", "-C", s.Conf, box, "--json"))
	info := jsonList[mailboxJSON](t, runBox(t, "mailbox", "info", "-C", s.Conf, box, "--json"))
	require.Empty(t, info[0].NoStatus)
	require.Len(t, list, int(info[0].Status.Messages))
	for i, m := range list {
		require.Equal(t, i+1, m.Sequence)
		file, err := os.ReadFile(m.Path)
		require.NoError(t, err)
		require.Equal(t, string(file), runBox(t, "message", "cat", "-C", s.Conf, box, fmt.Sprint(m.UID)))
		var parsed map[string]any
		require.NoError(t, json.Unmarshal([]byte(runBox(t, "message", "parse", m.Path, "--json")), &parsed))
		require.Equal(t, m.GUID, parsed["guid"])
		require.EqualValues(t, m.CacheCRC, parsed["cache_crc"])
		require.EqualValues(t, m.GMTime, parsed["gmtime"])
		cached := jsonList[map[string]any](t, runBox(t, "cache", "show", "-C", s.Conf, box, fmt.Sprint(m.UID), "--json"))
		for _, item := range []string{"envelope", "bodystructure", "body", "section", "headers", "from", "subject"} {
			require.Equal(t, parsed[item], cached[0][item], item)
		}
		require.Contains(t, theirs, cached[0]["envelope"])
		require.Contains(t, theirs, cached[0]["bodystructure"])
	}
}

// TestParseIsLinear: what parse prints grows with the message, however deep that nests, and a limit that it exceeds is told.
func TestParseIsLinear(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mail.eml")
	nested := func(n int) string { return strings.Repeat("Content-Type: message/rfc822\r\n\r\n", n) + "\r\nbody\r\n" }
	multiparts := func(n int) string {
		var b strings.Builder
		for i := range min(n, 900) {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=a%d\r\n\r\n--a%d\r\n", i, i)
		}
		return b.String() + strings.Repeat("Content-Type: message/rfc822\r\n\r\n", n)
	}
	digest := func(n int) string {
		return "Content-Type: multipart/digest; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nSubject: x\r\n\r\n\r\n", n)
	}
	for name, make := range map[string]func(int) string{"messages": nested, "multiparts": multiparts, "digest": digest} {
		for _, format := range []string{"--output=text", "--json"} {
			sizes := map[int]int{}
			for _, n := range []int{5_000, 10_000} {
				text := make(n)
				require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
				stdout := runBox(t, "message", "parse", path, format)
				require.Less(t, len(stdout), 60*len(text), "%s %s", name, format)
				sizes[n] = len(stdout)
				if format == "--json" {
					require.True(t, json.Valid([]byte(stdout)))
				}
			}
			require.Less(t, sizes[10_000], 5*sizes[5_000]/2, "%s %s", name, format)
		}
	}
	require.NoError(t, os.WriteFile(path, []byte(nested(10_000)), 0o600))
	require.Contains(t, runBox(t, "message", "parse", path), "limited        nested messages")
}

// TestParseEmpty: of a message without a byte there is its id, and the answer to whether there are records is no.
func TestParseEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mail.eml")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	stdout, stderr, code := boxCode(t, "message", "parse", path)
	require.Equal(t, exitNo, code)
	require.Empty(t, stderr)
	require.Contains(t, stdout, "da39a3ee5e6b4b0d3255bfef95601890afd80709")
	require.Contains(t, stdout, "empty")
	stdout, _, code = boxCode(t, "message", "parse", path, "--json")
	require.Equal(t, exitNo, code)
	require.JSONEq(t, `{"guid":"da39a3ee5e6b4b0d3255bfef95601890afd80709","size":0,"header_size":0,"limited":"the message is empty: Cyrus refuses to parse it"}`, stdout)
}
