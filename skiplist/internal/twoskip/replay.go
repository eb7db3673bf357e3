package twoskip

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// The codes of the findings of a replay.
const (
	codeUnreadable = "record-unreadable"
	codeLinks      = "links-unreadable"
	codeUnclear    = "delete-unclear"
	codeCount      = "record-count"
	codeAcross     = "head-across-sectors"
)

const (
	// longTransaction is the number of changes after which a transaction is applied while it is still being read, if it is
	// also an eighth of the records: to keep the tree of before, the nodes that it changes are copied.
	longTransaction = 4096
	// progressEvery is how many bytes are read between two calls of Progress.
	progressEvery = 1 << 20
	// maxFindings bounds how much is reported of one kind.
	maxFindings = 100
)

// replay carries the state of one Replay.
type replay struct {
	parser        // reads on and on
	random parser // reads here and there
	ed     *tree.Editor
	opt    codec.ReplayOptions
	log    codec.Log
	h      codec.Header

	// pending are the changes of the transaction that is being read. They are applied at its COMMIT, and undo takes them
	// back if one of them makes no sense. A long transaction is applied as it is read, and taken back to before.
	pending []change
	undo    []swap
	long    bool
	before  tree.Tree

	// last is the greatest live key, if known: most records of a checkpoint and many others go after it.
	last      []byte
	lastKnown bool

	reported int64
	across   int
	// doubt is set, in a salvage, once bytes could not be read: there may have been records that are now missing.
	doubt bool
	// evidence is set where the links of the file may be used to tell what a DELETE in doubt deleted.
	evidence bool
}

// change is a RECORD or a DELETE. A DELETE has level 0 and names the record after the deleted one, 0 for none.
type change struct {
	ref   tree.Ref
	next  int64
	doubt bool
	// alone says that no change stands before it in its transaction: the links then were those of the records before.
	alone bool
}

// swap is what a change did to the tree; either may be 0.
type swap struct{ old, now tree.Ref }

// Replay implements codec.Codec. The header's current_size says what was committed: what lies before it was durable
// before the header said so, and must be readable; what lies after it is a transaction that was not committed.
//
// A salvage does not need a header: without one, everything up to the last COMMIT counts as committed.
func (format) Replay(v *codec.View, h codec.Header, opt codec.ReplayOptions, ed *tree.Editor) (codec.Log, error) {
	start, limit := max(opt.From, emptySize), min(h.End, v.End())
	if h.End == 0 && opt.Salvage || planted.On(planted.SizeIgnored) {
		limit = v.End()
	}
	r := replay{parser: parser{buffered(v), limit}, random: parser{v, limit}, ed: ed, opt: opt, h: h, reported: start}
	r.log.End = start
	read := r.strict
	if opt.Salvage {
		read = r.salvage
	}
	if err := read(start, limit); err != nil {
		return r.log, err
	}
	if h.End > v.End() && (r.log.State != codec.Damaged || r.log.Offset >= r.log.End) {
		r.log.State = codec.Clean // the cut record is a consequence
		r.damaged(v.End(), fmt.Sprintf("the file ends here, committed were %#x bytes", h.End))
	}
	if err := r.tail(limit); err != nil {
		return r.log, err
	}
	if r.across > 0 && opt.From == 0 {
		r.note(codeAcross, finding.Info, -1, "%d records have links on both sides of a sector boundary, as releases before 3.2 wrote them: a checkpoint protects them from power cuts", r.across)
	}
	if r.log.State == codec.Clean && h.Records != uint64(ed.Len()) && h.End != 0 {
		r.note(codeCount, finding.Warning, offRecords, "the header counts %d records, the log has %d", h.Records, ed.Len())
	}
	return r.log, nil
}

// tail looks at what follows the committed part.
func (r *replay) tail(limit int64) error {
	end := r.v.End()
	if r.h.End == 0 || !r.h.Dirty && end <= limit {
		return nil
	}
	if r.log.State == codec.Clean {
		r.log.State, r.log.Offset, r.log.Problem = codec.Torn, limit, "a transaction was under way"
		if r.h.Torn {
			r.log.Offset, r.log.Problem = 0, "the header was written in part"
		}
	}
	r.end, r.random.end = end, end
	r.log.Uncommitted = r.countRecords(limit)
	if r.opt.Salvage && r.opt.Uncommitted {
		return r.uncommitted(limit, end)
	}
	return nil
}

