package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/mboxdb"
)

func newMailbox(s streams) *cobra.Command {
	var f storeFlags
	c := &cobra.Command{
		Use:   "mailbox",
		Short: "Work on the mailbox list of a Cyrus store",
		Long: "Work on the mailbox list of a Cyrus store, which -C configures: Cyrus's own programs may use it meanwhile.\n\n" +
			"Names are given and printed as an administrator sees them. Verbs only read, unless they say \"writes\"; of a damaged\n" +
			"list they read what was committed before the damage.",
		Args: cobra.ArbitraryArgs,
		RunE: needsCommand,
	}
	f.add(c.PersistentFlags())
	c.AddCommand(f.listCommand(s), f.infoCommand(s), f.pathCommand(s), f.mailboxCheckCommand(s), f.dumpCommand(s), f.undumpCommand(s), f.upgradeCommand(s))
	c.AddCommand(f.createCommand(s), f.renameCommand(s), f.deleteCommand(s), f.setACLCommand(s))
	return c
}

// storeExits are the codes of a command that reads a store.
func storeExits(no string) map[int]string {
	return map[int]string{
		exitNo:     no,
		exitDamage: "the list is damaged: what was committed before the damage was read",
		exitFailed: "the list or the configuration cannot be read",
	}
}

func (f *storeFlags) listCommand(s streams) *cobra.Command {
	var user string
	var groups []string
	var all, long bool
	c := &cobra.Command{
		Use:   "list [NAME...]",
		Short: "Print the names of mailboxes",
		Long: "Print the names of mailboxes, all if no NAME is given. A NAME may be a pattern, in which * stands for anything, and %\n" +
			"for anything without a separator. With --user they are those that this user's LIST shows, by the names that the\n" +
			"user sees. '' alone asks for the separator, and is answered as in IMAP.",
		Example: "  mailspine mailbox list -C /etc/imapd.conf 'user.alice*'",
	}
	c.Flags().StringVar(&user, "user", "", "list as this user")
	c.Flags().StringSliceVar(&groups, "group", nil, "with --user: a group of the user, as \"group:NAME\" (more than once, if need be)")
	c.Flags().BoolVarP(&all, "all", "a", false, "also tombstones and reserved names")
	c.Flags().BoolVarP(&long, "long", "l", false, "with type, unique id, partition and ACL")
	return f.storeCommand(s, c, storeExits("no name matches a pattern, or a NAME is not there"), func(st *store, args []string) error {
		if all && (user != "" || len(args) > 0) {
			return usageError("--all goes with neither --user nor a NAME")
		}
		if err := notEmpty(c, "user", "group"); err != nil {
			return err
		}
		if len(groups) > 0 && user == "" {
			return usageError("--group goes with --user")
		}
		p := &namePrinter{st: st, list: newList(st.out), long: long}
		err := st.view(func(_ *mboxdb.List, v *mboxdb.View) error {
			if all {
				return p.entries(v)
			}
			viewer := mboxdb.Viewer{Namespace: st.opts.Layout.Namespace, Groups: groups}
			viewer.Namespace.User, viewer.Namespace.Admin = user, user == ""
			if len(args) == 0 {
				args = []string{"*"}
			}
			return p.listed(v, viewer, args)
		})
		if err == nil {
			err = st.missing(args, p.seen, user)
		}
		if err = p.list.end(err); err == nil && p.list.n == 0 && len(args) > 0 && args[0] != "*" {
			return &exitError{exitNo, nil}
		}
		return err
	})
}

// missing is an error for the names among args, those without wildcards, that were not seen by a user or, if that is empty,
// an administrator.
func (st *store) missing(args []string, seen map[string]bool, user string) (err error) {
	var names []string
	for _, arg := range args {
		if !seen[arg] && arg != "" && !strings.ContainsAny(arg, "*%") {
			names = append(names, arg)
			err = errors.Join(err, fmt.Errorf("%s: %w", arg, mboxdb.ErrNotFound))
		}
	}
	if err != nil && user != "" {
		return &advisedError{err, "without a name mailspine mailbox list prints what " + user + " sees, and as " + user + " sees it"}
	}
	return st.advise(err, names)
}

