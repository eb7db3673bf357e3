package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"github.com/mailspine/mailspine/internal/journal"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
)

// Outcome is what became of a change that a crash interrupted.
type Outcome int

const (
	// Finished means that it was committed, and is carried out to its end.
	Finished Outcome = iota
	// Undone means that it was not committed, and nothing is left of it.
	Undone
	// Overtaken means that the mailbox was changed by another program since, which knows nothing of the journal, or is not the
	// one that was changed: what is whole stays as it is, and a record that was torn by the crash is as it was before.
	Overtaken
)

func (o Outcome) String() string { return [...]string{"finished", "undone", "overtaken"}[o] }

// Recovered is one change that was found in the journal.
type Recovered struct {
	// Path is that of the cyrus.index.
	Path    string
	Outcome Outcome
	// Records is the number of records that were written.
	Records int
	// Torn are records that are damaged and not as the journal knows them.
	Torn []RecordNo
}

// Recover brings to its end what a crash has left of changes of a mailbox. Whoever changes the mailbox next does so, too;
// for a whole store see [RecoverJournal].
func Recover(ctx context.Context, fsys vfs.FS, p Place, opts OpenOptions) ([]Recovered, error) {
	fsys = vfs.OrOS(fsys)
	if _, err := FinishRepack(ctx, fsys, p, opts); err != nil {
		return nil, writeError("recover mailbox", err)
	}
	release, err := writeLocks(ctx, fsys, p)
	if err != nil {
		return nil, fmt.Errorf("recover mailbox: %w", err)
	}
	r, told, err := recoverIndex(ctx, fsys, p, opts)
	release()
	opts.settle(ctx, told)
	return r, err
}

// RecoverJournal brings to its end what a crash has left of changes of all mailboxes that use the journal in a directory.
// It goes on after a mailbox that cannot be recovered, and returns all errors. A mailbox that is gone needs no recovery.
func RecoverJournal(ctx context.Context, fsys vfs.FS, dir string, opts OpenOptions) (all []Recovered, err error) {
	fsys = vfs.OrOS(fsys)
	keys, err := journal.Open(fsys, dir).Keys(ctx)
	if err != nil {
		return nil, err
	}
	var failed []error
	someTold := false
	defer func() { opts.settle(ctx, someTold) }()
	for _, path := range keys {
		p := Place{Paths: Paths{Index: path}, Journal: dir}
		r, told, err := recoverIndex(ctx, fsys, p, opts)
		someTold = someTold || told
		all = append(all, r...)
		if err != nil {
			failed = append(failed, err)
		}
	}
	return all, errors.Join(failed...)
}

// recoverIndex recovers a mailbox of which the other locks are held, or not wanted. It tells whether the participant has heard
// of anything.
func recoverIndex(ctx context.Context, fsys vfs.FS, p Place, opts OpenOptions) (r []Recovered, told bool, err error) {
	w := &writer{fs: fsys, place: p, opts: &opts, journal: journal.Open(fsys, p.Journal), log: logger(opts.Log)}
	defer w.close()
	w.file, w.info, err = openLocked(ctx, fsys, p.Paths.Index)
	if errors.Is(err, fs.ErrNotExist) {
		r, err = w.forget(ctx)
		return r, w.told, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("recover mailbox: %w", err)
	}
	r, err = w.recover(ctx)
	if err != nil {
		err = writeError("recover mailbox", err)
	}
	return r, w.told, err
}

func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// forget clears entries of a mailbox that is not there any more.
func (w *writer) forget(ctx context.Context) (all []Recovered, err error) {
	slots, err := w.journal.Pending(ctx, w.place.Paths.Index)
	for _, s := range slots {
		e := &entry{}
		p, repack, problem := decodeRepackEntry(s.Payload())
		switch {
		case err != nil:
		case problem != nil:
			err = problem
		case repack:
			err = forgetRepack(w.fs, p)
		default:
			err = e.decode(s.Payload())
		}
		if err == nil && (repack || w.settle(ctx, e)) {
			err = s.Clear(false)
			all = append(all, Recovered{Path: s.Key(), Outcome: Overtaken})
		}
		s.Close()
	}
	return all, err
}

