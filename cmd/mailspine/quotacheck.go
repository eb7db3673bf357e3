package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
)

func (f *quotaFlags) checkCommand(s streams) *cobra.Command {
	count := countFlags{dry: true}
	c := &cobra.Command{
		Use:   "check [ROOT...]",
		Short: "Compare quota roots with what their mailboxes use, and change nothing",
		Long: "Compare the usage in quota roots, all of them or those named with all below them, with what their mailboxes use, and the\n" +
			"roots in the headers of mailboxes with their names. Each difference is a finding with what mends it. Nothing is changed.",
		Args: cobra.ArbitraryArgs,
	}
	f.selecting(c)
	count.add(c)
	return f.storeCommand(s, c, map[int]string{
		exitOK:     "all is right",
		exitNo:     "something is wrong, and can be mended; or a ROOT is not there",
		exitDamage: "a quota root, a mailbox or the mailbox list cannot be read",
		exitFailed: "the check could not be made",
	}, func(st *store, args []string) error {
		q, err := f.newQuotaRun(c, st, args)
		if err != nil {
			return err
		}
		return q.check(&count, f.mend(c, args))
	})
}

// mend is the command that mends what a check of these arguments finds.
func (f *quotaFlags) mend(c *cobra.Command, args []string) string {
	words := []string{"mailspine quota -f"}
	if f.users {
		words[0] += "u"
	}
	if c.Flags().Changed("config") {
		words = append(words, "-C", shellWord(f.config))
	}
	if f.domain != "" {
		words = append(words, "-d", shellWord(f.domain))
	}
	for _, arg := range args {
		words = append(words, shellWord(arg))
	}
	return strings.Join(words, " ")
}

