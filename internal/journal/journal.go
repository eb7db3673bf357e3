// Package journal keeps what has to be known after a crash to finish or to undo a change that overwrites several places.
//
// A [Journal] is a directory with slot files. A slot holds one entry: a key, which says what is being changed, and a payload,
// which only its writer understands. An entry is written before the change begins and cleared when the change is done:
//
//	slot, err := j.Take(ctx, key, size)  // nothing is changed yet; the space is there
//	err = slot.Write(payload)            // durable when it returns
//	...                                  // the change, synced
//	slot.Clear(false)
//	slot.Close()
//
// The lock of a slot file belongs to who uses it, and ends with the process. Who changes what a key names has locked that
// first, and looks for what is [Journal.Pending]: the entries of writers that have died. It decides what becomes of the change.
//
// What a crash leaves of an entry: Before Write has returned, the entry, or none; the change had not begun. From then on until
// it is cleared, the entry. After Clear, the entry or none, until something else makes the clearing durable; so an entry may
// come back whose change was finished long ago, and who resolves it must recognise that. An entry of which parts are missing
// does not count as one.
//
// Slots are made when they are needed, one for each writer at a time, and stay: an entry of up to 16 KiB needs no space on the disk
// afterwards. Where there is no space to make another, writers wait for those that are there.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
)

// ErrFull means that all slots hold entries of writers that have died: they have to be resolved.
var ErrFull = errors.New("the journal is full of changes that were not finished; recover the store")

// ErrKey means that a key is empty or too long.
var ErrKey = errors.New("not a key for a journal")

// Journal is the slots in one directory. Any number of processes may use them at once, and of goroutines.
type Journal struct {
	fs  vfs.FS
	dir string
}

// Open returns the journal in a directory, which need not exist before the first Take; its parent must.
func Open(fsys vfs.FS, dir string) *Journal { return &Journal{fs: fsys, dir: dir} }

// Dir is the directory.
func (j *Journal) Dir() string { return j.dir }

func (j *Journal) path(n int) string { return filepath.Join(j.dir, "slot."+strconv.Itoa(n)) }

// Take locks a free slot and makes sure that an entry with a payload of size bytes has its space. It waits, until ctx ends, only
// where another slot cannot be made. If there is no space the error is of ENOSPC, EDQUOT or EFBIG, and nothing has changed.
func (j *Journal) Take(ctx context.Context, key string, size int) (*Slot, error) {
	if key == "" || len(key) > keyMax {
		return nil, fmt.Errorf("%q: %w", key, ErrKey)
	}
	need := headBytes + int64(len(key)) + int64(size)
	for {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		s, busy, err := j.take(need)
		if err == nil && s == nil {
			s, err = j.create(busy.next, need)
		}
		if s != nil {
			s.key = key
			return s, nil
		}
		switch {
		case errors.Is(err, fs.ErrExist): // somebody else was faster
		case busy.path != "" && (errors.Is(err, ErrFull) || isSpace(err)):
			if err := j.wait(ctx, busy.path); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("journal %s: %w", j.dir, err)
		}
	}
}

// Reserve sees to it that a slot is there which no writer that has died keeps, so that a change finds one when the disk is full,
// also if it is the first that needs it.
func (j *Journal) Reserve(ctx context.Context) error {
	for n := range slotsMax {
		usable, err := j.usable(n)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil || usable {
			return err
		}
	}
	s, err := j.Take(ctx, "reserve", 0)
	if err == nil {
		s.Close()
	}
	return err
}

// usable tells whether slot n is ready for an entry, now or when its writer gives it back. A slot without an entry is told from its
// head, without the lock: a change that reserves is not to push others to slots that they would have to make.
func (j *Journal) usable(n int) (bool, error) {
	f, err := j.fs.Open(j.path(n), vfs.ReadWrite, 0)
	if err != nil {
		return false, err
	}
	s := &Slot{j: j, f: f}
	defer s.Close()
	b := make([]byte, headBytes)
	if _, err := readUpTo(f, b); err != nil {
		return false, err
	}
	if h := decodeHead(b); !h.entry {
		info, err := f.Stat()
		return h.free && info.Size >= slotBytes, err
	}
	err = f.TryLock(vfs.Exclusively)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	pending, err := s.load()
	return !pending && s.size >= slotBytes, err
}

// state is what a search for a free slot has seen: the number of the first slot that does not exist, and a slot that is in use.
type state struct {
	next int
	path string
}

