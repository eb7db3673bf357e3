package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/mailspine/mailspine/internal/journal"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
)

// commit is a transaction that is being carried out.
//
//	step 0  space for everything, the new cyrus.header beside the old one, the participant's consent
//	step 1  message files have their names, durably; the cache is appended to; sync
//	step 2  new records are written behind the last one, where nobody looks; sync
//	step 3  if anything is overwritten: the journal entry; sync
//	step 4  cyrus.header takes its place; records are overwritten; the header of cyrus.index; sync
//	step 5  what follows a commit: the participant, files of expunged messages, the journal
//
// The commit point is the header of cyrus.index, which lies in one sector. Up to step 3 nobody can see anything. From the
// first write of step 4 on, the journal tells the next one who locks the mailbox how to finish or to undo the change;
// without overwritten records there is nothing but the header, and so nothing to tell.
type commit struct {
	tx      *Tx
	w       *writer
	header  Header
	entry   entry
	journal bool // an entry is needed
	slot    *journal.Slot
	written bool // the entry, or a part of it
	pledge  Pledge
	repl    *vfs.Replacement

	cache      vfs.File
	cacheMade  bool
	cacheBytes []byte
	cacheOff   int64
	cacheSize  int64

	tail     []byte // new records
	tailOff  int64
	tailOld  []byte // what a crash has left there
	linked   []string
	replaced bool // cyrus.header may be the new one
}

// commit carries the transaction out.
func (tx *Tx) commit() error {
	if tx.done {
		return ErrTxDone
	}
	tx.done = true
	c := &commit{tx: tx, w: tx.w}
	changed, err := c.build()
	if err != nil || !changed {
		return err
	}
	defer c.close()
	for _, step := range []func() error{c.reserve, c.appendMessages, c.appendRecords, c.writeEntry} {
		if err := step(); err != nil {
			c.undo()
			return err
		}
	}
	if err := c.overwrite(); err != nil {
		if back := c.takeBack(); back != nil {
			c.unknown()
			return fmt.Errorf("%w: %w", ErrCommitUnknown, errors.Join(err, back))
		}
		c.undo()
		return err
	}
	c.finish()
	return nil
}

// build puts together what will be written, and tells whether anything changes.
func (c *commit) build() (bool, error) {
	tx, w := c.tx, c.w
	if len(tx.changed)+len(tx.added)+len(tx.unlink) == 0 && tx.header == nil && !tx.touched {
		return false, nil
	}
	e := &c.entry
	e.ino, e.before, e.headerPath = w.info.Ino, w.raw, w.place.Paths.Header
	c.header = tx.h
	h := &c.header
	if tx.header != nil {
		if b := tx.header.Append(nil); !bytes.Equal(b, w.hraw) {
			e.headerBefore, e.headerAfter = w.hraw, b
			if h.Version.hasHeaderField(hHeaderFileCRC) {
				h.HeaderFileCRC = checksum(b)
			}
		}
	}
	h.Options = h.Options.Written(h.Version)
	for _, change := range tx.sortedChanges() {
		e.records = append(e.records, entryRecord{no: change.no, before: change.before, after: change.rec.Append(nil, h.Version)})
	}
	noted := len(e.records) > 0 || e.headerAfter != nil && !h.Version.hasHeaderField(hHeaderFileCRC)
	if noted && (h.HighestModSeq == w.index.Header.HighestModSeq || !h.Version.hasHeaderField(hHighestModSeq)) {
		// The header decides what becomes of an entry, and an entry may come back after a crash that was done with long ago:
		// so every change has to give the file a header that it never had. This number means nothing.
		h.LeakedCache++
	}
	if planted.On(planted.TxHeaderRepeats) {
		h.LeakedCache = w.index.Header.LeakedCache
	}
	e.after = h.Append(nil)
	if err := h.Validate(); err != nil {
		return false, in(err, w.place.Paths.Index, 0, 0)
	}
	e.unlink = tx.unlink
	for _, a := range tx.added {
		e.created = append(e.created, w.place.Message(&a.rec))
	}
	return len(e.unlink) > 0 || len(e.headerAfter) > 0 || !bytes.Equal(e.after, e.before), nil
}

