package vfstest

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/stretchr/testify/require"
)

func testSole(t *testing.T, e *env) {
	f := e.file("a", "x")
	err := f.Sole()
	if errors.Is(err, syscall.EOPNOTSUPP) {
		t.Skip("this system does not tell who has a file open")
	}
	require.NoError(t, err)
	own, err := f.Map(4096)
	require.NoError(t, err)
	require.NoError(t, f.Sole(), "one's own mapping is no hindrance")
	g, err := e.fs.Open(e.path("a"), vfs.ReadOnly, 0)
	require.NoError(t, err)
	e.fails(f.Sole(), syscall.EAGAIN)
	e.fails(g.Sole(), syscall.EAGAIN)
	m, err := g.Map(4096)
	require.NoError(t, err)
	require.NoError(t, g.Close())
	e.fails(f.Sole(), syscall.EAGAIN)
	require.NoError(t, m.Close())
	require.NoError(t, f.Sole())
	require.NoError(t, own.Close())
	require.NoError(t, e.fs.Unlink(e.path("a")))
	require.NoError(t, f.Sole())
	require.NoError(t, f.Close())
	e.fails(f.Sole(), syscall.EBADF)
	dir, err := e.fs.Open(e.dir, vfs.ReadOnly, 0)
	require.NoError(t, err)
	e.fails(dir.Sole(), syscall.EINVAL)
	require.NoError(t, dir.Close())
}

// fullFor fails every allocation for a new file beside the database, as a full disk does.
type fullFor struct {
	vfs.FS
	suffix string
}

func (f fullFor) Open(name string, flag vfs.Flag, perm fs.FileMode) (vfs.File, error) {
	if flag&vfs.Create != 0 && strings.HasSuffix(name, f.suffix) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	}
	return f.FS.Open(name, flag, perm)
}

// testSpares replaces a file on a disk that takes no new one: in turn with the same prepared files, with readers and
// other names that keep one of them from being used, and with a file that shrinks and grows.
func testSpares(t *testing.T, e *env) {
	name, pool := e.path("a"), e.path("pool")
	old := e.file("a", "zero")
	full := fullFor{e.fs, ".NEW"}
	sp := vfs.NewSpares(full, pool)
	put := func(text string) error {
		return vfs.ReplaceFile(full, name, vfs.ReplaceOptions{Size: int64(len(text)), Spares: sp}, func(f vfs.File) error {
			_, err := f.WriteAt([]byte(text), 0)
			return err
		})
	}
	e.fails(put("one"), syscall.ENOSPC)
	require.False(t, sp.Ready(1))
	err := vfs.NewSpares(e.fs, pool).Prepare(name, 4)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		t.Skip("this file system does not promise space")
	}
	require.NoError(t, err)
	require.NoError(t, vfs.NewSpares(e.fs, pool).Prepare(name, 4), "a second time nothing is to be done")
	require.Equal(t, e.info("a").Mode, e.info("pool/spare.0").Mode)
	require.GreaterOrEqual(t, e.info("pool/spare.0").Blocks, int64(16<<10/512))

	require.True(t, sp.Ready(16<<10))
	require.False(t, sp.Ready(1<<30))
	require.NoError(t, put("one, longer"))
	require.Equal(t, "one, longer", e.content("a"))
	p := make([]byte, 4)
	for k, text := range []string{"two", strings.Repeat("three ", 2000), "4", strings.Repeat("five ", 700), "", "6"} {
		require.NoError(t, put(text), "%d", k)
		require.Equal(t, text, e.content("a"))
		_, err = old.ReadAt(p, 0)
		require.NoError(t, err)
		require.Equal(t, "zero", string(p), "a file that somebody has open is not overwritten")
	}
	require.NoError(t, old.Close())
	for k := range 10 { // After the first five the spares have to be cut.
		text := strings.Repeat("long ", 3000)[:15000-1000*k]
		require.NoError(t, put(text))
		require.Equal(t, text, e.content("a"))
	}
	for range 20 {
		require.NoError(t, put("again"))
	}
	list, err := e.fs.ReadDir(e.dir)
	require.NoError(t, err)
	require.Len(t, list, 2, "nothing is left over beside the file")

	// Somebody reads each of them, or has given it another name.
	require.NoError(t, e.fs.Link(name, e.path("link")))
	var readers []vfs.File
	n := 0
	for ; put("busy") == nil; n++ {
		f, err := e.fs.Open(name, vfs.ReadOnly, 0)
		require.NoError(t, err)
		readers = append(readers, f)
		require.Less(t, n, 10)
	}
	require.Equal(t, 4, n)
	require.Equal(t, "again", e.content("link"))
	e.fails(put("busy"), syscall.ENOSPC)
	require.NoError(t, readers[0].Close())
	require.NoError(t, put("free"))
	require.Equal(t, "free", e.content("a"))

	// With space again, others take the place of those that are in use.
	sp = vfs.NewSpares(e.fs, pool)
	require.NoError(t, sp.Prepare(name, 4))
	for range 4 {
		require.NoError(t, put("more"))
	}
	for _, f := range readers[1:] {
		_, err := f.ReadAt(p, 0)
		require.NoError(t, err)
		require.Equal(t, "busy", string(p))
	}

	// A failure leaves everything as it was, and the spare can be used again.
	wrong := errors.New("wrong")
	for _, opts := range []vfs.ReplaceOptions{
		{Spares: sp, Size: 1 << 40},
		{Spares: sp, Verify: func(vfs.File) error { return wrong }},
	} {
		require.Error(t, vfs.ReplaceFile(full, name, opts, func(f vfs.File) error {
			_, err := f.WriteAt([]byte("never"), 0)
			return err
		}))
		require.Equal(t, "more", e.content("a"))
	}
	require.NoError(t, put("last"))
	require.Equal(t, "last", e.content("a"))
	e.fails(vfs.ReplaceFile(full, e.path("new"), vfs.ReplaceOptions{Spares: sp}, nil), syscall.ENOSPC)
	require.Error(t, sp.Prepare(name, 1<<40))
}
