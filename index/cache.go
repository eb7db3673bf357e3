package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// CacheRecord is what cyrus.cache holds of one message.
type CacheRecord struct {
	items [CacheItems][]byte
	pads  [CacheItems][cacheAlign]byte // the padding as read, which should be zero
}

// Item returns one of the items. It is a part of what was decoded.
func (c *CacheRecord) Item(i CacheItem) []byte { return c.items[i] }

// Set puts other bytes in the place of an item.
func (c *CacheRecord) Set(i CacheItem, b []byte) {
	c.items[i], c.pads[i] = b, [cacheAlign]byte{}
}

// padding is the number of bytes that follow an item of n bytes.
func padding(n int) int { return -n & (cacheAlign - 1) }

// Len is the size of the record in the file, in bytes.
func (c *CacheRecord) Len() int {
	size := 0
	for _, item := range c.items {
		size += cacheLenSize + len(item) + padding(len(item))
	}
	return size
}

// Decode reads the record at the start of b, which may be longer. The items are parts of b.
func (c *CacheRecord) Decode(b []byte) error {
	*c = CacheRecord{}
	at := 0
	for i := range CacheItems {
		n, err := cacheItemLen(i, b, at, int64(len(b)))
		if err != nil {
			*c = CacheRecord{}
			return err
		}
		at += cacheLenSize
		c.items[i] = b[at : at+n : at+n]
		at += n
		at += copy(c.pads[i][:], b[at:at+padding(n)])
	}
	return nil
}

// cacheItemLen reads the length of item i at b[at:], of a record that may be size bytes long.
func cacheItemLen(i CacheItem, b []byte, at int, size int64) (int, error) {
	if int64(at)+cacheLenSize > size {
		return 0, damaged(at, i.String(), num(size)+" bytes", "a length")
	}
	n := int64(binary.BigEndian.Uint32(b[at:]))
	room := size - int64(at) - cacheLenSize
	if n > room || n+int64(-n&(cacheAlign-1)) > room {
		return 0, damaged(at, i.String(), "a length of "+num(n), "at most "+num(room))
	}
	return int(n), nil
}

// Append appends the record.
func (c *CacheRecord) Append(dst []byte) []byte {
	for i, item := range c.items {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(item)))
		dst = append(dst, item...)
		dst = append(dst, c.pads[i][:padding(len(item))]...)
	}
	return dst
}

// Checksum is what cyrus.index records in cache_crc.
func (c *CacheRecord) Checksum() uint32 { return checksum(c.Append(nil)) }

// Validate tells whether the record can be one of a cache version: its padding is zero, its SECTION item has the shape
// of that version, and the items that are lists look like lists.
func (c *CacheRecord) Validate(version uint16) error {
	at := 0
	for i, item := range c.items {
		end := at + cacheLenSize + len(item)
		if c.pads[i] != [cacheAlign]byte{} {
			return damaged(end, CacheItem(i).String(), "padding", "zeros")
		}
		switch i := CacheItem(i); i {
		case CacheEnvelope, CacheBodyStructure, CacheBody:
			if len(item) < 2 || item[0] != '(' || item[len(item)-1] != ')' {
				return damaged(at+cacheLenSize, i.String(), "something else", "a parenthesized list")
			}
		case CacheSection:
			if _, err := DecodeSections(item, version); err != nil {
				return in(err, "", int64(at+cacheLenSize), 0)
			}
		}
		at = end + padding(len(item))
	}
	return nil
}

// CacheFile is a cyrus.cache that is read. Its methods may be called at once from many goroutines, if the reader allows
// it.
type CacheFile struct {
	// Generation is that of the cyrus.index for which the file was made.
	Generation uint32

	r    io.ReaderAt
	size int64
	path string
}

