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
	if tx.broken != nil {
		return fmt.Errorf("commit: a read in the transaction failed: %w", tx.broken)
	}
	if !tx.changed() {
		return nil
	}
	db := w.db
	if db.poisoned {
		return fmt.Errorf("commit: %s: %w", db.path, errPoisoned)
	}
	if w.st.codec.Traits().Rewrites || w.st.blank {
		return w.commitByRewrite(tx)
	}
	if err := w.keepName(); err != nil {
		return writeError("commit: make the name durable", err)
	}
	if err := w.prepare(); err != nil {
		return writeError("commit: prepare the file", err)
	}
	plan, err := w.seal(tx)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := w.reserve(plan.Size-w.st.log.End, tx.deletesOnly || tx.urgent); err != nil {
		return writeError("commit: reserve space", err)
	}
	if err := w.execute(plan); err != nil {
		return err
	}
	next := db.newState(w.st.gen, w.st.codec, plan.Size)
	next.live, next.header, next.linked = tx.txn.Live, plan.Header, true
	next.log = codec.Log{End: plan.Size, Disorder: w.st.log.Disorder}
	w.adopt(next)
	db.stats.commits.Add(1)
	w.checkpointIfDue()
	return nil
}

// errPoisoned refuses the further transactions of a hold in which the disk failed: the next hold rebuilds the file.
var errPoisoned = errors.New("the disk has just failed, and nothing more is written to the file before it is rebuilt")

// seal completes the transaction against the state on which it will be written: prepare may have renewed the header.
func (w *writer) seal(tx *Tx) (plan codec.Plan, err error) {
	defer vfs.CatchFault(vfs.ArmFault(), tx.txn.View.Mem, &err)
	tx.txn.Header = w.st.header
	tx.txn.Live = tx.ed.Tree()
	return w.st.codec.Seal(&tx.txn)
}

// adopt publishes a state that was just made durable. It cannot fail: what it does not get to know only means that the
// next reader looks at the file again.
func (w *writer) adopt(next *state) {
	var err error
	if next.seen, err = next.gen.wr.Stat(); err != nil {
		next.seen = vfs.Info{}
	}
	if err := next.setMark(); err != nil {
		next.mark, next.seen = nil, vfs.Info{}
	}
	w.publish(next)
}

// reserve makes sure that need bytes can be appended, and that the reserve for deletions stands behind them. A
// transaction of deletions may use the reserve itself. On an error the file is byte for byte as it was.
func (w *writer) reserve(need int64, mayUse bool) error {
	db, end := w.db, w.st.log.End
	want := end + need + max(db.opts.Reserve, 0)
	if db.reserved >= want || planted.On(planted.ReserveForgotten) {
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
	if noSpace(err) && mayUse {
		err = w.useReserve(end, need)
	}
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return nil // the append is the test
	}
	return err
}

// restoreReserve allocates the reserve for deletions after a checkpoint or a cut has given it up. The next commit would
// do so as well, if the disk has not filled up until then. Without space the work that is done stays done.
func (w *writer) restoreReserve() {
	if w.db.opts.Reserve > 0 && !w.db.codec.Traits().Rewrites && !w.st.blank {
		_ = w.reserve(0, false)
	}
}

// useReserve makes sure that need bytes can be appended in space that is allocated already.
func (w *writer) useReserve(end, need int64) error {
	err := w.st.gen.wr.Allocate(end, need)
	if !noSpace(err) {
		return err
	}
	// XFS wants free blocks even to allocate what is allocated. If there is space behind the end the append is the test.
	if info, e := w.st.gen.wr.Stat(); e == nil && info.Blocks*512 >= end+need {
		return nil
	}
	return err
}

