package vfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/mailspine/mailspine/internal/planted"
)

// NotDurableError says that a change of a directory was made, so that everybody sees it, but that the sync of the
// directory failed: after a crash the change may be gone. Nothing that depends on it may be acknowledged. It also says
// so where a rename reported an error and it cannot be found out whether it was made.
type NotDurableError struct {
	// Path is the name that was changed.
	Path string
	Err  error
}

func (e *NotDurableError) Error() string {
	return fmt.Sprintf("%s is changed but not yet durable: %v", e.Path, e.Err)
}

func (e *NotDurableError) Unwrap() error { return e.Err }

// ReplaceOptions are the choices of [ReplaceFile]; the zero value is useful.
type ReplaceOptions struct {
	// Temp is where the new file is written; by default the name with ".NEW" behind, as Cyrus does. What has that name
	// is unlinked first: only who holds the lock of name, as a checkpoint does, knows that nobody needs it.
	Temp string
	// Random, if set, takes the place of Temp: the new file is written beside name, under a name with a random number
	// behind that nobody has. It is for names that a user gives: the file that he wants to read may be called NAME.NEW,
	// and two programs may write to one name at once. After a crash the file with the number stays.
	Random func() uint64
	// New creates name, and fails with EEXIST if anything has it, even if it comes to it while the new file is written; see
	// [Place]. A symbolic link is not followed.
	New bool
	// Size, if known, is allocated before the first byte is written, so that a lack of space shows at once.
	Size int64
	// Spares, if set, are used where the disk has no space for a new file. write and Verify are then called again, for
	// another file, whose Name is the one to use.
	Spares *Spares
	// Perm is the mode (before umask) where there is no old file whose owner, mode and attributes to keep; 0600 by
	// default.
	Perm fs.FileMode
	// Verify, if set, reads the synced new file before it takes the name. Its error keeps the old file.
	Verify func(File) error
}

// ReplaceFile puts what write writes in the place of name, or creates name. The caller holds the lock that keeps other
// writers of name away, or sets Random. Of a symbolic link the file is replaced that it leads to, and the link stays.
//
// What a crash leaves, step by step (Temp is unlinked first, if it was left over; a random name is not):
//
//	unlink, create, allocate, write, metadata, sync, verify   the old file, and perhaps Temp with any content
//	rename                                                    the old file and Temp, or the new file complete
//	SyncDir returned nil                                      the new file
//
// For a replacement by one of the Spares see there.
//
// On an error before the rename Temp is unlinked and name is as it was. If only the last step fails the error is a
// [*NotDurableError]: the new file is in place, but a crash may bring the old one back.
func ReplaceFile(fsys FS, name string, opts ReplaceOptions, write func(File) error) error {
	name, err := opts.resolve(fsys, name)
	if err != nil {
		return err
	}
	err = replaceByNew(fsys, name, &opts, write)
	var placed *NotDurableError
	if err == nil || opts.Spares == nil || errors.As(err, &placed) {
		return err
	}
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	if e := opts.Spares.replace(name, &opts, write); e != errNoSpare {
		return e
	}
	return err
}

// resolve sets what is not set, and returns the name of the file to write.
func (opts *ReplaceOptions) resolve(fsys FS, name string) (string, error) {
	var err error
	if !opts.New {
		name, err = fsys.Resolve(name)
	} else if _, e := fsys.Stat(name); e == nil {
		err = &fs.PathError{Op: "create", Path: name, Err: syscall.EEXIST} // before anything is written
	}
	if opts.Temp == "" {
		opts.Temp = name + ".NEW"
	}
	if opts.Perm == 0 {
		opts.Perm = 0o600
	}
	return name, err
}

func replaceByNew(fsys FS, name string, opts *ReplaceOptions, write func(File) error) error {
	r, err := prepareReplacement(fsys, name, opts, write)
	if err != nil {
		return err
	}
	return r.Commit()
}

// Replacement is a file that is complete, synced and verified, and waits to take the place of another; see
// [PrepareReplacement].
type Replacement struct {
	fs         FS
	temp, name string
	info       Info
	create     bool
}

// PrepareReplacement is the first part of [ReplaceFile], all that may fail for want of space, for those who have more to
// prepare before they begin to change anything. The caller calls Commit or Discard. Options.Spares are not used.
func PrepareReplacement(fsys FS, name string, opts ReplaceOptions, write func(File) error) (*Replacement, error) {
	name, err := opts.resolve(fsys, name)
	if err != nil {
		return nil, err
	}
	return prepareReplacement(fsys, name, &opts, write)
}

func prepareReplacement(fsys FS, name string, opts *ReplaceOptions, write func(File) error) (*Replacement, error) {
	f, err := openTemp(fsys, name, opts)
	if err != nil {
		return nil, err
	}
	r := &Replacement{fs: fsys, temp: f.Name(), name: name, create: opts.New}
	if r.info, err = f.Stat(); err == nil {
		err = fillReplacement(fsys, f, name, opts, write)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		r.Discard()
		return nil, err
	}
	return r, nil
}

