package store

import (
	"context"
	"fmt"

	"github.com/mailspine/mailspine/mboxdb"
)

// Grant says how the rights on a mailbox change.
type Grant struct {
	Name       mboxdb.Name
	Identifier string
	Mode       mboxdb.ACLMode
	Rights     mboxdb.Rights
	DryRun     bool
}

// SetACL changes the rights of an identifier on a mailbox: in the list, which decides, and in the copy in cyrus.header.
//
// The commit point is the list's transaction; see [Store] for what a crash leaves.
func (s *Store) SetACL(ctx context.Context, g Grant) ([]Moved, error) {
	moved, err := s.run(ctx, g.DryRun, []string{s.user(g.Name)}, func(v *mboxdb.View) (*step, error) { return s.planSetACL(ctx, v, g) })
	if err != nil {
		return nil, fmt.Errorf("set ACL: %w", err)
	}
	return moved, nil
}

func (s *Store) planSetACL(ctx context.Context, v *mboxdb.View, g Grant) (*step, error) {
	if s.config.conversations {
		return nil, ErrConversations
	}
	rec, err := v.Lookup(g.Name)
	if err != nil {
		return nil, err
	}
	if !rec.Type.Exists() || rec.Type.Remote() || rec.Type.Moving() {
		return nil, fmt.Errorf("%s: %w", g.Name, ErrElsewhere)
	}
	seen, err := s.look(ctx, rec)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", g.Name, err)
	}
	root, err := s.roots.Owner(ctx, rec.Name.String())
	if err != nil {
		return nil, err
	}
	next := rec
	if next.ACL, err = s.list.Options().ACL.Set(rec.ACL, g.Identifier, g.Mode, g.Rights); err != nil {
		return nil, err
	}
	next.FolderModSeq, next.Modified = seen.next(rec), s.fs.Now().Unix()
	return &step{op: "setacl", moves: []Moved{{Before: rec, After: next, QuotaBefore: seen.root, QuotaAfter: root}},
		puts: []mboxdb.Put{{Was: rec, Record: next}}, lines: logChanged(rec.Name.String())}, nil
}
