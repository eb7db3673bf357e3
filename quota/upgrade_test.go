package quota_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/store"
)

// TestUpgradeCountsAnew: a change of version across 12, which finds the counters of a mailbox wrong has its quota root counted once more.
func TestUpgradeCountsAnew(t *testing.T) {
	g, _ := simGround(t, simfs.Options{NoTrace: true})
	(&scenario{}).build(g)
	g.putIndex("user.foo.sub", func(h *index.Header) { h.QuotaUsed, h.Exists = 99999, 50 })
	g.count(quota.Recalculation{Roots: []string{"user.foo"}})
	require.Equal(t, "102999/53/2", g.roots()["user.foo"], "what headers say is believed")
	g.opened(func(st *store.Store) {
		m, err := st.OpenMailbox(background, mboxdb.InternalName("user.foo.sub"))
		require.NoError(t, err)
		_, err = m.Repack(background, 10, index.RepackOptions{})
		require.NoError(t, err)
		require.NoError(t, m.Close())
	})
	require.Equal(t, "7000/5/2", g.roots()["user.foo"])
}
