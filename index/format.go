package index

import (
	"encoding/binary"
	"hash/crc32"
)

// The layout of cyrus.index. All integers are big-endian and unsigned. A field of 4 bytes that holds a time is in
// seconds since 1970, one of 8 bytes in nanoseconds. Offsets and sizes are in bytes.

// Version is the minor version of a cyrus.index.
type Version uint32

// The versions that change more than the place of fields.
const (
	// versionChecksums is the first with checksums, \Seen and the expunged flag in the record, and counts in the header.
	versionChecksums Version = 12
	versionModSeq    Version = 8
	versionGUID      Version = 10
	versionCID       Version = 13
	versionSaveDate  Version = 15
	versionCreated   Version = 16
	// VersionLatest is the latest that is known here; VersionWritten is that of Cyrus 3.6.
	VersionLatest  Version = 20
	VersionWritten Version = 17
)

// versionRow is one version.
type versionRow struct {
	version    Version
	headerSize int
	recordSize int
}

// versions are those that can be read. Cyrus 2.4 and later refuse those before 6; 11 was never public.
var versions = []versionRow{
	{6, 76, 60},
	{7, 76, 72},
	{8, 92, 80},
	{9, 96, 80},
	{10, 96, 88},
	{12, 128, 96},
	{13, 128, 104},
	{14, 160, 104},
	{15, 160, 104},
	{16, 160, 112},
	{17, 160, 112},
	{18, 160, 112},
	{19, 160, 112},
	{20, 192, 144},
}

// A bug of a development version left headers of version oddVersion that give oddRecordSize. Later sources accept them.
const oddVersion Version = 19
const oddRecordSize = 144

const (
	// minHeader is what has to be read to know the version; maxHeader and maxRecord are the largest of all versions.
	minHeader = 24
	maxHeader = 192
	maxRecord = 144
	crcSize   = 4
)

// field is one row of a layout: where a field is, in the versions since..until.
type field struct {
	id           int
	name         string
	since, until Version
	off, size    int
}

// The fields of the header.
const (
	hGeneration = iota
	hFormat
	hVersion
	hStartOffset
	hRecordSize
	hNumRecords
	hLastAppend
	hLastUID
	hQuotaUsed
	hPOP3LastLogin
	hUIDValidity
	hDeleted
	hAnswered
	hFlagged
	hExists
	hOptions
	hLeakedCache
	hHighestModSeq
	hDeletedModSeq
	hFirstExpunged
	hLastRepack
	hHeaderFileCRC
	hSyncBasic
	hRecentUID
	hRecentTime
	hPOP3ShowAfter
	hQuotaAnnot
	hSyncAnnot
	hUnseen
	hCreatedModSeq
	hChangesEpoch
	hQuotaDeleted
	hQuotaExpunged
	hCRC
	headerFieldCount
)

