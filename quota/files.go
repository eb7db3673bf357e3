package quota

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

// The modes of what is made here, before umask, as Cyrus has them.
const (
	fileMode fs.FileMode = 0o600
	dirMode  fs.FileMode = 0o755
)

// files keeps a file for each root below dir: the engine "quotalegacy". A file is replaced as a whole, under a lock of all of the
// old one; who waited for that looks whether the name still leads to it.
type files struct {
	fs     vfs.FS
	dir    string
	logger *slog.Logger
	// domains and fullHash are virtdomains and fulldirhash.
	domains, fullHash bool
	spares            *vfs.Spares

	mu sync.Mutex
	// sample is the file of some root, like which prepared files are made.
	sample string
}

func newFiles(o Options, dir, prepared string, domains, fullHash bool) *files {
	f := &files{fs: o.FS, dir: dir, logger: o.Logger, domains: domains, fullHash: fullHash}
	if prepared != "" && !o.ReadOnly {
		f.spares = vfs.NewSpares(o.FS, prepared)
	}
	return f
}

func (s *files) close() error { return nil }

// path is the file of a root: below a letter that is taken from what follows the first dot.
func (s *files) path(root string) string {
	dir := s.dir
	if domain, rest, ok := strings.Cut(root, "!"); ok && s.domains {
		dir = filepath.Join(dir, "domain", string(mboxdb.Hash(domain, s.fullHash)), domain)
		if rest == "" {
			return filepath.Join(dir, "quota", "root")
		}
		root = rest
	}
	_, below, ok := strings.Cut(root, ".")
	if !ok {
		below = root
	}
	return filepath.Join(dir, "quota", string(mboxdb.Hash(below, s.fullHash)), root)
}

// unframe takes the value out of a file: what ends it is a line end, and that of a value in an old form is in place of its first
// blank. Each byte of the value has the offset that it has in the file.
func unframe(content []byte) ([]byte, error) {
	if len(content) == 0 {
		return nil, &RecordError{Problem: "the file has no bytes", class: ErrEmpty}
	}
	last := len(content) - 1
	if content[last] != '\n' {
		return nil, damaged(len(content), "the last line has no end")
	}
	value := bytes.Clone(content[:last])
	if len(value) > 0 && value[0] != '%' {
		if i := bytes.IndexByte(value, '\n'); i >= 0 {
			value[i] = ' '
		}
	}
	return value, nil
}

// frame is what stands in the file of a value.
func frame(value []byte) []byte {
	content := append(bytes.Clone(value), '\n')
	if content[0] != '%' {
		if i := bytes.IndexByte(content, ' '); i >= 0 {
			content[i] = '\n'
		}
	}
	return content
}

// read reads a file, which is small.
func read(f vfs.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: syscall.EISDIR}
	}
	if info.Size > maxRecordBytes {
		return nil, damaged(maxRecordBytes, "%d bytes, expected at most %d", info.Size, maxRecordBytes)
	}
	content := make([]byte, info.Size)
	for n := 0; n < len(content); {
		k, err := f.ReadAt(content[n:], int64(n))
		if n += k; n < len(content) && err != nil {
			return nil, err
		}
	}
	return content, nil
}

func (s *files) get(_ context.Context, root string) ([]byte, error) { return s.getFile(s.path(root)) }

func (s *files) getFile(path string) ([]byte, error) {
	f, err := s.fs.Open(path, vfs.ReadOnly, 0)
	if absent(err) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := read(f)
	if err != nil {
		return nil, err
	}
	return unframe(content)
}

// absent tells whether an error says that there is no file, or cannot be one: a mailbox may have a longer name than a file.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENAMETOOLONG)
}

func (s *files) has(_ context.Context, root string) (bool, error) {
	_, err := s.fs.Stat(s.path(root))
	if absent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, left, err := s.leftOver(root, s.path(root))
	return err == nil && !left, err
}

