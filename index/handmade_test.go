package index

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// handmade reads a file of testdata/handmade: lines of offset, bytes and meaning, written by the pages of the formats and
// not by this package. They stand for what no program here can make.
func handmade(t *testing.T, name string) []byte {
	text, err := os.ReadFile(filepath.Join("testdata", "handmade", name+".txt"))
	require.NoError(t, err)
	var b []byte
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		require.Equal(t, fmt.Sprintf("%03x", len(b)), line[:3])
		b = append(b, unhex(t, line[5:49])...)
	}
	return b
}

// TestHandmadeIndex reads and writes an index of each version that Cyrus 3.6 does not know.
func TestHandmadeIndex(t *testing.T) {
	t.Parallel()
	var guid GUID
	for i := range guid {
		guid[i] = byte(0xa0 + i)
	}
	for v := Version(18); v <= 20; v++ {
		// Version 20 has nanoseconds.
		at := func(s uint32, nano Time) Time {
			if v < 20 {
				nano = 0
			}
			return Seconds(s) + nano
		}
		header := Header{
			Generation: 5, Version: v, StartOffset: 160, RecordSize: 112, NumRecords: 1, LastUID: 28, QuotaUsed: 163, UIDValidity: 44,
			Deleted: 1, Flagged: 1, Exists: 1, Options: OptionPOP3NewUIDL | OptionSharedSeen, LeakedCache: 64, HighestModSeq: 68, DeletedModSeq: 67,
			HeaderFileCRC: 0x96969696, SyncBasic: 0x64646464, RecentUID: 104, QuotaAnnot: 116, SyncAnnot: 12345678, Unseen: 1, CreatedModSeq: 3,
			QuotaDeleted: 140, QuotaExpunged: 148,
			LastAppend: at(1700000024, 24), POP3LastLogin: at(1700000040, 40), FirstExpunged: at(1700000088, 88), LastRepack: at(1700000092, 92),
			RecentTime: at(1700000108, 108), POP3ShowAfter: at(1700000112, 112), ChangesEpoch: at(1700000136, 136),
		}
		record := Record{
			UID: 28, InternalDate: at(1700000004, 4), SentDate: Seconds(1699999200), Size: 163, HeaderSize: 156, GMTime: at(1700000020, 20),
			CacheOffset: 0x100009abc, LastUpdated: at(1700000028, 28), Flags: FlagArchived | FlagSnoozed | FlagDeleted | FlagFlagged,
			SaveDate: at(1700000052, 52), CacheVersion: 11, GUID: guid, ModSeq: 66, CID: 0x8de8ce3750ea4e9f, CreatedModSeq: 65, CacheCRC: 0x70bcfbf5,
		}
		record.UserFlags.Set(0, true)
		record.UserFlags.Set(127, true)
		if v == 20 {
			header.StartOffset, header.RecordSize, record.BaseCID = 192, 144, 0x1122334455667788
		}
		b := handmade(t, fmt.Sprintf("index-%d", v))
		f, err := NewFile(bytes.NewReader(b), int64(len(b)), "x")
		require.NoError(t, err)
		require.Equal(t, header, f.Header, "version %d", v)
		require.NoError(t, f.Header.Validate())
		no, got, err := f.Find(28)
		require.NoError(t, err)
		require.EqualValues(t, 1, no)
		require.Equal(t, record, got, "version %d", v)
		require.NoError(t, got.Validate(v))
		require.Equal(t, b, record.Append(header.Append(nil), v))
		for i := range b {
			damaged := bytes.Clone(b)
			damaged[i] ^= 1
			f, err := NewFile(bytes.NewReader(damaged), int64(len(b)), "x")
			if err == nil {
				_, err = f.Record(1)
			}
			require.True(t, isFormat(err), "version %d, byte %d", v, i)
		}
	}
}

