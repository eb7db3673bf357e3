package message

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/message/corpus"
)

var rewrite = flag.Bool("rewrite", false, "record what the real Cyrus derives from the corpus")

// recordedGenerated is how many generated messages are recorded.
const recordedGenerated = 300

// realRecord is what the real Cyrus derived from a message.
type realRecord struct {
	internal, sent, gm uint32
	size, headerSize   uint32
	guid               [20]byte
	version            uint16
	cache              []byte
	examined           string // what mbexamine says of the mailbox
}

// internalDate is the internal date that all messages of a test get.
const internalDate = 1_700_000_123

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

// checksumsFile has a line for each message of the corpus: its name, its checksum, what Cyrus's index has of it, and the
// checksum of Cyrus's cache record.
const checksumsFile = "testdata/cyrus.txt"

// recordsFile shows some records in full.
const recordsFile = "testdata/records.txt"

// shown are the messages of recordsFile.
var shown = map[string]bool{
	"whole-11": true, "whole-25": true, "whole-46": true, "date-1": true, "from-12": true, "from-16": true, "from-22": true, "cc-30": true, "subject-40": true,
	"name-15": true, "charset-3": true, "type-20": true, "param-50": true, "param-100": true, "disposition-4": true, "language-8": true, "encoding-6": true,
	"body-3": true, "body-32": true, "header-20": true, "header-66": true, "structure-0": true, "structure-11": true, "structure-24": true, "structure-26": true,
	"generated-3": true, "generated-7": true, "generated-42": true,
}

// checksums is the line of a message.
func checksums(s corpus.Sample, r realRecord) string {
	return fmt.Sprintf("%s %08x %d %d %d %08x\n", s.Name, crc32.ChecksumIEEE([]byte(s.Text)), r.sent, r.gm, r.headerSize, CacheCRC(r.cache))
}

// describe shows a message and its records.
func describe(s corpus.Sample, r realRecord) string {
	var b strings.Builder
	fmt.Fprintf(&b, "== %s\n", s.Name)
	for line := range strings.Lines(s.Text) {
		fmt.Fprintf(&b, "| %q\n", line)
	}
	fmt.Fprintf(&b, "guid %x\nsize %d, header %d, sentdate %d, gmtime %d\n", r.guid, r.size, r.headerSize, r.sent, r.gm)
	for i, item := range splitItems(r.cache) {
		if itemNames[i] != "SECTION" {
			fmt.Fprintf(&b, "%s %q\n", itemNames[i], item)
			continue
		}
		fmt.Fprintf(&b, "SECTION\n")
		for ; len(item) > 0; item = item[min(20, len(item)):] {
			fmt.Fprintf(&b, "   % x\n", item[:min(20, len(item))])
		}
	}
	return b.String() + "\n"
}

// record writes the files of the recorded tests.
func record(t *testing.T, list []corpus.Sample, real []realRecord) {
	var sums, records strings.Builder
	for i, s := range list {
		if _, reason := exception(s); reason != "" {
			continue
		}
		sums.WriteString(checksums(s, real[i]))
		if shown[s.Name] {
			records.WriteString(describe(s, real[i]))
		}
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(recordsFile), 0o755))
	require.NoError(t, os.WriteFile(checksumsFile, []byte(sums.String()), 0o644))
	require.NoError(t, os.WriteFile(recordsFile, []byte(records.String()), 0o644))
}

// ours is what we derive, in the form of what Cyrus derives.
func ours(t *testing.T, p *Parser, text string) realRecord {
	m, err := p.Parse(strings.NewReader(text))
	require.NoError(t, err)
	sent, gm := m.Dates(internalDate, time.UTC)
	return realRecord{sent: uint32(sent), gm: uint32(gm), size: uint32(m.Size), headerSize: uint32(m.HeaderSize), guid: m.GUID, cache: m.AppendCache(nil)}
}

// TestAsRecorded compares the corpus with what the real Cyrus derived from it when it was recorded.
func TestAsRecorded(t *testing.T) {
	sums, err := os.ReadFile(checksumsFile)
	require.NoError(t, err)
	want := map[string]string{}
	for line := range strings.Lines(string(sums)) {
		name, _, _ := strings.Cut(line, " ")
		want[name] = line
	}
	records, err := os.ReadFile(recordsFile)
	require.NoError(t, err)
	var got strings.Builder
	p := &Parser{}
	compared := 0
	for _, s := range corpus.Messages(recordedGenerated) {
		line := want[s.Name]
		if line == "" {
			_, reason := exception(s)
			require.NotEmpty(t, reason, "%s is not recorded", s.Name)
			continue
		}
		r := ours(t, p, s.Text)
		require.Equal(t, line, checksums(s, r), "%s: %.300q", s.Name, s.Text)
		compared++
		if shown[s.Name] {
			got.WriteString(describe(s, r))
		}
	}
	require.Equal(t, len(want), compared)
	require.Equal(t, string(records), got.String())
}
