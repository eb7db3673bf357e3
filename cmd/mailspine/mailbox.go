package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/vfs"
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
	for _, verb := range []string{"create", "rename", "delete", "setacl"} {
		c.AddCommand(refusedCommand(verb))
	}
	return c
}

// refusedCommand stands for a change that would leave the list and the files of a mailbox apart.
func refusedCommand(verb string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " NAME ...",
		Short: "Refused: directories, headers and quotas would have to change with the list",
		Long: "Refused. On a Cyrus store a mailbox's directory, header and quota have to change in the same step as its entry in\n" +
			"the list, and this program cannot do that yet. Use Cyrus's own tools (cyradm).\n\n" +
			exitHelp(map[int]string{exitOK: "", exitNo: "", exitDamage: "", exitFailed: "refused; nothing was changed", exitInterrupted: ""}),
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return &advisedError{
				fmt.Errorf("%s is refused: the mailbox's directory, header and quota would not change with the list", verb),
				"use cyradm; nothing was changed",
			}
		},
	}
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
		Use:   "list [PATTERN...]",
		Short: "Print the names of mailboxes",
		Long: "Print the names of mailboxes that match a pattern, all if there is none: * stands for anything, % for anything without\n" +
			"a separator. With --user they are those that this user's LIST shows, by the names that the user sees.",
		Example: "  mailspine mailbox list -C /etc/imapd.conf 'user.alice*'",
	}
	c.Flags().StringVar(&user, "user", "", "list as this user")
	c.Flags().StringSliceVar(&groups, "group", nil, "with --user: a group of the user, as \"group:NAME\" (more than once, if need be)")
	c.Flags().BoolVarP(&all, "all", "a", false, "also tombstones and reserved names")
	c.Flags().BoolVarP(&long, "long", "l", false, "with type, unique id, partition and ACL")
	return f.storeCommand(s, c, storeExits("no name matches"), func(st *store, args []string) error {
		if all && (user != "" || len(args) > 0) {
			return usageError("--all goes with neither --user nor a pattern")
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
		if e := p.list.end(); err == nil {
			err = e
		}
		if err == nil && p.list.n == 0 && len(args) > 0 && args[0] != "*" {
			return &exitError{exitNo, nil}
		}
		return err
	})
}

// namePrinter prints mailboxes one after the other.
type namePrinter struct {
	st   *store
	list *list
	long bool
	// unreadable are the keys of the records that could not be read.
	unreadable map[string]bool
}

