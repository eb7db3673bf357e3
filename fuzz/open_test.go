package fuzz

import (
	"flag"
	"syscall"
	"testing"

	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/skiplist"
)

var openBugs = flag.Bool("openbugs", false, "run also the tests of bugs that are known and not mended")

// TestOpenBugs fails for each bug that is known and not mended yet; docs/track-record.md lists them. When one is mended
// its case belongs into TestErrnoEverywhere, which leaves it out.
func TestOpenBugs(t *testing.T) {
	if !*openBugs {
		t.Skip("known and not mended, see docs/track-record.md: -openbugs runs them")
	}
	for _, bug := range []*struct {
		name    string
		formats []skiplist.Format
		noMap   bool
		plan    faultfs.Plan
	}{
		{"read error without a mapping", []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat}, true,
			faultfs.Plan{Kinds: faultfs.All}},
		{"overwritten head half written, then nothing more", []skiplist.Format{skiplist.Twoskip}, false,
			faultfs.Plan{Kinds: faultfs.All, Mode: faultfs.Onwards, Short: faultfs.Half}},
		{"overwritten head half written, every second call", []skiplist.Format{skiplist.Twoskip}, false,
			faultfs.Plan{Kinds: faultfs.All, Mode: faultfs.EverySecond, Short: faultfs.Half}},
		{"a call is carried out and reports an error", []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat}, false,
			faultfs.Plan{Kinds: faultfs.Modifying, After: true}},
		{"the same, and nothing more", []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat}, false,
			faultfs.Plan{Kinds: faultfs.Modifying, After: true, Mode: faultfs.Onwards}},
	} {
		for _, f := range bug.formats {
			t.Run(bug.name+"/"+string(f), func(t *testing.T) {
				for seed := range uint64(2) {
					for n := 0; ; n++ {
						plan := &faultfs.Plan{N: n, Err: syscall.EIO, Kinds: bug.plan.Kinds, Mode: bug.plan.Mode, Short: bug.plan.Short, After: bug.plan.After}
						if _, err := faulty(f, seed, plan, bug.noMap); err != nil {
							t.Errorf("%s, seed %d: %v: %v", f, seed, plan, err)
						}
						if !plan.Fired() {
							break
						}
					}
				}
			})
		}
	}
}
