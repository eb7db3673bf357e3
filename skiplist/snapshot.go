package skiplist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// Record is a key and its value, as an iteration yields them. The slices are valid until the next step.
type Record struct {
	Key, Value []byte
}

// Reader is what snapshots and transactions have in common.
type Reader interface {
	// Get returns a copy of the value of key, or ErrNotFound.
	Get(key []byte) ([]byte, error)
	// Has tells whether there is a record of key.
	Has(key []byte) (bool, error)
	// All yields every record in key order. An error ends the iteration.
	All() iter.Seq2[Record, error]
	// Prefix yields the records whose keys begin with prefix, in key order.
	Prefix(prefix []byte) iter.Seq2[Record, error]
	// Range yields the records from the key from on, up to but without the key to. Nil means no bound.
	Range(from, to []byte) iter.Seq2[Record, error]
	// Len is the number of records.
	Len() int
}

var (
	_ Reader = (*Snapshot)(nil)
	_ Reader = (*Tx)(nil)
)

// Snapshot is one committed state of the database. It does not change, and it survives commits, checkpoints and Close
// of the database. It may be used from many goroutines. Close it: until then the disk space of a file that has been
// replaced is not freed.
type Snapshot struct {
	st     *state
	closed atomic.Bool
}

// Snapshot returns the state that holds every commit which any process acknowledged before the call. It makes one
// system call if nothing has changed; otherwise it reads what is new, under the file's shared lock, which ctx bounds.
func (db *DB) Snapshot(ctx context.Context) (*Snapshot, error) {
	st, err := db.current(ctx)
	if err != nil {
		return nil, err
	}
	return &Snapshot{st: st}, nil
}

// View calls fn with the newest snapshot and closes it afterwards. It returns what fn returns, or ErrDamaged.
func (db *DB) View(ctx context.Context, fn func(*Snapshot) error) error {
	s, err := db.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := fn(s); err != nil {
		return err
	}
	return s.st.damage
}

// Get returns a copy of the value of key in the newest state, or ErrNotFound.
func (db *DB) Get(ctx context.Context, key []byte) ([]byte, error) {
	value, err := db.get(ctx, key)
	for range lostAttempts {
		if err == nil || !errors.Is(err, ErrSnapshotLost) {
			break
		}
		value, err = db.get(ctx, key) // a checkpoint of Cyrus came between: its new file has the answer
	}
	return value, err
}

// lostAttempts is how often a call that reads the newest state begins again after Cyrus has emptied the file under it.
const lostAttempts = 10

func (db *DB) get(ctx context.Context, key []byte) ([]byte, error) {
	st, err := db.current(ctx)
	if err != nil {
		return nil, err
	}
	defer st.gen.release()
	return (&Snapshot{st: st}).get(key)
}

// Close gives the snapshot back. Closing it again does nothing.
func (s *Snapshot) Close() {
	if s.closed.CompareAndSwap(false, true) {
		s.st.gen.release()
	}
}

// enter keeps the file open during one call.
func (s *Snapshot) enter() error {
	if s.closed.Load() || !s.st.gen.acquire() {
		return fmt.Errorf("snapshot: %w", ErrClosed)
	}
	return nil
}

// Get returns a copy of the value of key, or ErrNotFound; in a damaged file the value and ErrDamaged.
func (s *Snapshot) Get(key []byte) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.st.gen.release()
	return s.get(key)
}

func (s *Snapshot) get(key []byte) ([]byte, error) {
	value, err := s.st.reading().get(key)
	return value, s.explain(err)
}

// Has tells whether there is a record of key.
func (s *Snapshot) Has(key []byte) (bool, error) {
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.st.gen.release()
	found, err := s.st.reading().has(key)
	return found, s.explain(err)
}

// Len is the number of records.
func (s *Snapshot) Len() int { return s.st.live.Len() }

// All yields every record in key order. In a damaged file ErrDamaged follows the last one.
func (s *Snapshot) All() iter.Seq2[Record, error] { return s.Range(nil, nil) }

// Prefix yields the records whose keys begin with prefix, in key order.
func (s *Snapshot) Prefix(prefix []byte) iter.Seq2[Record, error] {
	return s.scan(bounds{from: prefix, prefix: prefix})
}

// Range yields the records from the key from on, up to but without the key to. Nil means no bound.
func (s *Snapshot) Range(from, to []byte) iter.Seq2[Record, error] {
	return s.scan(bounds{from: from, to: to})
}

func (s *Snapshot) scan(b bounds) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := s.enter(); err != nil {
			yield(Record{}, err)
			return
		}
		defer s.st.gen.release()
		for r, err := range s.st.reading().scan(b) {
			if err != nil {
				yield(Record{}, s.explain(err))
				return
			}
			if !yield(r, nil) {
				return
			}
		}
		if s.st.damage != nil {
			yield(Record{}, s.st.damage)
		}
	}
}

