package mboxdb

import (
	"context"
	"errors"
	"iter"
	"sync"
)

// ChangeKind says what happened to a name.
type ChangeKind int

const (
	// Added means that there is now a mailbox of this name.
	Added ChangeKind = iota
	// Changed means that its record changed: the ACL, say.
	Changed
	// Removed means that there is none any more. A rename removes one name and adds another, with the same unique id.
	Removed
)

// String is the word for the kind.
func (k ChangeKind) String() string { return [...]string{"added", "changed", "removed"}[k] }

// Change is one committed change of the list.
type Change struct {
	Kind     ChangeKind
	Name     Name
	UniqueID string
}

// ErrMissedChanges means that a watcher was too slow, and that changes were dropped: it has to look at the list anew.
var ErrMissedChanges = errors.New("changes were missed")

// maxQueued is how many changes are kept for a slow watcher.
const maxQueued = 4096

// hub hands changes to those who watch.
type hub struct {
	mu       sync.Mutex
	watchers map[*watcher]bool
	closed   bool
}

type watcher struct {
	queue  []Change
	missed bool
	wake   chan struct{}
}

// Watch yields every change that this process commits after the call of Watch, in order, until ctx ends or the list is
// closed; it yields what ended it. After ErrMissedChanges the iteration goes on. Changes by other processes are not
// seen.
func (l *List) Watch(ctx context.Context) iter.Seq2[Change, error] {
	w := &watcher{wake: make(chan struct{}, 1)}
	l.hub.add(w)
	return func(yield func(Change, error) bool) {
		defer l.hub.drop(w)
		for {
			changes, missed, closed := l.hub.take(w)
			if missed && !yield(Change{}, ErrMissedChanges) {
				return
			}
			for _, c := range changes {
				if !yield(c, nil) {
					return
				}
			}
			if closed {
				return
			}
			select {
			case <-w.wake:
			case <-ctx.Done():
				yield(Change{}, context.Cause(ctx))
				return
			}
		}
	}
}

func (h *hub) add(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		h.watchers = map[*watcher]bool{}
	}
	h.watchers[w] = true
}

func (h *hub) drop(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
}

func (h *hub) take(w *watcher) (changes []Change, missed, closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changes, missed = w.queue, w.missed
	w.queue, w.missed = nil, false
	return changes, missed, h.closed
}

func (h *hub) publish(changes []Change) {
	if len(changes) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if len(w.queue)+len(changes) > maxQueued {
			w.queue, w.missed = nil, true
		} else {
			w.queue = append(w.queue, changes...)
		}
		w.notify()
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for w := range h.watchers {
		w.notify()
	}
}

func (w *watcher) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
