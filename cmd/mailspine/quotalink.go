package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/skiplist"
)

// linkName is the name of Cyrus's program. Called by it, through a link, this program behaves as that one.
const linkName = "quota"

// The exit codes of Cyrus's quota.
const (
	linkUsageCode  = 64 // EX_USAGE
	linkSoftware   = 70 // EX_SOFTWARE: whatever has no other code
	linkIO         = 74 // EX_IOERR
	linkNoDatabase = 75 // EX_TEMPFAIL: a database cannot be opened
	linkConfig     = 78 // EX_CONFIG
)

// link is one run as Cyrus's quota.
type link struct {
	st   *store
	args linkArgs
	// specs are what the arguments mean.
	specs []linkSpec
	// code is the exit code so far.
	code int
}

// linkSpec is a prefix of internal names, or a user.
type linkSpec struct {
	prefix string
	user   string
	// roots are those that it selects, unless it is the first, whose roots are printed as they come.
	roots []quota.Root
}

// runLink is the program under the name of Cyrus's quota; it returns the exit code. What it does not take over are the cases
// in which that loses something: see docs/operations.md.
func runLink(ctx context.Context, program string, args []string, s streams) int {
	a, err := parseLinkArgs(args)
	if err != nil {
		fmt.Fprintf(s.err, "%s: %v\n%s\n", program, err, linkUsage)
		return linkUsageCode
	}
	l := &link{args: a, st: &store{ctx: ctx, streams: s, out: output{w: s.out, format: "text", quiet: a.quiet}}}
	f := storeFlags{config: defaultConfig}
	if a.config != "" {
		f.config = a.config
	}
	if err := f.configure(l.st, nil); err != nil {
		fmt.Fprintln(s.err, "fatal error:", err)
		return l.failed(err)
	}
	l.readSpecs()
	if err := l.run(); err != nil {
		l.st.line.Clear()
		if ctx.Err() != nil {
			fmt.Fprintln(s.err, "interrupted")
			return exitInterrupted
		}
		fmt.Fprintln(s.err, "fatal error:", err)
		l.code = max(l.code, l.failed(err))
	}
	return l.code
}

// failed is the exit code of an error.
func (l *link) failed(err error) int {
	var config *imapdconf.Problem
	switch {
	case l.st.ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &config):
		return linkConfig
	case isClass(err):
		return linkSoftware
	}
	return linkIO
}

