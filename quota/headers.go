package quota

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// HeaderFix is a cyrus.header that named another quota root than the one that the mailbox counts for. Changes of the mailbox went
// to the one that it named.
type HeaderFix struct {
	// Mailbox is the internal name. From and To are roots, "" for none.
	Mailbox string `json:"mailbox"`
	From    string `json:"from"`
	To      string `json:"to"`
}

// errMoved means that a mailbox is not any more what it was when its header was found wrong.
var errMoved = errors.New("the mailbox has changed since")

// mend gives a mailbox the header that names its root, in a transaction of the index, which is what keeps every writer out. What
// is right is found out anew under these locks. It returns what was changed; nothing, if nothing is wrong any more.
func (r *run) mend(ctx context.Context, w wrong) (fix *HeaderFix, err error) {
	err = r.k.changeHeader(ctx, w.place, func(h *index.HeaderFile) (*undoLine, error) {
		rec, err := r.k.list.Lookup(ctx, mboxdb.InternalName(w.fix.Mailbox))
		if errors.Is(err, skiplist.ErrDamaged) && !rec.Name.IsZero() {
			err = nil // this record is whole
		}
		if err == nil && rec.UniqueID != w.id {
			err = errMoved
		}
		if err != nil {
			return nil, err
		}
		owner, err := r.k.roots.Owner(ctx, w.fix.Mailbox)
		if err != nil || h.QuotaRoot == owner {
			return nil, err
		}
		fix = &HeaderFix{Mailbox: w.fix.Mailbox, From: h.QuotaRoot, To: owner}
		h.QuotaRoot = owner
		return r.undo.header(fix, w.id)
	}, r.undo)
	if errors.Is(err, errMoved) || errors.Is(err, mboxdb.ErrNotFound) || errors.Is(err, index.ErrGone) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it was renamed or deleted: whoever looks again finds what there is now
	}
	if err != nil {
		return nil, fmt.Errorf("%s: the header still names %q: %w", w.fix.Mailbox, w.fix.From, err)
	}
	return fix, nil
}

