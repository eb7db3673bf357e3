package fuzz

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// TestInterleaved runs three processes on one file, one call at a time in an order that the seed decides: two count, and
// now and then checkpoint or open the file anew, and one reads. In every second run one of those that count is killed.
// What was acknowledged before a snapshot began is in it, every snapshot holds whole transactions and stays as it is, and no
// count is lost.
func TestInterleaved(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		t.Run(string(f), func(t *testing.T) {
			steps, runs := 0, campaign(200, 2000)
			for seed := range uint64(runs) {
				n, err := interleave(t, f, seed)
				if err != nil {
					t.Fatalf("%s, seed %d: after %d runs: %v", f, seed, seed, err)
				}
				steps += n
			}
			t.Logf("%d runs, %d steps", runs, steps)
		})
	}
}

func interleave(t *testing.T, f skiplist.Format, seed uint64) (steps int, err error) {
	disk := simfs.New(simfs.Options{})
	db, err := skiplist.Open(ctx, dbPath, options(disk, f, seed))
	if err != nil {
		return 0, err
	}
	if err := db.Close(); err != nil {
		return 0, err
	}
	c := &counters{f: f, seed: seed}
	schedule := simfs.Schedule{Seed: seed}
	if seed%2 == 1 {
		schedule.Kill, schedule.KillAt = int(seed/2%2), 1+rand.New(rand.NewPCG(seed, 4)).IntN(150)
	}
	report := simfs.Run(t, disk, schedule, c.writer(0), c.writer(1), c.reader())
	if c.err != nil {
		return 0, c.err
	}
	if err := c.look(disk.Process("last"), true); err != nil {
		return 0, fmt.Errorf("at the end: %w", err)
	}
	if err := sound(disk, f); err != nil {
		return 0, err
	}
	return len(report.Steps), goOn(disk, f, c.final)
}

// counters is what the processes know of each other's progress.
type counters struct {
	f    skiplist.Format
	seed uint64

	mu           sync.Mutex
	begun, acked [2]int
	err          error
	final        map[string]string
}

func (c *counters) fail(ctx context.Context, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() == nil && c.err == nil { // a process that was killed has nothing to complain about
		c.err = err
	}
}

// counted is how often a writer counts.
const counted = 6

func (c *counters) writer(k int) simfs.Task {
	return func(ctx context.Context, fs *simfs.FS) {
		r := rand.New(rand.NewPCG(c.seed, uint64(k)))
		if err := c.count(ctx, fs, k, r); err != nil {
			c.fail(ctx, fmt.Errorf("writer %d: %w", k, err))
		}
	}
}

func (c *counters) count(ctx context.Context, fs *simfs.FS, k int, r *rand.Rand) error {
	opts := options(fs, c.f, c.seed+uint64(k))
	opts.Create = false
	db, err := skiplist.Open(ctx, dbPath, opts)
	if err != nil {
		return err
	}
	times := counted
	if c.seed%3 == 0 && k == 0 {
		times *= 3
	}
	for i := range times {
		if c.seed%3 == 0 && k == 1 {
			for range r.IntN(60) {
				_, _ = fs.Stat("/") // busy with something else, while the file is replaced again and again
			}
		}
		c.mu.Lock()
		c.begun[k]++
		c.mu.Unlock()
		err := db.Update(ctx, func(tx *skiplist.Tx) error { return c.add(tx, k) })
		if err != nil {
			return fmt.Errorf("change %d: %w", i, err)
		}
		c.mu.Lock()
		c.acked[k]++
		c.mu.Unlock()
		then := r.IntN(4)
		if c.seed%3 == 0 {
			then = 2 * k // one replaces the file all the time, and the other finds it replaced
		}
		switch then {
		case 0:
			if err := db.Checkpoint(ctx); err != nil {
				return fmt.Errorf("checkpoint after change %d: %w", i, err)
			}
		case 1:
			if err := db.Close(); err != nil {
				return err
			}
			if db, err = skiplist.Open(ctx, dbPath, opts); err != nil {
				return fmt.Errorf("open after change %d: %w", i, err)
			}
		}
	}
	return db.Close()
}

// add counts up the writer's own number and the sum of all.
func (c *counters) add(tx *skiplist.Tx, k int) error {
	for _, key := range []string{"own" + strconv.Itoa(k), "sum"} {
		old := 0
		if v, err := tx.Get([]byte(key)); err == nil {
			old, _ = strconv.Atoi(string(v))
		}
		if err := tx.Put([]byte(key), []byte(strconv.Itoa(old+1))); err != nil {
			return err
		}
	}
	return nil
}

func (c *counters) reader() simfs.Task {
	return func(ctx context.Context, fs *simfs.FS) {
		if err := c.look(fs, false); err != nil {
			c.fail(ctx, fmt.Errorf("reader: %w", err))
		}
	}
}

