package store

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/mailspine/mailspine/internal/vfs"
)

// copyBytes is how much of a file is copied at once.
const copyBytes = 256 << 10

// linkOrCopy gives a file a second name, or makes a durable copy of it where the file system has no links, or the name is
// on another one.
func (s *Store) linkOrCopy(ctx context.Context, old, name string) error {
	err := s.fs.Link(old, name)
	for _, cannot := range []error{syscall.EXDEV, syscall.EMLINK, syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS} {
		if errors.Is(err, cannot) {
			return s.copy(ctx, old, name)
		}
	}
	return err
}

// copy makes a copy with the owner, the mode and the time of the file: that of a message is when it arrived.
func (s *Store) copy(ctx context.Context, old, name string) (err error) {
	from, err := s.fs.Open(old, vfs.ReadOnly, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	to, err := s.fs.Open(name, vfs.ReadWrite|vfs.Create|vfs.Exclusive, info.Mode.Perm())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if info.Size > 0 {
		if err := to.Allocate(0, info.Size); err != nil && !errors.Is(err, syscall.EOPNOTSUPP) {
			return err
		}
	}
	buf := make([]byte, min(copyBytes, max(info.Size, 1)))
	for off := int64(0); off < info.Size; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := from.ReadAt(buf[:min(int64(len(buf)), info.Size-off)], off)
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if _, err := to.WriteAt(buf[:n], off); err != nil {
			return err
		}
		off += int64(n)
	}
	if err := to.CopyMetadata(from); err != nil {
		return err
	}
	if err := to.SetModTime(info.Mtime); err != nil {
		return err
	}
	return to.Sync()
}