// recover resolves the pending entries of the mailbox, under the lock of cyrus.index and before anything is read. The newest
// comes first: an older one, which was done with long ago and whose clearing a crash has lost, then finds the mailbox as its
// own end or as something else, and does nothing.
func (w *writer) recover(ctx context.Context) (all []Recovered, err error) {
	if w.journal == nil {
		return nil, nil
	}
	slots, err := w.journal.Pending(ctx, w.place.Paths.Index)
	if err != nil {
		return nil, err
	}
	for _, s := range slots {
		if err == nil {
			var r Recovered
			if r, err = w.resolve(ctx, s); err == nil {
				all = append(all, r)
				w.log.InfoContext(ctx, "an interrupted change was found", "path", r.Path, "outcome", r.Outcome.String(), "records", r.Records, "torn", r.Torn)
			}
		}
		s.Close()
	}
	return all, err
}

// resolve resolves one entry. The header of cyrus.index decides: if it is the one after the change, the change is carried out;
// if it is the one before, it is undone; if it is neither, somebody else has gone on.
func (w *writer) resolve(ctx context.Context, s *journal.Slot) (Recovered, error) {
	p, repack, err := decodeRepackEntry(s.Payload())
	if err == nil && repack {
		r := Recovered{Path: w.place.Paths.Index, Outcome: Overtaken}
		err := w.resolveRepack(ctx, s, p, &r)
		return r, err
	}
	e := &entry{}
	if err == nil {
		err = e.decode(s.Payload())
	}
	if err != nil {
		return Recovered{}, fmt.Errorf("%s: %w", w.journal.Dir(), err)
	}
	r, err := w.decide(e)
	if err == nil && w.settle(ctx, e) {
		// Durably, if it was undone: the next change may give the file the same header as the one that was undone would have,
		// and must not be taken for it.
		err = s.Clear(r.Outcome == Undone)
	}
	return r, err
}

// decide finds out what became of a change, and brings it to its end.
func (w *writer) decide(e *entry) (Recovered, error) {
	r := Recovered{Path: w.place.Paths.Index, Outcome: Overtaken}
	if w.info.Ino != e.ino {
		return r, nil
	}
	now := make([]byte, len(e.before))
	if err := readFull(w.file, now, 0); err != nil {
		return r, fmt.Errorf("read %s: %w", r.Path, err)
	}
	switch {
	case bytes.Equal(now, e.after):
		r.Outcome = Finished
	case bytes.Equal(now, e.before) || cutShort(now, e.before, e.after):
		r.Outcome = Undone
	}
	if planted.On(planted.RecoverRedoes) {
		r.Outcome = Finished
	}
	if planted.On(planted.RecoverUndoes) {
		r.Outcome = Undone
	}
	err := w.restore(e, now, &r)
	return r, err
}

// cutShort tells whether now is what a write of one header over the other leaves that stopped in the middle.
func cutShort(now, before, after []byte) bool {
	starts := func(b []byte) (n int) {
		for n < len(now) && now[n] == b[n] {
			n++
		}
		return n
	}
	a, b := starts(after), starts(before)
	return bytes.Equal(now[a:], before[a:]) || bytes.Equal(now[b:], after[b:])
}

