package twoskip

import (
	"fmt"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// replay carries the state of one Replay.
type replay struct {
	parser
	ed   *tree.Editor
	opt  codec.ReplayOptions
	log  codec.Log
	h    codec.Header
	last []byte // greatest key so far, while the keys ascend
	rise bool   // the keys ascend
	n    int
	// doubt is set, in a salvage, once bytes were skipped: which record a DELETE meant can no longer be told.
	doubt bool
}

// Replay implements codec.Codec. The header's current_size says what was committed: what lies before it was durable
// before the header said so, and must be readable; what lies after it is a transaction that was not committed.
func (format) Replay(v *codec.View, h codec.Header, opt codec.ReplayOptions, ed *tree.Editor) (codec.Log, error) {
	r := replay{parser: parser{v, v.End()}, ed: ed, opt: opt, h: h, rise: ed.Len() == 0}
	limit := h.End
	if limit == 0 { // a salvage without a header
		limit = r.end
	}
	if limit > r.end {
		r.damaged(r.end, fmt.Sprintf("the file ends at %#x, committed were %#x bytes", r.end, limit))
		limit = r.end
	}
	start := max(opt.From, emptySize)
	r.log.End = start
	if err := r.transactions(start, limit); err != nil {
		return r.log, err
	}
	if opt.Salvage && opt.Uncommitted && limit < r.end {
		if err := r.transactions(limit, r.end); err != nil {
			return r.log, err
		}
		r.log.End = limit
	}
	if r.log.State == codec.Clean && (h.Dirty || r.end > limit) && h.End != 0 {
		r.torn(limit)
	}
	return r.log, nil
}

func (r *replay) damaged(off int64, problem string) {
	if r.log.State != codec.Damaged {
		r.log.State, r.log.Offset, r.log.Problem = codec.Damaged, off, problem
	}
}

// torn describes what follows the committed part.
func (r *replay) torn(off int64) {
	r.log.State, r.log.Offset, r.log.Problem = codec.Torn, off, "a transaction was under way"
	for r.log.Uncommitted < 1<<20 {
		off = r.skipBlanks(off)
		rec, _, err := r.whole(off)
		if err != nil || rec.typ == typeDummy || rec.typ == typeCommit {
			return
		}
		r.log.Uncommitted++
		off += rec.size
	}
}

func (r *replay) note(code string, severity finding.Severity, off int64, format string, args ...any) {
	const most = 100
	if len(r.log.Findings) < most {
		r.log.Findings = append(r.log.Findings, finding.Finding{Code: code, Severity: severity, Offset: off, Detail: fmt.Sprintf(format, args...)})
	}
}

// transactions reads the log from off to limit. A transaction is applied when its COMMIT is found.
func (r *replay) transactions(off, limit int64) error {
	start := off
	r.end = limit
	defer func() { r.end = r.v.End() }()
	first, pending := off, 0
	for off < limit {
		if r.n++; r.n%4096 == 0 && r.opt.Progress != nil {
			if err := r.opt.Progress(off); err != nil {
				return err
			}
		}
		if r.isBlank(off) {
			off += blankSize
			continue
		}
		rec, b, err := r.whole(off)
		if err != nil && r.h.Dirty && r.bodyVerifies(off) {
			// The transaction under way was rewriting the links in this head. Recovery writes them anew.
			rec, b, err = r.shape(off)
		}
		if err == nil && rec.typ == typeDummy {
			err = fmt.Errorf("a DUMMY record within the log")
		}
		if err == nil && rec.typ == typeCommit && rec.slot(b, 0) != start && !r.doubt {
			err = fmt.Errorf("the COMMIT is for a transaction from %#x, this one began at %#x", rec.slot(b, 0), start)
		}
		if err != nil {
			r.damaged(off, err.Error())
			if !r.opt.Salvage {
				return nil
			}
			r.doubt, r.rise = true, false
			off += 8
			continue
		}
		off += rec.size
		if rec.typ != typeCommit {
			pending++
			continue
		}
		if !r.apply(first, off-rec.size) && !r.opt.Salvage {
			return nil
		}
		start, first, pending, r.log.End = off, off, 0, off
	}
	if pending > 0 {
		if r.opt.Salvage {
			r.apply(first, off)
		}
		if r.log.State == codec.Clean && !r.opt.Uncommitted {
			r.damaged(start, "the committed part ends within a transaction")
		}
	}
	return nil
}

// apply performs the changes between two offsets; false means that one makes no sense.
func (r *replay) apply(off, end int64) bool {
	for off < end {
		if r.isBlank(off) {
			off += blankSize
			continue
		}
		rec, b, err := r.headAt(off)
		if err != nil && r.h.Dirty && r.bodyVerifies(off) {
			rec, b, err = r.shape(off)
		}
		if err != nil { // skipped by the salvage before
			off += 8
			continue
		}
		off += rec.size
		switch rec.typ {
		case typeRecord:
			r.put(rec)
		case typeDelete:
			if !r.remove(rec, rec.slot(b, 0)) {
				return false
			}
		}
	}
	return true
}

// put adds a record. While keys only ascend, as in what a checkpoint wrote, each goes to the end.
func (r *replay) put(rec record) {
	key, err := r.key(rec)
	if err != nil {
		return
	}
	ref := tree.NewRef(rec.off, rec.level)
	if r.rise {
		if r.last == nil || r.ed.Lookup().Compare(r.last, key) < 0 {
			r.last = key
			r.ed.Append(ref)
			return
		}
		r.rise = false
		if rec.off < r.h.LogStart {
			r.log.Disorder, r.log.DisorderAt = true, rec.off
		}
	}
	r.ed.Put(key, ref)
}

// remove performs a DELETE. It does not name the record that it deletes but the one that follows it, 0 for none: what
// goes is the live record just before that one. In a salvage after skipped bytes there may have been another between
// them; then the record is kept.
func (r *replay) remove(rec record, next int64) bool {
	at := r.ed.Last()
	if next != 0 {
		follower, _, err := r.shape(next)
		var key []byte
		if err == nil {
			key, err = r.key(follower)
		}
		var exact bool
		if err == nil {
			at, exact = r.ed.Seek(key)
		}
		if err != nil || !exact || at.Ref().Offset() != next {
			if r.doubt {
				r.note("delete-unclear", finding.Warning, rec.off, "a deletion before the record at %#x, which is not live, is skipped", next)
				return true
			}
			r.damaged(rec.off, fmt.Sprintf("the DELETE names the record at %#x, which is not live", next))
			return r.opt.Salvage
		}
		at.Prev()
	}
	victim := at.Ref()
	switch {
	case r.doubt:
		r.note("delete-unclear", finding.Warning, rec.off, "a deletion after damage is skipped: the record may live again")
	case victim == 0:
		r.damaged(rec.off, "the DELETE finds no record to delete")
		return r.opt.Salvage
	default:
		key := append([]byte(nil), r.ed.Lookup().Key(victim)...)
		r.ed.Delete(key)
		r.rise = false
	}
	return true
}
