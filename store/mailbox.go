package store

import (
	"context"
	"fmt"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/mboxdb"
)

// MailboxOptions are those with which a mailbox of the store has to be opened, so that replicas and the cache of STATUS hear
// of what is changed in it.
func (s *Store) MailboxOptions(n mboxdb.Name) index.OpenOptions {
	name := n.String()
	return index.OpenOptions{
		Conversations: s.config.conversations,
		Participant:   s.quota,
		Log:           s.logger,
		Committed: func(ctx context.Context, c index.Committed) {
			if len(c.Appended) > 0 {
				s.Appended(ctx, name)
			} else {
				s.Changed(ctx, name)
			}
		},
	}
}

// OpenMailbox opens a mailbox by its entry in the list.
func (s *Store) OpenMailbox(ctx context.Context, n mboxdb.Name) (*index.Mailbox, error) {
	rec, err := s.list.Lookup(ctx, n)
	if err == nil && (!rec.Type.Exists() || rec.Type.Remote()) {
		err = fmt.Errorf("%s: %w", n, ErrElsewhere)
	}
	if err != nil {
		return nil, err
	}
	p, err := index.PlaceOf(s.layout, rec)
	if err != nil {
		return nil, err
	}
	return index.OpenWith(ctx, s.fs, p, s.MailboxOptions(n))
}
