package index

import (
	"fmt"
	"slices"
)

// FlagOp is what happens to flags.
type FlagOp int

const (
	// AddFlags sets flags and leaves the others; RemoveFlags clears them; ReplaceFlags sets these and clears all others.
	AddFlags FlagOp = iota
	RemoveFlags
	ReplaceFlags
)

// FlagChange is a change of the flags of a message.
type FlagChange struct {
	Op FlagOp
	// Flags are system flags, of which clients see those from FlagAnswered to FlagSeen. Others are not changed, nor is FlagSeen
	// in an index before version 12, which has no place for it.
	Flags Flags
	// User are the names of the user's flags. A mailbox gives them numbers when they are first set.
	User []string
	// UnchangedSince, if not 0, is the modification sequence up to which the message may have changed.
	UnchangedSince ModSeq
}

// SetFlags changes the flags of a message and returns its record. Where nothing changes the record stays as it is, with its
// modification sequence. The error is ErrNotFound if the message does not exist or is expunged, ErrModified if it has
// changed since UnchangedSince, and ErrFlag for a name that no flag can have; the transaction can go on after each of them.
func (tx *Tx) SetFlags(uid UID, c FlagChange) (Record, error) {
	if tx.done {
		return Record{}, ErrTxDone
	}
	rec, err := tx.Record(uid)
	if err != nil {
		return rec, err
	}
	if err := live(&rec); err != nil {
		return rec, err
	}
	if c.UnchangedSince != 0 && rec.ModSeq > c.UnchangedSince {
		return rec, fmt.Errorf("UID %d: %w", uid, ErrModified)
	}
	user, err := tx.userFlags(c.User, c.Op != RemoveFlags)
	if err != nil {
		return rec, err
	}
	return tx.edit(uid, false, func(r *Record) error {
		c.Flags &= tx.settable()
		c.apply(r, user)
		return nil
	})
}

// settable are the flags that a record of the mailbox can have for clients. Before version 12 \Seen is in the seen database of
// each user only.
func (tx *Tx) settable() Flags {
	if tx.w.version() < versionChecksums {
		return shownFlags &^ FlagSeen
	}
	return shownFlags
}

// apply makes the change, given the numbers of the user's flags.
func (c *FlagChange) apply(r *Record, user UserFlags) {
	flags := c.Flags & shownFlags
	switch c.Op {
	case AddFlags:
		r.Flags |= flags
	case RemoveFlags:
		r.Flags &^= flags
	case ReplaceFlags:
		r.Flags = r.Flags&^shownFlags | flags
		r.UserFlags = UserFlags{}
	}
	for i, word := range user {
		if c.Op == RemoveFlags {
			r.UserFlags[i] &^= word
		} else {
			r.UserFlags[i] |= word
		}
	}
}

// userFlags returns the numbers of the user's flags with these names. Those without a number get one, if allocate is set.
func (tx *Tx) userFlags(names []string, allocate bool) (set UserFlags, err error) {
	flags := tx.HeaderFile().Flags
	var fresh []string
	for _, name := range names {
		if !isAtom(name) {
			return set, fmt.Errorf("%q: %w", name, ErrFlag)
		}
		n := FlagNumber(flags, name)
		if n < 0 && allocate {
			if len(fresh) == 0 {
				flags = slices.Clone(flags)
			}
			if n = slices.Index(flags, ""); n < 0 {
				n = len(flags)
				flags = append(flags, "")
			}
			if n >= UserFlagsMax {
				return UserFlags{}, fmt.Errorf("%q: all %d are taken: %w", name, UserFlagsMax, ErrFlag)
			}
			flags[n] = name
			fresh = append(fresh, name)
		}
		if n >= 0 && n < UserFlagsMax {
			set.Set(n, true)
		}
	}
	if len(fresh) > 0 {
		h := *tx.HeaderFile()
		h.Flags = flags
		// What is odd in the file already, such as two flags of one name, does not keep a third from being added.
		for _, problem := range h.problems() {
			if problem.Class == ErrValue {
				return UserFlags{}, in(problem, tx.w.place.Paths.Header, 0, 0)
			}
		}
		tx.header, tx.sums = &h, nil
	}
	return set, nil
}
