package v1

import (
	"fmt"
	"iter"
	"slices"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// The codes of the findings of a replay.
const (
	codeLogStart      = "logstart"
	codeZeroGap       = "zero-gap"
	codeAddExists     = "add-exists"
	codeDeleteMissing = "delete-missing"
	codePadding       = "padding"
)

const (
	// longTransaction is the number of records up to which a transaction is kept in memory; one that is longer is read
	// a second time at its COMMIT.
	longTransaction = 4096
	// longKey is the length, in bytes, from which a key is not looked for without need.
	longKey = 4096
	// maxFindings bounds how many oddities are reported.
	maxFindings = 100
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

	txn transaction
	// broken is where the first unreadable record stands, -1 if there was none: what stands behind it is not known.
	broken int64
	// dead are the places from which records lead to no COMMIT; see resync.
	dead marks
	// committed is where, behind the first damage, a COMMIT or the last record before it stands; 0 if that is not known
	// yet, -1 if there is none.
	committed int64
	// undo takes back the transaction that is being applied.
	undo []swap
	// long are the offsets of the live records with keys of longKey bytes or more; made when needed.
	long map[int64]bool
}

// transaction is what was read since the last COMMIT: n records from start on, the first of which are kept.
type transaction struct {
	start int64
	n     int
	first []entry
}

// Replay implements codec.Codec.
func (format) Replay(v *codec.View, h codec.Header, opt codec.ReplayOptions, ed *tree.Editor) (codec.Log, error) {
	r := replay{parser: newParser(v, h), ed: ed, opt: opt, h: h, broken: -1, dead: marks{}}
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
	r.log.End = min(off, r.end)
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
	if len(r.log.Findings) < maxFindings {
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
			r.finding(codeLogStart, finding.Warning, offLogStart, "the log starts at %#x, not at %#x", off, r.h.LogStart)
			return off, nil
		}
		r.breaks(off)
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
		r.finding(codeLogStart, finding.Warning, offLogStart, "the log starts at %#x, not at %#x", off, r.h.LogStart)
	}
	return off, nil
}

// base adds a record of the checkpoint.
func (r *replay) base(rec record) {
	key, err := r.key(rec)
	if err != nil {
		return
	}
	r.checkPadding(rec)
	ref := tree.NewRef(rec.off, rec.level)
	if r.last == nil || r.ed.Lookup().Compare(r.last, key) < 0 {
		r.ed.Append(ref, key)
		r.last = key
		return
	}
	if !r.log.Disorder {
		r.log.Disorder, r.log.DisorderAt = true, rec.off
	}
	r.ed.Put(key, ref)
}

// breaks notes that the record at off is unreadable. Before the first one nothing unreadable can have been a record.
func (r *replay) breaks(off int64) {
	if r.broken < 0 {
		r.broken, r.dead = off, marks{}
	}
}

// transactions reads the log. A transaction is applied when its COMMIT is found.
func (r *replay) transactions(off int64) error {
	for off < r.end {
		if err := r.progress(off); err != nil {
			return err
		}
		if r.txn.n == 0 {
			next, torn := r.skipZeros(off)
			if torn {
				r.torn(off, 0, "zeros follow the last commit")
				return nil
			}
			off = next
		}
		e, err := r.entry(off)
		if err != nil && r.rescueInorder(&off) {
			continue
		}
		if err != nil {
			next, on := r.unreadable(off, err.Error())
			if !on {
				return nil
			}
			off = next
			r.log.End = max(r.log.End, off)
			continue
		}
		off += e.size
		if e.typ != typeCommit {
			r.collect(e)
			continue
		}
		if bad := r.apply(r.collected()); bad.size > 0 {
			r.damaged(bad.off, bad.notLive())
			return nil
		}
		r.txn = transaction{first: r.txn.first[:0]}
		r.log.End = off
	}
	if r.txn.n > 0 {
		if r.opt.Salvage && r.opt.Uncommitted || planted.On(planted.UncommittedVisible) {
			r.apply(r.collected())
		}
		r.torn(r.log.End, r.txn.n, "a transaction without its commit follows the last one")
	}
	return nil
}

// skipZeros passes over zeros between transactions, as Cyrus does if a transaction follows them. Nothing but zeros to
// the end is a torn tail.
func (r *replay) skipZeros(off int64) (next int64, torn bool) {
	next = r.zeros(off)
	if next == off {
		return off, false
	}
	if next >= r.end&^3 {
		return off, true
	}
	if _, err := r.entry(next); err != nil || !r.chain(next) {
		return off, false
	}
	r.finding(codeZeroGap, finding.Warning, off, "%d zero bytes between transactions", next-off)
	return next, false
}

// zeros returns the end of the zero words at off.
func (r *replay) zeros(off int64) int64 {
	for off+word <= r.end {
		if w, err := r.word(off); err != nil || w != 0 {
			break
		}
		off = r.v.PastZeros(off+word, r.end)
	}
	if r.end-off < word {
		return r.end &^ 3
	}
	return off
}

// rescueInorder takes, in a salvage, a checkpointed record that stands behind damage, and moves off past it.
func (r *replay) rescueInorder(off *int64) bool {
	if !r.opt.Salvage || r.txn.n > 0 || !r.mayBeInorder(*off) {
		return false
	}
	rec, readable := r.at(*off)
	if !readable {
		return false
	}
	r.put(rec)
	*off += rec.size
	return true
}

