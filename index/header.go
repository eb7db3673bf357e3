package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Header is the header of a cyrus.index. Fields that its version does not have are zero and are not written.
type Header struct {
	// Generation grows by one with each repack; cyrus.cache begins with the same number.
	Generation uint32
	Format     uint32
	Version    Version
	// StartOffset and RecordSize are what the file says; Validate compares them with the version.
	StartOffset, RecordSize uint32
	NumRecords              uint32
	LastAppend              Time
	// LastUID is the highest UID ever given out.
	LastUID UID
	// QuotaUsed is the sum of the sizes of the messages that are not expunged, in bytes.
	QuotaUsed     uint64
	POP3LastLogin Time
	UIDValidity   uint32
	// Deleted, Answered, Flagged, Exists and Unseen count messages that are not expunged.
	Deleted, Answered, Flagged, Exists, Unseen uint32
	Options                                    Options
	LeakedCache                                uint32
	HighestModSeq                              ModSeq
	// DeletedModSeq is the highest of the records that a repack has dropped.
	DeletedModSeq ModSeq
	// FirstExpunged is the earliest change of an expunged record that is still there.
	FirstExpunged Time
	LastRepack    Time
	// HeaderFileCRC is the checksum of the whole cyrus.header; 0 is not compared.
	HeaderFileCRC uint32
	// SyncBasic and SyncAnnot are checksums over what replication compares; see [Record.SyncBasic].
	SyncBasic, SyncAnnot uint32
	RecentUID            UID
	RecentTime           Time
	POP3ShowAfter        Time
	// QuotaAnnot, QuotaDeleted and QuotaExpunged are bytes: of annotations, of messages with \Deleted, and of expunged
	// messages that are still there.
	QuotaAnnot, QuotaDeleted, QuotaExpunged uint64
	// CreatedModSeq is the highest of the mailbox when it was made, ChangesEpoch the time since which the records tell all.
	CreatedModSeq ModSeq
	ChangesEpoch  Time

	spare []byte // the header as read, if bytes that no field covers are not zero
}

// NewHeader returns the header of an empty mailbox in a known version. Times and uidvalidity are the caller's to set.
func NewHeader(v Version) (h Header) {
	h = Header{Version: v, StartOffset: uint32(v.HeaderSize()), RecordSize: uint32(v.RecordSize()), Options: OptionPOP3NewUIDL}
	for id, start := range map[int]func(){
		hHighestModSeq: func() { h.HighestModSeq = 1 },
		hCreatedModSeq: func() { h.CreatedModSeq = 1 },
		hSyncAnnot:     func() { h.SyncAnnot = SyncAnnotStart },
	} {
		if v.hasHeaderField(id) {
			start()
		}
	}
	return h
}

// fields are the places of the values by the numbers of the fields. The checksum is not among them.
func (h *Header) fields() [headerFieldCount]any {
	return [...]any{
		hGeneration: &h.Generation, hFormat: &h.Format, hVersion: &h.Version, hStartOffset: &h.StartOffset,
		hRecordSize: &h.RecordSize, hNumRecords: &h.NumRecords, hLastAppend: &h.LastAppend, hLastUID: &h.LastUID,
		hQuotaUsed: &h.QuotaUsed, hPOP3LastLogin: &h.POP3LastLogin, hUIDValidity: &h.UIDValidity, hDeleted: &h.Deleted,
		hAnswered: &h.Answered, hFlagged: &h.Flagged, hExists: &h.Exists, hOptions: &h.Options, hLeakedCache: &h.LeakedCache,
		hHighestModSeq: &h.HighestModSeq, hDeletedModSeq: &h.DeletedModSeq, hFirstExpunged: &h.FirstExpunged,
		hLastRepack: &h.LastRepack, hHeaderFileCRC: &h.HeaderFileCRC, hSyncBasic: &h.SyncBasic, hRecentUID: &h.RecentUID,
		hRecentTime: &h.RecentTime, hPOP3ShowAfter: &h.POP3ShowAfter, hQuotaAnnot: &h.QuotaAnnot, hSyncAnnot: &h.SyncAnnot,
		hUnseen: &h.Unseen, hCreatedModSeq: &h.CreatedModSeq, hChangesEpoch: &h.ChangesEpoch, hQuotaDeleted: &h.QuotaDeleted,
		hQuotaExpunged: &h.QuotaExpunged, hCRC: nil,
	}
}

// Decode reads the header at the start of b, which may be longer. A wrong checksum, and sizes that are not those of the
// version, are errors of class ErrDamaged with which all fields are set nevertheless; after any other error they are
// not.
func (h *Header) Decode(b []byte) error {
	*h = Header{}
	if len(b) < minHeader {
		return damaged(len(b), "header", num(len(b))+" bytes", "a header")
	}
	v := Version(binary.BigEndian.Uint32(b[8:]))
	l := layoutOf(v)
	if l == nil {
		return &FormatError{Offset: 8, Field: "minor_version", Found: num(v), Wanted: "6 to 10 or 12 to 20", Class: ErrVersion}
	}
	if len(b) < l.headerSize {
		return damaged(len(b), "header", num(len(b))+" bytes", num(l.headerSize))
	}
	b = b[:l.headerSize]
	for id, f := range h.fields() {
		setField(f, l.header[id], b)
	}
	for _, p := range l.spare {
		if b[p.off] != 0 {
			h.spare = bytes.Clone(b)
			break
		}
	}
	if v.HasChecksums() {
		at := l.header[hCRC]
		if stored, correct := at.get32(b), checksum(b[:at.off]); stored != correct {
			return damaged(int(at.off), "header_crc", hexWord(stored), hexWord(correct))
		}
	}
	return h.validateSizes(l)
}

