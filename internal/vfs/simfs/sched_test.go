package simfs_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/stretchr/testify/require"
)

// adder adds one to the counter in /n, several times, under its lock.
func adder(t *testing.T, times int) simfs.Task {
	return func(ctx context.Context, fs *simfs.FS) {
		f, err := fs.Open("/n", vfs.ReadWrite|vfs.Create, 0o600)
		require.NoError(t, err)
		defer func() { _ = f.Close() }()
		for range times {
			require.NoError(t, f.Lock(ctx, vfs.Exclusively))
			increment(t, f)
			require.NoError(t, f.Unlock())
		}
	}
}

func increment(t *testing.T, f vfs.File) {
	p := make([]byte, 1)
	_, _ = f.ReadAt(p, 0)
	p[0]++
	_, err := f.WriteAt(p, 0)
	require.NoError(t, err)
}

func counter(t *testing.T, fs *simfs.FS) int {
	p, err := vfs.ReadFile(fs, "/n")
	require.NoError(t, err)
	return int(p[0])
}

func TestRunRepeatsForItsSeed(t *testing.T) {
	orders := map[string]bool{}
	for seed := range uint64(10) {
		var first []simfs.Step
		for try := range 3 {
			fs := simfs.New(simfs.Options{})
			report := simfs.Run(t, fs, simfs.Schedule{Seed: seed}, adder(t, 5), adder(t, 5), adder(t, 5))
			require.Equal(t, 15, counter(t, fs))
			if try == 0 {
				first = report.Steps
				orders[fmt.Sprint(first)] = true
			}
			require.Equal(t, first, report.Steps)
		}
	}
	require.Len(t, orders, 10, "seeds differ")
}

// TestRunKillsSeveral: each of several processes ends before the call that is planned for it, and the others go on.
func TestRunKillsSeveral(t *testing.T) {
	fs := simfs.New(simfs.Options{})
	report := simfs.Run(t, fs, simfs.Schedule{Seed: 3, Kill: 2, KillAt: 9, Kills: map[int]int{0: 4, 1: 1, 3: 1000}},
		adder(t, 5), adder(t, 5), adder(t, 5), adder(t, 5))
	require.True(t, report.Killed)
	calls := map[int]int{}
	for _, s := range report.Steps {
		if s.Call != "start" {
			calls[s.Task]++
		}
	}
	// The call before which a task was killed is among the steps, and so is the deferred one that reaches no disk.
	for task, at := range []int{4, 1, 9} {
		require.LessOrEqual(t, at, calls[task])
		require.LessOrEqual(t, calls[task], at+1)
	}
	require.GreaterOrEqual(t, counter(t, fs), 5, "the one that goes on")
}

func TestRunFindsARace(t *testing.T) {
	lost := 0
	for seed := range uint64(20) {
		fs := simfs.New(simfs.Options{})
		racy := func(_ context.Context, fs *simfs.FS) {
			f, err := fs.Open("/n", vfs.ReadWrite|vfs.Create, 0o600)
			require.NoError(t, err)
			increment(t, f)
			require.NoError(t, f.Close())
		}
		simfs.Run(t, fs, simfs.Schedule{Seed: seed}, racy, racy)
		if counter(t, fs) == 1 {
			lost++
		}
	}
	require.Positive(t, lost, "some seed loses an update")
	require.Less(t, lost, 20, "some seed loses none")
}

func TestRunKills(t *testing.T) {
	for at := 1; ; at++ {
		fs := simfs.New(simfs.Options{})
		cleaned := false
		victim := func(ctx context.Context, fs *simfs.FS) {
			defer func() { cleaned = true }()
			adder(t, 2)(ctx, fs)
		}
		report := simfs.Run(t, fs, simfs.Schedule{Seed: 3, Kill: 0, KillAt: at}, victim, adder(t, 3))
		require.True(t, cleaned)
		n := counter(t, fs)
		if !report.Killed {
			require.Equal(t, 5, n)
			require.Greater(t, at, 10)
			return
		}
		require.GreaterOrEqual(t, n, 3, "the survivor gets the lock of the killed")
	}
}

func TestRunWithMutexAcrossCalls(t *testing.T) {
	fs := simfs.New(simfs.Options{})
	simfs.Run(t, fs, simfs.Schedule{Seed: 1}, func(_ context.Context, fs *simfs.FS) {
		f, err := fs.Open("/n", vfs.ReadWrite|vfs.Create, 0o600)
		require.NoError(t, err)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				mu.Lock()
				defer mu.Unlock()
				increment(t, f)
			})
		}
		wg.Wait()
	})
	require.Equal(t, 4, counter(t, fs))
}

func TestRunLetsTimePass(t *testing.T) {
	fs := simfs.New(simfs.Options{})
	simfs.Run(t, fs, simfs.Schedule{}, func(ctx context.Context, fs *simfs.FS) {
		f, err := fs.Open("/n", vfs.ReadWrite|vfs.Create, 0o600)
		require.NoError(t, err)
		require.NoError(t, f.Lock(ctx, vfs.Exclusively))
		time.Sleep(time.Hour)
		require.NoError(t, f.Unlock())
	}, func(ctx context.Context, fs *simfs.FS) {
		time.Sleep(time.Second)
		f, err := fs.Open("/n", vfs.ReadWrite|vfs.Create, 0o600)
		require.NoError(t, err)
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		require.ErrorIs(t, f.Lock(short, vfs.Shared), context.DeadlineExceeded)
		require.NoError(t, f.Lock(ctx, vfs.Shared))
	})
}

// TestRunReportsADeadlock runs itself again, because a deadlock fails the test that meets it.
func TestRunReportsADeadlock(t *testing.T) {
	if os.Getenv("SIMFS_DEADLOCK") == "" {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestRunReportsADeadlock$", "-test.timeout", "20s")
		cmd.Env = append(os.Environ(), "SIMFS_DEADLOCK=1")
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "simfs.Run: seed 0x7: deadlock after")
		require.NotContains(t, string(out), "test timed out")
		return
	}
	fs := simfs.New(simfs.Options{})
	cross := func(first, second string) simfs.Task {
		return func(ctx context.Context, fs *simfs.FS) {
			for range 100 {
				f, err := fs.Open(first, vfs.ReadWrite|vfs.Create, 0o600)
				require.NoError(t, err)
				g, err := fs.Open(second, vfs.ReadWrite|vfs.Create, 0o600)
				require.NoError(t, err)
				require.NoError(t, f.Lock(ctx, vfs.Exclusively))
				require.NoError(t, g.Lock(ctx, vfs.Exclusively))
				require.NoError(t, f.Close())
				require.NoError(t, g.Close())
			}
		}
	}
	simfs.Run(t, fs, simfs.Schedule{Seed: 7}, cross("/a", "/b"), cross("/b", "/a"))
}
