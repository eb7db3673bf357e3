package skiplist

import (
	"fmt"

	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// orders are those that a file may be in, that of the format first.
func (db *DB) orders() []Order {
	return []Order{db.codec.Traits().Order, SignedOrder, UnsignedOrder, MailboxOrder}
}

// fittingOrder finds the order that the checkpointed records do stand in; DefaultOrder if it is none.
func (db *DB) fittingOrder(st *state) Order {
	for _, o := range db.orders() {
		if alt, err := db.probe(st, o); err == nil && !alt.log.Disorder {
			return o
		}
	}
	return DefaultOrder
}

// linkedOrder finds an order in which the whole file, all its links included, is right, and in which the records follow
// each other otherwise than in the order in use. A log does not tell the order in which it was written; the links do.
// DefaultOrder is the answer if there is none. What a crash leaves is never taken for such a file: the records that have
// their commit have their own links, in the order in which they were written.
func (db *DB) linkedOrder(st *state) Order {
	if db.probing || planted.On(planted.OrderUnasked) {
		return DefaultOrder
	}
	for _, o := range db.orders() {
		if o == db.Order() {
			continue
		}
		alt, err := db.probe(st, o)
		if err != nil || alt.damage != nil || alt.log.Disorder || alt.log.Astray || sameSequence(alt.live, st.live) {
			continue
		}
		if right, err := rightLinks(alt); err == nil && right {
			return o
		}
	}
	return DefaultOrder
}

func sameSequence(a, b tree.Tree) bool {
	if a.Len() != b.Len() {
		return false
	}
	x, y := a.First(), b.First()
	for x.Ref() != 0 && x.Ref() == y.Ref() {
		x.Next()
		y.Next()
	}
	return x.Ref() == y.Ref()
}

// rightLinks tells whether all links are those of the log.
func rightLinks(st *state) (right bool, err error) {
	defer vfs.CatchFault(vfs.ArmFault(), st.view.Mem, &err)
	right = true
	err = st.codec.CheckLinks(st.view, st.header, st.live, func(codec.WrongLink) bool {
		right = false
		return false
	})
	return right, err
}

// probe reads the file as one in another order.
func (db *DB) probe(st *state, o Order) (*state, error) {
	other := &DB{path: db.path, opts: Options{Order: o}, codec: db.codec, compare: compareFor(db.codec.Traits(), o), probing: true}
	return other.load(st.gen, st.seen, nil)
}

func (db *DB) orderError(o Order) error {
	return fmt.Errorf("%s: %w: not in %s order but in %s order", db.path, ErrOrder, db.Order(), o)
}

// sortedAsLinked fails with ErrOrder for a file that is to be written, or copied, in an order that its links contradict.
func (db *DB) sortedAsLinked(st *state) error {
	if st.linked || st.blank {
		return nil
	}
	if right, err := rightLinks(st); err != nil || right {
		return nil // what cannot be read is found by those who need it
	}
	if o := db.linkedOrder(st); o != DefaultOrder {
		return db.orderError(o)
	}
	return nil
}
