package fuzz

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// histories runs some histories of accounts only.
var histories = flag.String("histories", "", `histories of accounts: "SEED", or "FROM-TO" without TO`)

// TestQuotaHistories has processes deliver, expunge, copy, move, create, rename and delete mailboxes, set and delete quota roots
// and recalculate them, at once, call by call in an order that the seed decides, beside one that writes as the real Cyrus does;
// some are killed, and sometimes the power fails. Before that, numbers, cached roots and scans were spoiled as after an outage.
//
// When all have ended and what was interrupted is recovered, every root has the usage that an independent count of the records
// gives, where nothing was wrong at first or a recalculation came to its end meanwhile; and everywhere after one more, which a
// second one then finds nothing to add to. No root and no limit is lost.
func TestQuotaHistories(t *testing.T) {
	lessCollecting(t)
	from, to := uint64(0), uint64(campaign(200, 10_000))
	if *histories != "" {
		var err error
		first, last, ranged := strings.Cut(*histories, "-")
		from, err = strconv.ParseUint(first, 10, 64)
		require.NoError(t, err)
		to = from + 1
		if ranged {
			to, err = strconv.ParseUint(last, 10, 64)
			require.NoError(t, err)
		}
	} else if campaign(0, 1) > 0 {
		shareHistories(t, to)
		return
	}
	var sum historySums
	for seed := from; seed < to; seed++ {
		h := newAccounts(seed)
		if err := h.verdict(t, &sum); err != nil {
			small, why := h.shrink(t, err)
			t.Fatalf("%v\n%v\nthe same, with less:\n%v\n%v\nreproduce: go test ./fuzz -run '^TestQuotaHistories$' -histories %d", err, h, why, small, seed)
		}
	}
	t.Logf("%d histories, %d of them with kills, %d with a power cut: %d steps, %d roots right without a last recalculation, %d with it; 0 counted too high or too low",
		sum.histories, sum.killed, sum.cut, sum.steps, sum.right, sum.counted)
	if *histories == "" {
		require.NotZero(t, sum.killed*sum.cut*sum.right*sum.counted, "something never happened")
	}
}

// shareHistories runs histories in as many processes as there are processors: the scheduler of one has no use for a second one,
// and knows what its goroutines do best where there are no others.
func shareHistories(t *testing.T, all uint64) {
	shares := uint64(runtime.NumCPU())
	var wg sync.WaitGroup
	for i := range shares {
		wg.Go(func() {
			share := fmt.Sprintf("%d-%d", all*i/shares, all*(i+1)/shares)
			cmd := exec.Command(os.Args[0], "-test.run=^TestQuotaHistories$", "-test.v", "-histories="+share)
			cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("histories %s: %v\n%s", share, err, out)
				return
			}
			t.Logf("%s", out)
		})
	}
	wg.Wait()
}

// historySums say what the histories of a test were.
type historySums struct{ histories, killed, cut, steps, right, counted int }

// verdict lets a history happen, has what was interrupted recovered, and looks at what is there.
func (h *accountHistory) verdict(t *testing.T, sum *historySums) error {
	r, disk, err := h.play(t)
	if err != nil {
		return err
	}
	if err := r.recover(disk); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	a, err := r.k.countAccounts(disk)
	if err != nil {
		return err
	}
	exact := r.exact(a.roots())
	if err := r.judge(a, exact); err != nil {
		return fmt.Errorf("at rest, after the recalculations %v: %w", r.counts, err)
	}
	sum.histories++
	sum.steps += r.steps
	sum.right += len(exact)
	if r.killed {
		sum.killed++
	}
	if h.power > 0 {
		sum.cut++
	}
	if len(exact) == len(a.says) && h.seed%4 != 0 {
		return nil
	}
	if err := r.countAll(disk, "last but one"); err != nil {
		return fmt.Errorf("the last recalculation: %w", err)
	}
	if a, err = r.k.countAccounts(disk); err != nil {
		return err
	}
	if err := r.judge(a, a.roots()); err != nil {
		return fmt.Errorf("after the last recalculation: %w", err)
	}
	sum.counted += len(a.says)
	if h.seed%4 == 0 {
		return r.countedAlready(disk)
	}
	return nil
}

