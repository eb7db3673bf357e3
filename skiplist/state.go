package skiplist

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// state is everything that is known of the file at one moment. It never changes: a commit, or the discovery of another
// process's commit, makes a new one.
type state struct {
	gen   *generation
	codec codec.Codec
	// view covers the committed part of the file.
	view   *codec.View
	look   tree.Lookup
	live   tree.Tree
	header codec.Header
	log    codec.Log
	// blank is set for a file of zero bytes: an empty database that nobody has initialised yet.
	blank bool
	// damage is what a reader is told with every answer; nil in a whole file.
	damage error
	// order is the key order in which the records stand, where that is not the one in use.
	order Order
	// seen describes the file when this state was read or written. While it is the same, no process has committed.
	seen vfs.Info
	// mark holds the bytes before the end of the log; no writer ever changes them. Nil if they could not be read.
	mark []byte
	// linked is set once the links of the file were compared with the tree.
	linked bool
}

// unchanged tells whether the file cannot have got a new commit since the state was read, under a lock. A commit makes
// the file longer, and a checkpoint takes its name away; the time alone is too coarse to tell. Where a torn tail is cut
// off, the next commit may make the file just as long as it was.
func (st *state) unchanged(now vfs.Info) bool {
	if st.log.State == codec.Torn && !st.codec.Traits().Rewrites {
		return false
	}
	return now.Size == st.seen.Size && now.Nlink == st.seen.Nlink && now.Ctime.Equal(st.seen.Ctime) && now.Nlink > 0
}

// newState begins a state of a generation in which nothing is known yet.
func (db *DB) newState(g *generation, c codec.Codec, size int64) *state {
	st := &state{gen: g, codec: c, view: g.view(size)}
	st.look = codec.Lookup(c, st.view, db.compare)
	return st
}

// load replays the whole file, up to size, into a new state. The caller holds a lock, or compares the state with the
// file under one afterwards.
func (db *DB) load(g *generation, seen vfs.Info, progress func(int64) error) (st *state, err error) {
	st = db.newState(g, db.codec, seen.Size)
	defer vfs.CatchFault(vfs.ArmFault(), st.view.Mem, &err)
	st.seen = seen
	if seen.Size == 0 {
		st.blank = true
		st.linked = true
		return st, nil
	}
	if st.header, err = db.codec.ReadHeader(st.view); err != nil {
		return nil, err
	}
	ed := tree.Edit(tree.Tree{}, st.look)
	st.log, err = db.codec.Replay(st.view, st.header, codec.ReplayOptions{Progress: progress}, ed)
	if err != nil {
		return nil, err
	}
	return db.settle(st, ed)
}

// settle completes a state after its log was replayed.
func (db *DB) settle(st *state, ed *tree.Editor) (*state, error) {
	st.live = ed.Tree()
	if st.log.State == codec.Damaged {
		st.damage = &FormatError{Path: db.path, Offset: st.log.Offset, Problem: st.log.Problem, Class: ErrDamaged}
	}
	if st.log.Disorder && st.damage == nil && !db.probing && !st.codec.Traits().Rewrites {
		if st.order = db.fittingOrder(st); st.order == DefaultOrder {
			// Not another order but a damaged key.
			st.damage = &FormatError{Path: db.path, Offset: st.log.DisorderAt, Field: "key",
				Problem: "the record is not in " + db.Order().String() + " order, nor the file in any other", Class: ErrDamaged}
			st.log.State, st.log.Offset, st.log.Problem = codec.Damaged, st.log.DisorderAt, "a record is not in its place in the key order"
		}
	}
	if st.log.Astray && st.damage == nil {
		if o := db.linkedOrder(st); o != DefaultOrder {
			// What is live is not known: the deletions of this log take other records in another order.
			st.order, st.damage, st.log.Disorder = o, db.orderError(o), true
		}
	}
	if err := st.setMark(); err != nil {
		return nil, err
	}
	st.view.Size = max(st.log.End, 0)
	return st, nil
}

func (st *state) setMark() (err error) {
	defer vfs.CatchFault(vfs.ArmFault(), st.view.Mem, &err)
	st.mark = nil
	n := st.codec.Traits().MarkBytes
	if st.log.End < n {
		return nil
	}
	b, err := st.view.Bytes(st.log.End-n, n)
	st.mark = bytes.Clone(b)
	return err
}

// errRescan says that the file is not a continuation of the state.
var errRescan = errors.New("the file was rewritten")

// advance reads what was committed after st in the same inode. It fails with errRescan if the file does not go on
// where st ends. The caller holds a lock.
func (db *DB) advance(st *state, seen vfs.Info) (next *state, err error) {
	if st.blank || st.damage != nil || st.mark == nil || seen.Size < st.log.End || st.codec.Traits().Rewrites {
		return nil, errRescan
	}
	next = db.newState(st.gen, st.codec, seen.Size)
	defer vfs.CatchFault(vfs.ArmFault(), next.view.Mem, &err)
	next.seen = seen
	next.linked = st.linked
	if next.header, err = next.codec.ReadHeader(next.view); err != nil {
		return nil, err
	}
	old, now := st.header, next.header
	if now.Generation != old.Generation || now.LogStart != old.LogStart || !now.LastRecovery.Equal(old.LastRecovery) {
		return nil, errRescan
	}
	mark, err := next.view.Bytes(st.log.End-int64(len(st.mark)), int64(len(st.mark)))
	if err != nil || !bytes.Equal(mark, st.mark) && !planted.On(planted.MarkIgnored) {
		return nil, errRescan
	}
	ed := tree.Edit(st.live, next.look)
	next.log, err = next.codec.Replay(next.view, next.header, codec.ReplayOptions{From: st.log.End}, ed)
	if err != nil {
		return nil, err
	}
	if next.log.State == codec.Damaged || next.log.End < st.log.End {
		return nil, errRescan
	}
	next.log.Disorder = st.log.Disorder
	return db.settle(next, ed)
}

// publish makes st the state that new snapshots get. The published state owns a reference to its generation, which
// publish takes for it; the caller, who has the turn, keeps his own.
func (db *DB) publish(st *state) {
	old := db.state.Load()
	if old != nil && old.gen == st.gen {
		db.state.Store(st)
		return
	}
	st.gen.acquire()
	db.state.Store(st)
	if old != nil {
		old.gen.release()
	}
}

// acquire returns the published state with a reference to its generation.
func (db *DB) acquire() (*state, error) {
	for {
		st := db.state.Load()
		if st == nil {
			return nil, fmt.Errorf("%s: %w", db.path, ErrClosed)
		}
		if st.gen.acquire() {
			return st, nil
		}
		// Another state has been published meanwhile. If not, waiting for one would be for ever.
		if db.state.Load() == st {
			return nil, fmt.Errorf("%s: the published state has lost its file", db.path)
		}
	}
}