// leftOver tells whether a file with the name of a root is what a change of another root left behind, or is just making, and of
// which: its name ends like that of a new file, and there is the root that it would have been for. (A root that is called so for
// another reason is lost with the next change of the other, in Cyrus too.) It lies beside the file of that root, where the root of
// its own name need not lie.
func (s *files) leftOver(root, path string) (of string, left bool, err error) {
	of, named := strings.CutSuffix(root, ".NEW")
	if !named || CheckName(of) != nil || s.path(of)+".NEW" != path {
		return "", false, nil
	}
	_, err = s.fs.Stat(s.path(of))
	if absent(err) {
		return "", false, nil
	}
	return of, err == nil, err
}

// lock opens the file of a root and takes its lock.
func (s *files) lock(ctx context.Context, root string) (vfs.File, error) {
	f, err := locks.Existing(ctx, s.fs, vfs.Exclusively, s.path(root))
	if absent(err) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}

func (s *files) change(ctx context.Context, root string, _ bool, edit edit) error {
	if _, left, err := s.leftOver(root, s.path(root)); err != nil || left {
		return errors.Join(err, notFoundIf(left))
	}
	f, err := s.lock(ctx, root)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	content, err := read(f)
	if err != nil {
		return err
	}
	old, err := unframe(content)
	if err != nil {
		return err
	}
	value, _, err := edit(old)
	if err != nil || value == nil {
		return err
	}
	return s.replace(s.path(root), frame(value), content)
}

// replace puts a content in the place of another, whose lock the caller holds.
//
//	write NAME.NEW, lock, sync, read back    the old value
//	rename                                   COMMIT POINT: the new value
//	sync the directory                       the new value, also after a crash
//
// If only the last step fails the old content is put back in the same way: then it is certain again which of them is there.
func (s *files) replace(path string, content, old []byte) error {
	guard, err := s.put(path, vfs.ReplaceOptions{Spares: s.spares}, content)
	defer closeFile(guard)
	if err != nil && notDurable(err) {
		again, e := s.put(path, vfs.ReplaceOptions{Spares: s.spares}, old)
		closeFile(again)
		if e != nil {
			return fmt.Errorf("%w: %w", ErrCommitUnknown, errors.Join(err, e))
		}
		return err
	}
	if err != nil {
		return err
	}
	s.afterChange(path)
	return nil
}

// put writes a file in the place of path. What it returns is that file, locked: as soon as it has the name others may want to
// change it, and must wait until it is certain that it keeps the name.
func (s *files) put(path string, opts vfs.ReplaceOptions, content []byte) (guard vfs.File, err error) {
	opts.Size, opts.Perm = int64(len(content)), fileMode
	opts.Verify = func(f vfs.File) error {
		written, err := read(f)
		if err == nil && !bytes.Equal(written, content) {
			err = errors.New("the new file does not hold what was written")
		}
		return err
	}
	err = vfs.ReplaceFile(s.fs, path, opts, func(f vfs.File) (err error) {
		closeFile(guard) // of a file that did not come to be
		if guard, err = s.fs.Open(f.Name(), vfs.ReadWrite, 0); err != nil {
			return err
		}
		if err = guard.TryLock(vfs.Exclusively); err == nil {
			_, err = f.WriteAt(content, 0)
		}
		return err
	})
	return guard, err
}

func closeFile(f vfs.File) {
	if f != nil {
		_ = f.Close()
	}
}

