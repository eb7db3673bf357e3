package fuzz

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

var orderSeed = flag.String("order", "", `one run of TestOneOrder: "FORMAT/SEED" as printed by a failure`)

// TestOneOrder has several processes, of several goroutines each, work on one file in every way that the library offers:
// Update, Batch, refused and cancelled transactions, checkpoints, recoveries, closing and opening, snapshots that are
// kept. Every call of theirs to the file system is a point at which the seed decides who goes on. In half of the runs a
// process is killed, and in all the power is cut afterwards, at some moments of the run.
//
// There must be one order of all transactions that explains everything seen: a snapshot holds the result of one of them,
// whole; of none earlier than any acknowledged, or seen, before the snapshot began; and no two are ever seen in each
// other's place.
//
// Two thirds of the runs have one goroutine in each process, and repeat themselves exactly for their seed. Where several
// goroutines of a process are free to go on it is the runtime that chooses between them, until each has come to a call:
// to see such a run again may take some tries (-count).
func TestOneOrder(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		t.Run(string(f), func(t *testing.T) {
			first, runs := uint64(0), uint64(campaign(40, 500))
			if format, seed, ok := strings.Cut(*orderSeed, "/"); ok {
				if skiplist.Format(format) != f {
					t.Skip("the run is of another format")
				}
				n, err := strconv.ParseUint(seed, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				first, runs = n, n+1
			}
			var sum order
			for seed := first; seed < runs; seed++ {
				o := &order{f: f, seed: seed, seen: map[int]int{}}
				if err := o.run(t); err != nil {
					t.Fatalf("%v\nreproduce: go test ./fuzz -run '%s' -order %s/%d", err, t.Name(), f, seed)
				}
				sum.commits += o.commits
				sum.looks += o.looks
				sum.images += o.images
			}
			t.Logf("%d transactions acknowledged, %d snapshots, %d crash images", sum.commits, sum.looks, sum.images)
			if sum.commits == 0 || sum.looks == 0 || sum.images == 0 {
				t.Fatal("the runs did nothing")
			}
		})
	}
}

// attempt is one execution of a transaction: what the database holds once it is committed. Its number in the order is
// the one it found, plus one.
type attempt struct {
	n       int
	state   map[string]string
	refused bool
}

// order is what the processes of one run know of each other.
type order struct {
	f    skiplist.Format
	seed uint64

	mu       sync.Mutex
	attempts []attempt
	newest   int         // the highest number that was acknowledged or seen
	seen     map[int]int // the attempt that stands in each place of the order, once that is known
	err      error

	commits, looks, images int
}

func (o *order) run(t *testing.T) error {
	var opts simfs.Options
	if o.seed%4 < 2 {
		opts.Tick = 10 * time.Millisecond // file times stand still for the most part
	}
	// The mapping of a real file changes behind the back of the race detector; a simulated one does not, and a goroutine
	// that waits for another one's commit is known to wait by the scheduler only.
	opts.NoMap = raceEnabled && o.seed%3 == 0
	disk := simfs.New(opts)
	db, err := skiplist.Open(ctx, dbPath, options(disk, o.f, o.seed))
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	o.attempts = []attempt{{}}
	schedule := simfs.Schedule{Seed: o.seed}
	if o.seed%2 == 1 {
		schedule.Kill, schedule.KillAt = int(o.seed/2%3), 1+rand.New(rand.NewPCG(o.seed, 4)).IntN(250)
	}
	tasks := []simfs.Task{o.process(0, 1), o.process(1, 1), o.process(2, 1), o.process(3, 1), o.process(4, 1)}
	if o.seed%3 == 0 {
		tasks = []simfs.Task{o.process(0, 3), o.process(1, 2), o.process(2, 2)}
	}
	simfs.Run(t, disk, schedule, tasks...)
	if o.err != nil {
		return o.err
	}
	last := &client{o: o, fs: disk.Process("last"), r: rand.New(rand.NewPCG(o.seed, 9))}
	last.open(ctx)
	last.look(ctx)
	if o.err != nil {
		return fmt.Errorf("at the end: %w", o.err)
	}
	if err := sound(disk, o.f); err != nil {
		return err
	}
	return o.crash(disk)
}

