package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

func (f *storeFlags) dumpCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "dump [NAME...]",
		Short: "Print the list, as ctl_mboxlist -d does",
		Long: "Print the whole list as \"ctl_mboxlist -d\" of Cyrus 3.6 does, byte for byte. That form leaves out former names, reverse\n" +
			"ACL keys and whatever is not understood. With --json everything is printed, one object a line: the key and the value\n" +
			"of each record (\"key_bytes\" and \"value_bytes\", in base64, where they are not UTF-8), and what it says. mailspine\n" +
			"mailbox undump reads both. With NAMEs only what belongs to these mailboxes is printed, not what lies below them.",
		Args: cobra.ArbitraryArgs,
	}
	return f.storeCommand(s, c, storeExits("a NAME is not in the list; the others were printed"), func(st *store, args []string) error {
		names, err := st.names(args)
		if err != nil {
			return err
		}
		err = st.view(func(_ *mboxdb.List, v *mboxdb.View) error {
			if !st.out.text() {
				return v.Dump(st.out.w, names...)
			}
			unreadable, err := v.DumpCyrus(st.out.w, names...)
			if (err == nil || errors.Is(err, mboxdb.ErrNotFound)) && unreadable > 0 {
				return &exitError{exitDamage, errors.Join(fmt.Errorf("%s cannot be read and left out; --json has them", plural(unreadable, "record")), err)}
			}
			return err
		})
		return st.advise(err, args)
	})
}

// undumped is the JSON of mailbox undump.
type undumped struct {
	Path    string `json:"path"`
	DryRun  bool   `json:"dry_run"`
	Records int    `json:"records"`
}

func (f *storeFlags) undumpCommand(s streams) *cobra.Command {
	var out string
	var dry bool
	c := &cobra.Command{
		Use:   "undump [--out FILE]",
		Short: "Make a list of a dump, read from standard input; writes",
		Long: "Make a list of what mailspine mailbox dump or ctl_mboxlist -d has printed, read from standard input: a new file with\n" +
			"--out, else the configured list. It has to be missing or empty, and is so after an error: all records come at once. Of\n" +
			"Cyrus's form the records under unique ids are made anew, with the former names that tombstones show.",
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&out, "out", "", "write this new file, not the configured list")
	c.Flags().BoolVarP(&dry, "dry-run", "n", false, "say what would be done, and do nothing")
	return f.storeCommand(s, c, writeExits(""), func(st *store, _ []string) error {
		if err := notEmpty(c, "out"); err != nil {
			return err
		}
		if out != "" {
			st.path = out
		}
		in := bufio.NewReader(&interruptible{ctx: st.ctx, in: st.streams.in})
		if _, err := in.Peek(1); errors.Is(err, io.EOF) { // a dump that failed must not pass for one of an empty list
			return errors.New("there is no dump on standard input: it is empty; nothing was made of it")
		} else if err != nil {
			return fmt.Errorf("read the dump from standard input: %w", err)
		}
		n, err := mboxdb.UndumpTo(st.ctx, st.path, in, mboxdb.UndumpOptions{Options: st.opts, DryRun: dry})
		switch {
		case errors.Is(err, mboxdb.ErrExists), errors.Is(err, fs.ErrExist):
			return &advisedError{err, "what is in " + st.path + " stays; write a new file with --out"}
		case errors.Is(err, mboxdb.ErrDump):
			return &advisedError{err, "nothing was made of it: give it all that mailspine mailbox dump or ctl_mboxlist -d prints"}
		case err != nil:
			return err
		}
		would := ""
		if dry {
			would = "would have "
		}
		return st.out.report(undumped{st.path, dry, n}, "%s: %s%s", st.path, would, plural(n, "record"))
	})
}

// upgraded is the JSON of mailbox upgrade.
type upgraded struct {
	Path     string            `json:"path"`
	From     string            `json:"from,omitempty"`
	Records  int               `json:"records"`
	Kept     string            `json:"kept,omitempty"`
	DryRun   bool              `json:"dry_run"`
	Findings []finding.Finding `json:"findings"`
}

