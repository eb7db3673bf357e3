package v1

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

// resync returns the offset of the first committed transaction, or in the checkpointed part the first plausible record,
// that starts at from or later; -1 if there is none.
func (r *replay) resync(from int64) int64 {
	dead := map[int64]bool{} // starts of runs that are known to lead nowhere
	for off := (from + 3) &^ 3; off+word <= r.end; off += word {
		typ, err := r.word(off)
		if err != nil {
			return -1
		}
		switch typ {
		case typeAdd, typeDelete:
			if !dead[off] && r.run(off, dead) {
				return off
			}
		case typeInorder:
			if off < r.h.LogStart && r.opt.Salvage {
				if rec, err := r.record(off, typ); err == nil && r.fits(rec) {
					return off
				}
			}
		}
	}
	return -1
}

// chain tells whether a committed transaction starts at off.
func (r *replay) chain(off int64) bool { return r.run(off, map[int64]bool{}) }

// run follows the records from off to a COMMIT. Every offset it visits in vain is remembered, so that the whole search
// is linear.
func (r *replay) run(off int64, dead map[int64]bool) bool {
	var visited []int64
	for off < r.end && !dead[off] {
		e, err := r.entry(off)
		if err != nil {
			break
		}
		if e.typ == typeCommit {
			return len(visited) > 0
		}
		if !r.possible(e) {
			break
		}
		visited = append(visited, off)
		off += e.size
	}
	for _, v := range visited {
		dead[v] = true
	}
	return false
}

// possible tells whether the references of a log record make sense.
func (r *replay) possible(e entry) bool {
	if e.typ == typeAdd {
		return r.fits(e.record)
	}
	typ, err := r.word(e.target)
	if err != nil || e.target%word != 0 || e.target < emptySize || e.target >= e.off {
		return false
	}
	if typ != typeAdd && typ != typeInorder {
		return false
	}
	_, err = r.record(e.target, typ)
	return err == nil
}

// fits tells whether every pointer of a record is zero or leads to a record with a greater key.
func (r *replay) fits(rec record) bool {
	key, err := r.key(rec)
	if err != nil {
		return false
	}
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
		if at%word != 0 || at < emptySize || at >= r.end {
			return false
		}
		typ, err := r.word(at)
		if err != nil || typ != typeAdd && typ != typeInorder {
			return false
		}
		next, err := r.record(at, typ)
		if err != nil {
			return false
		}
		if other, err := r.key(next); err != nil || r.ed.Lookup().Compare(key, other) >= 0 {
			return false
		}
	}
	return true
}