// execute carries out a plan. On an error the file is as it was, or will be when it is next opened, unless the error is
// ErrCommitUnknown.
func (w *writer) execute(plan codec.Plan) error {
	f := w.st.gen.wr
	for i, phase := range plan.Phases {
		done, partly, err := writePhase(f, phase)
		if err == nil {
			if err = syncPhase(f, plan, i); err == nil {
				w.db.stats.syncs.Add(1)
				continue
			}
		}
		// The commit point is the last write of its phase.
		reached := i > plan.CommitPhase || i == plan.CommitPhase && done == len(phase.Writes) && partly
		return w.takeBack(plan, i, done, reached, err)
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

// writePhase performs the writes of a phase and its cut. done counts those that were begun; partly tells whether some
// byte of the last of these was written.
func writePhase(f vfs.File, phase codec.Phase) (done int, partly bool, err error) {
	for i, wr := range phase.Writes {
		n, err := f.WriteAt(wr.New, wr.Off)
		if planted.On(planted.LinkUnchecked) && wr.Old != nil || planted.On(planted.CommitUnchecked) && wr.Old == nil && i > 0 {
			err = nil
		}
		if err != nil {
			return i + 1, n > 0, err
		}
	}
	if phase.Cut != 0 {
		err = f.Truncate(phase.Cut)
	}
	return len(phase.Writes), true, err
}

// takeBack undoes a plan that failed in phase failed, of which the first done writes were begun. cause is the failure,
// reached tells whether something of the commit point was written.
//
// A commit record goes first: from there on every opener recovers, and half restored links do no harm. If it cannot be
// removed nothing else is touched, and the transaction stays whole. Then what was overwritten is restored, and only then
// the file cut: a file with a clean-looking end and dangling links is the one state that no opener repairs. If something
// cannot be restored the tail stays, without its commit record. Each phase that is undone is synced with its pages
// rewritten, because pages whose sync failed are never written again by the system. Only if the disk refuses this as
// well, with the commit record written, the outcome is unknown.
func (w *writer) takeBack(plan codec.Plan, failed, done int, reached bool, cause error) error {
	w.db.reserved = 0
	gone, err := w.undo(plan, failed, done)
	if err != nil {
		w.db.poisoned = w.db.poisoned || !planted.On(planted.FailureForgotten)
	} else {
		w.restoreReserve() // the cut has given it up
	}
	w.refreshSeen()
	if err != nil && reached && !gone {
		return fmt.Errorf("commit: %w: %w; taking it back: %w", ErrCommitUnknown, cause, err)
	}
	return writeError("commit", cause)
}

// undo takes the phases back, the failed one first. If it fails, gone tells whether the commit record at least is durably
// away.
func (w *writer) undo(plan codec.Plan, failed, done int) (gone bool, err error) {
	f := w.st.gen.wr
	for i := failed; i >= 0; i-- {
		writes := plan.Phases[i].Writes
		if i == failed {
			writes = writes[:done]
		}
		if planted.On(planted.CutBeforeRestore) {
			_ = f.Truncate(w.st.log.End)
		}
		dropped := false
		if i == plan.CommitPhase && len(writes) == len(plan.Phases[i].Writes) && !planted.On(planted.CommitLeft) {
			if dropped, err = dropCommit(f, writes); err != nil {
				return false, err
			}
		}
		cut, err := restore(f, writes)
		if err == nil && cut {
			err = f.Truncate(w.st.log.End)
		}
		if err != nil {
			return f.Datasync() == nil && dropped || i < plan.CommitPhase, err
		}
		if planted.On(planted.UndoUnsynced) {
			continue
		}
		if err := f.Datasync(); err != nil {
			return i < plan.CommitPhase, err
		}
		w.db.stats.syncs.Add(1)
	}
	return true, nil
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

// dropCommit cuts off the commit record, if that is what was appended last in its phase, and tells whether it was.
func dropCommit(f vfs.File, writes []codec.Write) (dropped bool, err error) {
	n := len(writes)
	if n == 0 || writes[n-1].Old != nil {
		return false, nil
	}
	return true, f.Truncate(writes[n-1].Off)
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
