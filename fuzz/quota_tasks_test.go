package fuzz

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/store"
)

// accountAnswers are what a process may be told while others rename, delete and fill up the same mailboxes.
var accountAnswers = []error{mboxdb.ErrNotFound, mboxdb.ErrExists, mboxdb.ErrName, mboxdb.ErrChanged, index.ErrNotFound, index.ErrGone, index.ErrOverQuota,
	quota.ErrNotFound, quota.ErrNoMailbox, store.ErrNoUser, store.ErrChildren, store.ErrInbox, store.ErrNotEmpty, store.ErrElsewhere, fs.ErrNotExist, errMoved}

func isAccountAnswer(err error) bool {
	return slices.ContainsFunc(accountAnswers, func(a error) bool { return errors.Is(err, a) })
}

// spoil makes something wrong, as it was after the outage.
func (r *accountRun) spoil(disk *simfs.FS, o accountOp) error {
	roots := r.k.roots(disk)
	edit := func(f func(text *rootText)) error {
		b, err := vfs.ReadFile(disk, roots.path(o.roots[0]))
		if err != nil {
			return err
		}
		text, err := parseRoot(string(b))
		if err != nil {
			return err
		}
		f(&text)
		return writeWhole(disk, roots.path(o.roots[0]), text.String())
	}
	switch o.what {
	case "limit":
		if err := r.oneRoot(disk, o.roots[0]); err != nil {
			return err
		}
		return edit(func(text *rootText) { text.limits[1] = fmt.Sprintf(" %d", text.used.messages+o.n) })
	case "number":
		return edit(func(text *rootText) { text.used = tally{o.n, o.n / 2, o.n / 3, o.n % 10} })
	case "scan":
		return edit(func(text *rootText) { text.under, text.scan, text.sums = true, o.box, tally{o.n, 1, 0, 1} })
	case "left over":
		return writeWhole(disk, roots.path(o.roots[0])+".NEW", "%(S (99")
	}
	st, err := r.k.openBare(disk)
	if err != nil {
		return err
	}
	defer st.Close()
	m, err := st.open(ctx, o.box, index.OpenOptions{})
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Update(ctx, func(tx *index.Tx) error {
		return tx.EditHeaderFile(func(h *index.HeaderFile) error {
			h.QuotaRoot = o.other
			return nil
		})
	})
}

// oneRoot has one root count for the mailboxes of all users. Changes of one user's mailboxes come one after the other by his lock.
func (r *accountRun) oneRoot(disk *simfs.FS, root string) error {
	roots := r.k.roots(disk)
	for _, old := range accountOldRoots {
		if !strings.HasPrefix(old, root+".") {
			continue
		}
		if err := disk.Unlink(roots.path(old)); err != nil {
			return err
		}
	}
	text := rootText{modseq: 1}
	if err := writeWhole(disk, roots.path(root), text.String()); err != nil {
		return err
	}
	return r.countAll(disk, "before")
}

// bareStore has mailboxes, and nobody who counts them.
type bareStore struct {
	*mboxdb.List
	fs vfs.FS
}

func (k *accountKind) openBare(fsys vfs.FS) (*bareStore, error) {
	path, opts := mboxdb.Configured(k.config)
	opts.DB.FS, opts.DB.ReadOnly = fsys, true
	l, err := mboxdb.Open(ctx, path, opts)
	return &bareStore{l, fsys}, err
}

func (s *bareStore) open(ctx context.Context, name string, o index.OpenOptions) (*index.Mailbox, error) {
	rec, err := s.Lookup(ctx, mboxdb.InternalName(name))
	if err != nil {
		return nil, err
	}
	p, err := index.PlaceOf(s.Layout(), rec)
	if err != nil {
		return nil, err
	}
	return index.OpenWith(ctx, s.fs, p, o)
}

// perform does what a process has to do.
func (r *accountRun) perform(ctx context.Context, view *simfs.FS, i int, p accountProcess) (err error) {
	if p.kind == "cyrus" {
		return r.asCyrus(ctx, view, i, p.ops)
	}
	st, err := r.k.open(ctx, view, i)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	for n, o := range p.ops {
		var err error
		switch p.kind {
		case "mail":
			err = mail(ctx, st, o)
		case "tree":
			err = plant(ctx, st, o)
		case "quota":
			err = r.limit(ctx, st, o)
		case "recalculate":
			err = r.recalculate(ctx, st, o)
		}
		if err != nil && !isAccountAnswer(err) {
			return fmt.Errorf("%d, %v: %w", n, o, err)
		}
	}
	return nil
}

