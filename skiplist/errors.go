package skiplist

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// Errors of opening. Test with errors.Is; a *FormatError (errors.As) tells the place.
var (
	// ErrNotDatabase means that the file is not a database of a format known here, or not of the one asked for.
	ErrNotDatabase = codec.ErrNotDatabase
	// ErrVersion means that the file is of a newer version than this program knows.
	ErrVersion = codec.ErrVersion
	// ErrOrder means that the records stand in another key order than the one the file was opened with. Writing in the
	// wrong order would hide records from Cyrus, so it is refused. Where a twoskip log has deletions, which only its own
	// order explains, so is reading; with AllowDamaged the error comes with every answer, which may be wrong.
	ErrOrder = errors.New("the records are in another key order")
)

// Errors of reading.
var (
	// ErrNotFound means that there is no record of this key.
	ErrNotFound = errors.New("no such key")
	// ErrDamaged means that committed data is unreadable or missing. Writers refuse such a file; with AllowDamaged
	// readers get what was committed before the damage, and this error with every answer.
	ErrDamaged = codec.ErrDamaged
	// ErrSnapshotLost means that another program cut off the file under a snapshot, as a Cyrus checkpoint does. A new
	// snapshot works.
	ErrSnapshotLost = errors.New("the file under the snapshot was emptied by another program")
	// ErrClosed means that the database, snapshot or transaction is closed.
	ErrClosed = errors.New("closed")
)

// Errors of writing. After each of them the change is invisible, now and after any crash, and the handle works on,
// except for ErrCommitUnknown.
var (
	// ErrExists means that Insert found the key present.
	ErrExists = errors.New("the key exists")
	// ErrReadOnly means that the database was opened for reading.
	ErrReadOnly = errors.New("the database is open for reading only")
	// ErrNoSpace means that the disk, or a quota on it, or a limit of the process, has no room for the change. The file
	// is as it was.
	ErrNoSpace = errors.New("no space for the change")
	// ErrTooLarge means that the format cannot address the file that the change would make.
	ErrTooLarge = codec.ErrTooLarge
	// ErrInvalidKey means an empty or overlong key, ErrInvalidValue an overlong value.
	ErrInvalidKey   = codec.ErrInvalidKey
	ErrInvalidValue = codec.ErrInvalidRecord
	// ErrCommitUnknown means that the disk failed in the last step of a commit and again when that was taken back. The
	// change is there whole or not at all; which, is decided when the file is next opened or changed. The handle reads
	// on as before the change, and rebuilds the database in a new file before it writes again.
	ErrCommitUnknown = errors.New("the disk failed: it is unknown whether the change was committed")
	// ErrOutputName means that a copy would not keep its name: a checkpoint of the database beside it uses the name for its
	// new file, and removes what has it.
	ErrOutputName = errors.New("the name is one that a checkpoint uses")
)

// FormatError says where and how a file breaks the rules of its format. It unwraps to ErrDamaged, ErrNotDatabase or
// ErrVersion.
type FormatError = codec.FormatError

// noSpace tells whether err is a lack of room: ENOSPC, a disk quota, or a limit on file sizes.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// writeError adds what was being done, and ErrNoSpace where that is the reason.
func writeError(doing string, err error) error {
	if noSpace(err) && !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("%s: %w: %w", doing, ErrNoSpace, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
