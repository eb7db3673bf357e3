package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
)

// Modes of Cyrus, before umask.
const (
	fileMode fs.FileMode = 0o666
	dirMode  fs.FileMode = 0o755
)

// Creation says how a mailbox begins.
type Creation struct {
	// HeaderFile becomes cyrus.header: type, name, unique id, quota root, access list and the names of the first flags.
	HeaderFile HeaderFile
	// Version of cyrus.index; [VersionWritten] by default.
	Version     Version
	UIDValidity uint32
	// ModSeq is the first highestmodseq; 1 by default.
	ModSeq ModSeq
	// Options are set beside OptionPOP3NewUIDL.
	Options Options
}

// Created is what [Create] has made.
type Created struct {
	// Files and Dirs were not there before. The directories are in the order in which they were made.
	Files, Dirs []string

	fs     vfs.FS
	synced []string
}

// Create makes the files of an empty mailbox, and the directories for them, as Cyrus does: cyrus.header and cyrus.index.
// (cyrus.cache and cyrus.annotations come with the first message.) The caller holds the user's lock and the name lock
// exclusively, and has not told anybody of the mailbox yet: there is no other commit point than the entry in the mailbox
// list that follows.
//
// It fails with EEXIST if there is a file of a mailbox already. All that it made is durable when it returns nil; after
// any error, a full disk above all, it has removed what it made.
//
// What a crash leaves, step by step:
//
//	directories, each synced in its parent       some of the directories
//	write and sync both files                    the directories, and perhaps files with any content
//	sync the directories of the files, and nil   all
func Create(ctx context.Context, fsys vfs.FS, p Place, c Creation) (*Created, error) {
	fsys = vfs.OrOS(fsys)
	made := &Created{fs: fsys}
	err := c.complete(fsys)
	if err == nil {
		err = made.create(ctx, p, &c)
	}
	if err != nil {
		return nil, fmt.Errorf("create mailbox: %w", errors.Join(err, made.Remove()))
	}
	return made, nil
}

// complete sets what was left out, and refuses what no mailbox can be.
func (c *Creation) complete(fsys vfs.FS) error {
	if c.Version == 0 {
		c.Version = VersionWritten
	}
	c.ModSeq = max(c.ModSeq, 1)
	if c.UIDValidity == 0 {
		return &FormatError{Field: "uidvalidity", Found: "0", Wanted: "a number", Class: ErrValue}
	}
	if err := c.HeaderFile.Validate(); err != nil {
		return err
	}
	h := c.header(fsys)
	return h.Validate()
}

// header is that of cyrus.index.
func (c *Creation) header(fsys vfs.FS) Header {
	h := NewHeader(c.Version)
	h.UIDValidity = c.UIDValidity
	h.Options = (h.Options | c.Options).Written(c.Version)
	if c.Version.hasHeaderField(hHighestModSeq) {
		h.HighestModSeq = c.ModSeq
	}
	if c.Version.hasHeaderField(hCreatedModSeq) {
		h.CreatedModSeq = c.ModSeq
	}
	if c.Version.hasHeaderField(hChangesEpoch) {
		h.ChangesEpoch = h.now(fsys)
	}
	if c.Version.hasHeaderField(hHeaderFileCRC) {
		h.HeaderFileCRC = c.HeaderFile.Checksum()
	}
	return h
}

// now is the time as the version of the header can hold it.
func (h *Header) now(fsys vfs.FS) Time {
	now := TimeOf(fsys.Now())
	if h.Version < 20 {
		now -= now % second
	}
	return now
}

