package fuzz

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/internal/vfs/vfstest"
)

// TestMailboxErrno fails every call of all that changes a mailbox in turn, with every errno, once, from then on, and every
// second time, and writes also after a part of their bytes: what failed is invisible, to this process, to the next, and
// after a crash; what was acknowledged is there; and when the fault is over the same handle and then others work on. Where
// there is no space, no byte is changed.
func TestMailboxErrno(t *testing.T) {
	lessCollecting(t)
	for _, v := range boxVersions {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			t.Parallel()
			c := &boxErrno{t: t, v: v}
			for i, errno := range errnos {
				for m, mode := range []faultfs.Mode{faultfs.Once, faultfs.Onwards, faultfs.EverySecond} {
					c.seed, c.every = uint64(m), campaign(197, 2)
					if mode == faultfs.Once {
						c.every = campaign(97, 1)
					}
					short := faultfs.Shorts[i%len(faultfs.Shorts)]
					if mode != faultfs.Once {
						short = faultfs.Nothing
					}
					c.everyCall(&faultfs.Plan{Err: errno, Mode: mode, Short: short, Kinds: faultfs.All})
				}
			}
			for m, mode := range []faultfs.Mode{faultfs.Once, faultfs.Onwards, faultfs.EverySecond} {
				c.seed, c.every = 3+uint64(m), campaign(97, 1)
				// No system cuts a write within one sector short and then refuses to have it taken back. What is written to the
				// header of an index, and to one record, lies within sectors.
				for _, suffix := range []string{"cyrus.cache", "slot.0", "cyrus.header.NEW"} {
					c.everyCall(&faultfs.Plan{Mode: mode, Short: faultfs.Half, Kinds: faultfs.Write, Suffix: suffix})
				}
				c.everyCall(&faultfs.Plan{Mode: mode, Kinds: faultfs.Modifying})
				// A call may be carried out and report an error all the same.
				c.everyCall(&faultfs.Plan{Mode: mode, After: true, Kinds: faultfs.Modifying})
			}
			t.Logf("%d cells, %d answers ErrCommitUnknown", c.cells, c.unknown)
		})
	}
}

// TestMailboxOneFailedSync fails each sync once, and leaves none, some or all of its pages on the disk: no answer is
// ErrCommitUnknown, and what was refused does not come back.
func TestMailboxOneFailedSync(t *testing.T) {
	lessCollecting(t)
	for _, v := range boxVersions {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			t.Parallel()
			c := &boxErrno{t: t, v: v, every: 1}
			for seed := range uint64(campaign(1, 25)) {
				for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
					c.seed = 100 + seed
					c.everyCall(&faultfs.Plan{Err: errno, Kinds: faultfs.Syncs})
				}
			}
			if c.unknown > 0 {
				t.Fatalf("%d answers ErrCommitUnknown after one failed sync", c.unknown)
			}
			t.Logf("%d failed syncs", c.cells)
		})
	}
}

// boxErrno counts the cells of one test.
type boxErrno struct {
	t              *testing.T
	v              index.Version
	seed           uint64
	every          int // only every so manieth call
	cells, unknown int
}

func (c *boxErrno) everyCall(like *faultfs.Plan) {
	for n := c.cells % c.every; ; n += c.every {
		plan := like.At(n)
		f := &faultyBoxes{plan: plan, disk: simfs.New(simfs.Options{Seed: c.seed ^ uint64(n)*7}), r: rand.New(rand.NewPCG(c.seed, 23))}
		if err := f.run(c.v, c.seed); err != nil {
			c.t.Fatalf("version %d, seed %d: after %d cells: %v: %v", c.v, c.seed, c.cells, plan, err)
		}
		if !plan.Fired() {
			return
		}
		c.cells++
		c.unknown += f.unknown
	}
}

