package vfs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/mailspine/mailspine/internal/planted"
)

const (
	// spareCount is how many prepared files a pool has: one to write into, and some more because a reader may have kept
	// the file that was replaced open.
	spareCount = 4
	// spareSlack is how much larger than the file a prepared file is, so that the file may grow on a full disk.
	spareSlack = 16 << 10
	// spareMax is the largest prepared file. Files that are written whole at every change are far smaller.
	spareMax = 64 << 20
	// noteLenBytes is the size of a lock file: one sector, which reaches the disk whole.
	noteLenBytes = 512
	// spareWait bounds the wait for a prepared file that another process is just using, spareCheck how often a pool that
	// looks well is looked at closely.
	spareWait  = 10 * time.Second
	spareCheck = time.Minute
)

// errNoSpare says that no prepared file can be used now.
var errNoSpare = errors.New("no prepared file is free and large enough")

// Spares is a pool of prepared files in a directory, for [ReplaceOptions]: files whose disk blocks are allocated, so
// that another file can still be replaced when nothing is free on the disk, although somebody takes each block the
// moment it is freed. The prepared file is written, and then it and the file that it replaces exchange their names, so
// that the blocks of the old file are the next prepared ones. Any number of processes and of files may share a pool; it
// must be on their file system and should have a directory of its own.
//
// The pool is files spare.0, spare.1, ..., each with a file spare.N.lock whose lock is held by who works on it, and
// which holds, while an exchange is not yet durable, the path of the other directory.
//
// What a crash leaves of a replacement, step by step:
//
//	claim, write, cut, metadata, sync, verify     name: old; the spare: any content
//	note the directory of name in the lock file   the same
//	exchange                                      name: old, the spare: new; or name: new, the spare: old
//	SyncDir of both directories returned nil      name: new, the spare: old
//	clear the note                                the same
//
// So what was replaced must not be overwritten before both directories are synced: a crash could bring it back under
// its name. Who claims a spare and finds a note (its writer was killed, or could not sync) syncs that directory first.
// The note need not be durable: after a crash of the machine every name that is there is durable.
//
// Nor may it be overwritten while somebody reads it. Readers of Cyrus's flat and quota files take no lock and map the
// file, and our snapshots keep it open; so a spare is used only if [File.Sole] says that nobody has it open and it has
// no other name. One that is in use is left alone until it is free, or until [Spares.Prepare] has space for another.
//
// A file that becomes shorter frees what it does not need any more (no file system can cut a file and keep its blocks),
// and so the spare that loses least is taken. Changes that do not make the file larger than it is succeed without end;
// it can grow into the slack of the spares.
//
// Where the file system cannot exchange, the prepared file is renamed over name and the pool is smaller by one.
type Spares struct {
	fs  FS
	dir string

	mu      sync.Mutex
	ready   int64 // the size that the last close look was for
	checked time.Time
}

// NewSpares returns the pool in a directory, which need not exist before the first Prepare; its parent must.
func NewSpares(fsys FS, dir string) *Spares { return &Spares{fs: fsys, dir: dir} }

func (s *Spares) path(k int) string { return filepath.Join(s.dir, "spare."+strconv.Itoa(k)) }

