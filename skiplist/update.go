package skiplist

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
)

// Update calls fn with a transaction and commits it if fn returns nil; the change is durable when Update returns nil.
// If fn returns an error the transaction is dropped and the error returned. The file's exclusive lock is held
// meanwhile, so fn should be quick; ctx bounds the wait for it, not the commit. fn may read db, which shows the state
// before the transaction, but must not write to it or close it except by tx: another Update, Batch, Put, Checkpoint or
// Close would wait for the one that it is called in, for ever or until its context ends.
//
// After any error but ErrCommitUnknown nothing has changed, and nothing will after a crash.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	w, err := db.beginWrite(ctx)
	if err != nil {
		return err
	}
	defer w.end()
	tx := newTx(db, w.st)
	defer func() { tx.done = true }()
	if err := fn(tx); err != nil {
		return err
	}
	return w.commit(tx)
}

// Put stores value under key, durably. Concurrent calls share their syncs.
func (db *DB) Put(ctx context.Context, key, value []byte) error {
	return db.Batch(ctx, func(tx *Tx) error { return tx.Put(key, value) })
}

// Insert stores value under key, durably, or fails with ErrExists if the key is present.
func (db *DB) Insert(ctx context.Context, key, value []byte) error {
	return db.Batch(ctx, func(tx *Tx) error { return tx.Insert(key, value) })
}

// Delete removes the record of key, durably; a missing key is no error.
func (db *DB) Delete(ctx context.Context, key []byte) error {
	return db.Batch(ctx, func(tx *Tx) error { return tx.Delete(key) })
}

// writer is the hold on the file during a write: the turn in this process, and of the generation of st the exclusive lock
// and one reference. All are given back by end. A checkpoint moves lock and reference on to the new file.
type writer struct {
	db *DB
	st *state // the newest committed state, which the writer's commits move on
	// ctx, if set, ends a checkpoint that the caller has asked for; a commit is never ended half-way.
	ctx context.Context
	// unasked is set during a checkpoint that the caller has not asked for.
	unasked bool
}

