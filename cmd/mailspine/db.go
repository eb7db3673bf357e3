package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/skiplist"
)

// dbFlags are the flags of every db verb.
type dbFlags struct {
	format, order, config string
}

func newDB() *cobra.Command {
	var f dbFlags
	db := &cobra.Command{
		Use:   "db",
		Short: "Work on one database file of Cyrus: skiplist, twoskip or flat",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("unknown verb %q; see mailspine db --help", args[0])
			}
			return cmd.Help()
		},
	}
	p := db.PersistentFlags()
	p.StringVar(&f.format, "format", "", "format: skiplist, twoskip or flat; found out if not given (create: twoskip)")
	p.StringVar(&f.order, "order", "", "key order: signed, unsigned or mailbox; that of the format if not given")
	p.StringVarP(&f.config, "config", "C", "", "imapd.conf: tells the skipstamp and the key order")
	db.AddCommand(
		f.create(), f.info(), f.show(), f.get(), f.set(), f.delete(), f.batch(), f.check(), f.recover(), f.repack(),
		f.salvage(), f.dump(), f.backup(),
	)
	return db
}

// options turns the flags into options.
func (f *dbFlags) options(o skiplist.Options) (skiplist.Options, error) {
	switch f.format {
	case "", "skiplist", "twoskip", "flat":
		o.Format = skiplist.Format(f.format)
	default:
		return o, usageError("unknown format %q: known are skiplist, twoskip and flat", f.format)
	}
	if f.config != "" {
		if err := readConfig(f.config, &o); err != nil {
			return o, err
		}
	}
	switch f.order {
	case "":
	case "signed":
		o.Order = skiplist.SignedOrder
	case "unsigned":
		o.Order = skiplist.UnsignedOrder
	case "mailbox":
		o.Order = skiplist.MailboxOrder
	default:
		return o, usageError("unknown order %q: known are signed, unsigned and mailbox", f.order)
	}
	return o, nil
}

// verb makes a command that opens the file named by its first argument and closes it afterwards.
func (f *dbFlags) verb(use, short string, min, max int, o skiplist.Options, do func(*cobra.Command, *skiplist.DB, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: argCount(min, max),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(o)
			if err != nil {
				return err
			}
			db, err := skiplist.Open(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			err = do(cmd, db, args[1:])
			return errors.Join(err, db.Close())
		},
	}
}

func argCount(min, max int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < min || max >= 0 && len(args) > max {
			return usageError("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// reading opens whatever state the file is in; what cannot be read is reported at the end.
var reading = skiplist.Options{ReadOnly: true, AllowDamaged: true}

func (f *dbFlags) create() *cobra.Command {
	return &cobra.Command{
		Use: "create FILE", Short: "Make an empty database; writes", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(skiplist.Options{})
			if err != nil {
				return err
			}
			return skiplist.Create(cmd.Context(), args[0], o)
		},
	}
}

func (f *dbFlags) info() *cobra.Command {
	return f.verb("info FILE", "Describe the file: format, size, records, state, reserve", 1, 1, reading,
		func(cmd *cobra.Command, db *skiplist.DB, _ []string) error {
			out, err := outputFormat(cmd)
			if err != nil {
				return err
			}
			s := db.Stats()
			if out != "text" {
				return printJSON(cmd.OutOrStdout(), s, out == "jsonl")
			}
			printInfo(cmd.OutOrStdout(), s)
			return nil
		})
}

func printInfo(w io.Writer, s skiplist.Stats) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-16s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("file", "%s", s.Path)
	row("format", "%s, version %d", s.Format, s.Version)
	row("key order", "%s", s.Order)
	row("records", "%d", s.Records)
	row("size", "%d bytes, committed up to %d", s.Size, s.Committed)
	row("checkpointed", "up to %d; checkpoint due: %t", s.LogStart, s.CheckpointDue)
	if s.Generation > 0 {
		row("generation", "%d", s.Generation)
	}
	if !s.LastRecovery.IsZero() {
		row("last recovery", "%s", s.LastRecovery.UTC().Format("2006-01-02 15:04:05Z"))
	}
	if reserve := s.AllocatedBytes - s.Size; s.DeleteBytes > 0 {
		row("reserve", "%d bytes allocated after the end: %d deletions on a full disk", max(reserve, 0), max(reserve, 0)/int64(s.DeleteBytes))
	}
	if s.Problem == "" {
		row("state", "%s", s.State)
	} else {
		row("state", "%s at %#x: %s", s.State, s.Offset, s.Problem)
	}
}

func (f *dbFlags) show() *cobra.Command {
	return f.verb("show FILE [PREFIX]", "Print the records, key TAB value, as cyr_dbtool does", 1, 2, reading,
		func(cmd *cobra.Command, db *skiplist.DB, args []string) error {
			out, err := outputFormat(cmd)
			if err != nil {
				return err
			}
			prefix := ""
			if len(args) > 0 {
				prefix = args[0]
			}
			w := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
			err = db.View(cmd.Context(), func(s *skiplist.Snapshot) error {
				return printRecords(cmd, w, s.Prefix([]byte(prefix)), out)
			})
			return errors.Join(err, w.Flush())
		})
}

func printRecords(cmd *cobra.Command, w *bufio.Writer, records iter.Seq2[skiplist.Record, error], out string) error {
	for r, err := range records {
		if err == nil {
			err = cmd.Context().Err()
		}
		if err != nil {
			return err
		}
		if out != "text" {
			// Keys and values are bytes; JSON strings of them would not be reversible.
			if err := printJSON(w, map[string][]byte{"key_base64": r.Key, "value_base64": r.Value}, true); err != nil {
				return err
			}
			continue
		}
		w.Write(r.Key)
		w.WriteByte('\t')
		w.Write(r.Value)
		if err := w.WriteByte('\n'); err != nil {
			return err
		}
	}
	return nil
}

func (f *dbFlags) get() *cobra.Command {
	return f.verb("get FILE KEY", "Print the value of a key", 2, 2, reading,
		func(cmd *cobra.Command, db *skiplist.DB, args []string) error {
			v, err := db.Get(cmd.Context(), []byte(args[0]))
			if v != nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s\n", v)
			}
			if errors.Is(err, skiplist.ErrNotFound) && !errors.Is(err, skiplist.ErrDamaged) {
				return &exitError{exitNo, fmt.Errorf("%s: no such key: %q", db.Path(), args[0])}
			}
			return err
		})
}

