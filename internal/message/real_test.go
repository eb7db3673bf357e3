package message

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailspine/mailspine/internal/realcyrus"
)

// realRecord is what the real Cyrus derived from a message.
type realRecord struct {
	internal, sent, gm uint32
	size, headerSize   uint32
	guid               [20]byte
	version            uint16
	cache              []byte
}

// internalDate is the internal date that all messages of a test get.
const internalDate = 1_700_000_123

// realRecords lets Cyrus's reconstruct find the messages in a mailbox, and reads what it wrote.
func realRecords(t *testing.T, list []sample) []realRecord {
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
		if err := os.WriteFile(name, []byte(s.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, time.Time{}, time.Unix(internalDate, 0)); err != nil {
			t.Fatal(err)
		}
	}
	realcyrus.Give(t, dir)
	start := time.Now()
	server.Run(t, "reconstruct", "user.mime")
	t.Logf("reconstruct of %d messages: %v", len(list), time.Since(start))
	return readRecords(t, dir, len(list))
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

var itemNames = [...]string{"ENVELOPE", "BODYSTRUCTURE", "BODY", "SECTION", "HEADERS", "FROM", "TO", "CC", "BCC", "SUBJECT"}

// splitItems splits a cache record.
func splitItems(record []byte) (items [10][]byte) {
	for i := range items {
		n := int(binary.BigEndian.Uint32(record))
		items[i] = record[4 : 4+n]
		record = record[4+(n+3)/4*4:]
	}
	return items
}

// compare returns how a message differs from what Cyrus derived from it.
func compare(p *Parser, text string, want realRecord) string {
	m, err := p.Parse(strings.NewReader(text))
	if err != nil {
		return err.Error()
	}
	var wrong []string
	differ := func(what string, got, want any) {
		if got != want {
			wrong = append(wrong, fmt.Sprintf("%s: got %v, Cyrus has %v", what, got, want))
		}
	}
	sent, gm := m.Dates(internalDate, time.UTC)
	differ("sentdate", uint32(sent), want.sent)
	differ("gmtime", uint32(gm), want.gm)
	differ("size", uint32(m.Size), want.size)
	differ("header size", uint32(m.HeaderSize), want.headerSize)
	differ("guid", hex.EncodeToString(m.GUID[:]), hex.EncodeToString(want.guid[:]))
	record := m.AppendCache(nil)
	if !bytes.Equal(record, want.cache) {
		got, real := splitItems(record), splitItems(want.cache)
		for i, name := range itemNames {
			if !bytes.Equal(got[i], real[i]) {
				from := 0
				for from < min(len(got[i]), len(real[i])) && got[i][from] == real[i][from] {
					from++
				}
				differ(name, fmt.Sprintf("(at %d) %.200q", from, got[i][max(0, from-20):]), fmt.Sprintf("%.200q", real[i][min(len(real[i]), max(0, from-20)):]))
			}
		}
	}
	return strings.Join(wrong, "\n  ")
}

// TestAsCyrus compares all records of the corpus with those of the real Cyrus.
func TestAsCyrus(t *testing.T) {
	list := corpus(300)
	real := realRecords(t, list)
	p := &Parser{}
	failed := 0
	for i, s := range list {
		if real[i].cache == nil {
			t.Errorf("%s: Cyrus has no record", s.name)
			continue
		}
		if wrong := compare(p, s.text, real[i]); wrong != "" {
			failed++
			if failed < 60 {
				t.Errorf("%s: %.300q\n  %s", s.name, s.text, wrong)
			}
		}
	}
	t.Logf("%d of %d messages differ", failed, len(list))
}
