package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/journal"
	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// Moved is what becomes of one mailbox.
type Moved struct {
	// Before and After are its entries in the list; the name of Before is zero if it is new, that of After if it is gone.
	Before, After mboxdb.Record
	// QuotaBefore and QuotaAfter are the quota roots that it counts for. Where they differ its usage moves with it.
	QuotaBefore, QuotaAfter string

	usage index.Usage // of the mailbox, before
	// doubt is the root of whose usage nobody knows after the change whether it had that of the mailbox in it.
	doubt string
}

// step is a change that is decided, and not begun.
type step struct {
	op string
	// users are those whose locks it needs.
	users []string
	moves []Moved
	puts  []mboxdb.Put
	// frees says that the step makes room on the disk.
	frees bool
	// lines are those for the sync log.
	lines []string
}

// entry is what the journal keeps of the step.
func (st *step) entry() *entry {
	e := &entry{Op: st.op, Users: st.users, Lines: st.lines}
	for i, m := range st.moves {
		if i == 0 {
			e.ID = orElse(m.After.UniqueID, m.Before.UniqueID)
			e.Name = append([]byte(nil), m.After.Name.DB()...)
		}
		if m.hadFiles() {
			e.Places = append(e.Places, placeEntry(m.Before, m.After.Name.IsZero()))
			e.Names = append(e.Names, m.Before.Name.String())
		}
		if m.hasFiles() && (m.Before.Name != m.After.Name || m.Before.Partition != m.After.Partition) {
			e.Places = append(e.Places, placeEntry(m.After, false))
			e.Names = append(e.Names, m.After.Name.String())
		}
	}
	return e
}

func (m *Moved) hadFiles() bool { return !m.Before.Name.IsZero() && m.Before.Type.Exists() }
func (m *Moved) hasFiles() bool { return !m.After.Name.IsZero() && m.After.Type.Exists() }

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// run decides a change under the locks of the users whose mailboxes it touches, and makes it. A dry run decides it on the
// list as it is, without a lock.
func (s *Store) run(ctx context.Context, dry bool, users []string, plan func(v *mboxdb.View) (*step, error)) ([]Moved, error) {
	var st *step
	decide := func() error {
		return s.list.View(ctx, func(v *mboxdb.View) (err error) {
			if s.list.Form() != mboxdb.Form36 {
				return mboxdb.ErrUpgradeFirst
			}
			if st, err = plan(v); err != nil {
				return err
			}
			st.users = users
			return s.checkPlaces(st)
		})
	}
	if dry {
		if err := decide(); err != nil {
			return nil, err
		}
		if err := s.affords(ctx, st); err != nil {
			return nil, err
		}
		return st.moves, nil
	}
	defer s.settleAccounts(ctx)
	held, err := s.lockUsers(ctx, users...)
	if err != nil {
		return nil, err
	}
	defer held.Release()
	if err := decide(); err != nil {
		return nil, err
	}
	var recs []mboxdb.Record
	for _, m := range st.moves {
		recs = append(recs, m.Before, m.After)
	}
	names, err := s.lockNames(ctx, recs...)
	if err != nil {
		return nil, err
	}
	defer names.Release()
	if err := s.refresh(ctx, st); err != nil {
		return nil, err
	}
	if err := s.make(ctx, st); err != nil {
		return nil, err
	}
	return st.moves, nil
}

// checkPlaces fails if a mailbox has no place, or the place of a new one is taken.
func (s *Store) checkPlaces(st *step) error {
	for _, m := range st.moves {
		var from *place
		var err error
		if m.hadFiles() {
			if from, err = s.place(m.Before); err != nil {
				return err
			}
		}
		if !m.hasFiles() {
			continue
		}
		to, err := s.place(m.After)
		if err != nil {
			return err
		}
		if from != nil && from.same(to) {
			continue
		}
		if err := s.empty(to); err != nil {
			return err
		}
	}
	return nil
}

