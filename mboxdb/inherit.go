package mboxdb

import (
	"errors"
	"fmt"
)

// UnusedID refuses a unique id that a mailbox has, with ErrExists.
func (v *View) UnusedID(id string) error {
	rec, err := v.entryByID(id)
	switch {
	case errors.Is(err, ErrNotFound) || err == nil && rec.Type.Deleted():
		return nil
	case err != nil:
		return err
	}
	if _, err := v.LookupID(id); errors.Is(err, ErrNotFound) {
		return nil // left over by Cyrus
	}
	return fmt.Errorf("unique id %s: %w", id, ErrExists)
}

// InheritedACL is the ACL that a new mailbox of this name gets: that of the nearest mailbox above; without one, the owner's,
// or the default.
func (v *View) InheritedACL(n Name) (ACL, error) {
	if n.IsInbox() {
		user := n.User(v.l.ns())
		return ACL{{user, v.l.opts.ACL.FormatRights(ownerRights)}}, nil
	}
	for up := n.Parent(); !up.IsZero(); up = up.Parent() {
		rec, err := v.Lookup(up)
		if err == nil {
			return rec.ACL, nil
		}
		if !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	if user := n.User(v.l.ns()); user != "" {
		return ACL{{user, v.l.opts.ACL.FormatRights(ownerRights)}}, nil
	}
	return v.l.opts.DefaultACL, nil
}
