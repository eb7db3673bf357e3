package skiplist_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// syncedDirs remembers which directories were synced.
type syncedDirs struct {
	vfs.FS
	mu   sync.Mutex
	dirs map[string]int
}

func (s *syncedDirs) SyncDir(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirs[filepath.Base(name)]++
	return s.FS.SyncDir(name)
}

// TestSymbolicLink: a database that is opened through a link is replaced where it lies, and the link stays. Cyrus replaces
// the link; a handle then goes on in the file that has its name.
func TestSymbolicLink(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		dir := t.TempDir()
		for _, sub := range []string{"disk", "imap"} {
			require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o700))
		}
		file, link := filepath.Join(dir, "disk", "db"), filepath.Join(dir, "imap", "db")
		require.NoError(t, skiplist.Create(ctx, file, skiplist.Options{Format: f}))
		require.NoError(t, os.Symlink(filepath.Join("..", "disk", "db"), link))
		synced := &syncedDirs{FS: vfs.OS(), dirs: map[string]int{}}
		db := open(t, link, skiplist.Options{Format: f, FS: synced})
		other := open(t, file, skiplist.Options{Format: f})
		get := func(db *skiplist.DB, want string) {
			v, err := db.Get(ctx, []byte("k"))
			require.NoError(t, err)
			require.Equal(t, want, string(v))
		}
		isLink := func() bool {
			info, err := os.Lstat(link)
			require.NoError(t, err)
			return info.Mode().Type() == fs.ModeSymlink
		}
		require.NoError(t, db.Put(ctx, []byte("k"), []byte("1")))
		require.NotZero(t, synced.dirs["disk"], "where the name of the file is")
		require.NoError(t, db.Checkpoint(ctx))
		require.NoError(t, db.Put(ctx, []byte("k"), []byte("2")))
		require.True(t, isLink())
		require.Zero(t, synced.dirs["imap"])
		get(other, "2")
		require.NoError(t, other.Put(ctx, []byte("k"), []byte("3")))
		get(db, "3")

		// As Cyrus's checkpoint does.
		require.NoError(t, os.WriteFile(link+".NEW", readFile(t, file), 0o600))
		require.NoError(t, os.Rename(link+".NEW", link))
		require.NoError(t, db.Put(ctx, []byte("k"), []byte("4")))
		require.False(t, isLink())
		get(open(t, link, skiplist.Options{Format: f}), "4")
		get(other, "3")

		out := filepath.Join(dir, "imap", "out")
		require.NoError(t, os.Symlink(file+".backup", out))
		_, err := db.BackupFile(ctx, out)
		require.ErrorIs(t, err, fs.ErrNotExist, "a link that leads nowhere")
		require.NoError(t, os.WriteFile(file+".backup", nil, 0o600))
		_, err = db.BackupFile(ctx, out)
		require.NoError(t, err)
		get(open(t, file+".backup", skiplist.Options{Format: f}), "4")
		for _, sub := range []string{"disk", "imap"} {
			list, err := os.ReadDir(filepath.Join(dir, sub))
			require.NoError(t, err)
			require.Len(t, list, 2, "nothing is left over")
		}
	})
}

// TestNotAFile: what is no file is refused by every entry, at once.
func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	good := filepath.Join(dir, "db")
	db := open(t, good, skiplist.Options{Format: skiplist.Twoskip, Create: true})
	require.NoError(t, db.Put(ctx, []byte("k"), []byte("v")))
	for _, path := range []string{fifo, dir} {
		for _, f := range []skiplist.Format{skiplist.Auto, skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
			opts := skiplist.Options{Format: f, ReadOnly: true}
			_, err := skiplist.Open(ctx, path, opts)
			require.ErrorIs(t, err, skiplist.ErrNotDatabase)
			_, err = skiplist.Check(ctx, path, opts)
			require.ErrorIs(t, err, skiplist.ErrNotDatabase)
			_, err = skiplist.Salvage(ctx, path, filepath.Join(dir, "out"), skiplist.SalvageOptions{Options: opts})
			require.ErrorIs(t, err, skiplist.ErrNotDatabase)
			err = skiplist.Dump(ctx, path, opts, func(skiplist.Span, []byte) error { return nil })
			require.ErrorIs(t, err, skiplist.ErrNotDatabase)
			_, err = skiplist.Open(ctx, path, skiplist.Options{Format: f, Create: true})
			require.Error(t, err)
		}
		_, err := db.BackupFile(ctx, path)
		require.Error(t, err)
	}
	stamped, err := skiplist.Open(ctx, good, skiplist.Options{Skipstamp: fifo})
	require.NoError(t, err, "a stamp that cannot be read is none")
	require.NoError(t, stamped.Close())
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, list, 2, "nothing is left over")
}

// TestEmptiedFlatFile goes on with a flat file whose last record it has deleted: it is of zero bytes, and was of a format.
func TestEmptiedFlatFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub")
	require.NoError(t, os.WriteFile(path, []byte("user.fred\t1\n"), 0o600))
	db, err := skiplist.Open(ctx, path, skiplist.Options{})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.Delete(ctx, []byte("user.fred")))
	require.Equal(t, skiplist.Flat, db.Stats().Format)
	require.NoError(t, db.Put(ctx, []byte("user.jane"), []byte("2")))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "user.jane\t2\n", string(b))
}
