package index

import (
	"bytes"
	"encoding/binary"
)

// Record is what cyrus.index holds of one message. Fields that its version does not have are zero and are not written.
type Record struct {
	UID UID
	// InternalDate is when the message arrived. SentDate is the day of its Date header, at midnight of the server's zone,
	// GMTime that header's time.
	InternalDate, SentDate, GMTime Time
	// LastUpdated is the time of the last change of the record; SaveDate is when the message came into this mailbox.
	LastUpdated, SaveDate Time
	// Size is that of the message file, in bytes; HeaderSize that of its header with the empty line after it.
	Size       uint64
	HeaderSize uint32
	// ContentOffset is HeaderSize again, before version 12.
	ContentOffset uint32
	// ContentLines is the number of lines of the body, before version 15. Cyrus 3.6 writes 0.
	ContentLines uint32
	// CacheOffset is the place of the cache record, CacheVersion tells by which rules it was made, and CacheCRC is the
	// checksum of its bytes.
	CacheOffset  Offset
	CacheVersion uint16
	CacheCRC     uint32
	Flags        Flags
	UserFlags    UserFlags
	// UUID is an id of versions 7 to 9 that nothing reads any more.
	UUID [12]byte
	// GUID is the SHA-1 of the message file; zero before version 10.
	GUID                  GUID
	ModSeq, CreatedModSeq ModSeq
	// CID is the conversation, BaseCID the one that it was split off.
	CID, BaseCID uint64

	tail []byte // what follows the record in the file, if records are larger than their version has them
}

// Expunged tells whether the message is gone for clients. Before version 12 there is no such thing; Cyrus 3.6 keeps the
// bit when it converts a mailbox to such a version, and shows clients no such message, but counts it as one that exists.
func (r *Record) Expunged() bool { return r.Flags&FlagExpunged != 0 }

// Decode reads the record of a known version at the start of b. A wrong checksum is an error of class ErrDamaged, with
// which all fields are set nevertheless. Bytes beyond the size of the version's records are kept.
func (r *Record) Decode(v Version, b []byte) error {
	l := layoutOf(v)
	if l == nil {
		return &FormatError{Field: "minor_version", Found: num(v), Wanted: "6 to 10 or 12 to 20", Class: ErrVersion}
	}
	if len(b) < l.recordSize {
		*r = Record{}
		return damaged(len(b), "record", num(len(b))+" bytes", num(l.recordSize))
	}
	p := &l.record
	cacheWord := p[rCacheVersion].get32(b)
	*r = Record{
		UID:          UID(p[rUID].get32(b)),
		InternalDate: p[rInternalDate].time(b), SentDate: p[rSentDate].time(b), GMTime: p[rGMTime].time(b),
		LastUpdated: p[rLastUpdated].time(b), SaveDate: p[rSaveDate].time(b),
		Size: p[rSize].get(b), HeaderSize: p[rHeaderSize].get32(b),
		ContentOffset: p[rContentOffset].get32(b), ContentLines: p[rContentLines].get32(b),
		// The high half of the version's word is bits 32 to 47 of the offset.
		CacheOffset:  Offset(p[rCacheOffset].get32(b)) | Offset(cacheWord>>16)<<32,
		CacheVersion: uint16(cacheWord), CacheCRC: p[rCacheCRC].get32(b),
		Flags:  Flags(p[rFlags].get32(b)),
		ModSeq: ModSeq(p[rModSeq].get(b)), CreatedModSeq: ModSeq(p[rCreatedModSeq].get(b)),
		CID: p[rCID].get(b), BaseCID: p[rBaseCID].get(b),
	}
	for i := range r.UserFlags {
		r.UserFlags[i] = binary.BigEndian.Uint32(b[int(p[rUserFlags].off)+4*i:])
	}
	copy(r.UUID[:], p[rUUID].bytes(b))
	copy(r.GUID[:], p[rGUID].bytes(b))
	if len(b) > l.recordSize {
		r.tail = bytes.Clone(b[l.recordSize:])
	}
	if !v.HasChecksums() {
		return nil
	}
	if stored, correct := p[rCRC].get32(b), checksum(b[:p[rCRC].off]); stored != correct {
		return damaged(int(p[rCRC].off), "record_crc", hexWord(stored), hexWord(correct))
	}
	return nil
}

