package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mailspine/mailspine/internal/batch"
	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/owner"
	"github.com/mailspine/mailspine/internal/progress"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// dbFlags are the flags of every db verb.
type dbFlags struct {
	format, order, config, as string
}

func (f *dbFlags) add(p *pflag.FlagSet) {
	p.StringVar(&f.format, "format", "", "format: skiplist, twoskip or flat; found out if not given (create: twoskip)")
	p.StringVar(&f.order, "order", "", "key order: signed, unsigned or mailbox; that of the format if not given")
	p.StringVarP(&f.config, "config", "C", "", "imapd.conf: tells skipstamp, key order, the format of new files, and whose they are")
	p.StringVar(&f.as, "as", "", "work as this user; root works as the owner of the store unless told otherwise")
}

// session is one run of a verb on one file.
type session struct {
	cmd  *cobra.Command
	ctx  context.Context
	out  output
	path string
	opts skiplist.Options
	dry  bool
	line *progress.Line
	in   io.Reader
	// as is who this process has become, nil if it is who it was.
	as *owner.Identity
}

// newSession reads the flags and becomes who it has to be, before any database is opened.
func (f *dbFlags) newSession(cmd *cobra.Command, path string, s streams) (ss *session, err error) {
	ss = &session{cmd: cmd, ctx: cmd.Context(), path: path}
	if ss.out, err = newOutput(cmd, s); err != nil {
		return nil, err
	}
	if err := notEmpty(cmd, "config", "format", "order", "as"); err != nil {
		return nil, err
	}
	ss.dry, _ = cmd.Flags().GetBool("dry-run")
	if s.errTerminal {
		ss.line = progress.New(s.err, s.now)
		ss.opts.Progress = ss.line.Report
	}
	ss.in = &interruptible{ctx: ss.ctx, in: cmd.InOrStdin()}
	if verbose, _ := cmd.Flags().GetBool("verbose"); verbose {
		ss.opts.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	}
	if err := f.choose(ss); err != nil {
		return nil, err
	}
	return ss, nil
}

// withoutTime shortens the lines of --verbose: they are read as they come.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return slog.Attr{}
	}
	return a
}

// choose fills in the options of the database, and changes the user.
func (f *dbFlags) choose(ss *session) error {
	switch f.format {
	case "", "skiplist", "twoskip", "flat":
		ss.opts.Format = skiplist.Format(f.format)
	default:
		return usageError("unknown format %q: known are skiplist, twoskip and flat", f.format)
	}
	orders := map[string]skiplist.Order{"": skiplist.DefaultOrder, "signed": skiplist.SignedOrder,
		"unsigned": skiplist.UnsignedOrder, "mailbox": skiplist.MailboxOrder}
	order, ok := orders[f.order]
	if !ok {
		return usageError("unknown order %q: known are signed, unsigned and mailbox", f.order)
	}
	ss.opts.Order = order
	dir := filepath.Dir(ss.path)
	if f.config != "" {
		c, err := imapdconf.Read(vfs.OS(), f.config).Config("mailspine")
		var problem *imapdconf.Problem
		if errors.As(err, &problem) && problem.Code == imapdconf.FileUnreadable {
			// What else is wrong with it keeps Cyrus from starting, and nobody from looking at a file.
			return fmt.Errorf("read the configuration: %w", err)
		}
		if c.ConfigDirectory() != "" {
			dir = c.ConfigDirectory()
		}
		ss.configure(c)
	}
	return f.become(ss, dir)
}

// configure takes from imapd.conf what a database file does not say itself.
func (ss *session) configure(c *imapdconf.Config) {
	ss.opts.Skipstamp, ss.opts.Prepared = c.Skipstamp(), c.Prepared()
	db := c.Database(ss.path)
	if db.MailboxOrder && ss.opts.Order == skiplist.DefaultOrder {
		ss.opts.Order = skiplist.MailboxOrder
	}
	if ss.opts.Format != skiplist.Auto || !ss.undecided() {
		return // what is in the file counts, as it does for Cyrus
	}
	switch format := skiplist.Format(db.Engine); format {
	case skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat:
		ss.opts.Format = format
	}
}

// undecided tells whether the file does not show its format: it is missing, empty, or perhaps flat.
func (ss *session) undecided() bool {
	f, err := vfs.OS().Open(ss.path, vfs.ReadOnly, 0)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	found, err := skiplist.Detect(f)
	return errors.Is(err, skiplist.ErrNotDatabase) || err == nil && found == skiplist.Auto
}

