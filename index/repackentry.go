package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/mailspine/mailspine/internal/journal"
	"github.com/mailspine/mailspine/internal/vfs"
)

// repackVersion stands at the start of a journal entry of a repack, where entryVersion is in that of a transaction. What
// follows are the paths of the mailbox, each with a NUL behind it: cyrus.header, index, cache, archive cache and
// annotations, and the directories of messages and archived messages. The entry says only that there may be something to
// finish; what, is told by the files. The key is that of a transaction, the path of cyrus.index.
const repackVersion = 2

// entryPaths are the parts of a place that an entry has.
func (p *Place) entryPaths() []*string {
	return []*string{&p.Paths.Header, &p.Paths.Index, &p.Paths.Cache, &p.Paths.Archive, &p.Paths.Annotations, &p.Messages, &p.Archive}
}

func (p *Place) appendRepackEntry(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, repackVersion)
	for _, path := range p.entryPaths() {
		dst = append(append(dst, *path...), 0)
	}
	return dst
}

// decodeRepackEntry returns the place of the mailbox; ok is false if the entry is not one of a repack.
func decodeRepackEntry(b []byte) (p Place, ok bool, err error) {
	if len(b) < 4 || binary.BigEndian.Uint32(b) != repackVersion {
		return p, false, nil
	}
	list, to := paths(b[4:]), p.entryPaths()
	if len(list) != len(to) {
		return p, true, errEntry
	}
	for i, path := range list {
		*to[i] = path
	}
	return p, true, nil
}

// note writes the entry before anything else is written, so that a recovery of the whole store finds the mailbox. Without
// a journal, the next change does.
func (r *repack) note() (*journal.Slot, error) {
	if r.place.Journal == "" {
		return nil, nil
	}
	b := r.place.appendRepackEntry(nil)
	slot, err := journal.Open(r.fs, r.place.Journal).Take(r.ctx, r.place.Paths.Index, len(b))
	if err != nil {
		return nil, err
	}
	if err := slot.Write(b); err != nil {
		// What may be there of it says nothing that is wrong.
		slot.Close()
		return nil, err
	}
	return slot, nil
}

// resolveRepack finishes or takes back the repack of an entry, under the lock of cyrus.index alone. That is enough: the
// index is not replaced any more, and whoever reads the old cache still has it and compares checksums.
func (w *writer) resolveRepack(ctx context.Context, s *journal.Slot, p Place, r *Recovered) error {
	was, err := w.fs.Stat(p.Paths.Index + oldSuffix)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// It has not come far, or it was done.
		r.Outcome, err = Undone, takeBack(ctx, w.fs, p)
	case err == nil:
		if r.Outcome = Finished; was.SameFile(w.info) {
			r.Outcome = Undone
		}
		err = finishRepack(ctx, w.fs, p)
	}
	if err != nil {
		return fmt.Errorf("finish an interrupted repack: %w", err)
	}
	return s.Clear(false)
}

// forgetRepack removes what is left of the repack of a mailbox that is not there any more.
func forgetRepack(fsys vfs.FS, p Place) error {
	for _, path := range append(p.cachePaths(), p.Paths.Index) {
		for _, suffix := range []string{newSuffix, oldSuffix} {
			if err := ignoreMissing(fsys.Unlink(path + suffix)); err != nil {
				return err
			}
		}
	}
	return nil
}
