package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/mboxdb"
)

func live(f index.Flags) bool { return f&index.FlagExpunged == 0 }

const setHelp = "\n\nUIDs are single numbers and ranges, as 1:5,9 or 7:*. What a range names need not be there; a number by itself has to."

func (f *boxFlags) flagCommand(s streams) *cobra.Command {
	var dry bool
	var since uint64
	change := map[string]*string{}
	c := &cobra.Command{
		Use: "flag MAILBOX UID...", Short: "Add, remove or replace flags of messages, all in one transaction; writes",
		Long: "Change flags of messages, of all of them or of none, and print UID, modification sequence and flags of each, with tabs\n" +
			"between. A flag is one of \\Answered, \\Flagged, \\Deleted, \\Draft, \\Seen, or a name. \\Seen is that of the owner." + setHelp,
		Example: "  mailspine message flag -C /etc/imapd.conf user.alice 1:5,9 --add '\\Flagged $Work'",
		Args:    cobra.MinimumNArgs(2),
	}
	for i, name := range []string{"add", "remove", "replace"} {
		change[name] = c.Flags().String(name, "", []string{"flags to set", "flags to clear", "flags to set, and all others to clear; may be empty; not beside the other two"}[i])
	}
	c.Flags().Uint64Var(&since, "unchanged-since", 0, "leave alone what has changed since this modification sequence, and end with status 1")
	dryFlag(c, &dry)
	return f.command(s, c, messageExits("there is no such mailbox or message, or one has changed since --unchanged-since, and was left alone"), func(b *box, args []string) error {
		var changes []index.FlagChange
		for i, name := range []string{"replace", "add", "remove"} {
			if !c.Flags().Changed(name) {
				continue
			}
			sys, user, err := parseFlags(*change[name])
			if err != nil {
				return err
			}
			changes = append(changes, index.FlagChange{Op: []index.FlagOp{index.ReplaceFlags, index.AddFlags, index.RemoveFlags}[i], Flags: sys, User: user})
		}
		if len(changes) > 1 && c.Flags().Changed("replace") {
			return usageError("--replace sets the flags that there are to be: no --add and no --remove beside it")
		}
		if len(changes) == 0 {
			return usageError("nothing to do: give --add, --remove or --replace")
		}
		if since == 0 && c.Flags().Changed("unchanged-since") {
			return usageError("--unchanged-since is a modification sequence, from 1 on")
		}
		set, err := parseUIDSet(args)
		if err != nil {
			return err
		}
		return b.changeable(func(m *index.Mailbox) error { return b.setFlags(m, set, changes, index.ModSeq(since), dry) })
	})
}

