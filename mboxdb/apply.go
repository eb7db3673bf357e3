package mboxdb

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mailspine/mailspine/internal/planted"
)

// Put is one record of a change that was decided beforehand: what is to stand under the record's name.
type Put struct {
	// Was is what stood under the name when the change was decided; its Name is zero if nothing did.
	Was Record
	// Record is what is to stand there, under the unique id, too. With Forget the name is taken out of the list instead,
	// and the record under its unique id if it is this name's.
	Record Record
	Forget bool
}

// ErrChanged means that the list is not any more what a change was decided by. Nothing was changed.
var ErrChanged = errors.New("the mailbox list has changed meanwhile; try again")

// Apply makes a change that was decided beforehand, in one transaction. The caller has held the locks of all users
// concerned ([Layout.UserLocks]) since it decided, exclusively; so ErrChanged, that the list differs, is the answer only if
// somebody goes without them. With free, the reserve for a full disk may be used: the change frees space.
//
// The commit point is the one of the database.
func (l *List) Apply(ctx context.Context, puts []Put, free bool) error {
	if l.form != Form36 {
		return ErrUpgradeFirst
	}
	return l.commit(ctx, func(t *Tx) error {
		if free {
			t.tx.UseReserve()
		}
		for _, p := range puts {
			now, _, err := t.entry(p.Record.Name)
			if err != nil {
				return err
			}
			if !now.same(p.Was) && !planted.On(planted.PutUnchecked) {
				return fmt.Errorf("%s: %w", p.Record.Name, ErrChanged)
			}
		}
		for _, p := range puts {
			write := t.put
			if p.Forget {
				write = t.remove
			}
			if err := write(p.Record); err != nil {
				return err
			}
		}
		return nil
	})
}

// same tells whether two records say the same of a mailbox, whenever they were written.
func (r Record) same(o Record) bool {
	return r.Name == o.Name && r.Type == o.Type && r.UniqueID == o.UniqueID && r.Partition == o.Partition && r.Server == o.Server &&
		r.UIDValidity == o.UIDValidity && r.CreatedModSeq == o.CreatedModSeq && r.FolderModSeq == o.FolderModSeq && r.ACL.equal(o.ACL)
}

// Options are those that the list was opened with, and what is taken where they say nothing.
func (l *List) Options() Options { return l.opts }

// equal tells whether two lists are the same; none is not the same as an empty one.
func (a ACL) equal(o ACL) bool { return (a == nil) == (o == nil) && slices.Equal(a, o) }
