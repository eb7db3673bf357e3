package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
)

// countFlags say how quota roots are counted.
type countFlags struct {
	dry, deep, explain, zero, allowDamaged bool
	jobs                                   int
}

func (f *countFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&f.deep, "deep", false, "count the records of each mailbox instead of believing the header of its index")
	c.Flags().BoolVar(&f.explain, "explain", false, "print for each root which mailboxes count for it, and how much")
	c.Flags().IntVar(&f.jobs, "jobs", runtime.GOMAXPROCS(0), "how many roots are worked on at once")
}

// request is what the flags ask for, of the roots that are meant.
func (q *quotaRun) request(ctx context.Context, roots *quota.Roots, f *countFlags) (req quota.Recalculation, err error) {
	if f.jobs < 1 {
		return req, usageError("--jobs is how many roots are worked on at once, not %d", f.jobs)
	}
	req = quota.Recalculation{DryRun: f.dry, Deep: f.deep, Explain: f.explain, ZeroOrphans: f.zero, AllowDamaged: f.allowDamaged, Jobs: f.jobs}
	if q.st.line != nil {
		q.st.line.Rate("roots")
		req.Progress = q.st.line.Report
	}
	if len(q.set.tests) == 0 {
		return req, nil
	}
	for _, err := range roots.Some(ctx, func(root string) bool {
		if q.set.has(root, nil) {
			req.Roots = append(req.Roots, root)
		}
		return false // their names are all that is wanted here
	}) {
		return req, err
	}
	return req, nil
}

// openKeeper opens what it takes to count quota roots. The list is only read, whatever state it is in.
func (st *store) openKeeper(readOnly bool) (k *quota.Keeper, done func() error, err error) {
	roots, err := st.openRoots(readOnly)
	if err != nil {
		return nil, nil, err
	}
	opts := st.opts
	opts.DB.ReadOnly, opts.DB.AllowDamaged = true, true
	list, err := mboxdb.Open(st.ctx, st.path, opts)
	if err != nil {
		return nil, nil, errors.Join(err, roots.Close())
	}
	st.line.Clear()
	k = quota.NewKeeper(roots, list, st.opts.Layout, quota.Options{Logger: st.opts.DB.Logger, ReadOnly: readOnly})
	return k, func() error { return errors.Join(list.Close(), roots.Close()) }, nil
}

// fix counts the roots that are meant, mends what is wrong, and says what it was in the lines of Cyrus, on standard error.
func (q *quotaRun) fix(f *countFlags) (err error) {
	k, done, err := q.st.openKeeper(f.dry)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	c, err := q.count(k, f)
	if err != nil {
		return q.st.fixAdvice(err)
	}
	return c.end()
}

// counting prints what is found out about roots as they are done.
type counting struct {
	q     *quotaRun
	flags *countFlags
	out   recalculatedJSON
	// lines is where what changes is said as it is done.
	lines io.Writer
	// explained is what --explain prints before the report, in the order of the roots.
	explained []explanation
	found     []bool
	left      []finding.Finding
	failed    error
	missing   error
	report    *quota.Report
}

// explanation is how the usage of a root comes about.
type explanation struct{ root, text string }

// count does the work. Of roots that are dirty the marks go, as they are counted.
func (q *quotaRun) count(k *quota.Keeper, f *countFlags) (*counting, error) {
	st := q.st
	c := &counting{q: q, flags: f, found: make([]bool, len(q.set.tests)), lines: st.streams.err}
	c.out = recalculatedJSON{DryRun: f.dry, Roots: []countedJSON{}}
	req, err := q.request(st.ctx, k.Roots(), f)
	if err != nil {
		return nil, err
	}
	if len(q.set.tests) > 0 && len(req.Roots) == 0 { // no root is not all roots
		return c, q.missing(k.Roots(), c.found)
	}
	if !f.dry {
		if _, err := k.SettleAll(st.ctx); err != nil && st.ctx.Err() != nil {
			return nil, err
		}
	}
	req.Each = c.each
	c.report, err = k.Recalculate(st.ctx, req)
	st.line.Clear()
	if err != nil {
		return nil, err
	}
	c.missing = q.missing(k.Roots(), c.found)
	return c, nil
}

