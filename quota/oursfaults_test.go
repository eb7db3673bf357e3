package quota_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// TestFullDisk: D10. Every call of a recalculation that changes something is refused in turn, once, for want of space or by a bad
// disk. What a root says is then what it said before or what is right; one that is not right is reported; and the next run
// has nothing left to find wrong.
func TestFullDisk(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			g, base := simGround(t, simfs.Options{})
			s := scenario{prepare: func(g *ground) { g.putHeader("user.foo.sub", "user.bar") }}
			s.build(g)
			n := 0
			for ; refusedAt(t, base.Kill(), &faultfs.Plan{N: n, Kinds: faultfs.Modifying, Err: errno}); n++ {
				require.Less(t, n, 2000)
			}
			require.Greater(t, n, 10, "calls that change something")
		})
	}
}

// refusedAt recalculates with a plan of faults, and tells whether it has fired.
func refusedAt(t *testing.T, disk *simfs.FS, plan *faultfs.Plan) bool {
	g := &ground{t: t, fs: disk.Process("judge"), dir: "/"}
	k := g.keep(faultfs.Wrap(disk.Process("quota"), plan), false)
	outcomes, err := k.recalculate(t.Context(), asked{})
	_ = k.close()
	for root, numbers := range g.roots() {
		failed := err != nil || outcomes[root].Err != nil || outcomes[root].Incomplete
		if numbers != baseRight[root] {
			require.Equal(t, "1/1/1", numbers, "%s, fault %d", root, plan.N)
			require.True(t, failed, "%s is wrong, and nobody says so: fault %d", root, plan.N)
		}
	}
	again := g.recalculate(asked{})
	for root, o := range again {
		require.NoError(t, o.Err, root)
	}
	require.Equal(t, baseRight, g.roots(), "fault %d", plan.N)
	require.Equal(t, "user.foo", g.header("user.foo.sub"))
	return plan.Fired()
}

// TestUndeletable: D13. A root whose file cannot be removed is still there, and the deletion says so.
func TestUndeletable(t *testing.T) {
	g, disk := simGround(t, simfs.Options{})
	s := scenario{roots: baseRoots(map[string]string{"user.ghost": rootText("1/1/1", 5)})}
	s.build(g)
	k := g.keep(faultfs.Wrap(disk.Process("quota"), &faultfs.Plan{Kinds: faultfs.Unlink, Err: syscall.EACCES, Mode: faultfs.Onwards, Suffix: "user.ghost"}), false)
	_, err := k.Delete(t.Context(), "user.ghost")
	require.ErrorIs(t, err, syscall.EACCES)
	require.NoError(t, k.close())
	require.Equal(t, rootText("1/1/1", 5), g.rootTexts()["user.ghost"])
	k = g.keep(disk.Process("quota"), false)
	_, err = k.Delete(t.Context(), "user.ghost")
	require.NoError(t, err)
	require.NoError(t, k.close())
	require.NotContains(t, g.roots(), "user.ghost")
}
