package fuzz

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/store"
)

// accountWork is something that is done to quota roots, and interrupted by a crash, a fault or a full disk.
type accountWork struct {
	name string
	// wrong is what is wrong before.
	wrong []accountOp
	// prepare is done before the work, and not interrupted.
	prepare func(st *store.Store) error
	do      func(st *store.Store) error
	// right says that a recovery alone makes every number right. Else a root has the number of before or that of after.
	right bool
}

// accountOutage is what was wrong after the outage: two doubled numbers, a scan that was cut off, and a header that names a root
// which is not its own.
var accountOutage = []accountOp{
	{what: "number", roots: []string{"user.base"}, n: 70_000}, {what: "number", roots: []string{"user.baseplus"}, n: 31},
	{what: "scan", box: "user.base.a", roots: []string{"user.base.a.b"}, n: 3}, {what: "header", box: "user.base.a", other: "user.baseplus"},
}

func accountWorks() []accountWork {
	count := func(what string, roots ...string) func(*store.Store) error {
		return func(st *store.Store) error { return recalculateRoots(ctx, st, accountOp{what: what, roots: roots}) }
	}
	limit := func(root string, unset bool) func(*store.Store) error {
		return func(st *store.Store) error { return setLimit(ctx, st, root, unset, 50) }
	}
	post := func(what, box, other string, n int64) func(*store.Store) error {
		return func(st *store.Store) error {
			return mail(ctx, st, accountOp{what: what, box: box, other: other, n: n})
		}
	}
	tree := func(what, box, other string) func(*store.Store) error {
		return func(st *store.Store) error { return plant(ctx, st, accountOp{what: what, box: box, other: other}) }
	}
	return []accountWork{
		{name: "recalculate", wrong: accountOutage, do: count("all")},
		{name: "recalculate one", wrong: accountOutage[:1], do: count("some", "user.base")},
		{name: "undo", wrong: accountOutage, prepare: count("all"), do: func(st *store.Store) error { return undoLast(ctx, st) }},
		{name: "set new", do: limit("user.base.a", false), right: true},
		{name: "set again", do: limit("user.base", false), right: true},
		{name: "delete", do: limit("user.base.a.b", true), right: true},
		{name: "deliver", do: post("deliver", "user.base.a", "", 7), right: true},
		{name: "expunge", do: post("expunge", "user.base.a.b", "", 0), right: true},
		{name: "move", do: post("move", "user.base.a", "user.baseplus", 1), right: true},
		{name: "rename", do: tree("rename", "user.base.a.b", "user.baseplus.b"), right: true},
		{name: "remove", do: tree("delete now", "user.base.a", ""), right: true},
	}
}

// accountCase is a work that was done once without a fault.
type accountCase struct {
	accountWork
	run           *accountRun
	disk          *simfs.FS // before
	before, after map[string]rootText
}

// begin makes the store of a work.
func (w accountWork) begin(t *testing.T) *accountCase {
	c := &accountCase{accountWork: w, run: &accountRun{accountHistory: &accountHistory{}, k: smallAccounts}}
	disk, err := smallAccounts.fresh()
	require.NoError(t, err)
	for _, o := range w.wrong {
		require.NoError(t, c.run.spoil(disk, o), "%v", o)
	}
	if w.prepare != nil {
		require.NoError(t, c.use(disk, "before", w.prepare))
	}
	c.disk = disk
	c.before, err = readRoots(disk)
	require.NoError(t, err)
	return c
}

// use opens the store for something.
func (c *accountCase) use(disk *simfs.FS, process string, do func(st *store.Store) error) error {
	st, err := c.run.k.open(ctx, disk.Process(process), len(process))
	if err != nil {
		return err
	}
	return errors.Join(do(st), st.Close())
}

// record does the work on a copy of the disk, and returns what was recorded.
func (c *accountCase) record(t *testing.T) (disk *simfs.FS, from int) {
	disk = c.disk.Kill()
	from = disk.Ops()
	disk.Mark("begin")
	require.NoError(t, c.use(disk, "work", func(st *store.Store) error {
		err := c.do(st)
		disk.Mark("ack")
		return err
	}))
	var err error
	c.after, err = readRoots(disk)
	require.NoError(t, err)
	return disk, from
}

// survives judges a store in which the work was interrupted, or not, if it was acknowledged.
func (c *accountCase) survives(disk *simfs.FS, acked bool) error {
	if err := c.between(disk, acked && !c.right); err != nil {
		return fmt.Errorf("as it was left: %w", err)
	}
	if err := c.undoable(disk.Kill()); err != nil {
		return fmt.Errorf("taken back: %w", err)
	}
	if err := c.run.recover(disk); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	disk.Mark("recovered")
	if err := c.recovered(disk, acked); err != nil {
		return fmt.Errorf("recovered: %w", err)
	}
	if err := c.run.countAll(disk, "counts"); err != nil {
		return fmt.Errorf("recalculation: %w", err)
	}
	if err := c.isRight(disk); err != nil {
		return fmt.Errorf("recalculated: %w", err)
	}
	deliver := func(st *store.Store) error {
		return mail(ctx, st, accountOp{what: "deliver", box: "user.base", n: 3})
	}
	if err := c.use(disk, "delivers", deliver); err != nil {
		return fmt.Errorf("the next delivery: %w", err)
	}
	if err := c.isRight(disk); err != nil {
		return fmt.Errorf("after the next delivery: %w", err)
	}
	return nil
}

