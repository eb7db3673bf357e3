package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/mboxdb"
	mailstore "github.com/mailspine/mailspine/store"
)

// openStore opens the store for changes, or for what they would be.
func (st *store) openStore(dry bool) (*mailstore.Store, error) {
	return mailstore.Open(st.ctx, st.config, st.storeOptions(dry))
}

func (st *store) storeOptions(dry bool) mailstore.Options {
	o := mailstore.Options{Logger: st.opts.DB.Logger, ReadOnly: dry, Progress: st.opts.DB.Progress}
	if st.fileGiven {
		o.List = st.path
	}
	return o
}

// change opens the store, lets do change it, and prints what came of it, also of what was done before an error.
func (st *store) change(dry bool, did string, do func(s *mailstore.Store) ([]mailstore.Moved, error)) (err error) {
	s, err := st.openStore(dry)
	if err != nil {
		return err
	}
	st.line.Clear()
	defer func() { err = errors.Join(err, s.Close()) }()
	moved, err := do(s)
	if len(moved) == 0 && err != nil {
		return st.changeAdvice(err)
	}
	if dry {
		did = "would be " + did
	}
	return errors.Join(st.out.result(st.changedJSON(dry, moved), func(w io.Writer) { st.printMoved(w, did, moved) }), st.changeAdvice(err))
}

// changedJSON is the JSON of a change of mailboxes.
type changedJSON struct {
	DryRun    bool        `json:"dry_run"`
	Mailboxes []movedJSON `json:"mailboxes"`
}

type movedJSON struct {
	// Name is the new name, empty if the mailbox is gone; Former the one before, if it was another.
	Name    string         `json:"name,omitempty"`
	Former  string         `json:"former_name,omitempty"`
	Mailbox *mboxdb.Record `json:"mailbox,omitempty"`
	// QuotaRoot and FormerQuotaRoot are the quota roots that the mailbox counts for.
	QuotaRoot       string `json:"quota_root,omitempty"`
	FormerQuotaRoot string `json:"former_quota_root,omitempty"`
}

func (st *store) changedJSON(dry bool, moved []mailstore.Moved) changedJSON {
	c := changedJSON{DryRun: dry, Mailboxes: []movedJSON{}}
	for i := range moved {
		m := &moved[i]
		j := movedJSON{QuotaRoot: m.QuotaAfter, FormerQuotaRoot: m.QuotaBefore}
		if !m.After.Name.IsZero() {
			j.Name, j.Mailbox = st.show(m.After.Name), &m.After
		}
		if !m.Before.Name.IsZero() && m.Before.Name != m.After.Name {
			j.Former = st.show(m.Before.Name)
		}
		c.Mailboxes = append(c.Mailboxes, j)
	}
	return c
}

func (st *store) printMoved(w io.Writer, did string, moved []mailstore.Moved) {
	for _, m := range moved {
		switch {
		case m.Before.Name.IsZero():
			fmt.Fprintf(w, "%s: %s\n", st.show(m.After.Name), did)
		case m.After.Name.IsZero() || m.Before.Name == m.After.Name:
			fmt.Fprintf(w, "%s: %s\n", st.show(m.Before.Name), did)
		default:
			fmt.Fprintf(w, "%s: %s; it is %s now\n", st.show(m.Before.Name), did, st.show(m.After.Name))
		}
	}
}

// changeAdvice adds to an error of a change what to do about it.
func (st *store) changeAdvice(err error) error {
	advice := ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mailstore.ErrConversations):
		advice = "use cyradm, which keeps it up; nothing was changed"
	case errors.Is(err, mailstore.ErrChildren):
		advice = "--recursive deletes them, too; nothing was changed"
	case errors.Is(err, mailstore.ErrNoUser):
		advice = "create the INBOX of the user first; nothing was changed"
	case errors.Is(err, index.ErrOverQuota):
		advice = "nothing was changed"
	case errors.Is(err, mailstore.ErrInbox):
		advice = "use cyradm and allowusermoves; nothing was changed"
	case errors.Is(err, mailstore.ErrNotEmpty):
		advice = "whose they are is not in the list: move them away, or let Cyrus's reconstruct find the mailbox; nothing was changed"
	}
	if advice != "" {
		err = &advisedError{err, advice}
	}
	for _, no := range []error{mboxdb.ErrExists, mailstore.ErrChildren, mailstore.ErrNoUser} {
		if errors.Is(err, no) {
			return &exitError{exitNo, err}
		}
	}
	return err
}

