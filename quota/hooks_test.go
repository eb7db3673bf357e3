package quota_test

import (
	"io/fs"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// hookedFS calls hook before its call number at that concerns a name.
type hookedFS struct {
	vfs.FS
	at    int64
	hook  func()
	calls atomic.Int64
}

func (h *hookedFS) call() {
	if h.calls.Add(1) == h.at {
		h.hook()
	}
}

func (h *hookedFS) Open(name string, flag vfs.Flag, perm fs.FileMode) (vfs.File, error) {
	h.call()
	return h.FS.Open(name, flag, perm)
}

func (h *hookedFS) Stat(name string) (vfs.Info, error) {
	h.call()
	return h.FS.Stat(name)
}

func (h *hookedFS) ReadDir(name string) ([]vfs.Entry, error) {
	h.call()
	return h.FS.ReadDir(name)
}

func (h *hookedFS) Rename(old, new string) error {
	h.call()
	return h.FS.Rename(old, new)
}

func (h *hookedFS) Exchange(a, b string) error {
	h.call()
	return h.FS.Exchange(a, b)
}

func (h *hookedFS) Unlink(name string) error {
	h.call()
	return h.FS.Unlink(name)
}

func (h *hookedFS) SyncDir(name string) error {
	h.call()
	return h.FS.SyncDir(name)
}

// simulatedDuring is the store of a scenario on a simulated disk.
func simulatedDuring(t *testing.T, s *duringScenario) *simfs.FS {
	g, disk := simGround(t, simfs.Options{NoMap: true}) // what is mapped changes under readers, as it should, and the race detector does not know that
	root := "user." + s.user()
	g.putRoot(root, rootText("1/1/1"))
	g.create(s.boxes()...)
	g.putRoot(root, rootText("1/1/1"))
	return disk
}

// changeAt recalculates, makes the change before one of the calls of the recalculation, and looks whether the root is right when
// both have ended. It tells whether there was such a call.
func (s *duringScenario) changeAt(t *testing.T, disk *simfs.FS, at int64) bool {
	ctx, root := t.Context(), "user."+s.user()
	g := &ground{t: t, fs: disk.Process("judge"), dir: "/"}
	mail := &ground{t: t, fs: disk.Process("mail"), dir: "/"}
	st := mail.open()
	done := make(chan error, 1)
	hooked := &hookedFS{FS: disk.Process("quota"), at: at}
	hooked.hook = func() {
		ended := make(chan struct{})
		go func() {
			done <- s.ours(ctx, st, root)
			close(ended)
		}()
		// A change that has to wait for the recalculation goes on beside it.
		select {
		case <-ended:
		case <-time.After(3 * time.Millisecond):
		}
	}
	k := g.keep(hooked, false)
	outcomes, err := k.recalculate(ctx, asked{})
	require.NoError(t, err, "call %d", at)
	require.NoError(t, outcomes[root].Err, "call %d", at)
	require.NoError(t, k.close())
	reached := hooked.calls.Load() >= at
	if reached {
		require.NoError(t, <-done, "call %d", at)
		require.Equal(t, s.want, g.counted()[root], "call %d: what is there after the change", at)
	}
	require.NoError(t, st.Close())
	require.Equal(t, g.counted(), g.roots(), "call %d", at)
	return reached
}

// TestScenariosDuring has our store change mailboxes in the middle of a recalculation, before every one of its calls that
// concerns a name.
func TestScenariosDuring(t *testing.T) {
	for _, s := range duringScenarios() {
		t.Run(s.no, func(t *testing.T) {
			t.Parallel()
			disk := simulatedDuring(t, &s)
			at := int64(1)
			for ; s.changeAt(t, disk.Kill(), at); at++ {
				require.Less(t, at, int64(5000))
			}
			require.Greater(t, at, int64(20), "the calls of a recalculation")
			t.Logf("%d calls", at-1)
		})
	}
}
