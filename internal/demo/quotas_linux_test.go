package demo

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/store"
)

// newAccounts are mailboxes with messages, and quota roots that are right.
func newAccounts(t *testing.T) *accounts {
	dir := t.TempDir()
	st, err := newStore(t.Context(), vfs.OS(), dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	other, err := store.OpenConfig(t.Context(), filepath.Join(dir, "imapd.conf"), "", store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	a, err := openAccounts(t.Context(), st, other)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.close()) })
	for i := range 4 * len(boxes) {
		require.NoError(t, a.change(t.Context(), 0, i))
	}
	requireAccounts(t, a, accountDifferences{})
	return a
}

func requireAccounts(t *testing.T, a *accounts, want accountDifferences) {
	t.Helper()
	d, err := a.differences(t.Context(), a.roots)
	require.NoError(t, err)
	require.Equal(t, want, d)
}

// double makes a root say twice what it said, once it is right.
func (a *accounts) double(ctx context.Context, root string) error {
	for {
		d, err := a.differences(ctx, []string{root})
		if err != nil {
			return err
		}
		if d == (accountDifferences{}) {
			break
		}
	}
	_, err := a.st.Quota().Roots().Update(ctx, root, func(r *quota.Record) error {
		r.Used[quota.Messages] *= 2
		return nil
	})
	return err
}

// TestWrongAccountsAreTold shows that the comparison sees each kind of difference, and fails.
func TestWrongAccountsAreTold(t *testing.T) {
	a := newAccounts(t)
	require.NoError(t, a.outage(t.Context()))
	requireAccounts(t, a, accountDifferences{less: len(halved), more: len(doubled), doubled: len(doubled)})
	_, err := a.st.Quota().Delete(t.Context(), "user.ida")
	require.NoError(t, err)
	_, err = a.st.Quota().Set(t.Context(), "user.joe", map[quota.Resource]int64{quota.Storage: limitKiB + 1})
	require.NoError(t, err)
	var out bytes.Buffer
	s := &story{w: &out}
	require.ErrorContains(t, s.compareQuotas(t.Context(), a), "not what was acknowledged")
	require.Contains(t, out.String(), "1 too low, 1 too high, 1 doubled, 2 removed\n")
}

// TestWrongAgainIsTold shows that it is told if a number does not stay right.
func TestWrongAgainIsTold(t *testing.T) {
	a := newAccounts(t)
	quiet, err := a.beside(t.Context(), 20, func(i int) error { return a.change(t.Context(), 0, i) })
	require.NoError(t, err)
	require.GreaterOrEqual(t, quiet.n, 2)
	require.Equal(t, runs{n: quiet.n}, quiet)
	// Each of the two processes may find one with its first recalculation.
	again, err := a.beside(t.Context(), 4, func(int) error { return a.double(t.Context(), "user.base") })
	require.NoError(t, err)
	require.Positive(t, again.late)
	var out bytes.Buffer
	s := &story{w: &out}
	require.ErrorContains(t, s.tellMended(again), "wrong again")
	require.NotContains(t, out.String(), "nothing found wrong")
	require.NoError(t, s.tellMended(quiet))
	require.Contains(t, out.String(), "nothing found wrong again")
}

// TestLoweringRefused shows that a number which needs space to be lowered is told.
func TestLoweringRefused(t *testing.T) {
	var out bytes.Buffer
	disk := &tight{}
	t.Cleanup(func() { require.NoError(t, disk.Close()) })
	s := &story{w: &out, dir: t.TempDir(), disk: disk, fs: vfs.OS()}
	require.ErrorContains(t, s.playQuotas(t.Context()), "not lowered for want of space")
	require.Contains(t, out.String(), "0 of 2 numbers lowered")
}