// changeExits are the codes of a command that changes mailboxes.
func changeExits(no string) map[int]string {
	exits := writeExits("")
	exits[exitNo] = no
	exits[exitQuota] = "a quota has no room for it; nothing was changed"
	return exits
}

func dryFlag(c *cobra.Command, dry *bool) {
	c.Flags().BoolVarP(dry, "dry-run", "n", false, "say what would be done, and do nothing")
}

func (f *storeFlags) createCommand(s streams) *cobra.Command {
	var dry bool
	var m mailstore.NewMailbox
	var acl []string
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a mailbox: directory, header, index and entry in the list, in one step; writes",
		Long: "Create a mailbox: its directory, its files and its entry in the list, in one step that a crash leaves whole or absent.\n" +
			"What is missing between it and the INBOX of its user is created, too. A quota root above it is noted in its header.",
		Example: "  mailspine mailbox create -C /etc/imapd.conf user.alice",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&m.Partition, "partition", "", "its partition; that of the mailbox above, or the default one, if not given")
	c.Flags().StringArrayVar(&acl, "acl", nil, "\"IDENTIFIER RIGHTS\", more than once if need be; as of the mailbox above if not given")
	c.Flags().StringVar(&m.UniqueID, "uniqueid", "", "its unique id; chosen if not given")
	c.Flags().Uint32Var(&m.UIDValidity, "uidvalidity", 0, "its UIDVALIDITY; chosen if not given, and raised if it was used under this name")
	dryFlag(c, &dry)
	return f.storeCommand(s, c, changeExits("there is a mailbox of this name, or its user has no INBOX"), func(st *store, args []string) (err error) {
		if err := notEmpty(c, "partition", "uniqueid"); err != nil {
			return err
		}
		m.DryRun = dry
		if m.Name, err = st.name(args[0]); err != nil {
			return err
		}
		if m.ACL, err = st.parseACL(acl); err != nil {
			return err
		}
		return st.change(dry, "created", func(s *mailstore.Store) ([]mailstore.Moved, error) { return s.Create(st.ctx, m) })
	})
}

// rightsWords are the words of cyradm for rights.
var rightsWords = map[string]string{
	"none": "", "read": "lrs", "post": "lrsp", "append": "lrsip", "write": "lrswipkxte", "delete": "lrxte", "all": "lrswipkxtea",
}

// spelledOut are the rights that a word stands for, or else the word.
func spelledOut(rights string) string {
	if r, ok := rightsWords[rights]; ok {
		return r
	}
	return rights
}

// parseACL reads pairs of identifier and rights; nil if there are none.
func (st *store) parseACL(pairs []string) (acl mboxdb.ACL, err error) {
	for _, pair := range pairs {
		words := strings.Fields(pair)
		if len(words) != 2 {
			return nil, usageError("--acl %q: wanted an identifier and rights, such as \"anyone lrs\"", pair)
		}
		rights, err := st.opts.ACL.ParseRights(spelledOut(words[1]))
		if err != nil {
			return nil, usageError("--acl %q: %w", pair, err)
		}
		if acl, err = st.opts.ACL.Set(acl, words[0], mboxdb.ReplaceRights, rights); err != nil {
			return nil, usageError("--acl %q: %w", pair, err)
		}
	}
	return acl, nil
}

