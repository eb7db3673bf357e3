package quota

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// The classes of failure. Test with errors.Is; a *[RootError] (errors.As) tells the root and the place.
var (
	// ErrNotFound means that there is no quota root of that name.
	ErrNotFound = errors.New("no such quota root")
	// ErrExists means that there is one already.
	ErrExists = errors.New("the quota root exists")
	// ErrEmpty means that there is a root, and that nothing is in its record: a creation was cut off. Cyrus says that there is no
	// such root, and yet counts mailboxes for it.
	ErrEmpty = errors.New("the record of the quota root is empty")
	// ErrDamaged means that a record cannot be read with certainty.
	ErrDamaged = errors.New("the record of the quota root is damaged")
	// ErrMisplaced means that a file lies where nobody looks for a root of its name.
	ErrMisplaced = errors.New("the file of the quota root is in a wrong directory")
	// ErrName means that no quota root can have the name.
	ErrName = errors.New("not the name of a quota root")
	// ErrUnsupported means that the configuration asks for an engine that is not supported here.
	ErrUnsupported = errors.New("not supported")
)

// The errors of changes. After each of them but ErrCommitUnknown nothing is changed, now and after any crash.
var (
	// ErrNoSpace means that the disk, or a quota on it, has no room for the change.
	ErrNoSpace = skiplist.ErrNoSpace
	// ErrReadOnly means that the roots were opened for reading.
	ErrReadOnly = skiplist.ErrReadOnly
	// ErrCommitUnknown means that the disk failed in the last step of a change and again when that was taken back. The record has
	// the old value or the new one.
	ErrCommitUnknown = skiplist.ErrCommitUnknown
)

// ErrListEmpty is what a mailbox list without a single mailbox is called beside quota roots. It counts as damage: nothing is lowered.
var ErrListEmpty = fmt.Errorf("the mailbox list has no mailbox in it, and there are quota roots: %w", skiplist.ErrDamaged)

// RecordError says why the value of a root could not be read. It unwraps to ErrDamaged or ErrEmpty.
type RecordError struct {
	// Offset is the byte offset in the value.
	Offset int
	// Problem says what was found and what was expected.
	Problem string

	class error
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("%v: byte %d: %s", e.class, e.Offset, e.Problem)
}

// Unwrap returns the class.
func (e *RecordError) Unwrap() error { return e.class }

func damaged(offset int, format string, args ...any) *RecordError {
	return &RecordError{Offset: offset, Problem: fmt.Sprintf(format, args...), class: ErrDamaged}
}

// RootError says what is wrong with one quota root. It unwraps to its class and to its cause.
type RootError struct {
	// Root is the internal name.
	Root string
	// Path is the file, or the database with all roots.
	Path string
	// Offset is the byte offset in the file, or in the value in a database; -1 where none applies.
	Offset int64
	// Class is one of the classes above; nil if the system failed, and Err tells how.
	Class error
	// Err is the cause, if there is more to say than the class does.
	Err error
}

func (e *RootError) Error() string {
	text := fmt.Sprintf("quota root %q: %s: ", e.Root, e.Path)
	switch {
	case e.Err != nil:
		return text + e.Err.Error()
	case e.Class != nil:
		return text + e.Class.Error()
	}
	return text + "unknown"
}

// Unwrap returns class and cause.
func (e *RootError) Unwrap() []error {
	var all []error
	for _, err := range []error{e.Class, e.Err} {
		if err != nil {
			all = append(all, err)
		}
	}
	return all
}

// rootError gives an error its root and place, unless it has them.
func rootError(root, path string, err error) error {
	var known *RootError
	if err == nil || errors.As(err, &known) {
		return err
	}
	e := &RootError{Root: root, Path: path, Offset: -1, Err: err}
	var record *RecordError
	if errors.As(err, &record) {
		e.Offset, e.Class = int64(record.Offset), record.class
		return e
	}
	for _, class := range []error{ErrNotFound, ErrExists, ErrMisplaced, ErrName, ErrNoSpace, ErrReadOnly, ErrCommitUnknown} {
		if errors.Is(err, class) {
			e.Class = class
			break
		}
	}
	return e
}

// writeError adds ErrNoSpace where that is the reason.
func writeError(err error) error {
	space := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
	if space && !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// notDurable tells whether a change was made and may not last.
func notDurable(err error) bool {
	var e *vfs.NotDurableError
	return errors.As(err, &e)
}
