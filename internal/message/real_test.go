package message

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailspine/mailspine/internal/message/corpus"
	"github.com/mailspine/mailspine/internal/realcyrus"
)

// realRecords lets Cyrus's reconstruct find the messages in a mailbox, and reads what it wrote.
func realRecords(t *testing.T, list []corpus.Sample, zone string) []realRecord {
	t.Helper()
	realcyrus.NeedServer(t)
	server := realcyrus.StartServer(t, realcyrus.Options{})
	client := server.Dial(t, realcyrus.AdminUser)
	if _, err := client.Cmd("CREATE user.mime"); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(server.Run(t, "mbpath", "user.mime"))
	for i, s := range list {
		name := filepath.Join(dir, fmt.Sprintf("%d.", i+1))
		if err := os.WriteFile(name, []byte(s.Text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, time.Time{}, time.Unix(internalDate, 0)); err != nil {
			t.Fatal(err)
		}
	}
	realcyrus.Give(t, dir)
	start := time.Now()
	cmd := server.Command(t, "reconstruct", "user.mime")
	cmd.Env = append(cmd.Env, "TZ="+zone)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("reconstruct: %v\n%s", err, out)
	}
	t.Logf("reconstruct of %d messages: %v", len(list), time.Since(start))
	records := readRecords(t, dir, len(list))
	if len(list) < 1000 {
		examined := server.Run(t, "mbexamine", "user.mime")
		for i := range records {
			records[i].examined = examined
		}
	}
	return records
}

// readRecords reads the records of version 17 of a mailbox.
func readRecords(t *testing.T, dir string, count int) []realRecord {
	t.Helper()
	index, err := os.ReadFile(filepath.Join(dir, "cyrus.index"))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.ReadFile(filepath.Join(dir, "cyrus.cache"))
	if err != nil {
		t.Fatal(err)
	}
	word := func(at int) uint32 { return binary.BigEndian.Uint32(index[at:]) }
	records := make([]realRecord, count)
	for i := range int(word(20)) {
		at := int(word(12)) + i*int(word(16))
		uid := int(word(at))
		if uid < 1 || uid > count {
			t.Fatalf("record %d has uid %d", i, uid)
		}
		r := &records[uid-1]
		*r = realRecord{internal: word(at + 4), sent: word(at + 8), size: word(at + 12), headerSize: word(at + 16), gm: word(at + 20),
			version: uint16(word(at + 56)), guid: [20]byte(index[at+60:])}
		from := int(word(at + 24))
		to := from
		for range 10 {
			n := int(binary.BigEndian.Uint32(cache[to:]))
			to += 4 + (n+3)/4*4
		}
		r.cache = cache[from:to]
		if CacheCRC(r.cache) != word(at+104) {
			t.Errorf("uid %d: cache_crc differs", uid)
		}
	}
	return records
}

// exceptions are messages from which we derive something else than Cyrus does, by a part of their text, and why.
var exceptions = map[string]string{
	dateException:                       "Cyrus looks up a byte of a date that is not ASCII outside of its table, and what it finds depends on the build",
	"=?cp037?":                          "EBCDIC is not decoded but taken for ASCII",
	"hz-gb-2312?q?~x":                   "x/text takes both bytes of a broken escape of HZ for one error, ICU the first alone",
	"iso-2022-jp?q?=1B$BF|=1B(EF|=1B(B": "where a broken escape between characters of two bytes ends, ICU alone knows",
}

const dateException = "+0100\xdd0"

// damagedExceptions are the same reasons in messages that were damaged at random.
var damagedExceptions = map[string]string{"cp037?": "=?cp037?", "hz-gb-2312?": "hz-gb-2312?q?~x", "iso-2022-jp?": "iso-2022-jp?q?=1B$BF|=1B(EF|=1B(B"}