// empty tells a file of zero bytes.
func (ss *session) empty() bool {
	info, err := vfs.OS().Stat(ss.path)
	return err == nil && info.Mode.IsRegular() && info.Size == 0
}

// become gives up root for the owner of the store.
func (f *dbFlags) become(ss *session, dir string) (err error) {
	ss.as, err = becomeOwner(f.as, dir, ss.opts.Logger)
	return err
}

// becomeOwner gives up root for the owner of dir, or for another user, so that what is written stays the server's. It
// returns who this process is now, nil if it is who it was.
func becomeOwner(as, dir string, logger *slog.Logger) (id *owner.Identity, err error) {
	if !owner.Root() {
		if as != "" {
			return nil, usageError("--as is for root")
		}
		return nil, nil
	}
	if as != "" {
		if id, err = owner.Named(as); err != nil {
			return nil, usageError("--as: %w", err)
		}
	} else if id, err = owner.Of(vfs.OS(), dir); err != nil {
		return nil, fmt.Errorf("find the owner of the store: %w", err)
	}
	if id.UID == 0 {
		return nil, nil
	}
	if err := id.Become(); err != nil {
		return nil, err
	}
	if logger != nil {
		logger.Info("working as the owner of the store", "user", id.Name, "uid", id.UID, "gid", id.GID, "directory", dir)
	}
	return id, nil
}

// open opens the database for writing, or for reading whatever state it is in.
func (ss *session) open(write bool) (*skiplist.DB, error) {
	o := ss.opts
	if !write {
		o.ReadOnly, o.AllowDamaged = true, true
	}
	return skiplist.Open(ss.ctx, ss.path, o)
}

// with opens the database, calls do, and closes it.
func (ss *session) with(write bool, do func(*skiplist.DB) error) error {
	db, err := ss.open(write)
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}

// hint adds to an error what to do about it.
func (ss *session) hint(err error) error {
	advice := ""
	var coded *exitError
	switch {
	case err == nil || errors.As(err, &coded) || ss.ctx.Err() != nil:
		return err
	case errors.Is(err, skiplist.ErrDamaged):
		advice = fmt.Sprintf("mailspine db check %[1]s shows what is wrong; mailspine db salvage %[1]s --out FILE2 brings out what is readable", ss.path)
	case errors.Is(err, skiplist.ErrNotDatabase) && ss.opts.Format == skiplist.Auto && ss.empty():
		advice = "if it is to be an empty database, name its format with --format, or -C imapd.conf; if there were records in it, look for a backup"
	case errors.Is(err, skiplist.ErrNotDatabase) && ss.opts.Format == skiplist.Auto && ss.undecided():
		advice = "name the format with --format; mailspine db salvage and db dump then read it even if its beginning is damaged"
	case errors.Is(err, skiplist.ErrOrder):
		advice = "give the order that the message names with --order, or -C imapd.conf"
	case errors.Is(err, skiplist.ErrNoSpace):
		advice = "nothing was changed; make room and run it again"
	case errors.Is(err, syscall.EACCES) && ss.as != nil:
		advice = fmt.Sprintf("this ran as %s, the owner of the store, so that what it writes stays readable to the server; "+
			"give the file to %[1]s (chown), or stay root with --as root", ss.as.Name)
	case errors.Is(err, syscall.EACCES) && !owner.Root():
		advice = "run it as the user of the store, or as root, which then works as that user"
	default:
		return err
	}
	return &advisedError{err, advice}
}

// advisedError is an error with a second line.
type advisedError struct {
	error
	advice string
}

func (e *advisedError) Unwrap() error { return e.error }

// explain prints an error as the last word of a command.
func explain(w io.Writer, code int, err error) {
	text := err.Error()
	var failed *batch.Error
	switch {
	case text == "":
		return
	case errors.As(err, &failed): // in the words of cyr_dbtool, for those who parse them
		fmt.Fprintln(w, failed.Error())
	case code == exitInterrupted:
		fmt.Fprintln(w, "mailspine: interrupted")
	default:
		fmt.Fprintln(w, "mailspine:", strings.ReplaceAll(text, "\n", "\nmailspine: "))
	}
	var advised *advisedError
	if errors.As(err, &advised) {
		fmt.Fprintln(w, "mailspine:", advised.advice)
	}
}
