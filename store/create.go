package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/mailspine/mailspine/mboxdb"
)

// NewMailbox says what mailbox to create.
type NewMailbox struct {
	Name mboxdb.Name
	// Partition is that of the mailbox above, or the default one, if it is empty.
	Partition string
	// ACL is that of the mailbox above if it is nil; an INBOX belongs to its user.
	ACL mboxdb.ACL
	// UniqueID and UIDValidity are chosen if they are empty. A UIDVALIDITY that was used under this name is raised.
	UniqueID    string
	UIDValidity uint32
	// DryRun only says what would be made.
	DryRun bool
}

// Create makes a mailbox: its directories, cyrus.header, cyrus.index, and its entry in the list. What is missing between it
// and the INBOX of its user is made, too, as Cyrus 3.6 does; it comes first in the answer.
//
// The commit point is the list's transaction; see [Store] for what a crash leaves.
func (s *Store) Create(ctx context.Context, m NewMailbox) ([]Moved, error) {
	moved, err := s.run(ctx, m.DryRun, []string{s.user(m.Name)}, func(v *mboxdb.View) (*step, error) { return s.planCreate(ctx, v, m) })
	if err != nil {
		return nil, fmt.Errorf("create mailbox: %w", err)
	}
	return moved, nil
}

func (s *Store) user(n mboxdb.Name) string { return n.User(s.layout.Namespace) }

func (s *Store) planCreate(ctx context.Context, v *mboxdb.View, m NewMailbox) (*step, error) {
	if s.config.conversations {
		return nil, ErrConversations
	}
	if err := s.newName(v, m.Name); err != nil {
		return nil, err
	}
	if m.UniqueID != "" {
		if err := v.UnusedID(m.UniqueID); err != nil {
			return nil, err
		}
	}
	st := &step{op: "create"}
	above, err := s.planAbove(ctx, v, st, m.Name, m.Partition)
	if err != nil {
		return nil, err
	}
	acl := m.ACL
	if acl == nil {
		if acl, err = v.InheritedACL(m.Name); err != nil {
			return nil, err
		}
	}
	rec := above
	rec.Name, rec.ACL, rec.UniqueID, rec.UIDValidity = m.Name, acl, m.UniqueID, m.UIDValidity
	if err := s.planNew(ctx, v, st, rec); err != nil {
		return nil, err
	}
	return st, nil
}

// newName fails unless a mailbox of this name can be made: the name is good, nothing has it, and its user exists.
func (s *Store) newName(v *mboxdb.View, n mboxdb.Name) error {
	ns := s.layout.Namespace
	if err := ns.Validate(n); err != nil {
		return err
	}
	if _, deleted := n.Deleted(ns); deleted {
		return fmt.Errorf("%s is a name of deleted mailboxes: %w", n, mboxdb.ErrName)
	}
	switch rec, err := v.Entry(n); {
	case err == nil && !rec.Type.Deleted() && !rec.Type.Reserved() && !rec.Type.Intermediate():
		return fmt.Errorf("%s: %w", n, mboxdb.ErrExists)
	case err != nil && !errors.Is(err, mboxdb.ErrNotFound):
		return err
	}
	inbox := n.Inbox(ns)
	if inbox.IsZero() || n == inbox {
		return nil
	}
	rec, err := v.Lookup(inbox)
	if errors.Is(err, mboxdb.ErrNotFound) || err == nil && !rec.Type.Exists() {
		err = fmt.Errorf("%s: %w", n, ErrNoUser)
	}
	return err
}

// planAbove adds the mailboxes that are missing above a new one, and returns what the new one shares with them: kind and
// partition. With an empty partition that of the next mailbox above is taken.
func (s *Store) planAbove(ctx context.Context, v *mboxdb.View, st *step, n mboxdb.Name, partition string) (like mboxdb.Record, err error) {
	var missing []mboxdb.Name
	var found mboxdb.Record
	ns := s.layout.Namespace
	for up := n.Parent(); !up.IsZero(); up = up.Parent() {
		rec, err := v.Lookup(up)
		if err == nil && rec.Type.Exists() {
			found = rec
			break
		}
		if err != nil && !errors.Is(err, mboxdb.ErrNotFound) {
			return like, err
		}
		// "INBOX" right below an INBOX is no mailbox of its own for Cyrus.
		if levels := up.Levels(); up.User(ns) != "" && !(len(levels) == 3 && levels[2] == "INBOX") {
			missing = append(missing, up)
		}
	}
	like.Type, err = s.kindOf(v, n, found)
	if err != nil {
		return like, err
	}
	like.Partition = orElse(strings.ToLower(partition), orElse(found.Partition, s.list.Options().DefaultPartition))
	acl, err := v.InheritedACL(n)
	if err != nil {
		return like, err
	}
	for i := len(missing) - 1; i >= 0; i-- {
		rec := like
		rec.Name, rec.ACL = missing[i], acl
		if err := s.planNew(ctx, v, st, rec); err != nil {
			return like, err
		}
	}
	return like, nil
}

// kindOf is the type of a new mailbox: whether its directory follows from its name is as for the INBOX of its user, or the
// shared mailbox above it.
func (s *Store) kindOf(v *mboxdb.View, n mboxdb.Name, above mboxdb.Record) (mboxdb.Type, error) {
	legacy := s.config.legacyDirs
	if inbox := n.Inbox(s.layout.Namespace); !inbox.IsZero() {
		rec, err := v.Lookup(inbox)
		if err != nil && !errors.Is(err, mboxdb.ErrNotFound) {
			return "", err
		}
		if err == nil {
			legacy = rec.Type.Legacy()
		}
	} else if !above.Name.IsZero() {
		legacy = above.Type.Legacy()
	}
	if legacy {
		return mboxdb.Mail.With('l'), nil
	}
	return mboxdb.Mail, nil
}

// planNew adds a mailbox to a step. What stands in the list under its name may be a tombstone, or a name without a mailbox.
func (s *Store) planNew(ctx context.Context, v *mboxdb.View, st *step, rec mboxdb.Record) error {
	was, err := v.Entry(rec.Name)
	if errors.Is(err, mboxdb.ErrNotFound) {
		was, err = mboxdb.Record{}, nil
	}
	if err != nil {
		return err
	}
	if rec.UniqueID == "" && was.Type.Intermediate() && !was.Type.Deleted() {
		rec.UniqueID = was.UniqueID
	}
	for rec.UniqueID == "" {
		id := s.list.Options().NewID()
		if v.UnusedID(id) == nil {
			rec.UniqueID = id
		}
	}
	now := s.fs.Now().Unix()
	if rec.UIDValidity == 0 {
		rec.UIDValidity = uint32(max(1, min(now+1, math.MaxUint32)))
	}
	if rec.UIDValidity <= was.UIDValidity {
		rec.UIDValidity = was.UIDValidity + 1
	}
	rec.CreatedModSeq = was.FolderModSeq + 1
	rec.FolderModSeq, rec.Modified = rec.CreatedModSeq, now
	root, err := s.roots.Owner(ctx, rec.Name.String())
	if err != nil {
		return err
	}
	st.moves = append(st.moves, Moved{After: rec, QuotaAfter: root})
	st.puts = append(st.puts, mboxdb.Put{Was: was, Record: rec})
	st.lines = append(st.lines, logChanged(rec.Name.String())...)
	return nil
}
