package index

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
)

// Tx is a change of a mailbox that is being put together. Nothing is written to a file of the mailbox before the function
// that it was given to has returned nil; reads show the change already. It is for one goroutine, until that function
// returns.
type Tx struct {
	ctx context.Context
	w   *writer
	now Time

	h       Header      // as it will be
	header  *HeaderFile // a changed cyrus.header, nil if it stays
	sums    *FlagSums   // of the names in header
	changed map[RecordNo]*change
	added   []*addition
	unlink  []string // message files that go after the commit
	usage   Usage
	touched bool // the header was changed on its own
	done    bool
}

// change is a record that is overwritten.
type change struct {
	no     RecordNo
	before []byte
	rec    Record // as it will be
}

// addition is a record that is appended.
type addition struct {
	rec    Record
	cache  []byte // nil if the cache record is there already, at rec.CacheOffset
	source string // the file that becomes the message, by a link
	staged *Staged
}

// Update changes the mailbox. It takes the locks that Cyrus takes for a change, brings to its end what a crash has left,
// and calls do with a transaction. If do returns nil the transaction is carried out, and durable when Update returns nil;
// if it returns an error nothing happens.
//
// After any error but [ErrCommitUnknown] the mailbox is as it was, now and after any crash. docs/format/index.md has the
// steps of a transaction and what a crash leaves after each. The handle shows the change when Update returns.
func (m *Mailbox) Update(ctx context.Context, do func(tx *Tx) error) error {
	if err := m.mayChange(); err != nil {
		return err
	}
	if _, err := FinishRepack(ctx, m.fs, m.place, m.opts); err != nil {
		return writeError("change mailbox", err)
	}
	release, err := writeLocks(ctx, m.fs, m.place)
	if err != nil {
		return writeError("change mailbox", err)
	}
	told := false
	defer func() {
		release()
		m.opts.settle(ctx, told)
	}()
	w, err := m.lockIndex(ctx)
	if err != nil {
		return writeError("change mailbox", err)
	}
	defer func() {
		told = w.told
		w.close()
	}()
	tx := w.begin(ctx)
	defer tx.end()
	if err := do(tx); err != nil {
		return err
	}
	if err := tx.commit(); err != nil {
		return writeError("change mailbox", err)
	}
	return nil
}

func (m *Mailbox) mayChange() error {
	_, done, err := m.use()
	if err != nil {
		return err
	}
	done()
	if m.opts.Conversations {
		return ErrConversations
	}
	return nil
}

func (w *writer) begin(ctx context.Context) *Tx {
	h := w.index.Header.Normalized()
	return &Tx{ctx: ctx, w: w, h: h, now: h.now(w.fs), changed: map[RecordNo]*change{}, usage: Usage{QuotaRoot: w.header.QuotaRoot, Mailbox: w.header.Name}}
}

// end lets go of what was staged.
func (tx *Tx) end() {
	tx.done = true
	for _, a := range tx.added {
		if a.staged != nil {
			a.staged.Discard()
		}
	}
}

// Now is the time of the transaction, as the mailbox can record it.
func (tx *Tx) Now() Time { return tx.now }

// Header is the header of cyrus.index as the transaction will leave it.
func (tx *Tx) Header() Header { return tx.h }

// Usage is by how much the transaction, as it is so far, changes what counts for a quota root.
func (tx *Tx) Usage() Usage { return tx.usage }

// HeaderFile is cyrus.header as the transaction will leave it. Do not change it: see EditHeaderFile.
func (tx *Tx) HeaderFile() *HeaderFile {
	if tx.header != nil {
		return tx.header
	}
	return tx.w.header
}

// EditHeaderFile changes cyrus.header. If edit returns an error, or what it made of the file is not valid, it stays as it
// was.
func (tx *Tx) EditHeaderFile(edit func(h *HeaderFile) error) error {
	if tx.done {
		return ErrTxDone
	}
	c := *tx.HeaderFile()
	c.ACL, c.Flags = slices.Clone(c.ACL), slices.Clone(c.Flags)
	if err := edit(&c); err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return in(err, tx.w.place.Paths.Header, 0, 0)
	}
	if !slices.Equal(trimFlags(c.Flags), trimFlags(tx.HeaderFile().Flags)) {
		return fmt.Errorf("the names of flags are given out by the transaction: %w", ErrFlag)
	}
	tx.header = &c
	return nil
}

// EditHeader changes what the header of cyrus.index says of the mailbox and does not follow from its records: options, the
// POP3 and recent fields, uidvalidity. All else that edit changes is ignored.
func (tx *Tx) EditHeader(edit func(h *Header)) error {
	if tx.done {
		return ErrTxDone
	}
	c := tx.h
	edit(&c)
	h := &tx.h
	h.Options, h.UIDValidity = c.Options, c.UIDValidity
	h.POP3LastLogin, h.POP3ShowAfter, h.RecentUID, h.RecentTime = c.POP3LastLogin, c.POP3ShowAfter, c.RecentUID, c.RecentTime
	tx.touched = true
	return nil
}

// RaiseModSeq makes the highest modification sequence at least m: that of a change of the mailbox as such, which no record
// shows.
func (tx *Tx) RaiseModSeq(m ModSeq) error {
	if tx.done {
		return ErrTxDone
	}
	if tx.w.version().hasHeaderField(hHighestModSeq) && tx.h.HighestModSeq < m {
		tx.h.HighestModSeq = m
		tx.touched = true
	}
	return nil
}

// names are the checksums of the flags' names.
func (tx *Tx) names() *FlagSums {
	if tx.sums == nil {
		tx.sums = NewFlagSums(tx.HeaderFile().Flags)
	}
	return tx.sums
}