var headerFields = []field{
	{hGeneration, "generation_no", 6, 20, 0, 4},
	{hFormat, "format", 6, 20, 4, 4},
	{hVersion, "minor_version", 6, 20, 8, 4},
	{hStartOffset, "start_offset", 6, 20, 12, 4},
	{hRecordSize, "record_size", 6, 20, 16, 4},
	{hNumRecords, "num_records", 6, 20, 20, 4},
	{hLastAppend, "last_appenddate", 6, 19, 24, 4},
	{hLastAppend, "last_appenddate", 20, 20, 24, 8},
	{hLastUID, "last_uid", 6, 19, 28, 4},
	{hLastUID, "last_uid", 20, 20, 88, 4},
	{hQuotaUsed, "quota_mailbox_used", 6, 20, 32, 8},
	{hPOP3LastLogin, "pop3_last_login", 6, 19, 40, 4},
	{hPOP3LastLogin, "pop3_last_login", 20, 20, 40, 8},
	{hUIDValidity, "uidvalidity", 6, 19, 44, 4},
	{hUIDValidity, "uidvalidity", 20, 20, 92, 4},
	{hDeleted, "deleted", 6, 20, 48, 4},
	{hAnswered, "answered", 6, 20, 52, 4},
	{hFlagged, "flagged", 6, 20, 56, 4},
	{hExists, "exists", 12, 18, 84, 4},
	{hExists, "exists", 19, 20, 60, 4},
	{hOptions, "options", 6, 18, 60, 4},
	{hOptions, "options", 19, 20, 64, 4},
	{hLeakedCache, "leaked_cache_records", 6, 18, 64, 4},
	{hLeakedCache, "leaked_cache_records", 19, 20, 68, 4},
	{hHighestModSeq, "highestmodseq", 8, 18, 68, 8},
	{hHighestModSeq, "highestmodseq", 19, 20, 72, 8},
	{hDeletedModSeq, "deletedmodseq", 12, 18, 76, 8},
	{hDeletedModSeq, "deletedmodseq", 19, 20, 80, 8},
	{hFirstExpunged, "first_expunged", 12, 19, 88, 4},
	{hFirstExpunged, "first_expunged", 20, 20, 168, 8},
	{hLastRepack, "last_repack_time", 12, 19, 92, 4},
	{hLastRepack, "last_repack_time", 20, 20, 176, 8},
	{hHeaderFileCRC, "header_file_crc", 12, 20, 96, 4},
	{hSyncBasic, "synccrc_basic", 12, 20, 100, 4},
	{hRecentUID, "recentuid", 12, 19, 104, 4},
	{hRecentUID, "recentuid", 20, 20, 184, 4},
	{hRecentTime, "recenttime", 12, 19, 108, 4},
	{hRecentTime, "recenttime", 20, 20, 104, 8},
	{hPOP3ShowAfter, "pop3_show_after", 13, 19, 112, 4},
	{hPOP3ShowAfter, "pop3_show_after", 20, 20, 112, 8},
	{hQuotaAnnot, "quota_annot_used", 13, 19, 116, 4},
	{hQuotaAnnot, "quota_annot_used", 20, 20, 152, 8},
	{hSyncAnnot, "synccrc_annot", 13, 20, 120, 4},
	{hUnseen, "unseen", 14, 20, 124, 4},
	{hCreatedModSeq, "createdmodseq", 16, 20, 128, 8},
	{hChangesEpoch, "changes_epoch", 17, 18, 136, 4},
	{hChangesEpoch, "changes_epoch", 19, 19, 152, 4},
	{hChangesEpoch, "changes_epoch", 20, 20, 160, 8},
	{hQuotaDeleted, "quota_deleted_used", 18, 18, 140, 8},
	{hQuotaDeleted, "quota_deleted_used", 19, 20, 136, 8},
	{hQuotaExpunged, "quota_expunged_used", 18, 18, 148, 8},
	{hQuotaExpunged, "quota_expunged_used", 19, 20, 144, 8},
	{hCRC, "header_crc", 12, 13, 124, 4},
	{hCRC, "header_crc", 14, 19, 156, 4},
	{hCRC, "header_crc", 20, 20, 188, 4},
}

// The fields of a record.
const (
	rUID = iota
	rInternalDate
	rSentDate
	rSize
	rHeaderSize
	rContentOffset
	rGMTime
	rCacheOffset
	rLastUpdated
	rFlags
	rUserFlags
	rContentLines
	rSaveDate
	rCacheVersion
	rUUID
	rGUID
	rModSeq
	rCID
	rCreatedModSeq
	rBaseCID
	rCacheCRC
	rCRC
	recordFieldCount
)

var recordFields = []field{
	{rUID, "uid", 6, 20, 0, 4},
	{rInternalDate, "internaldate", 6, 19, 4, 4},
	{rInternalDate, "internaldate", 20, 20, 8, 8},
	{rSentDate, "sentdate", 6, 19, 8, 4},
	{rSentDate, "sentdate", 20, 20, 16, 8},
	{rSize, "size", 6, 19, 12, 4},
	{rSize, "size", 20, 20, 24, 8},
	{rHeaderSize, "header_size", 6, 19, 16, 4},
	{rHeaderSize, "header_size", 20, 20, 32, 4},
	{rContentOffset, "content_offset", 6, 10, 20, 4},
	{rGMTime, "gmtime", 12, 19, 20, 4},
	{rGMTime, "gmtime", 20, 20, 104, 8},
	{rCacheOffset, "cache_offset", 6, 19, 24, 4},
	{rCacheOffset, "cache_offset", 20, 20, 4, 4},
	{rLastUpdated, "last_updated", 6, 19, 28, 4},
	{rLastUpdated, "last_updated", 20, 20, 112, 8},
	{rFlags, "flags", 6, 19, 32, 4},
	{rFlags, "flags", 20, 20, 36, 4},
	{rUserFlags, "user_flags", 6, 19, 36, 16},
	{rUserFlags, "user_flags", 20, 20, 40, 16},
	{rContentLines, "content_lines", 6, 14, 52, 4},
	{rSaveDate, "savedate", 15, 19, 52, 4},
	{rSaveDate, "savedate", 20, 20, 120, 8},
	{rCacheVersion, "cache_version", 6, 20, 56, 4},
	{rUUID, "uuid", 7, 9, 60, 12},
	{rGUID, "guid", 10, 20, 60, 20},
	{rModSeq, "modseq", 8, 9, 72, 8},
	{rModSeq, "modseq", 10, 20, 80, 8},
	{rCID, "cid", 13, 20, 88, 8},
	{rCreatedModSeq, "createdmodseq", 16, 20, 96, 8},
	{rBaseCID, "basecid", 20, 20, 128, 8},
	{rCacheCRC, "cache_crc", 12, 12, 88, 4},
	{rCacheCRC, "cache_crc", 13, 15, 96, 4},
	{rCacheCRC, "cache_crc", 16, 19, 104, 4},
	{rCacheCRC, "cache_crc", 20, 20, 136, 4},
	{rCRC, "record_crc", 12, 12, 92, 4},
	{rCRC, "record_crc", 13, 15, 100, 4},
	{rCRC, "record_crc", 16, 19, 108, 4},
	{rCRC, "record_crc", 20, 20, 140, 4},
}