// each prints what became of a root.
func (c *counting) each(o quota.Outcome) {
	st := c.q.st
	st.line.Clear()
	c.q.set.has(o.Root, c.found)
	printChanges(c.lines, o)
	if c.flags.explain && st.out.text() && !c.q.cyrusJSON {
		c.explained = append(c.explained, explanation{o.Root, st.explainRoot(o)})
	}
	if !st.out.text() {
		c.out.Roots = append(c.out.Roots, st.newCountedJSON(o))
	}
	c.left = append(c.left, o.Problems...)
	if o.Orphan && !c.flags.zero && !st.out.quiet {
		c.left = append(c.left, st.orphan(o.Root)) // it may be the list that has lost the mailboxes
	}
	if o.Incomplete && o.Err == nil {
		c.left = append(c.left, st.incomplete(o))
	}
	if o.Err != nil {
		c.failed = errors.Join(c.failed, st.countedProblem(o))
	}
}

// countedProblem is the error of a root that could not be mended, with what its mailboxes use if it is the record that cannot be
// read: who makes it anew wants to compare.
func (st *store) countedProblem(o quota.Outcome) error {
	err, uses := st.rootProblem(o.Err), usesOf(o)
	if uses == "" || !errors.Is(o.Err, quota.ErrDamaged) && !errors.Is(o.Err, quota.ErrEmpty) {
		return err
	}
	return fmt.Errorf("%w; %s", err, uses)
}

// printChanges prints what is changed in the lines of Cyrus's program: internal names, bytes and numbers.
func printChanges(w io.Writer, o quota.Outcome) {
	for _, h := range o.Headers {
		printHeaderFix(w, h)
	}
	printUsageFix(w, o)
}

func printUsageFix(w io.Writer, o quota.Outcome) {
	if !o.Changed {
		return
	}
	for i := range o.Before {
		if o.Before[i] != o.After[i] {
			fmt.Fprintf(w, "%s: %s usage was %d, now %d\n", o.Root, quota.Resource(i), o.Before[i], o.After[i])
		}
	}
}

func printHeaderFix(w io.Writer, h quota.HeaderFix) {
	none := func(root string) string {
		if root == "" {
			return "(none)"
		}
		return root
	}
	fmt.Fprintf(w, "%s: quota root %s --> %s\n", h.Mailbox, none(h.From), none(h.To))
}

// explainRoot prints how the usage of a root comes about.
func (st *store) explainRoot(o quota.Outcome) string {
	w := new(strings.Builder)
	name := st.showRoot(o.Root)
	for i := range o.After {
		was := ""
		if o.Before[i] != o.After[i] {
			was = fmt.Sprintf(", was %d", o.Before[i])
		}
		fmt.Fprintf(w, "%s: %s %d%s\n", name, quota.Resource(i), o.After[i], was)
	}
	from := map[string]string{}
	for _, h := range o.Headers {
		from[h.Mailbox] = ": its header named no quota root"
		if h.From != "" {
			from[h.Mailbox] = ": its header named " + st.showRoot(h.From)
		}
	}
	for _, m := range o.Members {
		fmt.Fprintf(w, "  %d bytes, %s, %d bytes of annotations: %s%s\n", m.Usage[quota.Storage], plural(m.Usage[quota.Messages], "message"),
			m.Usage[quota.Annotations], st.show(mboxdb.InternalName(m.Mailbox)), from[m.Mailbox])
		delete(from, m.Mailbox)
	}
	for _, h := range o.Headers {
		if from[h.Mailbox] != "" { // it counts for another root
			fmt.Fprintf(w, "  does not count: %s%s\n", st.show(mboxdb.InternalName(h.Mailbox)), from[h.Mailbox])
		}
	}
	switch {
	case o.Incomplete:
		fmt.Fprintln(w, "  and what cannot be read: the usage stays as it is")
	case o.Orphan:
		fmt.Fprintln(w, "  no mailbox counts for it: the usage stays as it is")
	}
	return w.String()
}

