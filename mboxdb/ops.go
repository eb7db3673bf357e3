package mboxdb

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/mailspine/mailspine/skiplist"
)

// The functions of this file change the list alone. On a Cyrus store the directory and the header of a mailbox have to
// change with it: package store does that.

// NewMailbox says what mailbox to create.
type NewMailbox struct {
	Name Name
	// Kind is Mail if it is empty. With the flag l the mailbox's directory follows from its name.
	Kind Type
	// Partition is the default one if it is empty.
	Partition string
	// ACL is what the mailbox above has if it is nil; a user's INBOX belongs to the user.
	ACL ACL
	// UniqueID and UIDValidity are chosen if they are empty. A UIDVALIDITY that was used under this name is raised.
	UniqueID    string
	UIDValidity uint32
}

// ownerRights are those of a user on a new INBOX.
const ownerRights = RightsAll

// Create adds a mailbox. ErrExists means that there is one of this name, ErrName that there can be none.
func (l *List) Create(ctx context.Context, m NewMailbox) (rec Record, err error) {
	err = l.update(ctx, []Name{m.Name}, func(t *Tx) error {
		rec, err = t.create(m)
		return err
	})
	if err != nil {
		return Record{}, fmt.Errorf("create mailbox: %w", err)
	}
	return rec, nil
}

func (t *Tx) create(m NewMailbox) (Record, error) {
	if err := t.l.ns().Validate(m.Name); err != nil {
		return Record{}, err
	}
	old, _, err := t.entry(m.Name)
	if err != nil {
		return Record{}, err
	}
	if !old.Name.IsZero() && !old.Type.Deleted() && !old.Type.Reserved() && !old.Type.Intermediate() {
		return Record{}, fmt.Errorf("%s: %w", m.Name, ErrExists)
	}
	rec := Record{Name: m.Name, Type: Type(orElse(string(m.Kind), string(Mail))), UniqueID: m.UniqueID, UIDValidity: m.UIDValidity, ACL: m.ACL,
		Partition: orElse(m.Partition, t.l.opts.DefaultPartition)}
	if rec.ACL == nil {
		if rec.ACL, err = t.InheritedACL(m.Name); err != nil {
			return Record{}, err
		}
	}
	if rec.UniqueID == "" {
		rec.UniqueID = t.l.opts.NewID()
	}
	if err := t.UnusedID(rec.UniqueID); err != nil {
		return Record{}, err
	}
	rec.UIDValidity = t.uidValidity(rec.UIDValidity, old)
	if rec.CreatedModSeq, err = t.nextModSeq(m.Name, old.FolderModSeq); err != nil {
		return Record{}, err
	}
	rec.FolderModSeq = rec.CreatedModSeq
	rec.Modified = t.now
	return rec, t.put(rec)
}

// uidValidity is the UIDVALIDITY of a new mailbox: the time, unless another is asked for, and more than that of what was
// there before.
func (t *Tx) uidValidity(asked uint32, old Record) uint32 {
	v := asked
	if v == 0 {
		v = uint32(max(1, min(t.now, math.MaxUint32)))
	}
	if v <= old.UIDValidity {
		v = old.UIDValidity + 1
	}
	return max(v, 1)
}

// SetACL changes the rights of an identifier on a mailbox.
func (l *List) SetACL(ctx context.Context, n Name, identifier string, mode ACLMode, rights Rights) (rec Record, err error) {
	err = l.update(ctx, []Name{n}, func(t *Tx) error {
		if rec, err = t.Lookup(n); err != nil {
			return err
		}
		if rec.ACL, err = l.opts.ACL.Set(rec.ACL, identifier, mode, rights); err != nil {
			return err
		}
		if rec.FolderModSeq, err = t.nextModSeq(n, rec.FolderModSeq); err != nil {
			return err
		}
		rec.Modified = t.now
		return t.put(rec)
	})
	if err != nil {
		return Record{}, fmt.Errorf("set ACL: %w", err)
	}
	return rec, nil
}

// RenameOptions say how to rename.
type RenameOptions struct {
	// Alone leaves the mailboxes below where they are.
	Alone bool
	// Partition is where the mailboxes go; empty: they stay.
	Partition string
}

