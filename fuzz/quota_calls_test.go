package fuzz

import (
	"context"
	"errors"
	"fmt"

	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/store"
)

// setLimit sets the limit of a root's storage in KiB, or deletes the root.
func setLimit(ctx context.Context, st *store.Store, root string, unset bool, kib int64) error {
	if unset {
		report, err := st.Quota().Delete(ctx, root)
		return errors.Join(err, countedBy(report))
	}
	report, err := st.Quota().Set(ctx, root, map[quota.Resource]int64{quota.Storage: kib})
	return errors.Join(err, countedBy(report))
}

func countedBy(report *quota.SetReport) error {
	if report == nil || report.Counted == nil {
		return nil
	}
	return outcomes(report.Counted)
}

// countDeep is the number of an operation that counts records.
const countDeep = 1

// recalculateRoots counts all roots, some, those below some, or only looks.
func recalculateRoots(ctx context.Context, st *store.Store, o accountOp) error {
	req := quota.Recalculation{ZeroOrphans: true, Deep: o.n%3 == countDeep}
	if o.n == 11 { // seldom, as the scheduler has to read the stacks of goroutines that wait for each other
		req.Jobs = 2
	}
	switch o.what {
	case "some":
		req.Roots = o.roots
	case "under":
		req.Under = o.roots
	case "plan":
		req.DryRun = true
	}
	report, err := st.Quota().Recalculate(ctx, req)
	if err != nil {
		return err
	}
	return outcomes(report)
}

// outcomes is what went wrong in a recalculation. That a root is gone by then is no wrong.
func outcomes(report *quota.Report) error {
	var all []error
	for _, o := range report.Outcomes {
		if o.Err != nil && !errors.Is(o.Err, quota.ErrNotFound) {
			all = append(all, fmt.Errorf("%s: %w", o.Root, o.Err))
		}
		if o.Incomplete {
			all = append(all, fmt.Errorf("%s could not be counted: %v", o.Root, o.Problems))
		}
		for _, p := range o.Problems {
			if p.Code == "header-not-mended" {
				all = append(all, fmt.Errorf("%s: %s", o.Root, p.Detail))
			}
		}
	}
	if report.ListDamage != nil {
		all = append(all, report.ListDamage)
	}
	return errors.Join(all...)
}

// undoLast takes back the last run that changed anything.
func undoLast(ctx context.Context, st *store.Store) error {
	runs, err := st.Quota().UndoRuns(ctx)
	if err != nil {
		return err
	}
	if len(runs) == 0 {
		return errors.New("there is no run to take back")
	}
	report, err := st.Quota().Undo(ctx, runs[len(runs)-1].Name, quota.UndoOptions{})
	all := []error{err}
	for _, c := range report.Changes {
		all = append(all, c.Err)
	}
	return errors.Join(all...)
}
