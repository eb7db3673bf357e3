package quota

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/mboxdb"
)

// Recalculation says which roots to count, and how. The zero value counts all of them, and mends what is wrong.
type Recalculation struct {
	// Roots are exact names of roots; Under are names, a root of which, and all roots below, are meant; Prefixes are the beginnings
	// of names, as Cyrus's program takes them; Users are users whose roots are meant. A root that is meant twice is counted once.
	// If all are empty all roots are meant, and headers of mailboxes that no root owns are looked at, too.
	Roots, Under, Prefixes, Users []string
	// DryRun writes nothing, and waits for nobody's lock longer than it takes to read.
	DryRun bool
	// Deep counts the records of each mailbox instead of believing the header of its index.
	Deep bool
	// Explain has each Outcome list its mailboxes.
	Explain bool
	// ZeroOrphans sets the usage of roots that no mailbox counts for to nothing. Else it stays: it may be the list that has lost
	// the mailboxes.
	ZeroOrphans bool
	// AllowDamaged lowers usage also where the mailbox list is damaged.
	AllowDamaged bool
	// Jobs is how many roots are worked on at once, 1 by default.
	Jobs int
	// Progress, if set, hears how many of how many roots are done. Each hears of each root when it is done; without it the
	// outcomes are in the Report. They are not called at once.
	Progress func(doing string, done, total int64)
	Each     func(Outcome)
}

// Outcome is what became of one root.
type Outcome struct {
	Root string
	// Before and After are the usage in the record and the right one; After is Before where it stays.
	Before, After Amounts
	Limits        Limits
	// Changed says that the usage was wrong and is, or in a dry run would be, put right. Scan says so of a mark that a run of
	// Cyrus's program has left.
	Changed, Scan bool
	// Count is how many mailboxes count for the root; Members are these, if they were asked for.
	Count   int
	Members []Member
	// Headers are those that were, or in a dry run would be, mended.
	Headers []HeaderFix
	// Problems are what else was found.
	Problems []finding.Finding
	// Incomplete says that a mailbox could not be counted: the record stays, and After is the sum of the others. Orphan says that no
	// mailbox counts for the root.
	Incomplete, Orphan bool
	// unmended says that a header still names another root, so that what changes next is added there.
	unmended bool
	// Err is why the root could not be counted or written, nil if it could. Its record has the old usage.
	Err error
}

// Report is what a recalculation did.
type Report struct {
	// Roots is how many were worked on; the others of how many of them what Outcome says is true. Headers is the number of headers.
	Roots, Changed, Incomplete, Orphans, Failed, Headers int
	// Outcomes are in the order of the names, unless Recalculation.Each has them.
	Outcomes []Outcome
	// Cleared are headers of mailboxes that no root owns.
	Cleared []HeaderFix
	// Stale are roots that were not to be counted, and whose usage is wrong because a header was mended that named them, or now does.
	Stale []string
	// Problems are of no root.
	Problems []finding.Finding
	// ListDamage is set if the mailbox list is damaged: nothing was lowered then, unless that was allowed.
	ListDamage error
	// Undo is the name of the run for [Keeper.Undo]; empty if nothing was changed.
	Undo string
}

// run is one recalculation.
type run struct {
	k    *Keeper
	req  Recalculation
	undo *undoLog
	// changes is the lock of changes of roots, if the caller holds it.
	changes *locks.Held
	full    bool
	// selected are the names of the roots to work on, sorted.
	selected []string

	// crowd is held, shared, by whoever has mailboxes frozen.
	crowd sync.RWMutex

	mu      sync.Mutex
	cond    *sync.Cond
	next    int             // the first of selected that nobody has begun with
	again   []string        // roots that are to be done once more
	redo    map[string]bool // those that are being done, and then once more
	running map[string]bool
	done    int64
	stopped bool
	report  Report
	stale   map[string]bool
	merged  map[string]int // places in report.Outcomes
	tries   map[string]int // how often headers were mended for roots that are done once more
}

// Recalculate counts roots and puts right what is wrong, beside everybody who goes on to use the store. The package comment
// says why what it writes is right. Roots that cannot be counted are left as they are, and the others are gone on with; the
// error is for what keeps the whole from being done. The report is of what was done, also with an error.
func (k *Keeper) Recalculate(ctx context.Context, req Recalculation) (*Report, error) {
	log := k.newUndoLog(req.DryRun)
	defer log.close()
	return k.recalculate(ctx, req, nil, log)
}

