package skiplist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// Checkpoint rewrites the database into a new file without the records that are no longer live, and puts that in the
// place of the old one. On an error the old one stays as it is. Snapshots keep the old one.
func (db *DB) Checkpoint(ctx context.Context) error {
	w, err := db.beginWrite(ctx)
	if err != nil {
		return err
	}
	defer w.end()
	w.ctx = ctx
	if err := db.sortedAsLinked(w.st); err != nil {
		return writeError("checkpoint", err)
	}
	if err := w.checkpoint(w.st); err != nil {
		return writeError("checkpoint", err)
	}
	return nil
}

// checkpointIfDue performs the checkpoint that Cyrus would perform after a commit. Its failure does not concern the
// commit, which is durable; after a lack of space it is tried again when the log has grown by a quarter.
func (w *writer) checkpointIfDue() {
	db, end := w.db, w.st.log.End
	if db.opts.ManualCheckpoint || end < db.retryCheckpoint || !w.st.codec.CheckpointDue(w.st.header, end) {
		return
	}
	w.unasked = true
	err := w.checkpoint(w.st)
	w.unasked = false
	if err != nil {
		db.retryCheckpoint = end + end/4
		db.stats.failedCheckpoints.Add(1)
		db.opts.Logger.Warn("checkpoint failed, the old file is in use", "path", db.path, "error", err)
		return
	}
	db.retryCheckpoint = 0
}

// checkpoint replaces the file by a rewritten one that holds the live records of from. The writer holds the lock of the
// old file and, from before the new one gets the name, also that of the new one, so that no other writer comes between.
func (w *writer) checkpoint(from *state) error {
	db := w.db
	if err := w.db.formatKnown(w.st); err != nil {
		return err
	}
	out, err := w.replace(reading{from.codec, from.view, from.look, from.live}, from.header)
	if err != nil {
		return err
	}
	db.stats.checkpoints.Add(1)
	return w.switchTo(out)
}

// commitByRewrite is the commit of a format that has no log, and of the first change to a file of zero bytes: the
// rename is its commit point.
func (w *writer) commitByRewrite(tx *Tx) error {
	if err := w.db.formatKnown(w.st); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	out, err := w.replace(tx.reading(tx.ed.Tree()), w.st.header)
	if err != nil {
		return writeError("commit", err)
	}
	if out.dirErr != nil {
		// The rename may not last. A second one, of a second file with the same records, makes the directory dirty again.
		again, err := w.replace(tx.reading(tx.ed.Tree()), w.st.header)
		if err == nil {
			_ = out.wr.Close()
			out = again
		}
	}
	if err := w.switchTo(out); err != nil && out.dirErr != nil {
		return fmt.Errorf("commit: %w: %w", ErrCommitUnknown, err)
	}
	// If only opening the new file failed the change is durable, and the next call finds the new file by its path.
	w.db.stats.commits.Add(1)
	if w.db.spares != nil && w.db.codec.Traits().Rewrites {
		if err := w.db.spares.Prepare(w.db.path, out.written.Size); err != nil {
			w.db.opts.Logger.Debug("no files are prepared for a full disk", "path", w.db.path, "error", err)
		}
	}
	return nil
}

// formatKnown refuses to write the records of a file of zero bytes, which may be of any format, unless the caller has named
// one, or it had records of one when it was opened: a flat file without records has zero bytes.
func (db *DB) formatKnown(st *state) error {
	if st.blank && !db.told {
		return fmt.Errorf("%s is empty, and an empty file may be of any format: name it: %w", db.path, ErrNotDatabase)
	}
	return nil
}

// replacement is a new file that has taken the name.
type replacement struct {
	wr       vfs.File // locked
	written  codec.Rewritten
	reserved int64 // up to where space is allocated, 0 if unknown
	dirErr   error // the sync of the directory failed
}

