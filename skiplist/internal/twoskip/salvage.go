package twoskip

import (
	"errors"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// errInDoubt says that it cannot be told what a DELETE deleted.
var errInDoubt = errors.New("it is uncertain which record the DELETE removed, as records before it are unreadable")

// salvage reads the log from off to limit and goes on behind whatever is unreadable. What lies before the current_size
// of a header was committed, with or without a readable COMMIT, and is applied as it is read; without a header it is the
// COMMITs that tell.
func (r *replay) salvage(off, limit int64) error {
	known := r.h.End != 0
	r.evidence = true
	err := r.scan(off, limit, func(rec record, b []byte) {
		switch {
		case rec.typ != typeCommit:
			c := changeOf(rec, b)
			c.doubt = r.doubt
			r.pending = append(r.pending, c)
			if known {
				r.applyReadable()
			}
			return
		case !r.doubt && rec.slot(b, 0) != r.log.End:
			r.unreadable(rec.off, errors.New("the COMMIT is not for the transaction before it"))
		}
		r.applyReadable()
		if !r.doubt {
			r.log.End = rec.off + rec.size
		}
	})
	if err != nil || known {
		if !r.doubt && err == nil {
			r.log.End = limit
		}
		return err
	}
	if r.log.Uncommitted = len(r.pending); r.log.Uncommitted == 0 {
		return nil
	}
	if r.log.State == codec.Clean {
		r.log.State, r.log.Offset, r.log.Problem = codec.Torn, r.log.End, "a transaction without its COMMIT follows"
	}
	if r.opt.Uncommitted {
		r.evidence = false
		r.applyReadable()
	}
	return nil
}

// uncommitted applies what can be read of a transaction that was not committed. Its links may have been written or not,
// so they are no evidence.
func (r *replay) uncommitted(off, limit int64) error {
	r.evidence = false
	state, at, problem := r.log.State, r.log.Offset, r.log.Problem
	err := r.scan(off, limit, func(rec record, b []byte) {
		if rec.typ != typeCommit {
			c := changeOf(rec, b)
			c.doubt = r.doubt
			r.pending = append(r.pending, c)
			r.applyReadable()
		}
	})
	// A tail is not damage, whatever it looks like.
	r.log.State, r.log.Offset, r.log.Problem = state, at, problem
	return err
}

// scan calls take for every record whose two checksums verify.
func (r *replay) scan(off, limit int64, take func(record, []byte)) error {
	budget := 4 * limit
	for off < limit {
		if err := r.progress(off); err != nil {
			return err
		}
		if r.isBlank(off) {
			off += blankSize
			continue
		}
		rec, b, err := r.whole(off)
		if err == nil && rec.typ == typeDummy {
			err = errors.New("a DUMMY record within the log")
		}
		if err != nil {
			// A dirty file may have been left with heads written in part. In a clean one a wrong checksum is damage, and
			// it may be the length of the key that is wrong.
			if rec, b, e := r.apartFromLinks(off); e == nil && r.h.Dirty {
				r.note(codeLinks, finding.Warning, off, "the links of the record are damaged (%v); its key and value verify", err)
				take(rec, b)
				off += rec.size
				continue
			}
			r.unreadable(off, err)
			if planted.On(planted.SalvageStops) {
				return nil
			}
			off = r.resync(off, &budget)
			continue
		}
		take(rec, b)
		off += rec.size
	}
	return nil
}

func (r *replay) unreadable(off int64, err error) {
	r.damaged(off, err.Error())
	r.doubt = true
	r.note(codeUnreadable, finding.Damage, off, "%v", err)
}

// applyReadable applies what is pending, leaving out what makes no sense.
func (r *replay) applyReadable() {
	for _, c := range r.pending {
		err := r.apply(c)
		switch {
		case err == nil:
		case c.doubt || r.doubt:
			r.note(codeUnclear, finding.Warning, c.ref.Offset(), "a deletion is left out, the record may live again: %v", err)
		default:
			r.unreadable(c.ref.Offset(), err)
		}
	}
	r.pending, r.undo = r.pending[:0], r.undo[:0]
}

// resync is the offset at which to go on after something unreadable at off. As long as the head says how long the record
// is, its key and value are passed over as a whole: a value may hold anything, even what looks like records. budget
// bounds, in bytes, what is spent on lengths that may be wrong.
func (p parser) resync(off int64, budget *int64) int64 {
	rec, b, err := p.outline(off)
	if err == nil {
		fits := off <= p.end-rec.size
		if rec.verifyHead(b) == nil {
			if fits {
				return off + rec.size
			}
			return p.end
		}
		if fits && rec.typ == typeRecord && rec.size <= *budget {
			*budget -= rec.size
			if body, err := p.bytes(rec.body(), rec.size-rec.head); err == nil && checksum(body) == rec.crcTail {
				return off + rec.size
			}
		}
	}
	for off += 8; off < p.end; off += 8 {
		if off = p.v.PastZeros(off, p.end); off >= p.end {
			break // nothing begins with a zero
		}
		if p.isBlank(off) {
			return off
		}
		if !p.isType(off) {
			continue
		}
		if rec, b, err := p.outline(off); err == nil && rec.verifyHead(b) == nil {
			return off
		}
	}
	return p.end
}

// isType is a quick look at the first two bytes: whether a record could begin here.
func (p parser) isType(off int64) bool {
	b, err := p.v.Bytes(off, 2)
	if err != nil || b[1] > maxLevel {
		return false
	}
	switch b[0] {
	case typeRecord, typeDelete, typeCommit:
		return true
	}
	return false
}

// certain tells whether a DELETE that follows unreadable bytes deleted the record under the cursor. Between that record
// and the one that the DELETE names there may have been another, whose RECORD is lost. One of two things rules it out:
//
//   - the record before has a link to this very DELETE: it led past the deleted record to the next, so that nothing else
//     can have stood between them;
//   - the last link of the record itself leads to the next one, directly or over an older DELETE: links of a record are
//     only rewritten while it lives, always to something newer, so that it cannot have been linked to this DELETE, as it
//     would be if it had lived on before it.
func (r *replay) certain(c change, at tree.Cursor) bool {
	if !r.evidence {
		return false
	}
	victim := at.Ref()
	at.Prev()
	prev := at.Ref()
	if prev == 0 {
		prev = head
	}
	p := r.random
	if rec, b, err := p.headAt(prev.Offset()); err == nil && rec.level > 0 {
		if rec.slot(b, 0) == c.ref.Offset() || rec.slot(b, 1) == c.ref.Offset() {
			return true
		}
	}
	return r.ledTo(victim, c)
}

// ledTo tells whether the first-level link of a record that is gone leads to the record that its DELETE names, by way of
// older DELETEs. Nobody writes a link of a record that is no longer live.
func (r *replay) ledTo(victim tree.Ref, c change) bool {
	p := r.random
	rec, b, err := p.headAt(victim.Offset())
	if err != nil {
		return false
	}
	to := level0(rec.slot(b, 0), rec.slot(b, 1), p.end)
	for to != c.next {
		if to < emptySize || to >= c.ref.Offset() {
			return false
		}
		rec, b, err := p.headAt(to)
		if err != nil || rec.typ != typeDelete || rec.slot(b, 0) >= to {
			return false
		}
		to = rec.slot(b, 0)
	}
	return true
}