// undoable fails if a recalculation has changed a number, and there is no note by which it can be taken back.
func (c *accountCase) undoable(disk *simfs.FS) error {
	if !strings.HasPrefix(c.name, "recalculate") {
		return nil
	}
	says, err := readRoots(disk)
	if err != nil || maps.EqualFunc(says, c.before, func(a, b rootText) bool { return a.used == b.used }) {
		return err
	}
	if err := c.use(disk, "takes back", func(st *store.Store) error { return undoLast(ctx, st) }); err != nil {
		return err
	}
	if says, err = readRoots(disk); err != nil {
		return err
	}
	for root, before := range c.before {
		if says[root].used != before.used {
			return fmt.Errorf("%s says %v, not %v as before", root, says[root].used, before.used)
		}
	}
	return nil
}

// between fails unless each root has the number of before or of after, or, if only is set, that of after. Roots that come or go
// have no number to compare with.
func (c *accountCase) between(disk *simfs.FS, only bool) error {
	says, err := readRoots(disk)
	if err != nil {
		return err
	}
	for root, after := range c.after {
		before, was := c.before[root]
		now, is := says[root]
		switch {
		case c.right:
			// Marked roots are between all states until they are settled.
		case !is:
			return fmt.Errorf("%s is gone", root)
		case now.used == after.used, now.used == before.used && !only && was:
		default:
			return fmt.Errorf("%s says %v, which is neither %v nor %v", root, now.used, before.used, after.used)
		}
		if is && was && now.limits != before.limits && now.limits != after.limits {
			return fmt.Errorf("%s has the limits %q", root, now.limits)
		}
	}
	for root := range c.before {
		if _, is := says[root]; !is && maps.Equal(c.limitsOf(c.before), c.limitsOf(c.after)) {
			return fmt.Errorf("%s is gone", root)
		}
	}
	return nil
}

func (c *accountCase) limitsOf(roots map[string]rootText) map[string][4]string {
	limits := map[string][4]string{}
	for root, says := range roots {
		limits[root] = says.limits
	}
	return limits
}

// recovered is the verdict after a recovery.
func (c *accountCase) recovered(disk *simfs.FS, acked bool) error {
	says, err := readRoots(disk)
	if err != nil {
		return err
	}
	now := c.limitsOf(says)
	if !maps.Equal(now, c.limitsOf(c.after)) && (acked || !maps.Equal(now, c.limitsOf(c.before))) {
		return fmt.Errorf("the roots and limits are %q, not %q", now, c.limitsOf(c.after))
	}
	if c.right {
		return c.isRight(disk)
	}
	return c.between(disk, acked)
}

// isRight fails unless every root says what an independent count finds, and every header names the root that owns the mailbox.
func (c *accountCase) isRight(disk *simfs.FS) error {
	a, err := c.run.k.countAccounts(disk)
	if err != nil {
		return err
	}
	if list := append(a.wrong(a.roots()...), a.misnamed()...); len(list) > 0 {
		return errors.New(strings.Join(list, "; "))
	}
	return nil
}

// TestQuotaCrashImages cuts the power at every operation of recalculations, their undoing, changes of limits, and changes of
// mailboxes that count for a root; and again while that is recovered. Of what a recalculation was at, each root has the old number
// or the right one; of what changes mailboxes or roots, all numbers are right once it is recovered. No root and no limit is lost,
// a recalculation then makes all right, and the next delivery counts.
func TestQuotaCrashImages(t *testing.T) {
	lessCollecting(t)
	works := accountWorks()
	for _, w := range works {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			c := w.begin(t)
			disk, from := c.record(t)
			trace := disk.Trace()
			images, second := 0, 0
			want := campaign(300, 50_000) / len(works)
			samples := max(1, want/max(1, trace.Len()-from))
			every := campaign(29, 9)
			for img := range trace.Images(simfs.Search{Limit: samples, Samples: samples, Seed: 7, From: from}) {
				if *reproduce != "" && *reproduce != img.Seed {
					continue
				}
				images++
				err := c.survives(img.FS, slices.Contains(img.Marks, "ack"))
				if err == nil && images%every == 0 {
					var n int
					n, err = c.survivesTwice(img)
					second += n
				}
				if err != nil {
					if *reproduce != "" {
						_ = trace.Dump(os.Stderr, img.Seed)
					}
					t.Fatalf("after %d images: %v\nreproduce: go test ./fuzz -run '%s' -image '%s'", images, err, t.Name(), img.Seed)
				}
			}
			t.Logf("%d crash images, %d of crashes during recovery and what follows", images, second)
		})
	}
}

// survivesTwice cuts the power again, in what [accountCase.survives] has done to an image.
func (c *accountCase) survivesTwice(img *simfs.Image) (n int, err error) {
	for twice := range img.FS.Trace().Images(simfs.Search{Limit: 1, Samples: 1, Seed: 3}) {
		if n++; n%5 != 0 {
			continue
		}
		err := c.survivesAgain(twice.FS)
		if err != nil {
			return n, fmt.Errorf("%s: second crash, %s: %w", img.Seed, twice.Seed, err)
		}
	}
	return n / 5, nil
}

// survivesAgain is the verdict after a second crash, which may have come before or after any step of the first verdict.
func (c *accountCase) survivesAgain(disk *simfs.FS) error {
	if err := c.run.recover(disk); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	if c.right {
		if err := c.isRight(disk); err != nil {
			return fmt.Errorf("recovered: %w", err)
		}
	}
	if err := c.run.countAll(disk, "counts"); err != nil {
		return fmt.Errorf("recalculation: %w", err)
	}
	return c.isRight(disk)
}
