package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/quota"
)

// quotaFlags are the flags of mailspine quota.
type quotaFlags struct {
	storeFlags
	users, cyrusJSON bool
	domain           string
}

func newQuota(s streams) *cobra.Command {
	var f quotaFlags
	var count countFlags
	var fix, hook bool
	c := &cobra.Command{
		Use:   "quota [ROOT...]",
		Short: "Print the quota roots of a Cyrus store; with -f count them anew and mend them; writes",
		Long: "Print how much may be used and is used in the quota roots of a Cyrus store, all of them or those named with all below\n" +
			"them, in the lines of Cyrus's quota. A ROOT has the name of a mailbox; \"@DOMAIN\" is that of a whole domain. Nothing is\n" +
			"waited for and nothing is changed, unless -f is given.\n\n" +
			"With -f what the mailboxes use is counted first, each mailbox once, in the root that its name decides, beside a running\n" +
			"server; usage and the roots in the headers of mailboxes are put right, and what changes is said on standard error in\n" +
			"the lines of Cyrus. No root and no limit is ever removed. Every change is noted beforehand: see \"mailspine quota undo\".\n\n" +
			"Called through a link with the name quota it is Cyrus's program, by its arguments, its output and its exit codes.",
		Example: "  mailspine quota -C /etc/imapd.conf user.alice\n  mailspine quota -f -n -C /etc/imapd.conf\n  mailspine quota -f --explain -C /etc/imapd.conf user.alice",
		Args:    cobra.ArbitraryArgs,
	}
	f.add(c.PersistentFlags())
	f.selecting(c)
	p := c.Flags()
	p.BoolVarP(&f.cyrusJSON, "cyrus-json", "J", false, "print the JSON of Cyrus's quota, in which no limit and a limit of 0 look alike")
	p.BoolVarP(&fix, "fix", "f", false, "count what the mailboxes use, and mend what is wrong; with -q print no report")
	p.BoolVarP(&count.dry, "dry-run", "n", false, "with -f: say what would be mended, and write nothing")
	p.BoolVar(&count.dry, "report-only", false, "the same as --dry-run")
	count.add(c)
	p.BoolVar(&count.zero, "zero-orphans", false, "with -f: set the usage of roots that no mailbox counts for to nothing")
	p.BoolVar(&count.allowDamaged, "allow-damaged", false, "with -f: lower usage also where the mailbox list is damaged, though mailboxes may be missing")
	p.BoolVarP(&hook, "quota-sync", "Z", false, "a hook of Cyrus's tests; it does nothing here")
	p.Lookup("report-only").Hidden, p.Lookup("quota-sync").Hidden = true, true
	f.storeCommand(s, c, fixExits(), func(st *store, args []string) error {
		q, err := f.newQuotaRun(c, st, args)
		switch {
		case err != nil:
			return err
		case fix:
			return q.fix(&count)
		}
		for _, name := range []string{"deep", "explain", "jobs", "zero-orphans", "allow-damaged"} {
			if c.Flags().Changed(name) {
				return usageError("--%s goes with -f, or with mailspine quota check", name)
			}
		}
		return q.report()
	})
	c.AddCommand(f.getCommand(s), f.checkCommand(s), f.setCommand(s), f.deleteCommand(s), f.undoCommand(s), f.runsCommand(s))
	return c
}

// selecting adds the flags that choose roots.
func (f *quotaFlags) selecting(c *cobra.Command) {
	c.Flags().BoolVarP(&f.users, "userids", "u", false, "the arguments are users: the roots at and below their mailboxes")
	c.Flags().StringVarP(&f.domain, "domain", "d", "", "the roots of this domain, in which the arguments are")
}

// quotaExits are the codes of a command that reads quota roots.
func quotaExits(no string) map[int]string {
	return map[int]string{
		exitNo:     no,
		exitDamage: "a quota root cannot be read; the others are printed",
		exitFailed: "the quota roots or the configuration cannot be read",
	}
}

