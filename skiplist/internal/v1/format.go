// Package v1 is the codec of Cyrus's skiplist format, version 1: the format of every release that has the engine.
//
// The file is a header, a DUMMY record that begins the links of all levels, the INORDER records of the last checkpoint,
// and a log of ADD, DELETE and COMMIT records. All integers are unsigned, 32 bits, big-endian; there are no checksums.
// docs/format/skiplist.md describes it.
package v1

import "encoding/binary"

// The header.
const (
	magic       = "\xa1\x02\x8b\x0dskiplist file\x00\x00\x00"
	offVersion  = 20
	offMinor    = 24
	offMaxLevel = 28
	offCurLevel = 32
	offListSize = 36
	offLogStart = 40
	offLastRec  = 44
	headerSize  = 48

	version      = 1
	versionMinor = 2
	// maxLevel is the number of levels of every file made by Cyrus, and the most it accepts.
	maxLevel = 20
)

// The type words of records.
const (
	typeInorder = 1
	typeAdd     = 2
	typeDelete  = 4
	typeCommit  = 255
	typeDummy   = 257
)

const (
	word = 4
	// terminator ends the pointers of a record; their number is not stored.
	terminator = 0xffffffff
	// offDummy is where the DUMMY record starts.
	offDummy = headerSize
	// dummyOverhead is what a DUMMY holds besides its pointers: type, two lengths, terminator.
	dummyOverhead = 4 * word
	emptySize     = offDummy + dummyOverhead + maxLevel*word
	deleteSize    = 2 * word
	commitSize    = word
	// maxFile bounds the offsets that are written. Cyrus computes with 32 bits, and with twice logstart.
	maxFile = 1 << 31
	// checkpointSlack is the odd number in Cyrus's rule for a checkpoint.
	checkpointSlack = 16834
)

var be = binary.BigEndian

// pad rounds up to whole words.
func pad(n int64) int64 { return (n + 3) &^ 3 }

// recordSize is the size of an INORDER or ADD record.
func recordSize(klen, dlen int64, level int) int64 {
	return 4*word + pad(klen) + pad(dlen) + int64(level)*word
}

// record is a parsed INORDER or ADD record.
type record struct {
	typ        uint32
	off        int64
	klen, dlen int64
	level      int
	size       int64
}

func (r record) keyOff() int64   { return r.off + 2*word }
func (r record) dlenOff() int64  { return r.keyOff() + pad(r.klen) }
func (r record) valueOff() int64 { return r.dlenOff() + word }

// ptrOff is where the pointer of a level stands.
func (r record) ptrOff(level int) int64 { return r.valueOff() + pad(r.dlen) + int64(level)*word }
