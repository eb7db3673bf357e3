package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/journal"
)

// Recovered is what a recovery has done.
type Recovered struct {
	// Steps are the changes of mailboxes that were finished or taken back.
	Steps int `json:"steps"`
	// Mailboxes are the changes within mailboxes that were.
	Mailboxes int `json:"mailboxes"`
	// Staged are the files of messages that were not delivered, which deliveries that were killed have left more than a day ago.
	Staged int `json:"staged"`
	// QuotaRoots are those whose usage was counted anew, after a change of one of their mailboxes that was interrupted, by their
	// internal names.
	QuotaRoots []string `json:"quota_roots"`
}

// Recover is [Store.Recover] for who does nothing else with the store: with nothing pending the mailbox list is not even
// opened, and need not be there.
//
// It also keeps space for the journals, as far as there is some: flags are removed, and messages expunged, on a full disk also
// where no change has needed a journal before.
//
// A dry run counts what is noted, also what others are at.
func Recover(ctx context.Context, c *imapdconf.Config, o Options, dry bool) (r Recovered, err error) {
	s, err := newStore(ctx, c, o)
	if err != nil {
		return r, fmt.Errorf("recover: %w", noSpace(err))
	}
	if !dry {
		defer s.reserveJournals(ctx)
	}
	defer func() { r.Staged = s.removeStaged(dry) }()
	keys, keysErr := journal.Open(s.fs, s.journalDir()).Keys(ctx)
	n, mailboxErr := s.recoverMailboxes(ctx, dry)
	dirty, rootsErr := s.quota.Dirty(ctx)
	all := []error{keysErr, mailboxErr, rootsErr}
	switch {
	case dry:
		r.Steps, r.QuotaRoots = len(keys), dirty
	case len(keys)+len(dirty) > 0:
		err := s.openList(ctx, c)
		if err == nil {
			r, err = s.recoverSteps(ctx, keys)
			err = errors.Join(err, s.list.Close())
		}
		all = append(all, err)
	}
	r.Mailboxes = n
	if err = errors.Join(append(all, s.roots.Close(), s.cache.close())...); err != nil {
		err = fmt.Errorf("recover: %w", noSpace(err))
	}
	return r, err
}

// Recover finishes or takes back all that processes have left behind that are gone: changes of mailboxes in the journal of
// the store, and changes in mailboxes in those of the partitions; then it counts the quota roots of which nobody knows whether
// these changes are in their usage. It may be called at any time, beside whoever uses the store; it takes the locks that the
// change took. With nothing pending it reads a few heads of files.
func (s *Store) Recover(ctx context.Context) (r Recovered, err error) {
	// Mailboxes first: they are known by their paths, which a step may change.
	n, mailboxErr := s.recoverMailboxes(ctx, false)
	keys, keysErr := journal.Open(s.fs, s.journalDir()).Keys(ctx)
	r, err = s.recoverSteps(ctx, keys)
	r.Mailboxes = n
	if err = errors.Join(mailboxErr, keysErr, err); err != nil {
		err = fmt.Errorf("recover: %w", noSpace(err))
	}
	return r, err
}

// recoverSteps resolves the entries of these keys in the journal of the store, and counts what is to be counted.
func (s *Store) recoverSteps(ctx context.Context, keys []string) (r Recovered, err error) {
	var all []error
	for _, key := range keys {
		held, n, failed, err := s.lockAndResolve(ctx, keyUsers(key)...)
		held.Release()
		r.Steps += n
		if all = append(all, failed, err); err != nil {
			break
		}
	}
	r.QuotaRoots, err = s.quota.SettleAll(ctx)
	return r, errors.Join(append(all, err)...)
}

// recoverMailboxes brings to its end what is in the journals of the partitions, and returns how many changes that were.
func (s *Store) recoverMailboxes(ctx context.Context, dry bool) (n int, err error) {
	var failed []error
	done := map[string]bool{}
	for _, partition := range slices.Sorted(maps.Keys(s.layout.Partitions)) {
		dir, err := index.JournalDir(s.layout, partition)
		if err != nil {
			return n, err
		}
		if done[dir] {
			continue
		}
		done[dir] = true
		if dry {
			keys, err := journal.Open(s.fs, dir).Keys(ctx)
			n, failed = n+len(keys), append(failed, err)
			continue
		}
		found, err := index.RecoverJournal(ctx, s.fs, dir, index.OpenOptions{Participant: index.SettleLater(s.quota), Log: s.logger})
		n, failed = n+len(found), append(failed, err)
	}
	return n, errors.Join(failed...)
}

// reserveJournals makes a slot in each journal that has none. A recovery does not fail because one cannot be made: every change
// asks for its slot before it begins.
func (s *Store) reserveJournals(ctx context.Context) {
	s.reserveSlot(ctx)
	var all []error
	for partition := range s.layout.Partitions {
		dir, err := index.JournalDir(s.layout, partition)
		if err == nil {
			err = journal.Open(s.fs, dir).Reserve(ctx)
		}
		all = append(all, err)
	}
	if err := errors.Join(all...); err != nil {
		s.logger.Info("no space is kept for changes on a full disk", "error", err)
	}
}

// reserveSlot keeps a slot of the journal of the store for the next change, beside those of changes that wait for a recovery.
func (s *Store) reserveSlot(ctx context.Context) {
	j, err := s.journal()
	if err == nil {
		err = j.Reserve(ctx)
	}
	if err != nil {
		s.logger.Info("no space is kept for changes of mailboxes on a full disk", "error", err)
	}
}

// removeStaged removes what killed deliveries have left in the directories for messages that arrive. A recovery does not fail for
// what stays there: nobody looks at it.
func (s *Store) removeStaged(dry bool) (n int) {
	for _, p := range s.layout.Partitions {
		removed, err := index.RemoveStaged(s.fs, index.StageDir(p.Data), dry)
		if n += removed; err != nil {
			s.logger.Warn("what a killed delivery has left stays", "partition", p.Data, "error", err)
		}
	}
	return n
}
