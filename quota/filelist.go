package quota

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mailspine/mailspine/internal/vfs"
)

// listed is a file in the place of one of a root.
type listed struct {
	root, path string
	// leftOf is the root of which this is what a change left behind, if it is that.
	leftOf string
	// misplaced is set if a root of that name is not looked for there.
	misplaced bool
}

// list finds the files of all roots, in bytewise order of their names. Cyrus looks in the same directories.
func (s *files) list(ctx context.Context) ([]listed, error) {
	list, err := s.listDir(ctx, filepath.Join(s.dir, "quota"), "")
	if err == nil && s.domains {
		err = s.letters(ctx, filepath.Join(s.dir, "domain"), func(dir, domain string) error {
			dir = filepath.Join(dir, domain, "quota")
			more, err := s.listDir(ctx, dir, domain+"!")
			if err != nil {
				return err
			}
			list = append(list, more...)
			return s.listDomain(dir, domain+"!", &list)
		})
	}
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b listed) int { return strings.Compare(a.root, b.root) })
	return list, nil
}

// listDir lists what lies below the letters of a directory.
func (s *files) listDir(ctx context.Context, dir, domain string) (list []listed, err error) {
	err = s.letters(ctx, dir, func(dir, name string) error {
		l := listed{root: domain + name, path: filepath.Join(dir, name)}
		of, left, err := s.leftOver(l.root, l.path)
		if err != nil {
			return err
		}
		if left {
			l.leftOf = of
		}
		l.misplaced = !left && (CheckName(l.root) != nil || s.path(l.root) != l.path)
		list = append(list, l)
		return nil
	})
	return list, err
}

// listDomain lists the root of a whole domain.
func (s *files) listDomain(dir, root string, list *[]listed) error {
	path := filepath.Join(dir, "root")
	_, err := s.fs.Stat(path)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	*list = append(*list, listed{root: root, path: path, misplaced: s.path(root) != path})
	_, err = s.fs.Stat(path + ".NEW")
	if err == nil {
		*list = append(*list, listed{root: root, path: path + ".NEW", leftOf: root})
	}
	if absent(err) {
		return nil
	}
	return err
}

// letters calls each for all names in the directories of one letter below dir.
func (s *files) letters(ctx context.Context, dir string, each func(dir, name string) error) error {
	first, last := byte('a'), byte('z')
	if s.fullHash {
		first, last = 'A', 'Z'
	}
	entries, err := readDir(s.fs, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if len(e.Name) != 1 || e.Name[0] < first || e.Name[0] > last {
			continue
		}
		below := filepath.Join(dir, e.Name)
		names, err := readDir(s.fs, below)
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if err := each(below, n.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// readDir lists a directory, which may be missing.
func readDir(fsys vfs.FS, dir string) ([]vfs.Entry, error) {
	list, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

func (s *files) all(ctx context.Context, want func(root string) bool) iter.Seq2[kept, error] {
	return func(yield func(kept, error) bool) {
		list, err := s.list(ctx)
		if err != nil {
			yield(kept{}, err)
			return
		}
		for _, l := range list {
			if l.leftOf != "" || want != nil && !want(l.root) {
				continue
			}
			if err := context.Cause(ctx); err != nil {
				yield(kept{}, err)
				return
			}
			k := kept{root: l.root, path: l.path}
			if l.misplaced {
				k.err = ErrMisplaced
			} else {
				k.value, k.err = s.getFile(l.path)
			}
			if !yield(k, nil) {
				return
			}
		}
	}
}

func (s *files) leftOvers(ctx context.Context) (left []LeftOver, err error) {
	list, err := s.list(ctx)
	for _, l := range list {
		if l.leftOf != "" {
			left = append(left, LeftOver{Root: l.leftOf, Path: l.path})
		}
	}
	return left, err
}

// afterChange keeps a pool of prepared files while there is space.
func (s *files) afterChange(path string) {
	s.mu.Lock()
	s.sample = path
	s.mu.Unlock()
	if s.spares == nil {
		return
	}
	if err := s.spares.Prepare(path, prepareBytes); err != nil {
		s.logger.Debug("no files are prepared for a full disk", "path", path, "error", err)
	}
}

// prepareBytes is more than a record has.
const prepareBytes = 4096

// prepare makes the pool of prepared files, or finds that the disk is not full.
func (s *files) prepare(ctx context.Context) error {
	like, err := s.anyFile(ctx)
	if err != nil || like == "" {
		return err
	}
	if s.spares != nil && (s.spares.Prepare(like, prepareBytes) == nil || s.spares.Ready(prepareBytes)) {
		return nil
	}
	return plenty(s.fs, filepath.Dir(like))
}

// anyFile is the file of some root, "" if there is none.
func (s *files) anyFile(ctx context.Context) (string, error) {
	s.mu.Lock()
	like := s.sample
	s.mu.Unlock()
	if like != "" {
		if _, err := s.fs.Stat(like); err == nil {
			return like, nil
		}
	}
	list, err := s.list(ctx)
	for _, l := range list {
		if l.leftOf == "" && !l.misplaced {
			s.mu.Lock()
			s.sample = l.path
			s.mu.Unlock()
			return l.path, nil
		}
	}
	return "", err
}
