package index

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// TestFaults lets every call of opening, reading and checking fail once. A failing disk is an error, never a finding: it
// says nothing of the file.
func TestFaults(t *testing.T) {
	t.Parallel()
	fsys := simfs.New(simfs.Options{NoTrace: true})
	require.NoError(t, fsys.Mkdir("/m", 0o755))
	for name, b := range readGolden(t, 17) {
		write(t, fsys, "/m/"+name, b)
	}
	p := PathsIn("/m")
	faults := 0
	for n := 0; ; n++ {
		plan := &faultfs.Plan{N: n}
		found, err := CheckFiles(t.Context(), faultfs.Wrap(fsys, plan), p, CheckOptions{Owner: "u000"})
		if err != nil {
			require.ErrorIs(t, err, syscall.EIO)
		}
		require.Empty(t, found)
		if !plan.Fired() {
			require.NoError(t, err)
			break
		}
		faults++
	}
	for n := 0; ; n++ {
		plan := &faultfs.Plan{N: n}
		f, err := OpenFiles(faultfs.Wrap(fsys, plan), p)
		if err != nil {
			require.ErrorIs(t, err, syscall.EIO)
			require.Nil(t, f)
			faults++
			continue
		}
		for e, err := range f.Index.Records(1) {
			if err == nil {
				_, err = f.CacheRecord(&e.Record)
			}
			if err != nil {
				require.ErrorIs(t, err, syscall.EIO)
			}
		}
		require.NoError(t, f.Close())
		if !plan.Fired() {
			break
		}
		faults++
	}
	require.Greater(t, faults, 20)
}

// TestMissingFiles opens mailboxes without one of their files. Only a cache may be missing.
func TestMissingFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{HeaderName, IndexName, CacheName, AnnotationsName} {
		g := readGolden(t, 17)
		delete(g, name)
		fsys, p := g.put(t)
		f, err := OpenFiles(fsys, p)
		if name == HeaderName || name == IndexName {
			require.ErrorIs(t, err, os.ErrNotExist)
			continue
		}
		require.NoError(t, err)
		r, err := f.Index.Record(1)
		require.NoError(t, err)
		_, err = f.CacheRecord(&r)
		require.Equal(t, name == CacheName, errors.Is(err, ErrNoCache))
		require.NoError(t, f.Close())
	}
}

// TestCutWhileOpen truncates files that are mapped, as another program may: an error, and the process lives.
func TestCutWhileOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, b := range readGolden(t, 17) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
	}
	f, err := OpenFiles(vfs.OS(), PathsIn(dir))
	require.NoError(t, err)
	defer f.Close()
	r, err := f.Index.Record(1)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(filepath.Join(dir, IndexName), 0))
	require.NoError(t, os.Truncate(filepath.Join(dir, CacheName), 0))
	_, err = f.Index.Record(1)
	require.Error(t, err)
	_, err = f.CacheRecord(&r)
	require.Error(t, err)
	for _, err := range f.Index.Batches(1) {
		require.Error(t, err)
	}
}
