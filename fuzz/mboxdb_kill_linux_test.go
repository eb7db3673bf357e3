package fuzz

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/killsup"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// TestMailboxListKill kills a process that changes the list at each of its system calls: the keys agree, what was
// acknowledged is there, the change under way is there whole or not at all, and the next change works.
func TestMailboxListKill(t *testing.T) {
	needSupervisor(t)
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			w := &workDir{dir: t.TempDir()}
			points := 0
			for seed := uint64(1); seed <= uint64(campaign(1, 4)); seed++ {
				states := []map[string]string{{}}
				err := lister(simfs.New(simfs.Options{}), listPath, f, seed, func(_ int, l *mboxdb.List) error {
					all, err := wholeList(l)
					states = append(states, all)
					return err
				})
				require.NoError(t, err)
				for _, action := range []killsup.Action{killsup.Kill, killsup.KillAfter} {
					for at := 1; ; at++ {
						name := cell(f, seed, int(action), at)
						if !chosen(name) {
							continue
						}
						fired, err := killLister(w, f, seed, killsup.Plan{Action: action, At: at}, states)
						if err != nil {
							failCell(t, name, err, nil)
						}
						if !fired {
							break
						}
						points++
					}
				}
			}
			t.Logf("%d kills", points)
		})
	}
}

func killLister(w *workDir, f skiplist.Format, seed uint64, plan killsup.Plan, states []map[string]string) (fired bool, err error) {
	path, err := w.fresh(nil)
	if err != nil {
		return false, err
	}
	plan.Dir = filepath.Dir(path)
	res, said, err := supervised(role("lister", string(f), path, fmt.Sprint(seed)), plan)
	if err != nil {
		return false, err
	}
	acked := strings.Count(string(said), "ACK")
	opts := listOptions(vfs.OS(), f, 7)
	opts.DB.Create = acked == 0 // it may have been killed before there was a list
	l, err := mboxdb.Open(ctx, path, opts)
	if err != nil {
		return res.Fired, err
	}
	defer l.Close()
	got, err := wholeList(l)
	if err != nil {
		return res.Fired, err
	}
	if !maps.Equal(got, states[acked]) && !maps.Equal(got, states[min(acked+1, listSteps)]) {
		return res.Fired, fmt.Errorf("%d records, neither those of change %d nor of the next", len(got), acked)
	}
	if _, err := l.Create(ctx, mboxdb.NewMailbox{Name: mboxdb.InternalName("user.next")}); err != nil {
		return res.Fired, fmt.Errorf("the next change: %w", err)
	}
	_, err = wholeList(l)
	return res.Fired, err
}
