package quota

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// suspects are the roots of this run that a header names without their being the owner of its mailbox, before anything is mended.
// Until it is, changes of that mailbox go to such a root, perhaps after that was counted. Who mends the header knows that, but it
// may be another recalculation that does not count the root, or a rename; so these roots are counted again at the end. A header
// does not become wrong later on but by whoever makes or removes a root, and he counts himself.
func (r *run) suspects(ctx context.Context) (roots []string, err error) {
	if r.req.DryRun || len(r.selected) < 2 || planted.On(planted.QuotaSuspectsForgotten) {
		return nil, nil // a single root cannot be named in the place of another one that is counted
	}
	tops := r.selected
	if r.full {
		tops = []string{""}
	}
	found := map[string]bool{}
	for _, top := range tops {
		err := r.k.list.View(ctx, func(v *mboxdb.View) error { return r.suspectsBelow(ctx, v, top, found) })
		if err != nil && !errors.Is(err, skiplist.ErrDamaged) && !errors.Is(err, skiplist.ErrSnapshotLost) {
			return nil, fmt.Errorf("mailbox list: %w", err)
		}
	}
	for root := range found {
		roots = append(roots, root)
	}
	slices.Sort(roots)
	return roots, nil
}

// suspectsBelow looks at the mailboxes of one root, or of no root in particular.
func (r *run) suspectsBelow(ctx context.Context, v *mboxdb.View, top string, found map[string]bool) error {
	l := r.k.lookups(ctx)
	all := v.All()
	if top != "" {
		all = below(v, top, r.k.layout.Namespace.VirtDomains)
	}
	for rec, err := range all {
		if err == nil {
			err = context.Cause(ctx)
		}
		if errors.Is(err, mboxdb.ErrRecord) {
			continue
		}
		if err != nil {
			return err
		}
		if !counts(rec) {
			continue
		}
		owner, err := l.owner(rec.Name.String())
		if err != nil {
			return err
		}
		if top != "" && owner != top {
			continue
		}
		place, err := index.PlaceOf(r.k.layout, rec)
		if err != nil {
			continue // it cannot be counted either, which is told then
		}
		if named, err := headerRoot(r.k.fs, place); err == nil && named != owner && named != "" && r.isSelected(named) {
			found[named] = true
		}
	}
	return nil
}

// once has roots counted once more by the next work.
func (r *run) once(roots []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, root := range roots {
		if !slices.Contains(r.again, root) {
			r.again = append(r.again, root)
		}
	}
}
