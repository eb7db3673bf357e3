package store

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
)

// pledges are the parts that a keeper of quota roots has in a step: one for each root whose usage changes.
type pledges []index.Pledge

// usages are by how much the step changes what counts for each quota root.
func (st *step) usages() []index.Usage {
	sums := map[string]index.Usage{}
	add := func(root string, rec mboxdb.Record, m *Moved, sign int64) {
		if root == "" {
			return
		}
		part := index.Usage{QuotaRoot: root, Mailbox: rec.Name.String(), Bytes: sign * m.usage.Bytes, Messages: sign * m.usage.Messages,
			AnnotBytes: sign * m.usage.AnnotBytes, Folder: sign}
		u := sums[root]
		u.QuotaRoot, u.Parts = root, append(u.Parts, part)
		u.Bytes, u.Messages, u.AnnotBytes, u.Folder = u.Bytes+part.Bytes, u.Messages+part.Messages, u.AnnotBytes+part.AnnotBytes, u.Folder+part.Folder
		sums[root] = u
	}
	for i := range st.moves {
		if m := &st.moves[i]; m.QuotaBefore != m.QuotaAfter {
			add(m.QuotaBefore, m.Before, m, -1)
			add(m.QuotaAfter, m.After, m, 1)
		}
	}
	var list []index.Usage
	for _, root := range slices.Sorted(maps.Keys(sums)) {
		if !sums[root].Zero() {
			list = append(list, sums[root])
		}
	}
	return list
}

// pledge asks for the consent of who keeps the quota roots. It may refuse; then nothing is changed.
func (s *Store) pledge(ctx context.Context, st *step) (all pledges, err error) {
	for _, u := range st.usages() {
		p, err := s.quota.Begin(ctx, u)
		if err != nil {
			return nil, errors.Join(err, all.undo())
		}
		all = append(all, p)
	}
	return all, nil
}

// affords fails if a quota root has no room for the step, which is not to be made: nothing is reserved, and no lock taken.
func (s *Store) affords(ctx context.Context, st *step) error {
	for i := range st.moves {
		if m := &st.moves[i]; m.hadFiles() && m.QuotaBefore != m.QuotaAfter {
			seen, err := s.look(ctx, m.Before)
			if err != nil {
				continue // whether that stops the step is decided when it is made
			}
			m.usage = seen.usage
		}
	}
	for _, u := range st.usages() {
		if err := s.quota.Check(ctx, u.QuotaRoot, quota.AmountsOf(u)); err != nil {
			return err
		}
	}
	return nil
}

// journal is what the entry has to keep.
func (all pledges) journal() (bytes [][]byte) {
	for _, p := range all {
		if b := p.Journal(); len(b) > 0 {
			bytes = append(bytes, b)
		}
	}
	return bytes
}

func (all pledges) undo() error {
	var errs []error
	for _, p := range all {
		errs = append(errs, p.Undo())
	}
	return errors.Join(errs...)
}

func (all pledges) apply(ctx context.Context) error {
	var errs []error
	for _, p := range all {
		errs = append(errs, p.Apply(ctx))
	}
	return errors.Join(errs...)
}

// doubt has the roots counted in whose usage the mailboxes may have had another part than what is taken from it: those that a
// header named without being the owner, because a count may have found out and left the mailbox out before, and those of mailboxes
// that could not be read.
func (s *Store) doubt(ctx context.Context, st *step) error {
	var all []error
	for i := range st.moves {
		if root := st.moves[i].doubt; root != "" && !planted.On(planted.QuotaDoubtForgotten) {
			all = append(all, s.quota.Doubt(ctx, root))
		}
	}
	return errors.Join(all...)
}

func (all pledges) leave() {
	for _, p := range all {
		p.Leave()
	}
}

// recount notes that the quota roots of an entry are to be counted anew.
func (s *Store) recount(ctx context.Context, e *entry) error {
	var all []error
	for _, b := range e.Pledges {
		all = append(all, s.quota.Recover(ctx, b))
	}
	return errors.Join(all...)
}

// settleAccounts counts the quota roots that are to be counted anew. No lock is held any more. What fails stays noted.
func (s *Store) settleAccounts(ctx context.Context) {
	if err := s.quota.Settle(ctx); err != nil {
		s.logger.Error("the usage of quota roots is still to be counted anew", "error", err)
	}
}
