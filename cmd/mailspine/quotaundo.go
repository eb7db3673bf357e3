package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/quota"
)

func (f *quotaFlags) runsCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "runs",
		Short: "List the runs that have changed quota roots, the oldest first",
		Args:  cobra.NoArgs,
	}
	return f.storeCommand(s, c, nil, func(st *store, _ []string) (err error) {
		k, done, err := st.openKeeper(true)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		runs, err := k.UndoRuns(st.ctx)
		if err != nil {
			return err
		}
		l := newList(st.out)
		for _, r := range runs {
			if !st.out.text() {
				err = errors.Join(err, l.add(r))
				continue
			}
			fmt.Fprintf(l.w, "%s\t%s", r.Name, plural(r.Changes, "change"))
			if r.Of != "" {
				fmt.Fprintf(l.w, "\tundo of %s", r.Of)
			}
			if r.UndoneBy != "" {
				fmt.Fprintf(l.w, "\tundone by %s", r.UndoneBy)
			}
			fmt.Fprintln(l.w)
		}
		return l.end(err)
	})
}

// undoneJSON is the JSON of undo.
type undoneJSON struct {
	DryRun bool   `json:"dry_run"`
	Of     string `json:"of"`
	// Undo is the name of this run itself.
	Undo    string             `json:"undo,omitempty"`
	Changes []undoneChangeJSON `json:"changes"`
}

// undoneChangeJSON is one change that was taken back, or not for the reason given.
type undoneChangeJSON struct {
	Kind    string `json:"kind"`
	Root    string `json:"root,omitempty"`
	Mailbox string `json:"mailbox,omitempty"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	Changed bool   `json:"changed"`
	Reason  string `json:"reason,omitempty"`
	// Resources are usage and limits afterwards.
	Resources []resourceJSON `json:"resources,omitempty"`
}

func (f *quotaFlags) undoCommand(s streams) *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "undo [RUN]",
		Short: "Take back what a run has changed in quota roots, the last one if none is named; writes",
		Long: "Take back what a run of \"mailspine quota -f\", \"set\" or \"delete\" has changed, of which \"mailspine quota runs\" has the names. What a\n" +
			"run has added to a usage is taken from what is used now, so that mail which came since stays counted. It is a run itself\n" +
			"and may be undone; without a name the last run is taken back that is no undo and was not undone.",
		Args: cobra.MaximumNArgs(1),
	}
	dryFlag(c, &dry)
	return f.storeCommand(s, c, quotaChangeExits("there is no such run, it was undone already, or some changes cannot be taken back"), func(st *store, args []string) (err error) {
		k, done, err := st.openKeeper(dry)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		run, err := st.runToUndo(k, args)
		if err != nil {
			return err
		}
		report, err := k.Undo(st.ctx, run, quota.UndoOptions{DryRun: dry})
		st.line.Clear()
		if errors.Is(err, quota.ErrNoRun) || errors.Is(err, quota.ErrUndone) {
			return &exitError{exitNo, &advisedError{err, "mailspine quota runs lists them"}}
		}
		return st.printUndo(dry, run, report, err)
	})
}

// runToUndo is the run that is named, or the last one.
func (st *store) runToUndo(k *quota.Keeper, args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	runs, err := k.UndoRuns(st.ctx)
	if err != nil {
		return "", err
	}
	for _, r := range slices.Backward(runs) {
		if r.Of == "" && r.UndoneBy == "" {
			return r.Name, nil
		}
	}
	return "", &exitError{exitNo, errors.New("there is no run to undo")}
}

// printUndo prints what was taken back, and what was not.
func (st *store) printUndo(dry bool, run string, r *quota.UndoReport, err error) error {
	j := undoneJSON{DryRun: dry, Of: run, Undo: r.Run, Changes: []undoneChangeJSON{}}
	kept, changed := false, false
	for _, c := range r.Changes {
		j.Changes = append(j.Changes, st.newUndoneJSON(c))
		kept, changed = kept || c.Reason != "", changed || c.Changed
		if c.Err != nil {
			err = errors.Join(err, fmt.Errorf("%s%s: %w", c.Root, c.Mailbox, c.Err))
		}
	}
	if err == nil && kept {
		err = &exitError{exitNo, nil}
	}
	if st.out.text() && st.out.quiet && err == nil {
		return nil
	}
	return errors.Join(st.out.result(j, func(w io.Writer) {
		for _, c := range r.Changes {
			printUndone(w, c)
		}
		if r.Run != "" && changed {
			fmt.Fprintf(w, "mailspine quota undo %s makes these changes again\n", r.Run)
		}
	}), err)
}

// printUndone prints a change that was taken back in the lines in which changes are said.
func printUndone(w io.Writer, c quota.Undone) {
	what := c.Root
	if c.Mailbox != "" {
		what = c.Mailbox
	}
	if c.Reason != "" {
		fmt.Fprintf(w, "%s: %s stays: %s\n", what, c.Kind, c.Reason)
	}
	if !c.Changed {
		return
	}
	switch {
	case c.Mailbox != "":
		printHeaderFix(w, quota.HeaderFix{Mailbox: c.Mailbox, From: c.From, To: c.To})
	case c.Kind == "created":
		fmt.Fprintf(w, "%s: deleted; its limits were %s\n", c.Root, limitsText(c.LimitsBefore))
	case c.Kind == "deleted":
		fmt.Fprintf(w, "%s: there again; its limits are %s\n", c.Root, limitsText(c.LimitsAfter))
	default:
		printUsageFix(w, quota.Outcome{Root: c.Root, Before: c.Before, After: c.After, Changed: true})
	}
	if c.Kind != "limits" {
		return
	}
	for i := range c.LimitsBefore {
		if c.LimitsBefore[i] != c.LimitsAfter[i] {
			fmt.Fprintf(w, "%s: %s limit was %s, now %s\n", c.Root, quota.Resource(i), limitText(c.LimitsBefore[i]), limitText(c.LimitsAfter[i]))
		}
	}
}

func (st *store) newUndoneJSON(c quota.Undone) undoneChangeJSON {
	j := undoneChangeJSON{Kind: c.Kind, Changed: c.Changed, Reason: c.Reason}
	if c.Mailbox != "" {
		h := st.headerFixesJSON([]quota.HeaderFix{{Mailbox: c.Mailbox, From: c.From, To: c.To}})[0]
		j.Mailbox, j.From, j.To = h.Mailbox, h.From, h.To
		return j
	}
	j.Root = st.showRoot(c.Root)
	if c.Kind == "usage" {
		j.Resources = resourcesJSON(c.After, quota.NoLimits())
		for i := range j.Resources {
			j.Resources[i].Was = &c.Before[i]
		}
	}
	return j
}