// namePrinter prints mailboxes one after the other.
type namePrinter struct {
	st   *store
	list *list
	long bool
	// seen are the names, of those that were asked for, that were printed.
	seen map[string]bool
	// unreadable are the keys of the records that could not be read.
	unreadable map[string]bool
}

// listedJSON is a line of mailbox list in JSON.
type listedJSON struct {
	Name        string         `json:"name"`
	Exists      bool           `json:"exists"`
	HasChildren bool           `json:"has_children"`
	Mailbox     *mboxdb.Record `json:"mailbox,omitempty"`
	// Separator is set in the answer to an empty pattern.
	Separator string `json:"separator,omitempty"`
}

func (p *namePrinter) print(name string, rec *mboxdb.Record, l listedJSON) error {
	if err := p.st.ctx.Err(); err != nil {
		return err
	}
	if !p.st.out.text() {
		return p.list.add(l)
	}
	p.list.n++
	p.list.w.WriteString(name)
	if p.long && rec != nil {
		fmt.Fprintf(p.list.w, "\t%s\t%s\t%s\t%s", rec.Type, rec.UniqueID, rec.Partition, aclText(rec.ACL))
	} else if p.long {
		p.list.w.WriteString("\t-\t\t\t")
	}
	return p.list.w.WriteByte('\n')
}

func (p *namePrinter) entries(v *mboxdb.View) error {
	for rec, err := range v.Entries() {
		if err := p.skip(err); err != nil {
			return err
		}
		if rec.Name.IsZero() {
			continue
		}
		name := p.st.show(rec.Name)
		if err := p.print(name, &rec, listedJSON{Name: name, Exists: rec.Type.Exists(), Mailbox: &rec}); err != nil {
			return err
		}
	}
	return p.end()
}

func (p *namePrinter) listed(v *mboxdb.View, viewer mboxdb.Viewer, patterns []string) error {
	p.seen = map[string]bool{}
	for l, err := range v.List(viewer, patterns...) {
		if err != nil {
			if err := p.skip(err); err != nil {
				return err
			}
			continue
		}
		if l.Name == "" {
			return p.separator(viewer)
		}
		if slices.Contains(patterns, l.Name) {
			p.seen[l.Name] = true
		}
		j := listedJSON{Name: l.Name, Exists: l.Exists, HasChildren: l.HasChildren}
		var rec *mboxdb.Record
		if !l.Record.Name.IsZero() {
			rec, j.Mailbox = &l.Record, &l.Record
		}
		if err := p.print(l.Name, rec, j); err != nil {
			return err
		}
	}
	return p.end()
}

// separator prints the answer to an empty pattern.
func (p *namePrinter) separator(viewer mboxdb.Viewer) error {
	sep := string(viewer.Namespace.Separator())
	if !p.st.out.text() {
		return p.list.add(listedJSON{Separator: sep})
	}
	p.list.n++
	_, err := fmt.Fprintf(p.list.w, "(\\Noselect) %q \"\"\n", sep)
	return err
}

// skip counts records that cannot be read: one of them does not hide the others.
func (p *namePrinter) skip(err error) error {
	var bad *mboxdb.RecordError
	if !errors.As(err, &bad) {
		return err
	}
	if p.unreadable == nil {
		p.unreadable = map[string]bool{}
	}
	p.unreadable[bad.Key] = true
	return nil
}

func (p *namePrinter) end() error {
	if n := len(p.unreadable); n > 0 {
		return &exitError{exitDamage, fmt.Errorf("%s cannot be read and left out; see mailspine mailbox check", plural(n, "record"))}
	}
	return nil
}

func aclText(acl mboxdb.ACL) string {
	words := make([]string, len(acl))
	for i, e := range acl {
		words[i] = e.Identifier + " " + e.Rights
	}
	return strings.Join(words, ", ")
}
