package mboxdb

import (
	"errors"
	"fmt"

	"github.com/mailspine/mailspine/skiplist"
)

// only picks the records that concern some mailboxes: those under their names, those under their unique ids, those under
// other ids that say they are one of them, and their reverse ACL keys with the mark that these need. nil picks all.
type only struct {
	v     *View
	names map[Name]bool
	ids   map[string]bool
	// known is how many of the names are in the list; missing has an error for each of the others.
	known   int
	missing error
}

// only is for names; none means all. The error is of the file: names that are not in the list are found in missing, as
// what remains of a mailbox under other keys is worth looking at too.
func (v *View) only(names []Name) (*only, error) {
	if len(names) == 0 {
		return nil, nil
	}
	o := &only{v: v, names: map[Name]bool{}, ids: map[string]bool{}}
	for _, n := range names {
		if o.names[n] {
			continue
		}
		o.names[n] = true
		rec, err := v.Entry(n)
		switch {
		case errors.Is(err, ErrNotFound):
			o.missing = errors.Join(o.missing, err)
			continue
		case err != nil && !errors.Is(err, ErrRecord) && !errors.Is(err, skiplist.ErrDamaged):
			return nil, fmt.Errorf("%s: %w", n, err)
		}
		o.known++
		if rec.UniqueID != "" {
			o.ids[rec.UniqueID] = true
		}
	}
	return o, nil
}

// unknown is an ErrNotFound for each name that is not in the list.
func (o *only) unknown() error {
	if o == nil {
		return nil
	}
	return o.missing
}

// concerns tells whether a record is one of those.
func (o *only) concerns(key, value []byte) bool {
	switch {
	case o == nil:
		return true
	case o.v.l.form != Form36:
		return o.names[InternalName(string(key))]
	case len(key) == 0:
		return false
	case key[0] == nameClass:
		return o.names[DBName(string(key[1:]))]
	case key[0] == idClass:
		if o.ids[string(key[1:])] {
			return true
		}
		rec, err := DecodeID(key, value)
		return err == nil && o.names[rec.Name]
	case string(key) == raclMarker:
		return o.known > 0
	case key[0] == raclClass:
		_, n, ok := splitRACL(key)
		return ok && o.names[n]
	}
	return false
}