// replace writes the records of r into a new file and renames it over the database. See vfs.ReplaceFile for what a
// crash leaves at each step; until the directory is synced the name may lead back to the old file, which is whole.
func (w *writer) replace(r reading, h codec.Header) (out replacement, err error) {
	db := w.db
	defer func() {
		if err != nil && out.wr != nil {
			_ = out.wr.Close()
		}
	}()
	write := func(f vfs.File) error {
		written, err := db.rewrite(w.ctx, f, r, h)
		if err != nil {
			return err
		}
		out.written = written
		if out.wr != nil {
			_ = out.wr.Close() // of a file that did not come to be
		}
		if out.wr, err = db.fs.Open(f.Name(), vfs.ReadWrite, 0); err != nil {
			return err
		}
		if err := out.wr.TryLock(vfs.Exclusively); err != nil {
			return err
		}
		out.reserved, err = w.reserveBehind(f, written.Size)
		return err
	}
	opts := vfs.ReplaceOptions{Perm: db.opts.Mode, Spares: db.spares}
	opts.Verify = func(f vfs.File) error { return db.verify(f, r, out.written) }
	if opts.Size, err = rewriteSize(r); err != nil {
		return out, err
	}
	err = vfs.ReplaceFile(db.fs, db.path, opts, write)
	db.stats.syncs.Add(2)
	var notDurable *vfs.NotDurableError
	if errors.As(err, &notDurable) {
		out.dirErr, err = err, nil
	}
	if planted.On(planted.DirErrorIgnored) {
		out.dirErr = nil
	}
	if err != nil && !w.holdsName() {
		db.poisoned = true // nothing more may go into the old file unless it is certain that it has kept its name
	}
	return out, err
}

// reserveBehind allocates the reserve for deletions in a new file, or the reserve of the old one would be lost with it.
// A checkpoint that nobody asked for is not worth that: without space for the reserve it is put off. One that was asked
// for may be what makes space.
func (w *writer) reserveBehind(f vfs.File, size int64) (reserved int64, err error) {
	n := w.db.opts.Reserve
	if n <= 0 || w.st.codec.Traits().Rewrites {
		return 0, nil
	}
	err = f.Allocate(size, n)
	switch {
	case err == nil:
		return size + n, nil
	case errors.Is(err, syscall.EOPNOTSUPP) || noSpace(err) && !w.unasked:
		return 0, nil
	}
	return 0, err
}

// rewriteSize is how large the file with the records of r will be, so that its space can be allocated before the first
// byte is written: a checkpoint without space fails at once and leaves nothing behind.
func rewriteSize(r reading) (n int64, err error) {
	defer vfs.CatchFault(vfs.ArmFault(), r.view.Mem, &err)
	if c, ok := r.codec.(codec.Sizer); ok {
		return c.RewriteSize(r.view, r.live)
	}
	return 0, nil
}

// rewrite writes the new file. It ends with ctx, if that is not nil.
func (db *DB) rewrite(ctx context.Context, f vfs.File, r reading, h codec.Header) (out codec.Rewritten, err error) {
	defer vfs.CatchFault(vfs.ArmFault(), r.view.Mem, &err)
	off := int64(0)
	tick := func(int64) error { return nil }
	if ctx != nil {
		tick = db.ticks(ctx, "writing", r.view.Size)
	}
	return r.codec.Rewrite(r.view, h, r.live, db.now(), func(b []byte) error {
		n, err := f.WriteAt(b, off)
		off += int64(n)
		if planted.On(planted.IncompleteRenamed) {
			return nil
		}
		if err != nil {
			return err
		}
		return tick(off)
	})
}

