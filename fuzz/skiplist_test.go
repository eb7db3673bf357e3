package fuzz

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

var ctx = context.Background()

// reproduce runs one image only, from the line that a failure prints.
var reproduce = flag.String("image", "", `one crash image: "WORKLOAD op=..." as printed by a failure`)

const dbPath = "/db"

// options make runs repeatable: the heights of records come from the seed.
func options(fsys vfs.FS, f skiplist.Format, seed uint64) skiplist.Options {
	return skiplist.Options{FS: fsys, Format: f, Create: true, Reserve: 4096, Random: rand.NewPCG(seed, 9).Uint64}
}

// campaign scales a count: as it is for go test ./..., more for longer campaigns.
func campaign(short, ci int) int {
	switch os.Getenv("MAILSPINE_CAMPAIGN") {
	case "":
		return short
	case "nightly":
		return 10 * ci
	}
	return ci
}

// history is what a workload did: the states after each transaction, the first of them empty. A mark "begin N" in the
// trace says that transaction N was begun, "ack N" that it was acknowledged.
type history struct {
	states []map[string]string
}

func (h *history) last() map[string]string { return h.states[len(h.states)-1] }

// TestSanity opens, changes, reopens, recovers and checks a database of each format on the real file system.
func TestSanity(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		path := filepath.Join(t.TempDir(), string(f))
		opts := skiplist.Options{Format: f, Create: true}
		db, err := skiplist.Open(ctx, path, opts)
		require.NoError(t, err)
		require.NoError(t, db.Put(ctx, []byte("k"), []byte("v")))
		require.NoError(t, db.Close())
		db, err = skiplist.Open(ctx, path, opts)
		require.NoError(t, err)
		v, err := db.Get(ctx, []byte("k"))
		require.NoError(t, err)
		require.Equal(t, "v", string(v))
		_, err = db.Recover(ctx)
		require.NoError(t, err)
		require.NoError(t, db.Close())
		found, err := skiplist.Check(ctx, path, opts)
		require.NoError(t, err)
		require.Empty(t, found)
	}
}

