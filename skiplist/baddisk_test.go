package skiplist_test

import (
	"bytes"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// badDisk does not deliver one sector of one file.
type badDisk struct {
	vfs.FS
	path string
	bad  int64
}

func (d badDisk) Open(name string, flag vfs.Flag, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.Open(name, flag, perm)
	if err != nil || name != d.path {
		return f, err
	}
	return badFile{f, d.bad}, nil
}

type badFile struct {
	vfs.File
	bad int64
}

func (f badFile) ReadAt(p []byte, off int64) (int, error) {
	if off < f.bad+512 && off+int64(len(p)) > f.bad {
		return 0, &fs.PathError{Op: "read", Path: f.Name(), Err: syscall.EIO}
	}
	return f.File.ReadAt(p, off)
}

func (f badFile) Map(int64) (vfs.Mapping, error) {
	return nil, &fs.PathError{Op: "map", Path: f.Name(), Err: syscall.ENODEV}
}

// TestSalvageFromABadDisk loses each sector of a file in turn: opening it tells of the disk, not of damage or a torn tail,
// and changes nothing; the salvage brings out the rest, and no byte that was not there.
func TestSalvageFromABadDisk(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		path, want := sample(t, f)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		best := 0
		for bad := int64(0); bad < int64(len(data)); bad += 512 {
			disk := badDisk{vfs.OS(), path, bad}
			_, err := skiplist.Open(ctx, path, skiplist.Options{Format: f, FS: disk})
			require.ErrorIs(t, err, syscall.EIO)
			require.NotErrorIs(t, err, skiplist.ErrDamaged)
			now, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, now))

			out := path + ".out"
			res, err := skiplist.Salvage(ctx, path, out, skiplist.SalvageOptions{Options: skiplist.Options{Format: f, FS: disk}})
			require.NoError(t, err, "sector %#x", bad)
			require.NotEmpty(t, res.Findings)
			db, err := skiplist.Open(ctx, out, skiplist.Options{})
			if err == nil { // an empty flat file is of no format
				require.NoError(t, db.View(ctx, func(s *skiplist.Snapshot) error {
					for k, v := range contents(t, s) {
						if old, ok := want[k]; ok && v != old {
							require.Equal(t, "checkpointed", v, k)
						}
						require.Contains(t, string(data), k)
					}
					best = max(best, s.Len())
					return nil
				}))
				require.NoError(t, db.Close())
			}
			require.NoError(t, os.Remove(out))
		}
		if len(data) > 1024 {
			require.Greater(t, best, len(want)/3)
		}
	})
}