// exception returns why a message may differ.
func exception(s corpus.Sample) (key, reason string) {
	for key, reason := range exceptions {
		if strings.Contains(s.Text, key) {
			return key, reason
		}
	}
	if strings.HasPrefix(s.Name, "generated") {
		for part, key := range damagedExceptions {
			if strings.Contains(s.Text, part) {
				return key, exceptions[key]
			}
		}
	}
	m, err := (&Parser{}).Parse(strings.NewReader(s.Text))
	switch {
	case err != nil:
	case m.Limited != "":
		return "limit", "it exceeds a limit: " + m.Limited
	case !ascii(m.Root.Date):
		return dateException, exceptions[dateException]
	}
	return "", ""
}

// generatedCount is how many messages are generated besides those made by hand.
func generatedCount() int {
	if os.Getenv("MAILSPINE_CAMPAIGN") != "" && !*rewrite {
		return 30_000
	}
	return recordedGenerated
}

// TestAsCyrus compares all records of the corpus with those of the real Cyrus. With -rewrite it also records them, for
// the tests that go without Cyrus.
func TestAsCyrus(t *testing.T) {
	list := corpus.Messages(generatedCount())
	real := realRecords(t, list, "UTC")
	p, differing := &Parser{}, map[string]int{}
	for i, s := range list {
		if real[i].cache == nil {
			t.Errorf("%s: Cyrus has no record", s.Name)
			continue
		}
		wrong := compare(p, s.Text, real[i])
		if wrong == "" {
			continue
		}
		key, reason := exception(s)
		if m, err := p.Parse(strings.NewReader(s.Text)); err != nil || m.Limited == "" && !m.Unsure() && key != dateException {
			t.Errorf("%s: it differs, and Unsure does not tell", s.Name)
		}
		if differing[key]++; reason == "" && differing[key] < 20 {
			t.Errorf("%s: %.300q\n  %s", s.Name, s.Text, wrong)
		}
	}
	for key := range exceptions {
		if differing[key] == 0 {
			t.Errorf("the exception for %q is not needed any more", key)
		}
	}
	t.Logf("%d messages, differing by reason: %v", len(list), differing)
	if *rewrite && !t.Failed() {
		record(t, list, real)
	}
}

// TestFieldsAsCyrus compares index records with what mbexamine tells of them, in another time zone.
func TestFieldsAsCyrus(t *testing.T) {
	const zoneName = "America/New_York"
	zone, err := time.LoadLocation(zoneName)
	if err != nil {
		t.Skip(err)
	}
	var list []corpus.Sample
	for i, text := range corpus.DateMessages() {
		list = append(list, corpus.Sample{Name: fmt.Sprint(i), Text: text})
	}
	for i, r := range realRecords(t, list, zoneName) {
		m, err := (&Parser{}).Parse(strings.NewReader(list[i].Text))
		if err != nil {
			t.Fatal(err)
		}
		if _, reason := exception(list[i]); reason != "" {
			continue
		}
		sent, gm := m.Dates(internalDate, zone)
		if uint32(sent) != r.sent || uint32(gm) != r.gm {
			t.Errorf("%q: got sentdate %d and gmtime %d, Cyrus has %d and %d", list[i].Text, sent, gm, r.sent, r.gm)
		}
		want := fmt.Sprintf("UID:%08d   INT_DATE:%d SENTDATE:%d ", i+1, internalDate, uint32(sent))
		more := []string{fmt.Sprintf(" SIZE:%-6d", m.Size), fmt.Sprintf("HDRSIZE:%-6d ", m.HeaderSize), fmt.Sprintf("CACHEVER:%d GUID:%x ", CacheVersion, m.GUID)}
		_, told, found := strings.Cut(r.examined, want)
		if !found {
			t.Errorf("mbexamine does not say %q", want)
			continue
		}
		told, _, _ = strings.Cut(told, "Envel>")
		for _, want := range more {
			if !strings.Contains(told, want) {
				t.Errorf("mbexamine does not say %q, but %s", want, told)
			}
		}
	}
}
