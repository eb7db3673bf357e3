package skiplist

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// maxLinkFindings bounds how many wrong links a check lists one by one.
const maxLinkFindings = 20

// Check compares everything in the file with everything else: header, log, order, links and checksums. It reads the
// whole file under the shared lock, whatever its state, and changes nothing. The findings are in the order of their
// offsets as far as the check meets them so; none means that the file is whole and that Cyrus would agree.
//
// An error means that the check could not be made: ErrNotDatabase, ErrVersion, or one of the system. A damaged file is a
// finding.
func Check(ctx context.Context, path string, opts Options) ([]Finding, error) {
	opts.ReadOnly, opts.AllowDamaged, opts.Create = true, true, false
	db, err := Open(ctx, path, opts)
	var broken *FormatError
	if errors.As(err, &broken) && errors.Is(err, ErrDamaged) {
		return []Finding{damageFinding(broken)}, nil
	}
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return db.Check(ctx)
}

// Check is the check of an open database; see the function Check.
func (db *DB) Check(ctx context.Context) ([]Finding, error) {
	st, err := db.loadNamed(ctx, "checking the log")
	var broken *FormatError
	if errors.As(err, &broken) && errors.Is(err, ErrDamaged) {
		return []Finding{damageFinding(broken)}, nil
	}
	if err != nil {
		return nil, err
	}
	defer st.gen.release()
	if planted.On(planted.CheckLockShared) {
		defer st.gen.rd.Unlock()
	}
	c := checker{db: db, st: st}
	c.log()
	if err := c.links(); err != nil {
		return c.found, err
	}
	err = c.records(ctx)
	return c.found, err
}

// loadNamed reads the whole file that the path leads to, whatever its state. Where readers of the format lock, the lock is
// held until the generation of the state is released: the links move while somebody writes.
func (db *DB) loadNamed(ctx context.Context, doing string) (*state, error) {
	if db.state.Load() == nil {
		return nil, fmt.Errorf("%s: %w", db.path, ErrClosed)
	}
	g, info, err := db.openNamed(ctx, db.codec.Traits().LockedReads)
	if err != nil {
		return nil, err
	}
	st, err := db.load(g, info, db.ticks(ctx, doing, info.Size))
	if err != nil {
		g.release()
		return nil, err
	}
	return st, nil
}

// damageFinding is the form in which a check reports what could not be read.
func damageFinding(e *FormatError) Finding {
	detail := e.Problem
	if e.Field != "" {
		detail = e.Field + ": " + detail
	}
	return Finding{Code: "damaged", Severity: Damage, Path: e.Path, Offset: e.Offset, Detail: detail, Fix: fixFor(fixSalvage, e.Path)}
}

func (db *DB) finding(code string, severity finding.Severity, off int64, fix, format string, args ...any) Finding {
	return Finding{Code: code, Severity: severity, Path: db.path, Offset: off, Fix: fixFor(fix, db.path), Detail: fmt.Sprintf(format, args...)}
}

type checker struct {
	db    *DB
	st    *state
	found []Finding
}

func (c *checker) add(code string, severity finding.Severity, off int64, fix, format string, args ...any) {
	c.found = append(c.found, c.db.finding(code, severity, off, fix, format, args...))
}

// log reports what the replay has seen.
func (c *checker) log() {
	st, log := c.st, c.st.log
	for _, f := range log.Findings {
		f.Path = c.db.path
		c.found = append(c.found, f)
	}
	switch log.State {
	case codec.Damaged:
		c.add("damaged", Damage, log.Offset, fixSalvage, "%s; the %d records committed before are readable", log.Problem, st.live.Len())
	case codec.Torn:
		c.add("torn", Warning, log.Offset, fixRecover, "%s; %d complete records without a commit follow the last one", log.Problem, log.Uncommitted)
	}
	if st.order != DefaultOrder {
		c.order(st.order, log.DisorderAt)
	}
	if st.blank {
		c.add("blank", Info, 0, "", "the file is empty: nobody has written to it yet")
	} else if c.db.stale(st.header) {
		c.add("stale-recovery", Info, 44, fixRecover, "last recovered %s, before the server or the machine was started: Cyrus will recover it at the next open",
			st.header.LastRecovery.UTC().Format("2006-01-02T15:04:05Z"))
	}
}

func (c *checker) order(o Order, at int64) {
	c.add("order", Warning, at, "name the order: --order "+o.String(), "the records are not in %s order but in %s order", c.db.Order(), o)
}

// The commands that mend; FILE stands for the path.
const (
	fixSalvage = "mailspine db salvage FILE --out FILE.salvaged"
	fixRecover = "mailspine db recover FILE"
)

// fixFor puts the path into a command, quoted for a shell where that is needed.
func fixFor(fix, path string) string {
	out := path + ".salvaged"
	if strings.ContainsFunc(path, func(r rune) bool { return !strings.ContainsRune(shellSafe, r) }) {
		quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
		path, out = quote(path), quote(out)
	}
	return strings.NewReplacer("FILE.salvaged", out, "FILE", path).Replace(fix)
}

const shellSafe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,="

// links reports links that are not those of the log. After a crash they are expected, and set right by recovery.
func (c *checker) links() (err error) {
	defer vfs.CatchFault(vfs.ArmFault(), c.st.view.Mem, &err)
	if c.st.blank || c.st.log.Disorder || c.st.damage != nil {
		return nil
	}
	n, before := 0, len(c.found)
	err = c.st.codec.CheckLinks(c.st.view, c.st.header, c.st.live, func(l codec.WrongLink) bool {
		if n++; n <= maxLinkFindings {
			if l.From == 0 {
				c.add("header", Warning, l.Mend.Off, fixRecover, "the header says %d where the log says %d", l.Have, l.Want)
			} else {
				c.add("link", Warning, l.From.Offset(), fixRecover, "the link on level %d leads to %#x, by the log it should lead to %#x", l.Level, l.Have, l.Want)
			}
		}
		return true
	})
	if n > 0 {
		if o := c.db.linkedOrder(c.st); o != DefaultOrder {
			c.found = c.found[:before]
			c.order(o, -1)
			return nil
		}
	}
	if n > maxLinkFindings {
		c.add("links", Warning, -1, fixRecover, "%d links in all are not those of the log", n)
	}
	var broken *FormatError
	if errors.As(err, &broken) {
		c.found = append(c.found, damageFinding(broken))
		err = nil
	}
	return err
}

// records reads every live record, with its checksums.
func (c *checker) records(ctx context.Context) (err error) {
	bad := func(ref tree.Ref, err error) {
		var broken *FormatError
		if errors.As(err, &broken) {
			c.found = append(c.found, damageFinding(broken))
			return
		}
		c.add("unreadable", Damage, ref.Offset(), fixSalvage, "%v", err)
	}
	n, tick := 0, c.db.ticks(ctx, "checking records", int64(c.st.live.Len()))
	for cur := c.st.live.First(); cur.Ref() != 0; cur.Next() {
		if n++; n%4096 == 0 {
			if err := tick(int64(n)); err != nil {
				return err
			}
		}
		if err := c.st.readable(cur.Ref()); err != nil {
			bad(cur.Ref(), err)
		}
	}
	return nil
}

// readable reads one record.
func (st *state) readable(ref tree.Ref) (err error) {
	defer vfs.CatchFault(vfs.ArmFault(), st.view.Mem, &err)
	_, _, err = st.codec.Record(st.view, ref)
	return err
}