// nameLockWait is how long a lock of a mailbox is waited for before all that are held are given back.
const nameLockWait = time.Second

// lockNames takes the locks of the mailboxes themselves, exclusively: files appear, move or vanish. Cyrus waits for one
// mailbox while it holds another, in no order; so who waits too long gives back what he has, and begins anew.
func (s *Store) lockNames(ctx context.Context, recs ...mboxdb.Record) (*locks.Held, error) {
	var paths []string
	for _, rec := range recs {
		if !rec.Name.IsZero() && rec.Type.Exists() {
			paths = append(paths, s.layout.LockPath(rec.MailboxLock()))
		}
	}
	for {
		brief, cancel := context.WithTimeout(ctx, nameLockWait)
		held, err := locks.Acquire(brief, s.fs, vfs.Exclusively, paths...)
		late := brief.Err() != nil
		cancel()
		if err == nil || !late || ctx.Err() != nil {
			return held, err
		}
	}
}

// make makes a step under all its locks.
//
//	journal entry, synced                       nothing is changed
//	files beside those in use, synced; the      the list has the old state; the entry names what is of no use
//	space for all that follows the commit
//	list                                        COMMIT POINT: the one of the list's transaction
//	header files, indexes; old files removed    the list has the new state; the entry names what is of no use
//	sync log, cached status                     all is done but that others hear of it
//	entry cleared                               all
//
// Before the commit point an error takes back what was made. After it none is the step's any more: the entry stays, and
// whoever resolves it goes on.
func (s *Store) make(ctx context.Context, st *step) error {
	pledged, err := s.pledge(ctx, st)
	if err != nil {
		return err
	}
	e := st.entry()
	e.Pledges = pledged.journal()
	slot, err := s.note(ctx, e)
	if err != nil {
		return noSpace(errors.Join(err, pledged.undo()))
	}
	defer slot.Close()
	undo, ready, err := s.prepare(ctx, st)
	if err == nil {
		err = s.list.Apply(ctx, st.puts, st.frees)
	}
	if errors.Is(err, skiplist.ErrCommitUnknown) {
		pledged.leave()
		return err // which of the two the list has is decided when it is next opened: the entry stays for that
	}
	if err != nil {
		if e := errors.Join(undo(), pledged.undo()); e != nil {
			s.logger.Error("what was prepared for a change that failed is left for a recovery", "change", st.op, "error", e)
			return noSpace(err)
		}
		return noSpace(errors.Join(err, slot.Clear(false)))
	}
	// The list is changed: from here on only a crash ends the step, and what is left to do does not end with ctx.
	ctx = context.WithoutCancel(ctx)
	if planted.On(planted.StepClearedEarly) {
		_ = slot.Clear(true)
	}
	if err := errors.Join(s.settle(ctx, e, true, ready), pledged.apply(ctx), s.doubt(ctx, st)); err != nil {
		s.logger.Error("a change was made, and the end of it is left for a recovery", "change", st.op, "error", err)
		slot.Close()
		s.reserveSlot(ctx)
		return nil
	}
	ready.discard()
	if err := slot.Clear(false); err != nil {
		s.logger.Warn("the journal entry of a change that was made stays", "change", st.op, "error", err)
	}
	return nil
}

// note writes the journal entry of a step. After an error there is none.
func (s *Store) note(ctx context.Context, e *entry) (*journal.Slot, error) {
	payload, err := e.encode()
	if err != nil {
		return nil, err
	}
	j, err := s.journal()
	if err != nil {
		return nil, err
	}
	slot, err := j.Take(ctx, usersKey(e.Users), len(payload))
	if err != nil {
		return nil, err
	}
	if planted.On(planted.StepUnnoted) {
		return slot, nil
	}
	if err := slot.Write(payload); err != nil {
		err = errors.Join(err, slot.Clear(false))
		slot.Close()
		return nil, err
	}
	return slot, nil
}

