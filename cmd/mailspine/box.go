package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/owner"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
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
			"that holds the files. Nothing is changed, unless the verb says \"writes\". Cyrus's own programs may use the mailbox meanwhile: locks are taken as they take them.",
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
	// owner is the user of the mailbox, "" if unknown; seen the database that has what the owner has seen elsewhere.
	owner, seen string
	// st is the store that it is in, nil without -C; rec is its entry in the list.
	st  *store
	rec mboxdb.Record
	// quota keeps the quota roots of a store that was opened for a change.
	quota *quota.Keeper
	// errOut is where messages go.
	errOut io.Writer
	// damage is why Cyrus would not open the mailbox, set by open.
	damage error
	// as is who this process has become, nil if it is who it was.
	as *owner.Identity
}

// boxExits are the codes of a command that reads the files of a mailbox.
func boxExits(no string) map[int]string {
	return map[int]string{
		exitNo:     no,
		exitDamage: "a file is damaged or lost: what can be read was printed",
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
	b = &box{ctx: cmd.Context(), arg: arg, errOut: cmd.ErrOrStderr()}
	if b.out, err = newOutput(cmd, s); err != nil {
		return nil, err
	}
	if err := notEmpty(cmd, "config", "list", "as"); err != nil {
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
		b.as, err = becomeOwner(f.as, arg, logger)
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
		// Only a change of version needs it, and refuses if it is not known.
		b.seen, _ = st.seenFile(v, rec.Name.User(st.opts.Layout.Namespace))
		return st.filesHere(v, rec)
	})
	if err != nil {
		return nil, st.hint(err)
	}
	b.st, b.rec = st, rec
	b.owner = rec.Name.User(st.opts.Layout.Namespace)
	b.as = st.as
	b.place, err = index.PlaceOf(st.opts.Layout, rec)
	return b, err
}

// open opens the mailbox, calls do, and closes it. Of a mailbox that cannot be opened because a file is damaged or missing
// do is given what there is. The error comes at the end.
func (b *box) open(do func(m *index.Mailbox) error) error {
	m, damage := index.OpenDamaged(b.ctx, vfs.OS(), b.place)
	if m == nil {
		return damage
	}
	if b.damage = damage; errors.Is(damage, fs.ErrNotExist) || errors.Is(damage, index.ErrNotHeader) {
		damage = lostError{damage}
	}
	return errors.Join(damage, do(m), m.Close())
}

// named adds to the error of a command that prints names of flags or rights that these may be wrong. Of a mailbox that
// Cyrus does not open nothing vouches for the checksum in the index.
func (b *box) named(m *index.Mailbox, err error) error {
	doubt := m.VerifyHeaderFile()
	switch {
	case doubt == nil || b.damage != nil:
		return err
	case err != nil:
		return errors.Join(err, doubt)
	}
	return &exitError{exitNo, &advisedError{doubt, "names of flags and rights may be wrong; mailspine mailbox info prints the rights that the list has"}}
}

const headerDoubt = "cyrus.header is not the file of which the index has the checksum: it was printed, and may be wrong"

// lostError says that a file is lost without which Cyrus does not open the mailbox. To those who read it that is damage.
type lostError struct{ error }

func (e lostError) Is(target error) bool { return target == index.ErrDamaged }

func (e lostError) Unwrap() error { return e.error }

// hint adds to an error what to do about it.
func (b *box) hint(err error) error {
	if errors.Is(err, syscall.EACCES) {
		return (&session{ctx: b.ctx, as: b.as}).hint(err)
	}
	var coded *exitError
	if err == nil || errors.As(err, &coded) || !errors.Is(err, index.ErrDamaged) && !errors.Is(err, index.ErrNotHeader) {
		return err
	}
	return &advisedError{err, "mailspine index check shows all that is wrong, mailspine index dump every byte of the index"}
}

// records calls each for the records with the UIDs given, all of them if none is. A damaged record does not hide the
// others: it is counted, and the error comes at the end.
func (b *box) records(m *index.Mailbox, uids []index.UID, each func(no index.RecordNo, r *index.Record) error) error {
	if len(uids) == 0 || b.damage != nil {
		// In a damaged index UIDs may be in any order, and a search misses some.
		return b.allRecords(m, uids, each)
	}
	for _, uid := range uids {
		rec, err := m.Record(b.ctx, uid)
		if err != nil {
			return fmt.Errorf("UID %d: %w", uid, err)
		}
		if err := each(0, &rec); err != nil {
			return err
		}
	}
	return nil
}

// allRecords reads all records, and calls each for those with the UIDs given, or for all.
func (b *box) allRecords(m *index.Mailbox, uids []index.UID, each func(no index.RecordNo, r *index.Record) error) error {
	damaged, missing := 0, slices.Clone(uids)
	for e, err := range m.Records(b.ctx) {
		if errors.Is(err, index.ErrDamaged) {
			damaged++
			continue
		}
		if err == nil && (len(uids) == 0 || slices.Contains(uids, e.UID)) {
			missing = slices.DeleteFunc(missing, func(uid index.UID) bool { return uid == e.UID })
			err = each(e.No, &e.Record)
		}
		if err != nil {
			return err
		}
	}
	var err error
	if damaged > 0 {
		err = fmt.Errorf("%s cannot be read and left out: %w", plural(damaged, "record"), index.ErrDamaged)
	}
	for _, uid := range missing {
		err = errors.Join(err, fmt.Errorf("UID %d: %w", uid, index.ErrNotFound))
	}
	return err
}