// Rename gives a mailbox, and all that lie below it, another name, in one transaction. The old names become tombstones;
// the unique ids remember them. ErrExists means that one of the new names is taken; then nothing changes.
func (l *List) Rename(ctx context.Context, from, to Name, opts RenameOptions) (moved []Record, err error) {
	err = l.update(ctx, []Name{from, to}, func(t *Tx) error {
		if err := l.ns().Validate(to); err != nil {
			return err
		}
		if to == from || to.IsBelow(from) {
			return fmt.Errorf("%s cannot move to %s: %w", from, to, ErrName)
		}
		moved, err = t.rename(from, to, opts)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("rename mailbox: %w", err)
	}
	return moved, nil
}

func (t *Tx) rename(from, to Name, opts RenameOptions) (moved []Record, err error) {
	tree, err := t.tree(from, opts.Alone)
	if err != nil {
		return nil, err
	}
	// Before anything moves: or it would depend on the order of the names whether one of the new names that is an old one
	// has become free.
	for _, rec := range tree {
		if _, err := t.free(rec.Name.Move(from, to)); err != nil {
			return nil, err
		}
	}
	for _, rec := range tree {
		next, err := t.move(rec, rec.Name.Move(from, to), opts.Partition)
		if err != nil {
			return nil, err
		}
		moved = append(moved, next)
	}
	return moved, nil
}

// tree collects a mailbox and what lies below it.
func (t *Tx) tree(n Name, alone bool) ([]Record, error) {
	top, err := t.Lookup(n)
	if err != nil {
		return nil, err
	}
	tree := []Record{top}
	if alone {
		return tree, nil
	}
	for rec, err := range t.Below(n) {
		if err != nil {
			return nil, err
		}
		tree = append(tree, rec)
	}
	return tree, nil
}

// free returns the tombstone under a name, if there is one, or ErrExists for what is alive.
func (t *Tx) free(n Name) (Record, error) {
	rec, _, err := t.entry(n)
	if err == nil && !rec.Name.IsZero() && !rec.Type.Deleted() {
		err = fmt.Errorf("%s: %w", n, ErrExists)
	}
	return rec, err
}

// move gives one mailbox another name: first the tombstone under the old one, so that the history, which is taken from
// the record under the unique id, has it as Cyrus writes it.
func (t *Tx) move(rec Record, to Name, partition string) (Record, error) {
	if len(to.String()) > MaxNameBytes {
		return Record{}, fmt.Errorf("%s has more than %d bytes: %w", to, MaxNameBytes, ErrName)
	}
	target, err := t.free(to)
	if err != nil {
		return Record{}, err
	}
	modseq, err := t.nextModSeq(rec.Name, max(rec.FolderModSeq, target.FolderModSeq))
	if err != nil {
		return Record{}, err
	}
	if err := t.put(t.tombstone(rec, modseq)); err != nil {
		return Record{}, err
	}
	rec.Name, rec.FolderModSeq, rec.Modified = to, modseq, t.now
	rec.Partition = orElse(partition, rec.Partition)
	if target.UIDValidity >= rec.UIDValidity {
		rec.UIDValidity = t.uidValidity(0, target)
	}
	return rec, t.put(rec)
}

// tombstone is what a mailbox leaves under its name.
func (t *Tx) tombstone(rec Record, modseq uint64) Record {
	rec.Type = rec.Type.With('d')
	rec.Partition, rec.Server, rec.ACL, rec.FolderModSeq, rec.Modified = "", "", nil, modseq, t.now
	return rec
}

// Delete removes a mailbox; those below it stay. With delayed it goes on under a name that tells when it was deleted,
// until it expires; else a tombstone is all that is left. It returns the record as it is then.
func (l *List) Delete(ctx context.Context, n Name, delayed bool) (rec Record, err error) {
	err = l.update(ctx, []Name{n}, func(t *Tx) error {
		t.tx.UseReserve() // on a full disk, deleting is what helps
		if rec, err = t.Lookup(n); err != nil {
			return err
		}
		if delayed {
			rec, err = t.moveToDeleted(rec)
			return err
		}
		modseq, err := t.nextModSeq(n, rec.FolderModSeq)
		if err != nil {
			return err
		}
		rec = t.tombstone(rec, modseq)
		return t.put(rec)
	})
	if err != nil {
		return Record{}, fmt.Errorf("delete mailbox: %w", err)
	}
	return rec, nil
}

// moveToDeleted finds a name for a deleted mailbox that is free: two deleted in one second get different times.
func (t *Tx) moveToDeleted(rec Record) (Record, error) {
	for at := t.now; ; at++ {
		to := rec.Name.ToDeleted(t.l.ns(), at)
		switch old, _, err := t.entry(to); {
		case err != nil:
			return Record{}, err
		case old.Name.IsZero() || old.Type.Deleted():
			modseq, err := t.nextModSeq(rec.Name, rec.FolderModSeq)
			if err != nil {
				return Record{}, err
			}
			if err := t.put(t.tombstone(rec, modseq)); err != nil {
				return Record{}, err
			}
			rec.Name, rec.FolderModSeq, rec.Modified = to, modseq, t.now
			return rec, t.put(rec)
		}
	}
}

// ExpireTombstones forgets the names of mailboxes that were deleted or renamed before the given Unix time, and the
// records under their unique ids with them. It returns how many.
func (l *List) ExpireTombstones(ctx context.Context, before int64) (n int, err error) {
	err = l.update(ctx, nil, func(t *Tx) error {
		var dead []Record
		for rec, err := range t.Entries() {
			var bad *RecordError
			switch {
			case errors.As(err, &bad):
				continue // what cannot be read is not old
			case err != nil:
				return err
			case rec.Type.Deleted() && rec.Modified < before:
				dead = append(dead, rec)
			}
		}
		for _, rec := range dead {
			if err := t.remove(rec); err != nil {
				return err
			}
		}
		n = len(dead)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("expire tombstones: %w", err)
	}
	return n, nil
}

// Create makes a new, empty list at path.
func Create(ctx context.Context, path string, opts Options) error {
	return skiplist.Create(ctx, path, opts.withDefaults().DB)
}