// explain tells a lost snapshot from damage, and adds ErrDamaged to every answer from a damaged file.
func (s *Snapshot) explain(err error) error {
	if errors.Is(err, vfs.ErrFault) || errors.Is(err, ErrDamaged) {
		if info, e := s.st.gen.rd.Stat(); e == nil && info.Size < s.st.view.Size {
			return fmt.Errorf("%s: %w", s.st.gen.path, ErrSnapshotLost)
		}
	}
	if s.st.damage != nil && (err == nil || errors.Is(err, ErrNotFound)) {
		return errors.Join(err, s.st.damage)
	}
	return err
}

// reading is a tree with the bytes it refers to.
type reading struct {
	codec codec.Codec
	view  *codec.View
	look  tree.Lookup
	live  tree.Tree
}

func (st *state) reading() reading { return reading{st.codec, st.view, st.look, st.live} }

func (r reading) get(key []byte) (value []byte, err error) {
	defer vfs.CatchFault(vfs.ArmFault(), r.view.Mem, &err)
	ref := r.live.Get(r.look, key)
	if ref == 0 {
		return nil, ErrNotFound
	}
	_, value, err = r.codec.Record(r.view, ref)
	if err != nil {
		return nil, err
	}
	return append(make([]byte, 0, len(value)), value...), nil
}

func (r reading) has(key []byte) (found bool, err error) {
	defer vfs.CatchFault(vfs.ArmFault(), r.view.Mem, &err)
	return r.live.Get(r.look, key) != 0, nil
}

// bounds limit a scan: keys not before from, before to, and with the prefix; nil does not limit.
type bounds struct {
	from, to, prefix []byte
}

// A scan copies records in batches, so that the caller's code runs outside the guard of the mapping. The first batch is
// small, for those who look at a few records.
const (
	firstBatch    = 16
	maxBatch      = 512
	maxBatchBytes = 256 << 10
)

func (r reading) scan(b bounds) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var sc scanner
		if err := sc.start(r, b); err != nil {
			yield(Record{}, err)
			return
		}
		for size := firstBatch; ; size = min(2*size, maxBatch) {
			err := sc.fill(r, b, size)
			for _, rec := range sc.batch {
				if !yield(rec, nil) {
					return
				}
			}
			if err != nil {
				yield(Record{}, err)
				return
			}
			if sc.done {
				return
			}
		}
	}
}

type scanner struct {
	cursor tree.Cursor
	batch  []Record // at first in room
	room   [firstBatch]Record
	buf    []byte
	done   bool
}

func (sc *scanner) start(r reading, b bounds) (err error) {
	defer vfs.CatchFault(vfs.ArmFault(), r.view.Mem, &err)
	sc.batch = sc.room[:0]
	if len(b.from) == 0 {
		sc.cursor = r.live.First()
	} else {
		sc.cursor, _ = r.live.Seek(r.look, b.from)
	}
	return nil
}

// fill copies the next records, size at the most, into the batch.
func (sc *scanner) fill(r reading, b bounds, size int) (err error) {
	defer vfs.CatchFault(vfs.ArmFault(), r.view.Mem, &err)
	sc.batch, sc.buf = sc.batch[:0], sc.buf[:0]
	for len(sc.batch) < size && len(sc.buf) < maxBatchBytes {
		ref := sc.cursor.Ref()
		if ref == 0 {
			sc.done = true
			return nil
		}
		key, value, err := r.codec.Record(r.view, ref)
		if err != nil {
			return err
		}
		in, past := b.contains(key, r.look.Compare)
		if past {
			sc.done = true
			return nil
		}
		if in {
			sc.add(key, value)
		}
		sc.cursor.Next()
	}
	return nil
}

// add copies a record into the buffer. A buffer that has no room is left to the records in it.
func (sc *scanner) add(key, value []byte) {
	n := len(key) + len(value)
	if cap(sc.buf)-len(sc.buf) < n {
		sc.buf = make([]byte, 0, max(n, 2*cap(sc.buf), 4096))
	}
	k := len(sc.buf)
	sc.buf = append(append(sc.buf, key...), value...)
	sc.batch = append(sc.batch, Record{
		Key:   sc.buf[k : k+len(key) : k+len(key)],
		Value: sc.buf[k+len(key) : k+n : k+n],
	})
}

// contains tells whether key is within the bounds, and whether it and all that follow are past them. In mailbox order
// keys with one prefix need not be neighbours: TAB and LF sort alike.
func (b bounds) contains(key []byte, compare func(a, b []byte) int) (in, past bool) {
	if b.to != nil && compare(key, b.to) >= 0 {
		return false, true
	}
	if len(b.prefix) == 0 || bytes.HasPrefix(key, b.prefix) {
		return true, false
	}
	return false, compare(key[:min(len(key), len(b.prefix))], b.prefix) > 0
}
