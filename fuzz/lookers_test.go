package fuzz

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// TestLookersInterleaved runs four processes on one file, one call at a time in an order that the seed decides: one
// counts and checkpoints, one checkpoints as Cyrus does, which empties the file that it replaces, and two check, plan a
// recovery, salvage and back up, one of them in two goroutines with one handle. Nothing is ever amiss with the file: whoever says
// so has looked at the wrong one, or without the lock. What a backup or a salvage says it has written is whole, though the
// other process writes to the same name, and holds what was acknowledged before it began.
func TestLookersInterleaved(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		t.Run(string(f), func(t *testing.T) {
			steps, runs := 0, campaign(15, 250)
			for seed := range uint64(runs) {
				n, err := lookOn(t, f, seed)
				if err != nil {
					t.Fatalf("%s, seed %d: %v", f, seed, err)
				}
				steps += n
			}
			t.Logf("%d runs, %d steps", runs, steps)
		})
	}
}

func lookOn(t *testing.T, f skiplist.Format, seed uint64) (steps int, err error) {
	disk := simfs.New(simfs.Options{NoTrace: true, NoMap: seed%2 == 0}) // where nothing is mapped each record is a call
	db, err := skiplist.Open(ctx, dbPath, options(disk, f, seed))
	if err == nil {
		err = errors.Join(db.Put(ctx, []byte("sum"), []byte("0")), db.Close())
	}
	if err != nil {
		return 0, err
	}
	c := &counters{f: f, seed: seed}
	report := simfs.Run(t, disk, simfs.Schedule{Seed: seed}, c.writer(0), c.cyrus(), c.looker(1), c.looker(2))
	if c.err != nil {
		return 0, c.err
	}
	if err := c.look(disk.Process("last"), true); err != nil {
		return 0, fmt.Errorf("at the end: %w", err)
	}
	return len(report.Steps), clean(disk, f)
}

// cyrus checkpoints as Cyrus does, as far as others can see.
func (c *counters) cyrus() simfs.Task {
	return func(ctx context.Context, fsys *simfs.FS) {
		for range counted {
			if err := c.checkpointLikeCyrus(ctx, fsys); err != nil {
				c.fail(ctx, fmt.Errorf("checkpoint like Cyrus: %w", err))
			}
		}
	}
}

func (c *counters) checkpointLikeCyrus(ctx context.Context, fsys vfs.FS) error {
	f, err := fsys.Open(dbPath, vfs.ReadWrite, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.Lock(ctx, vfs.Exclusively); err != nil {
		return err
	}
	held, err := f.Stat()
	if err != nil {
		return err
	}
	if named, err := fsys.Stat(dbPath); err != nil || !named.SameFile(held) {
		return err // Cyrus would try again
	}
	content, err := vfs.ReadFile(fsys, dbPath)
	if err != nil {
		return err
	}
	temp := dbPath + ".NEW"
	if err := fsys.Unlink(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n, err := fsys.Open(temp, vfs.ReadWrite|vfs.Create, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = n.Close() }()
	if err := n.Lock(ctx, vfs.Exclusively); err != nil {
		return err
	}
	if _, err := n.WriteAt(content, 0); err != nil {
		return err
	}
	if err := errors.Join(n.Sync(), fsys.Rename(temp, dbPath)); err != nil {
		return err
	}
	if c.f == skiplist.Skiplist {
		return f.Truncate(0)
	}
	return nil
}

// looker looks at the file in every way there is, in k goroutines with one handle.
func (c *counters) looker(k int) simfs.Task {
	return func(ctx context.Context, fsys *simfs.FS) {
		opts := options(fsys, c.f, c.seed+uint64(k))
		opts.Create, opts.ReadOnly, opts.Random = false, true, rand.NewPCG(c.seed, uint64(k)).Uint64
		db, err := skiplist.Open(ctx, dbPath, opts)
		if err != nil {
			c.fail(ctx, fmt.Errorf("looker %d: %w", k, err))
			return
		}
		defer db.Close()
		var wg sync.WaitGroup
		for g := range k {
			r := rand.New(rand.NewPCG(c.seed, uint64(10*k+g)))
			wg.Go(func() {
				for i := range 4 {
					what := []string{"check", "check", "plan", "salvage", "backup", "get"}[r.IntN(6)]
					if err := c.lookAt(ctx, db, opts, what, fmt.Sprintf("/salvaged.%d.%d.%d", k, g, i)); err != nil {
						c.fail(ctx, fmt.Errorf("looker %d.%d, %s: %w", k, g, what, err))
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func (c *counters) lookAt(ctx context.Context, db *skiplist.DB, opts skiplist.Options, what, salvaged string) error {
	acked := c.acknowledged()
	switch what {
	case "check":
		found, err := db.Check(ctx)
		for _, x := range found {
			err = errors.Join(err, fmt.Errorf("%v", x))
		}
		return err
	case "plan":
		plan, err := db.PlanRecovery(ctx)
		if err == nil && plan.Needed {
			err = fmt.Errorf("%+v", plan)
		}
		return err
	case "salvage":
		done, err := skiplist.Salvage(ctx, dbPath, salvaged, skiplist.SalvageOptions{Options: opts})
		for _, x := range done.Findings {
			err = errors.Join(err, fmt.Errorf("%v", x))
		}
		if err != nil {
			return err
		}
		return c.copied(ctx, opts, salvaged, acked)
	case "backup":
		done, err := db.BackupFile(ctx, "/backup")
		if err == nil && done.Size == 0 {
			err = fmt.Errorf("%+v", done)
		}
		if err != nil {
			return err
		}
		return c.copied(ctx, opts, "/backup", acked)
	}
	_, err := db.Get(ctx, []byte("sum"))
	return err
}

// copied tells whether a copy is whole.
func (c *counters) copied(ctx context.Context, opts skiplist.Options, path string, acked [2]int) error {
	found, err := skiplist.Check(ctx, path, opts)
	for _, x := range found {
		err = errors.Join(err, fmt.Errorf("%v", x))
	}
	if err != nil {
		return err
	}
	db, err := skiplist.Open(ctx, path, opts)
	if err != nil {
		return err
	}
	defer db.Close()
	s, err := db.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	got, err := all(s)
	if err != nil || path == "/backup" { // which may be an older one by now, of another process
		acked = [2]int{}
	}
	return errors.Join(err, c.whole(got, acked))
}