// mail changes messages.
func mail(ctx context.Context, st *store.Store, o accountOp) (err error) {
	m, err := st.OpenMailbox(ctx, mboxdb.InternalName(o.box))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if o.what == "copy" || o.what == "move" {
		to, err := st.OpenMailbox(ctx, mboxdb.InternalName(o.other))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, to.Close()) }()
		uid, err := pickMessage(m.Records(ctx), o.n, func(rec *index.Record) bool { return !rec.Expunged() })
		if err != nil {
			return err
		}
		_, err = index.Copy(ctx, m, to, []index.UID{uid}, index.CopyOptions{Move: o.what == "move"})
		return err
	}
	return m.Update(ctx, func(tx *index.Tx) error {
		live := func(rec *index.Record) bool { return !rec.Expunged() }
		switch o.what {
		case "deliver":
			for j := range 1 + o.n%2 {
				if _, err := tx.Append(accountMessage(uint64(o.n + j))); err != nil {
					return err
				}
			}
			return nil
		case "cleanup":
			_, err := tx.Cleanup(0)
			return err
		case "unexpunge":
			live = func(rec *index.Record) bool { return rec.Expunged() && rec.Flags&index.FlagUnlinked == 0 }
		}
		uid, err := pickMessage(entries(tx), o.n, live)
		switch {
		case err != nil:
		case o.what == "unexpunge":
			_, err = tx.Unexpunge(uid, index.FlagDeleted)
		case o.what == "remove":
			_, err = tx.Expunge(uid, index.ExpungeImmediate)
		default:
			_, err = tx.Expunge(uid, index.ExpungeDelayed)
		}
		return err
	})
}

func entries(tx *index.Tx) func(yield func(index.Entry, error) bool) {
	return func(yield func(index.Entry, error) bool) {
		for rec, err := range tx.Records() {
			if !yield(index.Entry{Record: rec}, err) {
				return
			}
		}
	}
}

// pickMessage picks one of the messages that fit.
func pickMessage(all func(yield func(index.Entry, error) bool), n int64, fits func(rec *index.Record) bool) (index.UID, error) {
	var uids []index.UID
	for e, err := range all {
		if err != nil {
			return 0, err
		}
		if fits(&e.Record) {
			uids = append(uids, e.UID)
		}
	}
	if len(uids) == 0 {
		return 0, index.ErrNotFound
	}
	return uids[n%int64(len(uids))], nil
}

// plant changes mailboxes.
func plant(ctx context.Context, st *store.Store, o accountOp) (err error) {
	box, other := mboxdb.InternalName(o.box), mboxdb.InternalName(o.other)
	switch o.what {
	case "create":
		_, err = st.Create(ctx, store.NewMailbox{Name: other})
	case "rename":
		_, err = st.Rename(ctx, store.Renaming{From: box, To: other})
	default:
		_, err = st.Delete(ctx, store.Deletion{Name: box, Recursive: true, Immediate: o.what == "delete now"})
	}
	return err
}

// asCyrus changes mailboxes as the real Cyrus does.
func (r *accountRun) asCyrus(ctx context.Context, view *simfs.FS, i int, ops []accountOp) error {
	path, opts := mboxdb.Configured(r.k.config)
	opts.DB.FS, opts.DB.ReadOnly = view, true
	list, err := mboxdb.Open(ctx, path, opts)
	if err != nil {
		return err
	}
	c := &cyrusWriter{fs: view, list: list, layout: opts.Layout, roots: r.k.roots(view), rng: rand.New(rand.NewPCG(r.seed, uint64(i)))}
	for n, o := range ops {
		c.old = o.n == 1
		names := []string{o.box}
		if o.other != "" {
			names = append(names, o.other)
		}
		if err := c.change(ctx, o.what, names...); err != nil && !isAccountAnswer(err) {
			return fmt.Errorf("%d, %v: %w", n, o, err)
		}
	}
	return list.Close()
}

// limit sets the limits of a root, or deletes it. Until that is answered either may be true.
func (r *accountRun) limit(ctx context.Context, st *store.Store, o accountOp) error {
	root, want := o.roots[0], fmt.Sprintf(" %d", o.n)
	if o.what == "unset" {
		want = "gone"
	}
	r.mu.Lock()
	if len(r.limits[root]) == 0 {
		r.limits[root] = []string{"gone"}
	}
	r.limits[root] = append(r.limits[root], want)
	r.mu.Unlock()
	err := setLimit(ctx, st, root, o.what == "unset", o.n)
	if err != nil {
		return err
	}
	if r.power == 0 {
		r.mu.Lock()
		r.limits[root] = []string{want}
		r.mu.Unlock()
	}
	return nil
}

// recalculate counts roots.
func (r *accountRun) recalculate(ctx context.Context, st *store.Store, o accountOp) error {
	err := recalculateRoots(ctx, st, o)
	if err != nil || o.what == "plan" {
		return err
	}
	roots := o.roots
	if o.what == "under" {
		roots = nil
		for _, root := range slices.Concat(accountOldRoots, accountNewRoots) {
			if slices.ContainsFunc(o.roots, func(top string) bool { return root == top || strings.HasPrefix(root, top+".") }) {
				roots = append(roots, root)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() == nil {
		r.counts = append(r.counts, accountCount{all: o.what == "all", roots: roots})
	}
	return nil
}