// check prints what a recalculation would mend, and what it could not, as findings.
func (q *quotaRun) check(f *countFlags, mend string) (err error) {
	st := q.st
	k, done, err := st.openKeeper(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	h := &checking{st: st, mend: mend}
	seen := make([]bool, len(q.set.tests))
	req, err := q.request(st.ctx, k.Roots(), f)
	if err != nil {
		return err
	}
	var explained []explanation
	if len(q.set.tests) == 0 || len(req.Roots) > 0 { // no root is not all roots
		req.Each = func(o quota.Outcome) {
			q.set.has(o.Root, seen)
			h.outcome(o)
			if f.explain && st.out.text() {
				explained = append(explained, explanation{o.Root, st.explainRoot(o)})
			}
		}
		report, err := k.Recalculate(st.ctx, req)
		st.line.Clear()
		if err != nil {
			return st.fixAdvice(err)
		}
		h.rest(report)
	}
	if err := h.left(k, q, len(q.set.tests) == 0); err != nil {
		return err
	}
	slices.SortFunc(explained, func(a, b explanation) int { return strings.Compare(a.root, b.root) })
	for _, e := range explained {
		fmt.Fprint(st.out.w, e.text)
	}
	return h.print(q.missing(k.Roots(), seen), q.set.args)
}

// print prints the findings; missing is an error for arguments that are no roots.
func (h *checking) print(missing error, args []string) error {
	if missing != nil && len(h.found) == 0 {
		return missing
	}
	slices.SortStableFunc(h.found, func(a, b finding.Finding) int { return strings.Compare(a.Path, b.Path) })
	err := printFindings(h.st.out, "quota roots", h.found, args...)
	if missing == nil {
		return err
	}
	return &exitError{max(exitCode(h.st.ctx, err), exitNo), missing}
}

// checking collects the findings of a check.
type checking struct {
	st    *store
	mend  string
	found []finding.Finding
}

func (h *checking) add(code string, s finding.Severity, path, fix, format string, args ...any) {
	h.found = append(h.found, finding.Finding{Code: code, Severity: s, Path: path, Offset: -1, Detail: fmt.Sprintf(format, args...), Fix: fix})
}

// outcome takes what became of a root.
func (h *checking) outcome(o quota.Outcome) {
	name := h.st.showRoot(o.Root)
	h.found = append(h.found, o.Problems...)
	if o.Changed {
		var wrong []string
		for i := range o.Before {
			if o.Before[i] != o.After[i] {
				wrong = append(wrong, fmt.Sprintf("%s is %d, and should be %d", quota.Resource(i), o.Before[i], o.After[i]))
			}
		}
		h.add("usage-wrong", finding.Error, name, h.mend, "%s", strings.Join(wrong, "; "))
	}
	for _, fix := range o.Headers {
		h.header(fix)
	}
	switch {
	case o.Err != nil:
		h.failed(o)
	case o.Incomplete:
		h.found = append(h.found, h.st.incomplete(o))
	case o.Orphan:
		h.found = append(h.found, h.st.orphan(o.Root))
	}
	if o.Scan {
		h.add("scan-left", finding.Warning, name, h.mend, "a run of Cyrus's quota has marked how far it has come; it is under way, or was cut off")
	}
}

func (h *checking) header(fix quota.HeaderFix) {
	names, owner := "no quota root", "no quota root counts"
	if fix.From != "" {
		names = h.st.showRoot(fix.From)
	}
	if fix.To != "" {
		owner = h.st.showRoot(fix.To) + " counts"
	}
	h.add("header-root", finding.Error, h.st.show(mboxdb.InternalName(fix.Mailbox)), h.mend, "its header names %s, and %s for it", names, owner)
}

// failed is a finding for a root that could not be counted, or is none.
func (h *checking) failed(o quota.Outcome) {
	var at *quota.RootError
	if !errors.As(o.Err, &at) || at.Class == nil || errors.Is(o.Err, quota.ErrNotFound) {
		h.add("root-failed", finding.Damage, h.st.showRoot(o.Root), "", "%v", o.Err)
		return
	}
	h.found = append(h.found, h.st.unreadable(o, at))
}

// unreadable is a finding for a root whose record cannot be read, with what its mailboxes use.
func (st *store) unreadable(o quota.Outcome, at *quota.RootError) finding.Finding {
	f := finding.Finding{Code: "record-unreadable", Severity: finding.Damage, Path: at.Path, Offset: at.Offset, Detail: st.showRoot(o.Root) + ": " + at.Class.Error(), Fix: st.rootFix(at)}
	if at.Err != nil {
		f.Detail = st.showRoot(o.Root) + ": " + at.Err.Error()
	}
	if uses := usesOf(o); uses != "" {
		f.Detail += "; " + uses
	}
	return f
}

// incomplete is a finding for a root of which a mailbox could not be counted, with what the others use.
func (st *store) incomplete(o quota.Outcome) finding.Finding {
	f := finding.Finding{Code: "root-incomplete", Severity: finding.Damage, Path: st.showRoot(o.Root), Offset: -1,
		Detail: "mailboxes that count for it cannot be read: its usage cannot be told, and is not changed"}
	if o.Count > 0 {
		f.Detail += fmt.Sprintf("; %s that can be read: %d bytes in %s", plural(o.Count, "mailbox"), o.After[quota.Storage], plural(o.After[quota.Messages], "message"))
	}
	return f
}

// orphan is a finding for a root that no mailbox counts for.
func (st *store) orphan(root string) finding.Finding {
	return finding.Finding{Code: "root-orphan", Severity: finding.Info, Path: st.showRoot(root), Offset: -1, Detail: "no mailbox counts for it"}
}

// usesOf says what the mailboxes of a root use; it is empty if there are none, or none was counted.
func usesOf(o quota.Outcome) string {
	if o.Count == 0 {
		return ""
	}
	use := "use"
	if o.Count == 1 {
		use = "uses"
	}
	return fmt.Sprintf("its %s %s %d bytes in %s", plural(o.Count, "mailbox"), use, o.After[quota.Storage], plural(o.After[quota.Messages], "message"))
}

// rest takes what is of no root.
func (h *checking) rest(r *quota.Report) {
	for _, fix := range r.Cleared {
		h.header(fix)
	}
	h.found = append(h.found, r.Problems...)
	if r.ListDamage != nil {
		advice := "mailspine db check " + shellWord(h.st.path) + " shows what is wrong with it"
		if errors.Is(r.ListDamage, quota.ErrListEmpty) {
			advice = emptyListAdvice
		}
		h.add("list-damaged", finding.Damage, h.st.path, advice,
			"%v; mailboxes may be missing, so no usage is lowered", r.ListDamage)
	}
}

// left takes what was left behind: marks of changes that were interrupted, and files.
func (h *checking) left(k *quota.Keeper, q *quotaRun, all bool) error {
	dirty, err := k.Dirty(h.st.ctx)
	if err != nil {
		return err
	}
	for _, root := range dirty {
		if q.set.has(root, nil) {
			h.add("root-dirty", finding.Warning, h.st.showRoot(root), "mailspine recover, or the next change, counts it", "a change of a mailbox was interrupted, and may not be in its usage")
		}
	}
	files, err := k.Roots().LeftOvers(h.st.ctx)
	if err != nil {
		return err
	}
	for _, file := range files {
		if q.set.has(file.Root, nil) {
			h.add("left-over", finding.Warning, file.Path, "the next change of the root, or remove it while the server is stopped",
				"a change of %s was cut off; its value is that of before, and Cyrus takes the file for a root", h.st.showRoot(file.Root))
		}
	}
	return nil
}
