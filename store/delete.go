package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/mailspine/mailspine/mboxdb"
)

// Deletion says what mailbox to delete.
type Deletion struct {
	Name mboxdb.Name
	// Recursive deletes the mailboxes below it, too; else they keep it from being deleted.
	Recursive bool
	// Immediate removes the files at once. Otherwise that is as the store is configured: a mailbox goes on under a name that
	// tells when it was deleted, until it expires.
	Immediate bool
	DryRun    bool
}

// Delete deletes a mailbox. What a user has beside mailboxes, such as subscriptions and scripts, stays.
//
// The commit point is the list's transaction; see [Store] for what a crash leaves.
func (s *Store) Delete(ctx context.Context, d Deletion) ([]Moved, error) {
	moved, err := s.run(ctx, d.DryRun, []string{s.user(d.Name)}, func(v *mboxdb.View) (*step, error) { return s.planDelete(ctx, v, d) })
	if err != nil {
		return nil, fmt.Errorf("delete mailbox: %w", err)
	}
	return moved, nil
}

func (s *Store) planDelete(ctx context.Context, v *mboxdb.View, d Deletion) (*step, error) {
	if s.config.conversations {
		return nil, ErrConversations
	}
	tree, err := s.tree(v, d.Name)
	if err != nil {
		return nil, err
	}
	if len(tree) > 1 && !d.Recursive {
		return nil, fmt.Errorf("%s: %w, such as %s", d.Name, ErrChildren, tree[1].Name)
	}
	ns := s.layout.Namespace
	st := &step{op: "delete", frees: true}
	_, deleted := d.Name.Deleted(ns)
	delayed := s.config.delayed && !d.Immediate && !deleted
	at := s.fs.Now().Unix()
	for i := 0; delayed && i < len(tree); {
		free, err := s.isFree(v, tree[i].Name.ToDeleted(ns, at))
		if err != nil {
			return nil, err
		}
		if i++; !free { // deleted, created anew and deleted in one second
			i, at = 0, at+1
		}
	}
	for _, rec := range tree {
		to := mboxdb.Name{}
		if delayed && rec.Type.Exists() {
			to = rec.Name.ToDeleted(ns, at)
		}
		if err := s.planDeleteOne(ctx, v, st, rec, to); err != nil {
			return nil, err
		}
	}
	return st, nil
}

// isFree tells whether no mailbox has a name.
func (s *Store) isFree(v *mboxdb.View, n mboxdb.Name) (bool, error) {
	rec, err := v.Entry(n)
	if errors.Is(err, mboxdb.ErrNotFound) {
		return true, nil
	}
	return rec.Type.Deleted(), err
}

// planDeleteOne adds one mailbox. to is zero if nothing is to be left of it.
func (s *Store) planDeleteOne(ctx context.Context, v *mboxdb.View, st *step, rec mboxdb.Record, to mboxdb.Name) error {
	rootBefore, modseq := "", rec.FolderModSeq+1
	if rec.Type.Exists() {
		// A mailbox that is damaged can be deleted like any other.
		if seen, err := s.look(ctx, rec); err == nil {
			rootBefore, modseq = seen.root, seen.next(rec)
		} else if !isUnusable(err) {
			return err
		}
	}
	if !to.IsZero() {
		return s.planMove(ctx, v, st, rec, to, rec.Partition, rootBefore, modseq)
	}
	m := Moved{Before: rec, QuotaBefore: rootBefore}
	st.moves = append(st.moves, m)
	_, deleted := rec.Name.Deleted(s.layout.Namespace)
	put := mboxdb.Put{Was: rec, Record: s.tombstone(rec, modseq), Forget: deleted}
	st.puts = append(st.puts, put)
	if rec.Type.Exists() {
		st.lines = append(st.lines, logDeleted(rec.Name.String())...)
	}
	return nil
}

// tombstone is what a mailbox leaves under its name.
func (s *Store) tombstone(rec mboxdb.Record, modseq uint64) mboxdb.Record {
	rec.Type = rec.Type.With('d')
	rec.Partition, rec.Server, rec.ACL, rec.FolderModSeq, rec.Modified = "", "", nil, modseq, s.fs.Now().Unix()
	return rec
}

// tree collects a mailbox and all that lie below it. They have to be here, and hold mail.
func (s *Store) tree(v *mboxdb.View, n mboxdb.Name) ([]mboxdb.Record, error) {
	top, err := v.Lookup(n)
	if err != nil {
		return nil, err
	}
	tree := []mboxdb.Record{top}
	for rec, err := range v.Below(n) {
		if err != nil {
			return nil, err
		}
		tree = append(tree, rec)
	}
	for i := range tree {
		tree[i].History = nil
		switch kind := tree[i].Type; {
		case kind.Remote() || kind.Moving():
			return nil, fmt.Errorf("%s: %w", tree[i].Name, ErrElsewhere)
		case kind == "" || kind[:1] != mboxdb.Mail:
			return nil, fmt.Errorf("%s: %w", tree[i].Name, ErrKind)
		}
	}
	return tree, nil
}
