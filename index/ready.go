package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/mailspine/mailspine/internal/journal"
	"github.com/mailspine/mailspine/internal/vfs"
)

// ReadyHeader is what a transaction that gives a mailbox another cyrus.header needs of the disk, made before it begins: the new
// file, complete and synced beside the old one, and a slot of the journal for the entry. It is for who has a commit point
// elsewhere, after which the mailbox has to follow and a lack of space would come too late.
type ReadyHeader struct {
	bytes []byte
	repl  *vfs.Replacement
}

// PrepareHeader makes what [Mailbox.Update] needs for a transaction that does nothing to cyrus.header but edit, and to no record
// anything; it is nil if edit changes nothing. The caller has the name lock of the mailbox exclusively until the transaction
// is made, gives the result to [OpenWith], and calls Discard when all is done. After an error nothing is left of it.
//
// The slot is not held, so that the transactions of many mailboxes do with one: whoever takes it in between gives it back. Only
// one who is killed with it does not; then the transaction may fail on a full disk, as after a crash.
func PrepareHeader(ctx context.Context, fsys vfs.FS, p Place, edit func(h *HeaderFile) error) (*ReadyHeader, error) {
	const doing = "prepare header of mailbox"
	fsys = vfs.OrOS(fsys)
	before, err := vfs.ReadFile(fsys, p.Paths.Header)
	if err != nil {
		return nil, writeError(doing, err)
	}
	h := &HeaderFile{}
	if err := h.Decode(before); err != nil {
		return nil, in(err, p.Paths.Header, 0, 0)
	}
	if err := edit(h); err != nil {
		return nil, err
	}
	if err := h.Validate(); err != nil {
		return nil, in(err, p.Paths.Header, 0, 0)
	}
	r := &ReadyHeader{bytes: h.Append(nil)}
	if bytes.Equal(r.bytes, before) {
		return nil, nil
	}
	if p.Journal == "" {
		return nil, errNoJournal
	}
	e := entry{headerPath: p.Paths.Header, headerBefore: before, headerAfter: r.bytes}
	e.before, e.after = make([]byte, maxHeader), make([]byte, maxHeader)
	slot, err := journal.Open(fsys, p.Journal).Take(ctx, p.Paths.Index, e.size())
	if err != nil {
		return nil, writeError(doing, err)
	}
	slot.Close()
	r.repl, err = vfs.PrepareReplacement(fsys, p.Paths.Header, headerOptions(r.bytes), writing(r.bytes))
	if err != nil {
		_ = RemoveLeftHeader(fsys, p) // a call that reports an error may have been carried out
		return nil, writeError(doing, err)
	}
	return r, nil
}

// errNoJournal means that a transaction would have to write down what it does, and has nowhere to do so.
var errNoJournal = errors.New("the place of the mailbox has no journal")

// take gives the file to a transaction that makes the same of cyrus.header.
func (r *ReadyHeader) take(want []byte) *vfs.Replacement {
	if r == nil || r.repl == nil || !bytes.Equal(r.bytes, want) {
		return nil
	}
	repl := r.repl
	r.repl = nil
	return repl
}

// Discard removes the file, unless a transaction has taken it. It may be called on nil, and again.
func (r *ReadyHeader) Discard() {
	if r != nil && r.repl != nil {
		r.repl.Discard()
		r.repl = nil
	}
}

// RemoveLeftHeader removes a new cyrus.header that a crash has left beside the one in use. The caller has the name lock of the
// mailbox exclusively, so that nobody is at one.
func RemoveLeftHeader(fsys vfs.FS, p Place) error {
	err := vfs.OrOS(fsys).Unlink(p.Paths.Header + ".NEW")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what is left of a change: %w", err)
	}
	return nil
}
