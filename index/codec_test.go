package index

import (
	"bytes"
	"encoding/hex"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// unhex reads a dump.
func unhex(t *testing.T, dump string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(dump), ""))
	require.NoError(t, err)
	return b
}

// expungedRecord is of a real mailbox with conversations and an archive.
const expungedRecord = `00000001 5e0c7040 5e0be100 000000a3 0000009c 5e0c6230 00000004 6b042195 a0000014 00000000 00000000 00000000
	00000000 6b042194 0000000b 1c1b17d6 5b83458d c7f2aac6 63de0f0a 341ca032 00000000 0000001a 8de8ce37 50ea4e9f
	00000000 00000003 70bcfbf5 4642dec8`

func TestRecord(t *testing.T) {
	t.Parallel()
	b := unhex(t, expungedRecord)
	var r Record
	require.NoError(t, r.Decode(17, b))
	require.NoError(t, r.Validate(17))
	want := Record{UID: 1, InternalDate: Seconds(0x5e0c7040), SentDate: Seconds(0x5e0be100), GMTime: Seconds(0x5e0c6230), LastUpdated: Seconds(0x6b042195),
		SaveDate: Seconds(0x6b042194), Size: 163, HeaderSize: 156, CacheOffset: 4, CacheVersion: 11, CacheCRC: 0x70bcfbf5,
		Flags: FlagExpunged | FlagArchived | FlagSeen | FlagDeleted, ModSeq: 26, CreatedModSeq: 3, CID: 0x8de8ce3750ea4e9f}
	copy(want.GUID[:], unhex(t, "1c1b17d65b83458dc7f2aac663de0f0a341ca032"))
	require.Equal(t, want, r)
	require.Equal(t, b, r.Append(nil, 17))
	require.Equal(t, `\Deleted \Seen archived expunged`, r.Flags.String())
	require.Equal(t, "2020-01-01 10:11:12 +0000 UTC", r.InternalDate.Time().String())

	// Bits 32 to 47 of the offset stand with the cache version.
	r.CacheOffset = 0x123456789abc
	b = r.Append(nil, 17)
	require.NoError(t, r.Decode(17, b))
	require.Equal(t, Offset(0x123456789abc), r.CacheOffset)
	require.EqualValues(t, 11, r.CacheVersion)

	for _, bad := range []func(r *Record){
		func(r *Record) { r.InternalDate++ }, func(r *Record) { r.SaveDate = Time(math.MaxUint64) }, func(r *Record) { r.Size = 1 << 32 },
		func(r *Record) { r.CacheOffset = 1 << 48 },
	} {
		changed := r
		bad(&changed)
		require.ErrorIs(t, changed.Validate(17), ErrValue)
		if changed.CacheOffset < 1<<48 {
			require.NoError(t, changed.Validate(20))
		}
	}
	require.ErrorIs(t, r.Decode(11, b), ErrVersion)
	require.ErrorIs(t, r.Decode(17, b[:111]), ErrDamaged)
}

// TestSyncChecksums computes what a header of a real mailbox of one message says.
func TestSyncChecksums(t *testing.T) {
	t.Parallel()
	header := unhex(t, `00000000 00000000 00000011 000000a0 00000070 00000001 6b042171 00000001 00000000 0000002f 00000000 6b042170
		00000000 00000000 00000000 00000001 00000000 00000000 00000002 00000000 00000000 00000001 00000000 00000000
		59844ac1 eb1347b0 00000000 00000000 00000000 00000000 0dd922c4 00000001 00000000 00000001 6b04216f 00000000
		00000000 00000000 00000000 9c5521ce`)
	record := unhex(t, `00000001 6b042171 6b038200 0000002f 0000001c 6b042171 00000004 6b042171 00000000 00000000 00000000 00000000
		00000000 6b042171 0000000b 8deea636 e604bbb3 d9a22316 5e60ac70 37fe7559 00000000 00000002 00000000 00000000
		00000000 00000002 948f6025 580d5316`)
	var h Header
	require.NoError(t, h.Decode(header))
	require.NoError(t, h.Validate())
	require.Equal(t, header, h.Append(nil))
	var r Record
	require.NoError(t, r.Decode(17, record))
	total := NewTotals()
	total.Add(&r, 17, NewFlagSums(nil))
	require.Equal(t, h.SyncBasic, total.SyncBasic)
	require.Equal(t, h.SyncAnnot, total.SyncAnnot)
	require.Equal(t, h.QuotaUsed, total.QuotaUsed)
}