// appendMessages is step 1. The files are under names that no record has yet; one that a crash has left there is garbage.
func (c *commit) appendMessages() error {
	if len(c.tx.added) == 0 {
		return nil
	}
	w := c.w
	for i, a := range c.tx.added {
		name := c.entry.created[i]
		if err := c.link(a.source, name); err != nil {
			return err
		}
	}
	if !planted.On(planted.TxDirUnsynced) {
		if err := w.fs.SyncDir(w.place.Messages); err != nil {
			return err
		}
	}
	if dir := filepath.Dir(w.place.Paths.Cache); c.cacheSize < cacheHeaderSize && dir != w.place.Messages {
		if err := w.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	if _, err := c.cache.WriteAt(c.cacheBytes, c.cacheOff); err != nil {
		return err
	}
	if planted.On(planted.TxCacheUnsynced) {
		return nil
	}
	return c.cache.Datasync()
}

// link gives a message file its name in the mailbox, by a copy where a link is not to be had.
func (c *commit) link(source, name string) error {
	fsys := c.w.fs
	err := fsys.Link(source, name)
	if errors.Is(err, fs.ErrNotExist) {
		// Where the metadata have a partition of their own, Cyrus makes the directory of the messages with the first of them.
		if err := vfs.MkdirAll(fsys, filepath.Dir(name), dirMode); err != nil {
			return err
		}
		err = fsys.Link(source, name)
	}
	if errors.Is(err, fs.ErrExist) && planted.On(planted.TxLeftoverKept) {
		err = nil
	}
	if errors.Is(err, fs.ErrExist) {
		if err := fsys.Unlink(name); err != nil {
			return err
		}
		err = fsys.Link(source, name)
	}
	// Also after an error: a call that reports one may have been carried out.
	c.linked = append(c.linked, name)
	for _, cannot := range []error{syscall.EMLINK, syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EXDEV} {
		if errors.Is(err, cannot) {
			return copyFile(c.tx.ctx, fsys, source, name)
		}
	}
	return err
}

// appendRecords is step 2.
func (c *commit) appendRecords() error {
	if len(c.tail) == 0 {
		return nil
	}
	if planted.On(planted.TxHeaderFirst) {
		if err := c.w.writeIndex(c.entry.after, 0); err != nil {
			return err
		}
	}
	if err := c.w.writeIndex(c.tail, c.tailOff); err != nil {
		return err
	}
	if planted.On(planted.TxRecordsUnsynced) {
		return nil
	}
	return c.w.file.Datasync()
}

// writeEntry is step 3.
func (c *commit) writeEntry() error {
	if !c.journal {
		return nil
	}
	c.written = true
	if planted.On(planted.TxOverwriteFirst) {
		if err := c.writeRecords(func(r *entryRecord) []byte { return r.after }); err != nil {
			return err
		}
	}
	return c.slot.Write(c.entry.append(make([]byte, 0, c.entry.size())))
}

// overwrite is step 4, with the commit point.
func (c *commit) overwrite() error {
	if planted.On(planted.TxUnlinkFirst) {
		for _, path := range c.entry.unlink {
			_ = c.w.fs.Unlink(path)
		}
	}
	if planted.On(planted.TxClearedFirst) && c.slot != nil {
		_ = c.slot.Clear(false)
	}
	if c.repl != nil {
		repl := c.repl
		c.repl, c.replaced = nil, true
		if err := repl.Commit(); err != nil {
			return err
		}
	}
	if bytes.Equal(c.entry.after, c.entry.before) {
		return nil
	}
	if err := c.writeRecords(func(r *entryRecord) []byte { return r.after }); err != nil {
		return err
	}
	if err := c.w.writeIndex(c.entry.after, 0); err != nil {
		return err
	}
	if planted.On(planted.TxCommitUnsynced) {
		return nil
	}
	err := c.w.file.Datasync()
	if err != nil && planted.On(planted.TxSyncRetried) {
		err = c.w.file.Datasync()
	}
	if planted.On(planted.TxSyncErrorIgnored) {
		return nil
	}
	return err
}

// writeRecords writes an image of each record; neighbours in one call.
func (c *commit) writeRecords(image func(*entryRecord) []byte) error {
	var run []byte
	var first, next RecordNo
	flush := func() error {
		if len(run) == 0 {
			return nil
		}
		err := c.w.writeIndex(run, c.w.index.Offset(first))
		run = run[:0]
		return err
	}
	for i := range c.entry.records {
		r := &c.entry.records[i]
		if r.no != next || len(run) >= batchBytes {
			if err := flush(); err != nil {
				return err
			}
			first = r.no
		}
		run, next = append(run, image(r)...), r.no+1
	}
	return flush()
}

// takeBack undoes step 4. All is written again, because after a failed sync nobody knows what the disk has.
func (c *commit) takeBack() error {
	if planted.On(planted.TxNotTakenBack) {
		return nil
	}
	if err := c.writeRecords(func(r *entryRecord) []byte { return r.before }); err != nil {
		return err
	}
	if err := c.w.writeIndex(c.entry.before, 0); err != nil {
		return err
	}
	if err := c.w.file.Datasync(); err != nil {
		return err
	}
	if c.replaced {
		return c.w.restoreHeaderFile(c.entry.headerPath, c.entry.headerAfter, c.entry.headerBefore)
	}
	return nil
}

// undo leaves every file as it was, before step 4 or after takeBack. What cannot be removed is garbage that nobody sees.
func (c *commit) undo() {
	w := c.w
	if c.repl != nil {
		c.repl.Discard()
	}
	for _, name := range c.linked {
		_ = w.fs.Unlink(name)
	}
	if len(c.tail) > 0 {
		if len(c.tailOld) > 0 {
			_ = w.writeIndex(c.tailOld, c.tailOff)
		}
		if info, err := w.file.Stat(); err == nil && info.Size != w.info.Size && !planted.On(planted.TxTailLeft) {
			_ = w.file.Truncate(w.info.Size)
		}
	}
	switch {
	case c.cacheMade:
		_ = w.fs.Unlink(w.place.Paths.Cache)
	case c.cache == nil:
	default:
		if info, err := c.cache.Stat(); err == nil && info.Size != c.cacheSize {
			_ = c.cache.Truncate(c.cacheSize)
		}
	}
	if c.slot != nil && c.written {
		// Durably: an entry that comes back would undo the same change if it were made again, and succeeded.
		_ = c.slot.Clear(true)
	}
	if c.pledge != nil {
		if err := c.pledge.Undo(); err != nil {
			w.log.ErrorContext(c.tx.ctx, "the accounts of a change that failed could not be put right", "path", w.place.Paths.Index, "error", err)
		}
	}
}

// unknown leaves everything to the next one who locks the mailbox. Nothing is removed: the change may be on the disk.
func (c *commit) unknown() {
	w := c.w
	w.m.unsettled = &c.entry
	if c.pledge != nil {
		c.pledge.Leave()
	}
	if c.slot != nil || w.journal == nil {
		return
	}
	// Another process would not know that the header it reads may not be the one on the disk.
	if slot, err := w.journal.Take(c.tx.ctx, w.place.Paths.Index, c.entry.size()); err == nil {
		_ = slot.Write(c.entry.append(nil))
		slot.Close()
	}
}

// finish is step 5. The change is made: what fails here is told to the log, and done at the next recovery or cleanup.
func (c *commit) finish() {
	tx, w := c.tx, c.w
	done := true
	complain := func(what string, err error) {
		w.log.ErrorContext(tx.ctx, "after a change: "+what, "path", w.place.Paths.Index, "error", err)
	}
	if c.pledge != nil {
		// The change is made, whatever becomes of the one who asked for it.
		if err := c.pledge.Apply(context.WithoutCancel(tx.ctx)); err != nil {
			complain("the accounts could not be put right", err)
			done = false
		}
	}
	for _, path := range c.entry.unlink {
		if err := w.fs.Unlink(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			complain("a message file could not be removed", err)
		}
	}
	if w.opts.Committed != nil {
		w.opts.Committed(tx.ctx, c.committed())
	}
	if c.slot != nil && done {
		if err := c.slot.Clear(false); err != nil {
			complain("the journal could not be cleared", err)
		}
	}
	if c.slot == nil && w.journal != nil {
		// An append needs no entry. The expunge that makes room again, on a disk that is full by then, does.
		if err := w.journal.Reserve(tx.ctx); err != nil {
			w.log.DebugContext(tx.ctx, "no journal is prepared for a full disk", "path", w.place.Paths.Index, "error", err)
		}
	}
	for _, a := range tx.added {
		if a.staged != nil {
			a.staged.Discard()
		}
	}
	if err := w.m.reopen(); err != nil {
		complain("the mailbox could not be read again", err)
	}
}

func (c *commit) committed() Committed {
	done := Committed{Place: c.w.place, Before: c.w.index.Header, After: c.header}
	for _, change := range c.tx.sortedChanges() {
		done.Changed = append(done.Changed, change.rec.UID)
	}
	for _, a := range c.tx.added {
		done.Appended = append(done.Appended, a.rec.UID)
	}
	return done
}

// close lets go of files. The slot is given back while the mailbox is still locked.
func (c *commit) close() {
	if c.cache != nil {
		_ = c.cache.Close()
	}
	if c.slot != nil {
		c.slot.Close()
	}
}