// Prepare makes the pool ready for the file name to be replaced when the disk is full, and to grow a little. Call it
// after a change, while there is space. The pool gets the owner and mode of name: who can write the one can use the
// other. An error means that there is no such reserve, or a smaller one; nothing else depends on it. It is EOPNOTSUPP
// where the file system cannot promise space.
func (s *Spares) Prepare(name string, size int64) error {
	want := (size + spareSlack + 4095) &^ 4095
	if want > spareMax {
		return &fs.PathError{Op: "prepare", Path: name, Err: syscall.EFBIG}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.fs.Now()
	if s.ready >= want && now.Sub(s.checked) < spareCheck && s.looksReady(want) {
		return nil
	}
	if err := s.makeDir(name); err != nil {
		return err
	}
	if err := s.sameDisk(name); err != nil {
		return err
	}
	var first error
	for k := range spareCount {
		if err := s.prepare(k, name, want); err != nil && first == nil {
			first = err
		}
	}
	s.ready, s.checked = want, now
	return first
}

// Ready tells whether there is a prepared file for one of size bytes. Where the disk is full that is what Prepare cannot tell: it
// wants more than is needed, and all of them.
func (s *Spares) Ready(size int64) bool { return len(s.order(size)) > 0 }

func (s *Spares) looksReady(want int64) bool {
	for k := range spareCount {
		if info, err := s.fs.Stat(s.path(k)); err != nil || info.Blocks*512 < want || info.Nlink != 1 {
			return false
		}
	}
	return true
}

// makeDir makes the directory, with the owner and mode of its parent if that is permitted.
func (s *Spares) makeDir(name string) error {
	parent := filepath.Dir(s.dir)
	space, err := s.fs.StatFS(parent)
	if err != nil {
		return err
	}
	if space.CopyOnWrite {
		return &fs.PathError{Op: "prepare", Path: name, Err: syscall.EOPNOTSUPP}
	}
	if _, err := s.fs.Stat(s.dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.fs.Mkdir(s.dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	if dir, err := s.fs.Open(s.dir, ReadOnly, 0); err == nil {
		_ = copyMetadataFrom(s.fs, dir, parent)
		_ = dir.Close()
	}
	return s.fs.SyncDir(parent)
}

// sameDisk fails with EXDEV if the pool is on another file system than name.
func (s *Spares) sameDisk(name string) error {
	file, err := s.fs.Stat(name)
	if err != nil {
		return err
	}
	dir, err := s.fs.Stat(s.dir)
	if err == nil && dir.Dev != file.Dev {
		err = &fs.PathError{Op: "prepare", Path: name, Err: syscall.EXDEV}
	}
	return err
}

// prepare brings one spare to the size wanted, or makes it.
func (s *Spares) prepare(k int, name string, want int64) error {
	lock, err := s.lockFile(k, name)
	if errors.Is(err, syscall.EAGAIN) {
		return nil // somebody uses it now, and so sees to it
	}
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	f, err := s.idle(k, lock)
	if err != nil {
		return s.makeSpare(k, name, want)
	}
	err = f.Allocate(0, want)
	if err == nil {
		err = f.Datasync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// lockFile opens and locks the lock file of a spare, or makes it, with a note that says nothing.
func (s *Spares) lockFile(k int, like string) (lock File, err error) {
	lock, err = s.fs.Open(s.path(k)+".lock", ReadWrite|Create|NoFollow, 0o600)
	if err != nil {
		return nil, err
	}
	if err = lock.TryLock(Exclusively); err == nil {
		var info Info
		if info, err = lock.Stat(); err == nil && info.Size < noteLenBytes {
			if err = copyMetadataFrom(s.fs, lock, like); err == nil {
				if err = writeNote(lock, ""); err == nil {
					err = lock.Sync()
				}
			}
		}
	}
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return lock, nil
}

// makeSpare makes a prepared file, complete before it gets its name.
func (s *Spares) makeSpare(k int, like string, want int64) error {
	temp := s.path(k) + ".NEW"
	if err := s.fs.Unlink(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := s.fs.Open(temp, ReadWrite|Create|Exclusive, 0o600)
	if err != nil {
		return err
	}
	if err = f.Allocate(0, want); err == nil {
		if err = copyMetadataFrom(s.fs, f, like); err == nil {
			err = f.Sync()
		}
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = s.fs.Rename(temp, s.path(k))
	}
	if err != nil {
		_ = s.fs.Unlink(temp)
		return err
	}
	return s.fs.SyncDir(s.dir)
}

// idle opens a spare that nobody else has open, whose lock the caller holds, and sees to it that it will not come back
// under another name.
func (s *Spares) idle(k int, lock File) (File, error) {
	if err := s.settle(lock); err != nil {
		return nil, err
	}
	f, err := s.fs.Open(s.path(k), ReadWrite|NoFollow, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (info.Nlink != 1 || !info.Mode.IsRegular()) {
		err = &fs.PathError{Op: "claim", Path: f.Name(), Err: syscall.EMLINK}
	}
	if err == nil && !planted.On(planted.SpareInUse) {
		err = f.Sole()
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// settle makes an exchange durable that a note tells of.
func (s *Spares) settle(lock File) error {
	p := make([]byte, noteLenBytes)
	if n, err := lock.ReadAt(p, 0); err != nil && err != io.EOF {
		return err
	} else if p = bytes.TrimRight(p[:n], "\x00\n"); len(p) == 0 {
		return nil
	}
	if planted.On(planted.SpareUnsettled) {
		return nil
	}
	// A directory that is gone brings nothing back.
	if err := s.fs.SyncDir(string(p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	return writeNote(lock, "")
}

func writeNote(lock File, dir string) error {
	p := make([]byte, noteLenBytes)
	p[copy(p[:noteLenBytes-1], dir)] = '\n'
	_, err := lock.WriteAt(p, 0)
	return err
}

// replace is ReplaceFile into a prepared file. It fails with errNoSpare, and nothing done, if there is none.
func (s *Spares) replace(name string, opts *ReplaceOptions, write func(File) error) error {
	dir, err := filepath.Abs(filepath.Dir(name))
	if err != nil || len(dir) >= noteLenBytes {
		return errNoSpare
	}
	if _, err := s.fs.Stat(name); err != nil {
		return errNoSpare // there is no metadata to take over
	}
	ctx, cancel := context.WithTimeout(context.Background(), spareWait)
	defer cancel()
	for {
		busy := -1
		for _, k := range s.order(opts.Size) {
			lock, f, err := s.claim(k)
			if err == nil {
				err = s.swap(name, dir, f, lock, opts, write)
				_ = lock.Close()
				return err
			}
			if errors.Is(err, errNoSpare) {
				busy = k
			}
		}
		if busy < 0 || s.await(ctx, busy) != nil {
			return errNoSpare
		}
	}
}

// order lists the spares that have the blocks for size bytes, the best first: those that need not be cut to the size,
// and then the smallest. What the file system says of the blocks has to do: asked to allocate what is allocated, XFS
// without free space fails.
func (s *Spares) order(size int64) []int {
	type candidate struct {
		k      int
		cut    bool
		blocks int64
	}
	var list []candidate
	for k := range spareCount {
		if info, err := s.fs.Stat(s.path(k)); err == nil && info.Blocks*512 >= size {
			list = append(list, candidate{k, info.Size > size, info.Blocks})
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		if a.cut != b.cut {
			if a.cut {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.blocks, b.blocks)
	})
	ks := make([]int, len(list))
	for i, c := range list {
		ks[i] = c.k
	}
	return ks
}

// claim opens a spare and its lock. errNoSpare means that somebody holds the lock.
func (s *Spares) claim(k int) (lock, f File, err error) {
	if lock, err = s.fs.Open(s.path(k)+".lock", ReadWrite|NoFollow, 0); err != nil {
		return nil, nil, err
	}
	if planted.On(planted.SpareUnlocked) {
		err = nil
	} else if err = lock.TryLock(Exclusively); errors.Is(err, syscall.EAGAIN) {
		err = errNoSpare
	}
	if err == nil {
		f, err = s.idle(k, lock)
	}
	if err != nil {
		_ = lock.Close()
		return nil, nil, err
	}
	return lock, f, nil
}

// await waits until whoever uses a spare has done with it.
func (s *Spares) await(ctx context.Context, k int) error {
	lock, err := s.fs.Open(s.path(k)+".lock", ReadWrite|NoFollow, 0)
	if err != nil {
		return err
	}
	err = lock.Lock(ctx, Exclusively)
	if e := lock.Close(); err == nil {
		err = e
	}
	return err
}

// swap fills the spare f and exchanges it with name, whose directory is dir. It closes f.
func (s *Spares) swap(name, dir string, f, lock File, opts *ReplaceOptions, write func(File) error) error {
	spare := f.Name()
	info, err := f.Stat()
	if err == nil {
		opts := *opts
		opts.Size = 0 // the space is there
		err = fillReplacement(s.fs, f, name, &opts, func(f File) error {
			w := &written{File: f}
			if err := write(w); err != nil {
				return err
			}
			if info.Size > w.end && !planted.On(planted.SpareUncut) {
				return f.Truncate(w.end)
			}
			return nil
		})
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = writeNote(lock, dir)
	}
	if err != nil {
		return err
	}
	err = outcome(s.fs, name, info, s.fs.Exchange(spare, name))
	var unsure *NotDurableError
	if errors.As(err, &unsure) {
		return err // perhaps the names are exchanged: a second attempt would take that back
	}
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EOPNOTSUPP) {
		err = outcome(s.fs, name, info, s.fs.Rename(spare, name))
	}
	if errors.Is(err, syscall.EXDEV) {
		return errNoSpare // the pool is on another file system
	}
	if err != nil {
		return err
	}
	if planted.On(planted.SpareUnsynced) {
		return nil
	}
	if err = s.fs.SyncDir(dir); err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	if err != nil {
		return &NotDurableError{Path: name, Err: err}
	}
	_ = writeNote(lock, "") // if it stays, the next one syncs once too often
	return nil
}

// written notes how far a file was written.
type written struct {
	File
	end int64
}

func (w *written) WriteAt(p []byte, off int64) (int, error) {
	n, err := w.File.WriteAt(p, off)
	if n > 0 {
		w.end = max(w.end, off+int64(n))
	}
	return n, err
}

func (w *written) Truncate(size int64) error {
	w.end = size
	return w.File.Truncate(size)
}