// fixExits are the codes of mailspine quota.
func fixExits() map[int]string {
	return map[int]string{
		exitNo:     "there is no such quota root; or with -f something is wrong that it does not mend, or with -n would mend",
		exitDamage: "a quota root, a mailbox or the mailbox list cannot be read; the other roots are printed and mended",
		exitFailed: "the quota roots cannot be read, or one could not be written: it has the usage of before",
	}
}

// quotaRun is one run of a command on quota roots.
type quotaRun struct {
	st        *store
	set       rootSet
	cyrusJSON bool
}

func (f *quotaFlags) newQuotaRun(c *cobra.Command, st *store, args []string) (*quotaRun, error) {
	if f.cyrusJSON && st.out.format == "jsonl" {
		return nil, usageError("-J is another form than --output jsonl: give one of them")
	}
	if err := notEmpty(c, "domain"); err != nil {
		return nil, err
	}
	set, err := st.selectRoots(args, f.users, f.domain)
	return &quotaRun{st, set, f.cyrusJSON}, err
}

// openRoots opens the quota roots of a store.
func (st *store) openRoots(readOnly bool) (*quota.Roots, error) {
	return quota.OpenRoots(st.ctx, st.config, quota.Options{Logger: st.opts.DB.Logger, ReadOnly: readOnly})
}

// report prints the roots that are meant. One that cannot be read does not hide the others.
func (q *quotaRun) report() (err error) {
	roots, err := q.st.openRoots(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, roots.Close()) }()
	p := q.st.newRootPrinter(q.cyrusJSON)
	if p.dirty, err = quota.NewKeeper(roots, nil, q.st.opts.Layout, quota.Options{ReadOnly: true}).Dirty(q.st.ctx); err != nil {
		return err
	}
	found := make([]bool, len(q.set.tests))
	for root, err := range roots.Some(q.st.ctx, func(root string) bool { return q.set.has(root, found) }) {
		if err == nil {
			err = p.add(root)
		}
		if err != nil {
			return p.end(err)
		}
	}
	return p.end(q.missing(roots, found))
}

// missing is an error for the arguments for which there is no root, with the root that counts for the first of them.
func (q *quotaRun) missing(roots *quota.Roots, found []bool) (err error) {
	missing := q.set.missing(found)
	for _, arg := range missing {
		err = errors.Join(err, fmt.Errorf("%s: %w", arg, quota.ErrNotFound))
	}
	if err == nil {
		return nil
	}
	return &exitError{exitNo, &advisedError{err, q.st.rootAdvice(roots, missing[0])}}
}

// rootAdvice says which root counts for what is no root itself.
func (st *store) rootAdvice(roots *quota.Roots, arg string) string {
	if name, err := st.rootName(arg); err == nil {
		if owner, err := roots.Owner(st.ctx, name); err == nil && owner != "" {
			return fmt.Sprintf("the quota root of %s is %s", shellWord(arg), shellWord(st.showRoot(owner)))
		}
	}
	if advice := nameAdvice(st.admin(), arg); advice != "" {
		return advice
	}
	return "mailspine quota prints the roots that there are"
}

// rootPrinter prints quota roots one after the other.
type rootPrinter struct {
	st    *store
	cyrus *cyrusJSON
	list  *list
	// dirty are the roots whose usage is still to be counted, doubtful those of them that were printed.
	dirty, doubtful []string
	// damage is why some were not printed.
	damage error
}

func (st *store) newRootPrinter(asCyrus bool) *rootPrinter {
	p := &rootPrinter{st: st}
	if asCyrus {
		p.cyrus = newCyrusJSON(st.out.w)
	} else {
		p.list = newList(st.out)
	}
	return p
}