// TestTables checks what the tables must be for the codecs to be right: sizes, no overlap, no gap in a record, and a
// checksum that is last.
func TestTables(t *testing.T) {
	t.Parallel()
	for _, v := range Versions() {
		for _, s := range []struct {
			fields []field
			count  int
			size   int
			crc    int
			full   bool
		}{{headerFields, headerFieldCount, v.HeaderSize(), hCRC, false}, {recordFields, recordFieldCount, v.RecordSize(), rCRC, true}} {
			covered := make([]int, s.size)
			seen := map[int]bool{}
			for _, f := range s.fields {
				require.Equal(t, fieldName(s.fields, f.id), f.name)
				if f.since > v || v > f.until {
					continue
				}
				require.False(t, seen[f.id], "version %d: %s twice", v, f.name)
				seen[f.id] = true
				for i := range f.size {
					covered[f.off+i]++
				}
				if f.id == s.crc {
					require.Equal(t, s.size-crcSize, f.off)
				}
			}
			require.Equal(t, v.HasChecksums(), seen[s.crc])
			for i, n := range covered {
				require.LessOrEqual(t, n, 1, "version %d: byte %d has %d fields", v, i, n)
				require.True(t, n == 1 || !s.full, "version %d: byte %d has no field", v, i)
			}
		}
		require.LessOrEqual(t, v.HeaderSize(), maxHeader)
		require.LessOrEqual(t, v.RecordSize(), maxRecord)
	}
	for _, v := range []Version{0, 5, 11, 21, math.MaxUint32} {
		require.False(t, v.Known())
		require.Zero(t, v.HeaderSize()+v.RecordSize())
	}
}

// TestAnyBytes decodes random bytes in every version: with the checksums set right the encoding is the same again, and a
// value that fits survives.
func TestAnyBytes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SampledFrom(Versions()).Draw(t, "version")
		l := layoutOf(v)
		b := rapid.SliceOfN(rapid.Byte(), l.recordSize, l.recordSize).Draw(t, "record")
		if at := l.record[rCRC]; at.size > 0 {
			at.put(b, uint64(checksum(b[:at.off])))
		}
		var r, again Record
		require.NoError(t, r.Decode(v, b))
		require.Equal(t, b, r.Append(nil, v))
		require.NoError(t, r.fits(l))
		require.NoError(t, again.Decode(VersionLatest, r.Append(nil, VersionLatest)))
		require.Equal(t, r.ModSeq, again.ModSeq)
		require.Equal(t, r.InternalDate, again.InternalDate)

		b = rapid.SliceOfN(rapid.Byte(), l.headerSize, l.headerSize).Draw(t, "header")
		for id, n := range map[int]uint64{hVersion: uint64(v), hStartOffset: uint64(l.headerSize), hRecordSize: uint64(l.recordSize)} {
			l.header[id].put(b, n)
		}
		if at := l.header[hCRC]; at.size > 0 {
			at.put(b, uint64(checksum(b[:at.off])))
		}
		var h Header
		require.NoError(t, h.Decode(b))
		require.Equal(t, b, h.Append(nil))
	})
}

// TestEveryField sets one field after the other and looks for it after decoding, in each version that has it.
func TestEveryField(t *testing.T) {
	t.Parallel()
	for _, v := range Versions() {
		l := layoutOf(v)
		for _, f := range headerFields {
			if f.since > v || v > f.until || f.id <= hRecordSize || f.id == hCRC {
				continue
			}
			h, got := NewHeader(v), Header{}
			reflect.ValueOf(h.fields()[f.id]).Elem().SetUint(uint64(3 * second))
			if f.size == 4 && reflect.TypeOf(h.fields()[f.id]).Elem() != reflect.TypeOf(Time(0)) {
				reflect.ValueOf(h.fields()[f.id]).Elem().SetUint(3)
			}
			b := h.Append(nil)
			require.NotZero(t, l.header[f.id].get(b), "version %d: %s", v, f.name)
			require.NoError(t, got.Decode(b))
			require.Equal(t, h, got, "version %d: %s", v, f.name)
		}
	}
}

// TestOddRecordSize reads version 19 with the record size that a bug has left.
func TestOddRecordSize(t *testing.T) {
	t.Parallel()
	h := NewHeader(oddVersion)
	h.RecordSize, h.NumRecords = oddRecordSize, 2
	b := h.Append(nil)
	for i := range 2 {
		r := Record{UID: UID(i + 1), Size: 1, GUID: GUID{1}, tail: bytes.Repeat([]byte{byte(i)}, oddRecordSize-112)}
		b = r.Append(b, oddVersion)
	}
	f, err := NewFile(bytes.NewReader(b), int64(len(b)), "")
	require.NoError(t, err)
	out := f.Header.Append(nil)
	for e, err := range f.Records(1) {
		require.NoError(t, err)
		require.EqualValues(t, e.No, e.UID)
		out = e.Append(out, oddVersion)
	}
	require.Equal(t, b, out)
	h.Version, h.RecordSize = 18, oddRecordSize
	require.ErrorIs(t, h.Validate(), ErrDamaged)
}

