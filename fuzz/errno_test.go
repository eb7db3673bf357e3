package fuzz

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

var errnos = []syscall.Errno{
	syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS, syscall.EFBIG, syscall.EINTR, syscall.EMFILE,
}

// TestErrnoEverywhere fails every call of a workload in turn, with every errno, once, from then on, and every second
// time, and writes also after a part of their bytes: a transaction that failed is invisible, in this process, in the
// next, and after a crash; one that was acknowledged is there; when the fault is over the next change works.
func TestErrnoEverywhere(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			cells, unknown := 0, 0
			all := func(seed uint64, like *faultfs.Plan) {
				n, u := everyCall(t, f, seed, like, false)
				cells += n
				unknown += u
			}
			for seed := range uint64(campaign(1, 3)) {
				for _, mode := range []faultfs.Mode{faultfs.Once, faultfs.Onwards, faultfs.EverySecond} {
					for i, errno := range errnos {
						shorts := []faultfs.Short{faultfs.Shorts[i%len(faultfs.Shorts)]}
						if errno == syscall.EIO && campaign(0, 1) > 0 {
							shorts = faultfs.Shorts
						}
						for _, short := range shorts {
							all(seed, &faultfs.Plan{Err: errno, Mode: mode, Short: short, Kinds: faultfs.All})
						}
					}
					all(seed, &faultfs.Plan{Mode: mode, Short: faultfs.Half, Kinds: faultfs.Modifying})
					// A call may be carried out and report an error all the same, as a rename that a server repeats.
					all(seed, &faultfs.Plan{Mode: mode, After: true, Kinds: faultfs.Modifying})
				}
			}
			t.Logf("%d cells, %d answers ErrCommitUnknown", cells, unknown)
		})
	}
}

// TestReadErrors fails every read of a workload on a host that cannot map files, where a read stands in for every touch
// of a page.
func TestReadErrors(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			cells := 0
			for seed := range uint64(campaign(1, 8)) {
				for _, mode := range []faultfs.Mode{faultfs.Once, faultfs.EverySecond} {
					n, _ := everyCall(t, f, seed, &faultfs.Plan{Kinds: faultfs.Read, Mode: mode}, true)
					cells += n
				}
			}
			t.Logf("%d failed reads", cells)
		})
	}
}

func everyCall(t *testing.T, f skiplist.Format, seed uint64, like *faultfs.Plan, noMap bool) (cells, unknown int) {
	for n := 0; ; n++ {
		plan := like.At(n)
		u, err := faulty(f, seed, plan, noMap)
		if err != nil {
			t.Fatalf("%s, seed %d: after %d cells: %v: %v", f, seed, cells, plan, err)
		}
		if !plan.Fired() {
			return cells, unknown
		}
		cells++
		unknown += u
	}
}

// spoilsHeads tells whether a plan may leave a twoskip head written in part: it cuts writes off in the middle, and then
// refuses to have them taken back. No system does that within one sector, and a head lies within one; if it happens the
// file is refused (the lengths of key and value have no other checksum), and a salvage loses nothing.
func spoilsHeads(f skiplist.Format, plan *faultfs.Plan) bool {
	return f == skiplist.Twoskip && plan.Mode != faultfs.Once && plan.Short >= faultfs.Half && !plan.After
}

