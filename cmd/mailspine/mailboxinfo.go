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
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

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
	Unseen        *uint32      `json:"unseen,omitempty"`
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
	m.Status = &statusJSON{h.Exists, unseen(&h), h.UIDValidity, uint64(h.LastUID) + 1, h.HighestModSeq, h.QuotaUsed}
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
			return st.each(v, args, byID, func(rec mboxdb.Record) error {
				boxes = append(boxes, st.describe(v, rec))
				return nil
			})
		})
		// Cyrus locks a mailbox before the list, so the list must not be held here.
		l := newList(st.out)
		for i := range boxes {
			boxes[i].status(st.ctx, st.opts.Layout)
			if e := st.printBox(l, &boxes[i]); err == nil {
				err = e
			}
		}
		return l.end(err)
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

func (st *store) describe(v *mboxdb.View, rec mboxdb.Record) (m mailboxJSON) {
	layout := st.opts.Layout
	m.Mailbox = rec
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
	return m
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
		row("status", "%s, %sUIDNEXT %d, highest modseq %d, %s", plural(int64(s.Messages), "message"), unseenText(s.Unseen), s.UIDNext, s.HighestModSeq, size(int64(s.Bytes)))
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
			return usageError("--kind is messages, archive, header, index, cache or annotations, not %q", kind)
		}
		l := newList(st.out)
		err := st.view(func(_ *mboxdb.List, v *mboxdb.View) error {
			return st.each(v, args, false, func(rec mboxdb.Record) error {
				if err := st.filesHere(v, rec); err != nil {
					return err
				}
				paths := st.paths(rec)
				if paths[kind] == "" {
					if _, err := st.opts.Layout.MessageDir(rec, false); err != nil {
						return err
					}
					paths[kind] = paths["messages"] // there is no archive partition
				}
				if !st.out.text() {
					return l.add(map[string]any{"name": st.show(rec.Name), "paths": paths})
				}
				_, err := fmt.Fprintln(l.w, paths[kind])
				return err
			})
		})
		return l.end(err)
	})
}