// TestFind looks for every UID, and for some that are not there, in files with wiped records.
func TestFind(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := NewHeader(17)
		var uids []UID
		last := UID(0)
		for range rapid.IntRange(0, 60).Draw(t, "count") {
			if rapid.IntRange(0, 3).Draw(t, "wiped") == 0 {
				uids = append(uids, 0)
				continue
			}
			last += UID(rapid.IntRange(1, 3).Draw(t, "step"))
			uids = append(uids, last)
		}
		h.NumRecords = uint32(len(uids))
		b := h.Append(nil)
		for _, uid := range uids {
			r := Record{UID: uid, Size: 1}
			b = r.Append(b, 17)
		}
		f, err := NewFile(bytes.NewReader(b), int64(len(b)), "")
		require.NoError(t, err)
		want := map[UID]RecordNo{}
		for i, uid := range uids {
			want[uid] = RecordNo(i) + 1
		}
		delete(want, 0)
		for uid := range last + 2 {
			no, r, err := f.Find(uid)
			if want[uid] == 0 {
				require.ErrorIs(t, err, ErrNotFound)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, want[uid], no)
			require.Equal(t, uid, r.UID)
			for batch, err := range f.Batches(no) {
				require.NoError(t, err)
				require.Equal(t, uid, batch.At(0).UID())
				require.True(t, batch.At(0).Intact())
				break
			}
		}
		live := 0
		for _, err := range f.Records(1) {
			require.NoError(t, err)
			live++
		}
		require.Equal(t, len(want), live)
	})
}

// TestFields lists the fields of a record for people.
func TestFields(t *testing.T) {
	t.Parallel()
	b := unhex(t, expungedRecord)
	list := Version(17).RecordFields(b)
	at := 0
	for _, f := range list {
		require.Equal(t, at, f.Offset)
		at += f.Size
	}
	require.Equal(t, len(b), at)
	require.Equal(t, FieldValue{"uid", 0, 4, "1"}, list[0])
	require.Equal(t, FieldValue{"flags", 32, 4, "a0000014"}, list[8])
	require.Equal(t, FieldValue{"record_crc", 108, 4, "4642dec8"}, list[len(list)-1])
	require.Nil(t, Version(17).RecordFields(b[1:]))
	require.Nil(t, Version(11).HeaderFields(nil))
	require.Len(t, Version(6).HeaderFields(make([]byte, 76)), 16)
}

func TestTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 21, 0, 0, 5, time.UTC)
	require.Equal(t, at, TimeOf(at).Time())
	require.Zero(t, TimeOf(time.Unix(-1, 0)))
	require.Zero(t, TimeOf(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)))
	require.Equal(t, int64(math.MaxUint32), Seconds(math.MaxUint32).Unix())
	require.Equal(t, []string{"pop3-new-uidl", "bit 7", "bit 20"}, Options(1|1<<7|1<<20).Names())
	require.Equal(t, Options(0xE000001D), Options(math.MaxUint32).Written(17))
	require.Equal(t, Options(1), Options(math.MaxUint32).Written(6))
	require.Equal(t, []string{`\Seen`, "bit 5"}, Flags(0x30).Names())
}

// TestCounters encodes counters of all versions.
func TestCounters(t *testing.T) {
	t.Parallel()
	for v, size := range map[uint32]int{0: 48, 1: 56, 2: 64, 3: 88, 4: 104, 5: 120, 6: 200, 7: 232, 8: 264, 9: 296} {
		c := Counters{Generation: 7, Version: v, UIDValidity: 5}
		for i := range c.Values {
			if c.Has(Counter(i)) {
				c.Values[i] = ModSeq(100 - i)
			}
		}
		require.NoError(t, c.Validate())
		b := c.Append(nil)
		require.Len(t, b, size)
		var got Counters
		require.NoError(t, got.Decode(b))
		require.Equal(t, c, got)
		for i := range b {
			for bit := range 8 {
				b[i] ^= 1 << bit
				require.Error(t, got.Decode(b), "byte %d", i)
				b[i] ^= 1 << bit
			}
			require.Error(t, got.Decode(b[:i]))
		}
		require.Error(t, got.Decode(append(b, 0)))
		if v < 9 {
			c.Values[34] = 1
			require.ErrorIs(t, c.Validate(), ErrValue)
		}
	}
	c := Counters{Version: 9}
	c.Values[CounterRACL] = 1
	require.ErrorIs(t, c.Validate(), ErrDamaged)
	require.ErrorIs(t, new(Counters).Decode(unhex(t, "00000001 0000000a")), ErrVersion)
}
