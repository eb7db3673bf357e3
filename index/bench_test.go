package index

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
)

const count = 1_000_000

// largeUID is a UID of a large mailbox, from which messages have been removed here and there, 8 out of 10 in its older half.
func largeUID(i int) UID {
	gap := uint32(i) * 2654435761 >> 30
	if i < count/2 {
		return UID(uint32(10*i) + gap + 1)
	}
	return UID(uint32(5*count+4*(i-count/2)) + gap + 1)
}

// largeIndex is the bytes of a cyrus.index of version 17 with a million records.
func largeIndex() []byte {
	h := NewHeader(17)
	h.NumRecords, h.LastUID, h.Exists = count, 7*count+4, count
	buf := h.Append(make([]byte, 0, 160+112*count))
	for i := range count {
		r := Record{UID: largeUID(i), Size: 1000, ModSeq: ModSeq(i), Flags: Flags(i) & 0x1f, GUID: GUID{1}}
		buf = r.Append(buf, 17)
	}
	return buf
}

// largeMailbox is a mailbox on disk with that index.
func largeMailbox(b *testing.B) Place {
	p := PlaceIn(b.TempDir())
	header, err := os.ReadFile(filepath.Join(goldenDir(VersionWritten), HeaderName))
	require.NoError(b, err)
	require.NoError(b, os.WriteFile(p.Paths.Header, header, 0o644))
	require.NoError(b, os.WriteFile(p.Paths.Index, largeIndex(), 0o644))
	b.ResetTimer()
	return p
}

func openLarge(b *testing.B) *Mailbox {
	m, err := Open(b.Context(), vfs.OS(), largeMailbox(b))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, m.Close()) })
	b.ResetTimer()
	return m
}

// BenchmarkMailboxOpen opens, asks for the status of, and closes a mailbox with a million records. It must take no more
// than 50 ms.
func BenchmarkMailboxOpen(b *testing.B) {
	p := largeMailbox(b)
	for b.Loop() {
		m, err := Open(b.Context(), vfs.OS(), p)
		require.NoError(b, err)
		h, err := m.Header()
		require.NoError(b, err)
		require.EqualValues(b, 1_000_000, h.Exists)
		require.NoError(b, m.Close())
	}
}

// BenchmarkMailboxSnapshot copies UID, flags and modification sequence of a million records, each verified, under the
// lock. It must take no more than 100 ms.
func BenchmarkMailboxSnapshot(b *testing.B) {
	m := openLarge(b)
	b.ReportAllocs()
	for b.Loop() {
		s, err := m.Snapshot(b.Context())
		require.NoError(b, err)
		require.Len(b, s.Messages, 1_000_000)
	}
}

// BenchmarkMailboxFlags counts messages with a flag among a million records, each verified. It must take no more than 100 ms.
func BenchmarkMailboxFlags(b *testing.B) {
	m := openLarge(b)
	b.ReportAllocs()
	for b.Loop() {
		seen := 0
		for msg, err := range m.Messages(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
			if msg.Flags&FlagSeen != 0 {
				seen++
			}
		}
		require.Equal(b, 500_000, seen)
	}
}

// BenchmarkMailboxRecord looks up UIDs among a million records, all over the file. It must take no more than 1 µs.
func BenchmarkMailboxRecord(b *testing.B) {
	m, ctx, i := openLarge(b), b.Context(), 0
	b.ReportAllocs()
	for b.Loop() {
		i += 617_363
		if _, err := m.Record(ctx, largeUID(i%count)); err != nil {
			b.Fatal(err)
		}
	}
}

// large is a cyrus.index of version 17 with a million records, in memory.
func large(b *testing.B) *File {
	buf := largeIndex()
	f, err := NewFile(bytes.NewReader(buf), int64(len(buf)), "")
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	return f
}

// BenchmarkFind looks up UIDs among a million records.
func BenchmarkFind(b *testing.B) {
	f := large(b)
	for i := range b.N {
		if _, _, err := f.Find(largeUID(i % count)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFlags verifies a million records and reads their flags.
func BenchmarkFlags(b *testing.B) {
	f := large(b)
	for range b.N {
		seen := 0
		for batch, err := range f.Batches(1) {
			if err != nil {
				b.Fatal(err)
			}
			for i := range batch.Len() {
				r := batch.At(i)
				if !r.Intact() {
					b.Fatal("damaged")
				}
				if r.Flags()&FlagSeen != 0 {
					seen++
				}
			}
		}
		if seen != 500_000 {
			b.Fatal(seen)
		}
	}
}

// BenchmarkRecords decodes a million records.
func BenchmarkRecords(b *testing.B) {
	f := large(b)
	for range b.N {
		n := 0
		for _, err := range f.Records(1) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 1_000_000 {
			b.Fatal(n)
		}
	}
}