func (p *rootPrinter) add(root quota.Root) error {
	if root.Err != nil {
		p.damage = errors.Join(p.damage, p.st.rootProblem(root.Err))
	}
	name := p.st.showRoot(root.Name)
	dirty := slices.Contains(p.dirty, root.Name)
	if dirty {
		p.doubtful = append(p.doubtful, name)
	}
	switch {
	case p.cyrus != nil && root.Err == nil:
		return p.cyrus.add(name, &root.Record)
	case !p.st.out.text() && p.cyrus == nil:
		j := newRootJSON(name, root)
		j.Dirty = dirty
		return p.list.add(j)
	case root.Err == nil:
		p.header()
		p.list.n++
		_, err := p.list.w.Write(appendQuota(nil, name, &root.Record))
		return err
	}
	return nil
}

// header prints the first line of the report, once.
func (p *rootPrinter) header() {
	if p.list.n == 0 {
		p.list.w.WriteString(quotaHeader)
	}
}

// end completes the output after err. Where nothing was found there is none.
func (p *rootPrinter) end(err error) error {
	if p.list != nil && p.st.out.text() && err == nil {
		p.header()
	}
	if p.damage != nil {
		err = &exitError{exitDamage, errors.Join(p.damage, err)}
	}
	for _, name := range p.doubtful {
		fmt.Fprintf(p.st.streams.err, "mailspine: %s: a change was interrupted, and may not be in the usage; mailspine quota -f %s counts it\n", name, shellWord(name))
	}
	switch {
	case p.cyrus != nil && (err == nil || p.cyrus.n > 0):
		return errors.Join(err, p.cyrus.end())
	case p.cyrus != nil:
		return err
	}
	return p.list.end(err)
}

func newRootJSON(name string, root quota.Root) (j rootJSON) {
	j.Root, j.RootBase64 = jsonBytes([]byte(name))
	if root.Err == nil {
		j.Resources = resourcesJSON(root.Record.Used, root.Record.Limits)
		return j
	}
	j.Problem = root.Err.Error()
	var at *quota.RootError
	if errors.As(root.Err, &at) {
		j.Path = at.Path
	}
	return j
}

// rootProblem adds to the error of a root that cannot be read what mends it.
func (st *store) rootProblem(err error) error {
	var at *quota.RootError
	if !errors.As(err, &at) {
		return err
	}
	if fix := st.rootFix(at); fix != "" {
		return fmt.Errorf("%w (%s)", err, fix)
	}
	return err
}

// rootFix says what mends a root that cannot be read.
func (st *store) rootFix(at *quota.RootError) string {
	root := shellWord(st.showRoot(at.Root))
	set := "mailspine quota set " + root + " STORAGE=... with the limits it should have makes it anew"
	switch {
	case errors.Is(at, quota.ErrMisplaced):
		return "move the file to where the root is looked for, or away"
	case errors.Is(at, quota.ErrEmpty):
		return set
	case errors.Is(at, quota.ErrDamaged) && strings.HasPrefix(st.config.String("quota_db"), "quotalegacy"):
		return "move the file away; " + set
	case errors.Is(at, quota.ErrDamaged):
		return "mailspine db delete " + shellWord(at.Path) + " " + shellWord(at.Root) + " takes it away; " + set
	}
	return ""
}

func (f *quotaFlags) getCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "get ROOT...",
		Short: "Print quota roots, these alone, or which root counts for a mailbox",
		Args:  cobra.MinimumNArgs(1),
	}
	return f.storeCommand(s, c, quotaExits("a ROOT is no quota root; the message names the one that counts for it"), func(st *store, args []string) (err error) {
		names, err := st.rootNames(args)
		if err != nil {
			return err
		}
		roots, err := st.openRoots(true)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, roots.Close()) }()
		var no error
		p := st.newRootPrinter(false)
		for i, name := range names {
			rec, err := roots.Get(st.ctx, name)
			if errors.Is(err, quota.ErrNotFound) {
				no = errors.Join(no, &advisedError{fmt.Errorf("%s: %w", args[i], quota.ErrNotFound), st.rootAdvice(roots, args[i])})
				continue
			}
			if err := p.add(quota.Root{Name: name, Record: rec, Err: err}); err != nil {
				return p.end(err)
			}
		}
		return p.end(no)
	})
}