// restore writes the records, cyrus.header and the header of cyrus.index as the outcome wants them, and syncs. They are written
// also where they look right: after a sync that failed, what is read may not be on the disk.
func (w *writer) restore(e *entry, now []byte, r *Recovered) error {
	h := e.header()
	if r.Outcome == Overtaken {
		var is Header
		if is.Decode(now) != nil || is.Generation != h.Generation || is.UIDValidity != h.UIDValidity || is.Version != h.Version {
			return nil
		}
	}
	l := layoutOf(h.Version)
	for i := range e.records {
		if err := w.restoreRecord(e, i, l, r); err != nil {
			return err
		}
	}
	if r.Outcome == Overtaken {
		if r.Records > 0 {
			return w.file.Datasync()
		}
		return nil
	}
	target, unwanted, files := e.after, e.headerBefore, e.unlink
	wanted := e.headerAfter
	if r.Outcome == Undone {
		target, unwanted, wanted, files = e.before, e.headerAfter, e.headerBefore, e.created
	}
	if err := w.restoreHeaderFile(e.headerPath, unwanted, wanted); err != nil {
		return err
	}
	if err := w.writeIndex(target, 0); err != nil {
		return err
	}
	if err := w.file.Datasync(); err != nil {
		return err
	}
	for _, path := range files {
		if err := w.fs.Unlink(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (w *writer) restoreRecord(e *entry, i int, l *layout, r *Recovered) error {
	rec := &e.records[i]
	off := int64(l.headerSize) + int64(rec.no-1)*int64(len(rec.before))
	now := make([]byte, len(rec.before))
	if err := readFull(w.file, now, off); err != nil {
		return fmt.Errorf("read %s: %w", r.Path, err)
	}
	// Before version 12 there are no checksums: there a torn record is known by its parts alone.
	broken, mixed := !intact(l, now), torn(now, rec.before, rec.after, off)
	ours := broken || mixed || bytes.Equal(now, rec.before) || bytes.Equal(now, rec.after)
	switch {
	case r.Outcome == Overtaken && mixed && broken, r.Outcome == Undone && ours:
		r.Records++
		return w.writeIndex(rec.before, off)
	case r.Outcome == Finished && ours:
		r.Records++
		return w.writeIndex(rec.after, off)
	case broken:
		r.Torn = append(r.Torn, rec.no)
	}
	return nil
}

// sectorBytes is what reaches the disk whole.
const sectorBytes = 512

// torn tells whether now is what a crash leaves of writing after over before, or the other way round, at off: one of them up
// to the edge of a sector, and then the other.
func torn(now, before, after []byte, off int64) bool {
	edge := int(sectorBytes - off%sectorBytes)
	if edge >= len(now) {
		return false
	}
	return bytes.Equal(now[:edge], before[:edge]) && bytes.Equal(now[edge:], after[edge:]) ||
		bytes.Equal(now[:edge], after[:edge]) && bytes.Equal(now[edge:], before[edge:])
}

// restoreHeaderFile puts the wanted cyrus.header in the place of the unwanted one, or makes sure that it lasts. One that is
// neither stays.
func (w *writer) restoreHeaderFile(path string, unwanted, wanted []byte) error {
	if len(wanted) == 0 {
		return nil
	}
	now, err := vfs.ReadFile(w.fs, path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && bytes.Equal(now, wanted):
		return w.fs.SyncDir(filepath.Dir(path))
	case err == nil && !bytes.Equal(now, unwanted):
		return nil
	}
	return vfs.ReplaceFile(w.fs, path, headerOptions(wanted), writing(wanted))
}

// settle tells the participant of an entry, and whether the entry can go.
func (w *writer) settle(ctx context.Context, e *entry) bool {
	if len(e.participant) == 0 {
		return true
	}
	if w.opts.Participant == nil {
		return false // somebody who keeps the accounts has to be told
	}
	w.told = true
	if err := w.opts.Participant.Recover(ctx, e.participant); err != nil {
		w.log.ErrorContext(ctx, "the accounts of an interrupted change could not be recovered", "path", w.place.Paths.Index, "error", err)
		return false
	}
	return true
}

func headerOptions(b []byte) vfs.ReplaceOptions {
	return vfs.ReplaceOptions{Perm: fileMode, Size: int64(len(b))}
}

func writing(b []byte) func(vfs.File) error {
	return func(f vfs.File) error {
		_, err := f.WriteAt(b, 0)
		return err
	}
}
