package index

import (
	"errors"
	"fmt"
	"maps"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// boxFiles are the bytes of all files of the workload's mailboxes, those of the journals apart.
func boxFiles(t testing.TB, fsys *simfs.FS) map[string]string {
	all := files(t, fsys, "/box0")
	maps.Copy(all, files(t, fsys, "/box1"))
	return all
}

// TestTxFaults lets every call of every kind of transaction fail, once and from then on. After an error the mailbox is as it
// was, at once, on the disk and after a recovery; after a lack of space so is every byte. Only ErrCommitUnknown leaves it open.
func TestTxFaults(t *testing.T) {
	t.Parallel()
	type fault struct {
		errno syscall.Errno
		mode  faultfs.Mode
		after bool
	}
	all := []fault{{syscall.EIO, faultfs.Once, false}, {syscall.ENOSPC, faultfs.Once, false}, {syscall.EIO, faultfs.Onwards, false},
		{syscall.EIO, faultfs.Once, true}, {syscall.ENOSPC, faultfs.Onwards, false}}
	for k, f := range all {
		t.Run(fmt.Sprintf("%v %v %v", f.errno, f.mode, f.after), func(t *testing.T) {
			t.Parallel()
			base := simfs.New(simfs.Options{})
			startBoxes(t, base, 17)
			faults, unknown := 0, 0
			for i, step := range boxSteps() {
				done := base.Kill()
				boxes := openBoxes(t, t.Context(), done)
				require.NoError(t, step.do(t.Context(), boxes))
				closeBoxes(t, boxes)
				c := faultCase{step: step, base: base, before: boxStates(t, base), after: boxStates(t, done), files: boxFiles(t, base)}
				for n := 0; ; n++ {
					plan := &faultfs.Plan{N: n, Err: f.errno, Mode: f.mode, After: f.after, Short: faultfs.Shorts[(n+k)%len(faultfs.Shorts)]}
					if f.mode == faultfs.Onwards {
						// A header that was written in part could not be taken back. A system writes what lies in one page whole or not.
						plan.Short = faultfs.Nothing
					}
					if f.errno == syscall.ENOSPC {
						plan.Kinds = faultfs.Modifying
					}
					fired, open := c.run(t, plan)
					if !fired {
						break
					}
					faults++
					if open {
						unknown++
					}
				}
				_ = i
				base = done
			}
			t.Log(faults, "faults,", unknown, "left open")
			require.Greater(t, faults, 150)
			if f.mode == faultfs.Once && !f.after {
				require.Zero(t, unknown, "one failure is taken back")
			}
		})
	}
}

type faultCase struct {
	step          boxStep
	base          *simfs.FS
	before, after []string
	files         map[string]string
}

// run makes the step with a fault, and tells whether it came to it, and whether the outcome was left open.
func (c *faultCase) run(t *testing.T, plan *faultfs.Plan) (fired, open bool) {
	fsys := c.base.Kill()
	broken := faultfs.Wrap(fsys, plan)
	var boxes []*Mailbox
	var err error
	for _, p := range boxPlaces() {
		var m *Mailbox
		if m, err = OpenWith(t.Context(), broken, p, OpenOptions{Zone: time.UTC}); err != nil {
			break
		}
		boxes = append(boxes, m)
	}
	if err == nil {
		err = c.step.do(t.Context(), boxes)
	}
	fired = plan.Fired()
	what := fmt.Sprintf("%s, %v: %v", c.step.name, plan, err)
	plan.Stop()
	switch {
	case err == nil:
		c.require(t, fsys, c.after, c.after, what)
	case errors.Is(err, ErrCommitUnknown):
		open = true
	case c.step.name == "move":
		c.require(t, fsys, c.before, c.after, what)
	default:
		require.ErrorIs(t, err, plan.Err, what)
		c.require(t, fsys, c.before, c.before, what)
		if plan.Mode == faultfs.Once && !plan.After {
			require.Equal(t, c.files, boxFiles(t, fsys), what)
		}
	}
	if !open && err != nil && plan.Err == syscall.ENOSPC && len(boxes) == 2 {
		require.ErrorIs(t, err, ErrNoSpace, what)
	}
	c.afterFault(t, fsys, err, what)
	for _, m := range boxes {
		// The handles go on where the disk does.
		require.NoError(t, m.Update(t.Context(), func(tx *Tx) error { _, err := tx.Append(newMail(50)); return err }), what)
		require.NoError(t, m.Close())
		sound(t, fsys, m.place, what)
	}
	require.Zero(t, fsys.OpenFiles(), what)
	return fired, open
}

func (c *faultCase) require(t *testing.T, fsys *simfs.FS, one, other []string, what string) {
	now := boxStates(t, fsys)
	for i := range now {
		require.True(t, now[i] == one[i] || now[i] == other[i], "%s: box %d is\n%s\nnot\n%s", what, i, now[i], one[i])
	}
}

// afterFault looks at what a crash leaves of the disk after the fault, and at the recovery.
func (c *faultCase) afterFault(t *testing.T, fsys *simfs.FS, err error, what string) {
	one, other := c.before, c.before
	switch {
	case err == nil:
		one, other = c.after, c.after
	case errors.Is(err, ErrCommitUnknown), c.step.name == "move":
		other = c.after
	}
	at := fsys.Ops()
	for img := range fsys.Trace().Images(simfs.Search{From: at, Limit: 2, Samples: 2, Seed: uint64(at)}) {
		recoverBoxes(t, img.FS)
		c.require(t, img.FS, one, other, what+", then "+img.Seed)
		for _, p := range boxPlaces() {
			sound(t, img.FS, p, what)
		}
	}
}
