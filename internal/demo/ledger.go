package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/mailspine/mailspine/skiplist"
)

// ledger changes a database and remembers what was acknowledged.
type ledger struct {
	db    *skiplist.DB
	mu    sync.Mutex
	acked map[string]string

	acks, refused, reads atomic.Int64
}

func name(i int) string { return fmt.Sprintf("user.u%04d", i) }

// fill makes the mailboxes.
func (l *ledger) fill(ctx context.Context) error {
	return l.db.Update(ctx, func(tx *skiplist.Tx) error {
		for i := range mailboxes {
			v := fmt.Sprintf("%%(A %%(u%04d lrswipkxtecdan) I %032x P default)", i, i)
			if err := tx.Put([]byte(name(i)), []byte(v)); err != nil {
				return err
			}
			l.acked[name(i)] = v
		}
		return nil
	})
}

// change makes one change, durably, and notes whether it was acknowledged; an empty value deletes. A refusal for want of
// space is no error. No two callers may change the same key at once.
func (l *ledger) change(ctx context.Context, key, value string) error {
	var err error
	if value == "" {
		err = l.db.Delete(ctx, []byte(key))
	} else {
		err = l.db.Put(ctx, []byte(key), []byte(value))
	}
	if errors.Is(err, skiplist.ErrNoSpace) {
		l.refused.Add(1)
		return nil
	}
	if err != nil {
		return err
	}
	l.acks.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if value == "" {
		delete(l.acked, key)
	} else {
		l.acked[key] = value
	}
	return nil
}

// work changes the list n times; every change has to succeed.
func (l *ledger) work(ctx context.Context, n int) error {
	refused := l.refused.Load()
	for i := range n {
		if err := l.change(ctx, name(i%mailboxes), fmt.Sprintf("%%(A %%() I %032x P default)", i)); err != nil {
			return err
		}
	}
	if l.refused.Load() != refused {
		return errors.New("a change was refused although there is space")
	}
	return nil
}

// differences between the file and what was acknowledged: records that are missing, that have an older value or one that
// was refused, and that were deleted or never acknowledged.
type differences struct{ lost, stale, extra int }

// differences opens the file anew and compares.
func (l *ledger) differences(ctx context.Context) (d differences, err error) {
	db, err := skiplist.Open(ctx, l.db.Path(), skiplist.Options{ReadOnly: true})
	if err != nil {
		return d, err
	}
	defer db.Close()
	err = db.View(ctx, func(r *skiplist.Snapshot) error {
		for k, want := range l.acked {
			got, err := r.Get([]byte(k))
			switch {
			case errors.Is(err, skiplist.ErrNotFound):
				d.lost++
			case err != nil:
				return err
			case string(got) != want:
				d.stale++
			}
		}
		d.extra = r.Len() - (len(l.acked) - d.lost)
		return nil
	})
	return d, err
}