// take locks the first slot that is free and large enough, or can be made so. There is none if it returns neither a slot nor an
// error.
func (j *Journal) take(need int64) (_ *Slot, seen state, err error) {
	var space error
	for ; seen.next < slotsMax; seen.next++ {
		s, err := j.lock(seen.next)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, seen, space
		}
		if errors.Is(err, syscall.EAGAIN) {
			seen.path = j.path(seen.next)
			continue
		}
		if err != nil {
			return nil, seen, err
		}
		pending, err := s.load()
		if err == nil && (!pending || planted.On(planted.JournalSlotReused)) {
			if err = s.prepare(need); err == nil {
				return s, seen, nil
			}
		}
		s.Close()
		if err != nil && !isSpace(err) {
			return nil, seen, err
		}
		if err != nil {
			space = err
		}
	}
	if space == nil {
		space = ErrFull
	}
	return nil, seen, space
}

// lock opens and locks slot n, or fails with EAGAIN if somebody has it.
func (j *Journal) lock(n int) (*Slot, error) {
	f, err := j.fs.Open(j.path(n), vfs.ReadWrite, 0)
	if err != nil {
		return nil, err
	}
	if err := f.TryLock(vfs.Exclusively); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EACCES) {
			err = syscall.EAGAIN // POSIX lets fcntl answer either
		}
		return nil, err
	}
	// A file that was removed while we opened it would not be found after a crash.
	held, err := f.Stat()
	if err == nil {
		var named vfs.Info
		if named, err = j.fs.Stat(j.path(n)); err == nil && !named.SameFile(held) {
			err = syscall.EAGAIN
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &Slot{j: j, f: f}, nil
}

// wait waits until the slot at path is given back.
func (j *Journal) wait(ctx context.Context, path string) error {
	f, err := j.fs.Open(path, vfs.ReadWrite, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Lock(ctx, vfs.Exclusively), f.Close())
}

// create makes slot n. Its blocks are written, so that overwriting them needs no space, and its name is durable before it is used.
func (j *Journal) create(n int, need int64) (*Slot, error) {
	if err := j.makeDir(); err != nil {
		return nil, err
	}
	f, err := j.fs.Open(j.path(n), vfs.ReadWrite|vfs.Create|vfs.Exclusive, 0o600)
	if err != nil {
		return nil, err
	}
	s := &Slot{j: j, f: f}
	if err := f.TryLock(vfs.Exclusively); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EAGAIN) {
			err = fs.ErrExist // another process has seen the new file and uses it
		}
		return nil, err
	}
	if err = s.prepare(max(need, slotBytes)); err != nil {
		s.Close() // the file stays, and is prepared by the next one who wants it
		return nil, err
	}
	return s, nil
}

// makeDir makes the directory. It is durable with the first slot.
func (j *Journal) makeDir() error {
	if _, err := j.fs.Stat(j.dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := j.fs.Mkdir(j.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Pending locks the slots that hold an entry with the given key. The caller has the lock of what the key names, so that no
// writer can be in the middle of a change of it: the writers of these entries have died. It resolves what they describe,
// clears the slots, and closes them all. The newest come first.
func (j *Journal) Pending(ctx context.Context, key string) (all []*Slot, err error) {
	defer func() {
		if err != nil {
			for _, s := range all {
				s.Close()
			}
			all = nil
		}
	}()
	for n := range slotsMax {
		s, err := j.pending(ctx, n, key)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return all, fmt.Errorf("journal %s: %w", j.dir, err)
		}
		if s != nil {
			all = append(all, s)
		}
	}
	sortSlots(all)
	return all, nil
}

// pending returns slot n if it holds an entry of the key. It looks before it locks, because there rarely is one.
func (j *Journal) pending(ctx context.Context, n int, key string) (*Slot, error) {
	f, err := j.fs.Open(j.path(n), vfs.ReadWrite, 0)
	if err != nil {
		return nil, err
	}
	s := &Slot{j: j, f: f}
	found, err := readKey(f, len(key))
	if err != nil || found != key {
		s.Close()
		return nil, err
	}
	// Whoever has it locked is about to give it back, or waits for it as we do.
	err = f.Lock(ctx, vfs.Exclusively)
	is := false
	if err == nil {
		is, err = s.load()
	}
	if err != nil || !is || s.key != key {
		s.Close()
		return nil, err
	}
	return s, nil
}

// readKey reads the key of what may be an entry, "" if it is none or the key has more than max bytes.
func readKey(f vfs.File, max int) (string, error) {
	b := make([]byte, headBytes+max)
	n, err := readUpTo(f, b)
	h := decodeHead(b[:n])
	if err != nil || !h.entry || h.keyLen > n-headBytes {
		return "", err
	}
	return string(b[headBytes : headBytes+h.keyLen]), nil
}

// Keys are those of all entries that are there, of changes under way too. Nothing is locked.
func (j *Journal) Keys(ctx context.Context) (keys []string, err error) {
	for n := range slotsMax {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		f, err := j.fs.Open(j.path(n), vfs.ReadOnly, 0)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		key, err := readKey(f, keyMax)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("journal %s: %w", j.dir, err)
		}
		if key != "" {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}

// isSpace tells whether err is a lack of room.
func isSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