// end prints what is left, and the report of the roots.
func (c *counting) end() error {
	st, r := c.q.st, c.report
	if r == nil {
		return c.missing
	}
	for _, h := range r.Cleared {
		printHeaderFix(c.lines, h)
	}
	c.left = append(c.left, r.Problems...)
	for _, root := range r.Stale {
		c.left = append(c.left, st.staleFinding(root))
	}
	printAll(c.lines, c.left)
	if r.ListDamage != nil {
		c.failed = errors.Join(c.failed, st.hint(r.ListDamage))
	}
	slices.SortFunc(c.explained, func(a, b explanation) int { return strings.Compare(a.root, b.root) })
	for _, e := range c.explained {
		fmt.Fprint(st.out.w, e.text)
	}
	err := c.q.print(c)
	if !st.out.quiet {
		c.summary()
	}
	return errors.Join(c.code(err))
}

// print prints the result on standard output: in JSON what was done, else the report, without which -q does.
func (q *quotaRun) print(c *counting) error {
	switch st := q.st; {
	case q.cyrusJSON || st.out.text():
		if st.out.quiet {
			return nil
		}
		return q.report()
	case st.out.format == "jsonl":
		l := newList(st.out)
		var err error
		for _, root := range c.out.Roots {
			err = errors.Join(err, l.add(root))
		}
		return l.end(err)
	default:
		c.out.fill(st, c)
		return printJSON(st.out.w, c.out, false)
	}
}

// summary is the last line on standard error, if there was anything to mend.
func (c *counting) summary() {
	r := c.report
	if r.Changed+r.Headers == 0 {
		return
	}
	did, undo := "all is mended", ""
	if c.flags.dry {
		did = "all would be mended"
	}
	if r.Undo != "" {
		undo = "; mailspine quota undo " + r.Undo + " takes it back"
	}
	fmt.Fprintf(c.lines, "mailspine: %s counted, %s of them wrong, and %s: %s%s\n", plural(r.Roots, "quota root"), count(r.Changed), plural(r.Headers, "header"), did, undo)
}

// code adds to the error of the report what was found: what could not be done goes before damage, and that before differences.
func (c *counting) code(err error) error {
	worst := exitOK
	for _, f := range c.left {
		switch f.Severity {
		case finding.Damage:
			worst = max(worst, exitDamage)
		case finding.Error, finding.Warning:
			worst = max(worst, exitNo)
		}
	}
	if c.flags.dry && c.report.Changed+c.report.Headers > 0 || c.missing != nil {
		worst = max(worst, exitNo)
	}
	if c.failed != nil {
		worst = max(worst, exitCode(c.q.st.ctx, c.failed))
	}
	if err != nil {
		worst = max(worst, exitCode(c.q.st.ctx, err))
	}
	if worst == exitOK {
		return nil
	}
	return &exitError{worst, c.q.st.fixAdvice(errors.Join(c.failed, c.missing, err))}
}

// staleFinding is about a root that was not to be counted, and is wrong now.
func (st *store) staleFinding(root string) finding.Finding {
	name := st.showRoot(root)
	return finding.Finding{Code: "root-stale", Severity: finding.Warning, Path: name, Offset: -1,
		Detail: "a header that named this root, or does now, was mended; it was not to be counted", Fix: "mailspine quota -f " + shellWord(name)}
}

// fixAdvice adds to the error of a recalculation what to do about it.
func (st *store) fixAdvice(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, quota.ErrTooManyFiles):
		return &advisedError{err, "raise the number of open files (ulimit -n) and run it again"}
	case errors.Is(err, quota.ErrNoSpace):
		return &advisedError{err, "the usage of these roots is as it was; make room and run it again"}
	}
	return err
}

