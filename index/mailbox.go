package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"sync"
	"syscall"

	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/vfs"
)

// Mailbox is an open mailbox, beside whoever else reads it and writes to it. Its methods may be called at once from many
// goroutines.
//
// Records change in place in this format. A record that is read is whole: if its checksum is wrong it is read again under
// the lock of the index, where no writer can be in the middle of it, before that counts as damage. (Before version 12
// there are no checksums, and all reading is done under the lock.) Two records, or a record and the header, may be of
// different moments; [Mailbox.Snapshot] gives one moment.
//
// Locks are taken as Cyrus takes them: those of the user and of the mailbox, shared, to open; that of cyrus.index, shared,
// to read what has to be of one moment. None is held between calls, as no IMAP session of Cyrus holds one between
// commands; so a repack may put new files in the place of those that are open. They can still be read. [Mailbox.Refresh]
// goes over to the new ones.
type Mailbox struct {
	fs    vfs.FS
	place Place
	opts  OpenOptions
	// turn is held, full, by the one that changes the mailbox: within the process nobody has to wait in the kernel.
	turn chan struct{}
	// unsettled is a change of which it is not known whether the disk has it: before anything else is written, that is
	// decided. Guarded by turn.
	unsettled *entry

	mu  sync.Mutex
	cur *opened // nil once the mailbox is closed
}

// opened are the files of a mailbox as they were at one refresh. They stay open until the last call that uses them ends.
type opened struct {
	*Files
	// lock is a handle of the open cyrus.index for its lock. turn is held, full, by the one that uses it: the lock belongs
	// to the handle, and two that share it would not exclude each other's end.
	lock vfs.File
	turn chan struct{}
	refs int // guarded by Mailbox.mu
}

func (o *opened) close() error { return errors.Join(o.Files.Close(), o.lock.Close()) }

// ErrClosed means that the mailbox is closed.
var ErrClosed = errors.New("the mailbox is closed")

// Open opens a mailbox with the zero [OpenOptions].
func Open(ctx context.Context, fsys vfs.FS, p Place) (*Mailbox, error) {
	return OpenWith(ctx, fsys, p, OpenOptions{})
}

// OpenWith opens a mailbox. It fails as Cyrus does, if header or index are missing or damaged; see [CheckFiles] for what is
// wrong with them.
func OpenWith(ctx context.Context, fsys vfs.FS, p Place, opts OpenOptions) (*Mailbox, error) {
	m := newMailbox(fsys, p, opts)
	o, err := m.open(ctx, OpenFiles)
	if err != nil {
		return nil, fmt.Errorf("open mailbox: %w", err)
	}
	m.cur = o
	return m, nil
}

// OpenDamaged opens what there is of a mailbox that [Open] refuses, for those who want back what is whole of it. With the
// error of Open it returns a Mailbox nevertheless, if records can be told from other bytes; it is nil if nothing can be read.
// Nothing vouches for the header of such an index, the header file is empty if it is lost, and the mailbox cannot be
// refreshed. Of a mailbox that Open accepts it is the same.
func OpenDamaged(ctx context.Context, fsys vfs.FS, p Place) (*Mailbox, error) {
	m := newMailbox(fsys, p, OpenOptions{})
	o, err := m.open(ctx, openWhatIs)
	if err != nil {
		err = fmt.Errorf("open mailbox: %w", err)
	}
	if o == nil {
		return nil, err
	}
	m.cur = o
	return m, err
}

func newMailbox(fsys vfs.FS, p Place, opts OpenOptions) *Mailbox {
	fsys = vfs.OrOS(fsys)
	return &Mailbox{fs: fsys, place: p, opts: opts, turn: make(chan struct{}, 1)}
}

