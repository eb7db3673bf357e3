package fuzz

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// TestRebuildErrno has the disk fail twice: the first time so badly that the fate of a change is unknown, and then at
// each call of the rebuild in turn, with which the next change begins. Other processes can lock, read and change the
// file at once, readers of the handle come back, and the handle goes on when the fault is over.
func TestRebuildErrno(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			cells := 0
			for seed := range uint64(campaign(1, 12)) {
				first, err := unknownAt(f, seed)
				if err != nil {
					t.Fatalf("%s, seed %d: %v", f, seed, err)
				}
				for _, like := range []*faultfs.Plan{
					{Kinds: faultfs.All},
					{Kinds: faultfs.All, Mode: faultfs.Onwards},
					{Kinds: faultfs.All, Mode: faultfs.EverySecond},
					{Kinds: faultfs.Modifying, After: true},
					{Kinds: faultfs.Modifying, After: true, Mode: faultfs.Onwards},
				} {
					for _, replaced := range []bool{false, true} {
						for n, fired := 0, true; fired; n++ {
							x := newRebuild(f, seed, first)
							plan := like.At(n)
							if err := x.run(plan, replaced); err != nil {
								t.Fatalf("%s, seed %d, replaced by another process: %v, %v: %v", f, seed, replaced, plan, err)
							}
							fired = plan.Fired()
							cells++
						}
					}
				}
			}
			t.Logf("%d cells", cells)
		})
	}
}

// rebuild is a handle whose disk fails from its first sync number first on, and later once more.
type rebuild struct {
	format        skiplist.Format
	seed          uint64
	disk          *simfs.FS
	first, second *faultfs.Plan
	db            *skiplist.DB
	states        []map[string]string // that the file may hold
}

func newRebuild(f skiplist.Format, seed uint64, first int) *rebuild {
	return &rebuild{format: f, seed: seed, disk: simfs.New(simfs.Options{Seed: seed}),
		first: &faultfs.Plan{Kinds: faultfs.Syncs, Mode: faultfs.Onwards, N: first}}
}

// unknownAt finds out from which sync on the disk has to fail for the fate of the change to be unknown.
func unknownAt(f skiplist.Format, seed uint64) (first int, err error) {
	for ; ; first++ {
		x := newRebuild(f, seed, first)
		err := x.lose(nil)
		if err == nil {
			return first, x.db.Close()
		}
		if !x.first.Fired() {
			return 0, fmt.Errorf("no failing sync leaves the fate of a change unknown: %w", err)
		}
	}
}

// lose brings about a change with an unknown fate.
func (x *rebuild) lose(second *faultfs.Plan) (err error) {
	db, err := skiplist.Open(ctx, dbPath, options(x.disk, x.format, x.seed))
	if err != nil {
		return err
	}
	before := map[string]string{}
	for i := range 5 {
		k := fmt.Sprintf("k%d", i)
		before[k] = "old"
		if err := db.Put(ctx, []byte(k), []byte("old")); err != nil {
			return err
		}
	}
	if err := db.Close(); err != nil {
		return err
	}
	x.second = second
	x.db, err = skiplist.Open(ctx, dbPath, options(faultfs.Wrap(faultfs.Wrap(x.disk, second), x.first), x.format, x.seed))
	if err != nil {
		return err
	}
	after := maps.Clone(before)
	after["k1"] = "new"
	x.states = []map[string]string{before, after}
	if err = x.db.Put(ctx, []byte("k1"), []byte("new")); !errors.Is(err, skiplist.ErrCommitUnknown) {
		return fmt.Errorf("the answer is %w", err)
	}
	x.first.Stop()
	return nil
}

// run loses a change, has the next one, and the rebuild before it, fail as planned, and looks whether all go on.
func (x *rebuild) run(plan *faultfs.Plan, replaced bool) error {
	n := plan.N
	plan.N = 1 << 30
	if err := x.lose(plan); err != nil {
		return err
	}
	if replaced {
		if err := x.another(func(ctx context.Context, db *skiplist.DB) error { return db.Checkpoint(ctx) }); err != nil {
			return err
		}
	}
	plan.N = plan.Count() + n
	if err := x.change("during"); err != nil && !plan.Fired() {
		return fmt.Errorf("without a fault: %w", err)
	}
	plan.Stop()
	// In this order: nothing that a later step does may be what mends an earlier one.
	if err := x.read(); err != nil {
		return fmt.Errorf("the handle after the second fault: %w", err)
	}
	if err := x.crash(); err != nil {
		return err
	}
	if err := x.another(func(ctx context.Context, db *skiplist.DB) error {
		return x.note("other", db.Put(ctx, []byte("other"), []byte("x")))
	}); err != nil {
		return err
	}
	if err := x.change("after"); err != nil {
		return fmt.Errorf("the handle when the fault is over: %w", err)
	}
	if err := x.read(); err != nil {
		return fmt.Errorf("the handle when the fault is over: %w", err)
	}
	if err := closed(x.disk, x.db); err != nil {
		return err
	}
	return x.crash()
}

// change makes one change through the handle.
func (x *rebuild) change(key string) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return x.note(key, x.db.Put(limited, []byte(key), []byte("x")))
}

// note works the answer to a change into the states that the file may have.
func (x *rebuild) note(key string, answer error) error {
	with := make([]map[string]string, len(x.states))
	for i, s := range x.states {
		with[i] = maps.Clone(s)
		with[i][key] = "x"
	}
	switch {
	case answer == nil:
		x.states = with
	case errors.Is(answer, skiplist.ErrCommitUnknown):
		x.states = append(x.states, with...)
	}
	return answer
}

// patience is more than anything takes that does not wait for ever.
const patience = 10 * time.Second

// read has the handle show what it holds.
func (x *rebuild) read() error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer := make(chan error, 1)
	go func() {
		answer <- x.db.View(limited, func(s *skiplist.Snapshot) error { return x.possible(s) })
	}()
	select {
	case err := <-answer:
		return err
	case <-time.After(patience + time.Second):
		return errors.New("a reader does not come back, though its context has ended")
	}
}

func (x *rebuild) possible(r skiplist.Reader) error {
	got, err := all(r)
	if err == nil && !slices.ContainsFunc(x.states, func(s map[string]string) bool { return maps.Equal(got, s) }) {
		err = fmt.Errorf("the records are %v, and may be %v", got, x.states)
	}
	return err
}

// another opens the file as another process does while the handle is open, and reads and uses it.
func (x *rebuild) another(use func(context.Context, *skiplist.DB) error) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	db, err := skiplist.Open(limited, dbPath, skiplist.Options{FS: x.disk, Format: x.format, Random: options(nil, x.format, 3).Random})
	if err == nil {
		defer db.Close()
		if err = db.View(limited, func(s *skiplist.Snapshot) error { return x.possible(s) }); err == nil {
			err = use(limited, db)
		}
	}
	if err != nil {
		return fmt.Errorf("another process: %w", err)
	}
	return nil
}

// crash looks at what a crash, or the end of all processes, leaves now.
func (x *rebuild) crash() error { return after(x.disk, x.format, false, x.states...) }
