package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/mailspine/mailspine/internal/journal"
	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/message"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// RepackOptions say how a repack is done. The zero value repacks a mailbox in the version that it has.
type RepackOptions struct {
	// Open are the options with which the mailbox is opened otherwise.
	Open OpenOptions
	// Seen is the owner's seen database, where \Seen is kept before version 12; "" if it is not known.
	Seen string
	// DryRun has everything read and measured, and nothing written.
	DryRun bool
	// Progress, if set, hears now and then how many of how many records are done.
	Progress func(doing string, done, total int64)
}

// Repacked tells what a repack did, or in a dry run would do.
type Repacked struct {
	From, To Version
	// Generation is that of the new files.
	Generation uint32
	// Records are kept, Dropped are gone: those of messages whose files are not needed any more.
	Records, Dropped RecordNo
	// Parsed are the records whose cache record was made anew from the message, Uncached those that have none now, as the
	// message cannot be read.
	Parsed, Uncached RecordNo
	// Before and After are the sizes of index and caches, in bytes.
	Before, After int64
	// QuotaBefore and QuotaAfter are the bytes of messages by the header. A repack keeps the number, and only a change of
	// version across 12 counts anew.
	QuotaBefore, QuotaAfter uint64
	// Unfinished says why files that are not needed any more were left behind, if they were: the repack is done, and the
	// next one, or [FinishRepack], removes them.
	Unfinished error
}

// newSuffix and oldSuffix are behind the names of the files of a repack under way.
const (
	newSuffix = ".NEW"
	oldSuffix = ".OLD"
)

// Repack writes index and caches of a mailbox anew, without the records of messages whose files are to be removed and
// without what is left over in the caches, and then removes those files. Everybody else waits until it is done.
//
// What a crash leaves, step by step. [Recover], [RecoverJournal], the next change and the next repack take all of it back or
// bring it to its end; to Cyrus each line is a whole mailbox, as it trusts no cache record with a wrong checksum and parses the message instead.
//
//	entry in the journal, sync                                the old mailbox
//	write, sync, compare cyrus.index.NEW, cyrus.cache.NEW     the old mailbox
//	link cyrus.index.OLD to cyrus.index, sync directories     the old mailbox
//	version change: add to annotations and seen database      the old mailbox, in which they mean nothing
//	to a version without checksums: cyrus.cache to .OLD       the old mailbox, which has no cache
//	rename cyrus.index.NEW, sync (COMMIT POINT)               the old index, or the new one
//	rename cyrus.cache.NEW, sync                              the new index, with the old cache or the new one
//	unlink message files, sync                                the new mailbox, and some of the files
//	remove annotations that are fields now                    the new mailbox
//	unlink cyrus.index.OLD, sync                              the new mailbox
//
//	clear the entry                                           the new mailbox
//
// Space for all that is written is reserved before the first byte of it. After an error all is as it was, unless that
// error is a *[vfs.NotDurableError]: then the new index may be in place or not, each of them right, and FinishRepack goes
// on from there.
func Repack(ctx context.Context, fsys vfs.FS, p Place, opts RepackOptions) (*Repacked, error) {
	fsys = vfs.OrOS(fsys)
	done, err := repackTo(ctx, fsys, p, 0, opts)
	if err != nil {
		return done, writeError("repack mailbox", err)
	}
	return done, nil
}

// Upgrade is a repack that changes the version, up or down: what the new version keeps elsewhere goes there. Versions 6
// to 10 and 12 to 17 can be left and reached. It fails with [ErrKeptElsewhere] rather than lose anything.
func Upgrade(ctx context.Context, fsys vfs.FS, p Place, to Version, opts RepackOptions) (*Repacked, error) {
	fsys = vfs.OrOS(fsys)
	done, err := repackTo(ctx, fsys, p, to, opts)
	if err != nil {
		return done, writeError(fmt.Sprintf("convert mailbox to version %d", to), err)
	}
	return done, nil
}

// Repack repacks the mailbox; see [Repack]. With a version other than 0 it is an [Upgrade].
func (m *Mailbox) Repack(ctx context.Context, to Version, opts RepackOptions) (*Repacked, error) {
	if err := m.takeTurn(ctx); err != nil {
		return nil, err
	}
	defer func() { <-m.turn }()
	opts.Open = m.opts
	var done *Repacked
	var err error
	if to == 0 {
		done, err = Repack(ctx, m.fs, m.place, opts)
	} else {
		done, err = Upgrade(ctx, m.fs, m.place, to, opts)
	}
	if err != nil || opts.DryRun {
		return done, err
	}
	m.unsettled = nil // what it was about is in the file that is gone
	return done, m.Refresh(ctx)
}

