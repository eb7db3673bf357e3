package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mailspine/mailspine/internal/finding"
)

// checked is the JSON of every check.
type checked struct {
	Path string `json:"path"`
	// Mailboxes are the names to which the check was limited.
	Mailboxes []string          `json:"mailboxes,omitempty"`
	Damage    int               `json:"damage"`
	Errors    int               `json:"errors"`
	Warnings  int               `json:"warnings"`
	Infos     int               `json:"infos"`
	Findings  []finding.Finding `json:"findings"`
}

// printFindings prints what a check of path found, and returns the exit code for it as an error.
// With names the check was of these mailboxes alone.
func printFindings(out output, path string, found []finding.Finding, names ...string) error {
	c := checked{Path: path, Mailboxes: names, Findings: append([]finding.Finding{}, found...)}
	code := exitOK
	for _, f := range found {
		switch f.Severity {
		case finding.Damage:
			c.Damage++
			code = exitDamage
		case finding.Error:
			c.Errors++
			code = max(code, exitNo)
		case finding.Warning:
			c.Warnings++
			code = max(code, exitNo)
		default:
			c.Infos++
		}
	}
	var err error
	switch out.format {
	case "jsonl":
		l := newList(out)
		for _, f := range found {
			err = errors.Join(err, l.add(f))
		}
		err = l.end(err)
	case "json":
		err = printJSON(out.w, c, false)
	default:
		if code != exitOK || !out.quiet {
			err = out.result(nil, c.print)
		}
	}
	if err == nil && code != exitOK {
		return &exitError{code, nil}
	}
	return err
}

func (c checked) print(w io.Writer) {
	printAll(w, c.Findings)
	what := c.Path
	if len(c.Mailboxes) > 0 {
		what += ": " + strings.Join(c.Mailboxes, ", ")
	}
	switch {
	case c.Damage > 0:
		fmt.Fprintf(w, "%s: DAMAGED: %s, %s\n", what, plural(c.Damage, "damaged place"), plural(c.Errors+c.Warnings, "warning"))
	case c.Errors > 0 || c.Warnings > 0 && c.Findings[0].Line > 0: // a text file: nothing is ever committed to it
		fmt.Fprintf(w, "%s: %s, %s\n", what, plural(c.Errors, "error"), plural(c.Warnings, "warning"))
	case slices.ContainsFunc(c.Findings, func(f finding.Finding) bool { return f.Severity == finding.Warning && f.Fix == "" }):
		fmt.Fprintf(w, "%s: %s\n", what, plural(c.Warnings, "warning")) // what nothing mends may hide a loss
	case c.Warnings > 0:
		fmt.Fprintf(w, "%s: %s; nothing that was committed is lost\n", what, plural(c.Warnings, "warning"))
	default:
		fmt.Fprintf(w, "%s: fine\n", what)
	}
}

// printAll prints findings, and each command that mends once, after the last finding that it mends. In a text file what
// mends is of this place alone, and stands beside it.
func printAll(w io.Writer, found []finding.Finding) {
	var fixes []string
	for _, f := range found {
		switch {
		case f.Line > 0:
			fmt.Fprintf(w, "%-8s %s: %s:%d:%d: %s", f.Severity, f.Code, f.Path, f.Line, f.Column, f.Detail)
			if f.Fix != "" {
				fmt.Fprintf(w, " (%s)", f.Fix)
			}
			fmt.Fprintln(w)
			continue
		case f.Offset >= 0:
			fmt.Fprintf(w, "%-8s %s: %s at %#x: %s\n", f.Severity, f.Code, f.Path, f.Offset, f.Detail)
		default:
			fmt.Fprintf(w, "%-8s %s: %s: %s\n", f.Severity, f.Code, f.Path, f.Detail)
		}
		if f.Fix != "" && !slices.Contains(fixes, f.Fix) {
			fixes = append(fixes, f.Fix)
		}
	}
	for _, fix := range fixes {
		fmt.Fprintf(w, "%-8s %s\n", "mend", fix)
	}
}
