package quota

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

// freezeWait is how long one lock is waited for while others are held.
const freezeWait = time.Second

// lockMode is that of the files of locks, before umask, as Cyrus makes them.
const lockMode fs.FileMode = 0o666

// ErrTooManyFiles means that the mailboxes of a root cannot be frozen at once, because each takes an open file: a
// *[TooManyFilesError] says how many it would be.
var ErrTooManyFiles = errors.New("too many files would have to be open at once")

// TooManyFilesError is the error of class ErrTooManyFiles.
type TooManyFilesError struct {
	Root string
	// Files is how many the root needs.
	Files int
	Err   error
}

func (e *TooManyFilesError) Error() string {
	return fmt.Sprintf("quota root %q needs %d files open at once, and the system allows fewer (ulimit -n): %v", e.Root, e.Files, e.Err)
}

// Unwrap returns the class and the cause.
func (e *TooManyFilesError) Unwrap() []error { return []error{ErrTooManyFiles, e.Err} }

func outOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// frozen are the mailboxes of a root while nobody can change them.
type frozen struct {
	// users are the locks of the users concerned.
	users []vfs.File
	// boxes are the members, in their order.
	boxes []box
}

// box is a member whose cyrus.index is locked; without a file err says why it could not be opened.
type box struct {
	rec   mboxdb.Record
	place index.Place
	file  vfs.File
	err   error
}

func (f *frozen) release() {
	for _, b := range slices.Backward(f.boxes) {
		if b.file != nil {
			_ = b.file.Close()
		}
	}
	for _, l := range slices.Backward(f.users) {
		_ = l.Close()
	}
	f.boxes, f.users = nil, nil
}

// freezer takes the locks of one root. The order is that of the house: users, then indexes, both sorted. Cyrus holds the index
// of one mailbox and waits for that of another, in no order, so order alone does not keep two from waiting for each other: who
// has waited for freezeWait while he holds anything gives all back and begins anew, after he has waited for that one lock alone.
type freezer struct {
	k    *Keeper
	root string
	// looking makes no lock file that is not there. Nobody holds the lock of such a file; who makes it afterwards is not kept
	// out, and a number that only is to be shown may be a moment old.
	looking bool
}

// freeze freezes the members, and with them the list of the users' mailboxes.
func (z *freezer) freeze(ctx context.Context, f *family) (*frozen, error) {
	users := []string{mboxdb.InternalName(z.root).User(z.k.layout.Namespace)}
	for _, rec := range f.members {
		if user := rec.Name.User(z.k.layout.Namespace); user != users[len(users)-1] {
			users = append(users, user)
		}
	}
	var paths []string
	if z.k.layout.ConfigDir != "" || z.k.layout.LockDir != "" {
		paths = z.k.layout.UserLocks(users...)
	}
	for {
		held, busy, err := z.attempt(ctx, paths, f.members)
		if err == nil && busy == nil {
			return held, nil
		}
		held.release()
		if err == nil {
			err = busy(ctx)
		}
		if outOfFiles(err) {
			return nil, &TooManyFilesError{Root: z.root, Files: len(paths) + len(f.members), Err: err}
		}
		if err != nil {
			return nil, err
		}
	}
}

// attempt takes all locks, or returns what waits for the one that somebody else did not give back.
func (z *freezer) attempt(ctx context.Context, paths []string, members []mboxdb.Record) (held *frozen, busy func(context.Context) error, err error) {
	held = &frozen{boxes: make([]box, 0, len(members))}
	for _, path := range paths {
		l, err := z.within(ctx, len(held.users) > 0, func(ctx context.Context) (vfs.File, error) { return z.user(ctx, path) })
		if isLate(ctx, err) {
			return held, func(ctx context.Context) error { return closed(z.user(ctx, path)) }, nil
		}
		if err != nil {
			return held, nil, err
		}
		if l != nil {
			held.users = append(held.users, l)
		}
	}
	for _, rec := range members {
		b := box{rec: rec}
		b.place, b.err = index.PlaceOf(z.k.layout, rec)
		path := b.place.Paths.Index
		if b.err == nil {
			b.file, b.err = z.within(ctx, len(held.users)+len(held.boxes) > 0, func(ctx context.Context) (vfs.File, error) { return lockIndex(ctx, z.k.fs, path) })
		}
		if isLate(ctx, b.err) {
			return held, func(ctx context.Context) error { return ignoreMissing(closed(lockIndex(ctx, z.k.fs, path))) }, nil
		}
		if err := context.Cause(ctx); err != nil {
			return held, nil, err
		}
		if outOfFiles(b.err) {
			return held, nil, b.err
		}
		held.boxes = append(held.boxes, b)
	}
	return held, nil, nil
}

// within bounds the wait for one lock, if others are held.
func (z *freezer) within(ctx context.Context, bounded bool, take func(context.Context) (vfs.File, error)) (vfs.File, error) {
	if !bounded || planted.On(planted.QuotaWaitsHolding) {
		return take(ctx)
	}
	brief, cancel := context.WithTimeoutCause(ctx, freezeWait, errLate)
	defer cancel()
	f, err := take(brief)
	if err != nil && context.Cause(brief) == errLate {
		err = errLate
	}
	return f, err
}

// errLate means that a lock was not given back in time.
var errLate = errors.New("the lock was waited for too long")

func isLate(ctx context.Context, err error) bool { return errors.Is(err, errLate) && ctx.Err() == nil }

// user takes the lock of a user; it is nil if there is none, and none is to be made.
func (z *freezer) user(ctx context.Context, path string) (vfs.File, error) {
	if planted.On(planted.QuotaUsersUnfrozen) {
		return nil, nil
	}
	if !z.looking {
		return locks.File(ctx, z.k.fs, vfs.Shared, path, lockMode)
	}
	f, err := z.k.fs.Open(path, vfs.ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := f.Lock(ctx, vfs.Shared); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lockIndex opens a cyrus.index and locks it, shared, which keeps out every writer of every release. A repack puts another file
// in its place under the same lock: it is the file that has the name once it is locked.
func lockIndex(ctx context.Context, fsys vfs.FS, path string) (vfs.File, error) {
	for {
		f, err := fsys.Open(path, vfs.ReadOnly, 0)
		if err != nil {
			return nil, err
		}
		if !planted.On(planted.QuotaUnfrozen) {
			err = f.Lock(ctx, vfs.Shared)
		}
		if err == nil {
			var held, named vfs.Info
			if held, err = f.Stat(); err == nil {
				named, err = fsys.Stat(path)
			}
			if err == nil && held.SameFile(named) {
				return f, nil
			}
		}
		_ = f.Close()
		if err != nil {
			return nil, err
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
	}
}

// closed gives back a lock that was only waited for.
func closed(f vfs.File, err error) error {
	if f != nil {
		_ = f.Close()
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