// verify reads the new file back and compares it with what it was made from, record by record, before it takes the
// place of the old one: Cyrus once renamed incomplete files over good ones.
func (db *DB) verify(f vfs.File, r reading, out codec.Rewritten) (err error) {
	if planted.On(planted.IncompleteRenamed) {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	g := &generation{path: f.Name(), rd: f}
	g.refs.Store(2) // never closed by release: the file belongs to the caller
	defer func() {
		for _, m := range g.maps {
			_ = m.Close()
		}
	}()
	if info.Size == 0 && r.live.Len() == 0 {
		return nil
	}
	st, err := db.load(g, info, nil)
	if err != nil {
		return fmt.Errorf("verify the new file: %w", err)
	}
	if st.damage != nil || st.log.State != codec.Clean || st.log.End != out.Size || st.live.Len() != r.live.Len() {
		return fmt.Errorf("verify the new file: %d records up to %#x are not the %d up to %#x that were written: %s",
			st.live.Len(), st.log.End, r.live.Len(), out.Size, st.log.Problem)
	}
	defer vfs.CatchFault(vfs.ArmFault(), r.view.Mem, &err)
	return sameRecords(r, st.reading())
}

func sameRecords(a, b reading) (err error) {
	defer vfs.CatchFault(vfs.ArmFault(), b.view.Mem, &err)
	ca, cb := a.live.First(), b.live.First()
	for ; ca.Ref() != 0 && cb.Ref() != 0; ca.Next() {
		ka, va, err := a.codec.Record(a.view, ca.Ref())
		if err != nil {
			return err
		}
		kb, vb, err := b.codec.Record(b.view, cb.Ref())
		if err != nil {
			return err
		}
		if !bytes.Equal(ka, kb) || !bytes.Equal(va, vb) {
			return fmt.Errorf("verify the new file: the record at %#x is not the one that was written", cb.Ref().Offset())
		}
		cb.Next()
	}
	return nil
}

// switchTo makes the new file the one in use, and moves the writer's lock and reference from the old one to it.
func (w *writer) switchTo(out replacement) error {
	db := w.db
	old := w.st.gen
	g := &generation{path: db.path, wr: out.wr, named: out.dirErr == nil}
	g.refs.Store(1) // the writer's
	var err error
	if g.rd, err = db.fs.Open(db.path, vfs.ReadWrite, 0); err == nil {
		g.id, err = g.rd.Stat()
	}
	if err == nil {
		err = sameFile(out.wr, g.id)
	}
	if err != nil {
		// The new file is in place and cannot be opened; the lock on it goes with its handle, and the next call finds it.
		_ = out.wr.Close()
		if g.rd != nil {
			_ = g.rd.Close()
		}
		db.poisoned = db.poisoned || out.dirErr != nil
		w.refreshSeen()
		return fmt.Errorf("open the new file: %w", err)
	}
	next := db.newState(g, db.codec, out.written.Size)
	next.live, next.header, next.linked = out.written.Live, out.written.Header, true
	next.log.End = out.written.Size
	next.blank = out.written.Size == 0
	db.reserved = out.reserved
	if planted.On(planted.OldTruncated) {
		_ = old.wr.Truncate(0)
	}
	// Waiters for the old file's lock see that the path leads elsewhere.
	w.letGo()
	w.adopt(next)
	w.restoreReserve()
	if out.dirErr != nil {
		// A crash may bring the old file back: nothing may be acknowledged in the new one. The next write makes another.
		db.poisoned = true
		return out.dirErr
	}
	return nil
}

// holdsName tells whether the path still leads to the file of the writer, for certain.
func (w *writer) holdsName() bool {
	at, err := w.db.fs.Stat(w.db.path)
	return err == nil && sameFile(w.st.gen.wr, at) == nil
}

// sameFile fails if f is not the file that was described, or cannot tell.
func sameFile(f vfs.File, described vfs.Info) error {
	info, err := f.Stat()
	if err == nil && !info.SameFile(described) {
		err = errors.New("the path does not lead to the new file")
	}
	return err
}

// create makes an empty database at the path, complete or not at all, and describes it; what is there already is kept
// (fs.ErrExist).
func (db *DB) create(ctx context.Context) (info vfs.Info, err error) {
	format := db.opts.Format
	if format == Auto {
		format = Twoskip
	}
	c := codecs[format]
	temp, f, err := db.createTemp()
	if err != nil {
		return info, writeError("create", err)
	}
	_, err = f.WriteAt(c.Empty(db.now()), 0)
	if err == nil && !planted.On(planted.CreateUnsynced) {
		err = f.Sync()
	}
	if err == nil {
		info, err = f.Stat()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = vfs.Place(ctx, db.fs, temp, db.path)
	}
	if err != nil {
		_ = db.fs.Unlink(temp)
	}
	if err == nil && !planted.On(planted.CreateDirUnsynced) {
		err = db.fs.SyncDir(dirOf(db.path))
	}
	if err != nil {
		return info, writeError("create", err)
	}
	return info, nil
}

// createTemp creates a file beside the database, under a name that nobody has.
func (db *DB) createTemp() (name string, f vfs.File, err error) {
	for range 100 {
		name = fmt.Sprintf("%s.%016x", db.path, db.opts.Random())
		f, err = db.fs.Open(name, vfs.ReadWrite|vfs.Create|vfs.Exclusive, db.opts.Mode)
		if !errors.Is(err, fs.ErrExist) {
			return name, f, err
		}
	}
	return name, nil, fmt.Errorf("no name is free: %s", name) // and not fs.ErrExist: there is no database
}
