package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
)

// Slot is a slot that the caller has locked. It is for one goroutine.
type Slot struct {
	j       *Journal
	f       vfs.File
	key     string
	payload []byte
	time    int64
	size    int64 // that of the file, as far as it is known
	// ready says that the name of the file is durable.
	ready  bool
	closed bool
}

// Key and Payload are those of the entry.
func (s *Slot) Key() string { return s.key }

// Payload is valid as long as the slot.
func (s *Slot) Payload() []byte { return s.payload }

// load reads the entry, and tells whether there is a whole one.
func (s *Slot) load() (bool, error) {
	info, err := s.f.Stat()
	if err != nil {
		return false, err
	}
	s.size = info.Size
	b := make([]byte, headBytes)
	n, err := readUpTo(s.f, b)
	if err != nil {
		return false, err
	}
	h := decodeHead(b[:n])
	s.ready = h.free
	if !h.entry || h.size() > s.size {
		return false, nil
	}
	b = make([]byte, h.size())
	if n, err = readUpTo(s.f, b); err != nil || !h.whole(b[:n]) {
		return false, err
	}
	s.key, s.payload, s.time = string(b[headBytes:headBytes+h.keyLen]), b[headBytes+h.keyLen:], h.time
	return true, nil
}

// prepare makes room for an entry of need bytes, and makes sure that the slot is found after a crash.
func (s *Slot) prepare(need int64) error {
	if need > s.size {
		if err := s.f.Allocate(0, need); err != nil && !errors.Is(err, syscall.EOPNOTSUPP) {
			return err
		}
	}
	if s.ready {
		return nil
	}
	// The free mark is written last: who finds it knows that all before it was done.
	if s.size < slotBytes {
		if _, err := s.f.WriteAt(make([]byte, slotBytes-s.size), s.size); err != nil {
			return err
		}
		s.size = slotBytes
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	for _, dir := range []string{s.j.dir, filepath.Dir(s.j.dir)} {
		if planted.On(planted.JournalDirUnsynced) {
			continue
		}
		if err := s.j.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	s.ready = true
	return s.mark()
}

// mark writes the head of a free slot.
func (s *Slot) mark() error {
	_, err := s.f.WriteAt(append(magicFree[:], make([]byte, headBytes-len(magicFree))...), 0)
	return err
}

// Write writes the entry, which is durable when it returns. After an error there is an entry or none, as after a crash.
func (s *Slot) Write(payload []byte) error {
	b := appendEntry(make([]byte, 0, headBytes+len(s.key)+len(payload)), s.key, s.j.fs.Now().UnixNano(), payload)
	s.payload = payload
	s.size = max(s.size, int64(len(b)))
	if _, err := s.f.WriteAt(b, 0); err != nil {
		return fmt.Errorf("journal %s: %w", s.f.Name(), err)
	}
	if planted.On(planted.JournalUnsynced) {
		return nil
	}
	if err := s.f.Datasync(); err != nil {
		return fmt.Errorf("journal %s: %w", s.f.Name(), err)
	}
	return nil
}

// Clear frees the slot. If it is not to be durable the entry may come back after a crash, which does no harm to a change that
// was finished, and saves a sync.
func (s *Slot) Clear(durable bool) error {
	err := s.mark()
	if err == nil && durable {
		err = s.f.Datasync()
	}
	if err != nil {
		return fmt.Errorf("journal %s: %w", s.f.Name(), err)
	}
	if s.size > keepBytes && s.f.Truncate(slotBytes) == nil {
		s.size = slotBytes
	}
	return nil
}

// Close gives the slot back. An entry that was not cleared is pending from then on. It may be called again.
func (s *Slot) Close() {
	if !s.closed {
		s.closed = true
		_ = s.f.Close()
	}
}

// sortSlots puts the newest entries first.
func sortSlots(all []*Slot) {
	slices.SortStableFunc(all, func(a, b *Slot) int { return cmp.Compare(b.time, a.time) })
}

// readUpTo reads from the start of the file until b is full or the file ends.
func readUpTo(f vfs.File, b []byte) (int, error) {
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return n, err
}