func (f *storeFlags) upgradeCommand(s streams) *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "upgrade",
		Short: "Rewrite a list of a Cyrus before 3.6 in the form of 3.6; keeps the old file; writes",
		Long: "Rewrite a list of a Cyrus before 3.6 in the form of 3.6, in a new file that takes its place at once. The old file stays,\n" +
			"with \".before-upgrade\" behind its name. Nothing is dropped: a record that cannot be read is taken over as it is. A list\n" +
			"that has the new form is left alone.",
		Args: cobra.NoArgs,
	}
	c.Flags().BoolVarP(&dry, "dry-run", "n", false, "say what would be done, and do nothing")
	exits := writeExits("upgraded; some records need attention")
	return f.storeCommand(s, c, exits, func(st *store, _ []string) error {
		done, err := mboxdb.Upgrade(st.ctx, st.path, mboxdb.UpgradeOptions{Options: st.opts, DryRun: dry})
		if err != nil {
			return err
		}
		u := upgraded{Path: st.path, DryRun: dry, Records: done.Records, Kept: done.Kept, Findings: append([]finding.Finding{}, done.Findings...)}
		if done.Kept == "" {
			return st.out.report(u, "%s: it has the form of Cyrus 3.6 already", st.path)
		}
		u.From = done.From.String()
		did, is := "upgraded", "is"
		if dry {
			did, is = "would be upgraded", "would be"
		}
		err = st.out.result(u, func(w io.Writer) {
			printAll(w, done.Findings)
			fmt.Fprintf(w, "%s: %s %s from %s; the old list %s %s\n", st.path, plural(u.Records, "record"), did, u.From, is, u.Kept)
		})
		if err == nil && len(done.Findings) > 0 {
			return &exitError{exitNo, nil}
		}
		return err
	})
}

func newLocate(s streams) *cobra.Command {
	var f storeFlags
	c := &cobra.Command{
		Use:   "locate PATH...",
		Short: "Name the mailbox whose directory a path is",
		Long: "Name the mailbox to which a directory in a partition belongs, or a file in such a directory. A directory that no\n" +
			"mailbox of the list has is named as far as its path tells.",
		Args: cobra.MinimumNArgs(1),
	}
	f.add(c.Flags())
	return f.storeCommand(s, c, storeExits("no mailbox in the list has this directory"), func(st *store, args []string) error {
		l := newList(st.out)
		code := exitOK
		err := st.view(func(_ *mboxdb.List, v *mboxdb.View) error {
			var elsewhere error
			for _, arg := range args {
				dir, err := mailboxDir(arg)
				if err != nil {
					return err
				}
				found, err := v.Locate(dir)
				if errors.Is(err, mboxdb.ErrNotInSpool) {
					elsewhere = errors.Join(elsewhere, err)
					continue
				}
				if err != nil {
					return err
				}
				if !found.Listed {
					code = exitNo
				}
				if !st.out.text() {
					if err := l.add(found); err != nil {
						return err
					}
					continue
				}
				switch name := st.show(found.Name); {
				case found.Listed:
					fmt.Fprintln(l.w, name)
				case found.Name.IsZero():
					fmt.Fprintf(l.w, "unique id %s: not in the list\n", found.UniqueID)
				default:
					fmt.Fprintf(l.w, "%s: not in the list\n", name)
				}
			}
			return elsewhere
		})
		if err := l.end(err); err != nil {
			return err
		}
		if code != exitOK {
			return &exitError{code, nil}
		}
		return nil
	})
}

// mailboxDir is the absolute path of a directory, or of the one that a file lies in.
func mailboxDir(arg string) (string, error) {
	if arg == "" {
		return "", usageError("the path is empty")
	}
	path, err := filepath.Abs(arg)
	if err != nil {
		return "", err
	}
	if info, err := vfs.OS().Stat(path); err == nil && !info.Mode.IsDir() {
		return filepath.Dir(path), nil
	}
	return path, nil
}
