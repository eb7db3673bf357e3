package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/quota"
)

// resourceNames are the names of resources, also those of RFC 9208, which later releases of Cyrus use.
var resourceNames = map[string]quota.Resource{
	"STORAGE": quota.Storage, "MESSAGE": quota.Messages,
	"X-ANNOTATION-STORAGE": quota.Annotations, "ANNOTATION-STORAGE": quota.Annotations,
	"X-NUM-FOLDERS": quota.Folders, "MAILBOX": quota.Folders,
}

// parseLimits reads words like STORAGE=100000 or MESSAGE=none. A number of bytes is in KiB, as in SETQUOTA, or has a unit.
func parseLimits(words []string) (map[quota.Resource]int64, error) {
	limits := map[quota.Resource]int64{}
	for _, word := range words {
		name, value, ok := strings.Cut(word, "=")
		res, known := resourceNames[strings.ToUpper(name)]
		if !ok || !known {
			return nil, usageError("%q: wanted RESOURCE=LIMIT, such as STORAGE=100000; resources are STORAGE, MESSAGE, X-ANNOTATION-STORAGE and X-NUM-FOLDERS", word)
		}
		if _, twice := limits[res]; twice {
			return nil, usageError("%s is given twice", res)
		}
		limit, err := parseLimit(value, res)
		if err != nil {
			return nil, err
		}
		limits[res] = limit
	}
	return limits, nil
}

func parseLimit(value string, res quota.Resource) (int64, error) {
	if strings.EqualFold(value, "none") || value == "-1" {
		return quota.Unlimited, nil
	}
	digits, factor := value, int64(1)
	if res.Unit() > 1 && value != "" {
		if i := strings.IndexByte("KMGT", value[len(value)-1]&^0x20); i >= 0 {
			digits, factor = value[:len(value)-1], 1<<(10*i)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case err != nil || n < 0 || strings.HasPrefix(digits, "+"):
		unit := ""
		if res.Unit() > 1 {
			unit = " in KiB, or with one of the units K, M, G and T"
		}
		return 0, usageError("%s=%s: a limit is a number%s, or \"none\"", res, value, unit)
	case n > math.MaxInt64/factor:
		return 0, usageError("%s=%s: a limit has at most 63 bits", res, value)
	}
	return n * factor, nil
}

// limitText is a limit as it is set.
func limitText(limit int64) string {
	if limit < 0 {
		return "none"
	}
	return fmt.Sprint(limit)
}

// quotaChangeExits are the codes of a command that changes quota roots.
func quotaChangeExits(no string) map[int]string {
	return map[int]string{
		exitNo:     no,
		exitDamage: "a quota root, a mailbox or the list cannot be read; what it is about was left alone",
		exitFailed: "it could not be done; the root is as it was, unless the message says that this is unknown",
	}
}

// changedRootJSON is the JSON of a change of a root.
type changedRootJSON struct {
	rootJSON
	DryRun  bool `json:"dry_run"`
	Created bool `json:"created,omitempty"`
	Deleted bool `json:"deleted,omitempty"`
	// Before are the limits of before, by resource, where there were some.
	Before map[string]int64 `json:"limits_before,omitempty"`
	Undo   string           `json:"undo,omitempty"`
}

func limitsJSON(limits quota.Limits) map[string]int64 {
	m := map[string]int64{}
	for i, limit := range limits {
		if limit >= 0 {
			m[quota.Resource(i).String()] = limit
		}
	}
	return m
}

func (f *quotaFlags) setCommand(s streams) *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "set ROOT RESOURCE=LIMIT...",
		Short: "Set limits of a quota root, which is made if it is not there; writes",
		Long: "Set limits of a quota root: STORAGE and X-ANNOTATION-STORAGE in KiB, or with a unit (10G), MESSAGE, X-NUM-FOLDERS; \"none\"\n" +
			"takes a limit away, 0 allows nothing. What is not named stays. A root that is not there is made, if there is a mailbox\n" +
			"for it, and counted, together with the one that its mailboxes counted for before.",
		Example: "  mailspine quota set -C /etc/imapd.conf user.alice STORAGE=10G MESSAGE=none",
		Args:    cobra.MinimumNArgs(2),
	}
	dryFlag(c, &dry)
	return f.storeCommand(s, c, quotaChangeExits("there is no mailbox that the root would count for"), func(st *store, args []string) error {
		limits, err := parseLimits(args[1:])
		if err != nil {
			return err
		}
		root, err := st.rootName(args[0])
		if err != nil {
			return err
		}
		return st.changeRoot(dry, root, func(k *quota.Keeper) (*quota.SetReport, error) {
			if dry {
				return st.planSet(k, root, limits)
			}
			return k.Set(st.ctx, root, limits)
		})
	})
}

// planSet tells what Set would do.
func (st *store) planSet(k *quota.Keeper, root string, limits map[quota.Resource]int64) (*quota.SetReport, error) {
	rec, err := k.Roots().Get(st.ctx, root)
	r := &quota.SetReport{Before: rec.Limits}
	if errors.Is(err, quota.ErrNotFound) || errors.Is(err, quota.ErrEmpty) {
		r.Created, r.Before, err = true, quota.NoLimits(), nil
	}
	r.After = r.Before
	for res, limit := range limits {
		r.After[res] = limit
	}
	return r, err
}