// change draws the changes of one transaction and applies them to a model.
func change(r *rand.Rand, model map[string]string) func(*skiplist.Tx) error {
	type kv struct {
		k, v string
		del  bool
	}
	var list []kv
	for range 1 + r.IntN(4) {
		k := "k" + strconv.Itoa(r.IntN(12))
		if r.IntN(3) == 0 {
			list = append(list, kv{k: k, del: true})
			delete(model, k)
			continue
		}
		v := strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(200)) + strconv.Itoa(r.IntN(1000))
		if r.IntN(12) == 0 {
			v = strings.Repeat("L", 1500)
		}
		list = append(list, kv{k: k, v: v})
		model[k] = v
	}
	return func(tx *skiplist.Tx) error {
		for _, c := range list {
			var err error
			if c.del {
				err = tx.Delete([]byte(c.k))
			} else {
				err = tx.Put([]byte(c.k), []byte(c.v))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// group has three callers of Batch commit together: fn, one that fails after a change, and an Insert. Two of them, or
// none, are found after a crash. It must run in a bubble of synctest, which tells when all callers wait.
func group(db *skiplist.DB, fn func(*skiplist.Tx) error, model map[string]string, n int) error {
	refused := errors.New("refused")
	fresh := "g" + strconv.Itoa(n)
	model[fresh] = "grouped"
	calls := []func(*skiplist.Tx) error{
		fn,
		func(tx *skiplist.Tx) error { return errors.Join(tx.Put([]byte("never"), []byte("seen")), refused) },
		func(tx *skiplist.Tx) error { return tx.Insert([]byte(fresh), []byte("grouped")) },
	}
	errs := make([]error, len(calls))
	var wg sync.WaitGroup
	// A transaction without changes holds the turn until all callers stand in the queue, in this order.
	err := db.Update(ctx, func(*skiplist.Tx) error {
		for i, call := range calls {
			wg.Go(func() { errs[i] = db.Batch(ctx, call) })
			synctest.Wait()
		}
		return nil
	})
	wg.Wait()
	if !errors.Is(errs[1], refused) {
		return fmt.Errorf("the call that fails returned %w", errs[1])
	}
	return errors.Join(err, errs[0], errs[2])
}

// record is play in a bubble.
func record(t *testing.T, disk *simfs.FS, f skiplist.Format, seed uint64, n int) (h *history) {
	synctest.Test(t, func(t *testing.T) { h = play(t, disk, f, seed, n) })
	return h
}

// TestRepeatable: a workload makes the same calls each time, or no seed could reproduce a failure.
func TestRepeatable(t *testing.T) {
	for seed := range uint64(20) {
		a, b := simfs.New(simfs.Options{}), simfs.New(simfs.Options{})
		ha, hb := record(t, a, skiplist.Twoskip, seed, 8), record(t, b, skiplist.Twoskip, seed, 8)
		require.Equal(t, ha.states, hb.states)
		ta, tb := a.Trace(), b.Trace()
		require.Equal(t, ta.Len(), tb.Len(), "seed %d", seed)
		for i := range ta.Len() {
			require.Equal(t, ta.Op(i), tb.Op(i), "seed %d", seed)
		}
	}
}

// play runs a workload of n transactions, some checkpoints and reopens between them.
func play(t testing.TB, disk *simfs.FS, f skiplist.Format, seed uint64, n int) *history {
	r := rand.New(rand.NewPCG(seed, 1))
	h := &history{states: []map[string]string{{}}}
	db, err := skiplist.Open(ctx, dbPath, options(disk, f, seed))
	require.NoError(t, err)
	for i := range n {
		next := maps.Clone(h.last())
		fn := change(r, next)
		h.states = append(h.states, next)
		disk.Mark(fmt.Sprintf("begin %d", i+1))
		switch r.IntN(4) {
		case 0, 1:
			err = db.Update(ctx, fn)
		case 2:
			err = db.Batch(ctx, fn)
		default:
			err = group(db, fn, next, i)
		}
		require.NoError(t, err)
		disk.Mark(fmt.Sprintf("ack %d", i+1))
		switch r.IntN(8) {
		case 0:
			require.NoError(t, db.Checkpoint(ctx))
		case 1:
			require.NoError(t, db.Close())
			db, err = skiplist.Open(ctx, dbPath, options(disk, f, seed+uint64(i)))
			require.NoError(t, err)
		}
	}
	require.NoError(t, db.Close())
	return h
}

// allowed returns what an image may hold: the state last acknowledged before the crash, or the one under way.
func (h *history) allowed(marks []string) (acked, begun int) {
	for _, m := range marks {
		var n int
		if _, err := fmt.Sscanf(m, "ack %d", &n); err == nil {
			acked = n
		}
		if _, err := fmt.Sscanf(m, "begin %d", &n); err == nil {
			begun = n
		}
	}
	return acked, begun
}

// verify opens an image as the next process does, and holds it against what was acknowledged. It returns the state.
func verify(disk *simfs.FS, f skiplist.Format, states []map[string]string, acked, begun int) (map[string]string, error) {
	opts := options(disk, f, 5)
	opts.Create = acked == 0 && begun == 0 // else a lost file would pass for an empty one
	db, err := skiplist.Open(ctx, dbPath, opts)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	got, err := contents(db)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(states[acked:begun+1], func(s map[string]string) bool { return maps.Equal(got, s) }) {
		return nil, fmt.Errorf("%d records, neither those of transaction %d (%d), acknowledged, nor those of %d (%d)",
			len(got), acked, len(states[acked]), begun, len(states[begun]))
	}
	return got, nil
}

func contents(db *skiplist.DB) (map[string]string, error) {
	var got map[string]string
	err := db.View(ctx, func(s *skiplist.Snapshot) (err error) {
		got, err = all(s)
		return err
	})
	return got, err
}

func all(r skiplist.Reader) (map[string]string, error) {
	got := map[string]string{}
	for rec, err := range r.All() {
		if err != nil {
			return got, err
		}
		got[string(rec.Key)] = string(rec.Value)
	}
	return got, nil
}

// goOn changes a recovered database once more and checks it.
func goOn(disk *simfs.FS, f skiplist.Format, state map[string]string) error {
	db, err := skiplist.Open(ctx, dbPath, options(disk, f, 6))
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.Put(ctx, []byte("next"), []byte("works")); err != nil {
		return fmt.Errorf("the next change: %w", err)
	}
	want := maps.Clone(state)
	want["next"] = "works"
	got, err := contents(db)
	if err != nil {
		return err
	}
	if !maps.Equal(got, want) {
		return errors.New("the next change did more than it should")
	}
	return clean(disk, f)
}

func clean(disk vfs.FS, f skiplist.Format) error {
	found, err := skiplist.Check(ctx, dbPath, skiplist.Options{FS: disk, Format: f})
	if err != nil {
		return err
	}
	for _, x := range found {
		if x.Severity > skiplist.Info {
			return fmt.Errorf("check after the next change: %v", x)
		}
	}
	return nil
}

// begun skips images of crashes before the database exists.
func exists(disk *simfs.FS) bool {
	_, err := disk.Stat(dbPath)
	return err == nil
}

// TestCrashImages cuts the power after every operation of workloads, in every way or in samples, and cuts it again while
// the image is recovered: what was acknowledged is there, whole; what was under way is there whole or not at all; the
// next change works.
func TestCrashImages(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			want := campaign(16_000, 310_000)
			if f == skiplist.Flat {
				want /= 4
			}
			images, second := 0, 0
			for seed := uint64(1); images < want; seed++ {
				if *reproduce != "" {
					at, _, _ := strings.Cut(*reproduce, " ")
					format, number, _ := strings.Cut(at, "/")
					if skiplist.Format(format) != f {
						t.Skip("the image is of another format")
					}
					var err error
					seed, err = strconv.ParseUint(number, 10, 64)
					require.NoError(t, err)
					want = 0 // this workload only
				}
				disk := simfs.New(simfs.Options{})
				h := record(t, disk, f, seed, 8)
				trace := disk.Trace()
				search := simfs.Search{Limit: 64, Samples: 24, Seed: seed}
				for img := range trace.Images(search) {
					line := fmt.Sprintf("%s/%d %s", f, seed, img.Seed)
					if *reproduce != "" && *reproduce != line {
						continue
					}
					acked, begun := h.allowed(img.Marks)
					if !exists(img.FS) && acked == 0 {
						continue
					}
					images++
					err := sound(img.FS, f)
					var state map[string]string
					if err == nil {
						state, err = verify(img.FS, f, h.states, acked, begun)
					}
					if err == nil {
						err = goOn(img.FS, f, state)
					}
					if err == nil && (images%16 == 0 && second < want/4 || *reproduce != "") {
						var n int
						n, err = crashAgain(img, f, state)
						second += n
					}
					if err != nil {
						_ = trace.Dump(os.Stderr, img.Seed)
						t.Fatalf("after %d images: %v\nreproduce: go test ./fuzz -run '%s' -image '%s'", images, err, t.Name(), line)
					}
				}
			}
			t.Logf("%d crash images, %d of crashes during recovery", images, second)
		})
	}
}

// crashAgain enumerates crashes during the recovery and the change that follows it.
func crashAgain(img *simfs.Image, f skiplist.Format, state map[string]string) (n int, err error) {
	after := maps.Clone(state)
	after["next"] = "works"
	states := []map[string]string{state, after}
	for again := range img.FS.Trace().Images(simfs.Search{Limit: 16, Samples: 4, Seed: 3}) {
		n++
		err := sound(again.FS, f)
		var got map[string]string
		if err == nil {
			got, err = verify(again.FS, f, states, 0, 1)
		}
		if err == nil {
			err = goOn(again.FS, f, got)
		}
		if err != nil {
			return n, fmt.Errorf("second crash, %s: %w", again.Seed, err)
		}
	}
	return n, nil
}
