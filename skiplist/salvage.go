package skiplist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// SalvageOptions say what to salvage.
type SalvageOptions struct {
	// Options open the source: Format (needed if the beginning of the file is unreadable), Order, FS, Logger.
	Options
	// Uncommitted also takes complete records that no commit follows. Cyrus's skiplist could lose the mark of a commit
	// that it had acknowledged, when the disk was full.
	Uncommitted bool
	// DryRun reads and reports as ever, and writes nothing.
	DryRun bool
}

// Salvaged reports what a salvage has found.
type Salvaged struct {
	// Records is the number of records in the new file; Unreadable that of records which were found and then could not be
	// read.
	Records    int       `json:"records"`
	Unreadable int       `json:"unreadable"`
	Format     Format    `json:"format"`
	Findings   []Finding `json:"findings"`
}

// Salvage collects everything that is readable in the damaged database at path into a new one at out, which must not
// exist. The source is only read, under its shared lock. Where it is in doubt whether a record was deleted, the record
// is kept. The new file is complete and durable when Salvage returns nil; after an error there is none.
func Salvage(ctx context.Context, path, out string, opts SalvageOptions) (Salvaged, error) {
	o, err := opts.Options.withDefaults()
	if err != nil {
		return Salvaged{}, err
	}
	o.ReadOnly = true
	s := salvager{db: &DB{path: path, opts: o, fs: o.FS}, uncommitted: opts.Uncommitted, dryRun: opts.DryRun}
	res, err := s.run(ctx, out)
	if err != nil {
		return res, fmt.Errorf("salvage: %w", err)
	}
	return res, nil
}

type salvager struct {
	db          *DB
	uncommitted bool
	dryRun      bool
}

func (s *salvager) run(ctx context.Context, out string) (res Salvaged, err error) {
	db := s.db
	if err := outputName(db.fs, out, true); err != nil {
		return res, err
	}
	g, _, err := db.openNamed(ctx, true)
	if err != nil {
		return res, err
	}
	defer g.release()
	if err := s.chooseCodec(g); err != nil {
		return res, err
	}
	res.Format = db.format
	st, err := s.collect(ctx, g, nil)
	if errors.Is(err, vfs.ErrFault) || errors.Is(err, syscall.EIO) {
		st, err = s.collect(ctx, g, &gaps{file: g.rd})
	}
	if err != nil {
		return res, err
	}
	st.blank = st.seen.Size == 0
	if err := db.formatKnown(st); err != nil {
		return res, err
	}
	res.Findings = st.log.Findings
	for i := range res.Findings {
		res.Findings[i].Path = db.path
	}
	switch st.log.State {
	case codec.Damaged:
		res.Findings = append(res.Findings, db.finding("damaged", Damage, st.log.Offset, "", "%s", st.log.Problem))
	case codec.Torn:
		// Nothing that was committed is lost.
		res.Findings = append(res.Findings, db.finding("torn", Warning, st.log.Offset, "", "%s", st.log.Problem))
	}
	if err := s.order(st, &res); err != nil {
		return res, err
	}
	if err := s.dropUnreadable(ctx, st, &res); err != nil {
		return res, err
	}
	res.Records = st.live.Len()
	if s.dryRun {
		return res, nil
	}
	_, err = writeNew(ctx, db, st, out, true)
	return res, err
}

// chooseCodec trusts the magic, else the format that was asked for: the beginning may be what is damaged.
func (s *salvager) chooseCodec(g *generation) error {
	err := s.db.choose(g)
	if err != nil && s.db.opts.Format != Auto {
		s.db.format, s.db.told = s.db.opts.Format, true
		s.db.codec = codecs[s.db.format]
		s.db.compare = compareFor(s.db.codec.Traits(), s.db.opts.Order)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w (name the format to read it all the same)", err)
	}
	return nil
}

// collect replays all that can be read.
func (s *salvager) collect(ctx context.Context, g *generation, over *gaps) (st *state, err error) {
	info, err := g.rd.Stat()
	if err != nil {
		return nil, err
	}
	st = s.db.newState(g, s.db.codec, info.Size)
	defer vfs.CatchFault(vfs.ArmFault(), st.view.Mem, &err)
	st.seen, st.view.Salvage = info, true
	if over != nil {
		st.view.Mem, st.view.File = nil, over
	}
	if info.Size == 0 {
		return st, nil
	}
	var broken *FormatError
	if st.header, err = s.db.codec.ReadHeader(st.view); errors.As(err, &broken) {
		st.header = codec.Header{}
	} else if err != nil {
		return nil, err
	}
	ed := tree.Edit(tree.Tree{}, st.look)
	opt := codec.ReplayOptions{
		Salvage: true, Uncommitted: s.uncommitted,
		Progress: s.db.ticks(ctx, "reading", info.Size),
	}
	if st.log, err = s.db.codec.Replay(st.view, st.header, opt, ed); err != nil {
		return nil, err
	}
	if broken != nil {
		st.log.Findings = append(st.log.Findings, damageFinding(broken))
	}
	st.live = ed.Tree()
	if over != nil {
		// What stands in for the gaps has shown how the file is built. No byte of it may get into a record.
		strict := *st.view
		strict.File = g.rd
		st.view = &strict
		for _, off := range over.at {
			st.log.Findings = append(st.log.Findings, s.db.finding("disk", Damage, off, "", "the disk does not deliver the %d bytes here", gapSize))
		}
	}
	return st, nil
}

