package fuzz

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mailspine/mailspine/internal/killsup"
)

// failure is how system calls fail: from the chosen one on.
type failure struct {
	name       string
	persistent bool
	every      int
	// die ends the process while the calls still fail, so that only the next one can mend anything.
	die bool
}

var failures = []failure{
	{name: "once"}, {name: "second", every: 2}, {name: "onwards", persistent: true}, {name: "onwards-die", persistent: true, die: true},
}

// TestSystemCallsFail lets every system call that changes files fail in a real process, with every errno, once, every
// second time, and from then on: what failed is invisible, what was acknowledged is there, and when the fault is over the
// same process, and then the next, and the real Cyrus, work on with nothing lost.
func TestSystemCallsFail(t *testing.T) {
	needSupervisor(t)
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			c := &failing{t: t, w: &workDir{dir: fastDir(t)}, j: &judge{format: f, cyrus: startCyrus(t)}}
			for seed := range uint64(campaign(1, 2)) {
				for i, s := range scenarios(t, c.w, f, 20+seed) {
					if i > 1 && i%2 != int(seed) {
						continue // the torn ones differ little from seed to seed
					}
					for e, errno := range errnos {
						for m, mode := range failures {
							if !long() && (e+i)%len(failures) != m {
								continue
							}
							if long() && (e+m+i+int(seed))%2 != 0 {
								continue // the next seed has the other half
							}
							if errno == syscall.EINTR && mode.persistent {
								continue // a call that is interrupted for ever is one that never returns
							}
							c.sweep(&s, cell(f, seed, s.name, strings.ToLower(unix.ErrnoName(errno)), mode.name), mode, errno)
						}
					}
					for _, n := range []int{1, 3, 100, 511, 1000, 4096} {
						if long() || n == 100 {
							c.short(&s, cell(f, seed, s.name, fmt.Sprint("short-", n)), n)
						}
					}
				}
			}
			t.Logf("%d failing calls, %d writes cut short, %d answers ErrCommitUnknown, judged by the process itself, a reader, a writer, a check and %s, which refused %d torn files",
				c.failed, c.cut, c.unknown, c.j.cyrus, c.j.refused)
		})
	}
}

// failing is the campaign on one format.
type failing struct {
	t                    *testing.T
	w                    *workDir
	j                    *judge
	failed, cut, unknown int
}

// sweep lets each call of a scenario fail in turn.
func (c *failing) sweep(s *scenario, name string, mode failure, errno syscall.Errno) {
	if !chosen(name) {
		return
	}
	for at := 1; ; at++ {
		plan := killsup.Plan{Action: killsup.Errno, At: at, Errno: errno, Persistent: mode.persistent, Every: mode.every}
		if fired, _ := c.cell(s, cell(name, at), plan, mode.die); !fired {
			return
		}
		c.failed++
	}
}

// short cuts each write of a scenario short in turn: alone, as a kernel may, and on a disk that is full from there on.
func (c *failing) short(s *scenario, name string, n int) {
	if !chosen(name) {
		return
	}
	for _, errno := range []syscall.Errno{0, syscall.ENOSPC} {
		for at, calls := 1, 1; at <= calls; at++ {
			plan := killsup.Plan{Action: killsup.Short, At: at, Bytes: n, Errno: errno, Persistent: errno != 0}
			counted := 0
			plan.Match = func(k *killsup.Call) bool {
				cut := k.Name == "pwrite64" && k.Len > int64(n)
				// Besides the writes all calls that need space count, for they fail on the full disk.
				if !cut && (errno == 0 || !killsup.NeedsSpace(k)) || cut && counted < at && !c.cuttable(k) {
					return false
				}
				counted++
				return true
			}
			fired := false
			if fired, calls = c.cell(s, cell(name, int(errno), at), plan, false); fired {
				c.cut++
			}
		}
	}
}

// cuttable leaves out writes into what is there already: links and heads. File systems cut a write short between their
// blocks, and none of these crosses one; docs/track-record.md has what becomes of a head that is written in part, and a
// link of skiplist that is half old and half new may be none at all, which is damage.
func (c *failing) cuttable(k *killsup.Call) bool {
	info, err := os.Stat(k.Path)
	return err == nil && k.Offset >= info.Size()
}

// cell runs one plan and tells whether its fault occurred, and how many calls there were.
func (c *failing) cell(s *scenario, name string, plan killsup.Plan, die bool) (fired bool, calls int) {
	over, match := false, plan.Match
	plan.Match = func(k *killsup.Call) bool {
		over = over || strings.HasSuffix(k.Path, ".over")
		return !over && (match == nil || match(k))
	}
	var args []string
	if die {
		args = append(args, "die")
	}
	path, o, res, said, err := s.play(c.w, c.j.format, plan, args...)
	if err == nil {
		c.unknown += o.unknown
		faulted := 0
		for _, k := range res.Calls {
			if k.Faulted {
				faulted++
			}
		}
		if o.unknown > 0 && faulted < 2 {
			err = fmt.Errorf("ErrCommitUnknown after one failure")
		}
	}
	if err == nil {
		c.j.absent = s.base == nil && die
		err = c.j.after(path, o)
	}
	if err != nil {
		if i := slices.IndexFunc(res.Calls, func(k killsup.Call) bool { return k.Faulted }); i >= 0 {
			k := res.Calls[i]
			err = fmt.Errorf("the first to fail is %s %s, offset %d, %d bytes: %w", k.Name, baseNames(&k), k.Offset, k.Len, err)
		}
		failCell(c.t, name, err, said)
	}
	return res.Fired, len(res.Calls)
}

func baseNames(k *killsup.Call) string {
	base := func(p string) string { return p[strings.LastIndexByte(p, '/')+1:] }
	if k.NewPath != "" {
		return base(k.Path) + " " + base(k.NewPath)
	}
	return base(k.Path)
}
