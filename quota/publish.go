package quota

import (
	"context"
	"errors"

	"github.com/mailspine/mailspine/internal/planted"
)

var (
	// errScanning means that the record has the mark of a run of Cyrus's quota program, which may be under way.
	errScanning = errors.New("a scan of the quota root is marked in its record")
	// errUnsteady means that the usage in the record changed while all members were frozen.
	errUnsteady = errors.New("the usage changed under the locks")
)

// unsteadyMax is how often a root is counted again because its record changed meanwhile. Then it stays as it is: somebody changes a
// mailbox all the time that is none of its own.
const unsteadyMax = 20

// publish writes the sum, under the locks of all members: since they are held no change of a member can be under way, and none
// can be added to the record before they are given back. seen is what the record said when they had been taken.
//
// Limits and what is not known of the record are those of now. The commit point is that of [Roots.Update]; the undo log has the
// old value before it.
func (w *work) publish(ctx context.Context, seen Record, t *tally, f *family) error {
	w.out.Limits, w.out.Before, w.out.After = seen.Limits, seen.Used, w.target(seen.Used, t, f)
	if w.out.Incomplete && !planted.On(planted.QuotaPartWritten) {
		return nil
	}
	if w.run.req.DryRun {
		w.out.Changed = w.out.Before != w.out.After
		w.out.Scan = seen.Scan != nil
		return nil
	}
	if seen.Scan == nil && w.out.Before == w.out.After && !w.run.k.manyUsers(w.root) {
		return nil // with all frozen who could change it, it is right; else it has to be looked at once more
	}
	var line *undoLine
	changed, scan := false, false
	_, err := w.run.k.roots.Update(ctx, w.root, func(rec *Record) (err error) {
		w.run.undo.settle(line, errUnsteady)
		line = nil
		to := w.target(rec.Used, t, f)
		switch {
		case rec.Scan != nil && w.changes == nil:
			return errScanning
		case rec.Used != seen.Used:
			return errUnsteady
		}
		w.out.Limits, w.out.Before, w.out.After = rec.Limits, rec.Used, to
		changed, scan = rec.Used != to, rec.Scan != nil
		if changed && !planted.On(planted.QuotaUndoLate) {
			if line, err = w.run.undo.usage(w.root, rec, to); err != nil {
				return err
			}
		}
		if planted.On(planted.QuotaLimitsOld) {
			rec.Limits = seen.Limits
		}
		rec.Used, rec.Scan = to, nil
		if planted.On(planted.QuotaScanKept) {
			rec.Scan = seen.Scan
		}
		return nil
	})
	if changed && planted.On(planted.QuotaUndoLate) {
		line, _ = w.run.undo.usage(w.root, &Record{Used: w.out.Before}, w.out.After)
	}
	w.run.undo.settle(line, err)
	if err == nil {
		w.out.Changed, w.out.Scan = changed, scan
	}
	return err
}

// target is what the usage has to become. In a damaged list there may be more mailboxes than were found, so there it may only
// grow. A root without mailboxes keeps its usage, unless it is to be set to nothing: it may be the list that has lost them.
func (w *work) target(used Amounts, t *tally, f *family) Amounts {
	switch {
	case w.out.Orphan && !w.run.req.ZeroOrphans:
		return used
	case f.damage == nil || w.run.req.AllowDamaged || planted.On(planted.QuotaDamageLowers):
		return t.sum
	}
	for i := range used {
		used[i] = max(used[i], t.sum[i])
	}
	return used
}