func (made *Created) create(ctx context.Context, p Place, c *Creation) error {
	h := c.header(made.fs)
	for _, path := range []string{p.Paths.Header, p.Paths.Index, p.Paths.Cache, p.Paths.Archive, p.Paths.Annotations} {
		if path == "" {
			continue
		}
		if _, err := made.fs.Stat(path); err == nil {
			return &fs.PathError{Op: "create", Path: path, Err: syscall.EEXIST}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, dir := range p.dirs() {
		if err := made.mkdirAll(ctx, dir); err != nil {
			return err
		}
	}
	if err := made.write(p.Paths.Header, c.HeaderFile.Append(nil)); err != nil {
		return err
	}
	if err := made.write(p.Paths.Index, h.Append(nil)); err != nil {
		return err
	}
	if planted.On(planted.BoxCreateDirUnsynced) {
		return nil
	}
	return syncDirs(made.fs, p.Paths.Header, p.Paths.Index)
}

// dirs are the directories of a new mailbox. That of archived messages comes with the first of them.
func (p Place) dirs() (dirs []string) {
	dirs = []string{p.Messages}
	for _, path := range []string{p.Paths.Header, p.Paths.Index, p.Paths.Cache} {
		dirs = append(dirs, filepath.Dir(path))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// mkdirAll makes a directory with all that lead to it, each durable in its parent before the next, and remembers them.
func (made *Created) mkdirAll(ctx context.Context, dir string) error {
	var missing []string
	for {
		info, err := made.fs.Stat(dir)
		if err == nil && !info.Mode.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		if err == nil {
			if err := made.syncAbove(dir, info.Dev); err != nil {
				return err
			}
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(dir) == dir {
			return err
		}
		missing = append(missing, dir)
		dir = filepath.Dir(dir)
	}
	for _, dir := range slices.Backward(missing) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		// A call that reports an error may have been carried out all the same: only what others have made is not ours.
		err := made.fs.Mkdir(dir, dirMode)
		if !errors.Is(err, fs.ErrExist) {
			made.Dirs = append(made.Dirs, dir)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		// Somebody who makes a mailbox beside this one may have made it, and not synced it yet.
		if err := made.fs.SyncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// syncAbove makes a directory durable that was there before: Cyrus does not sync those that it makes, so a crash may take
// it away with all that is put into it. It stops at the root of the file system, or at what may not be read.
func (made *Created) syncAbove(dir string, dev uint64) error {
	for parent := filepath.Dir(dir); parent != dir && !slices.Contains(made.synced, parent); dir, parent = parent, filepath.Dir(parent) {
		info, err := made.fs.Stat(parent)
		if err == nil && info.Dev != dev {
			return nil
		}
		if err == nil {
			err = made.fs.SyncDir(parent)
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		made.synced = append(made.synced, parent)
	}
	return nil
}

// write makes a file and its bytes durable, but not its name.
func (made *Created) write(path string, b []byte) error {
	f, err := made.fs.Open(path, vfs.ReadWrite|vfs.Create|vfs.Exclusive, fileMode)
	if !errors.Is(err, fs.ErrExist) {
		made.Files = append(made.Files, path) // also if the call reports an error: it may have been carried out
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil && !planted.On(planted.BoxCreateUnsynced) {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDirs makes the names of files durable. A directory that is not there has none: that of archived messages comes with
// the first of them.
func syncDirs(fsys vfs.FS, paths ...string) error {
	var dirs []string
	for _, path := range paths {
		dirs = append(dirs, filepath.Dir(path))
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		if err := fsys.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Remove takes back what was made, as far as nobody has put anything into it. The removal is durable when it returns nil.
func (made *Created) Remove() error {
	var all []error
	var parents []string
	for _, path := range slices.Backward(made.Files) {
		if err := made.fs.Unlink(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = append(all, err)
		}
		parents = append(parents, filepath.Dir(path))
	}
	for _, dir := range slices.Backward(made.Dirs) {
		err := made.fs.Rmdir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
			all = append(all, err)
		}
		parents = append(parents, filepath.Dir(dir))
	}
	made.Files, made.Dirs = nil, nil
	slices.Sort(parents)
	for _, dir := range slices.Compact(parents) {
		if err := made.fs.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}