// faultyBoxes are mailboxes on a disk that fails as planned.
type faultyBoxes struct {
	plan    *faultfs.Plan
	disk    *simfs.FS
	r       *rand.Rand
	acc     *accounts
	unknown int
	open    bool // a repack may have been made or not
	// states are what the mailboxes may be: one, but after ErrCommitUnknown.
	states []boxes
}

func (f *faultyBoxes) run(v index.Version, seed uint64) error {
	if err := f.prepare(v); err != nil {
		return err
	}
	f.acc = &accounts{applied: func() {}}
	opts := index.OpenOptions{}
	if seed%2 == 0 {
		opts.Participant = f.acc
	}
	b, err := openBoxes(faultfs.Wrap(f.disk, f.plan), "/", opts)
	if err != nil { // the fault hit the opening
		f.plan.Stop()
		if n := f.disk.OpenFiles(); n > 0 {
			return fmt.Errorf("%d files are open after the open failed: %w", n, err)
		}
		return f.look()
	}
	for i := range 5 {
		s := f.states[0].draw(f.r, boxKinds[(int(seed)*5+i*3)%len(boxKinds)])
		if err := f.step(b, s); err != nil {
			return fmt.Errorf("step %d, %v: %w", i, s, err)
		}
		if f.unknown > 0 || f.open {
			break
		}
	}
	f.plan.Stop()
	if err := f.goOn(b); err != nil {
		return err
	}
	return f.look()
}

// prepare makes mailboxes in which there is something.
func (f *faultyBoxes) prepare(v index.Version) error {
	if err := createBoxes(f.disk, "/", v); err != nil {
		return err
	}
	b, err := openBoxes(f.disk, "/", index.OpenOptions{})
	if err != nil {
		return err
	}
	model := newBoxes(v)
	for _, kind := range []string{"append many", "new flag", "append many", "expunge"} {
		s := model.draw(f.r, kind)
		if err := b.step(s); err != nil {
			return err
		}
		model = model.apply(s)[0]
	}
	f.states = []boxes{model}
	return b.close()
}

// step makes one step and judges the answer.
func (f *faultyBoxes) step(b *boxRun, s boxStep) error {
	next := f.states[0].apply(s)
	files, err := f.bytes()
	if err != nil {
		return err
	}
	faults := f.plan.Faults()
	err = b.step(s)
	faults = f.plan.Faults() - faults
	var open *vfs.NotDurableError
	switch {
	case err == nil:
		f.states = next[len(next)-1:]
	case errors.Is(err, index.ErrCommitUnknown):
		f.unknown++
		f.states = append(f.states, next...)
		if faults < 2 {
			return fmt.Errorf("ErrCommitUnknown after a single fault: %w", err)
		}
	case faults == 0:
		return fmt.Errorf("without a fault: %w", err)
	case b.made:
		f.states = next
	case errors.As(err, &open) && (s.kind == "repack" || s.kind == "convert"):
		// Its messages are the same either way.
		f.open = true
		f.states = append(f.states, next...)
	case b.copied:
		f.states = next[:1]
	default:
		if e := f.refused(err, faults, files); e != nil {
			return fmt.Errorf("%w (refused with %w)", e, err)
		}
	}
	if faults == 0 {
		return nil
	}
	// Now, before anything later mends it.
	if e := f.look(); e != nil {
		return fmt.Errorf("right after the answer %v: %w", err, e)
	}
	return nil
}

// refused judges a step that failed.
func (f *faultyBoxes) refused(err error, faults int, before map[string]string) error {
	space := f.plan.Err == syscall.ENOSPC || f.plan.Err == syscall.EDQUOT || f.plan.Err == syscall.EFBIG
	if !errors.Is(err, f.plan.Err) && f.plan.Err != 0 {
		return errors.New("the error does not say why")
	}
	if !space || faults > 1 || f.plan.Hit()&faultfs.Modifying == 0 {
		return nil
	}
	if !errors.Is(err, index.ErrNoSpace) {
		return errors.New("the error is not ErrNoSpace")
	}
	now, err := f.bytes()
	if err == nil && !maps.Equal(now, before) {
		err = fmt.Errorf("without space, it has changed %s", differentNames(now, before))
	}
	return err
}

