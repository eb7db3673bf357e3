package quota

import (
	"context"
	"errors"
	"fmt"

	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/mboxdb"
)

// ErrNoMailbox means that no mailbox would count for a root.
var ErrNoMailbox = errors.New("no mailbox has this name, or lies below it")

// SetReport is what [Keeper.Set] or [Keeper.Delete] has done.
type SetReport struct {
	// Before and After are the limits. Created says that the root was made.
	Before, After Limits
	Created       bool
	// Counted is the recalculation of the root and of the one that its mailboxes counted for before, nil if none was needed.
	Counted *Report
	// Undo is the name of the run for [Keeper.Undo]; empty if nothing was changed.
	Undo string
}

// Set gives a root these limits, and leaves those that are not named; [Unlimited] takes one away. A root that is not there is made, if
// there is a mailbox for it, and counted, together with the one that its mailboxes counted for.
//
// A new root is made under the lock of changes of roots, with a usage of nothing. It and the former owner are marked as dirty
// before, so that whatever ends this early they are counted later.
func (k *Keeper) Set(ctx context.Context, root string, limits map[Resource]int64) (*SetReport, error) {
	log := k.newUndoLog(false)
	report, err := k.set(ctx, root, func(rec *Record) (Limits, error) {
		to := rec.Limits
		for res, n := range limits {
			if res < 0 || int(res) >= Resources || n < Unlimited {
				return to, fmt.Errorf("quota root %q: %d is not a limit of %v", root, n, int(res))
			}
			to[res] = n
		}
		return to, nil
	}, log, 0)
	log.close()
	report.Undo = log.name
	if err != nil {
		return report, fmt.Errorf("set limits: %w", writeError(err))
	}
	return report, nil
}

// set is Set with a log. ofN is the change in another log that is undone by it.
func (k *Keeper) set(ctx context.Context, root string, change func(*Record) (Limits, error), log *undoLog, ofN int64) (*SetReport, error) {
	report := &SetReport{Before: NoLimits(), After: NoLimits()}
	noted := func(rec *Record) (Limits, error) {
		to, err := change(rec)
		report.Before, report.After = rec.Limits, to
		return to, err
	}
	err := k.changeLimits(ctx, root, log, ofN, noted)
	if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrEmpty) {
		return report, err
	}
	changes, err := k.roots.LockChanges(ctx)
	if err != nil {
		return report, err
	}
	defer changes.Release()
	// Somebody may have made it while we waited.
	err = k.changeLimits(ctx, root, log, ofN, noted)
	if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrEmpty) {
		return report, err
	}
	return report, k.create(ctx, root, change, log, ofN, changes, report)
}

// changeLimits changes the limits of a root that exists.
func (k *Keeper) changeLimits(ctx context.Context, root string, log *undoLog, ofN int64, change func(*Record) (Limits, error)) error {
	var line *undoLine
	_, err := k.roots.Update(ctx, root, func(rec *Record) error {
		log.settle(line, errUnsteady)
		line = nil
		was := rec.Limits
		to, err := change(rec)
		if err != nil || to == was {
			return err
		}
		line, err = log.write(&undoLine{Kind: undoLimits, Root: text(root), OldLimits: &was, NewLimits: &to, ModSeq: rec.ModSeq, OfN: ofN})
		rec.Limits = to
		return err
	})
	log.settle(line, err)
	return err
}

// create makes a root, under the lock of changes of roots.
//
//	marks of the root and of the former owner   nothing is changed; a count finds that there is no such root
//	the line in the undo log, the root          COMMIT POINT: that of Roots.Create; its mailboxes name the former owner
//	headers, counts of both                     all is right
//	marks cleared
func (k *Keeper) create(ctx context.Context, root string, change func(*Record) (Limits, error), log *undoLog, ofN int64, changes *locks.Held, report *SetReport) error {
	if ofN == 0 { // what is taken back may have been there without a mailbox
		if err := k.hasMailbox(ctx, root); err != nil {
			return err
		}
	}
	parent, err := k.parent(ctx, root)
	if err != nil {
		return err
	}
	rec := Record{Limits: NoLimits()}
	if rec.Limits, err = change(&rec); err != nil {
		return err
	}
	report.Before, report.After = NoLimits(), rec.Limits
	touched := []string{root}
	if parent != "" {
		touched = append(touched, parent)
	}
	unmark, err := k.markAll(ctx, touched)
	if err != nil {
		return err
	}
	line, err := log.write(&undoLine{Kind: undoCreated, Root: text(root), NewLimits: &rec.Limits, OfN: ofN})
	if err == nil {
		err = k.roots.Create(ctx, root, rec)
	}
	log.settle(line, err)
	if err != nil {
		return err // marked or not, a count changes nothing
	}
	report.Created = true
	report.Counted, err = k.settleWith(ctx, touched, changes, log, unmark)
	return err
}

