package store

import (
	"context"
	"errors"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/mboxdb"
)

// update brings the header file and the index of a mailbox up to what the list says of it, in one transaction of the
// mailbox. Nothing is written if they say so already.
func (s *Store) update(ctx context.Context, rec mboxdb.Record) (err error) {
	p, err := s.place(rec)
	if err != nil {
		return err
	}
	root, err := s.roots.find(ctx, rec.Name.String())
	if err != nil {
		return err
	}
	m, err := index.OpenWith(ctx, s.fs, p.at, index.OpenOptions{Log: s.logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return m.Update(ctx, func(tx *index.Tx) error {
		err := tx.EditHeaderFile(func(h *index.HeaderFile) error {
			if h.Form == index.HeaderList {
				h.Type, h.Name = string(rec.Type), rec.Name.String()
			}
			h.QuotaRoot, h.ACL = root, headerACL(rec.ACL)
			return nil
		})
		if err != nil {
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