// crash cuts the power at some moments of the run.
func (o *order) crash(disk *simfs.FS) error {
	trace := disk.Trace()
	r := rand.New(rand.NewPCG(o.seed, 5))
	for range 4 {
		at := 1 + r.IntN(trace.Len())
		for img := range trace.Images(simfs.Search{From: at, To: at, Limit: 2, Samples: 2, Seed: o.seed}) {
			acked := -1
			for _, m := range img.Marks {
				if n, ok := strings.CutPrefix(m, "ack "); ok {
					k, _ := strconv.Atoi(n)
					acked = max(acked, k)
				}
			}
			if acked < 0 {
				continue
			}
			o.images++
			n, err := o.image(img.FS)
			if err == nil && n < acked {
				err = fmt.Errorf("it holds transaction %d, acknowledged was %d", n, acked)
			}
			if err != nil {
				return fmt.Errorf("after a crash, %s: %w", img.Seed, err)
			}
		}
	}
	return nil
}

// image opens what a crash has left, and tells which transaction it holds.
func (o *order) image(fsys *simfs.FS) (n int, err error) {
	opts := options(fsys, o.f, 1)
	opts.Create = false
	db, err := skiplist.Open(ctx, dbPath, opts)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	got, err := contents(db)
	if err != nil {
		return 0, err
	}
	a, _, err := o.find(got)
	if err != nil {
		return 0, err
	}
	return a.n, goOn(fsys, o.f, got)
}

// find returns the attempt that made a state.
func (o *order) find(state map[string]string) (attempt, int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	id, _ := strconv.Atoi(state["id"])
	if id >= len(o.attempts) {
		return attempt{}, id, fmt.Errorf("it holds attempt %d of %d", id, len(o.attempts))
	}
	a := o.attempts[id]
	switch {
	case a.refused:
		return a, id, fmt.Errorf("it holds attempt %d, which was refused", id)
	case !maps.Equal(a.state, state):
		return a, id, fmt.Errorf("it is not what attempt %d made: %v instead of %v", id, state, a.state)
	}
	return a, id, nil
}

// stands notes that an attempt has its place in the order for good.
func (o *order) stands(n, id int) error {
	if other, ok := o.seen[n]; ok && other != id {
		return fmt.Errorf("transaction %d is attempt %d here and was attempt %d elsewhere", n, id, other)
	}
	o.seen[n] = id
	o.newest = max(o.newest, n)
	return nil
}

// process is a task of several goroutines that share one handle.
func (o *order) process(k, goroutines int) simfs.Task {
	return func(ctx context.Context, fs *simfs.FS) {
		p := &client{o: o, fs: fs, name: k, r: rand.New(rand.NewPCG(o.seed, uint64(k)))}
		if !p.open(ctx) {
			return
		}
		var wg sync.WaitGroup
		for g := range goroutines {
			c := &client{o: o, fs: fs, name: 10*k + g, shared: p, r: rand.New(rand.NewPCG(o.seed, uint64(100*k+g+1)))}
			wg.Go(func() { c.work(ctx, k == 2 && g == goroutines-1) })
		}
		wg.Wait()
	}
}

// client is one goroutine of a process; shared is where the process keeps its handle.
type client struct {
	o      *order
	fs     *simfs.FS
	name   int
	r      *rand.Rand
	shared *client

	mu     sync.Mutex
	db     *skiplist.DB
	cancel context.CancelFunc // of a transaction of some goroutine

	kept *skiplist.Snapshot
	was  map[string]string
}

func (c *client) fail(ctx context.Context, err error) {
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	if ctx.Err() == nil && c.o.err == nil { // a process that was killed has nothing to complain about
		c.o.err = fmt.Errorf("client %d: %w", c.name, err)
	}
}

func (c *client) open(ctx context.Context) bool {
	opts := options(c.fs, c.o.f, c.o.seed+uint64(c.name))
	opts.Create = false
	db, err := skiplist.Open(ctx, dbPath, opts)
	if err != nil {
		c.fail(ctx, err)
		return false
	}
	c.mu.Lock()
	c.db = db
	c.mu.Unlock()
	return true
}