// Record returns the record of a message, also of an expunged one, or ErrNotFound.
func (tx *Tx) Record(uid UID) (Record, error) {
	if tx.done {
		return Record{}, ErrTxDone
	}
	if a := tx.addition(uid); a != nil {
		return a.rec, nil
	}
	no, rec, err := tx.w.index.Find(uid)
	if err != nil {
		return Record{}, err
	}
	if c := tx.changed[no]; c != nil {
		return c.rec, nil
	}
	return rec, nil
}

// addition returns a message that the transaction appends.
func (tx *Tx) addition(uid UID) *addition {
	first := tx.w.index.Header.LastUID
	if uid <= first || int64(uid-first) > int64(len(tx.added)) {
		return nil
	}
	return tx.added[uid-first-1]
}

// Records yields all records in the order of their UIDs, expunged ones too. A damaged one comes with a *[FormatError], and the
// iteration goes on.
func (tx *Tx) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if tx.done {
			yield(Record{}, ErrTxDone)
			return
		}
		for e, err := range tx.w.index.Records(1) {
			if c := tx.changed[e.No]; c != nil {
				e.Record = c.rec
			}
			if !yield(e.Record, err) {
				return
			}
		}
		for _, a := range tx.added {
			if !yield(a.rec, nil) {
				return
			}
		}
	}
}

// edit changes a record through f. The record gets a new modification sequence, unless the change is silent.
func (tx *Tx) edit(uid UID, silent bool, f func(r *Record) error) (Record, error) {
	if tx.done {
		return Record{}, ErrTxDone
	}
	if err := context.Cause(tx.ctx); err != nil {
		return Record{}, err
	}
	a := tx.addition(uid)
	var no RecordNo
	var rec Record
	var err error
	if a != nil {
		rec = a.rec
	} else if no, rec, err = tx.w.index.Find(uid); err != nil {
		return rec, err
	} else if c := tx.changed[no]; c != nil {
		rec = c.rec
	}
	old := rec
	if err := f(&rec); err != nil {
		return old, err
	}
	if rec.Flags == old.Flags && rec.UserFlags == old.UserFlags {
		return old, nil
	}
	if !silent {
		tx.h.HighestModSeq++
		rec.ModSeq, rec.LastUpdated = tx.h.HighestModSeq, tx.now
	}
	if err := rec.fits(tx.w.index.layout); err != nil {
		return old, in(err, tx.w.place.Paths.Index, tx.w.index.Offset(max(no, 1)), no)
	}
	if a != nil {
		tx.account(&old, &rec)
		a.rec = rec
		return rec, nil
	}
	if tx.changed[no] == nil {
		before, err := tx.w.rawRecord(no)
		if err != nil {
			return old, err
		}
		tx.changed[no] = &change{no: no, before: before}
	}
	tx.account(&old, &rec)
	tx.changed[no].rec = rec
	return rec, nil
}

// account brings the numbers of the header from a record's old state to its new one. Either may be nil.
func (tx *Tx) account(old, rec *Record) {
	v, h := tx.w.version(), &tx.h
	var was, is Totals
	if old != nil {
		was.Add(old, v, tx.names())
	}
	if rec != nil {
		is.Add(rec, v, tx.names())
	}
	for _, n := range []struct {
		field   *uint32
		was, is uint32
	}{{&h.Exists, was.Exists, is.Exists}, {&h.Deleted, was.Deleted, is.Deleted}, {&h.Answered, was.Answered, is.Answered},
		{&h.Flagged, was.Flagged, is.Flagged}, {&h.Unseen, was.Unseen, is.Unseen}} {
		*n.field = uint32(move(uint64(*n.field), uint64(n.was), uint64(n.is)))
	}
	h.QuotaUsed = move(h.QuotaUsed, was.QuotaUsed, is.QuotaUsed)
	h.QuotaDeleted = move(h.QuotaDeleted, was.QuotaDeleted, is.QuotaDeleted)
	h.QuotaExpunged = move(h.QuotaExpunged, was.QuotaExpunged, is.QuotaExpunged)
	h.SyncBasic ^= was.SyncBasic ^ is.SyncBasic
	h.SyncAnnot ^= was.SyncAnnot ^ is.SyncAnnot
	tx.usage.Bytes += int64(is.QuotaUsed - was.QuotaUsed)
	if v.HasChecksums() || old == nil { // before, what has a record counts: see Header.Usage
		tx.usage.Messages += int64(is.Exists) - int64(was.Exists)
	}
	if was.Exists > is.Exists { // expunged: its annotations count no more
		a := tx.w.annotations(tx.ctx, old.UID)
		h.SyncAnnot ^= a.sum
		h.QuotaAnnot = move(h.QuotaAnnot, a.bytes, 0)
		tx.usage.AnnotBytes -= int64(a.bytes)
	}
}

// move takes was from a count and adds is. A count that is too small, in a header that was wrong before, does not become
// a huge one.
func move(n, was, is uint64) uint64 { return n - min(n, was) + is }

// sortedChanges are the overwritten records in the order of their numbers.
func (tx *Tx) sortedChanges() []*change {
	list := make([]*change, 0, len(tx.changed))
	for _, c := range tx.changed {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *change) int { return int(int64(a.no) - int64(b.no)) })
	return list
}

// live is the record of a message that is not expunged.
func live(r *Record) error {
	if r.Expunged() {
		return fmt.Errorf("UID %d is expunged: %w", r.UID, ErrNotFound)
	}
	return nil
}

// asFormat tells whether err is about one damaged record, so that others can be gone on with.
func asFormat(err error) bool { return errors.Is(err, ErrDamaged) && isFormat(err) }
