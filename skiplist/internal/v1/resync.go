package v1

import "math/bits"

// When a record is impossible, two things can have happened. After a crash the file ends in a transaction that was not
// committed, parts of which never reached the disk: nothing in it was acknowledged, and it may be cut off. Or something
// damaged a record that was committed, and everything that follows it was committed too: then nothing may be cut off.
//
// A writer puts the COMMIT of a transaction on the disk only after a sync of its records, so a committed transaction
// after the impossible record tells damage. There are no checksums to recognise one by; what counts is a run of
// well-formed ADD and DELETE records that ends with a COMMIT and whose references are possible: the pointers of an ADD
// lead to records with greater keys, a DELETE names a record that stands before it. Values may hold bytes that look like
// records. To look like a committed transaction they would have to hold pointers that fit this very file. The price of
// a mistake is on the safe side: a torn tail is taken for damage, and nothing is cut.

// maxCompared bounds, in bytes, how much of two keys is compared to see whether a pointer is possible. Damage can make
// keys of any part of a file, and a search that compared them whole would take for ever.
const maxCompared = 256

// resync returns the offset of the first committed transaction that starts at from or later; -1 if there is none. All
// searches of one replay together take linear time: a place from which no COMMIT is reached is remembered, in one bit,
// and one from which it is reached is read and not searched again.
//
// In a salvage any plausible record will do that stands before the last COMMIT of the file: a tail that is not committed
// is cut off before the next transaction is written, so all that precedes a COMMIT was committed.
func (r *replay) resync(from int64) int64 {
	for off := (from + 3) &^ 3; off+word <= r.end; off += word {
		typ, err := r.word(off)
		if err != nil {
			return -1
		}
		switch typ {
		case typeAdd, typeDelete:
			if r.chain(off) || r.opt.Salvage && off < r.lastCommit() && r.plausible(off) {
				return off
			}
		case typeInorder:
			if r.opt.Salvage && r.mayBeInorder(off) && r.plausible(off) {
				return off
			}
		}
	}
	return -1
}

// plausible tells whether a possible ADD or INORDER record stands at off.
func (r *replay) plausible(off int64) bool {
	rec, readable := r.at(off)
	return readable && r.fits(rec)
}

// lastCommit returns the offset of a record behind the first damage that is followed by the last COMMIT of the file, or of
// that COMMIT; -1 if there is none.
func (r *replay) lastCommit() int64 {
	if r.committed != 0 {
		return r.committed
	}
	r.committed = -1
	if r.endsInCommit(r.broken) {
		r.committed = r.end - commitSize
		return r.committed
	}
	for off := r.end&^3 - commitSize; off > r.broken; off -= word {
		typ, err := r.word(off)
		if err != nil {
			break
		}
		if (typ == typeAdd || typ == typeDelete) && r.chain(off) {
			r.committed = off
			break
		}
	}
	return r.committed
}

// mayBeInorder tells whether off lies in the checkpointed part, as far as the header knows.
func (r *replay) mayBeInorder(off int64) bool { return off < r.h.LogStart || r.h.LogStart == 0 }

// chain tells whether a committed transaction starts at start: records that lead to a COMMIT.
func (r *replay) chain(start int64) bool {
	off := start
	for off < r.end && !r.dead.has(off) {
		e, err := r.entry(off)
		if err != nil {
			break
		}
		if e.typ == typeCommit {
			return off > start
		}
		if !r.possible(e) {
			break
		}
		off += e.size
	}
	for at := start; at < off; {
		r.dead.add(at)
		e, err := r.entry(at)
		if err != nil {
			break
		}
		at += e.size
	}
	return false
}

// endsInCommit tells whether the file ends, behind at, as only a committed one does: with the end of an ADD or a DELETE
// and a COMMIT, in all of which at most single bits are wrong. A crash does not leave that: the COMMIT is written alone,
// after all else is on the disk. (The word before it matters: the right part of a torn FFFFFFFF looks like a COMMIT.)
func (r *replay) endsInCommit(at int64) bool {
	last := r.end - commitSize
	if r.end%word != 0 || last < at || last < emptySize+deleteSize {
		return false
	}
	if last == at {
		return r.txn.n > 0 && r.differs(last, typeCommit) == 1
	}
	if r.differs(last, typeCommit) != 0 {
		return false
	}
	if r.differs(last-word, terminator) <= 1 {
		return true
	}
	target, err := r.word(last - word)
	if err != nil || r.differs(last-deleteSize, typeDelete) > 1 {
		return false
	}
	_, readable := r.at(int64(target))
	return readable && int64(target) < at
}

// differs counts the bits in which the word at off differs from want.
func (r *replay) differs(off int64, want uint32) int {
	w, err := r.word(off)
	if err != nil {
		return 8 * word
	}
	return bits.OnesCount32(w ^ want)
}

// possible tells whether the references of a log record make sense.
func (r *replay) possible(e entry) bool {
	if e.typ == typeAdd {
		return r.fits(e.record)
	}
	if e.target%word != 0 || e.target < emptySize || e.target >= e.off {
		return false
	}
	_, readable := r.at(e.target)
	return readable || r.unknown(e.target)
}

// at reads the ADD or INORDER record at off.
func (r *replay) at(off int64) (record, bool) {
	typ, err := r.word(off)
	if err != nil || typ != typeAdd && typ != typeInorder {
		return record{}, false
	}
	rec, err := r.record(off, typ)
	return rec, err == nil
}

// unknown tells whether something unreadable at off may have been a record: from the first damage on.
func (r *replay) unknown(off int64) bool { return r.broken >= 0 && off >= r.broken }

// fits tells whether every pointer of a record is zero or leads to a record with a greater key.
func (r *replay) fits(rec record) bool {
	last := int64(-1)
	for i := range rec.level {
		to, err := r.word(rec.ptrOff(i))
		if err != nil {
			return false
		}
		at := int64(to)
		if at == 0 || at == last {
			continue
		}
		last = at
		if at >= r.end {
			return false
		}
		next, readable := r.at(at)
		if readable && !r.before(rec, next) || !readable && !r.unknown(at) {
			return false
		}
	}
	return true
}

// before tells whether the key of a is less than that of b, as far as the first bytes tell.
func (r *replay) before(a, b record) bool {
	ka, errA := r.v.Bytes(a.keyOff(), min(a.klen, maxCompared))
	kb, errB := r.v.Bytes(b.keyOff(), min(b.klen, maxCompared))
	if errA != nil || errB != nil {
		return false
	}
	if d := r.ed.Lookup().Compare(ka, kb); d != 0 {
		return d < 0
	}
	return a.klen > maxCompared && b.klen > maxCompared || a.klen < b.klen
}

// marks is a set of offsets of words, a bit for each, in blocks that are made when needed.
type marks map[int64]*[markWords]uint64

const (
	markWords = 512
	// markSpan is how much of a file a block stands for.
	markSpan = markWords * 64 * word
)

func (m marks) has(off int64) bool {
	b := m[off/markSpan]
	return b != nil && b[off%markSpan/(64*word)]&(1<<(off/word%64)) != 0
}

func (m marks) add(off int64) {
	b := m[off/markSpan]
	if b == nil {
		b = new([markWords]uint64)
		m[off/markSpan] = b
	}
	b[off%markSpan/(64*word)] |= 1 << (off / word % 64)
}
