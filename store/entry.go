package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/mailspine/mailspine/internal/journal"
	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

// entry is what the journal keeps of a step: enough to tell, together with the list, which files are of no use.
type entry struct {
	// Op is create, rename, delete or setacl.
	Op string `json:"op"`
	// Users are those whose locks the step holds; "" stands for the shared mailboxes.
	Users []string `json:"users"`
	// Places are all that the step touches.
	Places []entryPlace `json:"places"`
	// ID and Name tell the states before and after apart: after the step the mailbox of this unique id has this name, in the
	// spelling of the database; none, if the name is empty.
	ID   string `json:"id"`
	Name []byte `json:"name,omitempty"`
	// Lines are those for the sync log, Names the mailboxes whose cached status goes, by their internal names.
	Lines []string `json:"lines,omitempty"`
	Names []string `json:"names,omitempty"`
}

// entryPlace is a mailbox as it lies, or is to lie, in one place. The name is in the spelling of the database, and as bytes,
// because there may be any in it.
type entryPlace struct {
	Name      []byte `json:"name"`
	UniqueID  string `json:"uniqueid"`
	Type      string `json:"type"`
	Partition string `json:"partition"`
	// Gone says that the step removes the mailbox for good, and its annotations with it.
	Gone bool `json:"gone,omitempty"`
}

func (p entryPlace) record() mboxdb.Record {
	return mboxdb.Record{Name: mboxdb.DBName(string(p.Name)), UniqueID: p.UniqueID, Type: mboxdb.Type(p.Type), Partition: p.Partition}
}

func placeEntry(rec mboxdb.Record, gone bool) entryPlace {
	return entryPlace{Name: []byte(rec.Name.DB()), UniqueID: rec.UniqueID, Type: string(rec.Type), Partition: rec.Partition, Gone: gone}
}

// key tells entries apart.
func (e *entry) key() string { return e.Op + " " + e.ID }

// encode is the payload of the entry. What would not be read back as it is, is refused: a list may hold any bytes.
func (e *entry) encode() ([]byte, error) {
	payload, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if back, err := decodeEntry(payload); err != nil || !reflect.DeepEqual(back, *e) {
		return nil, fmt.Errorf("a name that is not text: %w", mboxdb.ErrName)
	}
	return payload, nil
}

func decodeEntry(payload []byte) (e entry, err error) {
	if err = json.Unmarshal(payload, &e); err != nil {
		err = fmt.Errorf("an entry of the journal cannot be read: %w", err)
	}
	return e, err
}

// journalDir is where the entries are.
func (s *Store) journalDir() string { return filepath.Join(s.layout.ConfigDir, "mailspine", "journal") }

// journal opens the journal for a step, and makes the directory above it.
func (s *Store) journal() (*journal.Journal, error) {
	dir := s.journalDir()
	if err := vfs.MkdirAll(s.fs, filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	return journal.Open(s.fs, dir), nil
}

// lockUsers takes the locks of users, and resolves what is pending under them. What cannot be resolved now is logged, and in
// nobody's way: a change looks at the list and at the places of its mailboxes itself.
func (s *Store) lockUsers(ctx context.Context, users ...string) (*locks.Held, error) {
	held, failed, err := s.lockAndResolve(ctx, users...)
	if failed != nil {
		s.logger.Warn("a change that was interrupted stays so", "error", failed)
	}
	return held, err
}

// lockAndResolve is lockUsers that returns what could not be resolved. An entry may name other users, too: then the locks
// of all of them are taken anew, because they have an order.
func (s *Store) lockAndResolve(ctx context.Context, users ...string) (held *locks.Held, failed, err error) {
	for {
		held, err := locks.InOrder(ctx, s.fs, vfs.Exclusively, s.layout.UserLocks(users...)...)
		if err != nil {
			return nil, nil, err
		}
		more, failed := s.resolvePending(ctx, users)
		if err := context.Cause(ctx); err != nil {
			held.Release()
			return nil, failed, err
		}
		if len(more) == 0 {
			return held, failed, nil
		}
		held.Release()
		users = append(slices.Clip(users), more...)
	}
}

// resolvePending resolves all entries whose users are among those given, whose locks the caller holds. It returns the
// others of entries that name some of them.
//
// Whoever looks for entries holds their slots for a moment, and somebody else would then take them for those of a living
// writer; so one looks at a time. That lock comes after those of the users.
func (s *Store) resolvePending(ctx context.Context, users []string) (more []string, failed error) {
	slots, done, err := s.pending(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	for _, slot := range slots {
		e, err := decodeEntry(slot.Payload())
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		concerned, others := false, []string(nil)
		for _, user := range e.Users {
			if slices.Contains(users, user) {
				concerned = true
			} else {
				others = append(others, user)
			}
		}
		if concerned {
			more = append(more, others...)
		}
		if !concerned || len(others) > 0 {
			continue
		}
		if err = s.resolve(ctx, &e); err == nil {
			err = slot.Clear(false)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("finish a %s that was interrupted: %w", e.Op, err))
		}
	}
	return more, failed
}

// pending locks all entries whose writers are gone, until done is called.
func (s *Store) pending(ctx context.Context) (slots []*journal.Slot, done func(), err error) {
	dir := s.journalDir()
	if _, err := s.fs.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, func() {}, nil
	}
	turn, err := locks.Acquire(ctx, s.fs, vfs.Exclusively, dir+".lock")
	if err != nil {
		return nil, nil, err
	}
	slots, err = journal.Open(s.fs, dir).Pending(ctx, "")
	if err != nil {
		turn.Release()
		return nil, nil, err
	}
	return slots, func() {
		for _, slot := range slots {
			slot.Close()
		}
		turn.Release()
	}, nil
}