// recalculate is Recalculate for who may hold the lock of changes of roots, with the log of the run that it is a part of.
func (k *Keeper) recalculate(ctx context.Context, req Recalculation, changes *locks.Held, log *undoLog) (_ *Report, err error) {
	r := &run{k: k, req: req, changes: changes, undo: log,
		redo: map[string]bool{}, running: map[string]bool{}, stale: map[string]bool{}, merged: map[string]int{}, tries: map[string]int{}}
	r.cond = sync.NewCond(&r.mu)
	defer r.finish(ctx)
	if err := r.choose(ctx); err != nil {
		return &r.report, err
	}
	suspects, err := r.suspects(ctx)
	if err == nil {
		err = r.work(ctx)
	}
	if err == nil && r.full {
		err = r.ownerless(ctx)
	}
	if err == nil {
		r.once(suspects)
		err = r.work(ctx) // those that a header has named, which is mended or cleared by now
	}
	return &r.report, err
}

// errUncounted means that a root could not be counted with certainty.
var errUncounted = errors.New("not all mailboxes could be counted, or given the root that they count for")

// recountRoots counts roots whose usage is known to be in doubt, and returns for each why it is still.
func (k *Keeper) recountRoots(ctx context.Context, roots []string, changes *locks.Held) map[string]error {
	failed := map[string]error{}
	log := k.newUndoLog(false)
	defer log.close()
	report, err := k.recalculate(ctx, Recalculation{Roots: roots, ZeroOrphans: true}, changes, log)
	if err != nil {
		for _, root := range roots {
			failed[root] = err
		}
		return failed
	}
	for _, o := range report.Outcomes {
		if err = errors.Join(o.doubt(), report.ListDamage); err != nil {
			failed[o.Root] = err
		}
	}
	return failed
}

// doubt is why the usage of a root may be wrong still, or become so with the next change.
func (o *Outcome) doubt() error {
	switch {
	case o.Err != nil:
		return o.Err
	case o.Incomplete || o.unmended:
		return errUncounted
	}
	return nil
}

// choose finds the roots that are meant. One whose record cannot be read is among them: its headers are to be right, too.
func (r *run) choose(ctx context.Context) error {
	q := &r.req
	r.full = len(q.Roots)+len(q.Under)+len(q.Prefixes)+len(q.Users) == 0
	r.selected = slices.Clone(q.Roots)
	if r.full || len(q.Under)+len(q.Prefixes)+len(q.Users) > 0 {
		for root, err := range r.k.roots.All(ctx) {
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				return err
			}
			if !r.full && !r.meant(root.Name) {
				continue
			}
			if errors.Is(root.Err, ErrMisplaced) {
				r.misplaced(root)
				continue
			}
			r.selected = append(r.selected, root.Name)
		}
	}
	slices.Sort(r.selected)
	r.selected = slices.Compact(r.selected)
	return nil
}

// misplaced reports a file that is no root, as nobody looks for it where it is.
func (r *run) misplaced(root Root) {
	f := finding.Finding{Code: "root-misplaced", Severity: finding.Error, Offset: -1, Detail: root.Err.Error(),
		Fix: "move the file to where the root is looked for, or remove it"}
	if e := (*RootError)(nil); errors.As(root.Err, &e) {
		f.Path = e.Path
	}
	r.problem(f)
}

func (r *run) meant(root string) bool {
	name := mboxdb.InternalName(root)
	_, deleted := name.Deleted(r.k.layout.Namespace)
	return slices.ContainsFunc(r.req.Under, func(u string) bool { return covers(u, root) }) ||
		slices.ContainsFunc(r.req.Prefixes, func(p string) bool { return strings.HasPrefix(root, p) }) ||
		!deleted && slices.ContainsFunc(r.req.Users, func(u string) bool { return u != "" && name.User(r.k.layout.Namespace) == u })
}

func (r *run) isSelected(root string) bool {
	_, found := slices.BinarySearch(r.selected, root)
	return found
}

