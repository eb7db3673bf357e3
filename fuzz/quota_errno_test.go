package fuzz

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// TestQuotaErrno fails every call of all that changes quota roots in turn, with every errno, once and from then on, and writes also
// after a part of their bytes. Of a recalculation each root has the old number or the right one, never a third, and who asked is
// told unless all are right; a change of a mailbox that was refused has moved nothing, and one that was made has moved its usage, at
// the latest when the fault is over and somebody recovers. Then a recalculation makes all right, and the next delivery counts.
func TestQuotaErrno(t *testing.T) {
	lessCollecting(t)
	for _, w := range accountWorks() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			e := &accountErrno{accountCase: w.begin(t), t: t}
			e.record(t)
			for i, errno := range errnos {
				short := faultfs.Shorts[i%len(faultfs.Shorts)]
				e.every = campaign(23, 1)
				e.everyCall(&faultfs.Plan{Err: errno, Short: short})
				e.every = campaign(29, 2)
				e.everyCall(&faultfs.Plan{Err: errno, Mode: faultfs.Onwards})
			}
			e.every = campaign(11, 1)
			for _, mode := range []faultfs.Mode{faultfs.Once, faultfs.Onwards} {
				// A call may be carried out and report an error all the same.
				e.everyCall(&faultfs.Plan{Mode: mode, After: true, Kinds: faultfs.Modifying})
			}
			for _, short := range faultfs.Shorts {
				e.everyCall(&faultfs.Plan{Err: syscall.ENOSPC, Short: short, Kinds: faultfs.Write})
			}
			e.everyCall(&faultfs.Plan{Mode: faultfs.EverySecond, Kinds: faultfs.Modifying})
			t.Logf("%d cells, %d of them answered with an error", e.cells, e.refused)
		})
	}
}

// accountErrno counts the cells of one work.
type accountErrno struct {
	*accountCase
	t              *testing.T
	every          int // only every so manieth call
	cells, refused int
}

func (e *accountErrno) everyCall(like *faultfs.Plan) {
	for n := e.cells % e.every; ; n += e.every {
		plan := like.At(n)
		disk := e.disk.Kill()
		refused, err := e.cell(disk, plan)
		if err != nil {
			e.t.Fatalf("after %d cells: %v: %v", e.cells, plan, err)
		}
		if !plan.Fired() {
			return
		}
		e.cells++
		if refused {
			e.refused++
		}
	}
}

// cell does the work on a disk that fails as planned.
func (e *accountErrno) cell(disk *simfs.FS, plan *faultfs.Plan) (refused bool, err error) {
	view := disk.Process("fails")
	answer := e.useFaulty(faultfs.Wrap(view, plan))
	plan.Stop()
	if n := view.OpenFiles(); n > 0 {
		return false, fmt.Errorf("%d files are open after the answer %w", n, answer)
	}
	if answer != nil && !plan.Fired() {
		return false, fmt.Errorf("without a fault: %w", answer)
	}
	if err := e.survives(disk, answer == nil); err != nil {
		return false, fmt.Errorf("the answer was %v: %w", answer, err)
	}
	return answer != nil, nil
}

// useFaulty opens the store and does the work.
func (e *accountErrno) useFaulty(fsys vfs.FS) error {
	st, err := e.run.k.open(ctx, fsys, 5)
	if err != nil {
		return err
	}
	return errors.Join(e.do(st), st.Close())
}