// Append appends the record as version v has it, with its checksum. The version must be a known one.
func (r *Record) Append(dst []byte, v Version) []byte {
	l := layoutOf(v)
	start := len(dst)
	dst = append(dst, make([]byte, l.recordSize)...)
	b, p := dst[start:], &l.record
	p[rUID].put(b, uint64(r.UID))
	p[rInternalDate].putTime(b, r.InternalDate)
	p[rSentDate].putTime(b, r.SentDate)
	p[rGMTime].putTime(b, r.GMTime)
	p[rLastUpdated].putTime(b, r.LastUpdated)
	p[rSaveDate].putTime(b, r.SaveDate)
	p[rSize].put(b, r.Size)
	p[rHeaderSize].put(b, uint64(r.HeaderSize))
	p[rContentOffset].put(b, uint64(r.ContentOffset))
	p[rContentLines].put(b, uint64(r.ContentLines))
	p[rCacheOffset].put(b, uint64(uint32(r.CacheOffset)))
	p[rCacheVersion].put(b, uint64(r.CacheOffset>>32)<<16|uint64(r.CacheVersion))
	p[rFlags].put(b, uint64(r.Flags))
	for i, word := range r.UserFlags {
		binary.BigEndian.PutUint32(b[int(p[rUserFlags].off)+4*i:], word)
	}
	copy(p[rUUID].bytes(b), r.UUID[:])
	copy(p[rGUID].bytes(b), r.GUID[:])
	p[rModSeq].put(b, uint64(r.ModSeq))
	p[rCreatedModSeq].put(b, uint64(r.CreatedModSeq))
	p[rCID].put(b, r.CID)
	p[rBaseCID].put(b, r.BaseCID)
	p[rCacheCRC].put(b, uint64(r.CacheCRC))
	if at := p[rCRC]; at.size > 0 {
		at.put(b, uint64(checksum(b[:at.off])))
	}
	return append(dst, r.tail...)
}

// Validate tells whether the record can stand in a file of version v:
//
//  1. The UID is not 0, which marks a wiped record.
//  2. The size is not 0, and the header is no larger than the message.
//  3. The GUID is not zero, from version 10 on.
//  4. The record was not created after its last change: createdmodseq is at most modseq.
//  5. Before version 12, content_offset is header_size.
//  6. Every value fits its field (class ErrValue).
func (r *Record) Validate(v Version) error {
	l := layoutOf(v)
	if l == nil {
		return &FormatError{Field: "minor_version", Found: num(v), Wanted: "6 to 10 or 12 to 20", Class: ErrVersion}
	}
	at := func(id int) int { return int(l.record[id].off) }
	switch {
	case r.UID == 0:
		return damaged(at(rUID), "uid", "0", "the UID of a message")
	case r.Size == 0:
		return damaged(at(rSize), "size", "0", "the size of a message")
	case uint64(r.HeaderSize) > r.Size:
		return damaged(at(rHeaderSize), "header_size", num(r.HeaderSize), "at most the size, "+num(r.Size))
	case v >= versionGUID && r.GUID == GUID{}:
		return damaged(at(rGUID), "guid", "zero", "the SHA-1 of a message")
	case v >= versionCreated && r.CreatedModSeq > r.ModSeq:
		return damaged(at(rCreatedModSeq), "createdmodseq", num(r.CreatedModSeq), "at most the modseq, "+num(r.ModSeq))
	case v < versionChecksums && r.ContentOffset != r.HeaderSize:
		return damaged(at(rContentOffset), "content_offset", num(r.ContentOffset), "the header_size, "+num(r.HeaderSize))
	}
	return r.fits(l)
}

// fits tells whether every value fits its field.
func (r *Record) fits(l *layout) error {
	for _, t := range [...]struct {
		id int
		at Time
	}{{rInternalDate, r.InternalDate}, {rSentDate, r.SentDate}, {rGMTime, r.GMTime}, {rLastUpdated, r.LastUpdated}, {rSaveDate, r.SaveDate}} {
		if !l.record[t.id].holdsTime(t.at) {
			return valueError(l, t.id, num(t.at), "whole seconds, 32 bits")
		}
	}
	if !l.record[rSize].holds(r.Size) {
		return valueError(l, rSize, num(r.Size), "32 bits")
	}
	if r.CacheOffset>>48 != 0 {
		return valueError(l, rCacheOffset, num(r.CacheOffset), "48 bits")
	}
	return nil
}

func valueError(l *layout, id int, found, wanted string) error {
	return &FormatError{Offset: int64(l.record[id].off), Field: fieldName(recordFields, id), Found: found, Wanted: wanted, Class: ErrValue}
}

// Raw is a record as it stands in the file, for those who look at many records and need little of each. It is valid as
// long as the [Batch] that it came from.
type Raw struct {
	l *layout
	b []byte
}

// UID is that of the record, 0 if it was wiped.
func (r Raw) UID() UID { return UID(r.l.record[rUID].get32(r.b)) }

// Flags are the system flags.
func (r Raw) Flags() Flags { return Flags(r.l.record[rFlags].get32(r.b)) }

// ModSeq is 0 before version 8.
func (r Raw) ModSeq() ModSeq { return ModSeq(r.l.record[rModSeq].get(r.b)) }

// UserFlags are the user's flags.
func (r Raw) UserFlags() (u UserFlags) {
	for i := range u {
		u[i] = binary.BigEndian.Uint32(r.b[int(r.l.record[rUserFlags].off)+4*i:])
	}
	return u
}

// Intact tells whether the checksum is right; without one it is true.
func (r Raw) Intact() bool {
	at := r.l.record[rCRC]
	return at.size == 0 || at.get32(r.b) == checksum(r.b[:at.off])
}

// Bytes are those of the file.
func (r Raw) Bytes() []byte { return r.b }

// Decode is [Record.Decode].
func (r Raw) Decode(rec *Record) error { return rec.Decode(r.l.version, r.b) }
