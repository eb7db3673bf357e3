package index

import (
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
)

// outputBuffer is how much is written at once.
const outputBuffer = 256 << 10

// output is a file that is written from its beginning to its end, under its name with newSuffix behind. Until it is
// created, it only counts bytes.
type output struct {
	path string
	size int64
	// reserve is what it will need.
	reserve int64

	f    vfs.File
	buf  []byte
	off  int64 // of buf
	sum  hash.Hash32
	head []byte // is written last, over zeros
}

// create makes the file, with owner and mode of the one that it replaces, and reserves its space. What a crash has left
// under the name is removed. A file that nothing is to be written to is not made.
func (o *output) create(fsys vfs.FS) error {
	o.size = 0
	temp := o.path + newSuffix
	if err := fsys.Unlink(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if o.reserve == 0 {
		return nil
	}
	f, err := fsys.Open(temp, vfs.ReadWrite|vfs.Create|vfs.Exclusive, fileMode)
	if err != nil {
		return err
	}
	o.f, o.sum = f, crc32.NewIEEE()
	if err := copyOwner(fsys, f, o.path); err != nil {
		return err
	}
	return reserve(fsys, f, o.reserve)
}

// reserve allocates space at the start of a file. Where the file system cannot, it compares it with what is free.
func reserve(fsys vfs.FS, f vfs.File, size int64) error {
	err := f.Allocate(0, size)
	if !errors.Is(err, syscall.EOPNOTSUPP) {
		return err
	}
	space, err := fsys.StatFS(filepath.Dir(f.Name()))
	if err == nil && space.FreeBytes < size {
		return &fs.PathError{Op: "allocate", Path: f.Name(), Err: syscall.ENOSPC}
	}
	return err
}

// copyOwner gives f owner, mode and attributes of the file that it replaces, if there is one.
func copyOwner(fsys vfs.FS, f vfs.File, path string) error {
	old, err := fsys.Open(path, vfs.ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.CopyMetadata(old), old.Close())
}

// write appends bytes and returns where they will be.
func (o *output) write(b []byte) (at int64, err error) {
	at = o.size
	o.size += int64(len(b))
	if o.f == nil {
		return at, nil
	}
	o.buf = append(o.buf, b...)
	if len(o.buf) >= outputBuffer {
		err = o.flush()
	}
	return at, err
}

func (o *output) flush() error {
	if _, err := o.f.WriteAt(o.buf, o.off); err != nil {
		return err
	}
	b := o.buf
	if o.off == 0 {
		// What is behind the head is written once; the head only when all else is known.
		b = b[min(len(o.head), len(b)):]
	}
	o.sum.Write(b)
	o.off, o.buf = o.off+int64(len(o.buf)), o.buf[:0]
	return nil
}

// finish writes what is left, makes all of it durable, and reads it back.
func (o *output) finish() error {
	if o.f == nil {
		return nil
	}
	if err := o.flush(); err != nil {
		return err
	}
	if _, err := o.f.WriteAt(o.head, 0); err != nil {
		return err
	}
	if !planted.On(planted.RepackUnsynced) {
		// Sync and not Datasync: the owner must not be lost.
		if err := o.f.Sync(); err != nil {
			return err
		}
	}
	return o.verify()
}

// verify compares what can be read with what was written.
func (o *output) verify() error {
	info, err := o.f.Stat()
	if err != nil {
		return err
	}
	head := make([]byte, len(o.head))
	if err := readFull(o.f, head, 0); err != nil {
		return err
	}
	sum := crc32.NewIEEE()
	n, err := io.Copy(sum, io.NewSectionReader(o.f, int64(len(head)), info.Size-int64(len(head))))
	if err != nil {
		return err
	}
	if info.Size != o.size || string(head) != string(o.head) || n+int64(len(head)) != o.size || sum.Sum32() != o.sum.Sum32() {
		return fmt.Errorf("%s: what was written is not what can be read: %w", o.f.Name(), ErrDamaged)
	}
	return nil
}

func (o *output) close() error {
	if o.f == nil {
		return nil
	}
	err := o.f.Close()
	o.f = nil
	return err
}
