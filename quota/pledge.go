package quota

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/journal"
	"github.com/mailspine/mailspine/internal/planted"
)

// Token is room that [Keeper.Reserve] keeps in a quota root. Exactly one of Commit and Release ends it; the second is free to be
// called after either. If its process dies the room is free again at once.
type Token struct {
	k     *Keeper
	root  string
	delta Amounts
	parts []part

	mu   sync.Mutex
	slot *tokenSlot // nil if nothing limits the change, or it is over
	over bool
}

// part is what one mailbox changes; its name is empty if it is not known.
type part struct {
	mailbox string
	delta   Amounts
}

var errTokenOver = errors.New("the token of a quota root was used before")

// Commit adds to the usage what was reserved: the change is made. The commit point is that of [Roots.Update]. If the record cannot be
// written the root is marked as dirty, to be counted by [Keeper.Settle]; only if that fails, too, the usage stays wrong, and an
// error tells it.
func (t *Token) Commit(ctx context.Context) error {
	t.mu.Lock()
	over := t.over
	t.over = true
	t.mu.Unlock()
	if over {
		return errTokenOver
	}
	return t.apply(context.WithoutCancel(ctx))
}

// Release gives the room back: the change is not made.
func (t *Token) Release() error {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.drop()
	return nil
}

// drop gives the slot back.
func (t *Token) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slot.release()
	t.slot = nil
}

// apply adds to the record, and gives the token back under its lock: whoever looks next sees the one or the other, not both.
func (t *Token) apply(ctx context.Context) error {
	k := t.k
	doubt := ""
	_, err := k.roots.Finish(ctx, t.root, func(r *Record) error {
		doubt = t.add(r)
		t.drop()
		return nil
	})
	t.drop()
	switch {
	case errors.Is(err, ErrNotFound):
		k.logger.Warn("a mailbox counts for a quota root that is gone", "root", t.root)
		return nil
	case err == nil && doubt == "":
		return nil
	}
	k.logger.Warn("the usage of a quota root is to be counted", "root", t.root, "doubt", doubt, "error", err)
	e := k.mark(ctx, t.root)
	if unreadable := errors.Is(err, ErrEmpty) || errors.Is(err, ErrDamaged); unreadable && errors.Is(e, journal.ErrFull) {
		k.logger.Warn("a quota root that cannot be read is to be counted once it can be", "root", t.root, "error", e)
		return nil // it has no number that would be wrong, and there may be many of them after an outage
	}
	if e != nil {
		return fmt.Errorf("mark quota root %q for a count: %w", t.root, errors.Join(e, err))
	}
	return nil
}

// add adds the change to a record, and says why that may not be the right usage.
func (t *Token) add(r *Record) (doubt string) {
	sum, exact := r.Used.Plus(t.delta)
	used, negative := sum.Clamped()
	r.Used = used
	switch {
	case negative:
		doubt = "more was freed than was used"
	case !exact:
		doubt = "it is larger than the record can hold"
	}
	if r.Scan == nil {
		return doubt
	}
	// Cyrus's quota is counting. What it has passed it does not look at again, and relies on everybody else to add to its sum.
	for _, p := range t.parts {
		if p.mailbox == "" {
			return "it is being counted by Cyrus, and it is not known which mailbox changes"
		}
		if p.mailbox > r.Scan.Mailbox {
			continue
		}
		sum, exact := r.Scan.Used.Plus(p.delta)
		if r.Scan.Used, negative = sum.Clamped(); negative || !exact {
			doubt = "it is being counted by Cyrus, and less was counted than is freed"
		}
	}
	return doubt
}

// pledge is the part of a keeper in a change. Token is nil if the mailbox names what cannot be a root.
type pledge struct {
	*Token
	usage index.Usage
}

func (p *pledge) Journal() []byte {
	if p.Token == nil {
		return nil
	}
	if planted.On(planted.QuotaUnnoted) {
		return nil
	}
	return append([]byte{journalVersion}, p.root...)
}

func (p *pledge) Apply(ctx context.Context) error {
	if p.Token == nil {
		return nil
	}
	return p.Commit(ctx)
}

func (p *pledge) Undo() error {
	p.Leave()
	return nil
}

func (p *pledge) Leave() {
	if p.Token != nil {
		_ = p.Release()
	}
}
