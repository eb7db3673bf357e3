package index

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"sync/atomic"
)

// batchBytes is about how much of a file is read at once.
const batchBytes = 64 << 10

// File is a cyrus.index that is read. Its methods may be called at once from many goroutines, if the reader allows it.
// It holds the header as it was when the File was made; what a writer has changed since shows in records.
type File struct {
	// Header is that of the file.
	Header Header

	r      io.ReaderAt
	size   int64
	path   string
	layout *layout
	stride int64
	count  RecordNo

	// What searches have learned: the UIDs of every sampleEvery-th record, 0 as long as it is not known, and long runs of
	// wiped records. It stays true, as a record keeps its UID as long as the file is the same.
	samples []atomic.Uint32
	wiped   runs
}

// NewFile reads the header of a cyrus.index of the given size. The path is for errors only.
//
// With a *[FormatError] of class ErrDamaged there may be a File nevertheless, if header and records can be told apart:
// it serves what is there, and nothing vouches for it. The error is of class ErrVersion if the version is not known.
func NewFile(r io.ReaderAt, size int64, path string) (*File, error) {
	b := make([]byte, max(0, min(size, maxHeader)))
	if err := readFull(r, b, 0); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	f := &File{r: r, size: size, path: path}
	err := in(f.Header.Decode(b), path, 0, 0)
	f.layout = layoutOf(f.Header.Version)
	if err != nil && (f.layout == nil || len(b) < f.layout.headerSize) {
		return nil, err
	}
	if sizes := f.Header.validateSizes(f.layout); sizes != nil {
		if err == nil {
			err = in(sizes, path, 0, 0)
		}
		// The version says how records look, so it is the better witness of where they are.
		f.stride = int64(f.layout.recordSize)
	} else {
		f.stride = int64(f.Header.RecordSize)
	}
	fit := max(0, (size-int64(f.layout.headerSize))/f.stride)
	f.count = RecordNo(min(int64(f.Header.NumRecords), fit, math.MaxUint32))
	f.samples = make([]atomic.Uint32, f.count/sampleEvery)
	if err == nil && int64(f.Header.NumRecords) > fit {
		err = &FormatError{Path: path, Offset: size, Record: f.count + 1, Field: "num_records", Found: fmt.Sprintf("%d records in %d bytes", fit, size),
			Wanted: num(f.Header.NumRecords), Class: ErrDamaged}
	}
	return f, err
}

// Len is the number of records in the file: what the header says, if the file is that long.
func (f *File) Len() RecordNo { return f.count }

// Offset is the place of record no in the file.
func (f *File) Offset(no RecordNo) int64 {
	return int64(f.layout.headerSize) + int64(no-1)*f.stride
}

// Version is that of the file.
func (f *File) Version() Version { return f.layout.version }

// Record reads record no, from 1 to Len. Another number is ErrNotFound. With a wrong checksum the error is a
// *[FormatError], and the record is returned for those who know better.
func (f *File) Record(no RecordNo) (Record, error) {
	var rec Record
	if no < 1 || no > f.count {
		return rec, fmt.Errorf("record %d of %s: %w", no, f.path, ErrNotFound)
	}
	var buf [maxRecord]byte
	b := buf[:f.stride]
	if err := f.read(b, f.Offset(no)); err != nil {
		return rec, err
	}
	err := rec.Decode(f.layout.version, b)
	return rec, in(err, f.path, f.Offset(no), no)
}

func (f *File) read(b []byte, off int64) error {
	if err := readFull(f.r, b, off); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return &FormatError{Path: f.path, Offset: off, Field: "record", Found: "the end of the file", Wanted: num(len(b)) + " bytes", Class: ErrDamaged}
		}
		return fmt.Errorf("read %s: %w", f.path, err)
	}
	return nil
}

// Batch is a run of records. It is valid until the iteration goes on.
type Batch struct {
	// First is the number of the first record.
	First  RecordNo
	l      *layout
	stride int
	b      []byte
}

// Len is the number of records in the batch.
func (b Batch) Len() int { return len(b.b) / b.stride }

// At returns record i of the batch, from 0.
func (b Batch) At(i int) Raw { return Raw{l: b.l, b: b.b[i*b.stride : (i+1)*b.stride]} }

// Batches reads all records from number from on, some hundreds at a time, wiped ones too. An error ends the iteration.
func (f *File) Batches(from RecordNo) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		each := RecordNo(batchBytes / f.stride)
		buf := make([]byte, min(int64(each), int64(f.count))*f.stride)
		for no := max(from, 1); no <= f.count; {
			n := min(each, f.count-no+1)
			b := buf[:int64(n)*f.stride]
			if err := f.read(b, f.Offset(no)); err != nil {
				yield(Batch{}, err)
				return
			}
			if !yield(Batch{First: no, l: f.layout, stride: int(f.stride), b: b}, nil) || f.count-no < n {
				return
			}
			no += n
		}
	}
}

// Entry is a record and its number.
type Entry struct {
	No RecordNo
	Record
}

// Records reads all records from number from on, without wiped ones. A record with a wrong checksum comes with a
// *[FormatError], and the iteration goes on; any other error ends it.
func (f *File) Records(from RecordNo) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for batch, err := range f.Batches(from) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for i := range batch.Len() {
				e := Entry{No: batch.First + RecordNo(i)}
				err := batch.At(i).Decode(&e.Record)
				if e.UID == 0 && err == nil {
					continue
				}
				if !yield(e, in(err, f.path, f.Offset(e.No), e.No)) {
					return
				}
			}
		}
	}
}
