package fuzz

import (
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// stoppedClock is a file system on which it is always the same time, so that a run of changes gives the same records
// everywhere.
type stoppedClock struct{ vfs.FS }

func (stoppedClock) Now() time.Time { return time.Unix(1795000000, 0) }

// listSteps is how many changes a lister makes.
const listSteps = 10

// lister makes the changes of a seed and calls done after each.
func lister(fsys vfs.FS, path string, f skiplist.Format, seed uint64, done func(i int, l *mboxdb.List) error) error {
	r := rand.New(rand.NewPCG(seed, 4))
	l, err := mboxdb.Open(ctx, path, listOptions(stoppedClock{fsys}, f, seed))
	if err != nil {
		return err
	}
	defer l.Close()
	for i := range listSteps {
		if err := listChange(r)(l); err != nil && !isAnswer(err) {
			return err
		}
		if err := done(i+1, l); err != nil {
			return err
		}
	}
	return nil
}

// listerRole is the child that does so: FORMAT PATH SEED.
func listerRole(args []string) int {
	seed, err := strconv.ParseUint(args[2], 10, 64)
	if err == nil {
		err = lister(vfs.OS(), args[1], skiplist.Format(args[0]), seed, func(i int, _ *mboxdb.List) error {
			say("ACK", i)
			return nil
		})
	}
	if err != nil {
		return say("BAD", err)
	}
	return say("END")
}