// isClass tells an error about what is in a file from one of the system.
func isClass(err error) bool {
	for _, class := range []error{
		quota.ErrNotFound, quota.ErrEmpty, quota.ErrDamaged, quota.ErrMisplaced, quota.ErrName, quota.ErrUnsupported, skiplist.ErrDamaged,
	} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// readSpecs reads the arguments as Cyrus does: without one it is everything, of the domain if there is one.
func (l *link) readSpecs() {
	domain := ""
	if l.args.domain != "" {
		domain = l.args.domain + domainMark
	}
	for _, arg := range l.args.specs {
		if l.args.userIDs {
			l.specs = append(l.specs, linkSpec{user: arg})
		} else {
			l.specs = append(l.specs, linkSpec{prefix: domain + l.st.linkPrefix(arg)})
		}
	}
	if len(l.specs) == 0 {
		l.specs = []linkSpec{{prefix: domain}}
	}
}

// linkPrefix is the internal name that Cyrus makes of an argument, of which all that begins with it is meant. What is not a
// name means everything.
func (st *store) linkPrefix(arg string) string {
	ns := st.admin()
	domain := ""
	if i := strings.LastIndexByte(arg, '@'); i >= 0 && ns.VirtDomains {
		if arg[i+1:] != ns.DefaultDomain {
			domain = arg[i+1:] + domainMark
		}
		arg = arg[:i]
	}
	name, err := ns.Parse(arg)
	if err != nil {
		return domain
	}
	return domain + name.String()
}

// selects tells whether the roots of a spec include one.
func (s *linkSpec) selects(ns mboxdb.Namespace, root string) bool {
	if s.user == "" {
		return strings.HasPrefix(root, s.prefix)
	}
	name := mboxdb.InternalName(root)
	_, deleted := name.Deleted(ns)
	return !deleted && name.User(ns) == s.user
}

func (l *link) run() error {
	if l.args.fix {
		if err := l.fix(); err != nil || l.args.quiet {
			return err
		}
	}
	return l.report()
}

// fix counts the roots of all specs, each once, and says what was wrong in the order of Cyrus: headers, then usage.
func (l *link) fix() (err error) {
	st := l.st
	k, done, err := st.openKeeper(l.args.dry)
	if err != nil {
		l.code = linkNoDatabase
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	req := quota.Recalculation{DryRun: l.args.dry, Jobs: runtime.GOMAXPROCS(0)}
	for _, s := range l.specs {
		if s.user != "" {
			req.Users = append(req.Users, s.user)
		} else {
			req.Prefixes = append(req.Prefixes, s.prefix)
		}
	}
	if slices.Contains(req.Prefixes, "") {
		req.Prefixes, req.Users = nil, nil
	}
	if st.line != nil {
		st.line.Rate("roots")
		req.Progress = st.line.Report
	}
	if !req.DryRun {
		if _, err := k.SettleAll(st.ctx); st.ctx.Err() != nil {
			return err
		}
	}
	var outcomes []quota.Outcome
	req.Each = func(o quota.Outcome) {
		if o.Changed || o.Orphan || o.Err != nil || len(o.Headers)+len(o.Problems) > 0 {
			outcomes = append(outcomes, o)
		}
	}
	report, err := k.Recalculate(st.ctx, req)
	st.line.Clear()
	if report != nil {
		l.say(outcomes, report)
	}
	return err
}

// say prints what a recalculation has changed, and what it could not do.
func (l *link) say(outcomes []quota.Outcome, report *quota.Report) {
	w := l.st.streams.err
	headers := slices.Clone(report.Cleared)
	for _, o := range outcomes {
		headers = append(headers, o.Headers...)
	}
	slices.SortFunc(headers, func(a, b quota.HeaderFix) int { return strings.Compare(a.Mailbox, b.Mailbox) })
	for _, h := range headers {
		printHeaderFix(w, h)
	}
	slices.SortStableFunc(outcomes, func(a, b quota.Outcome) int { return strings.Compare(a.Root, b.Root) })
	for _, o := range outcomes {
		printUsageFix(w, o)
		if o.Orphan {
			fmt.Fprintf(w, "%s: no mailbox counts for it, and it stays\n", o.Root) // Cyrus removes it here
		}
	}
	for _, o := range outcomes {
		if o.Err != nil {
			fmt.Fprintf(w, "failed reading quota record for '%s': %v\n", o.Root, o.Err)
			l.code = max(l.code, l.failed(o.Err))
		}
		l.problems(o.Problems)
	}
	l.problems(report.Problems)
	if report.ListDamage != nil {
		fmt.Fprintf(w, "failed reading the mailbox list: %v\n", report.ListDamage)
		l.code = max(l.code, linkSoftware)
	}
}

// problems prints findings; damage counts as a failure.
func (l *link) problems(found []finding.Finding) {
	for _, f := range found {
		fmt.Fprintln(l.st.streams.err, f)
		if f.Severity >= finding.Error {
			l.code = max(l.code, linkSoftware)
		}
	}
}

// complain says that a root cannot be read, in the words of Cyrus. One that is empty does not exist for it.
func (l *link) complain(root quota.Root) {
	if errors.Is(root.Err, quota.ErrEmpty) {
		return
	}
	l.st.line.Clear()
	fmt.Fprintf(l.st.streams.err, "failed reading quota record for '%s': %v\n", root.Name, root.Err)
	l.code = max(l.code, l.failed(root.Err))
}

// report prints the roots of all specs, in the order of these; one that two of them select is there twice. A root that cannot
// be read does not hide the others.
func (l *link) report() (err error) {
	roots, err := l.st.openRoots(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, roots.Close()) }()
	ns := l.st.admin()
	meant := func(root string) bool {
		return slices.ContainsFunc(l.specs, func(s linkSpec) bool { return s.selects(ns, root) })
	}
	p := l.newPrinter()
	for root, err := range roots.Some(l.st.ctx, meant) {
		if err == nil && root.Err != nil {
			l.complain(root)
			continue
		}
		if err == nil && l.specs[0].selects(ns, root.Name) {
			err = p.add(root)
		}
		if err != nil {
			return errors.Join(err, p.end())
		}
		for i := range l.specs[1:] {
			if s := &l.specs[i+1]; s.selects(ns, root.Name) {
				s.roots = append(s.roots, root)
			}
		}
	}
	for _, s := range l.specs[1:] {
		for _, root := range s.roots {
			if err := p.add(root); err != nil {
				return err
			}
		}
	}
	return p.end()
}

// linkPrinter prints roots as Cyrus does.
type linkPrinter struct {
	st   *store
	w    *bufio.Writer
	json *cyrusJSON
}

func (l *link) newPrinter() *linkPrinter {
	p := &linkPrinter{st: l.st}
	if l.args.json {
		p.json = newCyrusJSON(l.st.streams.out)
		return p
	}
	p.w = bufio.NewWriterSize(l.st.streams.out, 64<<10)
	p.w.WriteString(quotaHeader)
	return p
}

// add prints a root. That of a domain has no name to Cyrus.
func (p *linkPrinter) add(root quota.Root) error {
	name, ok := p.st.admin().External(mboxdb.InternalName(root.Name))
	if p.json != nil {
		if !ok {
			return nil
		}
		return p.json.add(name, &root.Record)
	}
	if !ok {
		name = "(null)" // what the C library makes of no name
	}
	_, err := p.w.Write(appendQuota(nil, name, &root.Record))
	return err
}

func (p *linkPrinter) end() error {
	if p.json != nil {
		return p.json.end()
	}
	return p.w.Flush()
}