// changeRoot has do change a root, prints what it did, and what is in the root then.
func (st *store) changeRoot(dry bool, root string, do func(*quota.Keeper) (*quota.SetReport, error)) (err error) {
	k, done, err := st.openKeeper(dry)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	report, err := do(k)
	st.line.Clear()
	if err != nil {
		return st.rootChangeAdvice(err)
	}
	name := st.showRoot(root)
	if !st.out.text() {
		rec, err := k.Roots().Get(st.ctx, root)
		if dry && report.Created {
			err = nil
		}
		rec.Limits = report.After
		j := changedRootJSON{newRootJSON(name, quota.Root{Record: rec, Err: err}), dry, report.Created, false, limitsJSON(report.Before), report.Undo}
		return st.out.result(j, nil)
	}
	if st.out.quiet {
		return nil
	}
	return st.out.result(nil, func(w io.Writer) { st.printSet(w, dry, name, report) })
}

func (st *store) printSet(w io.Writer, dry bool, name string, r *quota.SetReport) {
	would := map[bool]string{true: "would be "}[dry]
	if r.Created {
		fmt.Fprintf(w, "%s: %screated\n", name, would)
	}
	same := true
	for i := range r.Before {
		if r.Before[i] != r.After[i] {
			same = false
			fmt.Fprintf(w, "%s: %s limit was %s, %s %s\n", name, quota.Resource(i), limitText(r.Before[i]), map[bool]string{true: "would be", false: "now"}[dry], limitText(r.After[i]))
		}
	}
	if same && !r.Created {
		fmt.Fprintf(w, "%s: has these limits already\n", name)
	}
	if r.Counted != nil {
		for _, o := range r.Counted.Outcomes {
			printChanges(w, o)
		}
	}
	if r.Undo != "" {
		fmt.Fprintf(w, "mailspine quota undo %s takes it back\n", r.Undo)
	}
}

// rootChangeAdvice adds to an error of a change what to do about it.
func (st *store) rootChangeAdvice(err error) error {
	var at *quota.RootError
	switch {
	case errors.Is(err, quota.ErrNoMailbox):
		return &exitError{exitNo, &advisedError{err, "a quota root has the name of a mailbox: mailspine mailbox list prints all names; nothing was changed"}}
	case errors.Is(err, quota.ErrNotFound):
		return &exitError{exitNo, &advisedError{err, "mailspine quota prints the roots that there are"}}
	case errors.As(err, &at) && at.Class != nil && st.rootFix(at) != "":
		return &advisedError{err, st.rootFix(at)}
	}
	return err
}

func (f *quotaFlags) deleteCommand(s streams) *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "delete ROOT",
		Short: "Remove a quota root, whose mailboxes then count for the root above it; writes",
		Long: "Remove a quota root. Its mailboxes then count for the next root above it, which is counted anew, or for none; roots below it\n" +
			"stay. Its limits are noted, so that \"mailspine quota undo\" makes it again. Nothing but this ever removes a root.",
		Args: cobra.ExactArgs(1),
	}
	dryFlag(c, &dry)
	return f.storeCommand(s, c, quotaChangeExits("there is no such quota root"), func(st *store, args []string) error {
		root, err := st.rootName(args[0])
		if err != nil {
			return err
		}
		return st.deleteRoot(dry, root)
	})
}

func (st *store) deleteRoot(dry bool, root string) (err error) {
	k, done, err := st.openKeeper(dry)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	report := &quota.SetReport{}
	if dry {
		var rec quota.Record
		if rec, err = k.Roots().Get(st.ctx, root); errors.Is(err, quota.ErrEmpty) {
			rec, err = quota.Record{Limits: quota.NoLimits()}, nil
		}
		report.Before = rec.Limits
	} else {
		report, err = k.Delete(st.ctx, root)
	}
	st.line.Clear()
	if err != nil {
		return st.rootChangeAdvice(err)
	}
	name := st.showRoot(root)
	if st.out.text() && st.out.quiet {
		return nil
	}
	j := changedRootJSON{DryRun: dry, Deleted: true, Before: limitsJSON(report.Before), Undo: report.Undo}
	j.Root, j.RootBase64 = jsonBytes([]byte(name))
	return st.out.result(j, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %sdeleted; its limits were %s\n", name, map[bool]string{true: "would be "}[dry], limitsText(report.Before))
		if report.Counted != nil {
			for _, o := range report.Counted.Outcomes {
				printChanges(w, o)
			}
		}
		if report.Undo != "" {
			fmt.Fprintf(w, "mailspine quota undo %s takes it back\n", report.Undo)
		}
	})
}

// limitsText are limits as they are set.
func limitsText(limits quota.Limits) string {
	var words []string
	for i, limit := range limits {
		if limit >= 0 {
			words = append(words, fmt.Sprintf("%s=%d", quota.Resource(i), limit))
		}
	}
	if len(words) == 0 {
		return "none"
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}
