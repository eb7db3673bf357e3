package skiplist

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// commit writes a transaction. A format says in its codec where its commit point lies; here is how the phases of a plan
// are carried out, and taken back when one fails.
func (w *writer) commit(tx *Tx) error {
	if !tx.changed() {
		return nil
	}
	db := w.db
	if w.st.codec.Traits().Rewrites || w.st.blank {
		return w.commitByRewrite(tx)
	}
	if err := w.prepare(); err != nil {
		return writeError("commit: prepare the file", err)
	}
	plan, err := w.seal(tx)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := w.reserve(plan.Size-w.st.log.End, tx.deletesOnly); err != nil {
		return writeError("commit: reserve space", err)
	}
	if err := w.execute(plan); err != nil {
		return err
	}
	next := db.newState(w.st.gen, w.st.codec, plan.Size)
	next.live, next.header, next.linked = tx.txn.Live, plan.Header, true
	next.log = codec.Log{End: plan.Size, Disorder: w.st.log.Disorder}
	if err := w.adopt(next); err != nil {
		return err
	}
	db.stats.commits.Add(1)
	w.checkpointIfDue()
	return nil
}

// seal completes the transaction against the state on which it will be written: prepare may have renewed the header.
func (w *writer) seal(tx *Tx) (plan codec.Plan, err error) {
	defer vfs.CatchFault(vfs.ArmFault(), tx.txn.View.Mem, &err)
	tx.txn.Header = w.st.header
	tx.txn.Live = tx.ed.Tree()
	return w.st.codec.Seal(&tx.txn)
}

// adopt publishes a state that was just made durable.
func (w *writer) adopt(next *state) (err error) {
	defer vfs.CatchFault(vfs.ArmFault(), next.view.Mem, &err)
	if next.seen, err = next.gen.wr.Stat(); err != nil {
		// The change is durable; that the file cannot be described only means that the next reader looks at it again.
		next.seen = vfs.Info{}
	}
	if err := next.setMark(); err != nil {
		next.mark = nil
	}
	w.publish(next)
	return nil
}

// reserve makes sure that need bytes can be appended, and that the reserve for deletions stands behind them. Deletions
// may use the reserve itself. On an error the file is byte for byte as it was.
func (w *writer) reserve(need int64, deletesOnly bool) error {
	db, end := w.db, w.st.log.End
	want := end + need + max(db.opts.Reserve, 0)
	if db.reserved >= want {
		return nil
	}
	// Twice the reserve at a time, so that not every commit has to ask.
	err := w.st.gen.wr.Allocate(end, want+max(db.opts.Reserve, 0)-end)
	if err == nil {
		db.reserved = want + max(db.opts.Reserve, 0)
		return nil
	}
	if noSpace(err) {
		err = w.st.gen.wr.Allocate(end, want-end)
	}
	if noSpace(err) && deletesOnly {
		// Allocating what is allocated already needs no space.
		err = w.st.gen.wr.Allocate(end, need)
	}
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return nil // the append is the test
	}
	return err
}

// restoreReserve allocates the reserve for deletions after a checkpoint or a cut has given it up. The next commit would
// do so as well, if the disk has not filled up until then. Without space the work that is done stays done.
func (w *writer) restoreReserve() {
	if !w.db.codec.Traits().Rewrites && !w.st.blank {
		_ = w.reserve(0, false)
	}
}

// execute carries out a plan. On an error the file is as it was, or will be when it is next opened, unless the error is
// ErrCommitUnknown.
func (w *writer) execute(plan codec.Plan) error {
	f := w.st.gen.wr
	for i, phase := range plan.Phases {
		done, err := writePhase(f, phase)
		if err == nil {
			if err = syncPhase(f, plan, i); err == nil {
				w.db.stats.syncs.Add(1)
				continue
			}
			return w.takeBack(plan, i, done, true, err)
		}
		return w.takeBack(plan, i, done, false, err)
	}
	w.db.stats.bytes.Add(plan.Size - w.st.log.End)
	return nil
}

