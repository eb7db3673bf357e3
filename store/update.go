package store

import (
	"context"
	"errors"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/mboxdb"
)

// update brings the header file and the index of a mailbox up to what the list says of it, in one transaction of the
// mailbox. Nothing is written if they say so already.
//
// ready is what was prepared for it, nil after a crash.
func (s *Store) update(ctx context.Context, rec mboxdb.Record, ready *index.ReadyHeader) (err error) {
	p, err := s.place(rec)
	if err != nil {
		return err
	}
	root, err := s.roots.Owner(ctx, rec.Name.String())
	if err != nil {
		return err
	}
	m, err := index.OpenWith(ctx, s.fs, p.at, index.OpenOptions{Participant: index.SettleLater(s.quota), Log: s.logger, Ready: ready})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return m.Update(ctx, func(tx *index.Tx) error {
		if err := tx.EditHeaderFile(headerOf(rec, root)); err != nil {
			return err
		}
		if tx.Header().UIDValidity != rec.UIDValidity {
			if err := tx.EditHeader(func(h *index.Header) { h.UIDValidity = rec.UIDValidity }); err != nil {
				return err
			}
		}
		return tx.RaiseModSeq(index.ModSeq(rec.FolderModSeq))
	})
}

// headerOf brings a header file up to what the list says of a mailbox.
func headerOf(rec mboxdb.Record, root string) func(h *index.HeaderFile) error {
	return func(h *index.HeaderFile) error {
		if h.Form == index.HeaderList {
			h.Type, h.Name = string(rec.Type), rec.Name.String()
		}
		h.QuotaRoot, h.ACL = root, headerACL(rec.ACL)
		return nil
	}
}

// readyHeaders are what was prepared for mailboxes that follow the list after its commit, by the paths of their header files.
type readyHeaders map[string]*index.ReadyHeader

// discard removes what nobody has used.
func (r readyHeaders) discard() {
	for _, h := range r {
		h.Discard()
	}
}

// prepareHeader takes beforehand the space that update needs for a mailbox that goes on, in the place where its files are by
// now. One that is damaged has no need: its header stays behind the list.
func (s *Store) prepareHeader(ctx context.Context, m *Moved, ready readyHeaders) error {
	p, err := s.place(m.After)
	if err != nil {
		return err
	}
	root, err := s.roots.Owner(ctx, m.After.Name.String())
	if err != nil {
		return err
	}
	h, err := index.PrepareHeader(ctx, s.fs, p.at, headerOf(m.After, root))
	if isUnusable(err) {
		return nil
	}
	if h != nil {
		ready[p.at.Paths.Header] = h
	}
	return err
}

// isUnusable tells whether an error means that nobody can open a mailbox.
func isUnusable(err error) bool {
	return errors.Is(err, index.ErrDamaged) || errors.Is(err, index.ErrNotHeader) || isMissing(err)
}
