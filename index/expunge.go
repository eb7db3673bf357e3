package index

import (
	"errors"
	"fmt"
	"io/fs"
)

// ExpungeMode says what becomes of the file of an expunged message.
type ExpungeMode int

const (
	// ExpungeDelayed keeps it: the message can be restored until a cleanup. It is what Cyrus does by default.
	ExpungeDelayed ExpungeMode = iota
	// ExpungeImmediate removes it with the commit. The record goes with the next repack.
	ExpungeImmediate
)

// Expunge removes a message for clients and returns its record. The error is ErrNotFound if it does not exist or is expunged
// already.
func (tx *Tx) Expunge(uid UID, mode ExpungeMode) (Record, error) {
	rec, err := tx.edit(uid, false, func(r *Record) error {
		if err := live(r); err != nil {
			return err
		}
		r.Flags |= FlagExpunged | FlagDeleted // both, as Cyrus does for a message that is moved away
		if mode == ExpungeImmediate {
			r.Flags |= FlagUnlinked | FlagNeedsCleanup
		}
		return nil
	})
	if err != nil {
		return rec, err
	}
	if mode == ExpungeImmediate {
		tx.remove(&rec)
	}
	if tx.h.FirstExpunged == 0 || tx.h.FirstExpunged > tx.now {
		tx.h.FirstExpunged = tx.now
	}
	return rec, nil
}

// remove has the file of a message removed after the commit.
func (tx *Tx) remove(r *Record) {
	tx.unlink = append(tx.unlink, tx.w.place.Message(r))
	tx.h.Options |= OptionNeedsUnlink | OptionNeedsRepack
}

// Unexpunge restores an expunged message under a new UID, as an expunged record never comes back, and returns the new
// record. The flags in drop, such as FlagDeleted, are left out. The error is ErrNotFound if the message is not expunged, or
// its file is gone.
func (tx *Tx) Unexpunge(uid UID, drop Flags) (Record, error) {
	old, err := tx.Record(uid)
	if err != nil {
		return Record{}, err
	}
	if !old.Expunged() || old.Flags&FlagUnlinked != 0 {
		return Record{}, notFound(uid, "not an expunged message that is still there")
	}
	rec, err := tx.appendCopy(tx.w, &old, old.UserFlags, drop)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("UID %d: %w: %w", uid, ErrNotFound, err)
	}
	if err != nil {
		return Record{}, err
	}
	// Cyrus gives the old record a new modification sequence, too, and leaves it until the next repack, without asking for one.
	_, err = tx.edit(uid, false, func(r *Record) error {
		r.Flags |= FlagUnlinked
		return nil
	})
	if err != nil {
		return Record{}, err
	}
	tx.unlink = append(tx.unlink, tx.w.place.Message(&old))
	return rec, nil
}

// Cleanup removes the files of messages that were expunged before a time, 0 for all of them, and returns how many messages
// that were. It also removes the files that a crash after a commit has left. The records go with the next repack.
func (tx *Tx) Cleanup(before Time) (n int, err error) {
	for rec, err := range tx.Records() {
		if err != nil && !asFormat(err) {
			return n, err
		}
		if err != nil || !rec.Expunged() {
			continue
		}
		if rec.Flags&FlagUnlinked != 0 {
			tx.remove(&rec)
			continue
		}
		if before != 0 && rec.LastUpdated >= before {
			continue
		}
		_, err := tx.edit(rec.UID, true, func(r *Record) error {
			r.Flags |= FlagUnlinked
			return nil
		})
		if err != nil {
			return n, err
		}
		tx.remove(&rec)
		n++
	}
	return n, nil
}
