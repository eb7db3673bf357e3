package v1

import (
	"fmt"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/planted"
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
	last []byte // key of the last INORDER record
	n    int
}

// Replay implements codec.Codec.
func (format) Replay(v *codec.View, h codec.Header, opt codec.ReplayOptions, ed *tree.Editor) (codec.Log, error) {
	r := replay{parser: newParser(v, h), ed: ed, opt: opt, h: h}
	off := opt.From
	if off < emptySize {
		var err error
		if off, err = r.inorder(emptySize); err != nil {
			return r.log, err
		}
		if r.log.State == codec.Damaged && !opt.Salvage {
			r.log.End = off
			return r.log, nil
		}
	}
	r.log.End = off
	err := r.transactions(off)
	return r.log, err
}

func (r *replay) progress(off int64) error {
	if r.n++; r.n%4096 != 0 || r.opt.Progress == nil {
		return nil
	}
	return r.opt.Progress(off)
}

func (r *replay) finding(code string, severity finding.Severity, off int64, format string, args ...any) {
	const most = 100
	if len(r.log.Findings) < most {
		r.log.Findings = append(r.log.Findings, finding.Finding{Code: code, Severity: severity, Offset: off, Detail: fmt.Sprintf(format, args...)})
	}
}

func (r *replay) damaged(off int64, problem string) {
	if r.log.State != codec.Damaged {
		r.log.State, r.log.Offset, r.log.Problem = codec.Damaged, off, problem
	}
}

// inorder reads the records of the last checkpoint and returns where they end. The header's logstart is a hint only,
// as for Cyrus, but what lies before it was durable: if the records break off earlier that is damage.
func (r *replay) inorder(off int64) (int64, error) {
	for off < r.end {
		if err := r.progress(off); err != nil {
			return off, err
		}
		typ, err := r.word(off)
		if err == nil && typ != typeInorder && off >= r.h.LogStart {
			break
		}
		var rec record
		if err == nil && typ == typeInorder {
			rec, err = r.record(off, typ)
		} else if err == nil {
			err = fmt.Errorf("type word %#x where INORDER should stand", typ)
		}
		if err == nil {
			r.base(rec)
			off += rec.size
			continue
		}
		if off >= r.h.LogStart && r.h.LogStart != 0 {
			return off, nil // the log's reader says what it thinks of it
		}
		if (typ == typeAdd || typ == typeDelete) && r.chain(off) {
			r.finding("logstart", finding.Warning, offLogStart, "the log starts at %#x, not at %#x", off, r.h.LogStart)
			return off, nil
		}
		r.damaged(off, "in the checkpointed records: "+err.Error())
		if !r.opt.Salvage {
			return off, nil
		}
		next := r.resync(off + word)
		if next < 0 {
			return r.end, nil
		}
		off = next
		if t, _ := r.word(off); t != typeInorder {
			return off, nil
		}
	}
	if off < r.h.LogStart {
		r.damaged(off, fmt.Sprintf("the file ends within the checkpointed records, which reached to %#x", r.h.LogStart))
	} else if off != r.h.LogStart && r.h.LogStart != 0 {
		r.finding("logstart", finding.Warning, offLogStart, "the log starts at %#x, not at %#x", off, r.h.LogStart)
	}
	return off, nil
}

// base adds a record of the checkpoint.
func (r *replay) base(rec record) {
	key, err := r.key(rec)
	if err != nil {
		return
	}
	ref := tree.NewRef(rec.off, rec.level)
	if r.last == nil || r.ed.Lookup().Compare(r.last, key) < 0 {
		r.ed.Append(ref)
		r.last = key
		return
	}
	if !r.log.Disorder {
		r.log.Disorder, r.log.DisorderAt = true, rec.off
	}
	r.ed.Put(key, ref)
}

// transactions reads the log. A transaction is applied when its COMMIT is found.
func (r *replay) transactions(off int64) error {
	var pending []entry
	bad := func(at int64, problem string) (int64, bool) {
		from, n := r.log.End, len(pending)
		pending = nil
		next := r.resync(max(at, from) + word)
		committed := next >= 0 && !planted.On(planted.CommittedTailCut)
		if !committed {
			r.torn(from, n, problem)
			return 0, false
		}
		r.damaged(at, problem)
		return next, r.opt.Salvage
	}
	for off < r.end {
		if err := r.progress(off); err != nil {
			return err
		}
		if len(pending) == 0 {
			if next := r.zeros(off); next > off {
				if next >= r.end&^3 {
					r.torn(off, 0, "zeros follow the last commit")
					return nil
				}
				if _, err := r.entry(next); err == nil && r.chain(next) {
					r.finding("zero-gap", finding.Warning, off, "%d zero bytes between transactions", next-off)
					off = next
				}
			}
		}
		e, err := r.entry(off)
		if err != nil {
			r.salvagePending(pending)
			next, on := bad(off, err.Error())
			if !on {
				return nil
			}
			off = next
			if r.log.End < off {
				r.log.End = off
			}
			continue
		}
		off += e.size
		if e.typ != typeCommit {
			pending = append(pending, e)
			continue
		}
		r.apply(pending)
		pending = pending[:0]
		r.log.End = off
	}
	if len(pending) > 0 {
		n := len(pending)
		if r.opt.Salvage && r.opt.Uncommitted || planted.On(planted.UncommittedVisible) {
			r.apply(pending)
		}
		r.torn(r.log.End, n, "a transaction without its commit follows the last one")
	}
	return nil
}

// salvagePending keeps the records of a transaction that breaks off in damage, if they are wanted.
func (r *replay) salvagePending(pending []entry) {
	if r.opt.Salvage {
		adds := pending[:0:0]
		for _, e := range pending {
			if r.opt.Uncommitted && e.typ == typeAdd {
				adds = append(adds, e)
			}
		}
		r.apply(adds)
	}
}

func (r *replay) torn(off int64, records int, problem string) {
	if r.log.State == codec.Damaged {
		return
	}
	r.log.State, r.log.Offset, r.log.Problem, r.log.Uncommitted = codec.Torn, off, problem, records
}

// zeros returns the end of the zero words at off.
func (r *replay) zeros(off int64) int64 {
	for off+word <= r.end {
		if w, err := r.word(off); err != nil || w != 0 {
			break
		}
		off += word
	}
	if r.end-off < word {
		return r.end &^ 3
	}
	return off
}

// apply performs a committed transaction.
func (r *replay) apply(txn []entry) {
	for _, e := range txn {
		if e.typ == typeDelete {
			r.remove(e)
			continue
		}
		key, err := r.key(e.record)
		if err != nil {
			continue
		}
		if old := r.ed.Put(key, tree.NewRef(e.off, e.level)); old != 0 {
			r.finding("add-exists", finding.Info, e.off, "the record replaces the one at %#x, which was not deleted", old.Offset())
		}
	}
}

// remove deletes the record that a DELETE names, if it is live.
func (r *replay) remove(e entry) {
	typ, err := r.word(e.target)
	if err == nil && (typ == typeAdd || typ == typeInorder) && e.target < e.off {
		if rec, err := r.record(e.target, typ); err == nil {
			if key, err := r.key(rec); err == nil && r.ed.Get(key).Offset() == e.target {
				r.ed.Delete(key)
				return
			}
		}
	}
	r.finding("delete-missing", finding.Info, e.off, "the DELETE of the record at %#x, which is not live, is skipped", e.target)
}