// place is where a field is in one version; its size is 0 if the version has no such field.
type place struct{ off, size uint8 }

// layout is the format of one version, compiled from the tables.
type layout struct {
	versionRow
	header [headerFieldCount]place
	record [recordFieldCount]place
	// spare are the bytes of the header that no field covers.
	spare []place
}

// layouts has the layout of each version, nil for those that are not known.
var layouts = func() (all [VersionLatest + 1]*layout) {
	for _, row := range versions {
		l := &layout{versionRow: row}
		covered := make([]bool, row.headerSize)
		for _, f := range headerFields {
			if f.since <= row.version && row.version <= f.until {
				l.header[f.id] = place{uint8(f.off), uint8(f.size)}
				for i := range f.size {
					covered[f.off+i] = true
				}
			}
		}
		for _, f := range recordFields {
			if f.since <= row.version && row.version <= f.until {
				l.record[f.id] = place{uint8(f.off), uint8(f.size)}
			}
		}
		for off, is := range covered {
			if !is {
				l.spare = append(l.spare, place{uint8(off), 1})
			}
		}
		all[row.version] = l
	}
	return all
}()

// layoutOf returns the layout of a version, nil if it is not known.
func layoutOf(v Version) *layout {
	if v > VersionLatest {
		return nil
	}
	return layouts[v]
}

// Versions lists the versions that can be read and written, in ascending order.
func Versions() (list []Version) {
	for _, row := range versions {
		list = append(list, row.version)
	}
	return list
}

// Known tells whether the version can be read and written.
func (v Version) Known() bool { return layoutOf(v) != nil }

// HeaderSize is the size of the header, 0 for an unknown version.
func (v Version) HeaderSize() int {
	if l := layoutOf(v); l != nil {
		return l.headerSize
	}
	return 0
}

// RecordSize is the size of a record, 0 for an unknown version.
func (v Version) RecordSize() int {
	if l := layoutOf(v); l != nil {
		return l.recordSize
	}
	return 0
}

// HasChecksums tells whether header, records and cache records are protected by checksums.
func (v Version) HasChecksums() bool { return v >= versionChecksums }

// CountsUnseen tells whether the header has the number of unseen messages.
func (v Version) CountsUnseen() bool { return v.hasHeaderField(hUnseen) }

// get reads an integer; an absent one is 0.
func (p place) get(b []byte) uint64 {
	switch p.size {
	case 4:
		return uint64(binary.BigEndian.Uint32(b[p.off:]))
	case 8:
		return binary.BigEndian.Uint64(b[p.off:])
	}
	return 0
}

func (p place) get32(b []byte) uint32 {
	if p.size != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b[p.off:])
}

func (p place) time(b []byte) Time {
	t := Time(p.get(b))
	if p.size == 4 {
		t *= second
	}
	return t
}

// put writes the low bits of an integer that fit; see holds.
func (p place) put(b []byte, v uint64) {
	switch p.size {
	case 4:
		binary.BigEndian.PutUint32(b[p.off:], uint32(v))
	case 8:
		binary.BigEndian.PutUint64(b[p.off:], v)
	}
}

func (p place) putTime(b []byte, t Time) {
	if p.size == 4 {
		t /= second
	}
	p.put(b, uint64(t))
}

func (p place) bytes(b []byte) []byte { return b[p.off : p.off+p.size] }

// holds tells whether the field can hold the value. What a version has no field for is left out, which is no loss of
// the codec's.
func (p place) holds(v uint64) bool { return p.size != 4 || v>>32 == 0 }

func (p place) holdsTime(t Time) bool {
	return p.size != 4 || t%second == 0 && uint64(t/second)>>32 == 0
}

// checksum is that of zlib.
func checksum(b []byte) uint32 { return crc32.ChecksumIEEE(b) }