// look takes snapshots and holds them against the counters.
func (c *counters) look(fs *simfs.FS, last bool) error {
	opts := options(fs, c.f, c.seed)
	opts.Create, opts.ReadOnly = false, true
	db, err := skiplist.Open(ctx, dbPath, opts)
	if err != nil {
		return err
	}
	defer db.Close()
	var kept *skiplist.Snapshot
	var was map[string]string
	for i := range 12 {
		acked := c.acknowledged()
		s, err := db.Snapshot(ctx)
		if err != nil {
			return err
		}
		if kept != nil {
			now, err := all(kept)
			if err == nil && !maps.Equal(now, was) {
				err = errors.New("it has changed")
			}
			if err != nil {
				return fmt.Errorf("snapshot %d, looked at again: %w", i-1, err)
			}
			kept.Close()
		}
		got, err := all(s)
		if err != nil {
			return fmt.Errorf("snapshot %d: %w", i, err)
		}
		kept, was = s, got
		if err := c.whole(got, acked); err != nil {
			return fmt.Errorf("snapshot %d: %w", i, err)
		}
		if last {
			c.final = got
			return nil
		}
	}
	return nil
}

func (c *counters) acknowledged() [2]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acked
}

// whole tells whether records are those of a state that came after what was acknowledged, and not half a transaction.
func (c *counters) whole(got map[string]string, acked [2]int) error {
	c.mu.Lock()
	begun := c.begun
	c.mu.Unlock()
	sum := 0
	for k := range acked {
		n, _ := strconv.Atoi(got["own"+strconv.Itoa(k)])
		if n < acked[k] || n > begun[k] {
			return fmt.Errorf("writer %d has counted to %d, acknowledged before were %d, begun %d", k, n, acked[k], begun[k])
		}
		sum += n
	}
	if n, _ := strconv.Atoi(got["sum"]); n != sum {
		return fmt.Errorf("half a transaction: the sum is %d, the numbers add up to %d", n, sum)
	}
	return nil
}

// TestRestoredInPlace writes another database over the file, as cp does when a backup is restored: the inode stays, the
// file grows, and only the commit that stands where the log had ended tells that this is not its continuation. Where both
// logs have the same there nothing tells them apart: in skiplist it is a constant word.
func TestRestoredInPlace(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		t.Run(string(f), func(t *testing.T) {
			seen := 0
			for seed := range uint64(campaign(20, 200)) {
				disk, other := simfs.New(simfs.Options{}), simfs.New(simfs.Options{})
				want := map[string]string{}
				fill(t, other, f, seed+1000, 6, want)
				fill(t, disk, f, seed, 1, map[string]string{})
				db, err := skiplist.Open(ctx, dbPath, options(disk, f, seed))
				require.NoError(t, err)
				backup, err := vfs.ReadFile(other, dbPath)
				require.NoError(t, err)
				before, err := vfs.ReadFile(disk, dbPath)
				require.NoError(t, err)
				end, mark := len(before), map[skiplist.Format]int{skiplist.Skiplist: 4, skiplist.Twoskip: 24}[f]
				if mark > 0 && len(backup) >= end && string(backup[end-mark:end]) == string(before[end-mark:]) {
					continue
				}
				seen++
				overwrite(t, disk.Process("cp"), backup)

				got, err := contents(db)
				require.NoError(t, err, "seed %d", seed)
				require.Equal(t, want, got, "seed %d", seed)
				require.NoError(t, db.Put(ctx, []byte("next"), []byte("works")))
				require.NoError(t, db.Close())
				want["next"] = "works"
				got, err = verify(disk, f, []map[string]string{want}, 0, 0)
				require.NoError(t, err)
				require.NoError(t, clean(disk, f))
				require.True(t, maps.Equal(want, got))
			}
			require.Greater(t, seen, 10)
		})
	}
}

// fill makes a database with n transactions, of records that are all as high and nearly as long, so that in two files
// many stand at the same places.
func fill(t *testing.T, disk *simfs.FS, f skiplist.Format, seed uint64, n int, model map[string]string) {
	opts := options(disk, f, seed)
	opts.Random = func() uint64 { return 1 }
	db, err := skiplist.Open(ctx, dbPath, opts)
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(seed, 1))
	for range n {
		require.NoError(t, db.Update(ctx, func(tx *skiplist.Tx) error {
			for range 1 + r.IntN(3) {
				k, v := "k"+strconv.Itoa(len(model)), strings.Repeat("v", 4+4*r.IntN(2))
				model[k] = v
				if err := tx.Put([]byte(k), []byte(v)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	require.NoError(t, db.Close())
}

func overwrite(t *testing.T, fsys vfs.FS, content []byte) {
	file, err := fsys.Open(dbPath, vfs.ReadWrite, 0)
	require.NoError(t, err)
	require.NoError(t, file.Lock(ctx, vfs.Exclusively))
	_, err = file.WriteAt(content, 0)
	require.NoError(t, err)
	require.NoError(t, file.Truncate(int64(len(content))))
	require.NoError(t, file.Close())
}