// faulty runs a few transactions on a disk that fails as planned, and then looks at what is left.
func faulty(f skiplist.Format, seed uint64, plan *faultfs.Plan, noMap bool) (unknown int, err error) {
	spoilt := spoilsHeads(f, plan)
	disk := simfs.New(simfs.Options{Seed: seed ^ uint64(plan.N)*7, NoMap: noMap})
	r := rand.New(rand.NewPCG(seed, 3))
	state := map[string]string{}
	db, err := skiplist.Open(ctx, dbPath, options(disk, f, seed))
	if err != nil {
		return 0, err
	}
	if err := db.Update(ctx, change(r, state)); err != nil {
		return 0, err
	}
	if err := db.Close(); err != nil {
		return 0, err
	}
	bad := faultfs.Wrap(disk, plan)
	db, err = skiplist.Open(ctx, dbPath, options(bad, f, seed))
	if err != nil { // the fault hit the opening
		plan.Stop()
		if n := disk.OpenFiles(); n > 0 {
			return 0, fmt.Errorf("%d files are open after the open failed: %w", n, err)
		}
		return 0, after(disk, f, spoilt, state, state)
	}
	maybe := state
	for i := range 4 {
		next := maps.Clone(state)
		fn := change(r, next)
		if i == 2 {
			fn, next = func(*skiplist.Tx) error { return nil }, state
			_ = db.Checkpoint(ctx)
		}
		before := plan.Faults()
		commit := db.Update
		if i == 1 {
			commit = db.Batch
		}
		err := commit(ctx, fn)
		answer := err
		switch {
		case err == nil:
			state, maybe = next, next
			if err := clean(disk.Kill(), f); err != nil {
				return unknown, fmt.Errorf("transaction %d was acknowledged: %w", i, err)
			}
		case errors.Is(err, skiplist.ErrCommitUnknown):
			unknown++
			maybe = next
			if plan.Faults()-before < 2 {
				return unknown, fmt.Errorf("ErrCommitUnknown after a single fault: %w", err)
			}
		default:
			if got, e := contents(db); e == nil && !maps.Equal(got, state) {
				return unknown, fmt.Errorf("after the failure of transaction %d the handle shows what it should not: %w", i, err)
			}
		}
		if plan.Fired() {
			// Now, before anything later mends it.
			if err := after(disk, f, spoilt, state, maybe); err != nil {
				return unknown, fmt.Errorf("right after transaction %d (%v): %w", i, answer, err)
			}
		}
		if unknown > 0 {
			break // what follows depends on what the file holds
		}
	}
	plan.Stop()
	// After ErrCommitUnknown the handle rebuilds the database, with the transaction or without it.
	err = db.Put(ctx, []byte("last"), []byte("one"))
	switch {
	case err == nil:
		state, maybe = maps.Clone(state), maps.Clone(maybe)
		state["last"], maybe["last"] = "one", "one"
	case !spoilt || !errors.Is(err, skiplist.ErrDamaged):
		return unknown, fmt.Errorf("the same handle, when the fault is over: %w", err)
	}
	if err := closed(disk, db); err != nil {
		return unknown, err
	}
	return unknown, after(disk, f, spoilt, state, maybe)
}

// closed closes the only handle of a disk and sees to it that no file stays open.
func closed(disk *simfs.FS, db *skiplist.DB) error {
	err := db.Close()
	if n := disk.OpenFiles(); err == nil && n > 0 {
		err = fmt.Errorf("%d files are open after the last handle was closed", n)
	}
	return err
}

// after looks at the disk as another process sees it, and as a crash leaves it: in one of the states.
func after(disk *simfs.FS, f skiplist.Format, spoilt bool, states ...map[string]string) error {
	trace := disk.Trace()
	for img := range trace.Images(simfs.Search{Limit: 4, Samples: 4, From: trace.Len()}) {
		if err := successor(img.FS, f, spoilt, states); err != nil {
			return fmt.Errorf("after a crash, %s: %w", img.Seed, err)
		}
	}
	// What was read from the page cache may not be what the disk holds.
	evicted := disk.Kill()
	evicted.DropCaches()
	if err := successor(evicted, f, spoilt, states); err != nil {
		return fmt.Errorf("the next process, without the page cache: %w", err)
	}
	next := disk.Kill()
	err := sound(next, f)
	if err == nil || spoilt && errors.Is(err, skiplist.ErrDamaged) {
		err = successor(next, f, spoilt, states)
	}
	if err != nil {
		return fmt.Errorf("the next process: %w", err)
	}
	return nil
}

// successor opens the file and goes on with it; if it may be spoilt a salvage has to do.
func successor(disk *simfs.FS, f skiplist.Format, spoilt bool, states []map[string]string) error {
	var kept *simfs.FS
	if spoilt {
		kept = disk.Kill()
	}
	got, err := verify(disk, f, states, 0, len(states)-1)
	if err == nil {
		err = goOn(disk, f, got)
	}
	if !spoilt || !errors.Is(err, skiplist.ErrDamaged) {
		return err
	}
	const out = "/out"
	if _, err := skiplist.Salvage(ctx, dbPath, out, skiplist.SalvageOptions{Options: options(kept, f, 1)}); err != nil {
		return err
	}
	saved, err := skiplist.Open(ctx, out, options(kept, f, 1))
	if err != nil {
		return err
	}
	defer saved.Close()
	if got, err = contents(saved); err == nil && !slices.ContainsFunc(states, func(s map[string]string) bool { return maps.Equal(got, s) }) {
		err = fmt.Errorf("the salvage brings out %v, there were %v", got, states)
	}
	return err
}

// TestOneFailedSync fails each sync once, and leaves none, some or all of its pages on the disk: no answer is
// ErrCommitUnknown, and a refused transaction does not come back.
func TestOneFailedSync(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			cells := 0
			for seed := range uint64(campaign(8, 200)) {
				for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
					n, unknown := everyCall(t, f, 100+seed, &faultfs.Plan{Err: errno, Kinds: faultfs.Syncs}, false)
					cells += n
					if unknown > 0 {
						t.Fatalf("seed %d, %v: ErrCommitUnknown after one failed sync", seed, errno)
					}
				}
			}
			t.Logf("%d failed syncs", cells)
		})
	}
}