func (c *client) handle() *skiplist.DB {
	p := c
	if c.shared != nil {
		p = c.shared
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.db
}

// work does a few things. Errors that another goroutine of the process has caused, by closing the handle, are none.
func (c *client) work(ctx context.Context, reader bool) {
	for range 6 {
		var err error
		switch k := c.r.IntN(12); {
		case reader || k < 3:
			// A look takes a few calls only; the others should get on meanwhile.
			for range c.r.IntN(40) {
				_, _ = c.fs.Stat(dbPath)
			}
			c.look(ctx)
		case k < 9:
			err = c.change(ctx, k)
		case k == 9:
			err = c.handle().Checkpoint(ctx)
		case k == 10:
			_, err = c.handle().Recover(ctx)
		default:
			if err = c.handle().Close(); err == nil {
				c.shared.open(ctx)
			}
		}
		if err != nil && !errors.Is(err, skiplist.ErrClosed) {
			c.fail(ctx, err)
			return
		}
		if c.r.IntN(3) == 0 {
			c.interrupt(nil)
		}
	}
}

// interrupt cancels the transaction that another goroutine of the process has registered, and registers one.
func (c *client) interrupt(next context.CancelFunc) {
	c.shared.mu.Lock()
	old := c.shared.cancel
	c.shared.cancel = next
	c.shared.mu.Unlock()
	if old != nil {
		old()
	}
}

var errRefused = errors.New("refused")

func (c *client) change(ctx context.Context, kind int) error {
	id := -1
	refuse := c.r.IntN(6) == 0
	edits := c.edits()
	fn := func(tx *skiplist.Tx) (err error) {
		id, err = c.o.attempt(tx, edits, refuse)
		return err
	}
	if c.r.IntN(4) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		c.interrupt(cancel)
	}
	var err error
	if kind < 6 {
		err = c.handle().Update(ctx, fn)
	} else {
		err = c.handle().Batch(ctx, fn)
	}
	switch {
	case refuse && errors.Is(err, errRefused), errors.Is(err, context.Canceled), errors.Is(err, skiplist.ErrClosed):
		return nil
	case err != nil:
		return err
	case refuse:
		return errors.New("a refused transaction was acknowledged")
	}
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	c.o.commits++
	n := c.o.attempts[id].n
	c.fs.Mark("ack " + strconv.Itoa(n))
	return c.o.stands(n, id)
}

// edit puts a value, or deletes it if there is none.
type edit struct {
	key   string
	value []byte
}

func (c *client) edits() (list []edit) {
	for range c.r.IntN(4) {
		e := edit{key: "k" + strconv.Itoa(c.r.IntN(6))}
		if c.r.IntN(3) > 0 {
			e.value = []byte(strings.Repeat("v", c.r.IntN(300)) + strconv.Itoa(c.name))
		}
		list = append(list, e)
	}
	return list
}

// attempt performs a transaction, and notes what it makes of what it finds.
func (o *order) attempt(tx *skiplist.Tx, edits []edit, refuse bool) (id int, err error) {
	state := map[string]string{}
	for r, err := range tx.All() {
		if err != nil {
			return 0, err
		}
		state[string(r.Key)] = string(r.Value)
	}
	before, _, err := o.find(state)
	if err != nil {
		return 0, fmt.Errorf("a transaction finds what it should not: %w", err)
	}
	for _, e := range edits {
		if e.value == nil {
			delete(state, e.key)
			err = tx.Delete([]byte(e.key))
		} else {
			state[e.key] = string(e.value)
			err = tx.Put([]byte(e.key), e.value)
		}
		if err != nil {
			return 0, err
		}
	}
	o.mu.Lock()
	id = len(o.attempts)
	state["id"] = strconv.Itoa(id)
	o.attempts = append(o.attempts, attempt{before.n + 1, state, refuse})
	o.mu.Unlock()
	if err := tx.Put([]byte("id"), []byte(state["id"])); err != nil {
		return id, err
	}
	if refuse {
		return id, errRefused
	}
	return id, nil
}

// look takes a snapshot, holds it against what is known, and looks again at the one before.
func (c *client) look(ctx context.Context) {
	c.o.mu.Lock()
	least := c.o.newest
	c.o.mu.Unlock()
	s, err := c.handle().Snapshot(ctx)
	if errors.Is(err, skiplist.ErrClosed) {
		return
	}
	if err == nil {
		err = c.compare(s, least)
	}
	if err != nil {
		c.fail(ctx, fmt.Errorf("snapshot: %w", err))
	}
}

func (c *client) compare(s *skiplist.Snapshot, least int) error {
	got, err := all(s)
	if err != nil {
		return err
	}
	a, id, err := c.o.find(got)
	if err == nil && a.n < least {
		err = fmt.Errorf("it holds transaction %d, %d was there before it began", a.n, least)
	}
	if err != nil {
		return err
	}
	if c.kept != nil {
		again, err := all(c.kept)
		if err == nil && !maps.Equal(again, c.was) {
			err = errors.New("it has changed")
		}
		if err != nil {
			return fmt.Errorf("looked at again: %w", err)
		}
		c.kept.Close()
	}
	c.kept, c.was = s, got
	c.o.mu.Lock()
	defer c.o.mu.Unlock()
	c.o.looks++
	return c.o.stands(a.n, id)
}
