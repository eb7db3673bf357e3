package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

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
	// Pledges are for who keeps the accounts of quota roots.
	Pledges [][]byte `json:"pledges,omitempty"`
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

// usersKey is the key of entries of these users. An empty one, which stands for the shared mailboxes, counts as any other.
func usersKey(users []string) string {
	users = slices.Sorted(slices.Values(users))
	return "users\x00" + strings.Join(slices.Compact(users), "\x00")
}

// keyUsers are the users of a key.
func keyUsers(key string) []string {
	_, users, _ := strings.Cut(key, "\x00")
	return strings.Split(users, "\x00")
}

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
	held, _, failed, err := s.lockAndResolve(ctx, users...)
	if failed != nil {
		s.logger.Warn("a change that was interrupted stays so", "error", failed)
	}
	return held, err
}

// lockAndResolve is lockUsers that returns how many entries it has resolved, and what could not be. An entry may name other
// users, too: then the locks of all of them are taken anew, because they have an order.
func (s *Store) lockAndResolve(ctx context.Context, users ...string) (held *locks.Held, resolved int, failed, err error) {
	for {
		held, err := locks.InOrder(ctx, s.fs, vfs.Exclusively, s.layout.UserLocks(users...)...)
		if err != nil {
			return nil, resolved, nil, err
		}
		n, more, failed := s.resolvePending(ctx, users)
		resolved += n
		if err := context.Cause(ctx); err != nil {
			held.Release()
			return nil, resolved, failed, err
		}
		if len(more) == 0 {
			return held, resolved, failed, nil
		}
		held.Release()
		users = append(slices.Clip(users), more...)
	}
}

// resolvePending resolves all entries whose users are among those given. It returns how many, and the others of entries that
// name some of them. The caller holds the locks of the users, so no entry of theirs is that of a living writer.
func (s *Store) resolvePending(ctx context.Context, users []string) (n int, more []string, failed error) {
	j := journal.Open(s.fs, s.journalDir())
	keys, err := j.Keys(ctx)
	if err != nil {
		return 0, nil, err
	}
	for _, key := range keys {
		var others []string
		named := keyUsers(key)
		for _, user := range named {
			if !slices.Contains(users, user) {
				others = append(others, user)
			}
		}
		switch {
		case len(others) == len(named):
			continue
		case len(others) > 0:
			more = append(more, others...)
			continue
		}
		done, err := s.resolveKey(ctx, j, key)
		n, failed = n+done, errors.Join(failed, err)
	}
	return n, more, failed
}

// resolveKey resolves the entries of one key, the newest first.
func (s *Store) resolveKey(ctx context.Context, j *journal.Journal, key string) (n int, failed error) {
	slots, err := j.Pending(ctx, key)
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		e, err := decodeEntry(slot.Payload())
		if err == nil {
			err = s.resolve(ctx, &e)
		}
		if err == nil {
			err = slot.Clear(false)
		}
		if slot.Close(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("finish a %s that was interrupted: %w", orElse(e.Op, "change"), err))
			continue
		}
		n++
	}
	return n, failed
}