// NewCacheFile reads the generation of a cyrus.cache of the given size. The path is for errors only.
func NewCacheFile(r io.ReaderAt, size int64, path string) (*CacheFile, error) {
	if size < cacheHeaderSize {
		return nil, &FormatError{Path: path, Field: "generation", Found: num(size) + " bytes", Wanted: "4 bytes", Class: ErrDamaged}
	}
	var b [cacheHeaderSize]byte
	if err := readFull(r, b[:], 0); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return &CacheFile{Generation: binary.BigEndian.Uint32(b[:]), r: r, size: size, path: path}, nil
}

// Size is that of the file when it was opened, in bytes.
func (f *CacheFile) Size() int64 { return f.size }

// Read reads the bytes of the record at an offset. Nothing in the file tells whether a record begins there: compare the
// checksum of the bytes with the one in cyrus.index. The bytes are the caller's.
func (f *CacheFile) Read(off Offset) ([]byte, error) {
	if off < cacheHeaderSize || uint64(off) >= uint64(f.size) {
		return nil, &FormatError{Path: f.path, Offset: int64(off), Field: "cache_offset", Found: num(off), Wanted: "a place from 4 to " + num(f.size), Class: ErrDamaged}
	}
	room := min(f.size-int64(off), cacheRecordMax)
	b := make([]byte, 0, min(room, cacheReadSize))
	at := 0
	for i := range CacheItems {
		// Lengths are read ahead in steps, so that memory grows only with what is there.
		if err := f.fill(&b, off, min(int64(at)+cacheLenSize, room)); err != nil {
			return nil, err
		}
		n, err := cacheItemLen(i, b, at, room)
		if err != nil {
			return nil, in(err, f.path, int64(off), 0)
		}
		at += cacheLenSize + n + padding(n)
	}
	if err := f.fill(&b, off, int64(at)); err != nil {
		return nil, err
	}
	return b[:at:at], nil
}

// fill makes b hold at least want bytes of what is at off.
func (f *CacheFile) fill(b *[]byte, off Offset, want int64) error {
	have := int64(len(*b))
	if want <= have {
		return nil
	}
	want = min(max(want, have+cacheReadSize), f.size-int64(off))
	grown := make([]byte, want)
	copy(grown, *b)
	if err := readFull(f.r, grown[have:], int64(off)+have); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return &FormatError{Path: f.path, Offset: int64(off) + have, Field: "record", Found: "the end of the file", Wanted: "a cache record", Class: ErrDamaged}
		}
		return fmt.Errorf("read %s: %w", f.path, err)
	}
	*b = grown
	return nil
}

// Record reads the cache record of a message. The error is of class ErrNoCache, as far as it is not one of the system,
// if the record cannot be used, as Cyrus judges it: there is none, it does not fit into the file, or its checksum is
// wrong or 0. Versions before 12 have no checksum; there the shape of the record has to do.
func (f *CacheFile) Record(r *Record, v Version) (c CacheRecord, err error) {
	unusable := func(found, wanted string) error {
		return &FormatError{Path: f.path, Offset: int64(r.CacheOffset), Field: "cache_crc", Found: found, Wanted: wanted, Class: ErrNoCache}
	}
	if r.CacheOffset == 0 || v.HasChecksums() && r.CacheCRC == 0 {
		return c, unusable("none", "a cache record")
	}
	b, err := f.Read(r.CacheOffset)
	if err == nil {
		err = in(c.Decode(b), f.path, int64(r.CacheOffset), 0)
	}
	if err == nil && !v.HasChecksums() {
		err = in(c.Validate(r.CacheVersion), f.path, int64(r.CacheOffset), 0)
	}
	if e := (*FormatError)(nil); errors.As(err, &e) {
		e.Class = ErrNoCache
	}
	if err != nil {
		return CacheRecord{}, err
	}
	if v.HasChecksums() && checksum(b) != r.CacheCRC {
		return CacheRecord{}, unusable(hexWord(checksum(b)), hexWord(r.CacheCRC))
	}
	return c, nil
}

// Equal tells whether two records have the same bytes.
func (c *CacheRecord) Equal(o *CacheRecord) bool {
	for i := range c.items {
		if !bytes.Equal(c.items[i], o.items[i]) || c.pads[i] != o.pads[i] {
			return false
		}
	}
	return true
}
