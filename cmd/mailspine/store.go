package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/owner"
	"github.com/mailspine/mailspine/internal/progress"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
)

// defaultConfig is where Cyrus looks for its configuration.
const defaultConfig = "/etc/imapd.conf"

// storeFlags are the flags of every command that works on a whole store.
type storeFlags struct {
	config, as, file string
}

func (f *storeFlags) add(p *pflag.FlagSet) {
	p.StringVarP(&f.config, "config", "C", defaultConfig, "imapd.conf of the store")
	p.StringVar(&f.as, "as", "", "work as this user; root works as the owner of configdirectory unless told otherwise")
	p.StringVar(&f.file, "list", "", "another mailbox list than the one configured, such as a copy or a backup")
}

// store is one run of a command on a store.
type store struct {
	ctx    context.Context
	out    output
	line   *progress.Line
	config *imapdconf.Config
	path   string // of the mailbox list
	// fileGiven says that the list is another than the one configured.
	fileGiven bool
	opts      mboxdb.Options
	streams   streams
	// as is who this process has become, nil if it is who it was.
	as *owner.Identity
}

// newStore reads the configuration and becomes who it has to be.
func (f *storeFlags) newStore(cmd *cobra.Command, s streams) (st *store, err error) {
	st = &store{ctx: cmd.Context(), streams: s}
	if st.out, err = newOutput(cmd, s); err != nil {
		return nil, err
	}
	if err := notEmpty(cmd, "config", "list", "as"); err != nil {
		return nil, err
	}
	var logger *slog.Logger
	if verbose, _ := cmd.Flags().GetBool("verbose"); verbose {
		logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	}
	return st, f.configure(st, logger)
}

// configure reads the configuration and becomes who it has to be, before anything of the store is opened.
func (f *storeFlags) configure(st *store, logger *slog.Logger) (err error) {
	if st.config, err = imapdconf.Read(vfs.OS(), f.config).Config("mailspine"); err != nil {
		advice := "mailspine config check -C " + f.config + " shows all that is wrong with it"
		var problem *imapdconf.Problem
		if errors.As(err, &problem) && problem.Code == imapdconf.FileUnreadable {
			advice = "name the imapd.conf of the store with -C, and run it as a user who may read that"
		}
		return &advisedError{fmt.Errorf("read the configuration: %w", err), advice}
	}
	if st.as, err = becomeOwner(f.as, st.config.ConfigDirectory(), logger); err != nil {
		return err
	}
	// What is made in the store is as private as what the server makes, whatever the shell takes away.
	owner.Umask(st.config.Umask())
	st.path, st.opts = mboxdb.Configured(st.config)
	if f.file != "" {
		st.path, st.fileGiven = f.file, true
	}
	st.opts.DB.Logger = logger
	if st.streams.errTerminal {
		st.line = progress.New(st.streams.err, st.streams.now)
		st.opts.DB.Progress = st.line.Report
	}
	return nil
}

// notEmpty refuses flags that are given without a value, as a script does whose variable is empty: they would pass for flags
// that are not given.
func notEmpty(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed && f.Value.String() == "" {
			return usageError("--%s is empty: give it a value, or leave it out", name)
		}
	}
	return nil
}

// view opens the list for reading, whatever state it is in, and calls do. In a damaged list what was committed before
// the damage is read, and the error comes at the end.
func (st *store) view(do func(l *mboxdb.List, v *mboxdb.View) error) error {
	opts := st.opts
	opts.DB.ReadOnly, opts.DB.AllowDamaged = true, true
	l, err := mboxdb.Open(st.ctx, st.path, opts)
	if err != nil {
		return err
	}
	st.line.Clear()
	err = l.View(st.ctx, func(v *mboxdb.View) error { return do(l, v) })
	return errors.Join(err, l.Close())
}

// storeCommand makes a command that works on a store.
func (f *storeFlags) storeCommand(s streams, c *cobra.Command, exits map[int]string, run func(st *store, args []string) error) *cobra.Command {
	if c.Long == "" {
		c.Long = c.Short + "."
	}
	c.Long += "\n\n" + exitHelp(exits)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		st, err := f.newStore(cmd, s)
		if err != nil {
			return err
		}
		err = run(st, args)
		st.line.Clear()
		return st.hint(err)
	}
	return c
}

// emptyListAdvice is what to do about a list that has no mailbox: no check of its file finds anything wrong.
const emptyListAdvice = "mend the mailbox list first, from a backup: mailspine db backup makes them, and brings them back"

// hint adds to an error what to do about it.
func (st *store) hint(err error) error {
	switch {
	case errors.Is(err, mboxdb.ErrUpgradeFirst):
		return &advisedError{err, "mailspine mailbox upgrade does it, and keeps the old file"}
	case errors.Is(err, quota.ErrListEmpty):
		return &advisedError{err, emptyListAdvice}
	case errors.Is(err, mboxdb.ErrRecord):
		return &advisedError{err, "mailspine mailbox check shows all records that cannot be read"}
	}
	return (&session{ctx: st.ctx, path: st.path, opts: st.opts.DB, as: st.as}).hint(err)
}