// Delete removes a root, on demand alone: nothing else ever does. Its mailboxes count for the next root above it, or for none; its
// limits are kept in the undo log. It is not for a root that has roots below it: those stay.
//
//	mark of the root above                      nothing is changed; a count finds all right
//	the line in the undo log; the record goes   COMMIT POINT: that of Roots.Delete; the headers name a root that is gone
//	headers, the count of the root above        all is right
//	mark cleared
//
// While headers name the root that is gone, changes of their mailboxes are counted nowhere; the count that follows finds them.
func (k *Keeper) Delete(ctx context.Context, root string) (*SetReport, error) {
	log := k.newUndoLog(false)
	report, err := k.remove(ctx, root, log)
	log.close()
	report.Undo = log.name
	if err != nil {
		return report, fmt.Errorf("delete quota root: %w", writeError(err))
	}
	return report, nil
}

func (k *Keeper) remove(ctx context.Context, root string, log *undoLog) (*SetReport, error) {
	report := &SetReport{Before: NoLimits(), After: NoLimits()}
	changes, err := k.roots.LockChanges(ctx)
	if err != nil {
		return report, err
	}
	defer changes.Release()
	rec, err := k.roots.Get(ctx, root)
	if err != nil && !errors.Is(err, ErrEmpty) {
		return report, err // what cannot be read cannot be given back: an operator has to look at it
	}
	if errors.Is(err, ErrEmpty) {
		rec = Record{Limits: NoLimits()}
	}
	report.Before = rec.Limits
	parent, err := k.parent(ctx, root)
	if err != nil {
		return report, err
	}
	var touched []string
	if parent != "" {
		touched = append(touched, parent)
	}
	unmark, err := k.markAll(ctx, touched)
	if err != nil {
		return report, err
	}
	line, err := log.write(&undoLine{Kind: undoDeleted, Root: text(root), Old: &rec.Used, OldLimits: &rec.Limits, ModSeq: rec.ModSeq})
	if err == nil {
		err = k.roots.Delete(ctx, root)
	}
	log.settle(line, err)
	if err != nil {
		return report, err
	}
	if parent == "" {
		return report, k.orphaned(ctx, root, changes, log)
	}
	report.Counted, err = k.settleWith(ctx, touched, changes, log, unmark)
	return report, err
}

// orphaned clears the headers of mailboxes that no root owns any more.
func (k *Keeper) orphaned(ctx context.Context, root string, changes *locks.Held, log *undoLog) error {
	r := &run{k: k, undo: log, changes: changes}
	var all []wrong
	err := k.list.View(ctx, func(v *mboxdb.View) error {
		l := k.lookups(ctx)
		for rec, err := range below(v, root, k.layout.Namespace.VirtDomains) {
			if errors.Is(err, mboxdb.ErrRecord) {
				continue
			}
			if err != nil {
				return err
			}
			if !counts(rec) {
				continue
			}
			one, err := r.namesGone(l, rec, root)
			if err != nil {
				return err
			}
			if one != nil {
				all = append(all, *one)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("mailbox list: %w", err)
	}
	var failed []error
	for _, one := range all {
		if _, err := r.mend(ctx, one); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// parent is the root that counts for the mailboxes of a root if that is not there: the next above it.
func (k *Keeper) parent(ctx context.Context, root string) (string, error) {
	l := k.lookups(ctx)
	l.known[root] = false
	return l.owner(root)
}

// hasMailbox fails unless there is a mailbox that a root of this name would count for.
func (k *Keeper) hasMailbox(ctx context.Context, root string) error {
	if err := CheckName(root); err != nil {
		return err
	}
	found := false
	err := k.list.View(ctx, func(v *mboxdb.View) error {
		for rec, err := range below(v, root, k.layout.Namespace.VirtDomains) {
			if err == nil && counts(rec) {
				found = true
				return nil
			}
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%q: %w", root, ErrNoMailbox)
	}
	return err
}

// markAll marks roots as dirty, and returns what takes these marks away again.
func (k *Keeper) markAll(ctx context.Context, roots []string) (unmark func(context.Context) error, err error) {
	marks := map[string]map[string]bool{}
	for _, root := range roots {
		if err := k.mark(ctx, root); err != nil {
			return nil, err
		}
		if marks[root], err = k.marks(ctx, root); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) error {
		var all []error
		for root, numbers := range marks {
			all = append(all, k.unmark(ctx, root, numbers))
		}
		return errors.Join(all...)
	}, nil
}

// settleWith counts roots under the lock of changes of roots, which the caller holds, and then takes the marks away.
func (k *Keeper) settleWith(ctx context.Context, roots []string, changes *locks.Held, log *undoLog, unmark func(context.Context) error) (*Report, error) {
	report, err := k.recalculate(ctx, Recalculation{Roots: roots, ZeroOrphans: true}, changes, log)
	if err != nil {
		return report, err
	}
	var all []error
	for _, o := range report.Outcomes {
		if err := o.doubt(); err != nil {
			all = append(all, fmt.Errorf("quota root %q: %w", o.Root, err))
		}
	}
	if err := errors.Join(append(all, report.ListDamage)...); err != nil {
		return report, err // the marks stay
	}
	return report, unmark(ctx)
}
