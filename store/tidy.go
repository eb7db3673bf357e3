package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/mailspine/mailspine/skiplist"
)

// noSpace makes every lack of room one error.
func noSpace(err error) error {
	if err == nil || errors.Is(err, skiplist.ErrNoSpace) {
		return err
	}
	for _, errno := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, errno) {
			return fmt.Errorf("%w: %w", skiplist.ErrNoSpace, err)
		}
	}
	return err
}

// unlink takes back names and directories that were made, durably.
func (s *Store) unlink(names, dirs []string) error {
	var all []error
	var parents []string
	for _, name := range slices.Backward(names) {
		if err := s.fs.Unlink(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = append(all, err)
		}
		parents = append(parents, filepath.Dir(name))
	}
	for _, dir := range slices.Backward(dirs) {
		err := s.fs.Rmdir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
			all = append(all, err)
		}
		parents = append(parents, filepath.Dir(dir))
	}
	slices.Sort(parents)
	for _, dir := range slices.Compact(parents) {
		if err := s.fs.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}
