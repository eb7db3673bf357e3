package quota

import (
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// TestKeeperManyDamagedRoots: however many records an outage has emptied, there is mail for all.
func TestKeeperManyDamagedRoots(t *testing.T) {
	t.Parallel()
	fsys := simfs.New(simfs.Options{NoTrace: true})
	k := keepOn(t, fsys)
	create(t, k.roots, "user.uwhole", limited(Limits{100, 100, 100, 100}, Amounts{}))
	for n := range 270 {
		root := fmt.Sprintf("user.u%d", n)
		f, err := fsys.Open("/conf/quota/u/"+root, vfs.ReadWrite|vfs.Create, 0o600)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.NoError(t, change(k, messageOf(root, root, 1000)))
	}
	require.Greater(t, len(dirtyOf(t, k)), 250)
	require.NoError(t, change(k, messageOf("user.uwhole", "user.uwhole", 1000)))
	require.Equal(t, Amounts{1000, 1}, usedBy(t, k, "user.uwhole"))
}

// settlingFS has somebody settle before each Open.
type settlingFS struct {
	vfs.FS
	settle func()
}

func (f settlingFS) Open(name string, flag vfs.Flag, perm fs.FileMode) (vfs.File, error) {
	f.settle()
	return f.FS.Open(name, flag, perm)
}

// TestMarkBesideSettle: a mark that a settling beside it does not see yet is not left lying.
func TestMarkBesideSettle(t *testing.T) {
	t.Parallel()
	fsys := simfs.New(simfs.Options{NoTrace: true})
	k := keepOn(t, fsys)
	k.fs = settlingFS{fsys, func() { k.marked.Store(false) }} // as Settle begins
	require.NoError(t, k.mark(ctx, "user.u"))
	require.True(t, k.marked.Load())
}