// changeHeader changes cyrus.header of a mailbox in a transaction. edit notes the change in a log, and returns the line; without a
// line nothing is changed. Conversations have no part in it.
func (k *Keeper) changeHeader(ctx context.Context, p index.Place, edit func(h *index.HeaderFile) (*undoLine, error), log *undoLog) (err error) {
	m, err := index.OpenWith(ctx, k.fs, p, index.OpenOptions{Participant: index.SettleLater(k), Log: k.logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	var line *undoLine
	err = m.Update(ctx, func(tx *index.Tx) error {
		return tx.EditHeaderFile(func(h *index.HeaderFile) (err error) {
			line, err = edit(h)
			return err
		})
	})
	log.settle(line, err)
	return err
}

// mendTries is how often a header is mended, or found right under the locks after all, before it is left: the files may be under two
// names in the list, which count for two roots, and each would take the header from the other for ever.
const mendTries = 10

// tried counts that the header of a place is about to be mended, and tells whether that was done too often. Of roots that are done for
// the first time this root alone keeps count, and forgets it.
func (w *work) tried(p index.Place) bool {
	r := w.run
	r.mu.Lock()
	defer r.mu.Unlock()
	count := w.tries
	if _, later := r.merged[w.root]; later {
		count = r.tries
	}
	count[p.Paths.Header]++
	return count[p.Paths.Header] > mendTries
}

// mendAll mends the headers of a root's mailboxes. No lock but that of changes of roots is held: with it, nobody is in the middle
// of making a root, who would move the usage of these mailboxes one by one.
func (w *work) mendAll(ctx context.Context, all []wrong) error {
	for _, one := range all {
		var fix *HeaderFix
		err := error(nil)
		if w.tried(one.place) {
			err = fmt.Errorf("%s: the header does not keep the name of %q: another mailbox may have the same files", one.fix.Mailbox, one.fix.To)
		} else {
			fix, err = w.run.mend(ctx, one)
		}
		if e := context.Cause(ctx); e != nil {
			return e
		}
		if err != nil {
			w.unmended[one.fix.Mailbox], w.out.unmended = true, true
			f := memberFinding("header-not-mended", finding.Error, one.place.Paths.Header, err.Error())
			f.Fix = "mend what keeps the header from being written, then run this again"
			w.failed = append(w.failed, f)
			continue
		}
		if fix != nil {
			w.out.Headers = append(w.out.Headers, *fix)
			w.run.moved(w.root, fix)
		}
	}
	return nil
}

// toMend are those of the wrong headers whose mending has not failed already.
func (w *work) toMend(all []wrong) (todo []wrong) {
	for _, one := range all {
		if !w.unmended[one.fix.Mailbox] {
			todo = append(todo, one)
		}
	}
	return todo
}

// strays are mailboxes below the root that count for a root which is not worked on, and whose headers still name this one:
// what changes in them would go on to be added here.
func (w *work) strays(f *family) (all []wrong) {
	for _, o := range f.others {
		place, err := index.PlaceOf(w.run.k.layout, o.Record)
		if err != nil {
			continue
		}
		named, err := headerRoot(w.run.k.fs, place)
		if err == nil && named == w.root {
			all = append(all, wrong{HeaderFix{Mailbox: o.Name.String(), From: named, To: o.owner}, place, o.UniqueID})
		}
	}
	return all
}

// ownerless visits every mailbox that no root owns. A header that names a root which exists is mended, as what changes in the
// mailbox is added to the wrong one; one that names a root which is gone does no harm, and may tell an operator what is missing.
func (r *run) ownerless(ctx context.Context) error {
	l := r.k.lookups(ctx)
	var all []wrong
	err := r.k.list.View(ctx, func(v *mboxdb.View) error {
		for rec, err := range v.All() {
			if err == nil && context.Cause(ctx) != nil {
				err = context.Cause(ctx)
			}
			if errors.Is(err, mboxdb.ErrRecord) {
				continue
			}
			if err != nil {
				return err
			}
			if !counts(rec) {
				continue
			}
			one, err := r.ownerlessOne(l, rec)
			if err != nil {
				return err
			}
			if one != nil {
				all = append(all, *one)
			}
		}
		return nil
	})
	if errors.Is(err, skiplist.ErrDamaged) {
		r.damaged(err) // what a header has to name is not for the list to say
		err = nil
	}
	if err != nil {
		return fmt.Errorf("mailbox list: %w", err)
	}
	return r.clear(ctx, all)
}

// ownerlessOne looks at one mailbox of the list, and returns it if its header is to be cleared.
func (r *run) ownerlessOne(l *lookups, rec mboxdb.Record) (*wrong, error) {
	name := rec.Name.String()
	owner, err := l.owner(name)
	if err != nil || owner != "" {
		return nil, err
	}
	place, err := index.PlaceOf(r.k.layout, rec)
	if err != nil {
		return nil, nil
	}
	named, err := headerRoot(r.k.fs, place)
	if err != nil || named == "" {
		return nil, nil // what cannot be opened changes no usage
	}
	exists, err := l.exists(named)
	if err != nil {
		return nil, err
	}
	if !exists {
		f := memberFinding("root-vanished", finding.Warning, place.Paths.Header, name+" names the quota root "+named+", which does not exist; no other counts for it")
		f.Fix = "make the root again, or leave it: the mailbox has no limit"
		r.problem(f)
		return nil, nil
	}
	return &wrong{HeaderFix{Mailbox: name, From: named}, place, rec.UniqueID}, nil
}

// clear mends the headers of mailboxes that count for no root.
func (r *run) clear(ctx context.Context, all []wrong) error {
	if len(all) == 0 {
		return nil
	}
	if r.req.DryRun {
		for _, one := range all {
			r.cleared(one.fix)
		}
		return nil
	}
	changes, err := r.lockChanges(ctx)
	if err != nil {
		return err
	}
	defer changes.Release()
	for _, one := range all {
		fix, err := r.mend(ctx, one)
		if e := context.Cause(ctx); e != nil {
			return e
		}
		if err != nil {
			r.problem(memberFinding("header-not-mended", finding.Error, one.place.Paths.Header, err.Error()))
		} else if fix != nil {
			r.cleared(*fix)
			r.moved("", fix)
		}
	}
	return nil
}

// namesGone looks at one mailbox, and returns it if no root owns it and its header names this one, which is gone.
func (r *run) namesGone(l *lookups, rec mboxdb.Record, root string) (*wrong, error) {
	name := rec.Name.String()
	owner, err := l.owner(name)
	if err != nil || owner != "" {
		return nil, err
	}
	place, err := index.PlaceOf(r.k.layout, rec)
	if err != nil {
		return nil, nil
	}
	if named, err := headerRoot(r.k.fs, place); err != nil || named != root {
		return nil, nil
	}
	return &wrong{HeaderFix{Mailbox: name, From: root}, place, rec.UniqueID}, nil
}
