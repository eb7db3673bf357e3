package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/mboxdb"
)

// Renaming says what mailbox to rename.
type Renaming struct {
	From, To mboxdb.Name
	// Partition is where the mailboxes go; empty: they stay. With a partition From and To may be the same.
	Partition string
	DryRun    bool
}

// Rename gives a mailbox, and all that lie below it, another name. What is missing above the new name is made, as by
// Create, and comes first in the answer. UIDVALIDITY, UIDs and unique ids stay; the UIDVALIDITY is raised if it would be one
// that was used under the new name.
//
// The commit point is the list's transaction; see [Store] for what a crash leaves.
func (s *Store) Rename(ctx context.Context, r Renaming) ([]Moved, error) {
	users := []string{s.user(r.From), s.user(r.To)}
	moved, err := s.run(ctx, r.DryRun, users, func(v *mboxdb.View) (*step, error) { return s.planRename(ctx, v, r) })
	if err != nil {
		return nil, fmt.Errorf("rename mailbox: %w", err)
	}
	return moved, nil
}

func (s *Store) planRename(ctx context.Context, v *mboxdb.View, r Renaming) (*step, error) {
	r.Partition = strings.ToLower(r.Partition)
	if s.config.conversations {
		return nil, ErrConversations
	}
	tree, err := s.tree(v, r.From)
	if err != nil {
		return nil, err
	}
	st := &step{op: "rename"}
	if r.From != r.To {
		if err := s.checkRename(v, r); err != nil {
			return nil, err
		}
		if _, err := s.planAbove(ctx, v, st, r.To, r.Partition); err != nil {
			return nil, err
		}
	} else if r.Partition == "" {
		return nil, fmt.Errorf("%s: %w", r.To, mboxdb.ErrExists)
	}
	above := st.moves
	st.moves = nil
	for _, rec := range tree {
		to := rec.Name.Move(r.From, r.To)
		if len(to.String()) > mboxdb.MaxNameBytes {
			return nil, fmt.Errorf("%s has more than %d bytes: %w", to, mboxdb.MaxNameBytes, mboxdb.ErrName)
		}
		root, modseq := "", rec.FolderModSeq+1
		if rec.Type.Exists() {
			seen, err := s.look(ctx, rec)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", rec.Name, err)
			}
			root, modseq = seen.root, seen.next(rec)
		}
		if err := s.planMove(ctx, v, st, rec, to, orElse(r.Partition, rec.Partition), root, modseq); err != nil {
			return nil, err
		}
	}
	st.moves = append(st.moves, above...)
	return st, nil
}

// checkRename fails unless a mailbox may have the new name.
func (s *Store) checkRename(v *mboxdb.View, r Renaming) error {
	switch {
	case r.From.IsInbox():
		return fmt.Errorf("%s: %w", r.From, ErrInbox)
	case r.To.IsInbox():
		return fmt.Errorf("%s: %w", r.To, ErrInbox)
	case r.To.IsBelow(r.From):
		return fmt.Errorf("%s cannot move to %s: %w", r.From, r.To, mboxdb.ErrName)
	}
	if rec, err := v.Lookup(r.To); err == nil {
		return fmt.Errorf("%s: %w", rec.Name, mboxdb.ErrExists)
	}
	return s.newName(v, r.To)
}

// planMove adds a mailbox that goes on under another name or on another partition.
func (s *Store) planMove(ctx context.Context, v *mboxdb.View, st *step, rec mboxdb.Record, to mboxdb.Name, partition, rootBefore string, modseq uint64) error {
	target, err := v.Entry(to)
	if errors.Is(err, mboxdb.ErrNotFound) {
		target, err = mboxdb.Record{}, nil
	}
	if err != nil {
		return err
	}
	root, err := s.roots.Owner(ctx, to.String())
	if err != nil {
		return err
	}
	next := rec
	next.Name, next.FolderModSeq, next.Modified = to, modseq, s.fs.Now().Unix()
	if next.Type.Exists() {
		next.Partition = partition
	}
	if to != rec.Name {
		if !target.Name.IsZero() && !target.Type.Deleted() {
			return fmt.Errorf("%s: %w", to, mboxdb.ErrExists)
		}
		if !target.Name.IsZero() && target.UIDValidity >= rec.UIDValidity {
			next.UIDValidity = target.UIDValidity + 1
		}
		st.puts = append(st.puts, mboxdb.Put{Was: rec, Record: s.tombstone(rec, modseq)})
	}
	was := target
	if to == rec.Name {
		was = rec
	}
	st.puts = append(st.puts, mboxdb.Put{Was: was, Record: next})
	st.moves = append(st.moves, Moved{Before: rec, After: next, QuotaBefore: rootBefore, QuotaAfter: root})
	switch from, name := rec.Name.String(), to.String(); {
	case !rec.Type.Exists():
	case to == rec.Name:
		st.lines = append(st.lines, logChanged(name)...)
	default:
		st.lines = append(st.lines, logRenamed(from, name)...)
		if rec.Type.Legacy() {
			st.lines = append(st.lines, logAppended(name)...)
		}
	}
	return nil
}

// seen is what the files of a mailbox say.
type seen struct {
	root    string
	highest uint64
	usage   index.Usage
}

// next is the modification sequence of a change of the mailbox as such.
func (n seen) next(rec mboxdb.Record) uint64 { return max(n.highest, rec.FolderModSeq) + 1 }

// look reads the files of a mailbox, under the lock of its index.
func (s *Store) look(ctx context.Context, rec mboxdb.Record) (n seen, err error) {
	p, err := s.place(rec)
	if err != nil {
		return n, err
	}
	m, err := index.Open(ctx, s.fs, p.at)
	if err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	file, err := m.HeaderFile()
	if err != nil {
		return n, err
	}
	header, err := m.Header()
	if err != nil {
		return n, err
	}
	if file.UniqueID != rec.UniqueID {
		return n, fmt.Errorf("%s holds the mailbox of the unique id %s: %w", p.at.Messages, file.UniqueID, index.ErrDamaged)
	}
	return seen{root: file.QuotaRoot, highest: uint64(header.HighestModSeq), usage: header.Usage()}, nil
}

// refresh looks again at the files of mailboxes that stay, now that nobody else has them open: the server need not hold the
// lock of a user to append to a shared mailbox.
func (s *Store) refresh(ctx context.Context, st *step) error {
	for i := range st.moves {
		m := &st.moves[i]
		if !m.hadFiles() {
			continue
		}
		// What a crash has left of changes in the mailbox is known by the path of its index: before that changes it is settled.
		p, err := s.place(m.Before)
		if err != nil {
			return err
		}
		if _, err = index.Recover(ctx, s.fs, p.at, index.OpenOptions{Participant: index.SettleLater(s.quota), Log: s.logger}); err != nil && !st.frees {
			return fmt.Errorf("%s: %w", m.Before.Name, err)
		}
		owner, err := s.roots.Owner(ctx, m.Before.Name.String())
		if err != nil {
			return err
		}
		seen, err := s.look(ctx, m.Before)
		if err != nil && st.frees {
			m.QuotaBefore, m.doubt = owner, owner
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.Before.Name, err)
		}
		m.QuotaBefore, m.usage = seen.root, seen.usage
		if seen.root != owner {
			m.doubt = seen.root
		}
		if !m.hasFiles() {
			continue
		}
		m.After.FolderModSeq = seen.next(m.Before)
		for k := range st.puts {
			if st.puts[k].Record.UniqueID == m.After.UniqueID {
				st.puts[k].Record.FolderModSeq = m.After.FolderModSeq
			}
		}
	}
	return nil
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