// beginWrite waits for the turn and the lock and finds out the newest state.
func (db *DB) beginWrite(ctx context.Context) (*writer, error) {
	if db.opts.ReadOnly {
		return nil, fmt.Errorf("%s: %w", db.path, ErrReadOnly)
	}
	select {
	case db.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return db.writerInTurn(ctx)
}

// writerInTurn makes a writer of the turn that the caller has, or gives the turn back, also if the goroutine ends.
func (db *DB) writerInTurn(ctx context.Context) (w *writer, err error) {
	defer func() {
		if w == nil {
			<-db.turn
		}
	}()
	return db.lockedWriter(ctx)
}

// lockedWriter takes the exclusive lock on the file that the path leads to. The caller has the turn.
func (db *DB) lockedWriter(ctx context.Context) (*writer, error) {
	st := db.state.Load()
	if st == nil {
		return nil, fmt.Errorf("%s: %w", db.path, ErrClosed)
	}
	g := st.gen
	g.acquire()
	mode := vfs.Exclusively
	if planted.On(planted.WriterLockShared) {
		mode = vfs.Shared
	}
	for {
		if err := g.wr.Lock(ctx, mode); err != nil {
			g.release()
			return nil, fmt.Errorf("lock %s: %w", db.path, err)
		}
		info, err := g.wr.Stat()
		if err == nil {
			var at vfs.Info
			if at, err = db.fs.Stat(db.path); err == nil && (at.SameFile(info) || planted.On(planted.WriterInode)) {
				return db.writerOn(g, st, info)
			}
		}
		_ = g.wr.Unlock()
		g.release()
		if err != nil {
			return nil, err
		}
		// The file was replaced while we waited.
		if g, err = openGeneration(db.fs, db.path, false); err != nil {
			return nil, err
		}
	}
}

// writerOn reads the news of the generation g and publishes them. It owns g and the lock on it, and hands both to the
// writer.
func (db *DB) writerOn(g *generation, st *state, info vfs.Info) (*writer, error) {
	if info.Blocks*512 < db.reserved {
		db.reserved = 0 // somebody has cut the file, which frees what is reserved behind its end
	}
	next, err := db.newsUnderLock(g, st, info)
	if err != nil {
		_ = g.wr.Unlock()
		g.release()
		return nil, err
	}
	w := &writer{db: db, st: next}
	if !db.poisoned {
		db.publish(next)
	} else if err := w.rebuild(); err != nil {
		w.letGo()
		if planted.On(planted.ReleasedTwice) && g != st.gen {
			g.release()
		}
		return nil, err
	}
	db.setWriting(true)
	return w, nil
}

// newsUnderLock returns the state of the locked generation g as it is now, if it may be written to.
func (db *DB) newsUnderLock(g *generation, st *state, info vfs.Info) (next *state, err error) {
	next = st
	if g != st.gen || db.poisoned || !st.unchanged(info) {
		if db.poisoned {
			next, err = db.load(g, info, nil)
		} else {
			next, err = db.newest(g, st, info)
		}
		db.reserved = 0
	}
	if err == nil {
		err = db.acceptable(next)
	}
	return next, err
}

// rebuild writes the database into a new file after the disk has failed. The state found in the old one, with the
// change whose fate was unknown or without it, becomes durable there.
func (w *writer) rebuild() error {
	if err := w.checkpoint(w.st); err != nil {
		return fmt.Errorf("rebuild the database after the disk failed: %w", err)
	}
	w.db.poisoned = false
	return nil
}

// yieldEvery is after how many commits a writer gives up the processor.
const yieldEvery = 8

// end gives everything back, and now and then the processor: a goroutine that does nothing but commit is not seen to
// yield in its system calls, so that after 10 ms the runtime takes its processor away and wakes two threads in each of
// them. To yield wakes one.
func (w *writer) end() {
	if w.db.stats.commits.Load()%yieldEvery == 0 {
		defer runtime.Gosched()
	}
	defer func() { <-w.db.turn }()
	w.db.setWriting(false)
	w.letGo()
}

// letGo gives back the lock on the file and the reference to it.
func (w *writer) letGo() {
	if !w.db.poisoned || !planted.On(planted.LockKept) {
		_ = w.st.gen.wr.Unlock()
	}
	w.st.gen.release()
}

// publish makes st the newest state.
func (w *writer) publish(st *state) {
	w.st = st
	w.db.publish(st)
}

// call is one caller of Batch.
type call struct {
	fn       func(*Tx) error
	done     chan struct{}
	err      error
	panicked any
	ended    bool // done is closed
	// informed is set if members of the group before it had changed something when fn ran.
	informed bool
	again    bool // nothing was done: stand in the queue once more
}

// maxBatchTail bounds, in bytes, how much is collected for one commit.
const maxBatchTail = 4 << 20

// Batch is Update for many small, independent changes: the changes of all callers that wait are committed together,
// each whole or not at all, and share the syncs. fn may be called more than once, and in another goroutine: it must not
// end that (runtime.Goexit). If there is no space for all of them each is tried alone. An error that fn returns holds for
// what is committed: if it was returned in view of changes that are not committed after all, fn is called again.
func (db *DB) Batch(ctx context.Context, fn func(*Tx) error) error {
	if db.opts.ReadOnly {
		return fmt.Errorf("%s: %w", db.path, ErrReadOnly)
	}
	for {
		c := &call{fn: fn, done: make(chan struct{})}
		if err := db.wait(ctx, c); err != nil || !c.again {
			return err
		}
	}
}

// wait stands in the queue with c until somebody has committed it, or does so for all.
func (db *DB) wait(ctx context.Context, c *call) error {
	db.batchMu.Lock()
	db.batch = append(db.batch, c)
	db.batchMu.Unlock()
	for {
		select {
		case <-c.done:
			return c.result()
		default:
		}
		select {
		case <-c.done:
			return c.result()
		case <-ctx.Done():
			if db.withdraw(c) {
				return context.Cause(ctx)
			}
			<-c.done
			return c.result()
		case db.turn <- struct{}{}:
			if err := db.lead(ctx, c); err != nil {
				return err
			}
		}
	}
}

func (c *call) result() error {
	if c.panicked != nil {
		panic(c.panicked)
	}
	return c.err
}

// end tells the caller that the work is done.
func (c *call) end() {
	c.ended = true
	close(c.done)
}

// withdraw takes c out of the queue; it fails if somebody has begun to work on it.
func (db *DB) withdraw(c *call) bool {
	db.batchMu.Lock()
	defer db.batchMu.Unlock()
	for i, q := range db.batch {
		if q == c {
			db.batch = append(db.batch[:i], db.batch[i+1:]...)
			return true
		}
	}
	return false
}

// lead does the work of all that wait, with the turn in hand. An error means that the caller, whose own is among them,
// could not get at the file, and that the others have to try for themselves.
func (db *DB) lead(ctx context.Context, own *call) error {
	w, err := db.writerInTurn(ctx)
	if err != nil {
		if db.withdraw(own) {
			return err
		}
		return nil
	}
	defer w.end()
	db.batchMu.Lock()
	calls := db.batch
	db.batch = nil
	db.batchMu.Unlock()
	defer func() {
		for _, c := range calls {
			if !c.ended {
				// A function has ended this goroutine (runtime.Goexit), and nothing was committed.
				if c.again = c.panicked == nil; c.again {
					c.err = nil
				}
				c.end()
			}
		}
	}()
	for rest := calls; len(rest) > 0; {
		rest = rest[w.group(rest):]
	}
	return nil
}

// group commits as many of the calls as fit into one transaction and tells how many that were.
func (w *writer) group(calls []*call) int {
	tx := newTx(w.db, w.st)
	n, urgent := 0, true
	for n < len(calls) && len(tx.txn.View.Tail) < maxBatchTail {
		c := calls[n]
		m := tx.mark()
		tx.urgent = false
		c.informed = tx.changed()
		if c.err = c.run(tx); (c.err != nil || c.panicked != nil) && !planted.On(planted.RefusedCallKept) {
			tx.rollback(m)
		}
		urgent = urgent && tx.urgent
		n++
	}
	tx.urgent = urgent // the reserve is not for those who have not asked for it
	err := w.commit(tx)
	tx.done = true
	alone := errors.Is(err, ErrNoSpace) && n > 1 && !planted.On(planted.GroupNotRetried)
	for _, c := range calls[:n] {
		switch {
		case c.err != nil || c.panicked != nil:
			if err != nil && c.informed && !planted.On(planted.DirtyAnswer) {
				w.single(c) // what it has refused to go on with has not come to be
			}
		case alone:
			w.single(c)
		case planted.On(planted.GroupErrorLost):
		default:
			c.err = err
		}
		c.end()
	}
	return n
}

// single commits one call alone.
func (w *writer) single(c *call) {
	tx := newTx(w.db, w.st)
	if c.err = c.run(tx); c.err == nil && c.panicked == nil {
		c.err = w.commit(tx)
	}
	tx.done = true
}

// run calls the caller's function; a panic in it is handed to the caller.
func (c *call) run(tx *Tx) error {
	finished := false
	c.panicked = nil
	defer func() {
		if !finished {
			c.panicked = recover()
			if c.panicked == nil {
				c.panicked = "the function given to Batch called runtime.Goexit"
			}
		}
	}()
	err := c.fn(tx)
	finished = true
	if err == nil {
		err = tx.broken
	}
	return err
}
