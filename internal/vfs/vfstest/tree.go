package vfstest

import (
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/mailspine/mailspine/internal/vfs"
)

// Walk calls each for all that is below a directory, and for a directory before what is in it. With [fs.SkipDir] as its answer
// that is left out; any other error ends the walk.
func Walk(fsys vfs.FS, dir string, each func(path string, isDir bool) error) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name)
		err := each(path, e.Dir)
		if err == nil && e.Dir {
			err = Walk(fsys, path, each)
		}
		if err != nil && !errors.Is(err, fs.SkipDir) {
			return err
		}
	}
	return nil
}

// WriteBack makes all that is below a directory durable, as a system does in time.
func WriteBack(fsys vfs.FS, dir string) error {
	err := Walk(fsys, dir, func(path string, isDir bool) error {
		if isDir {
			return fsys.SyncDir(path)
		}
		f, err := fsys.Open(path, vfs.ReadWrite, 0)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
	return errors.Join(err, fsys.SyncDir(dir))
}
