// Package twoskip is the codec of Cyrus's twoskip format, version 1: the default engine since Cyrus 2.5.
//
// The file is a header, a DUMMY record that begins the links of all levels, and a log of RECORD, DELETE and COMMIT
// records. Integers are big-endian. Each record has a checksum over its head (which holds the links, and is rewritten
// when they change) and one over key and value (which never change). docs/format/twoskip.md describes it.
package twoskip

import (
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/mailspine/mailspine/internal/planted"
)

// The header.
const (
	magic         = "\xa1\x02\x8b\x0dtwoskip file\x00\x00\x00\x00"
	offVersion    = 20
	offGeneration = 24
	offRecords    = 32
	offRepackSize = 40
	offSize       = 48
	offFlags      = 56
	offCRC        = 60
	headerSize    = 64

	version   = 1
	flagDirty = 1
)

// The types of records.
const (
	typeDummy  = '='
	typeRecord = '+'
	typeDelete = '-'
	typeCommit = '$'
)

const (
	offDummy = headerSize
	// maxLevel is the number of levels of the DUMMY, and the most a record may have.
	maxLevel = 31
	// fixedHead is the part of a head before the long lengths and the pointers.
	fixedHead = 8
	ptrSize   = 8
	crcSize   = 4
	// markSize is the size of a DELETE or COMMIT record: a head with one pointer.
	markSize  = fixedHead + ptrSize + 2*crcSize
	dummySize = fixedHead + (maxLevel+1)*ptrSize + 2*crcSize
	emptySize = offDummy + dummySize

	longKey   = 0xffff
	longValue = 0xffffffff
	// maxLength bounds a key or a value, in bytes, so that the size of a record fits an int; no file is as large.
	maxLength = math.MaxInt / 4

	// blank fills the space before a head that would else lie across a sector.
	blank     = " BLANK\x07\xa0"
	blankSize = 8
	sector    = 512
	// maxGuarded is the largest head that is kept within a sector.
	maxGuarded = 504
	// checkpointMin is the size below which Cyrus does not checkpoint.
	checkpointMin = 16834
)

var be = binary.BigEndian

func checksum(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

// pad rounds up to the alignment of records.
func pad(n int64) int64 { return (n + 7) &^ 7 }

// pointers is the number of pointer slots of a record: two alternatives for the first level, one for each other.
func pointers(level int) int64 { return int64(level) + 1 }

// blanks is how many fillers stand before a head of the given size at off, so that everything that is ever rewritten in
// it, from the first pointer to its checksum, lies in one sector.
func blanks(off, head int64) (n int64) {
	for isAcross(off, head) && !planted.On(planted.BlanksOmitted) {
		off += blankSize
		n++
	}
	return n
}

// isAcross tells whether the pointers and the checksum of a head at off lie in two sectors. Longer heads cannot be helped.
func isAcross(off, head int64) bool {
	return head <= maxGuarded && (off+8)%sector > (off-8+head)%sector
}
