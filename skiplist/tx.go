package skiplist

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// Tx is a write transaction. It sees the newest committed state and its own changes. It is for one goroutine, and only
// within the function that received it. Nothing is written to the file before that function has returned nil.
type Tx struct {
	db   *DB
	st   *state
	txn  codec.Txn
	look tree.Lookup
	ed   *tree.Editor
	// deletesOnly is set while the transaction holds nothing but deletions, which may use the reserve; urgent is set if it
	// may use it whatever it holds.
	deletesOnly, urgent bool
	// broken is the failed read that may have left the tree half changed: such a transaction cannot be committed.
	broken error
	done   bool
}

func newTx(db *DB, st *state) *Tx {
	view := st.view.Sub(st.view.Size)
	tx := &Tx{db: db, st: st, deletesOnly: true}
	tx.txn = codec.Txn{View: view, Header: st.header, Random: db.opts.Random, Compare: db.compare}
	tx.look = codec.Lookup(st.codec, view, db.compare)
	tx.ed = tree.Edit(st.live, tx.look)
	return tx
}

// changed tells whether there is anything to commit.
func (tx *Tx) changed() bool { return len(tx.txn.Touched) > 0 }

// Put stores value under key, replacing what is there. Both are copied.
func (tx *Tx) Put(key, value []byte) error { return tx.put(key, value, false) }

// Insert stores value under key, or fails with ErrExists if the key is present.
func (tx *Tx) Insert(key, value []byte) error { return tx.put(key, value, true) }

func (tx *Tx) put(key, value []byte, createOnly bool) (err error) {
	if tx.done {
		return fmt.Errorf("transaction: %w", ErrClosed)
	}
	if len(key) == 0 {
		return ErrInvalidKey
	}
	defer tx.breakOn(&err)
	defer vfs.CatchFault(vfs.ArmFault(), tx.txn.View.Mem, &err)
	old := tx.ed.Get(key)
	if old != 0 && createOnly {
		return ErrExists
	}
	ref, err := tx.st.codec.Put(&tx.txn, key, value, old)
	if err != nil || ref == old {
		return err
	}
	tx.ed.Put(key, ref)
	tx.deletesOnly = false
	tx.touch(codec.Touch{Key: bytes.Clone(key), Level: max(old.Level(), ref.Level()), At: ref.Offset()})
	return nil
}

// Delete removes the record of key; it does nothing if there is none.
func (tx *Tx) Delete(key []byte) (err error) {
	if tx.done {
		return fmt.Errorf("transaction: %w", ErrClosed)
	}
	defer tx.breakOn(&err)
	defer vfs.CatchFault(vfs.ArmFault(), tx.txn.View.Mem, &err)
	at, exact := tx.ed.Seek(key)
	if !exact {
		return nil
	}
	old := at.Ref()
	at.Next()
	start := tx.txn.View.End()
	if err := tx.st.codec.Delete(&tx.txn, old, at.Ref()); err != nil {
		return err
	}
	tx.ed.Delete(key)
	tx.touch(codec.Touch{Key: bytes.Clone(key), Level: old.Level(), At: start, Deleted: true})
	return nil
}

// breakOn notes an error that is not a refusal of what was asked for, but of the file.
func (tx *Tx) breakOn(err *error) {
	switch {
	case *err == nil || tx.broken != nil:
	case errors.Is(*err, ErrExists), errors.Is(*err, ErrTooLarge), errors.Is(*err, ErrInvalidKey), errors.Is(*err, ErrInvalidValue):
	default:
		tx.broken = *err
	}
}

// UseReserve lets the transaction use the space that is kept for deletions on a full disk, whatever it changes. It is for
// what gives space back in the end, such as the deletion of a mailbox that leaves a tombstone.
func (tx *Tx) UseReserve() { tx.urgent = true }

func (tx *Tx) touch(t codec.Touch) { tx.txn.Touched = append(tx.txn.Touched, t) }

// mark is a point in a transaction to which it can return.
type mark struct {
	live        tree.Tree
	tail        int
	touched     int
	deletesOnly bool
	broken      error
}

func (tx *Tx) mark() mark {
	return mark{tx.ed.Tree(), len(tx.txn.View.Tail), len(tx.txn.Touched), tx.deletesOnly, tx.broken}
}

func (tx *Tx) rollback(m mark) {
	tx.ed.Reset(m.live)
	tx.txn.View.Tail = tx.txn.View.Tail[:m.tail]
	tx.txn.Touched = tx.txn.Touched[:m.touched]
	tx.deletesOnly, tx.broken = m.deletesOnly, m.broken
}

// Nested calls fn, which changes the same transaction, and takes its changes back if it returns an error or panics.
func (tx *Tx) Nested(fn func() error) error {
	if tx.done {
		return fmt.Errorf("transaction: %w", ErrClosed)
	}
	before, keep := tx.mark(), false
	defer func() {
		if !keep {
			tx.rollback(before)
		}
	}()
	err := fn()
	keep = err == nil
	return err
}

// reading is the transaction's state; live is a version of its tree.
func (tx *Tx) reading(live tree.Tree) reading {
	return reading{tx.st.codec, tx.txn.View, tx.look, live}
}

// Get returns a copy of the value of key, or ErrNotFound.
func (tx *Tx) Get(key []byte) (value []byte, err error) {
	if tx.done {
		return nil, fmt.Errorf("transaction: %w", ErrClosed)
	}
	return tx.reading(tx.ed.Peek()).get(key)
}

// Has tells whether there is a record of key.
func (tx *Tx) Has(key []byte) (bool, error) {
	if tx.done {
		return false, fmt.Errorf("transaction: %w", ErrClosed)
	}
	return tx.reading(tx.ed.Peek()).has(key)
}

// Len is the number of records.
func (tx *Tx) Len() int { return tx.ed.Len() }

// All yields every record in key order, as they were when the iteration began.
func (tx *Tx) All() iter.Seq2[Record, error] { return tx.Range(nil, nil) }

// Prefix yields the records whose keys begin with prefix, as they were when the iteration began.
func (tx *Tx) Prefix(prefix []byte) iter.Seq2[Record, error] {
	return tx.scan(bounds{from: prefix, prefix: prefix})
}

// Range yields the records from the key from on, up to but without the key to, as they were when the iteration began.
func (tx *Tx) Range(from, to []byte) iter.Seq2[Record, error] {
	return tx.scan(bounds{from: from, to: to})
}

// scan ends with ErrClosed when the transaction has ended: an iteration can outlive it (iter.Pull), and the file it reads
// does not.
func (tx *Tx) scan(b bounds) iter.Seq2[Record, error] {
	r := tx.reading(tx.ed.Tree())
	return func(yield func(Record, error) bool) {
		ended := func() bool {
			if tx.done {
				yield(Record{}, fmt.Errorf("transaction: %w", ErrClosed))
			}
			return tx.done
		}
		if ended() {
			return
		}
		for rec, err := range r.scan(b) {
			if !yield(rec, err) || ended() {
				return
			}
		}
	}
}
