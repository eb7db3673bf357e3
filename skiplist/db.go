package skiplist

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// DB is an open database. All its methods may be called at once from many goroutines, and any number of processes may
// have the same file open.
type DB struct {
	path    string
	opts    Options
	fs      vfs.FS
	format  Format
	told    bool // the caller, or what was in the file, has told the format
	codec   codec.Codec
	compare func(a, b []byte) int
	probing bool      // only looks whether another order fits
	stamp   time.Time // the skipstamp, zero if there is none
	spares  *vfs.Spares

	state atomic.Pointer[state]

	// turn is held (full) by the one goroutine that changes the file or reads the news in it.
	turn chan struct{}
	// writing is open while no transaction of this process holds the file's lock; it is closed when one does and has
	// published the newest state, so that readers need not wait for it. Guarded by writingMu.
	writing   chan struct{}
	writingMu sync.Mutex
	busy      atomic.Bool // writing is closed

	batchMu sync.Mutex
	batch   []*call

	// The fields below belong to the holder of turn.

	// poisoned is set when the disk failed so badly that the file has to be rebuilt before it is written again.
	poisoned bool
	// reserved is the offset up to which disk space is known to be allocated, 0 if unknown.
	reserved int64
	// retryCheckpoint is the log length at which a checkpoint that had no space is tried again.
	retryCheckpoint int64

	stats counters
}

// Open opens the database at path. The context bounds the wait for the file's lock and the reading of its log.
//
// With Create, a missing file is created complete: after a crash there is either none or an empty database. An
// existing file is not written to by opening it, damaged or not. Errors are ErrNotDatabase, ErrVersion, ErrDamaged
// (see AllowDamaged), ErrOrder, and those of the system, such as fs.ErrNotExist.
func Open(ctx context.Context, path string, opts Options) (*DB, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	db := &DB{path: path, opts: opts, fs: opts.FS, turn: make(chan struct{}, 1), writing: make(chan struct{})}
	if opts.Prepared != "" && !opts.ReadOnly {
		db.spares = vfs.NewSpares(opts.FS, opts.Prepared)
	}
	if err := db.open(ctx); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	return db, nil
}

func (db *DB) open(ctx context.Context) error {
	db.stamp = readSkipstamp(db.fs, db.opts.Skipstamp)
	g, err := openGeneration(db.fs, db.path, db.opts.ReadOnly)
	if errors.Is(err, fs.ErrNotExist) && db.opts.Create && !db.opts.ReadOnly {
		var created vfs.Info
		if created, err = db.create(ctx); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if g, err = openGeneration(db.fs, db.path, db.opts.ReadOnly); err == nil {
			g.named = g.id.SameFile(created)
		}
	}
	if err != nil {
		return err
	}
	if err := db.choose(g); err != nil {
		g.release()
		return err
	}
	st, err := db.firstLoad(ctx, g)
	if err != nil {
		return err
	}
	defer st.gen.release()
	if err := db.acceptable(st); err != nil {
		return err
	}
	db.publish(st)
	return nil
}

// choose finds the codec and the key order for the file.
func (db *DB) choose(g *generation) (err error) {
	if db.format, db.told, err = formatOf(db.path, g.rd, db.opts.Format); err != nil {
		return err
	}
	db.codec = codecs[db.format]
	db.compare = compareFor(db.codec.Traits(), db.opts.Order)
	return nil
}

// compareFor returns the comparison of a format, or of the order that was asked for instead.
func compareFor(tr codec.Traits, asked Order) func(a, b []byte) int {
	switch {
	case asked != DefaultOrder && asked != tr.Order:
		return asked.Func()
	case tr.Compare != nil:
		return tr.Compare
	}
	return tr.Order.Func()
}

// acceptable refuses what must not be used without the caller's consent.
func (db *DB) acceptable(st *state) error {
	if planted.On(planted.DamageAccepted) {
		return nil
	}
	if st.damage != nil && !(db.opts.AllowDamaged && db.opts.ReadOnly) {
		return st.damage
	}
	if st.log.Disorder && !db.opts.ReadOnly && st.codec.Traits().Rewrites {
		return &FormatError{Path: db.path, Offset: st.log.DisorderAt, Field: "key", Class: ErrDamaged,
			Problem: "it has two values, and a change would drop one of them"}
	}
	if st.log.Disorder && !db.opts.ReadOnly {
		return db.orderError(st.order)
	}
	return nil
}

// smallFile is the size up to which a file is replayed under the lock at once. A larger one is replayed without the
// lock first, so that writers do not wait, and what came meanwhile is read under it.
var smallFile int64 = 1 << 20 // a variable for the tests

// firstLoad replays the file. It owns g and returns a state of g, or of the generation that has replaced it.
func (db *DB) firstLoad(ctx context.Context, g *generation) (*state, error) {
	var st *state
	if info, err := g.rd.Stat(); err == nil && info.Size > smallFile {
		st, _ = db.load(g, info, db.ticks(ctx, "reading", info.Size))
		if err := context.Cause(ctx); err != nil {
			g.release()
			return nil, err
		}
		if st != nil {
			// A commit may have been under way, and its last write may change neither size nor, within one tick of the
			// clock, the time: what was seen without the lock proves nothing.
			st.seen = vfs.Info{}
		}
	}
	return db.catchUp(ctx, g, st)
}