// gaps reads a file of which the disk does not deliver some parts: zeros stand in for them.
type gaps struct {
	file vfs.File
	at   []int64 // where they are, the first of them in order of reading
}

// gapSize is the unit that a disk fails to deliver, maxGaps how many are listed.
const (
	gapSize = 512
	maxGaps = 100
)

// ReadAt implements io.ReaderAt.
func (g *gaps) ReadAt(p []byte, off int64) (n int, err error) {
	if n, err = g.file.ReadAt(p, off); err == nil || err == io.EOF {
		return n, err
	}
	for n = 0; n < len(p); {
		at := off + int64(n)
		part := p[n:min(len(p), n+int(gapSize-at%gapSize))]
		k, err := g.file.ReadAt(part, at)
		if err == io.EOF {
			return n + k, err
		}
		if err != nil {
			clear(part)
			g.note(at - at%gapSize)
		}
		n += len(part)
	}
	return n, nil
}

func (g *gaps) note(at int64) {
	if len(g.at) < maxGaps && !slices.Contains(g.at, at) {
		g.at = append(g.at, at)
	}
}

// order fails with ErrOrder for a file in another order, whose records would be sorted wrongly in the new file. In a file
// that is in no other order a key may be damaged: the record is kept, and reported.
func (s *salvager) order(st *state, res *Salvaged) error {
	db := s.db
	if st.codec.Traits().Rewrites {
		return nil
	}
	strict, err := db.probe(st, db.Order())
	if err == nil && strict.log.Disorder {
		if o := db.fittingOrder(st); o != DefaultOrder {
			return db.orderError(o)
		}
	}
	if err == nil && strict.damage == nil {
		if err := db.sortedAsLinked(strict); err != nil {
			return err
		}
	}
	if !st.log.Disorder {
		return nil
	}
	res.Findings = append(res.Findings, db.finding("disorder", Damage, st.log.DisorderAt, "",
		"the record is not in %s order, nor the file in any other: a key may be damaged", db.Order()))
	return nil
}

// dropUnreadable takes out the records that fail their checksums.
func (s *salvager) dropUnreadable(ctx context.Context, st *state, res *Salvaged) error {
	kept := tree.Edit(tree.Tree{}, st.look)
	n, tick := 0, s.db.ticks(ctx, "checking records", int64(st.live.Len()))
	for cur := st.live.First(); cur.Ref() != 0; cur.Next() {
		if n++; n%4096 == 0 {
			if err := tick(int64(n)); err != nil {
				return err
			}
		}
		err := st.readable(cur.Ref())
		var broken *FormatError
		switch {
		case err == nil:
			kept.Append(cur.Ref(), st.look.Key(cur.Ref()))
			continue
		case errors.As(err, &broken):
			res.Findings = append(res.Findings, damageFinding(broken))
		case errors.Is(err, vfs.ErrFault) || errors.Is(err, syscall.EIO):
			res.Findings = append(res.Findings, s.db.finding("unreadable", Damage, cur.Ref().Offset(), "", "%v", err))
		default:
			return err
		}
		res.Unreadable++
	}
	st.live = kept.Tree()
	return nil
}

// CheckOutput fails for a name that cannot be that of a new database file: ErrOutputName, or fs.ErrExist if anything has it.
func CheckOutput(out string, opts Options) error {
	opts, err := opts.withDefaults()
	if err != nil {
		return err
	}
	return outputName(opts.FS, out, true)
}

// outputName fails for a name that cannot be that of an output; with create, for one that something has.
func outputName(fsys vfs.FS, out string, create bool) error {
	if of, found := strings.CutSuffix(out, ".NEW"); found {
		if _, err := fsys.Stat(of); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s would be removed by the next checkpoint of %s; choose another name: %w", out, of, ErrOutputName)
		}
	}
	if !create {
		return nil
	}
	if _, err := fsys.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		return cmp.Or(err, error(&fs.PathError{Op: "create", Path: out, Err: syscall.EEXIST}))
	}
	return nil
}

