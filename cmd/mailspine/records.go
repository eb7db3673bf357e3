package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/mailspine/mailspine/internal/batch"
	"github.com/mailspine/mailspine/skiplist"
)

const base64Usage = "keys and values are in base64, in arguments, input and output"

func base64Flag(p *pflag.FlagSet, to *bool) { p.BoolVarP(to, "base64", "b", false, base64Usage) }

// decode returns the bytes that an argument or a field of a line stands for.
func decode(in64 bool, s string) ([]byte, error) {
	if !in64 {
		return []byte(s), nil
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, usageError("%q is not base64: %w", s, err)
	}
	return b, nil
}

func encode(in64 bool, b []byte) []byte {
	if !in64 {
		return b
	}
	return base64.StdEncoding.AppendEncode(nil, b)
}

func showVerb() verb {
	var in64 bool
	return verb{
		use: "show FILE [PREFIX]", short: "Print the records, key TAB value, as cyr_dbtool does", max: 1,
		long: "Print the records whose keys begin with PREFIX, in the order of the keys: key TAB value, as \"cyr_dbtool FILE\n" +
			"FORMAT show\" does. In JSON a record has \"key\" and \"value\", or \"key_base64\" and \"value_base64\" where they are\n" +
			"not UTF-8.",
		exits: readExits(""),
		flags: func(p *pflag.FlagSet) { base64Flag(p, &in64) },
		run: func(ss *session, args []string) error {
			var prefix []byte
			if len(args) > 0 {
				var err error
				if prefix, err = decode(in64, args[0]); err != nil {
					return err
				}
			}
			return ss.with(false, func(db *skiplist.DB) error { return ss.show(db, prefix, in64) })
		},
	}
}

