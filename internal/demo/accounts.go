package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/store"
)

// boxes are mailboxes, and the quota roots that count for them. There are roots below others, names that begin like
// another, and a mailbox that comes after a root below its own.
var boxes = []struct{ name, root string }{
	{"user.base", "user.base"},
	{"user.base.Archive", "user.base.Archive"},
	{"user.base.Archive.Old", "user.base.Archive"},
	{"user.base.Sent", "user.base"},
	{"user.baseplus", "user.baseplus"},
	{"user.baseplus.Sent", "user.baseplus"},
	{"user.ida", "user.ida"},
	{"user.ida.Work", "user.ida"},
	{"user.joe", "user.joe"},
	{"user.joe.Work", "user.joe"},
}

// What the outage has made of the numbers, and of what headers say to which root their mailboxes count.
var (
	doubled    = []string{"user.base", "user.joe"}
	halved     = []string{"user.base.Archive", "user.ida"}
	wrongRoots = map[string]string{"user.baseplus.Sent": "user.base", "user.ida.Work": ""}
)

// limitKiB is what each root may use. It is never reached here.
const limitKiB = 100_000

// accounts are mailboxes with quota roots.
type accounts struct {
	tally
	// st is the store, other the same one as another process has it open.
	st, other *store.Store
	posts     map[string]*post
	// roots are the names of the roots.
	roots []string
}

// openAccounts makes the mailboxes and the roots.
func openAccounts(ctx context.Context, st, other *store.Store) (_ *accounts, err error) {
	a := &accounts{tally: tally{what: "quotas"}, st: st, other: other, posts: map[string]*post{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	for _, b := range boxes {
		name := mboxdb.InternalName(b.name)
		if _, err := st.Create(ctx, store.NewMailbox{Name: name}); err != nil {
			return nil, err
		}
		if a.posts[b.name], err = openPost(ctx, st, name, &a.tally); err != nil {
			return nil, err
		}
		if b.name == b.root {
			a.roots = append(a.roots, b.root)
		}
	}
	for _, root := range a.roots {
		if _, err := st.Quota().Set(ctx, root, map[quota.Resource]int64{quota.Storage: limitKiB}); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *accounts) close() error {
	var all []error
	for _, p := range a.posts {
		if p != nil {
			all = append(all, p.close())
		}
	}
	return errors.Join(all...)
}

// outage leaves numbers and headers as the outage did.
func (a *accounts) outage(ctx context.Context) error {
	roots := a.st.Quota().Roots()
	for _, wrong := range []struct {
		roots       []string
		times, from int64
	}{{doubled, 2, 1}, {halved, 1, 2}} {
		for _, root := range wrong.roots {
			_, err := roots.Update(ctx, root, func(r *quota.Record) error {
				r.Used[quota.Storage] = r.Used[quota.Storage] * wrong.times / wrong.from
				r.Used[quota.Messages] = r.Used[quota.Messages] * wrong.times / wrong.from
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	for name, root := range wrongRoots {
		err := a.posts[name].box.Update(ctx, func(tx *index.Tx) error {
			return tx.EditHeaderFile(func(h *index.HeaderFile) error {
				h.QuotaRoot = root
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// change makes the next change of a writer: mail comes in, or is expunged. Every other change is of the first mailbox, three
// messages at a time; the rest go round.
func (a *accounts) change(ctx context.Context, w, i int) error {
	at, step, n := 0, i/2, 3
	if i%2 == 1 {
		at, step, n = 1+step%(len(boxes)-1), step/(len(boxes)-1), 1
	}
	p := a.posts[boxes[at].name]
	h := &p.hands[w]
	if step%4 == 3 && len(h.uids) > 0 {
		oldest := h.uids[0]
		h.uids = h.uids[1:]
		return p.expunge(ctx, oldest)
	}
	uids, err := p.append(ctx, n)
	h.uids = append(h.uids, uids...)
	return err
}

// read looks at a root, as GETQUOTA does.
func (a *accounts) read(ctx context.Context) error {
	_, err := a.st.Quota().Roots().Get(ctx, a.roots[0])
	return err
}

// runs are what recalculations have done.
type runs struct {
	// n is how many there were, and late how many of them, after the first of each process, found something to put right.
	n, late int
	// changed and headers are how many numbers and headers were put right.
	changed, headers int
}

func (r runs) String() string { return fmt.Sprintf("%d recalculations, two at a time", r.n) }

func (r *runs) add(report *quota.Report, first bool) {
	r.n++
	r.changed += report.Changed
	r.headers += report.Headers
	if !first && report.Changed+report.Headers+report.Failed+report.Incomplete > 0 {
		r.late++
	}
}

// pause is what a recalculation leaves to others before the next one begins.
const pause = time.Millisecond

// twice has two processes, as it were, recalculate all roots at once, until until has ended, and at least once.
func (a *accounts) twice(ctx context.Context, until <-chan struct{}) (all runs, err error) {
	var mu sync.Mutex
	var both sync.WaitGroup
	recalculate := func(k *quota.Keeper) error {
		for n := 0; ; n++ {
			report, err := k.Recalculate(ctx, quota.Recalculation{})
			if err != nil {
				return err
			}
			mu.Lock()
			all.add(report, n == 0)
			mu.Unlock()
			select {
			case <-until:
				return nil
			case <-time.After(pause):
			}
		}
	}
	errs := make([]error, 2)
	for i, st := range []*store.Store{a.st, a.other} {
		both.Go(func() { errs[i] = recalculate(st.Quota()) })
	}
	both.Wait()
	return all, errors.Join(errs...)
}

// beside makes n changes while two processes recalculate.
func (a *accounts) beside(ctx context.Context, n int, change func(i int) error) (runs, error) {
	done := make(chan struct{})
	var failed error
	go func() {
		defer close(done)
		for i := range n {
			if failed = change(i); failed != nil {
				return
			}
		}
	}()
	all, err := a.twice(ctx, done)
	<-done
	return all, errors.Join(failed, err)
}

// wanted is what each root has to say: what the messages weigh that there have to be.
func (a *accounts) wanted() map[string]quota.Amounts {
	all := map[string]quota.Amounts{}
	for _, b := range boxes {
		sum := all[b.root]
		sum[quota.Folders]++
		for _, m := range a.posts[b.name].acked {
			if m.flags&index.FlagExpunged == 0 {
				sum[quota.Messages]++
				sum[quota.Storage] += m.bytes
			}
		}
		all[b.root] = sum
	}
	return all
}

// accountDifferences are those between the roots and what was acknowledged: roots that say less or more than their messages weigh;
// those of them that say twice as much; and roots that are gone, or have another limit.
type accountDifferences struct{ less, more, doubled, gone int }

// differences looks at some of the roots.
func (a *accounts) differences(ctx context.Context, roots []string) (d accountDifferences, err error) {
	wanted, limits := a.wanted(), quota.NoLimits()
	limits[quota.Storage] = limitKiB
	for _, root := range roots {
		rec, err := a.other.Quota().Roots().Get(ctx, root)
		if errors.Is(err, quota.ErrNotFound) || err == nil && rec.Limits != limits {
			d.gone++
			continue
		}
		if err != nil {
			return d, err
		}
		less, more := false, false
		for i, n := range rec.Used {
			less, more = less || n < wanted[root][i], more || n > wanted[root][i]
		}
		if less {
			d.less++
		}
		if more {
			d.more++
		}
		if more && rec.Used[quota.Messages] >= 2*wanted[root][quota.Messages] {
			d.doubled++
		}
	}
	return d, nil
}