// Discard gives up; the old file stays.
func (r *Replacement) Discard() {
	// Of no use any more; if it cannot be removed now the next replacement will.
	_ = r.fs.Unlink(r.temp)
}

// Commit puts the file in its place, durably. On an error the old file is in place and the new one is gone, unless the
// error is a [*NotDurableError].
func (r *Replacement) Commit() (err error) {
	if r.create {
		err = Place(context.Background(), r.fs, r.temp, r.name)
	} else {
		err = outcome(r.fs, r.name, r.info, r.fs.Rename(r.temp, r.name))
	}
	var unsure *NotDurableError
	if errors.As(err, &unsure) {
		return err
	}
	if err != nil {
		r.Discard()
		return err
	}
	dir := filepath.Dir(r.name)
	if planted.On(planted.DirUnsynced) {
		return nil
	}
	err = r.fs.SyncDir(dir)
	if from := filepath.Dir(r.temp); err == nil && from != dir {
		err = r.fs.SyncDir(from)
	}
	if err != nil {
		return &NotDurableError{Path: r.name, Err: err}
	}
	return nil
}

// openTemp creates the file to write to.
func openTemp(fsys FS, name string, opts *ReplaceOptions) (f File, err error) {
	const how = ReadWrite | Create | Exclusive
	if opts.Random == nil || planted.On(planted.OutputTempShared) {
		if err := fsys.Unlink(opts.Temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return fsys.Open(opts.Temp, how, opts.Perm)
	}
	for range 100 {
		f, err = fsys.Open(fmt.Sprintf("%s.%016x", name, opts.Random()), how, opts.Perm)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
	return nil, err
}

// outcome looks, after a rename or an exchange that returned err, whether the file that info describes has the name: a
// call that reports an error may have been carried out all the same.
func outcome(fsys FS, name string, info Info, err error) error {
	if err == nil {
		return nil
	}
	now, e := fsys.Stat(name)
	switch {
	case e == nil && now.SameFile(info):
		return nil
	case e == nil || errors.Is(e, fs.ErrNotExist):
		return err
	}
	return &NotDurableError{Path: name, Err: errors.Join(err, e)}
}

func fillReplacement(fsys FS, f File, name string, opts *ReplaceOptions, write func(File) error) error {
	if opts.Size > 0 {
		if err := promise(fsys, f, opts.Size); err != nil {
			return err
		}
	}
	if err := write(f); err != nil {
		return err
	}
	if !opts.New {
		if err := copyMetadataFrom(fsys, f, name); err != nil {
			return err
		}
	}
	if planted.On(planted.ReplaceUnsynced) {
		return nil
	}
	// Sync and not Datasync: the owner must not be lost, or a repair run by root would lock the server out.
	if err := f.Sync(); err != nil {
		return err
	}
	if opts.Verify != nil {
		return opts.Verify(f)
	}
	return nil
}

// promise allocates size bytes. Where the file system cannot, it compares them with what is free, so that at least a
// disk that is full now is known to be.
func promise(fsys FS, f File, size int64) error {
	err := f.Allocate(0, size)
	if !errors.Is(err, syscall.EOPNOTSUPP) {
		return err
	}
	space, err := fsys.StatFS(filepath.Dir(f.Name()))
	if err == nil && space.FreeBytes < size {
		return &fs.PathError{Op: "allocate", Path: f.Name(), Err: syscall.ENOSPC}
	}
	return nil
}

func copyMetadataFrom(fsys FS, f File, name string) error {
	if planted.On(planted.OwnerLost) {
		return nil
	}
	old, err := fsys.Open(name, ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = f.CopyMetadata(old)
	if e := old.Close(); err == nil {
		err = e
	}
	return err
}

// ReadFile returns the whole content of a file as it is now.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name, ReadOnly, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// One byte more than the size, so that one read finds the end; files of /proc say 0 and grow from there.
	p := make([]byte, info.Size+1)
	n := 0
	for {
		k, err := f.ReadAt(p[n:], int64(n))
		n += k
		if err == io.EOF {
			return p[:n], nil
		}
		if err != nil {
			return nil, err
		}
		p = append(p, make([]byte, len(p)+512)...)
	}
}

// MkdirAll creates a directory with all that lead to it, and makes each one it created durable in its parent. It
// returns nil if the directory exists. If only the sync fails the error is a [*NotDurableError].
func MkdirAll(fsys FS, name string, perm fs.FileMode) error {
	name = filepath.Clean(name)
	info, err := fsys.Stat(name)
	if err == nil {
		if info.Mode.IsDir() {
			return nil
		}
		return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(name)
	if parent != name {
		if err := MkdirAll(fsys, parent, perm); err != nil {
			return err
		}
	}
	if err := fsys.Mkdir(name, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := fsys.SyncDir(parent); err != nil {
		return &NotDurableError{Path: name, Err: err}
	}
	return nil
}