// work does the roots, and those that have to be done again, in as many goroutines as there are jobs.
func (r *run) work(ctx context.Context) error {
	if r.req.Jobs <= 1 {
		return r.worker(ctx)
	}
	errs := make([]error, r.req.Jobs)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = r.worker(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (r *run) worker(ctx context.Context) error {
	for {
		root, ok := r.take()
		if !ok {
			return nil
		}
		w := &work{run: r, root: root, unmended: map[string]bool{}, tries: map[string]int{}, out: Outcome{Root: root, Limits: NoLimits()}}
		finished := false
		func() {
			defer func() { r.give(w, finished) }() // also if the goroutine ends
			w.out.Err = w.do(ctx)
			finished = context.Cause(ctx) == nil
		}()
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
}

// take returns the next root to do. It waits while another that is being done may ask for one to be done again.
func (r *run) take() (root string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.stopped {
		switch {
		case r.next < len(r.selected):
			root = r.selected[r.next]
			r.next++
		case len(r.again) > 0:
			root, r.again = r.again[0], r.again[1:]
		case len(r.running) == 0:
			return "", false
		default:
			r.cond.Wait()
			continue
		}
		r.running[root] = true
		return root, true
	}
	return "", false
}

// give takes note of a root that is done.
func (r *run) give(w *work, finished bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, w.root)
	if r.redo[w.root] {
		delete(r.redo, w.root)
		r.again = append(r.again, w.root)
	}
	r.stopped = r.stopped || !finished
	r.cond.Broadcast()
	if !finished {
		return
	}
	r.done++
	r.add(w.out)
	if r.req.Progress != nil {
		r.req.Progress("quota roots", r.done, max(r.done, int64(len(r.selected))))
	}
}

// moved takes note of a header that was mended while root was worked on: what changed in the mailbox went to the root that it
// named, perhaps after that was counted.
func (r *run) moved(root string, fix *HeaderFix) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range []string{fix.From, fix.To} {
		if other == "" || other == root {
			continue
		}
		if r.req.DryRun && r.isSelected(other) {
			continue // what it would be counted to does not depend on headers
		}
		i, selected := slices.BinarySearch(r.selected, other)
		switch {
		case !selected:
			r.stale[other] = true
		case i >= r.next, slices.Contains(r.again, other): // it will be done
		case r.running[other]:
			r.redo[other] = true
		default:
			r.again = append(r.again, other)
		}
	}
}

// add puts an outcome into the report; the second of a root is added to its first.
func (r *run) add(o Outcome) {
	p := &r.report
	i, again := r.merged[o.Root]
	if r.req.Each != nil {
		if !again {
			r.merged[o.Root] = 0
		}
		if again && !o.Changed && len(o.Headers) == 0 && o.Err == nil {
			return
		}
		r.tally(o, !again)
		r.req.Each(o)
		return
	}
	if !again {
		r.merged[o.Root] = len(p.Outcomes)
		p.Outcomes = append(p.Outcomes, o)
		return
	}
	first := &p.Outcomes[i]
	o.Before, o.Scan = first.Before, o.Scan || first.Scan
	o.Changed = o.Changed || first.Changed
	o.Headers = append(first.Headers, o.Headers...)
	*first = o
}

func (r *run) tally(o Outcome, first bool) {
	p := &r.report
	for _, n := range []struct {
		is bool
		to *int
	}{{first, &p.Roots}, {o.Changed, &p.Changed}, {o.Incomplete, &p.Incomplete}, {o.Orphan && first, &p.Orphans}, {o.Err != nil, &p.Failed}} {
		if n.is {
			*n.to++
		}
	}
	p.Headers += len(o.Headers)
}

// damaged notes that the mailbox list is damaged.
func (r *run) damaged(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.ListDamage = err
}

func (r *run) problem(f finding.Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Problems = append(r.report.Problems, f)
}

func (r *run) cleared(fix HeaderFix) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Cleared = append(r.report.Cleared, fix)
}

// finish sums the report up.
func (r *run) finish(ctx context.Context) {
	p := &r.report
	slices.SortFunc(p.Outcomes, func(a, b Outcome) int { return strings.Compare(a.Root, b.Root) })
	for _, o := range p.Outcomes {
		r.tally(o, true)
	}
	p.Headers += len(p.Cleared)
	for root := range r.stale {
		if there, err := r.k.roots.Exists(ctx, root); there || err != nil { // a header may have named what is no root
			p.Stale = append(p.Stale, root)
		}
	}
	slices.Sort(p.Stale)
	p.Undo = r.undo.name
}

// lockChanges takes the lock of changes of roots, unless the caller holds it already.
func (r *run) lockChanges(ctx context.Context) (*locks.Held, error) {
	if r.changes != nil {
		return &locks.Held{}, nil
	}
	held, err := r.k.roots.LockChanges(ctx)
	if err != nil {
		return nil, fmt.Errorf("quota roots: %w", err)
	}
	return held, nil
}
