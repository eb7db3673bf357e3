package vfstest

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/stretchr/testify/require"
)

func testReplace(t *testing.T, e *env) {
	put := func(text string) func(vfs.File) error {
		return func(f vfs.File) error {
			_, err := f.WriteAt([]byte(text), 0)
			return err
		}
	}
	name := e.path("a")
	require.NoError(t, vfs.ReplaceFile(e.fs, name, vfs.ReplaceOptions{Perm: 0o604}, put("one")))
	require.Equal(t, "one", e.content("a"))
	require.Equal(t, fs.FileMode(0o604), e.info("a").Mode)

	e.file("a.NEW", "left over, and longer")
	require.NoError(t, vfs.ReplaceFile(e.fs, name, vfs.ReplaceOptions{Size: 3}, put("two")))
	require.Equal(t, "two", e.content("a"))
	require.Equal(t, fs.FileMode(0o604), e.info("a").Mode, "the mode of the old file")
	_, err := e.fs.Stat(e.path("a.NEW"))
	e.fails(err, fs.ErrNotExist)

	wrong := errors.New("wrong")
	was := e.info("a")
	err = vfs.ReplaceFile(e.fs, name, vfs.ReplaceOptions{}, func(vfs.File) error { return wrong })
	require.ErrorIs(t, err, wrong)
	refuse := vfs.ReplaceOptions{Temp: e.path("temp"), Verify: func(f vfs.File) error {
		p := make([]byte, 5)
		_, err := f.ReadAt(p, 0)
		require.NoError(t, err)
		require.Equal(t, "three", string(p))
		return wrong
	}}
	require.ErrorIs(t, vfs.ReplaceFile(e.fs, name, refuse, put("three")), wrong)
	require.Equal(t, "two", e.content("a"))
	require.True(t, e.info("a").SameFile(was))
	list, err := e.fs.ReadDir(e.dir)
	require.NoError(t, err)
	require.Len(t, list, 1, "nothing is left over")
}