// FinishRepack brings a repack to its end that was interrupted, or takes it back if it had not come to its commit point.
// It tells whether there was one.
func FinishRepack(ctx context.Context, fsys vfs.FS, p Place, opts OpenOptions) (found bool, err error) {
	fsys = vfs.OrOS(fsys)
	if found, err = interrupted(fsys, p); !found || err != nil {
		return found, err
	}
	_, release, err := repackLocks(ctx, fsys, p, &RepackOptions{Open: opts})
	if err != nil {
		return true, err
	}
	defer release()
	if err := finishRepack(ctx, fsys, p); err != nil {
		return true, fmt.Errorf("finish an interrupted repack: %w", err)
	}
	return true, nil
}

// interrupted tells whether there is anything of a repack that somebody has to finish or take back. Without the locks, it
// may be one that is under way.
func interrupted(fsys vfs.FS, p Place) (bool, error) {
	_, err := fsys.Stat(p.Paths.Index + oldSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// repackLocks keeps everybody else away: those of Cyrus's programs that only read, too, as files are replaced. What the
// journal has of a change that was interrupted is brought to its end, because its records are in the file that goes.
func repackLocks(ctx context.Context, fsys vfs.FS, p Place, opts *RepackOptions) (w *writer, release func(), err error) {
	user, err := locks.InOrder(ctx, fsys, vfs.Exclusively, p.UserLocks...)
	if err != nil {
		return nil, nil, err
	}
	var name *locks.Held
	w = &writer{fs: fsys, place: p, opts: &opts.Open, log: logger(opts.Open.Log)}
	release = func() {
		w.close()
		name.Release()
		user.Release()
		opts.Open.settle(ctx, w.told)
	}
	if p.NameLock != "" {
		name, err = locks.Acquire(ctx, fsys, vfs.Exclusively, p.NameLock)
	}
	if err == nil {
		w.file, w.info, err = openLocked(ctx, fsys, p.Paths.Index)
	}
	if err == nil && p.Journal != "" && !opts.DryRun {
		w.journal = journal.Open(fsys, p.Journal)
		_, err = w.recover(ctx)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return w, release, nil
}

// repack is one repack under way.
type repack struct {
	ctx   context.Context
	fs    vfs.FS
	place Place
	opts  RepackOptions
	to    Version
	w     *writer // who holds the locks

	old  *Files
	done *Repacked
	pass *pass
	seen *seenState
	// annotated are sums over the annotations of messages, nil if they are not needed or not known. Those that become fields
	// are taken from moving, at the moment of annotations.
	annotated   map[UID]annotated
	moving      *skiplist.DB
	annotations *skiplist.Snapshot
	parser      message.Parser
	// index and caches are the new files; the second cache is that of archived messages, nil if there is no such file.
	index  *output
	caches [2]*output
}

func repackTo(ctx context.Context, fsys vfs.FS, p Place, to Version, opts RepackOptions) (*Repacked, error) {
	w, release, err := repackLocks(ctx, fsys, p, &opts)
	if err != nil {
		return nil, err
	}
	defer release()
	if !opts.DryRun {
		if err := finishRepack(ctx, fsys, p); err != nil {
			return nil, fmt.Errorf("finish an interrupted repack: %w", err)
		}
	}
	r := &repack{ctx: ctx, fs: fsys, place: p, opts: opts, to: to, w: w}
	if r.old, err = OpenFiles(fsys, p.Paths); err != nil {
		return nil, err
	}
	defer r.old.Close()
	err = r.plan()
	if err == nil && !opts.DryRun {
		err = r.perform()
	}
	if r.moving != nil {
		err = errors.Join(err, r.moving.Close())
	}
	if err != nil {
		return nil, err
	}
	return r.done, nil
}

// plan reads everything and measures what there will be.
func (r *repack) plan() error {
	h := &r.old.Index.Header
	if h.Options&OptionDeleted != 0 {
		return ErrGone
	}
	if r.to == 0 {
		r.to = h.Version
	} else if err := convertible(h.Version, r.to); err != nil {
		return err
	}
	r.done = &Repacked{From: h.Version, To: r.to, Generation: h.Generation + 1, QuotaBefore: h.QuotaUsed}
	r.index = &output{path: r.place.Paths.Index}
	r.caches[0] = &output{path: r.place.Paths.Cache}
	if r.place.Paths.archive() {
		r.caches[1] = &output{path: r.place.Paths.Archive}
	}
	if err := r.elsewhere(); err != nil {
		return err
	}
	if err := r.copy("measuring"); err != nil {
		return err
	}
	r.measured()
	return r.refuse()
}

// measured fills in what is known after the first pass, and what is to be reserved.
func (r *repack) measured() {
	for _, o := range r.outputs() {
		o.reserve, r.done.After = o.size, r.done.After+o.size
		if info, err := r.fs.Stat(o.path); err == nil {
			r.done.Before += info.Size
		}
	}
	r.done.QuotaAfter = r.pass.header.QuotaUsed
}

// outputs are the new files.
func (r *repack) outputs() (all []*output) {
	for _, o := range []*output{r.index, r.caches[0], r.caches[1]} {
		if o != nil {
			all = append(all, o)
		}
	}
	return all
}

// perform writes the new files and puts them in place, with an entry in the journal as long as there is anything to
// finish or to take back.
func (r *repack) perform() error {
	slot, err := r.note()
	if err != nil {
		return err
	}
	clean, err := r.replace()
	if slot != nil {
		if clean {
			_ = slot.Clear(false) // an entry that stays finds nothing to do
		}
		slot.Close()
	}
	return err
}

// replace does it, and tells whether nothing is left to finish or to take back.
func (r *repack) replace() (clean bool, err error) {
	err = errors.Join(r.prepare(), r.close())
	if err == nil {
		err = r.doubt()
	}
	committed := false
	if err == nil {
		committed, err = r.commit()
	}
	if err != nil && !committed {
		if planted.On(planted.RepackLeftBehind) {
			return true, err
		}
		back := takeBack(r.ctx, r.fs, r.place)
		return back == nil, errors.Join(err, back)
	}
	if err != nil {
		return false, err
	}
	// The repack is done. What follows only clears away.
	r.done.Unfinished = finishRepack(context.WithoutCancel(r.ctx), r.fs, r.place)
	return r.done.Unfinished == nil, nil
}

// doubt has the participant note that the quota root of the mailbox is to be counted anew, if the new header has other numbers than the
// old one. It cannot be counted before the locks are given back, and so not before the commit.
func (r *repack) doubt() error {
	root := r.old.Header.QuotaRoot
	was, is := r.old.Index.Header.Usage(), r.pass.header.Usage()
	if r.opts.Open.Participant == nil || root == "" || was.Bytes == is.Bytes && was.Messages == is.Messages && was.AnnotBytes == is.AnnotBytes {
		return nil
	}
	r.w.told = true
	return r.opts.Open.Participant.Doubt(r.ctx, root)
}

// prepare does all that comes before the commit.
func (r *repack) prepare() error {
	for _, o := range r.outputs() {
		if err := o.create(r.fs); err != nil {
			return err
		}
	}
	if err := r.copy("writing"); err != nil {
		return err
	}
	for _, o := range r.outputs() {
		if err := o.finish(); err != nil {
			return err
		}
	}
	if err := r.fs.Link(r.place.Paths.Index, r.place.Paths.Index+oldSuffix); err != nil {
		return err
	}
	// The names of the new caches have to be durable before the new index is: a crash must not leave an index whose cache is
	// gone, if it can be helped.
	if !planted.On(planted.RepackNamesUnsynced) {
		if err := syncDirs(r.fs, r.paths()...); err != nil {
			return err
		}
	}
	if err := r.addElsewhere(); err != nil {
		return err
	}
	if planted.On(planted.RepackCachesFirst) {
		for _, o := range r.outputs()[1:] {
			if err := ignoreMissing(r.fs.Rename(o.path+newSuffix, o.path)); err != nil {
				return err
			}
		}
	}
	if r.to.HasChecksums() {
		return nil
	}
	return r.hideCaches()
}

// hideCaches takes the old caches out of the way of a new index that has no checksums of cache records: its readers
// would take the records of others for those of its messages.
func (r *repack) hideCaches() error {
	for _, o := range r.outputs()[1:] {
		if err := r.fs.Rename(o.path, o.path+oldSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncDirs(r.fs, r.paths()...)
}

func (r *repack) paths() (all []string) {
	for _, o := range r.outputs() {
		all = append(all, o.path)
	}
	return all
}

// commit puts the new index in place. With an error that leaves the matter open, committed is true.
func (r *repack) commit() (committed bool, err error) {
	path := r.place.Paths.Index
	if err := context.Cause(r.ctx); err != nil {
		return false, err
	}
	fresh, err := r.fs.Stat(path + newSuffix)
	if err != nil {
		return false, err
	}
	if err := r.fs.Rename(path+newSuffix, path); err != nil {
		now, e := r.fs.Stat(path)
		if e != nil {
			return true, &vfs.NotDurableError{Path: path, Err: errors.Join(err, e)}
		}
		if !now.SameFile(fresh) {
			return false, err
		}
	}
	if planted.On(planted.RepackCommitUnsynced) {
		return true, nil
	}
	if err := r.fs.SyncDir(filepath.Dir(path)); err != nil {
		return true, &vfs.NotDurableError{Path: path, Err: err}
	}
	return true, nil
}

func (r *repack) close() error {
	var all []error
	for _, o := range r.outputs() {
		all = append(all, o.close())
	}
	return errors.Join(all...)
}
