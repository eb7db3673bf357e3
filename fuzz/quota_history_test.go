package fuzz

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// accountHistory is what happens to a store at once: some things are wrong in it, and processes change it, count it, and die.
type accountHistory struct {
	seed  uint64
	kind  int // of accountKinds
	wrong []accountOp
	procs []accountProcess
	// limited says that only processes of ours are at work, which keep the limits.
	limited bool
	// power cuts the power after so many of 1000 parts of all operations; 0 does not.
	power int
}

// accountProcess does one thing after the other. It is killed before so manieth of its calls, if that is not 0.
type accountProcess struct {
	kind string
	ops  []accountOp
	kill int
}

// accountOp is one thing that is done, or wrong.
type accountOp struct {
	what       string
	box, other string
	roots      []string
	n          int64
}

func (o accountOp) String() string {
	text := o.what
	for _, s := range append([]string{o.box, o.other}, o.roots...) {
		if s != "" {
			text += fmt.Sprintf(" %q", s)
		}
	}
	return fmt.Sprintf("%s %d", text, o.n)
}

func (h *accountHistory) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, a store of kind %s, power %d\n", h.seed, accountKinds[h.kind].name, h.power)
	for _, w := range h.wrong {
		fmt.Fprintf(&b, "  wrong: %v\n", w)
	}
	for i, p := range h.procs {
		fmt.Fprintf(&b, "  process %d, %s, killed at %d: %v\n", i, p.kind, p.kill, p.ops)
	}
	return b.String()
}

// Names that come and go beside those that are there at first.
var (
	accountNew      = []string{"user.base.new", "user.base.a.b.new", "user.base.a-x.y", "user.baseplus.new", "user.ba.new", "shared.dept.new", "user.base.a.b!"}
	accountNewRoots = []string{"user.base.a", "user.base.a.b.c", "user.base.a-x", "user.baseplus.a", "shared", "shared.dept.in"}
)

// drawAccounts makes up a history.
var drawAccounts = rapid.Custom(func(t *rapid.T) *accountHistory {
	h := &accountHistory{kind: rapid.IntRange(0, len(accountKinds)-1).Draw(t, "kind")}
	if rapid.IntRange(0, 2).Draw(t, "is wrong") > 0 {
		h.wrong = rapid.SliceOfN(rapid.Custom(drawWrong), 1, 5).Draw(t, "wrong")
	}
	kinds := []string{"mail", "recalculate"}
	kinds = append(kinds, rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"tree", "quota", "cyrus", "mail 2", "recalculate 2", "cyrus 2", "tree 2"}), 1, 4, rapid.ID).Draw(t, "processes")...)
	killed := rapid.IntRange(0, 2).Draw(t, "killed") == 0
	cyrus := false
	for _, kind := range kinds {
		kind, _, _ = strings.Cut(kind, " ")
		cyrus = cyrus || kind == "cyrus"
		p := accountProcess{kind: kind, ops: rapid.SliceOfN(rapid.Custom(drawOp[kind]), 1, 3).Draw(t, kind)}
		if killed && rapid.Bool().Draw(t, "is killed") {
			p.kill = rapid.IntRange(1, 400).Draw(t, "at")
		}
		h.procs = append(h.procs, p)
	}
	// Cyrus's order of writes survives no power cut, with or without quotas.
	if !cyrus && rapid.IntRange(0, 7).Draw(t, "power") == 0 {
		h.power = rapid.IntRange(1, 1000).Draw(t, "cut")
	}
	return h
})

func drawBox(t *rapid.T) string { return rapid.SampledFrom(accountBoxes).Draw(t, "box") }

func drawName(t *rapid.T) string {
	return rapid.SampledFrom(slices.Concat(accountBoxes, accountNew)).Draw(t, "name")
}

func drawRoot(t *rapid.T) string {
	return rapid.SampledFrom(slices.Concat(accountOldRoots, accountNewRoots)).Draw(t, "root")
}

// drawWrong makes up what the outage has left.
func drawWrong(t *rapid.T) accountOp {
	o := accountOp{what: rapid.SampledFrom([]string{"number", "header", "scan", "left over"}).Draw(t, "wrong")}
	o.box = drawBox(t)
	o.roots = []string{rapid.SampledFrom(accountOldRoots).Draw(t, "root")}
	switch o.what {
	case "number":
		o.n = rapid.SampledFrom([]int64{0, 1, 777, 1 << 40, math.MaxInt64}).Draw(t, "number")
	case "header":
		o.other = rapid.SampledFrom(append([]string{"", "user.gone"}, accountOldRoots...)).Draw(t, "named")
	case "scan":
		o.n = rapid.Int64Range(0, 5000).Draw(t, "scanned")
	}
	return o
}