// catchUp takes the shared lock, if the format's readers do, and returns the state of the file that the path leads to.
// It owns g, and the caller owns the reference to the generation of that state.
func (db *DB) catchUp(ctx context.Context, g *generation, st *state) (*state, error) {
	locked := db.codec.Traits().LockedReads
	for {
		info, named, err := db.lockNamed(ctx, g, locked)
		if err == nil && (named || planted.On(planted.ReaderInode)) {
			st, err = db.newest(g, st, info)
			if locked {
				_ = g.rd.Unlock()
			}
			if err != nil {
				g.release()
			}
			return st, err
		}
		g.release()
		if err != nil {
			return nil, err
		}
		if g, err = openGeneration(db.fs, db.path, db.opts.ReadOnly); err != nil {
			return nil, err
		}
		st = nil
	}
}

// newest returns the state of generation g as the file is now, reading as little as it can. The caller holds a lock.
func (db *DB) newest(g *generation, st *state, info vfs.Info) (*state, error) {
	if st != nil && st.gen == g {
		if st.unchanged(info) {
			return st, nil
		}
		next, err := db.advance(st, info)
		if err == nil {
			return next, nil
		}
	}
	return db.load(g, info, nil)
}

// current returns the newest committed state, with a reference to its generation: it holds every commit that any
// process acknowledged before the call.
func (db *DB) current(ctx context.Context) (*state, error) {
	for {
		st, err := db.acquire()
		if err != nil {
			return nil, err
		}
		writing := db.isWriting()
		if writing || db.isFresh(st) {
			// While our own writer holds the lock nobody else commits, and it has published what it found.
			if now := db.state.Load(); writing && now != st {
				st.gen.release()
				continue
			}
			return st, nil
		}
		st.gen.release()
		if st, err = db.refresh(ctx); st != nil || err != nil {
			return st, err
		}
	}
}

// isFresh tells whether the file has not changed since st. Of a format that is written anew at each commit it asks what
// the path leads to: a file that has exchanged its name with another looks as before (XFS does not even change its
// ctime).
func (db *DB) isFresh(st *state) bool {
	var info vfs.Info
	var err error
	if db.codec.Traits().Rewrites {
		if info, err = db.fs.Stat(db.path); err == nil && !info.SameFile(st.gen.id) {
			return planted.On(planted.StaleSnapshot)
		}
	} else {
		info, err = st.gen.rd.Stat()
	}
	return planted.On(planted.StaleSnapshot) || err == nil && st.unchanged(info)
}

// refresh publishes the news of the file and returns the state, with a reference to its generation; nil if a writer of
// this process gets to it first.
func (db *DB) refresh(ctx context.Context) (*state, error) {
	select {
	case db.turn <- struct{}{}:
	case <-db.writingSoon():
		return nil, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-db.turn }()
	if err := db.refreshInTurn(ctx); err != nil {
		return nil, err
	}
	return db.acquire()
}

func (db *DB) refreshInTurn(ctx context.Context) error {
	st := db.state.Load()
	if st == nil {
		return fmt.Errorf("%s: %w", db.path, ErrClosed)
	}
	if db.poisoned || db.isFresh(st) {
		return db.touch(st)
	}
	st.gen.acquire() // for catchUp to own
	next, err := db.catchUp(ctx, st.gen, st)
	if err != nil {
		return fmt.Errorf("read the news of the database: %w", err)
	}
	defer next.gen.release()
	if err := db.acceptable(next); err != nil {
		return err
	}
	db.reserved = 0 // another process may have cut the file
	db.publish(next)
	return nil
}

// touch publishes st as of now: a poisoned handle reads on in the state before the failure.
func (db *DB) touch(st *state) error {
	if !db.poisoned {
		return nil
	}
	info, err := st.gen.rd.Stat()
	if err != nil {
		return err
	}
	same := *st
	same.seen = info
	db.publish(&same)
	return nil
}

// isWriting tells whether a transaction of this process holds the file's lock and has published the newest state.
func (db *DB) isWriting() bool { return db.busy.Load() }

func (db *DB) writingSoon() <-chan struct{} {
	db.writingMu.Lock()
	defer db.writingMu.Unlock()
	return db.writing
}

func (db *DB) setWriting(on bool) {
	db.writingMu.Lock()
	defer db.writingMu.Unlock()
	db.busy.Store(on)
	if on {
		close(db.writing)
	} else {
		db.writing = make(chan struct{})
	}
}

// Close closes the database. It waits for a transaction under way. Snapshots stay usable until they are closed.
func (db *DB) Close() error {
	db.turn <- struct{}{}
	defer func() { <-db.turn }()
	st := db.state.Swap(nil)
	if st == nil {
		return fmt.Errorf("%s: %w", db.path, ErrClosed)
	}
	st.gen.release()
	return nil
}

// Path is the path given to Open.
func (db *DB) Path() string { return db.path }

// Format is the format of the file.
func (db *DB) Format() Format { return db.format }

// Order is the key order in use.
func (db *DB) Order() Order {
	if db.opts.Order != DefaultOrder {
		return db.opts.Order
	}
	return db.codec.Traits().Order
}
