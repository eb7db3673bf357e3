package quota

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// domainMark ends the domain in an internal name.
const domainMark = "!"

// lookups remembers which roots exist while one root is worked on: many mailboxes ask for the same ones, and those that do are
// neighbours in the list. It forgets all when it has knownMax names, so that its size does not depend on that of the list.
type lookups struct {
	k     *Keeper
	ctx   context.Context
	known map[string]bool
}

const knownMax = 1000

func (k *Keeper) lookups(ctx context.Context) *lookups {
	return &lookups{k: k, ctx: ctx, known: map[string]bool{}}
}

func (l *lookups) exists(root string) (bool, error) {
	if found, ok := l.known[root]; ok {
		return found, nil
	}
	found, err := l.k.roots.Exists(l.ctx, root)
	if err == nil {
		if len(l.known) >= knownMax {
			clear(l.known)
		}
		l.known[root] = found
	}
	return found, err
}

// owner is [Roots.Owner].
func (l *lookups) owner(mailbox string) (string, error) {
	for root := range candidates(mailbox, l.k.layout.Namespace.VirtDomains) {
		found, err := l.exists(root)
		if err != nil || found {
			return ifFound(root, err)
		}
	}
	return "", nil
}

// candidates are the names that a root of a mailbox may have, the longest first.
func candidates(mailbox string, domains bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		domain, name := "", mailbox
		if i := strings.IndexByte(name, '!'); i >= 0 && domains {
			domain, name = name[:i+1], name[i+1:]
		}
		for name != "" {
			if !yield(domain + name) {
				return
			}
			i := strings.LastIndexByte(name, '.')
			if planted.On(planted.QuotaNeighbours) {
				i = len(name) - 1
			}
			name = name[:max(0, i)]
		}
		if domain != "" {
			yield(domain)
		}
	}
}

// covers tells whether root is the name of a mailbox or root, or above it.
func covers(root, name string) bool {
	rest, ok := strings.CutPrefix(name, root)
	return ok && (rest == "" || rest[0] == '.' || strings.HasSuffix(root, domainMark))
}

// family is what the list says, at one moment, of the mailboxes at and below the name of a root.
type family struct {
	// members are those that count for the root, in bytewise order of their internal names.
	members []mboxdb.Record
	// others count for a closer root that is not worked on: their headers may still name this one.
	others []foreign
	// nested says that there are mailboxes below the root which count for a closer one, worked on or not.
	nested bool
	// unreadable are records in the list that may be of members.
	unreadable []finding.Finding
	// damage is set if the list is damaged, so that there may be more members than these.
	damage error
}

// foreign is a mailbox that lies below a root and counts for another one.
type foreign struct {
	mboxdb.Record
	owner string
}

// same tells whether the list said the same of the members.
func (f *family) same(o *family) bool {
	return slices.EqualFunc(f.members, o.members, sameMailbox) && len(f.unreadable) == len(o.unreadable) && (f.damage == nil) == (o.damage == nil)
}

func sameMailbox(a, b mboxdb.Record) bool {
	return a.Name == b.Name && a.UniqueID == b.UniqueID && a.Partition == b.Partition && a.Type == b.Type
}

// family reads the list. Mailboxes of closer roots are left out if skip says so of the root, and are among the others if not.
//
// What counts is decided by names alone, in the internal spelling: the key order of the list, in which a mailbox and what lies
// below it need not be neighbours, has no part in it.
func (k *Keeper) family(ctx context.Context, root string, skip func(root string) bool) (f *family, err error) {
	for range lostAttempts {
		f = &family{}
		err = k.list.View(ctx, func(v *mboxdb.View) error { return f.read(v, k.lookups(ctx), root, skip) })
		if !errors.Is(err, skiplist.ErrSnapshotLost) {
			break
		}
	}
	if errors.Is(err, skiplist.ErrDamaged) {
		f.damage, err = err, nil
	}
	if err != nil {
		return nil, fmt.Errorf("mailbox list: %w", err)
	}
	slices.SortFunc(f.members, func(a, b mboxdb.Record) int { return strings.Compare(a.Name.String(), b.Name.String()) })
	f.members = slices.CompactFunc(f.members, func(a, b mboxdb.Record) bool { return a.Name == b.Name })
	return f, nil
}

// lostAttempts is how often the list is read again after Cyrus has emptied the file of a snapshot.
const lostAttempts = 10

func (f *family) read(v *mboxdb.View, l *lookups, root string, skip func(root string) bool) error {
	for rec, err := range below(v, root, l.k.layout.Namespace.VirtDomains) {
		if err := context.Cause(l.ctx); err != nil {
			return err
		}
		if errors.Is(err, mboxdb.ErrRecord) {
			f.unreadable = append(f.unreadable, finding.Finding{Code: "list-record-unreadable", Severity: finding.Damage, Path: root, Offset: -1,
				Detail: err.Error(), Fix: "mend the mailbox list first"})
			continue
		}
		if err != nil {
			return err
		}
		if !counts(rec) {
			continue
		}
		owner, err := l.owner(rec.Name.String())
		if err != nil {
			return err
		}
		rec.ACL, rec.History = nil, nil
		f.nested = f.nested || owner != root && owner != ""
		switch {
		case owner == root || planted.On(planted.QuotaNestedTwice) && owner != "":
			f.members = append(f.members, rec)
		case owner != "" && !skip(owner):
			f.others = append(f.others, foreign{rec, owner})
		}
	}
	if len(f.members)+len(f.others)+len(f.unreadable) == 0 {
		return notEmpty(v)
	}
	return nil
}

// notEmpty fails if a list has no record at all, not even of a mailbox that is gone. A store with quota roots has had mailboxes: an
// outage has left the list with nothing in it, and its file may be a whole one.
func notEmpty(v *mboxdb.View) error {
	for range v.Entries() {
		return nil
	}
	return ErrListEmpty
}

// counts tells whether a mailbox is of the kind that counts for a root: it is here, and it can be opened.
func counts(rec mboxdb.Record) bool { return rec.Type.Exists() && !rec.Type.Remote() }

// below yields the mailboxes at and below the name of a root.
func below(v *mboxdb.View, root string, domains bool) iter.Seq2[mboxdb.Record, error] {
	if domain, ok := strings.CutSuffix(root, domainMark); ok && domains {
		return v.InDomain(domain)
	}
	name := mboxdb.InternalName(root)
	return func(yield func(mboxdb.Record, error) bool) {
		rec, err := v.Entry(name)
		if errors.Is(err, skiplist.ErrDamaged) {
			err = nil // which follows once more, behind what lies below
		}
		if !errors.Is(err, mboxdb.ErrNotFound) && (err != nil || !rec.Name.IsZero()) && !yield(rec, err) {
			return
		}
		for rec, err := range v.Below(name) {
			if !yield(rec, err) {
				return
			}
		}
	}
}
