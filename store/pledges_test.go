package store

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
)

// usageOf counts what each quota root of a store should record: from the header of each mailbox's index, and by the longest name.
func usageOf(st *Store) (map[string]quota.Amounts, error) {
	sums := map[string]quota.Amounts{}
	for root, err := range st.roots.All(ctx) {
		if err != nil {
			return nil, err
		}
		sums[root.Name] = quota.Amounts{}
	}
	err := st.list.View(ctx, func(v *mboxdb.View) error {
		for rec, err := range v.All() {
			if err != nil {
				return err
			}
			owner := ""
			for root := range sums {
				if n := rec.Name.String(); (n == root || strings.HasPrefix(n, root+".")) && len(root) > len(owner) {
					owner = root
				}
			}
			if owner == "" || !rec.Type.Exists() {
				continue
			}
			p, err := st.place(rec)
			if err != nil {
				return err
			}
			files, err := index.OpenFiles(st.fs, p.at.Paths)
			if err != nil {
				return err
			}
			sum := sums[owner]
			sum[quota.Folders]++
			for e, err := range files.Index.Records(1) {
				if err != nil {
					return err
				}
				if !e.Record.Expunged() {
					sum[quota.Storage] += int64(e.Record.Size)
					sum[quota.Messages]++
				}
			}
			sums[owner] = sum
			files.Close()
		}
		return nil
	})
	return sums, err
}

// recorded is what the quota roots record.
func recorded(st *Store) (map[string]quota.Amounts, error) {
	all := map[string]quota.Amounts{}
	for root, err := range st.roots.All(ctx) {
		if err == nil {
			err = root.Err
		}
		if err != nil {
			return nil, err
		}
		all[root.Name] = root.Record.Used
	}
	return all, nil
}

// setLimits gives a root limits; it is made if it is not there.
func setLimits(t testing.TB, st *Store, root string, limits quota.Limits) {
	t.Helper()
	_, err := st.roots.Update(ctx, root, func(r *quota.Record) error { r.Limits = limits; return nil })
	require.NoError(t, err)
}

// exact fails unless every root records what is used.
func exact(t testing.TB, st *Store) map[string]quota.Amounts {
	t.Helper()
	want, err := usageOf(st)
	require.NoError(t, err)
	got, err := recorded(st)
	require.NoError(t, err)
	require.Equal(t, want, got)
	return got
}

// TestQuotaOfSteps: who keeps the accounts of quota roots consents to a change of mailboxes or refuses it, and moves their usage
// with them.
func TestQuotaOfSteps(t *testing.T) {
	for layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			disk := newDisk(t, layout, simfs.Options{NoTrace: true})
			st := furnish(t, disk)
			t.Cleanup(func() { require.NoError(t, st.Close()) })
			const root = "user.alice.b"
			before, err := see(st)
			require.NoError(t, err)
			rename := Renaming{From: name("user.alice.a"), To: name("user.alice.b.c")}
			for _, res := range []quota.Resource{quota.Storage, quota.Messages, quota.Folders} {
				limits := quota.NoLimits()
				limits[res] = 2
				if res == quota.Storage {
					limits[res] = 0
				}
				setLimits(t, st, root, limits)
				_, err = st.Rename(ctx, rename)
				require.ErrorIs(t, err, index.ErrOverQuota)
				var over *quota.OverError
				require.ErrorAs(t, err, &over)
				require.Equal(t, res, over.Resource)
				now, err := see(st)
				require.NoError(t, err)
				require.Equal(t, before, now)
				require.Zero(t, exact(t, st)[root])
			}
			setLimits(t, st, root, quota.Limits{1, 3, 0, 3})
			_, err = st.Rename(ctx, rename)
			require.NoError(t, err)
			require.Equal(t, []int64{3, 3}, []int64{exact(t, st)[root][quota.Messages], exact(t, st)[root][quota.Folders]}, "two mailboxes, and the one above them")
			_, err = st.Create(ctx, NewMailbox{Name: name("user.alice.b.d")})
			require.ErrorIs(t, err, index.ErrOverQuota)
			setLimits(t, st, root, quota.NoLimits())
			_, err = st.Create(ctx, NewMailbox{Name: name("user.alice.b.d")})
			require.NoError(t, err)
			require.EqualValues(t, 4, exact(t, st)[root][quota.Folders])

			setLimits(t, st, root, quota.Limits{0, 0, 0, 0}) // full: what makes room is not refused
			_, err = st.Rename(ctx, Renaming{From: name("user.alice.b.c"), To: name("user.alice.b.e")})
			require.NoError(t, err, "within the root nothing is added")
			exact(t, st)
			_, err = st.Rename(ctx, Renaming{From: name("user.alice.b.e.sub"), To: name("user.alice.f")})
			require.NoError(t, err)
			require.EqualValues(t, 2, exact(t, st)[root][quota.Messages])
			_, err = st.Delete(ctx, Deletion{Name: name("user.alice.b.e")})
			require.NoError(t, err)
			require.Zero(t, exact(t, st)[root][quota.Messages])
			_, err = st.Delete(ctx, Deletion{Name: name("user.alice.b.d"), Immediate: true})
			require.NoError(t, err)
			_, err = st.Delete(ctx, Deletion{Name: name("user.alice.b"), Immediate: true})
			require.NoError(t, err)
			require.Zero(t, exact(t, st)[root])
			dirty, err := st.quota.Dirty(ctx)
			require.NoError(t, err)
			require.Empty(t, dirty)
			require.NoError(t, settled(st))
		})
	}
}