// open opens the files that the paths lead to now, all of one state. What openFiles opens in spite of an error is returned
// with that error.
func (m *Mailbox) open(ctx context.Context, openFiles func(vfs.FS, Paths) (*Files, error)) (*opened, error) {
	release, err := m.place.readLocks(ctx, m.fs)
	if err != nil {
		return nil, err
	}
	defer release()
	lock, err := m.fs.Open(m.place.Paths.Index, vfs.ReadOnly, 0)
	if err != nil {
		return nil, err
	}
	if err := lock.Lock(ctx, vfs.Shared); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	files, damage := openFiles(m.fs, m.place.Paths)
	if files == nil {
		return nil, errors.Join(damage, lock.Close())
	}
	o := &opened{Files: files, lock: lock, turn: make(chan struct{}, 1), refs: 1}
	if err = sameIndex(m.fs, lock, m.place.Paths.Index); err == nil {
		err = lock.Unlock()
	}
	if err != nil {
		return nil, errors.Join(damage, err, o.close())
	}
	return o, damage
}

// reopen goes over to the files as they are now. The caller has cyrus.index locked.
func (m *Mailbox) reopen() error {
	lock, err := m.fs.Open(m.place.Paths.Index, vfs.ReadOnly, 0)
	if err != nil {
		return err
	}
	files, err := OpenFiles(m.fs, m.place.Paths)
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	return m.replace(&opened{Files: files, lock: lock, turn: make(chan struct{}, 1), refs: 1})
}

// replace makes fresh what the methods use from now on.
func (m *Mailbox) replace(fresh *opened) error {
	m.mu.Lock()
	old := m.cur
	if old != nil {
		m.cur = fresh
	}
	m.mu.Unlock()
	if old == nil {
		return errors.Join(ErrClosed, fresh.close())
	}
	return m.release(old)
}

// errReplaced means that cyrus.index was replaced while it was being opened, by a program that does not take the locks.
var errReplaced = errors.New("cyrus.index was replaced while it was opened; try again")

func sameIndex(fsys vfs.FS, lock vfs.File, path string) error {
	held, err := lock.Stat()
	if err != nil {
		return err
	}
	now, err := fsys.Stat(path)
	if err == nil && !now.SameFile(held) {
		err = errReplaced
	}
	return err
}

// readLocks takes the locks of the user and of the mailbox. On a store that may not be written to there are none to take,
// and nobody who changes it.
func (p Place) readLocks(ctx context.Context, fsys vfs.FS) (release func(), err error) {
	user, err := locks.InOrder(ctx, fsys, vfs.Shared, p.UserLocks...)
	var name *locks.Held
	if err == nil && p.NameLock != "" {
		name, err = locks.Acquire(ctx, fsys, vfs.Shared, p.NameLock)
	}
	release = func() {
		name.Release()
		user.Release()
	}
	if err != nil && !errors.Is(err, syscall.EROFS) && !errors.Is(err, fs.ErrPermission) {
		release()
		return nil, err
	}
	return release, nil
}

// Close closes the mailbox. Calls that are under way go on to their end.
func (m *Mailbox) Close() error {
	m.mu.Lock()
	o := m.cur
	m.cur = nil
	m.mu.Unlock()
	if o == nil {
		return ErrClosed
	}
	return m.release(o)
}

// Refresh takes notice of what was written since the mailbox was opened or refreshed: new messages, other flags' names,
// files that a repack has put in the place of the open ones.
func (m *Mailbox) Refresh(ctx context.Context) error {
	if _, done, err := m.use(); err != nil {
		return err
	} else {
		done()
	}
	fresh, err := m.open(ctx, OpenFiles)
	if err != nil {
		return fmt.Errorf("refresh mailbox: %w", err)
	}
	return m.replace(fresh)
}

// release gives a reference back; the last one closes the files.
func (m *Mailbox) release(o *opened) error {
	m.mu.Lock()
	o.refs--
	last := o.refs == 0
	m.mu.Unlock()
	if last {
		return o.close()
	}
	return nil
}

// Place is where the mailbox lies.
func (m *Mailbox) Place() Place { return m.place }

// use keeps the files open during one call.
func (m *Mailbox) use() (*opened, func(), error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.cur
	if o == nil {
		return nil, nil, ErrClosed
	}
	o.refs++
	return o, func() { _ = m.release(o) }, nil
}

// Header returns the header of cyrus.index as of the last refresh: status without reading a record. Do not change it.
func (m *Mailbox) Header() (*Header, error) {
	f, done, err := m.use()
	if err != nil {
		return nil, err
	}
	defer done()
	return &f.Index.Header, nil
}

