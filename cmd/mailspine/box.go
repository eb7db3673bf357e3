package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

// boxFlags are the flags of every command that works on the files of one mailbox.
type boxFlags struct{ storeFlags }

func (f *boxFlags) add(c *cobra.Command) {
	p := c.PersistentFlags()
	f.storeFlags.add(p)
	config := p.Lookup("config")
	config.DefValue, config.Usage = "", "imapd.conf of the store: MAILBOX is then a name in its list, else a directory"
	f.config = ""
}

// newBoxCommand makes a command with subcommands that work on the files of a mailbox.
func newBoxCommand(use, short, long string, f *boxFlags) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		Long: long + "\n\nA MAILBOX is a name, as an administrator sees it, in the store that -C configures; without -C it is the directory\n" +
			"that holds the files. Nothing is changed. Cyrus's own programs may use the mailbox meanwhile: locks are taken as they take them.",
		Args: cobra.ArbitraryArgs,
		RunE: needsCommand,
	}
	f.add(c)
	return c
}

// box is one run of a command on one mailbox.
type box struct {
	ctx context.Context
	out output
	// arg is the mailbox as it was given.
	arg   string
	place index.Place
	// owner is the user of the mailbox, "" if unknown.
	owner string
}

// boxExits are the codes of a command that reads the files of a mailbox.
func boxExits(no string) map[int]string {
	return map[int]string{
		exitNo:     no,
		exitDamage: "a file is damaged: what can be read was printed",
		exitFailed: "the files cannot be read",
	}
}

// command makes a command on one mailbox; its first argument is the mailbox.
func (f *boxFlags) command(s streams, c *cobra.Command, exits map[int]string, run func(b *box, args []string) error) *cobra.Command {
	if c.Long == "" {
		c.Long = c.Short + "."
	}
	c.Long += "\n\n" + exitHelp(exits)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		b, err := f.newBox(cmd, s, args[0])
		if err != nil {
			return err
		}
		return b.hint(run(b, args[1:]))
	}
	return c
}

// newBox finds the mailbox and becomes who it has to be.
func (f *boxFlags) newBox(cmd *cobra.Command, s streams, arg string) (b *box, err error) {
	b = &box{ctx: cmd.Context(), arg: arg}
	if b.out, err = newOutput(cmd, s); err != nil {
		return nil, err
	}
	if f.config == "" {
		if f.file != "" {
			return nil, usageError("--list goes with -C")
		}
		var logger *slog.Logger
		if verbose, _ := cmd.Flags().GetBool("verbose"); verbose {
			logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{ReplaceAttr: withoutTime}))
		}
		b.place = index.PlaceIn(arg)
		_, err = becomeOwner(f.as, arg, logger)
		return b, err
	}
	st, err := f.newStore(cmd, s)
	if err != nil {
		return nil, err
	}
	var rec mboxdb.Record
	err = st.view(func(_ *mboxdb.List, v *mboxdb.View) (err error) {
		if rec, err = st.find(v, arg, false); err != nil {
			return err
		}
		return st.filesHere(v, rec)
	})
	if err != nil {
		return nil, st.hint(err)
	}
	b.owner = rec.Name.User(st.opts.Layout.Namespace)
	b.place, err = index.PlaceOf(st.opts.Layout, rec)
	return b, err
}

// open opens the mailbox, calls do, and closes it.
func (b *box) open(do func(m *index.Mailbox) error) error {
	m, err := index.Open(b.ctx, vfs.OS(), b.place)
	if err != nil {
		return err
	}
	return errors.Join(do(m), m.Close())
}

// opened is open for those who can do with less: of a mailbox that cannot be opened because a file is damaged or missing,
// damaged is given what there is of the index, and the header file, empty if it is lost. The error comes at the end.
func (b *box) opened(whole func(m *index.Mailbox) error, damaged func(h *index.HeaderFile, f *index.File) error) (err error) {
	m, openErr := index.Open(b.ctx, vfs.OS(), b.place)
	if openErr == nil {
		return errors.Join(whole(m), m.Close())
	}
	file, err := vfs.OS().Open(b.place.Paths.Index, vfs.ReadOnly, 0)
	if err != nil {
		return openErr
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return openErr
	}
	f, _ := index.NewFile(file, info.Size, b.place.Paths.Index)
	if f == nil {
		return openErr
	}
	h, err := index.ReadHeaderFile(vfs.OS(), b.place.Paths.Header)
	if err != nil {
		h = &index.HeaderFile{}
	}
	return errors.Join(openErr, damaged(h, f))
}

// hint adds to an error what to do about it.
func (b *box) hint(err error) error {
	var coded *exitError
	if err == nil || errors.As(err, &coded) || !errors.Is(err, index.ErrDamaged) && !errors.Is(err, index.ErrNotHeader) {
		return err
	}
	return &advisedError{err, "mailspine index check shows all that is wrong, mailspine index dump every byte of the index"}
}

// records calls each for the records with the UIDs given, all of them if none is. A damaged record does not hide the
// others: it is counted, and the error comes at the end.
func (b *box) records(m *index.Mailbox, uids []index.UID, each func(no index.RecordNo, r *index.Record) error) error {
	damaged := 0
	for _, uid := range uids {
		rec, err := m.Record(b.ctx, uid)
		if err != nil {
			return fmt.Errorf("UID %d: %w", uid, err)
		}
		if err := each(0, &rec); err != nil {
			return err
		}
	}
	if len(uids) > 0 {
		return nil
	}
	for e, err := range m.Records(b.ctx) {
		if errors.Is(err, index.ErrDamaged) {
			damaged++
			continue
		}
		if err == nil {
			err = each(e.No, &e.Record)
		}
		if err != nil {
			return err
		}
	}
	if damaged > 0 {
		return fmt.Errorf("%s cannot be read and left out: %w", plural(damaged, "record"), index.ErrDamaged)
	}
	return nil
}
