package mboxdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// Tx is a change of the list in one transaction: the records of a mailbox under its name and under its unique id, and
// its reverse ACL keys, change together. It is valid within the function that received it.
type Tx struct {
	View
	tx      transaction
	racl    bool // the list keeps reverse ACL keys
	now     int64
	changes []Change
}

// transaction is what a change needs of one of the database.
type transaction interface {
	store
	Put(key, value []byte) error
	Delete(key []byte) error
	Len() int
	UseReserve()
}

// update runs fn in a transaction, under the locks of the users whose mailboxes the given names are.
//
// The commit point is the one of the database. Nobody is told of the changes before it.
func (l *List) update(ctx context.Context, names []Name, fn func(*Tx) error) error {
	if l.form != Form36 {
		return ErrUpgradeFirst
	}
	held, err := l.lock(ctx, names)
	if err != nil {
		return err
	}
	defer held.Release()
	return l.commit(ctx, fn)
}

// commit runs fn in a transaction and tells those who watch.
func (l *List) commit(ctx context.Context, fn func(*Tx) error) error {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var tx *Tx
	err := l.db.Update(ctx, func(t *skiplist.Tx) error {
		tx = &Tx{View: View{l: l, s: t}, tx: t, now: l.opts.DB.FS.Now().Unix()}
		if err := tx.learn(); err != nil {
			return err
		}
		return fn(tx)
	})
	if err == nil {
		l.hub.publish(tx.changes)
	}
	return err
}

// lock takes the exclusive lock of each user, and of the shared mailboxes if one of the names is shared.
func (l *List) lock(ctx context.Context, names []Name) (*locks.Held, error) {
	layout := l.opts.Layout
	if layout.ConfigDir == "" && layout.LockDir == "" {
		return nil, nil
	}
	var users []string
	for _, n := range names {
		users = append(users, n.User(l.ns()))
	}
	return locks.InOrder(ctx, l.opts.DB.FS, vfs.Exclusively, layout.UserLocks(users...)...)
}

// learn finds out whether the list keeps reverse ACL keys. A new one begins to if it is asked to.
func (t *Tx) learn() error {
	marked, err := t.tx.Has([]byte(raclMarker))
	if err != nil {
		return err
	}
	if !marked && t.l.opts.ReverseACLs && t.tx.Len() == 0 {
		marked = true
		err = t.tx.Put([]byte(raclMarker), nil)
	}
	t.racl = marked
	return err
}

// put writes a mailbox under its name and its unique id, with the reverse ACL keys that follow from it. What stood under
// the name before may be another mailbox's tombstone.
func (t *Tx) put(rec Record) error {
	key := nameKey(rec.Name)
	old, oldValue, err := t.entry(rec.Name)
	if err != nil {
		return err
	}
	if err := t.updateRACL(old, rec); err != nil {
		return err
	}
	if old.UniqueID != "" && old.UniqueID != rec.UniqueID {
		if err := t.forgetID(old); err != nil {
			return err
		}
	}
	if err := t.tx.Put(key, rec.EncodeName(oldValue)); err != nil {
		return err
	}
	t.note(old, rec)
	if rec.UniqueID == "" {
		return nil
	}
	return t.putID(rec)
}

// entry reads what stands under a name. A value that cannot be read may not be overwritten.
func (t *Tx) entry(n Name) (Record, []byte, error) {
	value, err := t.tx.Get(nameKey(n))
	if errors.Is(err, skiplist.ErrNotFound) {
		return Record{}, nil, nil
	}
	if err != nil {
		return Record{}, nil, err
	}
	rec, err := DecodeName(nameKey(n), value)
	return rec, value, err
}

// putID writes the record under the unique id. If the name is a new one the former goes to the history.
func (t *Tx) putID(rec Record) error {
	key := idKey(rec.UniqueID)
	value, err := t.tx.Get(key)
	switch {
	case errors.Is(err, skiplist.ErrNotFound):
		value = nil
	case err != nil:
		return err
	default:
		old, err := DecodeID(key, value)
		if err != nil {
			return err
		}
		rec.History = old.History
		if old.Name != rec.Name {
			rec.History = slices.Insert(slices.Clone(old.History), 0, FormerName{
				Name: old.Name, Modified: old.Modified, UIDValidity: old.UIDValidity, CreatedModSeq: old.CreatedModSeq,
				FolderModSeq: old.FolderModSeq, Type: old.Type, Partition: old.Partition,
			})
		}
	}
	return t.tx.Put(key, rec.EncodeID(value))
}

// forgetID removes the record under the unique id of a mailbox that another one replaces, unless it has moved on to
// another name.
func (t *Tx) forgetID(old Record) error {
	byID, err := t.entryByID(old.UniqueID)
	if errors.Is(err, ErrNotFound) || err == nil && byID.Name != old.Name {
		return nil
	}
	if err != nil {
		return err
	}
	return t.tx.Delete(idKey(old.UniqueID))
}

// remove takes a name out of the list, and the record under its unique id if it is this name's.
func (t *Tx) remove(rec Record) error {
	if err := t.updateRACL(rec, Record{}); err != nil {
		return err
	}
	if err := t.tx.Delete(nameKey(rec.Name)); err != nil {
		return err
	}
	if rec.UniqueID == "" {
		return nil
	}
	return t.forgetID(rec)
}

// viewers are the identifiers that have a reverse ACL key for a mailbox: those with l or r, but not its owner, who needs
// none, nor administrators, who see everything.
func (l *List) viewers(rec Record) []string {
	if rec.Name.IsZero() || rec.Type.Deleted() {
		return nil
	}
	owner := rec.Name.User(l.ns())
	var ids []string
	for _, e := range rec.ACL {
		id := e.Identifier
		if strings.ContainsAny(e.Rights, "lr") && (id != owner || owner == "") && !slices.Contains(l.opts.Admins, id) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (t *Tx) updateRACL(old, rec Record) error {
	if !t.racl {
		return nil
	}
	before, after := t.l.viewers(old), t.l.viewers(rec)
	for _, id := range before {
		if !slices.Contains(after, id) {
			if err := t.tx.Delete(raclKey(t.l.ns(), id, old.Name)); err != nil {
				return err
			}
		}
	}
	for _, id := range after {
		if !slices.Contains(before, id) {
			if err := t.tx.Put(raclKey(t.l.ns(), id, rec.Name), nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// note remembers a change for those who watch.
func (t *Tx) note(old, rec Record) {
	c := Change{Name: rec.Name, UniqueID: rec.UniqueID, Kind: Changed}
	lived := !old.Name.IsZero() && !old.Type.Deleted()
	switch {
	case rec.Type.Deleted() && lived:
		c.Kind = Removed
	case rec.Type.Deleted():
		return
	case !lived:
		c.Kind = Added
	}
	t.changes = append(t.changes, c)
}

// nextModSeq is the modification sequence of a change.
func (t *Tx) nextModSeq(n Name, last uint64) (uint64, error) {
	next, err := t.l.opts.NextModSeq(n, last)
	if err == nil && next <= last {
		err = fmt.Errorf("the modification sequence %d given to %s is not after %d", next, n, last)
	}
	return next, err
}