// countRecords counts the changes that can be read from off on.
func (r *replay) countRecords(off int64) (n int) {
	for {
		off = r.skipBlanks(off)
		rec, _, err := r.whole(off)
		if err != nil || rec.typ == typeDummy {
			return n
		}
		if rec.typ != typeCommit {
			n++
		}
		off += rec.size
	}
}

// strict reads the log from off to limit and stops at the first thing that is wrong. What is in the tree then is what
// the transactions before it made.
func (r *replay) strict(off, limit int64) error {
	start := off
	for off < limit {
		if err := r.progress(off); err != nil {
			return err
		}
		if size, level := r.quick(off); size > 0 {
			if err := r.take(change{ref: tree.NewRef(off, level)}, headSize(0, 0, level)); err != nil {
				r.rollBack()
				r.stop(off, err)
				return nil
			}
			off += size
			continue
		}
		if r.isBlank(off) {
			off += blankSize
			continue
		}
		rec, b, err := r.whole(off)
		if err == nil {
			err = r.step(rec, b, start)
		}
		if err != nil {
			r.rollBack()
			r.stop(off, err)
			return nil
		}
		off += rec.size
		if rec.typ == typeCommit {
			start, r.log.End = off, off
		}
	}
	if len(r.pending) > 0 || r.long {
		r.rollBack()
		r.damaged(start, "the committed part ends within a transaction")
		return nil
	}
	r.log.End = max(r.log.End, off)
	return nil
}

// stop ends a strict replay at damage.
func (r *replay) stop(off int64, err error) {
	var change *changeError
	if errors.As(err, &change) {
		off = change.off
	}
	r.damaged(off, err.Error())
}

// step takes in one record of the transaction that began at start.
func (r *replay) step(rec record, b []byte, start int64) error {
	switch rec.typ {
	case typeCommit:
		if at := rec.slot(b, 0); at != start {
			return fmt.Errorf("the COMMIT is for a transaction from %#x, this one began at %#x", at, start)
		}
		return r.commit()
	case typeDummy:
		return errors.New("a DUMMY record within the log")
	}
	return r.take(changeOf(rec, b), rec.head)
}

// take adds a change to the transaction. head is the size of the head of its record.
func (r *replay) take(c change, head int64) error {
	if c.ref.Level() > 0 && isAcross(c.ref.Offset(), head) {
		r.across++
	}
	if r.long {
		return r.apply(c)
	}
	c.alone = len(r.pending) == 0
	r.pending = append(r.pending, c)
	if len(r.pending) < max(longTransaction, r.ed.Len()/8) {
		return nil
	}
	r.before, r.long = r.ed.Tree(), true
	return r.applyPending()
}

func changeOf(rec record, b []byte) change {
	c := change{ref: tree.NewRef(rec.off, rec.level)}
	if rec.typ == typeDelete {
		c.next = rec.slot(b, 0)
	}
	return c
}

func (r *replay) commit() error {
	err := r.applyPending()
	if err == nil {
		r.long, r.before, r.undo = false, tree.Tree{}, r.undo[:0]
	}
	return err
}

func (r *replay) applyPending() error {
	for _, c := range r.pending {
		if err := r.apply(c); err != nil {
			return err
		}
	}
	r.pending = r.pending[:0]
	return nil
}

// rollBack takes back what was applied of the transaction that is being read.
func (r *replay) rollBack() {
	r.lastKnown = false
	if r.long {
		r.ed.Reset(r.before)
	} else {
		for i := len(r.undo) - 1; i >= 0; i-- {
			switch s := r.undo[i]; {
			case s.old != 0:
				r.ed.Put(bytes.Clone(format{}.Key(r.v, s.old)), s.old)
			default:
				r.ed.Delete(bytes.Clone(format{}.Key(r.v, s.now)))
			}
		}
	}
	r.long, r.before, r.undo, r.pending = false, tree.Tree{}, nil, nil
}

// changeError says which change makes no sense.
type changeError struct {
	off int64
	error
}

func (e *changeError) Unwrap() error { return e.error }

func (r *replay) apply(c change) (err error) {
	if c.ref.Level() == 0 {
		err = r.remove(c)
	} else {
		err = r.put(c.ref)
	}
	if err != nil {
		return &changeError{c.ref.Offset(), err}
	}
	return nil
}