func (f *dbFlags) set() *cobra.Command {
	return f.verb("set FILE KEY VALUE", "Store a record; writes", 3, 3, skiplist.Options{},
		func(cmd *cobra.Command, db *skiplist.DB, args []string) error {
			return db.Put(cmd.Context(), []byte(args[0]), []byte(args[1]))
		})
}

func (f *dbFlags) delete() *cobra.Command {
	return f.verb("delete FILE KEY", "Remove a record; exit status 1 if there is none; writes", 2, 2, skiplist.Options{},
		func(cmd *cobra.Command, db *skiplist.DB, args []string) error {
			return db.Update(cmd.Context(), func(tx *skiplist.Tx) error {
				key := []byte(args[0])
				if found, err := tx.Has(key); err != nil {
					return err
				} else if !found {
					return &exitError{exitNo, fmt.Errorf("%s: no such key: %q", db.Path(), args[0])}
				}
				return tx.Delete(key)
			})
		})
}

func (f *dbFlags) check() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "Compare everything in the file with everything else", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := outputFormat(cmd)
			if err != nil {
				return err
			}
			o, err := f.options(skiplist.Options{})
			if err != nil {
				return err
			}
			found, err := skiplist.Check(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			return printFindings(cmd.OutOrStdout(), args[0], found, out)
		},
	}
}

// printFindings prints what a check found and returns the exit code for it.
func printFindings(w io.Writer, path string, found []skiplist.Finding, out string) error {
	code := exitOK
	for _, f := range found {
		switch {
		case f.Severity == skiplist.Damage:
			code = exitDamage
		case f.Severity == skiplist.Warning && code == exitOK:
			code = exitNo
		}
		switch out {
		case "text":
			fmt.Fprintln(w, f)
		case "jsonl":
			if err := printJSON(w, f, true); err != nil {
				return err
			}
		}
	}
	if out == "json" {
		if found == nil {
			found = []skiplist.Finding{}
		}
		if err := printJSON(w, map[string]any{"path": path, "findings": found}, false); err != nil {
			return err
		}
	}
	if out == "text" && len(found) == 0 {
		fmt.Fprintf(w, "%s: fine\n", path)
	}
	if code != exitOK {
		return &exitError{code, nil}
	}
	return nil
}

func (f *dbFlags) recover() *cobra.Command {
	return f.verb("recover FILE", "Repair the file after a crash; loses nothing that was committed; writes", 1, 1, skiplist.Options{},
		func(cmd *cobra.Command, db *skiplist.DB, _ []string) error {
			repaired, err := db.Recover(cmd.Context())
			if err != nil {
				return err
			}
			if repaired {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: recovered, %d records\n", db.Path(), db.Stats().Records)
			} else {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: nothing to recover, %d records\n", db.Path(), db.Stats().Records)
			}
			return nil
		})
}

func (f *dbFlags) repack() *cobra.Command {
	return f.verb("repack FILE", "Checkpoint: rewrite the file without dead records; writes", 1, 1, skiplist.Options{},
		func(cmd *cobra.Command, db *skiplist.DB, _ []string) error {
			before := db.Stats().Size
			if err := db.Checkpoint(cmd.Context()); err != nil {
				return err
			}
			s := db.Stats()
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d records, %d bytes, was %d\n", db.Path(), s.Records, s.Size, before)
			return nil
		})
}

func (f *dbFlags) salvage() *cobra.Command {
	var to string
	var uncommitted bool
	c := &cobra.Command{
		Use: "salvage FILE --out FILE2", Short: "Collect everything readable in a new file; FILE is only read", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usageError("salvage needs --out FILE2, the new file")
			}
			out, err := outputFormat(cmd)
			if err != nil {
				return err
			}
			o, err := f.options(skiplist.Options{})
			if err != nil {
				return err
			}
			res, err := skiplist.Salvage(cmd.Context(), args[0], to, skiplist.SalvageOptions{Options: o, Uncommitted: uncommitted})
			if err != nil {
				return &exitError{exitCode(cmd.Context(), err), err}
			}
			if out != "text" {
				return printJSON(cmd.OutOrStdout(), res, out == "jsonl")
			}
			for _, f := range res.Findings {
				fmt.Fprintln(cmd.OutOrStdout(), f)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d records salvaged, %d unreadable\n", to, res.Records, res.Unreadable)
			return nil
		},
	}
	c.Flags().StringVar(&to, "out", "", "the new file; it must not exist")
	c.Flags().BoolVar(&uncommitted, "uncommitted", false, "also take complete records that no commit follows")
	return c
}

func (f *dbFlags) backup() *cobra.Command {
	return f.verb("backup FILE FILE2", "Write a consistent, checkpointed copy, without holding up writers", 2, 2, skiplist.Options{ReadOnly: true},
		func(cmd *cobra.Command, db *skiplist.DB, args []string) error {
			return db.BackupFile(cmd.Context(), args[0])
		})
}