// setFlags makes the changes, one after the other, of each message.
func (b *box) setFlags(m *index.Mailbox, set uidSet, changes []index.FlagChange, since index.ModSeq, dry bool) error {
	uids, err := messagesOf(b.ctx, m, set, live)
	if err != nil {
		return err
	}
	done := messagesJSON{DryRun: dry}
	err = b.update(m, dry, func(tx *index.Tx) error {
		done.Messages, done.Modified = nil, nil
		for _, uid := range uids {
			var rec index.Record
			for i, c := range changes {
				if i == 0 {
					c.UnchangedSince = since
				}
				if rec, err = tx.SetFlags(uid, c); err != nil {
					break
				}
			}
			if errors.Is(err, index.ErrModified) {
				done.Modified = append(done.Modified, uid)
				continue
			}
			if err != nil {
				return err
			}
			done.Messages = append(done.Messages, messageDoneJSON{UID: uid, ModSeq: uint64(rec.ModSeq), Flags: shownFlags(tx.HeaderFile(), &rec)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = b.printChanged(m, done, func(d *messageDoneJSON) string {
		return fmt.Sprintf("%d\t%d\t%s", d.UID, d.ModSeq, strings.Join(d.Flags, " "))
	})
	if err == nil && len(done.Modified) > 0 {
		err = &exitError{exitNo, fmt.Errorf("%s changed since and left alone, such as UID %d: %w", plural(len(done.Modified), "message"), done.Modified[0], index.ErrModified)}
	}
	return err
}

// shownFlags are the flags of a record as a client sees them.
func shownFlags(h *index.HeaderFile, r *index.Record) []string {
	names := (r.Flags & (index.FlagAnswered | index.FlagFlagged | index.FlagDeleted | index.FlagDraft | index.FlagSeen)).Names()
	for n, name := range h.Flags {
		if name != "" && r.UserFlags.Has(n) {
			names = append(names, name)
		}
	}
	return append([]string{}, names...)
}

func (f *boxFlags) expungeCommand(s streams) *cobra.Command {
	var immediate bool
	c := &cobra.Command{
		Use: "expunge MAILBOX UID...", Short: "Expunge messages, delayed or at once, all in one transaction; writes",
		Long: "Expunge messages, \\Deleted or not, all of them or none, and print their UIDs. With \"expunge_mode: delayed\", the default,\n" +
			"their files stay until cyr_expire removes them, and message unexpunge restores them. It works on a full disk." + setHelp,
	}
	c.Flags().BoolVar(&immediate, "immediate", false, "remove the files at once, whatever expunge_mode says")
	return f.eachCommand(s, c, "there is no such mailbox or message", live, uidLine, func(b *box, tx *index.Tx, uid index.UID) (messageDoneJSON, error) {
		rec, err := tx.Expunge(uid, b.expungeMode(immediate))
		return messageDoneJSON{UID: uid, ModSeq: uint64(rec.ModSeq)}, err
	})
}

// expungeMode is what the store is configured for.
func (b *box) expungeMode(immediate bool) index.ExpungeMode {
	if immediate || b.st != nil && b.st.config.Enum("expunge_mode") != "delayed" {
		return index.ExpungeImmediate
	}
	return index.ExpungeDelayed
}

func (f *boxFlags) unexpungeCommand(s streams) *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use: "unexpunge MAILBOX UID...", Short: "Restore expunged messages whose files are still there, under new UIDs; writes",
		Long: "Restore expunged messages whose files are still there, all of them or none, and print old and new UID of each with a tab\n" +
			"between. mailspine index records shows which are expunged." + setHelp,
	}
	c.Flags().BoolVar(&keep, "keep-deleted", false, "leave \\Deleted set, so that the next EXPUNGE of a client takes them again")
	restorable := func(f index.Flags) bool { return f&(index.FlagExpunged|index.FlagUnlinked) == index.FlagExpunged }
	return f.eachCommand(s, c, "there is no such mailbox, or no such expunged message", restorable, fromLine, func(_ *box, tx *index.Tx, uid index.UID) (messageDoneJSON, error) {
		drop := index.FlagDeleted
		if keep {
			drop = 0
		}
		rec, err := tx.Unexpunge(uid, drop)
		return messageDoneJSON{UID: rec.UID, From: uid, ModSeq: uint64(rec.ModSeq)}, err
	})
}

// eachCommand is a command that does something to each message of a set, in one transaction, and prints it.
func (f *boxFlags) eachCommand(s streams, c *cobra.Command, no string, wanted func(index.Flags) bool, line func(*messageDoneJSON) string,
	do func(b *box, tx *index.Tx, uid index.UID) (messageDoneJSON, error)) *cobra.Command {
	var dry bool
	c.Args = cobra.MinimumNArgs(2)
	dryFlag(c, &dry)
	return f.command(s, c, messageExits(no), func(b *box, args []string) error {
		set, err := parseUIDSet(args)
		if err != nil {
			return err
		}
		return b.changeable(func(m *index.Mailbox) error {
			uids, err := messagesOf(b.ctx, m, set, wanted)
			if err != nil {
				return err
			}
			done := messagesJSON{DryRun: dry}
			err = b.update(m, dry, func(tx *index.Tx) error {
				done.Messages = nil
				for _, uid := range uids {
					d, err := do(b, tx, uid)
					if err != nil {
						return err
					}
					done.Messages = append(done.Messages, d)
				}
				return nil
			})
			if err != nil {
				return err
			}
			return b.printChanged(m, done, line)
		})
	})
}

func (f *boxFlags) transferCommand(s streams, move bool) *cobra.Command {
	verb, what := "copy", "Copy messages to another mailbox"
	extra := "Originals and copies share their files where both mailboxes are on one partition."
	if move {
		verb, what = "move", "Move messages to another mailbox"
		extra = "The copies are committed first: a crash in between leaves both."
	}
	c := &cobra.Command{
		Use: verb + " MAILBOX UID... TO", Short: what + ", all in one transaction; writes",
		Long: what + ", all of them or none, and print old and new UID of each with a tab between. Flags and time of\n" +
			"arrival stay. " + extra + setHelp,
		Args: cobra.MinimumNArgs(3),
	}
	return f.command(s, c, messageExits("there is no such mailbox or message"), func(b *box, args []string) error {
		last := len(args) - 1
		set, err := parseUIDSet(args[:last])
		if err != nil {
			return err
		}
		to, err := f.another(b, args[last])
		if err != nil {
			return err
		}
		o := index.CopyOptions{Move: move, Expunge: b.expungeMode(false)}
		return b.changeable(func(m *index.Mailbox) error {
			return to.changeable(func(target *index.Mailbox) error { return b.transfer(m, target, to.arg, set, o) })
		})
	})
}

// another finds a second mailbox in the same store.
func (f *boxFlags) another(b *box, arg string) (*box, error) {
	to := *b
	to.arg = arg
	if b.st == nil {
		to.place = index.PlaceIn(arg)
		return &to, nil
	}
	err := b.st.view(func(_ *mboxdb.List, v *mboxdb.View) (err error) {
		if to.rec, err = b.st.find(v, arg, false); err != nil {
			return err
		}
		return b.st.filesHere(v, to.rec)
	})
	if err != nil {
		return nil, b.st.hint(err)
	}
	to.place, err = index.PlaceOf(b.st.opts.Layout, to.rec)
	return &to, err
}

func (b *box) transfer(m, target *index.Mailbox, name string, set uidSet, o index.CopyOptions) error {
	uids, err := messagesOf(b.ctx, m, set, live)
	if err != nil {
		return err
	}
	copied, err := index.Copy(b.ctx, m, target, uids, o)
	if err != nil && len(copied) == 0 {
		return err
	}
	done := messagesJSON{To: name}
	for _, c := range copied {
		done.Messages = append(done.Messages, messageDoneJSON{UID: c.To, From: c.From})
	}
	if err != nil {
		err = &exitError{exitFailed, &advisedError{err, "both mailboxes have the messages now: run message expunge, and not this again"}}
	}
	return errors.Join(b.printChanged(target, done, fromLine), err)
}
