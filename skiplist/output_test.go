package skiplist_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// outputs write what is in the database at path to out.
var outputs = map[string]func(path, out string, opts skiplist.Options) error{
	"backup": func(path, out string, opts skiplist.Options) error {
		opts.ReadOnly = true
		db, err := skiplist.Open(ctx, path, opts)
		if err != nil {
			return err
		}
		defer db.Close()
		n, err := db.BackupFile(ctx, out)
		if info, e := os.Stat(out); err == nil && (e != nil || n.Size != info.Size() || n.Records != 10) {
			return fmt.Errorf("%+v is not what was written: %w", n, e)
		}
		return err
	},
	"salvage": func(path, out string, opts skiplist.Options) error {
		_, err := skiplist.Salvage(ctx, path, out, skiplist.SalvageOptions{Options: opts})
		return err
	},
}

// TestOutputTouchesNothingElse: what an output is made from, or another file, may have the name that a checkpoint of the
// output would use for its new file.
func TestOutputTouchesNothingElse(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		for what, write := range outputs {
			t.Run(what, func(t *testing.T) {
				dir := t.TempDir()
				out := filepath.Join(dir, "mailboxes.db")
				path := out + ".NEW"
				db, err := skiplist.Open(ctx, path, skiplist.Options{Format: f, Create: true})
				require.NoError(t, err)
				putMany(t, db, 10, "value")
				require.NoError(t, db.Close())
				before := readFile(t, path)

				require.NoError(t, write(path, out, skiplist.Options{Format: f}))
				require.Equal(t, before, readFile(t, path), "the source")
				copied := open(t, out, skiplist.Options{Format: f})
				n, err := copied.Snapshot(ctx)
				require.NoError(t, err)
				defer n.Close()
				require.Equal(t, 10, n.Len())

				other := filepath.Join(dir, "other")
				require.NoError(t, os.WriteFile(other+".NEW", []byte("mine"), 0o600))
				require.NoError(t, write(path, other, skiplist.Options{Format: f}))
				require.Equal(t, "mine", string(readFile(t, other+".NEW")))
				list, err := os.ReadDir(dir)
				require.NoError(t, err)
				require.Len(t, list, 4, "nothing is left over")
			})
		}
	})
}

// TestBackupOntoItself: a backup does not hold the lock for writing, and so may not replace the database.
func TestBackupOntoItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := open(t, path, skiplist.Options{Format: skiplist.Skiplist, Create: true})
	putMany(t, db, 10, "value")
	require.NoError(t, os.Link(path, path+".link"))
	before := readFile(t, path)
	for _, name := range []string{path, path + ".link"} {
		_, err := db.BackupFile(ctx, name)
		require.ErrorIs(t, err, syscall.EEXIST)
	}
	require.Equal(t, before, readFile(t, path))
}

// TestSalvageKeepsWhatComesBetween: a file that takes the name while a salvage is being written is not replaced.
func TestSalvageKeepsWhatComesBetween(t *testing.T) {
	path, _ := sample(t, skiplist.Twoskip)
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	opts := skiplist.SalvageOptions{Options: skiplist.Options{Progress: func(doing string, _, _ int64) {
		if doing == "writing" {
			require.NoError(t, os.WriteFile(out, []byte("theirs"), 0o600))
		}
	}}}
	_, err := skiplist.Salvage(ctx, path, out, opts)
	require.ErrorIs(t, err, os.ErrExist)
	require.Equal(t, "theirs", string(readFile(t, out)))
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, list, 1, "nothing is left over")
}

