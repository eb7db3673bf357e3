package index

import (
	"bytes"
	"testing"
)

// large is a cyrus.index of version 17 with a million records, in memory.
func large(b *testing.B) *File {
	const count = 1_000_000
	h := NewHeader(17)
	h.NumRecords, h.LastUID = count, 2*count
	buf := h.Append(make([]byte, 0, 160+112*count))
	for i := range count {
		r := Record{UID: UID(2*i + 1), Size: 1000, ModSeq: ModSeq(i), Flags: Flags(i) & 0x1f, GUID: GUID{1}}
		buf = r.Append(buf, 17)
	}
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
		if _, _, err := f.Find(UID(i%1_000_000)*2 + 1); err != nil {
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