// writeNew writes the live records of st to a new file, whose name must be free if create is set, even at the end.
func writeNew(ctx context.Context, db *DB, st *state, out string, create bool) (w codec.Rewritten, err error) {
	r := st.reading()
	write := func(f vfs.File) (err error) {
		w, err = db.rewrite(ctx, f, r, st.header)
		return err
	}
	verify := func(f vfs.File) error { return db.verify(f, r, w) }
	size, err := rewriteSize(r)
	if err == nil {
		opts := vfs.ReplaceOptions{Size: size, Verify: verify, Perm: st.seen.Mode.Perm(), Random: db.opts.Random, New: create}
		err = vfs.ReplaceFile(db.fs, out, opts, write)
	}
	if err != nil {
		return w, writeError("write "+out, err)
	}
	return w, nil
}

// Copied says what a backup has written.
type Copied struct {
	// Records is the number of records, Size that of bytes.
	Records int   `json:"records"`
	Size    int64 `json:"size"`
}

// Backup writes a copy of the newest committed state to w, freshly checkpointed: a complete database file, whatever
// happens to the original meanwhile. Writers are not held up. A file of zero bytes, which may be of any format, is copied as
// an empty database of Options.Format, and is ErrNotDatabase if none is given: it may be what is left of a database.
// ErrSnapshotLost means that Cyrus has checkpointed the
// database in between: what was written is not complete.
func (db *DB) Backup(ctx context.Context, w io.Writer) (Copied, error) {
	return db.copyNewest(ctx, 1, func(st *state) (codec.Rewritten, error) { return rewriteTo(ctx, db, st, w) })
}

func rewriteTo(ctx context.Context, db *DB, st *state, w io.Writer) (out codec.Rewritten, err error) {
	defer vfs.CatchFault(vfs.ArmFault(), st.view.Mem, &err)
	done, tick := int64(0), db.ticks(ctx, "writing", st.view.Size)
	return st.codec.Rewrite(st.view, st.header, st.live, db.now(), func(b []byte) error {
		n, err := w.Write(b)
		if done += int64(n); err != nil {
			return err
		}
		return tick(done)
	})
}

// BackupFile is Backup into a new file, complete and durable when it returns nil. An existing file is replaced, but not
// the database itself. ErrOutputName means that out is what the checkpoints of a database beside it use.
func (db *DB) BackupFile(ctx context.Context, out string) (Copied, error) {
	return db.copyNewest(ctx, 10, func(st *state) (codec.Rewritten, error) {
		if err := db.maybeOutput(st, out); err != nil {
			return codec.Rewritten{}, err
		}
		return writeNew(ctx, db, st, out, false)
	})
}

// PlanBackup is BackupFile without its last step: it tells what would be written, and writes nothing.
func (db *DB) PlanBackup(ctx context.Context, out string) (Copied, error) {
	return db.copyNewest(ctx, 10, func(st *state) (codec.Rewritten, error) {
		if err := db.maybeOutput(st, out); err != nil {
			return codec.Rewritten{}, err
		}
		return rewriteTo(ctx, db, st, io.Discard)
	})
}

func (db *DB) maybeOutput(st *state, out string) error {
	if at, err := db.fs.Stat(out); err == nil && at.SameFile(st.gen.id) {
		// Without the lock for writing that would take back what others commit meanwhile.
		return fmt.Errorf("%s is the database itself: %w", out, syscall.EEXIST)
	}
	return outputName(db.fs, out, false)
}

// copyNewest has the newest state written, and again a newer one if Cyrus has emptied the file meanwhile, as its
// checkpoint does with the file that it replaces.
func (db *DB) copyNewest(ctx context.Context, times int, write func(*state) (codec.Rewritten, error)) (done Copied, err error) {
	for range times {
		st, err := db.current(ctx)
		if err != nil {
			return done, err
		}
		if st.damage != nil {
			st.gen.release()
			return done, st.damage
		}
		written, err := codec.Rewritten{}, db.formatKnown(st)
		if err == nil {
			err = db.sortedAsLinked(st)
		}
		if err == nil {
			written, err = write(st)
		}
		err = (&Snapshot{st: st}).explain(err)
		n := st.live.Len()
		st.gen.release()
		if err == nil {
			return Copied{Records: n, Size: written.Size}, nil
		}
		if !errors.Is(err, ErrSnapshotLost) {
			return done, fmt.Errorf("backup: %w", err)
		}
	}
	return done, fmt.Errorf("backup: %s: %w", db.path, ErrSnapshotLost)
}
