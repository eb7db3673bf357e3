package quota

import (
	"context"
	"errors"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/planted"
)

// work is one root that is being counted.
type work struct {
	run  *run
	root string
	// changes is the lock of changes of roots, once it was needed.
	changes *locks.Held
	// before is what the last attempt has counted; only a planted bug asks.
	before Amounts
	// settled are the indexes of mailboxes in which what was cut off has been brought to its end, if there was anything.
	settled map[string]bool
	// unmended are mailboxes whose headers could not be mended, tries how often that was tried, by the paths of the headers.
	unmended map[string]bool
	tries    map[string]int
	unsteady int
	files    int // that the last attempt has had open
	// failed is what could not be done, found what the last attempt has seen.
	failed, found []finding.Finding
	out           Outcome
}

// verdict is how an attempt to count a root ended.
type verdict int

const (
	// over: there is nothing more to do.
	over verdict = iota
	// again: something changed, or was changed, so that all has to be looked at anew.
	again
	// needChanges: it takes the lock of changes of roots, and all anew under it.
	needChanges
)

// do counts a root until an attempt comes to its end.
func (w *work) do(ctx context.Context) error {
	defer func() {
		w.changes.Release()
		w.out.Problems = append(w.failed, w.found...)
	}()
	if w.run.changes != nil {
		w.changes = &locks.Held{}
	}
	for {
		next, err := w.among(ctx)
		if outOfFiles(err) && !errors.Is(err, ErrTooManyFiles) {
			err = &TooManyFilesError{Root: w.root, Files: w.files, Err: err}
		}
		if err != nil || next == over {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if next == needChanges {
			if w.changes, err = w.run.lockChanges(ctx); err != nil {
				return err
			}
		}
	}
}

// among makes an attempt while others of the run are at theirs. If there are too few files for all it makes another one alone.
func (w *work) among(ctx context.Context) (verdict, error) {
	next, err := func() (verdict, error) {
		w.run.crowd.RLock()
		defer w.run.crowd.RUnlock()
		return w.attempt(ctx)
	}()
	if !outOfFiles(err) || w.run.req.Jobs <= 1 {
		return next, err
	}
	w.run.crowd.Lock()
	defer w.run.crowd.Unlock()
	return w.attempt(ctx)
}

// attempt counts the root once:
//
//  1. its members by the list, without a lock;
//  2. the freeze: the locks of the users concerned and of all members' indexes, shared;
//  3. under these, the members anew: if they differ, again;
//  4. what each uses, and which root its header names. Wrong headers are mended without the freeze, and then again;
//  5. the sum goes into the record, still frozen.
func (w *work) attempt(ctx context.Context) (verdict, error) {
	k, dry := w.run.k, w.run.req.DryRun
	// The same roots decide all of an attempt before the freeze; those under it are looked at anew.
	before, err := k.family(ctx, w.root, w.run.isSelected)
	if err != nil {
		return over, err
	}
	if before.nested && w.changes == nil && !dry {
		return needChanges, nil
	}
	z := &freezer{k: k, root: w.root, looking: dry}
	held, err := z.freeze(ctx, before)
	if err != nil {
		return over, err
	}
	defer held.release()
	w.files = len(held.users) + len(held.boxes)
	seen, unread := k.roots.Get(ctx, w.root)
	if errors.Is(unread, ErrNotFound) || outOfFiles(unread) {
		return over, unread
	}
	if !dry {
		if late, err := k.passBy(ctx, w.root, held); late || err != nil {
			return again, err
		}
	}
	f, err := k.family(ctx, w.root, w.run.isSelected)
	if err != nil {
		return over, err
	}
	if !f.same(before) || f.nested && w.changes == nil && !dry {
		return again, nil
	}
	t, err := w.count(ctx, held)
	if err != nil {
		return over, err
	}
	if planted.On(planted.QuotaDoubled) {
		t.sum, _ = t.sum.Plus(w.before)
		w.before = t.sum
	}
	w.note(t, f)
	if len(t.open) > 0 && !dry {
		held.release()
		return again, w.recoverAll(ctx, t.open)
	}
	all := append(t.wrong, w.strays(f)...)
	if todo := w.toMend(all); len(todo) > 0 && !dry {
		if w.changes == nil {
			return needChanges, nil
		}
		held.release()
		return again, w.mendAll(ctx, todo)
	}
	if dry {
		w.plan(all)
	}
	if unread != nil {
		w.out.After = t.sum
		return over, unread
	}
	switch err := w.publish(ctx, seen, t, f); {
	case errors.Is(err, errScanning):
		return needChanges, nil
	case errors.Is(err, errUnsteady):
		if w.unsteady++; w.unsteady > unsteadyMax {
			return over, err
		}
		return again, nil
	default:
		return over, err
	}
}

// recoverAll brings to its end what a crash has left of changes in mailboxes. One that is left by Cyrus stays as it is.
func (w *work) recoverAll(ctx context.Context, all []index.Place) error {
	if w.settled == nil {
		w.settled = map[string]bool{}
	}
	for _, p := range all {
		w.settled[p.Paths.Index] = true
		k := w.run.k
		if _, err := index.Recover(ctx, k.fs, p, index.OpenOptions{Participant: index.SettleLater(k), Log: k.logger}); err != nil {
			if e := context.Cause(ctx); e != nil {
				return e
			}
			w.out.unmended = true
			w.failed = append(w.failed, memberFinding("header-not-mended", finding.Error, p.Paths.Header, err.Error()))
		}
	}
	return nil
}

// note has the outcome say what this attempt found.
func (w *work) note(t *tally, f *family) {
	o := &w.out
	o.Count, o.Members = t.count, t.members
	o.Incomplete = len(t.missing)+len(f.unreadable) > 0
	o.Orphan = t.count == 0 && !o.Incomplete
	w.found = append(append(append(w.found[:0], t.missing...), f.unreadable...), t.odd...)
	if f.damage != nil {
		w.run.damaged(f.damage)
	}
}

// plan is what a dry run says of headers.
func (w *work) plan(all []wrong) {
	for _, one := range all {
		w.out.Headers = append(w.out.Headers, one.fix)
		w.run.moved(w.root, &one.fix)
	}
}
