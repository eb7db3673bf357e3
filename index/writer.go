package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"github.com/mailspine/mailspine/internal/journal"
	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/vfs"
)

// writer is a mailbox that is locked for a change. What it has read is true until it gives the locks back.
type writer struct {
	m     *Mailbox
	fs    vfs.FS
	place Place
	opts  *OpenOptions

	turn    bool
	told    bool     // the participant has heard of a change
	file    vfs.File // cyrus.index, locked
	info    vfs.Info
	index   *File
	raw     []byte // the header of cyrus.index
	header  *HeaderFile
	hraw    []byte // all of cyrus.header
	journal *journal.Journal
	log     *slog.Logger

	cache    *CacheFile // for reading, when it is first needed
	archive  *CacheFile
	readers  []vfs.File
	annots   map[UID]annotated
	isLoaded bool // annots
}

// takeTurn waits until no other goroutine changes the mailbox.
func (m *Mailbox) takeTurn(ctx context.Context) error {
	select {
	case m.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// writeLocks takes the locks of the users and of the mailboxes, in the order of Cyrus: all users first.
func writeLocks(ctx context.Context, fsys vfs.FS, places ...Place) (release func(), err error) {
	places = slices.Clone(places)
	// A user's locks have one order, the users' that of their names: see mboxdb.Layout.UserLocks.
	slices.SortStableFunc(places, func(a, b Place) int { return strings.Compare(a.Owner, b.Owner) })
	var users, names []string
	for _, p := range places {
		users = append(users, p.UserLocks...)
		if p.NameLock != "" {
			names = append(names, p.NameLock)
		}
	}
	user, err := locks.InOrder(ctx, fsys, vfs.Exclusively, users...)
	if err != nil {
		return nil, err
	}
	name, err := locks.Acquire(ctx, fsys, vfs.Shared, names...)
	if err != nil {
		user.Release()
		return nil, err
	}
	return func() {
		name.Release()
		user.Release()
	}, nil
}

// lockIndex locks cyrus.index, resolves what a crash has left, and reads what there is. The caller has the other locks.
func (m *Mailbox) lockIndex(ctx context.Context) (_ *writer, err error) {
	if err := m.takeTurn(ctx); err != nil {
		return nil, err
	}
	w := &writer{m: m, fs: m.fs, place: m.place, opts: &m.opts, turn: true, log: logger(m.opts.Log)}
	if m.place.Journal != "" {
		w.journal = journal.Open(m.fs, m.place.Journal)
	}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.file, w.info, err = openLocked(ctx, m.fs, m.place.Paths.Index); err != nil {
		return nil, err
	}
	if _, err := w.recover(ctx); err != nil {
		return nil, err
	}
	if e := m.unsettled; e != nil {
		if _, err := w.decide(e); err != nil {
			return nil, err
		}
		m.unsettled = nil
	}
	return w, w.load()
}

// openLocked opens cyrus.index and locks it exclusively.
func openLocked(ctx context.Context, fsys vfs.FS, path string) (vfs.File, vfs.Info, error) {
	for {
		f, err := fsys.Open(path, vfs.ReadWrite, 0)
		if err != nil {
			return nil, vfs.Info{}, err
		}
		if err = f.Lock(ctx, vfs.Exclusively); err == nil {
			err = sameIndex(fsys, f, path)
		}
		var info vfs.Info
		if err == nil {
			info, err = f.Stat()
		}
		if err == nil {
			return f, info, nil
		}
		_ = f.Close()
		// It was replaced while we waited: the lock of a file without a name is nobody's.
		if !errors.Is(err, errReplaced) || context.Cause(ctx) != nil {
			return nil, vfs.Info{}, err
		}
	}
}

// load reads the headers. A damaged mailbox is not changed.
func (w *writer) load() (err error) {
	if w.info, err = w.file.Stat(); err != nil {
		return err
	}
	if w.index, err = NewFile(w.file, w.info.Size, w.place.Paths.Index); err != nil {
		return err
	}
	w.raw = make([]byte, w.index.layout.headerSize)
	if err := readFull(w.file, w.raw, 0); err != nil {
		return fmt.Errorf("read %s: %w", w.place.Paths.Index, err)
	}
	if w.index.Header.Options&OptionDeleted != 0 {
		return fmt.Errorf("%s: %w", w.place.Paths.Index, ErrGone)
	}
	if w.hraw, err = vfs.ReadFile(w.fs, w.place.Paths.Header); err != nil {
		return err
	}
	w.header = &HeaderFile{}
	if err := w.header.Decode(w.hraw); err != nil {
		return in(err, w.place.Paths.Header, 0, 0)
	}
	return nil
}

func (w *writer) version() Version { return w.index.Version() }

func (w *writer) writeIndex(b []byte, off int64) error {
	_, err := w.file.WriteAt(b, off)
	return err
}

// close gives back what lockIndex took.
func (w *writer) close() {
	for _, f := range w.readers {
		_ = f.Close()
	}
	w.readers = nil
	if w.file != nil {
		_ = w.file.Close()
		w.file = nil
	}
	if w.turn {
		w.turn = false
		<-w.m.turn
	}
}

// cacheFile opens a cache for reading; nil if there is none that can be used.
func (w *writer) cacheFile(path string) (*CacheFile, error) {
	f, err := w.fs.Open(path, vfs.ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	w.readers = append(w.readers, f)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	c, err := NewCacheFile(f, info.Size, path)
	if errors.Is(err, ErrDamaged) {
		return nil, nil
	}
	return c, err
}

// cacheRecord is the cache record of a message, or an error of class ErrNoCache.
func (w *writer) cacheRecord(r *Record) (b []byte, err error) {
	if w.cache == nil {
		if w.cache, err = w.cacheFile(w.place.Paths.Cache); err != nil {
			return nil, err
		}
	}
	if w.archive == nil && w.place.Paths.archive() && r.Flags&FlagArchived != 0 {
		if w.archive, err = w.cacheFile(w.place.Paths.Archive); err != nil {
			return nil, err
		}
	}
	files := Files{Paths: w.place.Paths, Index: w.index, Cache: w.cache, Archive: w.archive}
	c, err := files.CacheRecord(r)
	if err != nil {
		return nil, err
	}
	return c.Append(nil), nil
}

// annotations are what the annotations of each message add up to. Where they cannot be read they do not count: a check of
// the mailbox finds that, and to expunge a message must not fail for it.
func (w *writer) annotations(ctx context.Context, uid UID) annotated {
	if !w.isLoaded {
		w.isLoaded = true
		if w.version().hasHeaderField(hSyncAnnot) && w.place.Paths.Annotations != "" {
			var err error
			if w.annots, err = readAnnotations(ctx, w.fs, w.place.Paths.Annotations, w.place.Owner); err != nil {
				w.annots = nil
				w.log.WarnContext(ctx, "annotations were not taken into account", "path", w.place.Paths.Annotations, "error", err)
			}
		}
	}
	return w.annots[uid]
}

// rawRecord reads the bytes of a record.
func (w *writer) rawRecord(no RecordNo) ([]byte, error) {
	b := make([]byte, w.index.stride)
	return b, w.index.read(b, w.index.Offset(no))
}

// intact tells whether the checksum of a record's bytes is right; without one it is true.
func intact(l *layout, b []byte) bool { return Raw{l: l, b: b}.Intact() }