// HeaderFile returns what cyrus.header says, as of the last refresh. Do not change it. See [Mailbox.VerifyHeaderFile].
func (m *Mailbox) HeaderFile() (*HeaderFile, error) {
	f, done, err := m.use()
	if err != nil {
		return nil, err
	}
	defer done()
	return f.Header, nil
}

// VerifyHeaderFile returns nil if cyrus.header is the file of which cyrus.index has the checksum, as of the last refresh, or
// if there is none to compare with: before version 12 there is none. Otherwise the error is of class ErrHeaderFile. Cyrus
// opens such a mailbox all the same, and so does Open: a crash of Cyrus between its two writes leaves one, with a header
// file that is whole. But it may as well be damaged, and have wrong names of flags and wrong rights.
func (m *Mailbox) VerifyHeaderFile() error {
	f, done, err := m.use()
	if err != nil {
		return err
	}
	defer done()
	wanted := f.Index.Header.HeaderFileCRC
	if wanted == 0 || wanted == f.headerCRC {
		return nil
	}
	return &FormatError{Path: f.Paths.Header, Field: "header_file_crc", Found: fmt.Sprintf("the checksum %08x", f.headerCRC),
		Wanted: fmt.Sprintf("%08x, which cyrus.index has", wanted), Class: ErrHeaderFile}
}

// locked calls do under the shared lock of the index.
func (o *opened) locked(ctx context.Context, do func() error) error {
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := o.lock.Lock(ctx, vfs.Shared); err != nil {
		return fmt.Errorf("lock %s: %w", o.Paths.Index, err)
	}
	return errors.Join(do(), o.lock.Unlock())
}

// whole reads again, under the lock, a record that came with err.
func (o *opened) whole(ctx context.Context, no RecordNo, rec *Record, err error) error {
	if o.Index.Version().HasChecksums() && !errors.Is(err, ErrDamaged) {
		return err
	}
	return o.locked(ctx, func() (err error) {
		*rec, err = o.Index.Record(no)
		return err
	})
}

// Record returns the record of a message by its UID, expunged ones too, or ErrNotFound.
func (m *Mailbox) Record(ctx context.Context, uid UID) (Record, error) {
	f, done, err := m.use()
	if err != nil {
		return Record{}, err
	}
	defer done()
	no, rec, err := f.Index.Find(uid)
	if no == 0 {
		return rec, err
	}
	err = f.whole(ctx, no, &rec, err)
	return rec, err
}

// Records yields the records of all messages in the order of their UIDs, expunged ones too, as of the last refresh. A
// damaged one comes with a *[FormatError], and the iteration goes on.
func (m *Mailbox) Records(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		f, done, err := m.use()
		if err != nil {
			yield(Entry{}, err)
			return
		}
		defer done()
		for e, err := range f.Index.Records(1) {
			if e.No == 0 {
				yield(e, err)
				return
			}
			if err := f.whole(ctx, e.No, &e.Record, err); !yield(e, err) || context.Cause(ctx) != nil {
				return
			}
		}
	}
}

// FlagNames are the flags of a record as clients name them: system flags, then the user's.
func (m *Mailbox) FlagNames(f Flags, u UserFlags) ([]string, error) {
	h, err := m.HeaderFile()
	if err != nil {
		return nil, err
	}
	return h.FlagNames(f, u), nil
}

// Cache returns the cache record of a message: envelope, structure and what else Cyrus keeps of it. The error is of class
// ErrNoCache if there is none that can be used; the message itself has it all.
func (m *Mailbox) Cache(r *Record) (CacheRecord, error) {
	f, done, err := m.use()
	if err != nil {
		return CacheRecord{}, err
	}
	defer done()
	return f.CacheRecord(r)
}

// Body opens the file of a message. The caller closes it.
func (m *Mailbox) Body(r *Record) (*Body, error) {
	f, err := m.fs.Open(m.place.Message(r), vfs.ReadOnly, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Body{SectionReader: io.NewSectionReader(f, 0, info.Size), f: f}, nil
}

// Body is an open message file.
type Body struct {
	*io.SectionReader
	f vfs.File
}

// Close closes it.
func (b *Body) Close() error { return b.f.Close() }
