package vfs

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/mailspine/mailspine/internal/planted"
)

// Place gives the file temp, which is complete and synced, the name, and takes the name temp away. It fails with EEXIST if
// anything has the name, however late it came to it. SyncDir of the directory, the same for both, then makes it durable.
//
// What a crash leaves: temp alone, the two names for the one file, or the name alone. Where there are no hard links the name
// may also be that of a file of zero bytes.
//
// After an error temp is there still, and the name was not taken, unless the error is a [*NotDurableError].
func Place(ctx context.Context, fsys FS, temp, name string) error {
	info, err := fsys.Stat(temp)
	if err != nil {
		return err
	}
	if planted.On(planted.PlacedByRename) {
		return fsys.Rename(temp, name)
	}
	err = outcome(fsys, name, info, fsys.Link(temp, name))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		return placeWithoutLink(ctx, fsys, temp, name)
	}
	if err != nil {
		return err
	}
	if err := fsys.Unlink(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &NotDurableError{Path: name, Err: err}
	}
	return nil
}

// placeWithoutLink is Place where there are no hard links. A rename would replace a file that another process has created
// meanwhile. So a file of zero bytes, which is an empty database to everybody, takes the name first, or fails to, and is
// replaced under its lock if it is still there and empty.
func placeWithoutLink(ctx context.Context, fsys FS, temp, name string) (err error) {
	f, err := fsys.Open(name, ReadWrite|Create|Exclusive, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.Lock(ctx, Exclusively); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	at, err := fsys.Stat(name)
	if err != nil {
		return err
	}
	if !at.SameFile(info) || info.Size != 0 {
		return &fs.PathError{Op: "create", Path: name, Err: syscall.EEXIST}
	}
	placed, err := fsys.Stat(temp)
	if err != nil {
		return err
	}
	err = outcome(fsys, name, placed, fsys.Rename(temp, name))
	var unsure *NotDurableError
	if err != nil && !errors.As(err, &unsure) {
		_ = fsys.Unlink(name) // it is ours, and empty, and locked
	}
	return err
}
