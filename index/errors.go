package index

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/mailspine/mailspine/skiplist"
)

// The classes of failure. Test with errors.Is; a *[FormatError] (errors.As) tells the place.
var (
	// ErrDamaged means that a part of the file contradicts its checksum, another part of it, or its size.
	ErrDamaged = errors.New("the file is damaged")
	// ErrVersion means that the file is of a version that this program does not know.
	ErrVersion = errors.New("the file has a version that this program does not know")
	// ErrNotHeader means that a cyrus.header does not begin as one.
	ErrNotHeader = errors.New("not a mailbox header")
	// ErrHeaderFile means that cyrus.header is not the file of which cyrus.index has the checksum.
	ErrHeaderFile = errors.New("cyrus.header is not the one that cyrus.index knows")
	// ErrNotFound means that there is no record with the UID or number asked for.
	ErrNotFound = errors.New("no such record")
	// ErrNoCache means that a record has no usable cache record: the message itself has to be parsed.
	ErrNoCache = errors.New("no usable cache record")
	// ErrValue means that a value cannot be stored in the version of the file.
	ErrValue = errors.New("the format cannot hold the value")
)

// The errors of changes. After each of them but ErrCommitUnknown nothing is changed, now and after any crash.
var (
	// ErrNoSpace means that the disk, a quota on it, or a limit of the process has no room for the change.
	ErrNoSpace = skiplist.ErrNoSpace
	// ErrOverQuota means that a quota has no room for the change. A [Participant] refuses with it.
	ErrOverQuota = errors.New("a quota has no room for the change")
	// ErrCommitUnknown means that the disk failed in the last step of a change and again when that was taken back. The change
	// is there whole or not at all; which, is decided when the mailbox is next changed or recovered.
	ErrCommitUnknown = skiplist.ErrCommitUnknown
	// ErrModified means that a message has changed since the modification sequence that was given.
	ErrModified = errors.New("the message has changed since")
	// ErrConversations means that the mailbox has conversations, which this program does not keep.
	ErrConversations = errors.New("the mailbox has conversations (conversations: yes), which this program does not keep")
	// ErrFlag means that a name cannot be that of a user's flag, or that all 128 flags of the mailbox are taken.
	ErrFlag = errors.New("the mailbox cannot have such a flag")
	// ErrGone means that the mailbox is being removed.
	ErrGone = errors.New("the mailbox is being removed")
	// ErrTxDone means that a transaction is used after its function has returned.
	ErrTxDone = errors.New("the transaction is over")
)

// writeError adds what was being done, and ErrNoSpace where that is the reason.
func writeError(doing string, err error) error {
	space := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
	if space && !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("%s: %w: %w", doing, ErrNoSpace, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// FormatError says where and how a file breaks the rules of its format. It unwraps to its class.
//
// It is not the FormatError of package skiplist: those of databases have no record number, and their classes tell what
// a database handle does next.
type FormatError struct {
	Path string
	// Offset is the byte offset in the file; of a structure decoded on its own, in that structure.
	Offset int64
	// Record is the number of the record in cyrus.index, from 1; 0 where none applies.
	Record RecordNo
	// Field is the field to blame, as docs/format names it.
	Field string
	// Found and Wanted say what stands there and what should.
	Found, Wanted string
	// Class is one of ErrDamaged, ErrVersion, ErrNotHeader, ErrHeaderFile, ErrNoCache and ErrValue.
	Class error
}

func (e *FormatError) Error() string {
	where := fmt.Sprintf("at offset %#x", e.Offset)
	if e.Path != "" {
		where = e.Path + ": " + where
	}
	if e.Record > 0 {
		where = fmt.Sprintf("%s, record %d", where, e.Record)
	}
	return fmt.Sprintf("%s: %s: found %s, wanted %s: %v", where, e.Field, e.Found, e.Wanted, e.Class)
}

// Unwrap returns the class.
func (e *FormatError) Unwrap() error { return e.Class }

// damaged makes a FormatError of class ErrDamaged for a place in the structure at hand.
func damaged(off int, field, found, wanted string) *FormatError {
	return &FormatError{Offset: int64(off), Field: field, Found: found, Wanted: wanted, Class: ErrDamaged}
}

// in moves an error of a structure to the structure's place in a file.
func in(err error, path string, off int64, no RecordNo) error {
	var e *FormatError
	if errors.As(err, &e) {
		e.Path, e.Offset, e.Record = path, e.Offset+off, no
	}
	return err
}

func isFormat(err error) bool {
	var e *FormatError
	return errors.As(err, &e)
}

// num and hexWord write what was found in the file.
func num[T ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~int | ~int64](v T) string { return fmt.Sprint(v) }

func hexWord(v uint32) string { return fmt.Sprintf("%08x", v) }

// readFull reads all of b. The end of the file is an error of its own, as callers ask only for what the size promised.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
