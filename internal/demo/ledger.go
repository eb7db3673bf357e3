package demo

import (
	"context"
	"fmt"
	"sync"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// ledger changes a mailbox list and remembers what was acknowledged.
type ledger struct {
	tally
	list *mboxdb.List
	mu   sync.Mutex
	// acked holds the mailboxes there have to be, with their records.
	acked map[mboxdb.Name]string
}

func newLedger(list *mboxdb.List, what string) *ledger {
	return &ledger{list: list, tally: tally{what: what}, acked: map[mboxdb.Name]string{}}
}

// openList opens a mailbox list as a server does that keeps reverse ACL keys.
func openList(ctx context.Context, path string, o skiplist.Options) (*mboxdb.List, error) {
	return mboxdb.Open(ctx, path, mboxdb.Options{DB: o, ReverseACLs: true})
}

func name(i int) mboxdb.Name { return mboxdb.InternalName(fmt.Sprintf("user.u%04d", i)) }

// text is what has to be known of a mailbox to tell one of its records from every other.
func text(r mboxdb.Record) string {
	return fmt.Sprintf("%s %d %d %s", r.UniqueID, r.UIDValidity, r.FolderModSeq, r.ACL)
}

// fill makes the mailboxes.
func (l *ledger) fill(ctx context.Context) error {
	for i := range mailboxes {
		if err := l.create(ctx, name(i)); err != nil {
			return err
		}
	}
	return nil
}

func (l *ledger) create(ctx context.Context, n mboxdb.Name) error {
	rec, err := l.list.Create(ctx, mboxdb.NewMailbox{Name: n})
	return l.note(n, rec, err)
}

func (l *ledger) remove(ctx context.Context, n mboxdb.Name) error {
	rec, err := l.list.Delete(ctx, n, false)
	return l.note(n, rec, err)
}

// change makes the next change of mailbox i: a folder is made or deleted, or the mailbox shared with everybody, or not any
// more. No two callers may change the same mailbox at once.
func (l *ledger) change(ctx context.Context, i int) error {
	n := name(i % mailboxes)
	folder := n.Child("Work")
	switch {
	case !l.has(n):
		return l.create(ctx, n)
	case i%3 == 0 && l.has(folder):
		return l.remove(ctx, folder)
	case i%3 == 0:
		return l.create(ctx, folder)
	}
	mode := []mboxdb.ACLMode{mboxdb.AddRights, mboxdb.RemoveRights}[i/mailboxes%2]
	rec, err := l.list.SetACL(ctx, n, "anyone", mode, mboxdb.RightLookup|mboxdb.RightRead)
	return l.note(n, rec, err)
}

func (l *ledger) has(n mboxdb.Name) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.acked[n]
	return ok
}

// note remembers an answer.
func (l *ledger) note(n mboxdb.Name, rec mboxdb.Record, err error) error {
	if ok, err := l.answer(1, err); !ok {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if rec.Type.Deleted() {
		delete(l.acked, n)
	} else {
		l.acked[n] = text(rec)
	}
	return nil
}

// read looks up a mailbox that nobody deletes meanwhile.
func (l *ledger) read(ctx context.Context) error {
	_, err := l.list.Lookup(ctx, name(mailboxes/2))
	return err
}

// work changes the list n times; every change has to succeed.
func (l *ledger) work(ctx context.Context, n int) error {
	return l.allMade(n, func(i int) error { return l.change(ctx, i) })
}

// differences between the file and what was acknowledged: mailboxes that are missing, that have an older record or one
// that was refused, and that were deleted or never acknowledged; and what a check of the keys finds.
type differences struct{ lost, stale, extra, findings int }

// differences opens the file anew and compares.
func (l *ledger) differences(ctx context.Context) (d differences, err error) {
	list, err := openList(ctx, l.list.DB().Path(), skiplist.Options{ReadOnly: true})
	if err != nil {
		return d, err
	}
	defer list.Close()
	err = list.View(ctx, func(v *mboxdb.View) error {
		found := 0
		for rec, err := range v.All() {
			if err != nil {
				return err
			}
			switch want, ok := l.acked[rec.Name]; {
			case !ok:
				d.extra++
				continue
			case want != text(rec):
				d.stale++
			}
			found++
		}
		d.lost = len(l.acked) - found
		return nil
	})
	if err == nil {
		err = list.Check(ctx, func(f finding.Finding) {
			if f.Severity > finding.Info {
				d.findings++
			}
		})
	}
	return d, err
}
