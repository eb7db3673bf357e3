package index

import "context"

// CopyOptions are the choices of [Copy]; the zero value copies.
type CopyOptions struct {
	// Move removes the messages from where they were, in the way that Expunge says.
	Move    bool
	Expunge ExpungeMode
}

// Copied tells which UID a message had, and which one its copy has.
type Copied struct{ From, To UID }

// Copy copies messages into another mailbox, or the same one, in one transaction: all of them or none. A copy is a further
// name of the message file where both mailboxes are on one partition. It has the date of arrival, the flags by their names
// and the createdmodseq of the original, a new UID and modification sequence, and no annotations. The error is ErrNotFound if
// one of the messages does not exist or is expunged.
//
// A move between two mailboxes commits the copies first and then expunges the originals: a crash in between leaves both. If it
// is only the second part that fails the answer has the copies, beside the error.
func Copy(ctx context.Context, from, to *Mailbox, uids []UID, o CopyOptions) ([]Copied, error) {
	for _, m := range []*Mailbox{from, to} {
		if err := m.mayChange(); err != nil {
			return nil, err
		}
	}
	if from.place.Paths.Index == to.place.Paths.Index {
		return copyWithin(ctx, to, uids, o)
	}
	for _, m := range []*Mailbox{from, to} {
		if _, err := FinishRepack(ctx, m.fs, m.place, m.opts); err != nil {
			return nil, writeError("copy messages", err)
		}
	}
	release, err := writeLocks(ctx, from.fs, from.place, to.place)
	if err != nil {
		return nil, writeError("copy messages", err)
	}
	writers := map[*Mailbox]*writer{}
	defer func() {
		release()
		for m, w := range writers {
			m.opts.settle(ctx, w.told)
		}
	}()
	// Of two that copy in opposite directions, each would wait for the other, if they did not lock in one order. The users'
	// locks see to that already, but not all mailboxes have them.
	order := []*Mailbox{from, to}
	if to.place.Paths.Index < from.place.Paths.Index {
		order[0], order[1] = to, from
	}
	for _, m := range order {
		w, err := m.lockIndex(ctx)
		if err != nil {
			return nil, writeError("copy messages", err)
		}
		defer w.close()
		writers[m] = w
	}
	return copyBetween(ctx, writers[from], writers[to], uids, o)
}

func copyWithin(ctx context.Context, m *Mailbox, uids []UID, o CopyOptions) (copied []Copied, err error) {
	err = m.Update(ctx, func(tx *Tx) error {
		for _, uid := range uids {
			rec, err := tx.Record(uid)
			if err == nil {
				err = live(&rec)
			}
			if err != nil {
				return err
			}
			dup, err := tx.appendCopy(tx.w, &rec, rec.UserFlags, 0)
			if err == nil && o.Move {
				_, err = tx.Expunge(uid, o.Expunge)
			}
			if err != nil {
				return err
			}
			copied = append(copied, Copied{uid, dup.UID})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return copied, nil
}

func copyBetween(ctx context.Context, from, to *writer, uids []UID, o CopyOptions) (copied []Copied, err error) {
	source, target := from.begin(ctx), to.begin(ctx)
	defer source.end()
	defer target.end()
	for _, uid := range uids {
		dup, err := target.copyFrom(source, uid)
		if err == nil && o.Move {
			_, err = source.Expunge(uid, o.Expunge)
		}
		if err != nil {
			return nil, err
		}
		copied = append(copied, Copied{uid, dup.UID})
	}
	target.usage.Moved = o.Move && source.usage.QuotaRoot == target.usage.QuotaRoot
	if err := target.commit(); err != nil {
		return nil, writeError("copy messages", err)
	}
	source.ctx = context.WithoutCancel(ctx) // half a move is no answer to who gives up
	if err := source.commit(); err != nil {
		return copied, writeError("move messages: they are copied, but could not be expunged", err)
	}
	return copied, nil
}

// copyFrom appends a copy of a message of another mailbox.
func (tx *Tx) copyFrom(source *Tx, uid UID) (Record, error) {
	rec, err := source.Record(uid)
	if err == nil {
		err = live(&rec)
	}
	if err != nil {
		return Record{}, err
	}
	flags := source.HeaderFile().Flags
	var names []string
	for n, name := range flags[:min(len(flags), UserFlagsMax)] {
		// A bit without a name, or with one that no flag can have, means nothing.
		if rec.UserFlags.Has(n) && isAtom(name) {
			names = append(names, name)
		}
	}
	user, err := tx.userFlags(names, true)
	if err != nil {
		return Record{}, err
	}
	return tx.appendCopy(source.w, &rec, user, 0)
}