func (f *storeFlags) renameCommand(s streams) *cobra.Command {
	var dry bool
	var r mailstore.Renaming
	c := &cobra.Command{
		Use:   "rename NAME NEW",
		Short: "Rename a mailbox and all below it, or move them to another partition, in one step; writes",
		Long: "Rename a mailbox and all that lie below it, in one step that a crash leaves whole or undone. With --partition they move\n" +
			"there, and NEW may be NAME. Subscriptions stay as they are, as with RENAME of Cyrus. The INBOX of a user is not renamed.",
		Args: cobra.ExactArgs(2),
	}
	c.Flags().StringVar(&r.Partition, "partition", "", "where the mailboxes go; they stay where they are if not given")
	dryFlag(c, &dry)
	return f.storeCommand(s, c, changeExits("NAME is not in the list, or NEW is, or its user has no INBOX"), func(st *store, args []string) (err error) {
		if err := notEmpty(c, "partition"); err != nil {
			return err
		}
		r.DryRun = dry
		names, err := st.names(args)
		if err != nil {
			return err
		}
		r.From, r.To = names[0], names[1]
		return st.change(dry, "renamed", func(s *mailstore.Store) ([]mailstore.Moved, error) {
			moved, err := s.Rename(st.ctx, r)
			return moved, st.advise(err, args[:1])
		})
	})
}

func (f *storeFlags) deleteCommand(s streams) *cobra.Command {
	var d mailstore.Deletion
	c := &cobra.Command{
		Use:   "delete NAME...",
		Short: "Delete mailboxes, delayed or at once, each in one step; writes",
		Long: "Delete mailboxes, each in one step that a crash leaves whole or undone. With \"delete_mode: delayed\" a mailbox goes on\n" +
			"under a name that tells when it was deleted, until Cyrus's cyr_expire removes it. On a full disk this works out of a\n" +
			"reserve. What a user has beside mailboxes, such as subscriptions and scripts, stays.",
		Args: cobra.MinimumNArgs(1),
	}
	c.Flags().BoolVar(&d.Recursive, "recursive", false, "delete the mailboxes below it, too")
	c.Flags().BoolVar(&d.Immediate, "immediate", false, "remove the files at once")
	dryFlag(c, &d.DryRun)
	return f.storeCommand(s, c, changeExits("a NAME is not in the list, or has mailboxes below it; the others were deleted"), func(st *store, args []string) error {
		names, err := st.names(args)
		if err != nil {
			return err
		}
		return st.change(d.DryRun, "deleted", func(s *mailstore.Store) (all []mailstore.Moved, err error) {
			for i, name := range names {
				one := d
				one.Name = name
				moved, e := s.Delete(st.ctx, one)
				all, err = append(all, moved...), errors.Join(err, st.advise(e, args[i:i+1]))
				if e != nil && st.ctx.Err() != nil {
					break
				}
			}
			return all, err
		})
	})
}

func (f *storeFlags) setACLCommand(s streams) *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "setacl [flags] NAME IDENTIFIER RIGHTS",
		Short: "Change the rights of an identifier on a mailbox, in the list and in its header; writes",
		Long: "Change the rights of an identifier on a mailbox, in the list, which decides, and in the copy in its header. RIGHTS\n" +
			"replace those that it has; with + or - before them they are added or taken away. They may be a word of cyradm: none, read, post,\n" +
			"append, write, delete, all. Flags come before NAME.",
		Example: "  mailspine mailbox setacl -C /etc/imapd.conf user.alice bob +lrs",
		Args:    cobra.ExactArgs(3),
	}
	dryFlag(c, &dry)
	c.Flags().SetInterspersed(false) // "-w" behind a name takes a right away
	return f.storeCommand(s, c, changeExits("NAME is not in the list"), func(st *store, args []string) error {
		g := mailstore.Grant{Identifier: args[1], Mode: mboxdb.ReplaceRights, DryRun: dry}
		rights := args[2]
		switch {
		case strings.HasPrefix(rights, "+"):
			g.Mode, rights = mboxdb.AddRights, rights[1:]
		case strings.HasPrefix(rights, "-"):
			g.Mode, rights = mboxdb.RemoveRights, rights[1:]
		}
		rights = spelledOut(rights)
		var err error
		if g.Rights, err = st.opts.ACL.ParseRights(rights); err != nil {
			return usageError("%w", err)
		}
		if g.Name, err = st.name(args[0]); err != nil {
			return err
		}
		return st.change(dry, "changed", func(s *mailstore.Store) ([]mailstore.Moved, error) {
			moved, err := s.SetACL(st.ctx, g)
			return moved, st.advise(err, args[:1])
		})
	})
}