// syncPhase makes a phase durable.
func syncPhase(f vfs.File, plan codec.Plan, phase int) error {
	if planted.On(planted.RecordsUnsynced) && phase == plan.CommitPhase-1 || planted.On(planted.CommitUnsynced) && phase == plan.CommitPhase {
		return nil
	}
	err := f.Datasync()
	if err != nil && (planted.On(planted.SyncErrorIgnored) || planted.On(planted.SyncRetried) && f.Datasync() == nil) {
		return nil
	}
	return err
}

// writePhase performs the writes of a phase and its cut; done counts those that were begun.
func writePhase(f vfs.File, phase codec.Phase) (done int, err error) {
	for i, wr := range phase.Writes {
		_, err := f.WriteAt(wr.New, wr.Off)
		if planted.On(planted.LinkUnchecked) && wr.Old != nil || planted.On(planted.CommitUnchecked) && wr.Old == nil && i > 0 {
			err = nil
		}
		if err != nil {
			return i + 1, err
		}
	}
	if phase.Cut != 0 {
		err = f.Truncate(phase.Cut)
	}
	return len(phase.Writes), err
}

// takeBack undoes a plan that failed in phase failed, of which the first done writes were begun. cause is the failure,
// synced tells that it was the sync of the phase.
//
// A commit record goes first: from there on every opener recovers, and half restored links do no harm. If it cannot be
// removed nothing else is touched, and the transaction stays whole. Then what was overwritten is restored, and only then
// the file cut: a file with a clean-looking end and dangling links is the one state that no opener repairs. If something
// cannot be restored the tail stays, without its commit record. Each phase that is undone is synced with its pages rewritten, because pages whose sync
// failed are never written again by the system.
func (w *writer) takeBack(plan codec.Plan, failed, done int, synced bool, cause error) error {
	w.db.reserved = 0
	f := w.st.gen.wr
	err := w.undo(f, plan, failed, done)
	if err == nil {
		w.refreshSeen()
		return writeError("commit", cause)
	}
	w.db.poisoned = !planted.On(planted.FailureForgotten)
	w.refreshSeen()
	if synced && failed >= plan.CommitPhase {
		return fmt.Errorf("commit: %w: %w; taking it back: %w", ErrCommitUnknown, cause, err)
	}
	return writeError("commit", cause)
}

func (w *writer) undo(f vfs.File, plan codec.Plan, failed, done int) error {
	for i := failed; i >= 0; i-- {
		writes := plan.Phases[i].Writes
		if i == failed {
			writes = writes[:done]
		}
		if planted.On(planted.CutBeforeRestore) {
			_ = f.Truncate(w.st.log.End)
		}
		if i == plan.CommitPhase && len(writes) == len(plan.Phases[i].Writes) && !planted.On(planted.CommitLeft) {
			if err := dropCommit(f, writes); err != nil {
				return err
			}
		}
		cut, err := restore(f, writes)
		if err != nil {
			_ = f.Datasync() // for the commit record to be gone
			return err
		}
		if cut {
			if err := f.Truncate(w.st.log.End); err != nil {
				return err
			}
		}
		if planted.On(planted.UndoUnsynced) {
			continue
		}
		if err := f.Datasync(); err != nil {
			return err
		}
		w.db.stats.syncs.Add(1)
	}
	return nil
}

// restore writes back what the writes have overwritten, and tells whether there are appended bytes to cut.
func restore(f vfs.File, writes []codec.Write) (cut bool, err error) {
	for i := len(writes) - 1; i >= 0; i-- {
		if writes[i].Old == nil {
			cut = true
			continue
		}
		if planted.On(planted.LinksNotRestored) {
			continue
		}
		if _, e := f.WriteAt(writes[i].Old, writes[i].Off); e != nil && err == nil {
			err = e
		}
	}
	return cut, err
}

// dropCommit cuts off the commit record, if that is what was appended last in its phase.
func dropCommit(f vfs.File, writes []codec.Write) error {
	n := len(writes)
	if n == 0 || writes[n-1].Old != nil {
		return nil
	}
	return f.Truncate(writes[n-1].Off)
}

// refreshSeen notes how the file looks now, with the same committed content as before.
func (w *writer) refreshSeen() {
	same := *w.st
	info, err := w.st.gen.wr.Stat()
	if err != nil {
		info = vfs.Info{} // the next reader looks for itself
	}
	same.seen = info
	w.publish(&same)
}