// create makes a file, durably with the directories that lead to it.
func (s *files) create(ctx context.Context, root string, edit edit) error {
	if err := s.mayCreate(root); err != nil {
		return err
	}
	path := s.path(root)
	for {
		f, err := s.lock(ctx, root)
		if err == nil {
			err = s.createOver(f, path, edit)
			_ = f.Close()
			return err
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		value, _, err := edit(nil)
		if err != nil {
			return err
		}
		if err := s.mkdirs(filepath.Dir(path)); err != nil {
			return err
		}
		guard, err := s.put(path, vfs.ReplaceOptions{New: true, Temp: newFile(root, path)}, frame(value))
		if err != nil && notDurable(err) {
			err = s.takeBack(path, err)
		}
		closeFile(guard)
		if !errors.Is(err, fs.ErrExist) {
			if err == nil {
				s.afterChange(path)
			}
			return err
		}
		// Somebody has made it meanwhile.
	}
}

// newFile is where the file of a new root is written, under the lock of all changes. Beside its place it would be taken for a root
// after a crash, as the root of which it is left over is not there; so it is above the letters, where nobody looks for roots.
func newFile(root, path string) string {
	dir := filepath.Dir(path)
	if !strings.HasSuffix(root, "!") {
		dir = filepath.Dir(dir)
	}
	return filepath.Join(dir, "create.NEW")
}

// mayCreate refuses a root whose new file would have the name of another root, and the other way round: the next change of the one
// would be the end of the other.
func (s *files) mayCreate(root string) error {
	if of, left, err := s.leftOver(root, s.path(root)); err != nil || left {
		return errors.Join(err, fmt.Errorf("the file would be taken for one that a change of %q left behind: %w", of, ErrName))
	}
	if _, err := s.fs.Stat(s.path(root)); err == nil || !absent(err) {
		return nil
	}
	switch _, err := s.fs.Stat(s.path(root) + ".NEW"); {
	case err == nil:
		return fmt.Errorf("there is a file %s.NEW, which may be that of a root: %w", s.path(root), ErrExists)
	case absent(err):
		return nil
	default:
		return err
	}
}

// createOver makes a root of a file that is there, if nothing is in it.
func (s *files) createOver(f vfs.File, path string, edit edit) error {
	content, err := read(f)
	if err != nil {
		return err
	}
	old, err := unframe(content)
	if errors.Is(err, ErrDamaged) {
		return ErrExists
	}
	if old == nil {
		old = []byte{}
	}
	value, _, err := edit(old)
	if err != nil {
		return err
	}
	return s.replace(path, frame(value), content)
}

// mkdirs makes the directory of a root. Those that lead to it are synced also if they are there: whoever made them may have died
// before he did that.
func (s *files) mkdirs(dir string) error {
	if err := vfs.MkdirAll(s.fs, dir, dirMode); err != nil {
		return err
	}
	for up := filepath.Dir(dir); len(up) >= len(s.dir); up = filepath.Dir(up) {
		if err := s.fs.SyncDir(up); err != nil {
			return err
		}
		if up == filepath.Dir(up) {
			break
		}
	}
	return nil
}

// takeBack removes a root that was made and may not last, whose lock the caller holds. cause is why.
func (s *files) takeBack(path string, cause error) error {
	err := s.unlink(path)
	if err == nil {
		err = s.fs.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCommitUnknown, errors.Join(cause, err))
	}
	return cause
}

// remove removes the file of a root. What a change left behind goes first: without the root it would be taken for one.
//
//	unlink NAME.NEW, sync the directory     the root
//	unlink NAME                             COMMIT POINT: no root
//	sync the directory                      no root, also after a crash
func (s *files) remove(ctx context.Context, root string) error {
	if _, left, err := s.leftOver(root, s.path(root)); err != nil || left {
		return errors.Join(err, notFoundIf(left))
	}
	f, err := s.lock(ctx, root)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	path := s.path(root)
	if err := s.dropNew(path); err != nil {
		return err
	}
	if err := s.unlink(path); err != nil {
		return err
	}
	if err := s.fs.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
	}
	return nil
}

// unlink removes a name. What reports an error may have been done all the same; if that cannot be found out it is unknown.
func (s *files) unlink(path string) error {
	err := s.fs.Unlink(path)
	if err == nil {
		return nil
	}
	switch _, e := s.fs.Stat(path); {
	case e == nil:
		return err
	case absent(e):
		return nil
	default:
		return fmt.Errorf("%w: %w", ErrCommitUnknown, errors.Join(err, e))
	}
}

// dropNew removes, durably, what a change of a root left behind, under the lock of the root.
func (s *files) dropNew(path string) error {
	if _, err := s.fs.Stat(path + ".NEW"); absent(err) {
		return nil
	}
	if err := s.unlink(path + ".NEW"); err != nil {
		return err
	}
	return s.fs.SyncDir(filepath.Dir(path))
}

func (s *files) removeLeftOver(ctx context.Context, left LeftOver) error {
	if left.Path != s.path(left.Root)+".NEW" {
		return fmt.Errorf("%s is no file that a change of the root leaves: %w", left.Path, ErrName)
	}
	f, err := s.lock(ctx, left.Root)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return s.dropNew(s.path(left.Root))
}
