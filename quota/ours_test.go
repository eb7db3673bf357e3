package quota_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/dlist"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/vfstest"
	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/store"
)

// keeping is a keeper of the quota roots of a store, and all that it stands on.
type keeping struct {
	*quota.Keeper
	roots *quota.Roots
	st    *store.Store
}

// keep opens the keeper of a store through a file system.
func (g *ground) keep(fsys vfs.FS, readOnly bool) *keeping {
	c := g.config()
	st, err := store.Open(g.t.Context(), c, store.Options{FS: fsys, ReadOnly: readOnly})
	require.NoError(g.t, err)
	o := quota.Options{FS: fsys, ReadOnly: readOnly, StateDir: filepath.Join(c.ConfigDirectory(), "mailspine", "quota")}
	roots, err := quota.OpenRoots(g.t.Context(), c, o)
	require.NoError(g.t, err)
	return &keeping{quota.NewKeeper(roots, st.List(), st.Layout(), o), roots, st}
}

func (k *keeping) close() error { return errors.Join(k.roots.Close(), k.st.Close()) }

// recalculate runs a recalculation and returns what became of each root.
func (g *ground) recalculate(a asked) map[string]quota.Outcome {
	outcomes, _ := g.recalculateAll(a)
	return outcomes
}

// recalculateAll is recalculate with what was found beside the roots.
func (g *ground) recalculateAll(a asked) (map[string]quota.Outcome, *quota.Report) {
	k := g.keep(g.fs, a.dryRun)
	outcomes, report, err := k.recalculateAll(g.t.Context(), a)
	require.NoError(g.t, err)
	require.NoError(g.t, k.close())
	return outcomes, report
}

func (k *keeping) recalculate(ctx context.Context, a asked) (map[string]quota.Outcome, error) {
	outcomes, _, err := k.recalculateAll(ctx, a)
	return outcomes, err
}

func (k *keeping) recalculateAll(ctx context.Context, a asked) (map[string]quota.Outcome, *quota.Report, error) {
	outcomes := map[string]quota.Outcome{}
	var mu sync.Mutex
	var twice error
	report, err := k.Recalculate(ctx, quota.Recalculation{
		Roots: a.roots, Under: a.under, Prefixes: a.prefixes, Users: a.users, Deep: a.deep, DryRun: a.dryRun, Explain: true, Jobs: 2,
		Each: func(o quota.Outcome) {
			mu.Lock()
			defer mu.Unlock()
			if _, ok := outcomes[o.Root]; ok {
				twice = fmt.Errorf("%s was counted twice", o.Root)
			}
			outcomes[o.Root] = o
		},
	})
	return outcomes, report, errors.Join(err, twice)
}

// amountsText is an amount in the form of the scenarios.
func amountsText(a quota.Amounts) string {
	return fmt.Sprintf("%d/%d/%d", a[quota.Storage], a[quota.Messages], a[quota.Folders])
}

// TestScenarios plays every scenario and every defect of Cyrus through a recalculation of ours.
func TestScenarios(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.no, func(t *testing.T) {
			t.Parallel()
			g := newGround(t, s.options())
			s.build(g)
			s.playOurs(g)
		})
	}
}

func (s *scenario) playOurs(g *ground) {
	t := g.t
	before, limits := g.tree(), g.limits()
	outcomes, report := g.recalculateAll(s.ours)
	require.Equal(t, s.wantedRoots(), g.roots())
	if s.ours.dryRun {
		require.Equal(t, before, g.tree(), "a dry run has written")
	}
	now := g.limits()
	for root, l := range limits {
		if strings.HasSuffix(root, ".NEW") {
			continue // it is no root, but the name under which a change of one is written
		}
		require.Equal(t, l, now[root], "the limits of %s", root)
	}
	for _, name := range slices.Sorted(maps.Keys(s.headers)) {
		require.Equal(t, s.headers[name], g.header(name), name)
	}
	s.checkOutcomes(t, outcomes)
	require.NoError(t, report.ListDamage)
	require.Len(t, report.Problems, len(s.problems))
	for i, path := range s.problems {
		require.Equal(t, g.path(path), report.Problems[i].Path)
	}
	after := g.rootTexts()
	for root, o := range g.recalculate(s.ours) {
		require.False(t, o.Changed && !s.ours.dryRun, "%s changes again", root)
	}
	require.Equal(t, after, g.rootTexts(), "a second run changes something")
}

// checkOutcomes looks at what was reported.
func (s *scenario) checkOutcomes(t testing.TB, outcomes map[string]quota.Outcome) {
	var incomplete, orphans []string
	damaged := map[string]string{}
	for _, root := range slices.Sorted(maps.Keys(outcomes)) {
		o := outcomes[root]
		if o.Incomplete {
			incomplete = append(incomplete, root)
		}
		if o.Orphan {
			orphans = append(orphans, root)
		}
		if errors.Is(o.Err, quota.ErrDamaged) || errors.Is(o.Err, quota.ErrEmpty) {
			damaged[root] = amountsText(o.After)
		} else if !o.Incomplete && !o.Orphan {
			require.NoError(t, o.Err, root)
			if right := s.wantedRoots()[root]; !s.ours.dryRun {
				require.Equal(t, right, amountsText(o.After), root)
			}
			require.NotEmpty(t, o.Members, "%s is not explained", root)
		}
	}
	require.Equal(t, s.incomplete, incomplete)
	require.Equal(t, s.orphans, orphans)
	require.Equal(t, s.damaged == nil, len(damaged) == 0, "%v", damaged)
	if s.damaged != nil {
		require.Equal(t, s.damaged, damaged)
	}
}

// tree is every file of the store, with its content and the time of its last change.
func (g *ground) tree() map[string]string {
	all := map[string]string{}
	require.NoError(g.t, vfstest.Walk(g.fs, g.dir, func(path string, isDir bool) error {
		if !isDir {
			info, err := g.fs.Stat(path)
			if err != nil {
				return err
			}
			all[path] = info.Mtime.String() + string(g.read(g.rel(path)))
		}
		return nil
	}))
	return all
}

// limits are those of all roots, "none" where there is none.
func (g *ground) limits() map[string][]string {
	all := map[string][]string{}
	for root, text := range g.rootTexts() {
		var p dlist.Parser
		n, err := p.Parse([]byte(text[:max(len(text)-1, 0)]))
		if err != nil || n.Kind() != dlist.KVList {
			continue // an old form, or damage: those scenarios look for themselves
		}
		for _, key := range []string{"S", "M", "AS", "NF"} {
			limit := "none"
			if item := n.Get(key); item != nil && len(item.Items) > 1 {
				limit = item.Items[1].Text()
			}
			all[root] = append(all[root], limit)
		}
	}
	return all
}

// TestScenarioOldForm: 24. The limit of a root in the form of Cyrus 2.4 is kept when it is written in the new one.
func TestScenarioOldForm(t *testing.T) {
	g := newGround(t, realcyrus.Options{})
	s := scenario{roots: baseRoots(map[string]string{"user.bobby": "6001\n100000\n"})}
	s.build(g)
	g.recalculate(asked{})
	require.Regexp(t, `^%\(S \(6000 100000\) M \(4\) AS \(0\) NF \(1\)( MODSEQ \d+)?\)\n$`, g.rootTexts()["user.bobby"])
}