func (r *replay) put(ref tree.Ref) error {
	key := format{}.Key(r.v, ref)
	if key == nil {
		return errors.New("the key has become unreadable")
	}
	if r.isGreatest(key) {
		r.last = append(r.last[:0], key...)
		r.ed.Append(ref, key)
		r.did(swap{now: ref})
		return nil
	}
	if ref.Offset() < r.h.LogStart && !r.log.Disorder {
		r.log.Disorder, r.log.DisorderAt = true, ref.Offset()
	}
	r.did(swap{r.ed.Put(key, ref), ref})
	return nil
}

// isGreatest tells whether the key goes after all others.
func (r *replay) isGreatest(key []byte) bool {
	if !r.lastKnown {
		at := r.ed.Last()
		r.last = r.last[:0]
		if at.Ref() != 0 {
			r.last = append(r.last, r.ed.Lookup().Key(at.Ref())...)
		}
		r.lastKnown = true
	}
	return len(r.last) == 0 || r.ed.Lookup().Compare(key, r.last) > 0
}

func (r *replay) did(s swap) {
	if !r.long {
		r.undo = append(r.undo, s)
	}
}

// remove performs a DELETE. It does not name the record that it deletes but the one that follows it, 0 for none: what
// goes is the live record just before that one.
func (r *replay) remove(c change) error {
	at := r.ed.Last()
	if c.next != 0 {
		var exact bool
		if at, exact = r.find(c.next); !exact || c.next >= c.ref.Offset() {
			return fmt.Errorf("the DELETE names the record at %#x, which is not live", c.next)
		}
		if !planted.On(planted.DeleteNamesItself) {
			at.Prev()
		}
	}
	victim := at.Ref()
	if victim == 0 {
		return errors.New("the DELETE finds no record to delete")
	}
	if c.doubt && !r.certain(c, at) {
		return errInDoubt
	}
	if c.alone && !r.log.Astray && !r.opt.Salvage && !r.ledTo(victim, c) {
		r.log.Astray, r.log.DisorderAt = true, c.ref.Offset()
	}
	r.ed.Delete(bytes.Clone(r.ed.Lookup().Key(victim)))
	r.did(swap{old: victim})
	r.lastKnown = false
	return nil
}

// find returns a cursor on the live record at an offset.
func (r *replay) find(at int64) (tree.Cursor, bool) {
	rec, _, err := r.random.shape(at)
	if err != nil || rec.typ != typeRecord {
		return tree.Cursor{}, false
	}
	key, err := r.random.key(rec)
	if err != nil {
		return tree.Cursor{}, false
	}
	c, exact := r.ed.Seek(key)
	return c, exact && c.Ref().Offset() == at
}

func (r *replay) damaged(off int64, problem string) {
	if r.log.State != codec.Damaged {
		r.log.State, r.log.Offset, r.log.Problem = codec.Damaged, off, problem
	}
}

func (r *replay) note(code string, severity finding.Severity, off int64, format string, args ...any) {
	if len(r.log.Findings) < maxFindings {
		r.log.Findings = append(r.log.Findings, finding.Finding{Code: code, Severity: severity, Path: r.v.Path, Offset: off, Detail: fmt.Sprintf(format, args...)})
	}
}

func (r *replay) progress(off int64) error {
	if r.opt.Progress == nil || off < r.reported+progressEvery {
		return nil
	}
	r.reported = off
	return r.opt.Progress(off)
}

// buffered returns a view that reads ahead where the file is not mapped, for a scan from the beginning to the end.
func buffered(v *codec.View) *codec.View {
	if v.File == nil || int64(len(v.Mem)) >= v.Size {
		return v
	}
	b := *v
	b.File = &readAhead{file: v.File}
	return &b
}

// readAhead keeps the part of a file that was read last.
type readAhead struct {
	file io.ReaderAt
	buf  []byte
	off  int64
}

const readAheadBytes = 64 << 10

func (r *readAhead) ReadAt(p []byte, off int64) (int, error) {
	if len(p) > readAheadBytes/2 {
		return r.file.ReadAt(p, off)
	}
	if off < r.off || off+int64(len(p)) > r.off+int64(len(r.buf)) {
		buf := r.buf[:cap(r.buf)]
		if len(buf) == 0 {
			buf = make([]byte, readAheadBytes)
		}
		n, err := r.file.ReadAt(buf, off)
		r.buf, r.off = buf[:n], off
		if n < len(p) {
			r.buf = buf[:0]
			return copy(p, buf[:n]), err
		}
	}
	return copy(p, r.buf[off-r.off:]), nil
}