func (ss *session) show(db *skiplist.DB, prefix []byte, in64 bool) error {
	l := newList(ss.out)
	err := db.View(ss.ctx, func(s *skiplist.Snapshot) error {
		ss.line.Clear()
		for r, err := range s.Prefix(prefix) {
			if err == nil {
				err = ss.ctx.Err()
			}
			if err != nil {
				return err
			}
			if !ss.out.text() {
				err = l.add(recordJSON(r.Key, r.Value))
			} else {
				l.w.Write(encode(in64, r.Key))
				l.w.WriteByte('\t')
				l.w.Write(encode(in64, r.Value))
				err = l.w.WriteByte('\n')
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return l.end(err)
}

// maxLine bounds, in bytes, a line of standard input.
const maxLine = 1 << 30

// eachLine calls do for the lines of standard input, as cyr_dbtool reads them: the key ends with the first TAB or the
// line, the rest is the value; an empty line ends the input.
func (ss *session) eachLine(in64 bool, do func(key, value []byte) error) error {
	in := bufio.NewScanner(ss.in)
	in.Buffer(nil, maxLine)
	in.Split(splitLF)
	for in.Scan() {
		if len(in.Bytes()) == 0 {
			return nil
		}
		k, v, _ := bytes.Cut(in.Bytes(), []byte("\t"))
		key, err := decode(in64, string(k))
		if err != nil {
			return err
		}
		value, err := decode(in64, string(v))
		if err != nil {
			return err
		}
		if err := do(key, value); err != nil {
			return err
		}
	}
	return in.Err()
}

// splitLF is bufio.ScanLines, except that a CR before the LF belongs to the line.
func splitLF(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

func getVerb() verb {
	var in64 bool
	return verb{
		use: "get FILE [KEY]", short: "Print the value of a key", max: 1,
		long: "Print the value of KEY. Without KEY the keys are read from standard input, one a line up to a TAB or an empty\n" +
			"line, and each is answered with a line, an empty one if there is no such key.",
		exits: readExits("a key is missing"),
		flags: func(p *pflag.FlagSet) { base64Flag(p, &in64) },
		run: func(ss *session, args []string) error {
			return ss.with(false, func(db *skiplist.DB) error { return ss.get(db, args, in64) })
		},
	}
}

func (ss *session) get(db *skiplist.DB, args []string, in64 bool) error {
	var damage error
	missing := 0
	answer := func(key []byte) error {
		v, err := db.Get(ss.ctx, key)
		found := v != nil
		switch {
		case errors.Is(err, skiplist.ErrDamaged):
			damage = err // and there may be an answer all the same
		case errors.Is(err, skiplist.ErrNotFound):
		case err != nil:
			return err
		}
		if !found {
			missing++
		}
		if ss.out.text() {
			if !found && len(args) > 0 {
				return nil
			}
			_, err = fmt.Fprintf(ss.out.w, "%s\n", encode(in64, v))
			return err
		}
		r := recordJSON(key, v)
		if !found {
			r.Value, r.Missing = nil, true
		}
		return printJSON(ss.out.w, r, ss.out.format == "jsonl" || len(args) == 0)
	}
	var err error
	if len(args) > 0 {
		var key []byte
		if key, err = decode(in64, args[0]); err == nil {
			err = answer(key)
		}
	} else {
		err = ss.eachLine(in64, func(key, _ []byte) error { return answer(key) })
	}
	switch {
	case err != nil:
		return err
	case damage != nil:
		return damage
	case missing > 0 && len(args) > 0:
		return &exitError{exitNo, fmt.Errorf("%s: no such key: %q", db.Path(), args[0])}
	case missing > 0:
		return &exitError{exitNo, fmt.Errorf("%s: %s of the keys are missing", db.Path(), count(missing))}
	}
	return nil
}

// changed is the JSON of a verb that changes records.
type changed struct {
	Path   string `json:"path"`
	DryRun bool   `json:"dry_run"`
	batch.Result
	// Missing counts the keys that delete did not find.
	Missing int `json:"missing"`
}

// errDryRun drops a transaction that has shown what it would do.
var errDryRun = errors.New("dry run")

// change makes one transaction, or in a dry run drops it, and reports.
func (ss *session) change(do func(tx *skiplist.Tx, c *changed) error) error {
	return ss.with(true, func(db *skiplist.DB) error {
		c := changed{Path: ss.path, DryRun: ss.dry}
		err := db.Update(ss.ctx, func(tx *skiplist.Tx) error {
			c.Result, c.Missing = batch.Result{}, 0
			if err := do(tx, &c); err != nil {
				return err
			}
			if ss.dry {
				return errDryRun
			}
			return ss.ctx.Err()
		})
		if err != nil && err != errDryRun {
			return err
		}
		if !ss.out.text() {
			err = ss.out.result(c, nil)
		} else if ss.dry {
			err = ss.out.report(c, "%s: would store %s and remove %s", ss.path, plural(c.Sets, "record"), count(c.Deletes))
		} else {
			err = nil // as silent as cyr_dbtool
		}
		if err == nil && c.Missing > 0 {
			return &exitError{exitNo, fmt.Errorf("%s: %s of the keys to delete were missing", ss.path, count(c.Missing))}
		}
		return err
	})
}

func setVerb() verb {
	var in64 bool
	return verb{
		use: "set FILE [KEY VALUE]", short: "Store records; writes", max: 2, writes: true,
		long: "Store VALUE under KEY. Without them lines of key TAB value are read from standard input, up to an empty line,\n" +
			"and stored in one transaction: all of them or, after an error, none.",
		exits: writeExits(""),
		flags: func(p *pflag.FlagSet) { base64Flag(p, &in64) },
		run: func(ss *session, args []string) error {
			if len(args) == 1 {
				return usageError("set needs a value, or neither key nor value and lines on standard input")
			}
			records, err := ss.input(args, in64)
			if err != nil {
				return err
			}
			return ss.change(func(tx *skiplist.Tx, c *changed) error {
				for _, r := range records {
					if err := tx.Put(r.Key, r.Value); err != nil {
						return fmt.Errorf("store %q: %w", r.Key, err)
					}
					c.Sets++
				}
				return nil
			})
		},
	}
}

// input collects what is to be stored or removed, before the file is locked.
func (ss *session) input(args []string, in64 bool) (records []skiplist.Record, err error) {
	if len(args) == 0 {
		err = ss.eachLine(in64, func(key, value []byte) error {
			records = append(records, skiplist.Record{Key: key, Value: value})
			return nil
		})
		return records, err
	}
	var r skiplist.Record
	if r.Key, err = decode(in64, args[0]); err == nil && len(args) > 1 {
		r.Value, err = decode(in64, args[1])
	}
	return []skiplist.Record{r}, err
}

func deleteVerb() verb {
	var in64 bool
	return verb{
		use: "delete FILE [KEY]", short: "Remove records; writes", max: 1, writes: true,
		long: "Remove the record of KEY. Without it keys are read from standard input, one a line up to a TAB or an empty line,\n" +
			"and removed in one transaction. A missing key stops nothing and shows in the exit status. Deleting works on a full\n" +
			"disk, out of a reserve; see mailspine db info.",
		exits: writeExits("a key was missing; the others were removed"),
		flags: func(p *pflag.FlagSet) { base64Flag(p, &in64) },
		run: func(ss *session, args []string) error {
			records, err := ss.input(args, in64)
			if err != nil {
				return err
			}
			return ss.change(func(tx *skiplist.Tx, c *changed) error {
				for _, r := range records {
					found, err := tx.Has(r.Key)
					if err != nil {
						return err
					}
					if !found {
						c.Missing++
						continue
					}
					if err := tx.Delete(r.Key); err != nil {
						return err
					}
					c.Deletes++
				}
				return nil
			})
		},
	}
}

func batchVerb() verb {
	return verb{
		use: "batch FILE", short: "Run the commands on standard input, in cyr_dbtool's batch language; writes", writes: true,
		long: "Run the commands on standard input, one a line, in cyr_dbtool's batch language:\n\n" +
			"  SET key value   GET key   SHOW [prefix]   DELETE key   BEGIN   COMMIT   ABORT\n\n" +
			"A key or value is an atom, a \"quoted string\", or a literal: {n+}, CR LF and n bytes. GET and SHOW print key and\n" +
			"value in those forms. Outside of BEGIN and COMMIT every change is a transaction of its own, durable before the\n" +
			"next line is read. The first error ends the run, with a line on standard error:\n\n" +
			"  FAILED: line N at cmd X with error TEXT\n\n" +
			"What was committed before stays. Unlike cyr_dbtool, the exit status tells.",
		example: "  printf 'BEGIN\\nSET a 1\\nDELETE b\\nCOMMIT\\nSHOW\\n' | mailspine db batch FILE",
		exits:   writeExits(""),
		run: func(ss *session, _ []string) error {
			if !ss.out.text() {
				return usageError("batch has a language of its own: --output is for other verbs")
			}
			do := batch.Run
			if ss.dry {
				do = batch.DryRun
			}
			return ss.with(true, func(db *skiplist.DB) error {
				done, err := do(ss.ctx, db, ss.in, ss.out.w)
				if err == nil && ss.dry && !ss.out.quiet {
					fmt.Fprintf(ss.cmd.ErrOrStderr(), "%s: would store %s and remove %s\n", ss.path, plural(done.Sets, "record"), count(done.Deletes))
				}
				return err
			})
		},
	}
}
