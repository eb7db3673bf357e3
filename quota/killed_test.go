package quota_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/store"
)

// TestScenarioKilled: 19. A recalculation is killed before one of its calls, a message is delivered, and the next recalculation has
// the right numbers. In a campaign that is done before every call, else before some.
func TestScenarioKilled(t *testing.T) {
	g, base := simGround(t, simfs.Options{})
	s := scenario{prepare: func(g *ground) { g.putHeader("user.foo.sub", "user.bar") }}
	s.build(g)
	right := wants(map[string]string{"user.foo": "8000/6/2"})
	at, step := 1, 11
	switch {
	case os.Getenv("MAILSPINE_CAMPAIGN") != "":
		step = 1
	case testing.Short():
		step = 41
	}
	for ; ; at += step {
		disk := base.Kill()
		report := simfs.Run(t, disk, simfs.Schedule{Kill: 0, KillAt: at}, func(ctx context.Context, fs *simfs.FS) {
			k := (&ground{t: t, fs: fs, dir: "/"}).keep(fs, false)
			_, err := k.recalculate(ctx, asked{})
			if err = errors.Join(err, k.close()); err != nil {
				t.Errorf("call %d: %v", at, err)
			}
		})
		after := &ground{t: t, fs: disk.Process("after"), dir: "/"}
		after.opened(func(st *store.Store) {
			require.NoError(t, deliverTo(t.Context(), st, "user.foo", 1, 1000), "killed before call %d", at)
		})
		after.recalculate(asked{})
		require.Equal(t, right, after.roots(), "killed before call %d", at)
		require.Equal(t, right, after.counted(), "killed before call %d", at)
		if !report.Killed {
			break
		}
	}
	require.Greater(t, at, 200, "the calls of a recalculation")
	t.Logf("%d calls", at-1)
}