// recover is what the next process does.
func (r *accountRun) recover(disk *simfs.FS) error {
	st, err := r.k.open(ctx, disk.Process("last"), 99)
	if err != nil {
		return err
	}
	_, err = st.Recover(ctx)
	return errors.Join(err, st.Close())
}

// countAll recalculates everything.
func (r *accountRun) countAll(disk *simfs.FS, process string) error {
	st, err := r.k.open(ctx, disk.Process(process), 98)
	if err != nil {
		return err
	}
	o := accountOp{what: "all"}
	if r.killedCyrus() {
		o.n = countDeep // its header may be behind its records
	}
	return errors.Join(recalculateRoots(ctx, st, o), st.Close())
}

// countedAlready fails if a second recalculation changes a byte of a root.
func (r *accountRun) countedAlready(disk *simfs.FS) error {
	before, err := treeBytes(disk, "/conf/quota")
	if err != nil {
		return err
	}
	if err := r.countAll(disk, "very last"); err != nil {
		return err
	}
	after, err := treeBytes(disk, "/conf/quota")
	if err == nil && !maps.Equal(before, after) {
		err = fmt.Errorf("a second recalculation has changed %s", differentNames(before, after))
	}
	return err
}

// judge compares what roots say with what was counted, and their limits with those that were set.
func (r *accountRun) judge(a *accountsFound, exact []string) error {
	list := a.wrong(exact...)
	for root, may := range r.limits {
		limit := "gone"
		if says, ok := a.says[root]; ok {
			limit = says.limits[0]
		}
		if !slices.Contains(may, limit) {
			list = append(list, fmt.Sprintf("%s has the limit %q, not one of %q", root, limit, may))
		}
	}
	for root := range a.says {
		if len(r.limits[root]) == 0 {
			list = append(list, root+" came from nowhere")
		}
	}
	if len(exact) == len(a.says) {
		list = append(list, a.misnamed()...)
	}
	for root, says := range a.says {
		limit, err := strconv.ParseInt(strings.TrimSpace(says.limits[1]), 10, 64)
		if r.limited && err == nil && says.used.messages > limit+r.uncounted() {
			list = append(list, fmt.Sprintf("%s has %d messages, and the limit %s", root, says.used.messages, says.limits[1]))
		}
	}
	if len(list) > 0 {
		return errors.New(strings.Join(list, "; "))
	}
	return nil
}

// uncounted is how many messages killed processes may have delivered that nobody knew of until they were recovered: the room that a
// process has asked for is free when it dies, and what it has delivered last may not be in the usage yet.
func (r *accountRun) uncounted() (messages int64) {
	for i, p := range r.procs {
		if p.kill > 0 && !r.ended[i] {
			messages += 2
		}
	}
	return messages
}

// shrink leaves out what a failure does not need.
func (h *accountHistory) shrink(t *testing.T, why error) (*accountHistory, error) {
	small := h
	for again := true; again; {
		again = false
		for _, less := range small.smaller() {
			if err := less.verdict(t, &historySums{}); err != nil {
				small, why, again = less, err, true
				break
			}
		}
	}
	return small, why
}

// smaller are histories with one thing less.
func (h *accountHistory) smaller() (all []*accountHistory) {
	with := func(edit func(less *accountHistory)) {
		less := *h
		less.wrong, less.procs = slices.Clone(h.wrong), slices.Clone(h.procs)
		edit(&less)
		all = append(all, &less)
	}
	for i := range h.procs {
		with(func(less *accountHistory) { less.procs = slices.Delete(less.procs, i, i+1) })
	}
	for i := range h.wrong {
		with(func(less *accountHistory) { less.wrong = slices.Delete(less.wrong, i, i+1) })
	}
	for i, p := range h.procs {
		if p.kill > 0 {
			with(func(less *accountHistory) { less.procs[i].kill = 0 })
		}
		for j := range p.ops {
			if len(p.ops) > 1 {
				with(func(less *accountHistory) { less.procs[i].ops = slices.Delete(slices.Clone(p.ops), j, j+1) })
			}
		}
	}
	if h.power > 0 {
		with(func(less *accountHistory) { less.power = 0 })
	}
	return all
}
