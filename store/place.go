package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

// dirMode is that of new directories, before umask.
const dirMode fs.FileMode = 0o755

// place is where the files of one mailbox lie.
type place struct {
	rec mboxdb.Record
	at  index.Place
	// dirs are the directories of its files by their kind; one may be there more than once.
	dirs []string
}

// fileKinds are the kinds of files that may lie in directories of their own, beside messages and archived messages.
var fileKinds = []mboxdb.FileKind{mboxdb.HeaderFile, mboxdb.IndexFile, mboxdb.CacheFile, mboxdb.AnnotationsFile, mboxdb.ArchiveCacheFile,
	mboxdb.ExpungeFile, mboxdb.SquatFile, mboxdb.DavFile}

// place finds where a mailbox lies. The locks of its user and of its name are left out of it: they are held.
func (s *Store) place(rec mboxdb.Record) (*place, error) {
	p := &place{rec: rec}
	var err error
	if p.at, err = index.PlaceOf(s.layout, rec); err != nil {
		return nil, err
	}
	p.at = p.at.Unlocked()
	p.dirs = []string{p.at.Messages, p.at.Archive}
	for _, kind := range fileKinds {
		dir, err := s.layout.Dir(rec, kind)
		if err != nil {
			return nil, err
		}
		p.dirs = append(p.dirs, dir)
	}
	return p, nil
}

// distinct are the directories, each once, that of cyrus.header last.
func (p *place) distinct() []string {
	header := filepath.Dir(p.at.Paths.Header)
	dirs := slices.DeleteFunc(slices.Clone(p.dirs), func(dir string) bool { return dir == header })
	slices.Sort(dirs)
	return append(slices.Compact(dirs), header)
}

// same tells whether two mailboxes lie in the same place.
func (p *place) same(o *place) bool { return slices.Equal(p.dirs, o.dirs) }

// alike tells whether the kinds of files that share a directory in one place share one in the other.
func (p *place) alike(o *place) bool {
	for i := range p.dirs {
		for k := range i {
			if (p.dirs[i] == p.dirs[k]) != (o.dirs[i] == o.dirs[k]) {
				return false
			}
		}
	}
	return true
}

// files are the files in a directory, without those of the mailboxes below. A missing directory has none.
func files(fsys vfs.FS, dir string) (names []string, err error) {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if !e.Dir {
			names = append(names, e.Name)
		}
	}
	return names, err
}

// empty fails with ErrNotEmpty if there are files in a place already: they are not ours, and may be somebody's mail.
func (s *Store) empty(p *place) error {
	for _, dir := range p.distinct() {
		names, err := files(s.fs, dir)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			return fmt.Errorf("%s: %w: %s", p.rec.Name, ErrNotEmpty, filepath.Join(dir, names[0]))
		}
	}
	return nil
}

// remove removes the files of a mailbox, cyrus.header last, then the directories that are empty, and up to the next mailbox
// above those that were there for its sake. It is durable when it returns nil, and may be called again at any time.
func (s *Store) remove(v *mboxdb.View, p *place) error {
	var all []error
	for _, dir := range p.distinct() {
		if err := s.removeFiles(dir); err != nil {
			all = append(all, err)
		}
	}
	if len(all) > 0 {
		return errors.Join(all...) // the header stays with what could not be removed
	}
	for _, dir := range p.distinct() {
		if err := s.rmdir(dir); err != nil {
			all = append(all, err)
		}
	}
	if p.rec.Type.Legacy() {
		all = append(all, s.removeAbove(v, p))
	}
	return errors.Join(all...)
}

func (s *Store) removeFiles(dir string) error {
	names, err := files(s.fs, dir)
	if err != nil || len(names) == 0 {
		return err
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	synced := rank(names[0]) > 0
	for _, name := range names {
		if !synced && rank(name) > 0 { // what tells whose the files are may not be gone before them
			if err := s.fs.SyncDir(dir); err != nil {
				return err
			}
			synced = true
		}
		if err := s.fs.Unlink(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return s.fs.SyncDir(dir)
}

func rank(name string) int {
	if name == index.HeaderName {
		return 1
	}
	return 0
}

// rmdir removes a directory if it is empty, durably.
func (s *Store) rmdir(dir string) error {
	err := s.fs.Rmdir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EEXIST):
		return nil
	case err != nil:
		return err
	}
	return s.fs.SyncDir(filepath.Dir(dir))
}

// removeAbove removes directories above a mailbox that lies by its name, as far as no mailbox lies there and nothing is in
// them. As for Cyrus, those of a whole user or of the top of the hierarchy stay.
func (s *Store) removeAbove(v *mboxdb.View, p *place) error {
	dirs := p.distinct()
	for up := p.rec.Name.Parent(); !up.IsZero() && up.String() != "user" && !strings.HasSuffix(up.String(), "!user"); up = up.Parent() {
		above, err := v.Entry(up)
		if err != nil && !errors.Is(err, mboxdb.ErrNotFound) {
			return err
		}
		if err == nil && above.Type.Exists() {
			return nil
		}
		for i := range dirs {
			dirs[i] = filepath.Dir(dirs[i])
			if err := s.rmdir(dirs[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// mkdirs makes the directories of a place, all durable, and returns those that were not there.
func (s *Store) mkdirs(p *place) (made []string, err error) {
	for _, dir := range p.distinct() {
		missing, err := s.missing(dir)
		if err == nil {
			err = vfs.MkdirAll(s.fs, dir, dirMode)
		}
		made = append(made, missing...)
		if err != nil {
			return made, err
		}
	}
	return made, nil
}

// missing are the directories on the way to dir that are not there, the outermost first.
func (s *Store) missing(dir string) (dirs []string, err error) {
	for {
		_, err := s.fs.Stat(dir)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || filepath.Dir(dir) == dir {
			slices.Reverse(dirs)
			return dirs, err
		}
		dirs = append(dirs, dir)
		dir = filepath.Dir(dir)
	}
}
