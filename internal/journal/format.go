package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/mailspine/mailspine/internal/planted"
)

// The layout of a slot file. Integers are big-endian and unsigned; sizes and offsets are in bytes.
//
//	offset  size
//	     0     8  magicEntry: an entry follows; magicFree: none; anything else: the file is being made, or nobody knows
//	     8     4  version, 1
//	    12     4  length of the key
//	    16     8  length of the payload
//	    24     8  when the entry was written, in nanoseconds since 1970
//	    32    32  SHA-256 of the bytes before it, the key and the payload
//	    64        key, payload
//
// The head lies in one sector, which reaches the disk whole. Key and payload need not: of an entry that was not written to its
// end the hash is wrong, whatever stood in the file before. A hash and not a CRC, because the bytes of an older entry are what
// stands there, and they are very like the new ones.
const (
	headBytes    = 64
	offVersion   = 8
	offKeyLen    = 12
	offLen       = 16
	offTime      = 24
	offSum       = 32
	entryVersion = 1

	// slotBytes is the size of a fresh slot: the space that is there when the disk is full.
	slotBytes = 16 << 10
	// keepBytes is how large a slot may stay once its entry is done.
	keepBytes = 1 << 20
	// slotsMax bounds the number of slots, keyMax the length of a key, entryMax that of an entry that is believed.
	slotsMax = 256
	keyMax   = 8 << 10
	entryMax = 1 << 32
)

var (
	magicEntry = [8]byte{'M', 'S', 'j', 'r', 'n', 'l', 'E', '\n'}
	magicFree  = [8]byte{'M', 'S', 'j', 'r', 'n', 'l', 'F', '\n'}
)

// appendEntry appends a whole entry.
func appendEntry(dst []byte, key string, unixNano int64, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, magicEntry[:]...)
	dst = binary.BigEndian.AppendUint32(dst, entryVersion)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(key)))
	dst = binary.BigEndian.AppendUint64(dst, uint64(len(payload)))
	dst = binary.BigEndian.AppendUint64(dst, uint64(unixNano))
	dst = append(dst, make([]byte, sha256.Size)...)
	dst = append(append(dst, key...), payload...)
	sum := entrySum(dst[start:])
	copy(dst[start+offSum:], sum[:])
	return dst
}

func entrySum(entry []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	h.Write(entry[:offSum])
	h.Write(entry[headBytes:])
	h.Sum(sum[:0])
	return sum
}

// head is what the first bytes of a slot say.
type head struct {
	free, entry bool
	keyLen      int
	len         int64
	time        int64
}

// decodeHead reads the head at the start of b, which may be shorter.
func decodeHead(b []byte) (h head) {
	if len(b) < headBytes {
		return h
	}
	magic := [8]byte(b)
	h.free = magic == magicFree
	keyLen, n := binary.BigEndian.Uint32(b[offKeyLen:]), binary.BigEndian.Uint64(b[offLen:])
	if magic != magicEntry || binary.BigEndian.Uint32(b[offVersion:]) != entryVersion || keyLen > keyMax || n > entryMax {
		return h
	}
	h.entry, h.keyLen, h.len = true, int(keyLen), int64(n)
	h.time = int64(binary.BigEndian.Uint64(b[offTime:]))
	return h
}

// size is that of the whole entry.
func (h head) size() int64 { return headBytes + int64(h.keyLen) + h.len }

// whole tells whether the entry that b begins with is complete.
func (h head) whole(b []byte) bool {
	if !h.entry || int64(len(b)) < h.size() {
		return false
	}
	sum := entrySum(b[:h.size()])
	return bytes.Equal(sum[:], b[offSum:headBytes]) || planted.On(planted.JournalTornBelieved)
}