// unreadable decides what the unreadable record at off means: a torn tail, or damage to what was committed. In a salvage
// it tells where to go on.
func (r *replay) unreadable(off int64, problem string) (next int64, on bool) {
	r.breaks(off)
	next = r.resync(off + word)
	if next < 0 && !r.endsInCommit(off) || planted.On(planted.CommittedTailCut) {
		if r.opt.Salvage && r.opt.Uncommitted {
			r.applyAllBut(typeDelete)
		}
		r.torn(r.log.End, r.txn.n, problem)
		return 0, false
	}
	r.damaged(off, problem)
	if r.opt.Salvage {
		r.applyInterrupted()
	}
	r.txn = transaction{}
	return next, r.opt.Salvage && next >= 0
}

// applyInterrupted applies the readable part of a transaction that breaks off in damage: as another one follows, it was
// committed. If the last readable record is a DELETE the unreadable one may have been the replacement: the old record is
// better than none.
func (r *replay) applyInterrupted() {
	n, last := r.txn.n, int64(-1)
	for e := range r.collected() {
		if n--; n == 0 && e.typ == typeDelete {
			last = e.off
		}
	}
	r.apply(func(yield func(entry) bool) {
		for e := range r.collected() {
			if e.off == last || !yield(e) {
				return
			}
		}
	})
}

// applyAllBut applies what was collected, without the records of one type.
func (r *replay) applyAllBut(typ uint32) {
	r.apply(func(yield func(entry) bool) {
		for e := range r.collected() {
			if e.typ != typ && !yield(e) {
				return
			}
		}
	})
}

func (r *replay) torn(off int64, records int, problem string) {
	if r.log.State == codec.Damaged {
		return
	}
	r.log.State, r.log.Offset, r.log.Problem, r.log.Uncommitted = codec.Torn, off, problem, records
}

// collect adds a record to the transaction that is being read.
func (r *replay) collect(e entry) {
	if r.txn.n == 0 {
		r.txn.start = e.off
	}
	if r.txn.n++; r.txn.n <= longTransaction {
		r.txn.first = append(r.txn.first, e)
	}
}

// collected yields the records of the transaction.
func (r *replay) collected() iter.Seq[entry] {
	return func(yield func(entry) bool) {
		off := r.txn.start
		for i := range r.txn.n {
			e := entry{}
			if i < len(r.txn.first) {
				e = r.txn.first[i]
			} else if again, err := r.entry(off); err == nil {
				e = again
			} else {
				return // the bytes have changed meanwhile
			}
			if !yield(e) {
				return
			}
			off = e.off + e.size
		}
	}
}

// apply performs a committed transaction, whole or not at all: if a DELETE in it names what is not live, it is one that
// nobody has written. It returns that DELETE. In a salvage such a DELETE is passed over.
func (r *replay) apply(txn iter.Seq[entry]) (bad entry) {
	r.undo = r.undo[:0]
	for e := range txn {
		if e.typ != typeDelete {
			r.put(e.record)
			continue
		}
		if r.remove(e) {
			continue
		}
		if !r.opt.Salvage {
			r.takeBack()
			return e
		}
		r.breaks(e.off)
		r.damaged(e.off, e.notLive())
		r.finding(codeDeleteMissing, finding.Warning, e.off, "%s, and is passed over", e.notLive())
	}
	return entry{}
}

func (e entry) notLive() string {
	return fmt.Sprintf("the DELETE names %#x, where no live record stands", e.target)
}

// swap is a change to undo: what the key named before, 0 for nothing.
type swap struct {
	key []byte
	old tree.Ref
}

func (r *replay) takeBack() {
	for _, s := range slices.Backward(r.undo) {
		if s.old == 0 {
			r.ed.Delete(s.key)
		} else {
			r.ed.Put(s.key, s.old)
		}
	}
	r.long = nil
}

// put makes a record the live one of its key.
func (r *replay) put(rec record) {
	key, err := r.key(rec)
	if err != nil {
		return
	}
	r.checkPadding(rec)
	old := r.ed.Put(key, tree.NewRef(rec.off, rec.level))
	r.undo = append(r.undo, swap{key, old})
	if old != 0 {
		r.finding(codeAddExists, finding.Warning, rec.off, "the record replaces the one at %#x, which was not deleted", old.Offset())
	}
	if r.long != nil {
		delete(r.long, old.Offset())
		if rec.klen >= longKey {
			r.long[rec.off] = true
		}
	}
}

// remove deletes the record that a DELETE names; it fails if that is not live.
func (r *replay) remove(e entry) bool {
	rec, readable := r.at(e.target)
	if !readable || e.target >= e.off || !r.mayLive(rec) {
		return false
	}
	key, err := r.key(rec)
	if err != nil || r.ed.Get(key).Offset() != e.target {
		return false
	}
	r.undo = append(r.undo, swap{key, r.ed.Delete(key)})
	delete(r.long, e.target)
	return true
}

// mayLive tells, without comparing a long key, that a record is not live. Millions of DELETEs that name what looks like
// records with a key of half the file would else keep a reader busy for ever.
func (r *replay) mayLive(rec record) bool {
	if rec.klen < longKey {
		return true
	}
	if r.long == nil {
		r.long = map[int64]bool{}
		for c := r.ed.Peek().First(); c.Ref() != 0; c.Next() {
			if live, readable := r.at(c.Ref().Offset()); readable && live.klen >= longKey {
				r.long[live.off] = true
			}
		}
	}
	return r.long[rec.off]
}

func (r *replay) checkPadding(rec record) {
	if !r.padded(rec) {
		r.finding(codePadding, finding.Warning, rec.off, "key or value is filled up with other bytes than zeros: a length may be damaged")
	}
}
