package index

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/mailspine/mailspine/internal/vfs"
)

// The names of the files of a mailbox.
const (
	IndexName       = "cyrus.index"
	HeaderName      = "cyrus.header"
	CacheName       = "cyrus.cache"
	AnnotationsName = "cyrus.annotations"
)

// Paths are where the files of one mailbox are; imapd.conf may put each kind in a directory of its own.
type Paths struct {
	Header, Index, Cache string
	// Archive is the cache of archived messages; "", or the same path as Cache, if they have none of their own.
	Archive string
	// Annotations is needed for a check only; "" if it is not to be looked at.
	Annotations string
}

// PathsIn returns the paths of a mailbox that has all files in one directory.
func PathsIn(dir string) Paths {
	return Paths{Header: filepath.Join(dir, HeaderName), Index: filepath.Join(dir, IndexName), Cache: filepath.Join(dir, CacheName),
		Annotations: filepath.Join(dir, AnnotationsName)}
}

// archive tells whether archived messages have a cache of their own.
func (p Paths) archive() bool { return p.Archive != "" && p.Archive != p.Cache }

// Files are the files of one mailbox, opened for reading. Nothing is locked and nothing is changed.
type Files struct {
	Paths  Paths
	Header *HeaderFile
	Index  *File
	// Cache and Archive are nil where there is no such file, or none that can be used: all in them can be had from the
	// messages.
	Cache, Archive *CacheFile

	headerCRC uint32 // of the bytes of cyrus.header
	index     *source
	open      []io.Closer
}

// OpenFiles opens the files of a mailbox. It fails as Cyrus does, if header or index are missing or damaged; a missing
// or damaged cache is no failure.
func OpenFiles(fsys vfs.FS, p Paths) (*Files, error) {
	fsys = vfs.OrOS(fsys)
	f, err := openWhatIs(fsys, p)
	if err != nil && f != nil {
		_ = f.Close()
		f = nil
	}
	return f, err
}

// openWhatIs opens the files of a mailbox, damaged ones too. With an error the Files have what there is of the index, and
// an empty Header if the header file is lost; they are nil if the index cannot be read at all.
func openWhatIs(fsys vfs.FS, p Paths) (_ *Files, err error) {
	f := &Files{Paths: p}
	defer func() {
		if f.Index == nil {
			f.Close()
		}
	}()
	var lost, damaged error
	if f.Header, f.headerCRC, lost = readHeaderFile(fsys, p.Header); lost != nil {
		f.Header = &HeaderFile{}
	}
	if f.index, err = f.source(fsys, p.Index); err != nil {
		return nil, errors.Join(lost, err)
	}
	if f.Index, damaged = NewFile(f.index, f.index.size, p.Index); f.Index == nil {
		return nil, errors.Join(lost, damaged)
	}
	if f.Cache, err = f.cacheFile(fsys, p.Cache); err == nil && p.archive() {
		f.Archive, err = f.cacheFile(fsys, p.Archive)
	}
	return f, errors.Join(lost, damaged, err)
}

// cacheFile opens a cache; it is nil without an error if there is none or it is too short to be one.
func (f *Files) cacheFile(fsys vfs.FS, path string) (*CacheFile, error) {
	s, err := f.source(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := NewCacheFile(s, s.size, path)
	if errors.Is(err, ErrDamaged) {
		return nil, nil
	}
	return c, err
}

// ignoreMissing takes a file that is not there for no failure.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Close closes the files.
func (f *Files) Close() error {
	var all []error
	for _, c := range f.open {
		all = append(all, c.Close())
	}
	f.open = nil
	return errors.Join(all...)
}

// Stale tells whether a cache is of another generation than the index: a crash between the two renames of a repack
// leaves that. Where the index has checksums of cache records, they tell which can be used.
func (f *Files) Stale(c *CacheFile) bool {
	return c != nil && c.Generation != f.Index.Header.Generation
}

// CacheRecord returns the cache record of a message. The error is of class ErrNoCache if there is none that can be used;
// see [CacheFile.Record].
func (f *Files) CacheRecord(r *Record) (CacheRecord, error) {
	c, path := f.Cache, f.Paths.Cache
	if r.Flags&FlagArchived != 0 && f.Paths.archive() {
		c, path = f.Archive, f.Paths.Archive
	}
	v := f.Index.Version()
	if c == nil {
		return CacheRecord{}, &FormatError{Path: path, Field: "cache_offset", Found: "no file", Wanted: "a cache", Class: ErrNoCache}
	}
	if !v.HasChecksums() && f.Stale(c) {
		return CacheRecord{}, &FormatError{Path: path, Field: "generation", Found: num(c.Generation), Wanted: num(f.Index.Header.Generation), Class: ErrNoCache}
	}
	return c.Record(r, v)
}

// ReadHeaderFile reads a cyrus.header.
func ReadHeaderFile(fsys vfs.FS, path string) (*HeaderFile, error) {
	fsys = vfs.OrOS(fsys)
	h, _, err := readHeaderFile(fsys, path)
	return h, err
}

// readHeaderFile reads a whole cyrus.header and returns its checksum, too.
func readHeaderFile(fsys vfs.FS, path string) (*HeaderFile, uint32, error) {
	file, err := fsys.Open(path, vfs.ReadOnly, 0)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	b := make([]byte, min(info.Size, headerMax+1))
	if err := readFull(file, b, 0); err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", path, err)
	}
	h := &HeaderFile{}
	if err := h.Decode(b); err != nil {
		return nil, 0, in(err, path, 0, 0)
	}
	return h, checksum(b), nil
}

// source reads a file through a mapping where that is possible.
type source struct {
	file   vfs.File
	mapped vfs.Mapping
	size   int64
}

func (f *Files) source(fsys vfs.FS, path string) (*source, error) {
	file, err := fsys.Open(path, vfs.ReadOnly, 0)
	if err != nil {
		return nil, err
	}
	s := &source{file: file}
	f.open = append(f.open, s)
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	s.size = info.Size
	if s.size > 0 {
		// Without a mapping, for want of address space or on a file system that has none, reads do.
		if m, err := file.Map(s.size); err == nil {
			s.mapped = m
		}
	}
	return s, nil
}

// ReadAt copies from the mapping, so that nobody holds on to memory that faults when another program cuts the file.
func (s *source) ReadAt(p []byte, off int64) (int, error) {
	if s.mapped == nil || off < 0 || off > s.size || int64(len(p)) > s.size-off {
		return s.file.ReadAt(p, off)
	}
	b := s.mapped.Bytes()
	err := vfs.Guard(b, func() error {
		copy(p, b[off:])
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *source) Close() error {
	var err error
	if s.mapped != nil {
		err = s.mapped.Close()
	}
	return errors.Join(err, s.file.Close())
}