// TestOutputNames: what has the name that a checkpoint uses for its new file is gone after the next one.
func TestOutputNames(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		for what, write := range outputs {
			dir := t.TempDir()
			path := filepath.Join(dir, "db")
			db := open(t, path, skiplist.Options{Format: f, Create: true})
			putMany(t, db, 10, "value")
			require.ErrorIs(t, write(path, path+".NEW", skiplist.Options{Format: f}), skiplist.ErrOutputName, what)
			_, err := skiplist.Salvage(ctx, path, path+".NEW", skiplist.SalvageOptions{Options: skiplist.Options{Format: f}, DryRun: true})
			require.ErrorIs(t, err, skiplist.ErrOutputName)
			_, err = db.PlanBackup(ctx, path+".NEW")
			require.ErrorIs(t, err, skiplist.ErrOutputName)
			list, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.NoError(t, write(path, filepath.Join(dir, "other.NEW"), skiplist.Options{Format: f}), "no database is called other")
			require.NoError(t, db.Checkpoint(ctx))
			checkClean(t, filepath.Join(dir, "other.NEW"), skiplist.Options{Format: f})
		}
	})
}

// TestCopiesOfNothing: a file of zero bytes is of no format, and what is copied from it neither, until the caller names one.
func TestCopiesOfNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	db := open(t, path, skiplist.Options{ReadOnly: true})
	_, err := db.Backup(ctx, io.Discard)
	require.ErrorIs(t, err, skiplist.ErrNotDatabase)
	_, err = db.PlanBackup(ctx, path+".copy")
	require.ErrorIs(t, err, skiplist.ErrNotDatabase)
	_, err = db.BackupFile(ctx, path+".copy")
	require.ErrorIs(t, err, skiplist.ErrNotDatabase)
	for _, dry := range []bool{true, false} {
		_, err = skiplist.Salvage(ctx, path, path+".copy", skiplist.SalvageOptions{DryRun: dry})
		require.ErrorIs(t, err, skiplist.ErrNotDatabase)
	}
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, list, 1)
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		out := filepath.Join(t.TempDir(), "copy")
		db := open(t, path, skiplist.Options{ReadOnly: true, Format: f})
		planned, err := db.PlanBackup(ctx, out)
		require.NoError(t, err)
		done, err := db.BackupFile(ctx, out)
		require.NoError(t, err)
		require.Equal(t, planned, done)
		checkClean(t, out, skiplist.Options{Format: f})
		if f != skiplist.Flat {
			require.Equal(t, f, open(t, out, skiplist.Options{ReadOnly: true}).Format())
		}
		_, err = skiplist.Salvage(ctx, path, out+".salvaged", skiplist.SalvageOptions{Options: skiplist.Options{Format: f}})
		require.NoError(t, err)
	})
}

// TestTwoBackupsToOneName: each is complete when it says so, whatever the other does.
func TestTwoBackupsToOneName(t *testing.T) {
	dir := t.TempDir()
	path, out := filepath.Join(dir, "db"), filepath.Join(dir, "out")
	made := open(t, path, skiplist.Options{Format: skiplist.Skiplist, Create: true})
	putMany(t, made, 20000, "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv")

	// A is about to rename its file when B is in the middle of its own.
	begun, goOn := make(chan struct{}), make(chan struct{})
	n := 0
	b, err := skiplist.Open(ctx, path, skiplist.Options{ReadOnly: true, Progress: func(doing string, _, _ int64) {
		if doing == "writing" {
			if n++; n == 4 {
				close(begun)
				<-goOn
			}
		}
	}})
	require.NoError(t, err)
	defer b.Close()
	endB := make(chan error, 1)
	hook := &beforeRename{FS: vfs.OS(), call: func() {
		go func() { _, err := b.BackupFile(ctx, out); endB <- err }()
		<-begun
	}}
	a, err := skiplist.Open(ctx, path, skiplist.Options{ReadOnly: true, FS: hook})
	require.NoError(t, err)
	defer a.Close()
	_, err = a.BackupFile(ctx, out)
	require.NoError(t, err)
	checkClean(t, out, skiplist.Options{})
	close(goOn)
	require.NoError(t, <-endB)
	checkClean(t, out, skiplist.Options{})
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, list, 2, "nothing is left over")
}

// beforeRename makes a call before the first rename.
type beforeRename struct {
	vfs.FS
	call func()
}

func (h *beforeRename) Rename(old, new string) error {
	if call := h.call; call != nil {
		h.call = nil
		call()
	}
	return h.FS.Rename(old, new)
}