// setField reads one field into the value that f points to.
func setField(f any, p place, b []byte) {
	switch f := f.(type) {
	case *uint32:
		*f = p.get32(b)
	case *uint64:
		*f = p.get(b)
	case *Version:
		*f = Version(p.get32(b))
	case *UID:
		*f = UID(p.get32(b))
	case *Options:
		*f = Options(p.get32(b))
	case *ModSeq:
		*f = ModSeq(p.get(b))
	case *Time:
		*f = p.time(b)
	}
}

// value returns what f points to, as it is written to a field of the given size.
func value(f any, p place) (v uint64, fits bool) {
	switch f := f.(type) {
	case *uint32:
		v = uint64(*f)
	case *uint64:
		v = *f
	case *Version:
		v = uint64(*f)
	case *UID:
		v = uint64(*f)
	case *Options:
		v = uint64(*f)
	case *ModSeq:
		v = uint64(*f)
	case *Time:
		if p.size == 4 {
			return uint64(*f / second), p.holdsTime(*f)
		}
		v = uint64(*f)
	}
	return v, p.holds(v)
}

// Append appends the header in its version, with its checksum. The version must be a known one.
func (h *Header) Append(dst []byte) []byte {
	l := layoutOf(h.Version)
	start := len(dst)
	if len(h.spare) == l.headerSize {
		dst = append(dst, h.spare...)
	} else {
		dst = append(dst, make([]byte, l.headerSize)...)
	}
	b := dst[start:]
	for id, f := range h.fields() {
		v, _ := value(f, l.header[id])
		l.header[id].put(b, v)
	}
	if at := l.header[hCRC]; at.size > 0 {
		at.put(b, uint64(checksum(b[:at.off])))
	}
	return dst
}

// Validate tells whether the header can be written and says what later versions of Cyrus insist on. A value that does
// not fit its field is an error of class ErrValue.
func (h *Header) Validate() error {
	l := layoutOf(h.Version)
	if l == nil {
		return &FormatError{Offset: 8, Field: "minor_version", Found: num(h.Version), Wanted: "6 to 10 or 12 to 20", Class: ErrVersion}
	}
	if err := h.validateSizes(l); err != nil {
		return err
	}
	if h.Format != 0 {
		return damaged(4, "format", num(h.Format), "0")
	}
	for id, f := range h.fields() {
		if v, fits := value(f, l.header[id]); !fits {
			return &FormatError{Offset: int64(l.header[id].off), Field: fieldName(headerFields, id), Found: num(v),
				Wanted: "whole seconds, 32 bits", Class: ErrValue}
		}
	}
	return nil
}

// validateSizes compares the sizes in the header with those of the version. Cyrus 3.6 takes the places of records from
// the header and their format from the version, so that a wrong size makes it read nonsense.
func (h *Header) validateSizes(l *layout) error {
	if h.StartOffset != uint32(l.headerSize) {
		return damaged(12, "start_offset", num(h.StartOffset), num(l.headerSize))
	}
	if h.RecordSize != uint32(l.recordSize) && !(h.Version == oddVersion && h.RecordSize == oddRecordSize) {
		return damaged(16, "record_size", num(h.RecordSize), num(l.recordSize))
	}
	return nil
}

// Normalized returns the header as Cyrus understands it: what a version does not record is derived from what it does.
func (h Header) Normalized() Header {
	h.HighestModSeq = max(h.HighestModSeq, 1)
	if h.Version < versionChecksums {
		h.Exists, h.DeletedModSeq = h.NumRecords, h.HighestModSeq
	}
	if h.Exists == 0 {
		h.Options |= OptionPOP3NewUIDL
	}
	return h
}

// hasHeaderField tells whether headers of the version have a field.
func (v Version) hasHeaderField(id int) bool {
	l := layoutOf(v)
	return l != nil && l.header[id].size > 0
}

// FieldValue is one field of a header or record, for those who show a file to people.
type FieldValue struct {
	Name string
	// Offset and Size are its place in the header or record, in bytes.
	Offset, Size int
	// Value is a number in decimal, or bytes in hexadecimal.
	Value string
}

// HeaderFields lists the fields of the header at the start of b, as version v has them, in the order of their offsets.
func (v Version) HeaderFields(b []byte) []FieldValue { return v.list(headerFields, b, v.HeaderSize()) }

// RecordFields lists the fields of the record at the start of b, as version v has them, in the order of their offsets.
func (v Version) RecordFields(b []byte) []FieldValue { return v.list(recordFields, b, v.RecordSize()) }

func (v Version) list(fields []field, b []byte, size int) (list []FieldValue) {
	if size == 0 || len(b) < size {
		return nil
	}
	for _, f := range fields {
		if f.since > v || v > f.until {
			continue
		}
		text := fmt.Sprintf("%x", b[f.off:f.off+f.size])
		switch {
		case f.name == "flags", f.name == "options", f.name == "cid", f.name == "basecid", f.size > 8, strings.Contains(f.name, "crc"):
		case f.size == 4:
			text = num(binary.BigEndian.Uint32(b[f.off:]))
		case f.size == 8:
			text = num(binary.BigEndian.Uint64(b[f.off:]))
		}
		list = append(list, FieldValue{Name: f.name, Offset: f.off, Size: f.size, Value: text})
	}
	slices.SortFunc(list, func(a, b FieldValue) int { return a.Offset - b.Offset })
	return list
}

func fieldName(fields []field, id int) string {
	for _, f := range fields {
		if f.id == id {
			return f.name
		}
	}
	return fmt.Sprintf("field %d", id)
}