// TestHandmadeCounters reads and writes counters of every version that Cyrus 3.6 reads and does not write.
func TestHandmadeCounters(t *testing.T) {
	t.Parallel()
	for v := range uint32(9) {
		b := handmade(t, fmt.Sprintf("counters-%d", v))
		var c Counters
		require.NoError(t, c.Decode(b))
		require.NoError(t, c.Validate())
		require.EqualValues(t, 0x47, c.Generation)
		require.Equal(t, v, c.Version)
		require.EqualValues(t, 0x6b042197, c.UIDValidity)
		for i, value := range c.Values {
			want := ModSeq(0)
			if i < (len(b)-16)/8 {
				want = ModSeq(1000 - i)
			}
			require.Equal(t, want, value, "version %d, counter %d", v, i)
		}
		require.Equal(t, b, c.Append(nil))
	}
}

// TestHandmadeCache reads and writes a cache record of every layout but that of Cyrus 3.6.
func TestHandmadeCache(t *testing.T) {
	t.Parallel()
	sha := GUID(unhex(t, "2b1ef2b244c5557bea085f714c18f566ac2f9674"))
	for _, v := range []uint16{0, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14} {
		b := handmade(t, fmt.Sprintf("cache-%d", v))
		f, err := NewCacheFile(bytes.NewReader(b), int64(len(b)), "x")
		require.NoError(t, err)
		require.EqualValues(t, 5, f.Generation)
		raw, err := f.Read(cacheHeaderSize)
		require.NoError(t, err)
		require.Equal(t, b[cacheHeaderSize:], raw)
		var c CacheRecord
		require.NoError(t, c.Decode(raw))
		require.NoError(t, c.Validate(v))
		require.Equal(t, raw, c.Append(nil))
		require.Equal(t, `(NIL "no from no date" NIL NIL NIL NIL NIL NIL NIL NIL)`, string(c.Item(CacheEnvelope)))
		require.Equal(t, `"no from no date"`, string(c.Item(CacheSubject)))
		require.Empty(t, c.Item(CacheFrom))
		s, err := DecodeSections(c.Item(CacheSection), v)
		require.NoError(t, err)
		require.Equal(t, c.Item(CacheSection), s.Append(nil, v))
		require.Len(t, s.Parts, 2)
		require.Empty(t, s.Parts[1].Inside.Parts)
		for i, p := range s.Parts {
			require.Equal(t, []uint32{0, 28, 28, 19}, []uint32{p.HeaderOffset, p.HeaderSize, p.ContentOffset, p.ContentSize})
			require.Equal(t, v >= 5, p.GUID == sha)
			require.Equal(t, v >= 8, p.DecodedSize == 19)
			require.Equal(t, v >= 9, p.Lines == 1)
			require.Equal(t, i == 1 && v >= 4, p.Charset() == "us-ascii", "version %d", v)
			require.Equal(t, i == 0 && v < 4, p.CharsetNumber == 0xffff)
			require.Equal(t, i == 0 && v >= 4, p.Encoding == EncodingNone)
		}
	}
}

// TestHandmadeHeader reads and writes headers in the text form of Cyrus up to 3.4.
func TestHandmadeHeader(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]HeaderFile{
		"header-text": {QuotaRoot: "user.alice", UniqueID: "4vyaor0ube104vi1ce8xv4x1", Flags: []string{"$Label1", "", "Junk"},
			ACL: []ACLEntry{{"alice", "lrswipkxtecdan"}, {"anyone", "lr"}}},
		"header-old": {QuotaRoot: "user.alice", ACL: []ACLEntry{{"alice", "lrs"}}},
	} {
		b := handmade(t, name)
		var h HeaderFile
		require.NoError(t, h.Decode(b))
		require.Equal(t, want, h.values(), name)
		require.Equal(t, b, h.Append(nil))
		if h.UniqueID != "" {
			written := h.values()
			require.Equal(t, string(b), string(written.Append(nil)), "spelled without remembering the file")
		}
	}
}