// drawOp makes up what the kinds of processes do.
var drawOp = map[string]func(t *rapid.T) accountOp{
	"mail": func(t *rapid.T) accountOp {
		what := rapid.SampledFrom([]string{"deliver", "deliver", "deliver", "expunge", "remove", "unexpunge", "copy", "move", "cleanup"}).Draw(t, "what")
		return accountOp{what: what, box: drawBox(t), other: drawBox(t), n: rapid.Int64Range(0, 1000).Draw(t, "n")}
	},
	"tree": func(t *rapid.T) accountOp {
		what := rapid.SampledFrom([]string{"create", "delete", "delete now", "rename", "rename"}).Draw(t, "what")
		return accountOp{what: what, box: drawName(t), other: drawName(t)}
	},
	"quota": func(t *rapid.T) accountOp {
		what := rapid.SampledFrom([]string{"set", "set", "unset"}).Draw(t, "what")
		return accountOp{what: what, roots: []string{drawRoot(t)}, n: rapid.Int64Range(100, 2000).Draw(t, "limit")}
	},
	"recalculate": func(t *rapid.T) accountOp {
		what := rapid.SampledFrom([]string{"all", "all", "some", "under", "plan"}).Draw(t, "what")
		o := accountOp{what: what, n: rapid.Int64Range(0, 11).Draw(t, "how")}
		if what == "some" || what == "under" {
			o.roots = rapid.SliceOfN(rapid.Custom(drawRoot), 1, 3).Draw(t, "roots")
		}
		return o
	},
	"cyrus": func(t *rapid.T) accountOp {
		what := rapid.SampledFrom([]string{"append", "append", "expunge", "pass"}).Draw(t, "what")
		o := accountOp{what: what, box: drawBox(t), n: rapid.Int64Range(0, 1).Draw(t, "old")}
		if what == "pass" {
			// Two processes that each hold what the other waits for are not Cyrus's business alone: its users' locks see to that.
			o.other, o.n = drawBox(t), 0
			if strings.HasPrefix(o.box, "shared") || strings.HasPrefix(o.other, "shared") || o.box == o.other {
				o.other, o.what = "", "append"
			}
		}
		return o
	},
}

// newAccounts makes up the history that a seed stands for.
func newAccounts(seed uint64) *accountHistory {
	h := drawAccounts.Example(int(seed))
	h.seed = seed
	return h
}

// accountRun is a history while it happens.
type accountRun struct {
	*accountHistory
	k *accountKind

	mu     sync.Mutex
	errs   []error
	counts []accountCount
	ended  map[int]bool
	// limits are what the roots may have as their limit of storage; "gone" is a root that was deleted.
	limits map[string][]string
	before map[string]rootText
	steps  int
	killed bool
}

// accountCount is a recalculation that came to its end.
type accountCount struct {
	all   bool
	roots []string
}

// play lets a history happen, and returns the disk as the next process finds it.
func (h *accountHistory) play(t *testing.T) (*accountRun, *simfs.FS, error) {
	r := &accountRun{accountHistory: h, k: accountKinds[h.kind], ended: map[int]bool{}, limits: map[string][]string{}}
	disk, err := r.k.fresh()
	if err != nil {
		return nil, nil, err
	}
	for _, w := range h.wrong {
		if err := r.spoil(disk, w); err != nil {
			return nil, nil, fmt.Errorf("%v: %w", w, err)
		}
	}
	if r.before, err = readRoots(disk); err != nil {
		return nil, nil, err
	}
	for root, says := range r.before {
		r.limits[root] = []string{says.limits[0]}
	}
	schedule := simfs.Schedule{Seed: h.seed, Kills: map[int]int{}}
	var tasks []simfs.Task
	for i, p := range h.procs {
		schedule.Kills[i] = p.kill
		tasks = append(tasks, func(ctx context.Context, view *simfs.FS) { r.process(ctx, view, i) })
	}
	from := disk.Ops()
	report := simfs.Run(t, disk, schedule, tasks...)
	r.steps, r.killed = len(report.Steps), report.Killed
	if len(r.errs) > 0 {
		return r, disk, r.errs[0]
	}
	if h.power > 0 {
		at := from + (disk.Ops()-from)*h.power/1000
		for img := range disk.Trace().Images(simfs.Search{From: at, To: at, Limit: 1, Samples: 1, Seed: h.seed}) {
			disk = img.FS
		}
	}
	return r, disk, nil
}

// process is the task of one process.
func (r *accountRun) process(ctx context.Context, view *simfs.FS, i int) {
	p := r.procs[i]
	err := r.perform(ctx, view, i, p)
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		return // killed
	}
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("process %d, %s: %w", i, p.kind, err))
	}
	r.ended[i] = true
}

// killedCyrus tells whether a process of Cyrus may have died between its two writes.
func (r *accountRun) killedCyrus() bool {
	for i, p := range r.procs {
		if p.kind == "cyrus" && !r.ended[i] {
			return true
		}
	}
	return false
}

// exact tells for which roots the numbers have to be right, now that all is at rest and what was interrupted is recovered: all
// of them, if nothing was wrong at first or all was counted meanwhile.
func (r *accountRun) exact(roots []string) []string {
	if r.killedCyrus() {
		return nil
	}
	misnamed := slices.ContainsFunc(r.wrong, func(o accountOp) bool { return o.what == "header" })
	right := map[string]bool{}
	for _, c := range r.counts {
		if r.power > 0 {
			break // it may have come to its end after the power was cut
		}
		if c.all {
			return roots
		}
		for _, root := range c.roots {
			right[root] = !misnamed // what a mailbox of another root sends here was not looked at
		}
	}
	return slices.DeleteFunc(slices.Clone(roots), func(root string) bool {
		if right[root] || !misnamed && !slices.ContainsFunc(r.wrong, func(o accountOp) bool { return slices.Contains(o.roots, root) }) {
			return false
		}
		return true
	})
}
