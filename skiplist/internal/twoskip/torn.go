package twoskip

import (
	"bytes"
	"iter"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// tornHeader recognises a header of which only a part was written over the one before. What stands there, b, is then
// the first k bytes of a header "after" and the rest of a header "before", each of which says what the log says: a
// current_size at which the last transaction of the file begins or ends, a count of records that this transaction can
// have made of the other one, and the rest as it is, for no writer changes it in place.
//
//   - Up to its checksum, before stands: its checksum is whole, and vouches for what the log says of it. The write that
//     was cut has not reached its end, so it was reported as failed.
//   - Within the checksum, after stands: all its fields are there. If it carries a commit, that was either reported as
//     unknown, or has been acknowledged, and the checksum has been damaged since; it must not be lost.
//
// Anything else is damage. A damaged header of another kind passes for one of these as often as a checksum of 32 bits
// agrees by chance, and even then it is read as of one of the last two transactions.
func tornHeader(v *codec.View, b []byte) (codec.Header, bool) {
	if len(b) < headerSize {
		return codec.Header{}, false
	}
	ends, changes := lastTransaction(v)
	found := decodeHeader(b)
	var can []codec.Header
	for _, end := range ends {
		for _, dirty := range []bool{false, true} {
			h := found
			h.End, h.Dirty = end, dirty
			can = append(can, h)
		}
	}
	for _, after := range can {
		if after.End == found.End && after.Dirty == found.Dirty && endsWithin(b, after, can, changes) {
			return asTorn(after), true
		}
	}
	for _, before := range can {
		for n := range counts(found.Records, changes) {
			before.Records = n
			whole := appendHeader(nil, before)
			if !bytes.Equal(whole[offCRC:], b[offCRC:]) {
				continue
			}
			for _, after := range can {
				// If the count is torn as well, what is found is neither's; the checksum vouches for that of before.
				if after.Records = found.Records; isTear(b, appendHeader(nil, after), whole, offCRC) {
					return asTorn(before), true
				}
			}
		}
	}
	return codec.Header{}, false
}

func asTorn(h codec.Header) codec.Header {
	h.Dirty, h.Torn = true, true
	return h
}

// endsWithin tells whether b is the header after, with the end of the checksum of another one.
func endsWithin(b []byte, after codec.Header, can []codec.Header, changes int) bool {
	now := appendHeader(nil, after)
	if now[offCRC] != b[offCRC] || !bytes.Equal(now[:offCRC], b[:offCRC]) {
		return false
	}
	for _, before := range can {
		for n := range counts(after.Records, changes) {
			before.Records = n
			if isTear(b, now, appendHeader(nil, before), headerSize) {
				return true
			}
		}
	}
	return false
}

// counts yields the numbers of records of which a transaction may have made n, or the other way round. Where a number is
// torn its upper bytes are those of another one, by one more or less.
func counts(n uint64, changes int) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for _, carry := range []uint64{0, 1 << 8, 1 << 16, 1 << 24} {
			for d := range uint64(2*changes + 1) {
				k := n + d - uint64(changes)
				if !yield(k+carry) || carry > 0 && !yield(k-carry) {
					return
				}
			}
		}
	}
}

// isTear tells whether b is the beginning of after, up to an offset that is at most limit, and the rest of before.
func isTear(b, after, before []byte, limit int) bool {
	k := 0
	for k < limit && b[k] == after[k] {
		k++
	}
	return bytes.Equal(b[k:], before[k:])
}

// lastTransaction returns where the last whole transaction of the file begins and ends, and the number of its changes.
func lastTransaction(v *codec.View) (ends [2]int64, changes int) {
	p := parser{buffered(v), v.End()}
	ends = [2]int64{emptySize, emptySize}
	n := 0
	for off := int64(emptySize); off < p.end; {
		if size, _ := p.quick(off); size > 0 {
			off, n = off+size, n+1
			continue
		}
		if p.isBlank(off) {
			off += blankSize
			continue
		}
		rec, _, err := p.whole(off)
		if err != nil || rec.typ == typeDummy {
			break
		}
		off += rec.size
		n++
		if rec.typ == typeCommit {
			ends, changes, n = [2]int64{ends[1], off}, n, 0
		}
	}
	return ends, changes
}
