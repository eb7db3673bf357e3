package index

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
)

// Append appends a message and returns its record. Where messages are large or come slowly, [Mailbox.Stage] does most of the
// work before the locks are taken.
func (tx *Tx) Append(msg NewMessage) (Record, error) {
	if tx.done {
		return Record{}, ErrTxDone
	}
	s, err := tx.w.m.Stage(tx.ctx, msg)
	if err != nil {
		return Record{}, err
	}
	rec, err := tx.AppendStaged(s)
	if err != nil {
		s.Discard()
	}
	return rec, err
}

// AppendStaged appends a message that was staged for this mailbox, or for another on the same partition, and returns its
// record. From then on the file is the transaction's.
func (tx *Tx) AppendStaged(s *Staged) (Record, error) {
	if tx.done {
		return Record{}, ErrTxDone
	}
	user, err := tx.userFlags(s.msg.User, true)
	if err != nil {
		return Record{}, err
	}
	rec := s.rec
	rec.Flags, rec.UserFlags = s.msg.Flags&tx.settable(), user
	return tx.append(&addition{rec: rec, cache: s.cache, source: s.path, staged: s})
}

// append gives a message its UID and what else the mailbox decides.
func (tx *Tx) append(a *addition) (Record, error) {
	v, h, rec := tx.w.version(), &tx.h, &a.rec
	if h.LastUID == 1<<32-1 {
		return Record{}, fmt.Errorf("the mailbox has given out all its UIDs: %w", ErrValue)
	}
	rec.UID, rec.ModSeq = h.LastUID+1, h.HighestModSeq+1
	rec.LastUpdated, rec.SaveDate = tx.now, tx.now
	if rec.CreatedModSeq == 0 || rec.CreatedModSeq > rec.ModSeq {
		rec.CreatedModSeq = rec.ModSeq
	}
	if v < versionChecksums {
		rec.ContentOffset = rec.HeaderSize
	}
	if odd := int(tx.w.index.stride) - v.RecordSize(); odd > 0 {
		rec.tail = make([]byte, odd)
	}
	if err := rec.Validate(v); err != nil {
		return Record{}, in(err, tx.w.place.Paths.Index, 0, 0)
	}
	if v.HasChecksums() && h.Exists == 0 {
		h.Options |= OptionPOP3NewUIDL
	}
	h.LastUID, h.HighestModSeq, h.LastAppend = rec.UID, rec.ModSeq, tx.now
	h.NumRecords++
	tx.account(nil, rec)
	tx.added = append(tx.added, a)
	return *rec, nil
}

// appendCopy appends a message that a mailbox on this machine has, by a link to its file.
func (tx *Tx) appendCopy(from *writer, old *Record, user UserFlags, drop Flags) (Record, error) {
	path, own := from.place.Message(old), (*addition)(nil)
	if from == tx.w {
		if own = tx.addition(old.UID); own != nil {
			path = own.source // it has no other name yet
		}
	}
	info, err := tx.w.fs.Stat(path)
	if err != nil {
		return Record{}, err
	}
	dir, err := statNearest(tx.w.fs, tx.w.place.Messages)
	if err != nil {
		return Record{}, err
	}
	var cache []byte
	if own != nil {
		cache = own.cache
	} else {
		cache, err = from.cacheRecord(old)
	}
	linked := info.Dev == dir.Dev
	if err != nil && !errors.Is(err, ErrNoCache) {
		return Record{}, err
	}
	rec := *old
	rec.tail = nil
	a := &addition{cache: cache, source: path}
	if err != nil || !linked || from.version() < versionChecksums {
		// It cannot be linked, or has to be parsed, because the record does not say all or there is no cache record.
		if a, rec, err = tx.stageCopy(path, old); err != nil {
			return Record{}, err
		}
	}
	rec.CacheOffset, rec.CacheCRC = 0, checksum(a.cache)
	if from == tx.w && own == nil && a.staged == nil && old.Flags&FlagArchived == 0 {
		rec.CacheOffset, a.cache = old.CacheOffset, nil // as Cyrus does: one cache record serves both
	}
	rec.Flags, rec.UserFlags = old.Flags&tx.settable()&^drop, user
	rec.CreatedModSeq = old.CreatedModSeq
	a.rec = rec
	rec, err = tx.append(a)
	if err != nil && a.staged != nil {
		a.staged.Discard()
	}
	return rec, err
}

// statNearest describes a directory, or the nearest one above it that there is: see [commit.link].
func statNearest(fsys vfs.FS, dir string) (vfs.Info, error) {
	for {
		info, err := fsys.Stat(dir)
		if up := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && up != dir {
			dir = up
			continue
		}
		return info, err
	}
}

// stageCopy makes a file of its own for a copy of a message.
func (tx *Tx) stageCopy(path string, old *Record) (*addition, Record, error) {
	f, err := tx.w.fs.Open(path, vfs.ReadOnly, 0)
	if err != nil {
		return nil, Record{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, Record{}, err
	}
	s, err := tx.w.m.Stage(tx.ctx, NewMessage{Body: sectionOf(f, info.Size), InternalDate: time.Unix(old.InternalDate.Unix(), 0)})
	if err != nil {
		return nil, Record{}, err
	}
	rec := s.rec
	rec.CID, rec.BaseCID = old.CID, old.BaseCID
	return &addition{cache: s.cache, source: s.path, staged: s}, rec, nil
}

func notFound(uid UID, why string) error { return fmt.Errorf("UID %d: %s: %w", uid, why, ErrNotFound) }
