package store

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/mailspine/mailspine/index"
)

// pledges are the parts that a keeper of quota roots has in a step: one for each root whose usage changes.
type pledges []index.Pledge

// errNotCounted means that an entry has to wait for somebody who keeps the accounts of quota roots.
var errNotCounted = errors.New("the usage of a quota root has to be counted again, by a process that keeps the accounts")

// usages are by how much the step changes what counts for each quota root.
func (st *step) usages() []index.Usage {
	sums := map[string]index.Usage{}
	add := func(root string, m *Moved, sign int64) {
		if root == "" {
			return
		}
		u := sums[root]
		u.QuotaRoot = root
		u.Bytes += sign * m.usage.Bytes
		u.Messages += sign * m.usage.Messages
		u.AnnotBytes += sign * m.usage.AnnotBytes
		u.Folder += sign
		sums[root] = u
	}
	for i := range st.moves {
		if m := &st.moves[i]; m.QuotaBefore != m.QuotaAfter {
			add(m.QuotaBefore, m, -1)
			add(m.QuotaAfter, m, 1)
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
	if s.opts.Quota == nil {
		return nil, nil
	}
	for _, u := range st.usages() {
		p, err := s.opts.Quota.Begin(ctx, u)
		if err != nil {
			return nil, errors.Join(err, all.undo())
		}
		all = append(all, p)
	}
	return all, nil
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

func (all pledges) leave() {
	for _, p := range all {
		p.Leave()
	}
}

// recount has what an entry says of quota roots counted anew.
func (s *Store) recount(ctx context.Context, e *entry) error {
	if len(e.Pledges) == 0 {
		return nil
	}
	if s.opts.Quota == nil {
		return errNotCounted
	}
	var all []error
	for _, b := range e.Pledges {
		all = append(all, s.opts.Quota.Recover(ctx, b))
	}
	return errors.Join(all...)
}
