package vfs_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/stretchr/testify/require"
)

// oldDisk holds /d/a with the content "old" and another owner, durably.
func oldDisk(t *testing.T, opts simfs.Options) *simfs.FS { return diskWith(t, opts, "old") }

// diskWith holds /d/a with a content and another owner, durably.
func diskWith(t *testing.T, opts simfs.Options, content string) *simfs.FS {
	fs := simfs.New(opts)
	require.NoError(t, vfs.MkdirAll(fs, "/d", 0o755))
	f, err := fs.Open("/d/a", vfs.ReadWrite|vfs.Create, 0o600)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte(content), 0)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	require.NoError(t, fs.SyncDir("/d"))
	require.NoError(t, fs.Chown("/d/a", 1234, 2345, 0o640))
	return fs
}

func replaceWithNew(fs vfs.FS) error {
	return vfs.ReplaceFile(fs, "/d/a", vfs.ReplaceOptions{Size: 5000}, func(f vfs.File) error {
		p := make([]byte, 5000)
		copy(p, "new")
		_, err := f.WriteAt(p, 0)
		return err
	})
}

// readWhole returns "old" or "new", and insists on everything that belongs to it.
func readWhole(t *testing.T, fs vfs.FS, at string) string {
	p, err := vfs.ReadFile(fs, "/d/a")
	require.NoError(t, err, at)
	require.Contains(t, []int{3, 5000}, len(p), at)
	info, err := fs.Stat("/d/a")
	require.NoError(t, err, at)
	require.Equal(t, []any{uint32(1234), uint32(2345), uint32(0o640)}, []any{info.UID, info.GID, uint32(info.Mode)}, at)
	if len(p) == 3 {
		require.Equal(t, "old", string(p), at)
	} else {
		require.Equal(t, "new", string(p[:3]), at)
	}
	return string(p[:3])
}

func TestReplaceSurvivesCrashes(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		fs := oldDisk(t, simfs.Options{OrderedNames: ordered})
		before := fs.Ops()
		require.NoError(t, replaceWithNew(fs))
		fs.Mark("replaced")
		found := map[string]bool{}
		for img := range fs.Trace().Images(simfs.Search{From: before}) {
			text := readWhole(t, img, img.Seed)
			found[text] = true
			if len(img.Marks) > 0 {
				require.Equal(t, "new", text, img.Seed)
			}
		}
		require.Len(t, found, 2)
	}
}

func TestReplaceSurvivesFaults(t *testing.T) {
	for _, mode := range []faultfs.Mode{faultfs.Once, faultfs.Onwards, faultfs.EverySecond} {
		for n := 0; ; n++ {
			fs := oldDisk(t, simfs.Options{Seed: uint64(n)})
			before := fs.Ops()
			plan := &faultfs.Plan{N: n, Err: syscall.ENOSPC, Mode: mode}
			err := replaceWithNew(faultfs.Wrap(fs, plan))
			if !plan.Fired() {
				require.NoError(t, err)
				require.Greater(t, n, 8)
				break
			}
			plan.Stop()
			text := readWhole(t, fs, plan.String())
			var notDurable *vfs.NotDurableError
			switch {
			case errors.As(err, &notDurable):
				require.ErrorIs(t, err, syscall.ENOSPC)
				require.Equal(t, "/d/a", notDurable.Path)
				if text == "old" {
					require.ErrorContains(t, err, "rename", "only where it cannot be found out")
				} else {
					require.Equal(t, "new", text)
				}
			case err != nil:
				require.ErrorIs(t, err, syscall.ENOSPC)
				require.Equal(t, "old", text, plan)
				for img := range fs.Trace().Images(simfs.Search{From: before, Samples: 5, Limit: 100}) {
					require.Equal(t, "old", readWhole(t, img, img.Seed), plan)
				}
			default:
				require.Equal(t, "new", text, "only a call whose failure is harmless may fail unnoticed: %v", plan)
			}
		}
	}
}
