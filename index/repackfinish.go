package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
)

// finishRepack brings an interrupted repack to its end, or takes it back. The caller has the locks. It is in the state of
// the files what there is to do, and each step may have been done before:
//
//   - cyrus.index.OLD is there from before the commit point until all is done.
//   - It is a name of cyrus.index until the commit point, and of the old index afterwards.
//   - A new cache was complete, and durable, before cyrus.index.OLD was made, and has the generation of the new index.
func finishRepack(ctx context.Context, fsys vfs.FS, p Place) error {
	was, err := fsys.Stat(p.Paths.Index + oldSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	now, err := fsys.Stat(p.Paths.Index)
	if err != nil {
		return err
	}
	if now.SameFile(was) {
		return takeBack(ctx, fsys, p)
	}
	f := &finisher{ctx: ctx, fs: fsys, place: p}
	return f.finish()
}

// finisher does what is left to do after the commit point.
type finisher struct {
	ctx      context.Context
	fs       vfs.FS
	place    Place
	old, now *File
	// used tells which caches the new index uses.
	used [2]bool
}

func (f *finisher) finish() error {
	// Whoever renamed it may have died before that was durable, and what follows relies on it.
	index := f.place.Paths.Index
	if !planted.On(planted.RepackCommitUnsynced) {
		if err := syncDirs(f.fs, index); err != nil {
			return err
		}
	}
	files := &Files{Paths: f.place.Paths}
	defer files.Close()
	var err error
	if f.now, err = files.indexAt(f.fs, index); err != nil {
		return err
	}
	f.old, err = files.indexAt(f.fs, index+oldSuffix)
	if err != nil && !isFormat(err) {
		return err
	}
	if err == nil && f.old.Header.UIDValidity == f.now.Header.UIDValidity && f.old.Header.Generation < f.now.Header.Generation {
		steps := []func() error{f.look, f.caches, f.messages, f.annotations}
		if planted.On(planted.RepackOldEarly) {
			steps = []func() error{f.look, f.caches, func() error { return clearAway(f.fs, f.place) }, f.messages, f.annotations}
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
	}
	// Else somebody has put another mailbox in its place, and nothing that the old index says is true of it.
	return clearAway(f.fs, f.place)
}

// indexAt opens an index that must be whole.
func (f *Files) indexAt(fsys vfs.FS, path string) (*File, error) {
	s, err := f.source(fsys, path)
	if err != nil {
		return nil, err
	}
	return NewFile(s, s.size, path)
}

// look finds out which caches are in use.
func (f *finisher) look() error {
	for batch, err := range f.now.Batches(1) {
		if err == nil {
			err = context.Cause(f.ctx)
		}
		if err != nil {
			return err
		}
		for i := range batch.Len() {
			cache := 0
			if batch.At(i).Flags()&FlagArchived != 0 && f.place.Paths.archive() {
				cache = 1
			}
			f.used[cache] = true
		}
		if f.used[0] && (f.used[1] || !f.place.Paths.archive()) {
			return nil
		}
	}
	return nil
}

// caches puts the new caches in the place of the old ones.
func (f *finisher) caches() error {
	paths := []string{f.place.Paths.Cache}
	if f.place.Paths.archive() {
		paths = append(paths, f.place.Paths.Archive)
	}
	for i, path := range paths {
		generation := f.now.Header.Generation
		fresh, err := generationOf(f.fs, path+newSuffix)
		if err != nil {
			return err
		}
		there, err := generationOf(f.fs, path)
		if err != nil {
			return err
		}
		switch {
		case there != nil && *there == generation:
			// It is in place, or Cyrus has made another since.
		case fresh != nil && *fresh == generation:
			err = f.fs.Rename(path+newSuffix, path)
		case there != nil && !f.used[i]:
			err = f.fs.Unlink(path)
		}
		if err != nil {
			return err
		}
	}
	return syncDirs(f.fs, paths...)
}

// generationOf is the generation of a cache, nil if there is none.
func generationOf(fsys vfs.FS, path string) (*uint32, error) {
	var f Files
	defer f.Close()
	c, err := f.cacheFile(fsys, path)
	if c == nil {
		return nil, err
	}
	return &c.Generation, nil
}

// messages removes the files of messages whose records are gone, and the second copies of those that have two.
func (f *finisher) messages() error {
	removed := map[string]bool{}
	for batch, err := range f.old.Batches(1) {
		if err == nil {
			err = context.Cause(f.ctx)
		}
		if err != nil {
			return err
		}
		for i := range batch.Len() {
			raw := batch.At(i)
			flags := raw.Flags()
			if raw.UID() == 0 || !flags.gone() && flags&FlagNeedsCleanup == 0 || !raw.Intact() {
				continue
			}
			if err := f.message(raw.UID(), flags, removed); err != nil {
				return err
			}
		}
	}
	for dir := range removed {
		if err := f.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// message removes what is not needed any more of the files of a message.
func (f *finisher) message(uid UID, was Flags, removed map[string]bool) error {
	_, now, err := f.now.Find(uid)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err == nil {
		// Only the copy goes that it left behind when it was moved, if it has arrived.
		if _, err := f.fs.Stat(f.place.Message(&now)); err != nil {
			return ignoreMissing(err)
		}
		other := Record{UID: uid, Flags: now.Flags ^ FlagArchived}
		if path := f.place.Message(&other); path != f.place.Message(&now) {
			return f.remove(path, removed)
		}
		return nil
	}
	if !was.gone() {
		return nil // somebody else has dropped it since
	}
	for _, flags := range []Flags{was, was ^ FlagArchived} {
		if err := f.remove(f.place.Message(&Record{UID: uid, Flags: flags}), removed); err != nil {
			return err
		}
	}
	return nil
}

func (f *finisher) remove(path string, removed map[string]bool) error {
	err := f.fs.Unlink(path)
	if err == nil {
		removed[filepath.Dir(path)] = true
	}
	return ignoreMissing(err)
}

// annotations removes those that are fields of the records now.
func (f *finisher) annotations() error {
	if f.old.Version() == f.now.Version() {
		return nil
	}
	return dropVirtual(f.ctx, f.fs, f.place.Paths.Annotations, f.now.Version())
}

// takeBack removes what a repack has made that did not come to its commit point.
func takeBack(ctx context.Context, fsys vfs.FS, p Place) error {
	ctx = context.WithoutCancel(ctx)
	files := &Files{Paths: p.Paths}
	defer files.Close()
	now, err := files.indexAt(fsys, p.Paths.Index)
	if err != nil {
		return fmt.Errorf("take back a repack: %w", err)
	}
	// Only an index that was complete can have added to the annotations, and it goes after what was added.
	fresh, err := files.indexAt(fsys, p.Paths.Index+newSuffix)
	if err == nil && fresh.Version() != now.Version() {
		err = dropVirtual(ctx, fsys, p.Paths.Annotations, now.Version())
	}
	if err != nil && !isFormat(err) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take back a repack: %w", err)
	}
	for _, path := range p.cachePaths() {
		// It was hidden for a version without checksums.
		if _, err := fsys.Stat(path); errors.Is(err, fs.ErrNotExist) {
			if err := ignoreMissing(fsys.Rename(path+oldSuffix, path)); err != nil {
				return fmt.Errorf("take back a repack: %w", err)
			}
		}
	}
	if err := clearAway(fsys, p); err != nil {
		return fmt.Errorf("take back a repack: %w", err)
	}
	return nil
}

func (p Place) cachePaths() []string {
	if p.Paths.archive() {
		return []string{p.Paths.Cache, p.Paths.Archive}
	}
	return []string{p.Paths.Cache}
}

// clearAway removes all names that a repack uses for itself. cyrus.index.OLD is the last, as it tells that there is
// something to do.
func clearAway(fsys vfs.FS, p Place) error {
	var gone []string
	for _, path := range append(p.cachePaths(), p.Paths.Index) {
		for _, suffix := range []string{newSuffix, oldSuffix} {
			if path == p.Paths.Index && suffix == oldSuffix {
				continue
			}
			err := fsys.Unlink(path + suffix)
			if err == nil {
				gone = append(gone, path)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if err := syncDirs(fsys, gone...); err != nil {
		return err
	}
	err := fsys.Unlink(p.Paths.Index + oldSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDirs(fsys, p.Paths.Index)
}