func (f *faultyBoxes) bytes() (map[string]string, error) { return treeBytes(f.disk, "/part") }

// treeBytes are all files below a directory but those of the journal.
func treeBytes(fsys vfs.FS, dir string) (map[string]string, error) {
	all := map[string]string{}
	err := vfstest.Walk(fsys, dir, func(path string, isDir bool) error {
		if isDir {
			if filepath.Base(path) == "mailspine." {
				return fs.SkipDir
			}
			return nil
		}
		b, err := vfs.ReadFile(fsys, path)
		all[path] = string(b)
		return err
	})
	return all, err
}

func differentNames(a, b map[string]string) string {
	var names []string
	for _, m := range []map[string]string{a, b} {
		for name := range m {
			if a[name] != b[name] || len(a[name])+len(b[name]) == 0 {
				names = append(names, fmt.Sprintf("%s (%d bytes, were %d)", name, len(a[name]), len(b[name])))
			}
		}
	}
	return strings.Join(names, ", ")
}

// look looks at the disk as another process sees it, and as a crash leaves it: in one of the states, and fit for more.
func (f *faultyBoxes) look() error {
	if f.acc != nil && f.acc.begun != f.acc.ended {
		return fmt.Errorf("%d of %d changes of the accounts were brought to an end", f.acc.ended, f.acc.begun)
	}
	trace := f.disk.Trace()
	for img := range trace.Images(simfs.Search{Limit: 4, Samples: 3, From: trace.Len()}) {
		if err := recoveredTwice(img.FS, f.states); err != nil {
			return fmt.Errorf("after a crash, %s: %w", img.Seed, err)
		}
	}
	// What was read from the page cache may not be what the disk holds.
	evicted := f.disk.Kill()
	evicted.DropCaches()
	if err := recoveredTwice(evicted, f.states); err != nil {
		return fmt.Errorf("the next process, without the page cache: %w", err)
	}
	next := f.disk.Kill()
	if len(f.states) == 1 {
		if got, err := readBoxes(next, "/"); err != nil || !maps.Equal(got, f.states[0].state()) {
			return fmt.Errorf("before any recovery: %s: %w", differences(got, f.states[0].state()), err)
		}
	}
	if err := recoveredTwice(next, f.states); err != nil {
		return fmt.Errorf("the next process: %w", err)
	}
	return nil
}

// goOn has the same handle work on when the fault is over.
func (f *faultyBoxes) goOn(b *boxRun) error {
	for _, m := range b.boxes { // what is unknown is decided now
		if err := m.Update(ctx, func(*index.Tx) error { return nil }); err != nil {
			return fmt.Errorf("the same handle, when the fault is over: %w", err)
		}
	}
	got, err := readBoxes(f.disk, "/")
	if err != nil {
		return err
	}
	var now *boxes
	for i := range f.states {
		if maps.Equal(got, f.states[i].state()) {
			now = &f.states[i]
		}
	}
	if now == nil {
		return fmt.Errorf("when the fault is over: %s", differences(got, f.states[0].state()))
	}
	s := now.draw(f.r, "mixed")
	f.states = now.apply(s)
	if err := b.step(s); err != nil {
		return fmt.Errorf("the same handle, when the fault is over: %w", err)
	}
	if got, err = readBoxes(f.disk, "/"); err != nil || !maps.Equal(got, f.states[0].state()) {
		return fmt.Errorf("the same handle, when the fault is over: %s: %w", differences(got, f.states[0].state()), err)
	}
	if err := b.close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return err
	}
	if n := f.disk.OpenFiles(); n > 0 {
		return fmt.Errorf("%d files are open after the last handle was closed", n)
	}
	return nil
}