// prepare makes the files of the new state beside those of the old one, the header files that follow the commit among them,
// and returns what takes them back.
func (s *Store) prepare(ctx context.Context, st *step) (undo func() error, ready readyHeaders, err error) {
	var undos []func() error
	ready = readyHeaders{}
	undo = func() error {
		ready.discard()
		var all []error
		for _, u := range slices.Backward(undos) {
			if planted.On(planted.StepUndoSkipped) {
				continue
			}
			all = append(all, u())
		}
		return errors.Join(all...)
	}
	for i := range st.moves {
		if !st.moves[i].hasFiles() {
			continue
		}
		one, err := s.prepareOne(ctx, &st.moves[i])
		if one != nil {
			undos = append(undos, one)
		}
		if err == nil && st.moves[i].hadFiles() {
			err = s.prepareHeader(ctx, &st.moves[i], ready)
		}
		if err != nil {
			return undo, ready, err
		}
	}
	return undo, ready, nil
}

func (s *Store) prepareOne(ctx context.Context, m *Moved) (undo func() error, err error) {
	to, err := s.place(m.After)
	if err != nil {
		return nil, err
	}
	if !m.hadFiles() {
		made, err := index.Create(ctx, s.fs, to.at, s.creation(m))
		if err != nil {
			return nil, err
		}
		return made.Remove, nil
	}
	from, err := s.place(m.Before)
	if err != nil || from.same(to) {
		return nil, err
	}
	return s.link(ctx, from, to)
}

// creation says how the files of a new mailbox begin.
func (s *Store) creation(m *Moved) index.Creation {
	return index.Creation{
		HeaderFile: index.HeaderFile{Form: index.HeaderList, Type: string(m.After.Type), Name: m.After.Name.String(),
			UniqueID: m.After.UniqueID, QuotaRoot: m.QuotaAfter, ACL: headerACL(m.After.ACL)},
		UIDValidity: m.After.UIDValidity, ModSeq: index.ModSeq(m.After.FolderModSeq), Options: index.Options(s.config.mailboxOptions),
	}
}

// headerACL is an access list as cyrus.header has it.
func headerACL(acl mboxdb.ACL) []index.ACLEntry {
	if acl == nil {
		return nil
	}
	list := make([]index.ACLEntry, len(acl))
	for i, e := range acl {
		list[i] = index.ACLEntry(e)
	}
	return list
}

// link gives the files of a mailbox second names in the directories of its new place. On another partition they are
// copied. All are durable when it returns nil; undo removes them and the directories that were made.
func (s *Store) link(ctx context.Context, from, to *place) (undo func() error, err error) {
	if !from.alike(to) {
		return nil, fmt.Errorf("the partitions %s and %s do not keep the same files together: %w", from.rec.Partition, to.rec.Partition, ErrUnsupported)
	}
	var names, made []string
	undo = func() error { return s.unlink(names, made) }
	if made, err = s.mkdirs(to); err != nil {
		return undo, err
	}
	done := map[string]bool{}
	for i, dir := range from.dirs {
		if done[dir] {
			continue
		}
		done[dir] = true
		list, err := files(s.fs, dir)
		if err != nil {
			return undo, err
		}
		for _, name := range list {
			if err := context.Cause(ctx); err != nil {
				return undo, err
			}
			if filepath.Ext(name) == ".NEW" {
				continue // left over from a crash: nobody needs it
			}
			target := filepath.Join(to.dirs[i], name)
			names = append(names, target)
			if err := s.linkOrCopy(ctx, filepath.Join(dir, name), target); err != nil {
				return undo, err
			}
		}
	}
	for _, dir := range to.distinct() {
		if planted.On(planted.StepLinksUnsynced) {
			continue
		}
		if err := s.fs.SyncDir(dir); err != nil {
			return undo, err
		}
	}
	return undo, nil
}
