package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// resolve brings what an entry names to one state, whichever the list holds, under the locks of its users. It may be called
// at any time, and again.
func (s *Store) resolve(ctx context.Context, e *entry) error {
	committed := false
	err := s.list.View(ctx, func(v *mboxdb.View) (err error) {
		committed, err = e.committed(v)
		return err
	})
	if err != nil {
		return err
	}
	var recs []mboxdb.Record
	for _, p := range e.Places {
		recs = append(recs, p.record())
	}
	names, err := s.lockNames(ctx, recs...)
	if err != nil {
		return err
	}
	defer names.Release()
	s.logger.Info("a change that was interrupted is "+map[bool]string{true: "finished", false: "taken back"}[committed], "change", e.Op, "mailboxes", e.Names)
	if err := s.settle(ctx, e, committed, nil); err != nil {
		return err
	}
	return s.recount(ctx, e)
}

// committed tells whether the list holds the new state. It is only asked for whether others have to hear of it: what
// becomes of files is decided for each place on its own.
func (e *entry) committed(v *mboxdb.View) (bool, error) {
	now, err := v.LookupID(e.ID)
	switch {
	case errors.Is(err, mboxdb.ErrNotFound):
		return len(e.Name) == 0, nil
	case err != nil:
		return false, err
	}
	return now.Name.DB() == string(e.Name), nil
}

// settle looks at each place that the entry names. A mailbox that lies there, by the list, gets the header file that the
// list demands; where none does the files go. ready is nil in a recovery.
func (s *Store) settle(ctx context.Context, e *entry, committed bool, ready readyHeaders) error {
	err := s.list.View(ctx, func(v *mboxdb.View) error {
		var all []error
		for _, p := range e.Places {
			if err := s.settleOne(ctx, v, p, ready); err != nil {
				all = append(all, fmt.Errorf("%s: %w", p.record().Name, err))
			}
		}
		return errors.Join(all...)
	})
	if err != nil {
		return err
	}
	if committed {
		s.tell(ctx, e.Lines, e.Names...)
	}
	return nil
}

func (s *Store) settleOne(ctx context.Context, v *mboxdb.View, p entryPlace, ready readyHeaders) error {
	at, err := s.place(p.record())
	if err != nil {
		return err
	}
	rec, err := s.tenant(v, at)
	if err != nil {
		return err
	}
	switch {
	case rec.UniqueID == p.UniqueID && rec.UniqueID != "":
		err := s.update(ctx, rec, ready[at.at.Paths.Header])
		if isUnusable(err) {
			s.logger.Error("a mailbox is damaged, and its header stays behind the list", "mailbox", rec.Name.String(), "error", err)
			return nil // nobody can open it: that it has a new name or another owner is not what it waits for
		}
		if err == nil && ready == nil {
			err = index.RemoveLeftHeader(s.fs, at.at)
		}
		return err
	case !rec.Name.IsZero():
		return nil // another mailbox lies there by now
	}
	header, err := index.ReadHeaderFile(s.fs, at.at.Paths.Header)
	if err == nil && header.UniqueID != p.UniqueID {
		s.logger.Warn("a directory that is to go holds the header of another mailbox: it stays", "directory", at.at.Messages, "uniqueid", header.UniqueID)
		return nil
	}
	if err := s.remove(v, at); err != nil || !p.Gone {
		return err
	}
	return s.dropAnnotations(ctx, p.UniqueID)
}

// tenant is the mailbox that lies in a place by the list; its name is zero if none does.
func (s *Store) tenant(v *mboxdb.View, p *place) (mboxdb.Record, error) {
	lookup := func() (mboxdb.Record, error) { return v.LookupID(p.rec.UniqueID) }
	if p.rec.Type.Legacy() {
		lookup = func() (mboxdb.Record, error) { return v.Lookup(p.rec.Name) }
	}
	rec, err := lookup()
	if errors.Is(err, mboxdb.ErrNotFound) || err == nil && !rec.Type.Exists() || planted.On(planted.StepListUnasked) {
		return mboxdb.Record{}, nil
	}
	if err != nil {
		return mboxdb.Record{}, err
	}
	now, err := s.place(rec)
	if err != nil {
		return mboxdb.Record{}, err
	}
	if !now.same(p) {
		return mboxdb.Record{}, nil
	}
	return rec, nil
}

// dropAnnotations removes what is noted of a mailbox that is gone. Nobody will ask for it under the unique id, so what fails
// here is no reason to keep an entry.
func (s *Store) dropAnnotations(ctx context.Context, id string) error {
	info, err := s.fs.Stat(s.config.annotations)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size == 0 {
		return nil
	}
	if err == nil {
		err = s.dropPrefix(ctx, s.config.annotations, id+"\x00")
	}
	if err != nil {
		s.logger.Warn("annotations of a mailbox that is gone stay", "uniqueid", id, "error", err)
	}
	return nil
}

func (s *Store) dropPrefix(ctx context.Context, path, prefix string) (err error) {
	db, err := skiplist.Open(ctx, path, s.db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var keys [][]byte
	err = db.View(ctx, func(snap *skiplist.Snapshot) error {
		for r, err := range snap.Prefix([]byte(prefix)) {
			if err != nil {
				return err
			}
			keys = append(keys, append([]byte(nil), r.Key...))
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	return db.Update(ctx, func(tx *skiplist.Tx) error {
		tx.UseReserve()
		for _, key := range keys {
			if err := tx.Delete(key); err != nil && !errors.Is(err, skiplist.ErrNotFound) {
				return err
			}
		}
		return nil
	})
}
