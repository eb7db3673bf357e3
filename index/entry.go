package index

import (
	"encoding/binary"
	"errors"
)

// entry is what the journal holds of a transaction that overwrites something: enough to finish it or to undo it, by
// whoever finds it, with the lock of cyrus.index alone. The key of the entry is the path of cyrus.index.
//
// Its form, as bytes: entryVersion (4), the inode of cyrus.index (8), then fields of a length (8) and that many bytes each:
// the header of cyrus.index before and after; the path of cyrus.header, its bytes before and after, empty if it stays; the
// bytes of the participant; the records, each a number (4) and its bytes before and after, in one field; the paths of files
// that go after the commit, and of those that were made for it, each with a NUL behind it. Integers are big-endian.
type entry struct {
	ino             uint64
	before, after   []byte
	headerPath      string
	headerBefore    []byte
	headerAfter     []byte
	participant     []byte
	records         []entryRecord
	unlink, created []string
}

type entryRecord struct {
	no            RecordNo
	before, after []byte
}

const entryVersion = 1

// size is the number of bytes that append adds.
func (e *entry) size() int {
	n := 12 + 9*8 + len(e.before) + len(e.after) + len(e.headerPath) + len(e.headerBefore) + len(e.headerAfter) + len(e.participant)
	for _, r := range e.records {
		n += 4 + len(r.before) + len(r.after)
	}
	for _, list := range [][]string{e.unlink, e.created} {
		for _, path := range list {
			n += len(path) + 1
		}
	}
	return n
}

func (e *entry) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, entryVersion)
	dst = binary.BigEndian.AppendUint64(dst, e.ino)
	field := func(b []byte) { dst = append(binary.BigEndian.AppendUint64(dst, uint64(len(b))), b...) }
	for _, b := range [][]byte{e.before, e.after, []byte(e.headerPath), e.headerBefore, e.headerAfter, e.participant} {
		field(b)
	}
	size := 0
	for _, r := range e.records {
		size += 4 + len(r.before) + len(r.after)
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(size))
	for _, r := range e.records {
		dst = append(append(binary.BigEndian.AppendUint32(dst, uint32(r.no)), r.before...), r.after...)
	}
	for _, list := range [][]string{e.unlink, e.created} {
		var b []byte
		for _, path := range list {
			b = append(append(b, path...), 0)
		}
		field(b)
	}
	return dst
}

// errEntry means that a journal entry cannot be understood: a later release has written it.
var errEntry = errors.New("a journal entry of another release")

// decode reads an entry. Slices are parts of b.
func (e *entry) decode(b []byte) error {
	if len(b) < 12 || binary.BigEndian.Uint32(b) != entryVersion {
		return errEntry
	}
	e.ino = binary.BigEndian.Uint64(b[4:])
	b = b[12:]
	var fields [9][]byte
	for i := range fields {
		if len(b) < 8 {
			return errEntry
		}
		n := binary.BigEndian.Uint64(b)
		if n > uint64(len(b)-8) {
			return errEntry
		}
		fields[i], b = b[8:8+n], b[8+n:]
	}
	e.before, e.after, e.headerPath = fields[0], fields[1], string(fields[2])
	e.headerBefore, e.headerAfter, e.participant = fields[3], fields[4], fields[5]
	e.unlink, e.created = paths(fields[7]), paths(fields[8])
	var h Header
	if len(b) != 0 || len(e.before) != len(e.after) || h.Decode(e.before) != nil || len(e.before) != h.Version.HeaderSize() {
		return errEntry
	}
	size := int(h.RecordSize)
	list := fields[6]
	if len(list)%(4+2*size) != 0 {
		return errEntry
	}
	for ; len(list) > 0; list = list[4+2*size:] {
		r := entryRecord{no: RecordNo(binary.BigEndian.Uint32(list)), before: list[4 : 4+size], after: list[4+size : 4+2*size]}
		if r.no == 0 || r.no > RecordNo(h.NumRecords) {
			return errEntry
		}
		e.records = append(e.records, r)
	}
	return nil
}

// paths splits a list of paths.
func paths(b []byte) (list []string) {
	start := 0
	for i, c := range b {
		if c == 0 {
			list = append(list, string(b[start:i]))
			start = i + 1
		}
	}
	return list
}

// header is the header that the transaction began with.
func (e *entry) header() (h Header) {
	_ = h.Decode(e.before) // decode has looked
	return h
}