// recalculatedJSON is the JSON of mailspine quota -f.
type recalculatedJSON struct {
	DryRun bool          `json:"dry_run"`
	Roots  []countedJSON `json:"roots"`
	// Headers are those of mailboxes that count for no root.
	Headers []headerFixJSON `json:"headers"`
	// Findings are of no root.
	Findings []finding.Finding `json:"findings"`
	Undo     string            `json:"undo,omitempty"`
}

func (j *recalculatedJSON) fill(st *store, c *counting) {
	j.Headers, j.Findings, j.Undo = st.headerFixesJSON(c.report.Cleared), []finding.Finding{}, c.report.Undo
	j.Findings = append(j.Findings, c.report.Problems...)
	for _, root := range c.report.Stale {
		j.Findings = append(j.Findings, st.staleFinding(root))
	}
	slices.SortFunc(j.Roots, func(a, b countedJSON) int { return strings.Compare(a.internal, b.internal) })
}

// countedJSON is a root that was counted.
type countedJSON struct {
	rootJSON
	Changed bool `json:"changed"`
	// Mailboxes is how many count for the root, Members are these.
	Mailboxes  int               `json:"mailboxes"`
	Members    []memberJSON      `json:"members,omitempty"`
	Headers    []headerFixJSON   `json:"headers,omitempty"`
	Orphan     bool              `json:"orphan,omitempty"`
	Incomplete bool              `json:"incomplete,omitempty"`
	Findings   []finding.Finding `json:"findings,omitempty"`

	internal string
}

type memberJSON struct {
	Mailbox     string `json:"mailbox"`
	UniqueID    string `json:"unique_id"`
	Bytes       int64  `json:"bytes"`
	Messages    int64  `json:"messages"`
	Annotations int64  `json:"annotation_bytes"`
}

type headerFixJSON struct {
	Mailbox string `json:"mailbox"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
}

func (st *store) newCountedJSON(o quota.Outcome) countedJSON {
	root := quota.Root{Name: o.Root, Record: quota.Record{Used: o.After, Limits: o.Limits}, Err: o.Err}
	c := countedJSON{rootJSON: newRootJSON(st.showRoot(o.Root), root), Changed: o.Changed, Mailboxes: o.Count, Headers: st.headerFixesJSON(o.Headers),
		Orphan: o.Orphan, Incomplete: o.Incomplete, Findings: st.outcomeFindings(o), internal: o.Root}
	for i := range c.Resources {
		c.Resources[i].Was = &o.Before[i]
	}
	for _, m := range o.Members {
		c.Members = append(c.Members, memberJSON{st.show(mboxdb.InternalName(m.Mailbox)), m.UniqueID, m.Usage[quota.Storage], m.Usage[quota.Messages], m.Usage[quota.Annotations]})
	}
	return c
}

// outcomeFindings is all that is to be said of a root.
func (st *store) outcomeFindings(o quota.Outcome) []finding.Finding {
	found := slices.Clone(o.Problems)
	var at *quota.RootError
	switch {
	case errors.As(o.Err, &at) && at.Class != nil && !errors.Is(o.Err, quota.ErrNotFound):
		found = append(found, st.unreadable(o, at))
	case o.Incomplete && o.Err == nil:
		found = append(found, st.incomplete(o))
	}
	return found
}

func (st *store) headerFixesJSON(fixes []quota.HeaderFix) []headerFixJSON {
	list := []headerFixJSON{}
	for _, h := range fixes {
		j := headerFixJSON{Mailbox: st.show(mboxdb.InternalName(h.Mailbox))}
		if h.From != "" {
			j.From = st.showRoot(h.From)
		}
		if h.To != "" {
			j.To = st.showRoot(h.To)
		}
		list = append(list, j)
	}
	return list
}