// listedJSON is a line of mailbox list in JSON.
type listedJSON struct {
	Name        string         `json:"name"`
	Exists      bool           `json:"exists"`
	HasChildren bool           `json:"has_children"`
	Mailbox     *mboxdb.Record `json:"mailbox,omitempty"`
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
	for l, err := range v.List(viewer, patterns...) {
		if err := p.skip(err); err != nil {
			return err
		}
		if l.Name == "" {
			continue
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

// mailboxJSON is what mailbox info says of a mailbox.
type mailboxJSON struct {
	Mailbox mboxdb.Record `json:"mailbox"`
	// External is the name as an administrator sees it, Owner the user whose mailbox it is.
	External string `json:"external"`
	Owner    string `json:"owner,omitempty"`
	// Paths are the directories and files, by kind.
	Paths map[string]string `json:"paths,omitempty"`
	Locks []string          `json:"locks"`
	// Children is the number of mailboxes below, at any depth.
	Children int `json:"children"`
	// Status is what the header of cyrus.index says, NoStatus why that is not known.
	Status   *statusJSON `json:"status,omitempty"`
	NoStatus string      `json:"status_error,omitempty"`
}

// statusJSON is the status of a mailbox.
type statusJSON struct {
	Messages      uint32       `json:"messages"`
	Unseen        uint32       `json:"unseen"`
	UIDValidity   uint32       `json:"uidvalidity"`
	UIDNext       uint64       `json:"uidnext"`
	HighestModSeq index.ModSeq `json:"highestmodseq"`
	Bytes         uint64       `json:"bytes"`
}

// status reads the status from the index.
func (m *mailboxJSON) status(ctx context.Context, l mboxdb.Layout) {
	if m.Paths == nil {
		return
	}
	h, err := readStatus(ctx, l, m.Mailbox)
	if err != nil {
		m.NoStatus = err.Error()
		return
	}
	m.Status = &statusJSON{h.Exists, h.Unseen, h.UIDValidity, uint64(h.LastUID) + 1, h.HighestModSeq, h.QuotaUsed}
}

func readStatus(ctx context.Context, l mboxdb.Layout, rec mboxdb.Record) (h index.Header, err error) {
	place, err := index.PlaceOf(l, rec)
	if err != nil {
		return h, err
	}
	box, err := index.Open(ctx, vfs.OS(), place)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	header, err := box.Header()
	if err != nil {
		return h, err
	}
	return header.Normalized(), nil
}

func (f *storeFlags) infoCommand(s streams) *cobra.Command {
	var byID bool
	c := &cobra.Command{
		Use:   "info NAME...",
		Short: "Print everything that is known of a mailbox: ACL, former names, paths, locks",
		Args:  cobra.MinimumNArgs(1),
	}
	c.Flags().BoolVar(&byID, "id", false, "the arguments are unique ids")
	return f.storeCommand(s, c, storeExits("there is no such mailbox"), func(st *store, args []string) error {
		var boxes []mailboxJSON
		err := st.view(func(_ *mboxdb.List, v *mboxdb.View) error {
			for _, arg := range args {
				m, err := st.describe(v, arg, byID)
				if err != nil {
					return err
				}
				boxes = append(boxes, m)
			}
			return nil
		})
		// Cyrus locks a mailbox before the list, so the list must not be held here.
		l := newList(st.out)
		for i := range boxes {
			boxes[i].status(st.ctx, st.opts.Layout)
			if e := st.printBox(l, &boxes[i]); err == nil {
				err = e
			}
		}
		if e := l.end(); err == nil {
			err = e
		}
		return err
	})
}

func (st *store) printBox(l *list, m *mailboxJSON) error {
	if !st.out.text() {
		return l.add(m)
	}
	if l.n++; l.n > 1 {
		l.w.WriteByte('\n')
	}
	m.print(l.w)
	return nil
}

// find looks a mailbox up by name or unique id, tombstones too.
func (st *store) find(v *mboxdb.View, arg string, byID bool) (mboxdb.Record, error) {
	if byID {
		return v.LookupID(arg)
	}
	n, err := st.name(arg)
	if err != nil {
		return mboxdb.Record{}, err
	}
	rec, err := v.Entry(n)
	if err != nil || rec.UniqueID == "" {
		return rec, err
	}
	if full, err := v.LookupID(rec.UniqueID); err == nil && full.Name == rec.Name {
		rec.History = full.History
	}
	return rec, nil
}

func (st *store) describe(v *mboxdb.View, arg string, byID bool) (m mailboxJSON, err error) {
	if m.Mailbox, err = st.find(v, arg, byID); err != nil {
		return m, err
	}
	rec, layout := m.Mailbox, st.opts.Layout
	m.External, m.Owner = st.show(rec.Name), rec.Name.User(layout.Namespace)
	if !rec.Type.Deleted() && !rec.Type.Remote() {
		m.Paths = map[string]string{}
		for name, p := range st.paths(rec) {
			m.Paths[name] = p
		}
		m.Locks = []string{layout.LockPath(mboxdb.UserLock(m.Owner)), layout.LockPath(rec.MailboxLock())}
	}
	for _, err := range v.Below(rec.Name) {
		if err == nil {
			m.Children++
		}
	}
	return m, nil
}

// paths are the places of a mailbox's files that are known.
func (st *store) paths(rec mboxdb.Record) map[string]string {
	paths := map[string]string{}
	layout := st.opts.Layout
	if dir, err := layout.MessageDir(rec, false); err == nil {
		paths["messages"] = dir
	}
	if dir, err := layout.MessageDir(rec, true); err == nil && dir != paths["messages"] {
		paths["archive"] = dir
	}
	for _, kind := range []mboxdb.FileKind{mboxdb.HeaderFile, mboxdb.IndexFile, mboxdb.CacheFile, mboxdb.AnnotationsFile} {
		if p, err := layout.Path(rec, kind); err == nil {
			paths[string(kind)] = p
		}
	}
	return paths
}

func (m mailboxJSON) print(w io.Writer) {
	row := rowPrinter(w)
	rec := m.Mailbox
	fmt.Fprintln(w, m.External)
	row("type", "%s (%s)", rec.Type, typeText(rec.Type))
	if m.Owner != "" {
		row("user", "%s", m.Owner)
	}
	row("unique id", "%s", rec.UniqueID)
	if rec.Partition != "" {
		row("partition", "%s", rec.Partition)
	}
	if rec.Server != "" {
		row("server", "%s", rec.Server)
	}
	row("UIDVALIDITY", "%d", rec.UIDValidity)
	if s := m.Status; s != nil {
		row("status", "%s, %d unseen, UIDNEXT %d, highest modseq %d, %s", plural(int64(s.Messages), "message"), s.Unseen, s.UIDNext, s.HighestModSeq, size(int64(s.Bytes)))
	} else if m.NoStatus != "" {
		row("status", "unknown: %s", m.NoStatus)
	}
	row("modseq", "created %d, last change of the mailbox %d", rec.CreatedModSeq, rec.FolderModSeq)
	row("written", "%s", unixTime(rec.Modified))
	for i, e := range rec.ACL {
		row(map[bool]string{true: "ACL"}[i == 0], "%s %s", e.Identifier, e.Rights)
	}
	for i, h := range rec.History {
		row(map[bool]string{true: "former names"}[i == 0], "%s, until %s", h.Name, unixTime(h.Modified))
	}
	for _, kind := range []string{"messages", "archive", "header", "index", "cache", "annotations"} {
		if p := m.Paths[kind]; p != "" {
			row(kind, "%s", p)
		}
	}
	for i, p := range m.Locks {
		row(map[bool]string{true: "locks"}[i == 0], "%s", p)
	}
	row("below it", "%s", plural(m.Children, "mailbox"))
}

func unixTime(t int64) string { return time.Unix(t, 0).UTC().Format("2006-01-02 15:04:05Z") }

// typeText is a type in words.
func typeText(t mboxdb.Type) string {
	words := []string{map[byte]string{'e': "mail", 'n': "news", 'b': "collection", 'c': "calendar", 'a': "address book", 's': "submission",
		'p': "push", 'f': "sieve", 'j': "JMAP"}[(t + "e")[0]]}
	for _, state := range []struct {
		on   bool
		word string
	}{{t.Deleted(), "deleted"}, {t.Moving(), "moving"}, {t.Remote(), "remote"}, {t.Reserved(), "reserved"}, {t.Intermediate(), "intermediate"}, {t.Legacy(), "directory by name"}} {
		if state.on {
			words = append(words, state.word)
		}
	}
	return strings.Join(words, ", ")
}

func (f *storeFlags) pathCommand(s streams) *cobra.Command {
	var kind string
	c := &cobra.Command{
		Use:   "path NAME...",
		Short: "Print the directory of a mailbox, as mbpath does",
		Long: "Print the directory of the messages of a mailbox, as Cyrus's mbpath does; or with --kind the path of another kind of\n" +
			"file. It follows from the list and the configuration: nothing need be there.",
		Args: cobra.MinimumNArgs(1),
	}
	c.Flags().StringVar(&kind, "kind", "messages", "messages, archive, header, index, cache or annotations")
	return f.storeCommand(s, c, storeExits("there is no such mailbox"), func(st *store, args []string) error {
		if !strings.Contains(" messages archive header index cache annotations ", " "+kind+" ") {
			return usageError("unknown kind %q", kind)
		}
		l := newList(st.out)
		err := st.view(func(_ *mboxdb.List, v *mboxdb.View) error {
			for _, arg := range args {
				rec, err := st.find(v, arg, false)
				if err != nil {
					return err
				}
				paths := st.paths(rec)
				if paths[kind] == "" {
					if _, err := st.opts.Layout.MessageDir(rec, false); err != nil {
						return err
					}
					paths[kind] = paths["messages"] // there is no archive partition
				}
				if st.out.text() {
					fmt.Fprintln(l.w, paths[kind])
				} else if err := l.add(map[string]any{"name": st.show(rec.Name), "paths": paths}); err != nil {
					return err
				}
			}
			return nil
		})
		if e := l.end(); err == nil {
			err = e
		}
		return err
	})
}

func (f *storeFlags) mailboxCheckCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Compare the records of the list with each other and with the configuration",
		Long: "Compare the records of the list with each other and with the configuration: those under names and under unique ids,\n" +
			"reverse ACL keys, names, types, rights, partitions. For the file itself see mailspine db check. Nothing is changed.",
		Args: cobra.NoArgs,
	}
	return f.storeCommand(s, c, map[int]string{
		exitOK:     "the list is consistent",
		exitNo:     "something is wrong; no mailbox is out of reach because of it",
		exitDamage: "records cannot be read, or mailboxes cannot be found by them",
		exitFailed: "the check could not be made",
	}, func(st *store, _ []string) error {
		var found []finding.Finding
		err := st.view(func(l *mboxdb.List, _ *mboxdb.View) error {
			return l.Check(st.ctx, func(f finding.Finding) { found = append(found, f) })
		})
		if err != nil {
			return err
		}
		return printFindings(st.out, st.path, found)
	})
}
