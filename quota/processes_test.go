package quota

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// TestRootsOfManyProcesses has processes change one root, make it and remove it, in an order that a seed decides, with room on the disk and
// without; in half of the runs one is killed. No change that was acknowledged is lost, and none is made twice.
func TestRootsOfManyProcesses(t *testing.T) {
	runs := uint64(30)
	if os.Getenv("MAILSPINE_CAMPAIGN") != "" {
		runs = 300
	}
	for _, kind := range []string{"files", "twoskip", "flat"} {
		t.Run(kind, func(t *testing.T) {
			for seed := range runs {
				manyProcesses(t, kinds[kind], seed)
			}
		})
	}
}

func manyProcesses(t *testing.T, lines []string, seed uint64) {
	const workers, rounds = 4, 5
	at := fmt.Sprintf("seed %d", seed)
	disk := newDisk(t, lines, simfs.Options{Blocks: 800, NoTrace: true})
	full := seed%3 == 0
	if full {
		disk.FillUp(0, true)
	}
	var done [workers]int // rounds that were acknowledged
	var made, removed [workers]int
	var tasks []simfs.Task
	for w := range workers {
		tasks = append(tasks, func(ctx context.Context, fsys *simfs.FS) {
			r, err := reopen(fsys)
			if err != nil {
				t.Error(at, err)
				return
			}
			defer func() { _ = r.Close() }()
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			for range rounds {
				_, err := r.Update(ctx, "user.a", func(rec *Record) error { rec.Used[Storage]--; return nil })
				if err != nil {
					if ctx.Err() == nil && !(full && errors.Is(err, ErrNoSpace)) {
						t.Error(at, err)
					}
					continue
				}
				done[w]++
				if random.IntN(2) == 0 && !full {
					churn(ctx, t, r, &made[w], &removed[w])
				}
			}
		})
	}
	schedule := simfs.Schedule{Seed: seed}
	killed := 0
	if seed%2 == 0 {
		schedule.Kill, schedule.KillAt, killed = int(seed/2)%workers, 30+int(seed)*7%150, 1
	}
	report := simfs.Run(t, disk, schedule, tasks...)
	if !report.Killed {
		killed = 0
	}
	r, err := reopen(disk)
	require.NoError(t, err, at)
	defer func() { require.NoError(t, r.Close()) }()
	rec, err := r.Get(ctx, "user.a")
	require.NoError(t, err, at)
	acked, balance := 0, 0
	for w := range workers {
		acked += done[w]
		balance += made[w] - removed[w]
	}
	counted := 100_000 - int(rec.Used[Storage])
	require.True(t, counted >= acked && counted <= acked+killed, "%d changes are there, %d were acknowledged, %s", counted, acked, at)
	require.EqualValues(t, 1+counted, rec.ModSeq, at)
	if killed == 0 {
		found, err := r.Exists(ctx, "user.c")
		require.NoError(t, err)
		require.Equal(t, balance, map[bool]int{true: 1, false: 0}[found], at)
		if !full {
			require.Equal(t, workers*rounds, acked, at)
		}
	}
}

// churn makes or removes a root, under the lock of all changes.
func churn(ctx context.Context, t *testing.T, r *Roots, made, removed *int) {
	held, err := r.LockChanges(ctx)
	if err != nil {
		return // killed
	}
	defer held.Release()
	found, err := r.Exists(ctx, "user.c")
	switch {
	case err != nil:
	case found:
		if err = r.Delete(ctx, "user.c"); err == nil {
			*removed++
		}
	default:
		if err = r.Create(ctx, "user.c", Record{Limits: NoLimits()}); err == nil {
			*made++
		}
	}
	if err != nil && ctx.Err() == nil {
		t.Error(err)
	}
}
