package fuzz

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/mailspine/mailspine/skiplist"
)

// goDown is EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN: the file system stops as in a crash of the system. What was not
// synced is lost with the page cache, what was synced is found in the journal at the next mount.
const goDown = 0x8004587d

// TestSystemCrash shuts a real file system down under writers, mounts it again, and looks for what they were told is
// durable. What they were told has failed must not come back.
func TestSystemCrash(t *testing.T) {
	if !namespaced(t) {
		return
	}
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			j := &judge{format: f, cyrus: startCyrus(t)}
			crashes, acked := 0, 0
			for seed := range uint64(campaign(1, 8)) {
				kind, size := "ext4", int64(16<<20)
				if seed%4 == 3 {
					kind, size = "xfs", 320<<20
				}
				name := cell(f, seed)
				if !chosen(name) {
					continue
				}
				c := &crasher{j: j, r: rand.New(rand.NewPCG(seed, 6)), state: map[string]string{}}
				err := c.play(t.TempDir(), kind, size, campaign(3, 12))
				if errors.Is(err, errNoMount) {
					t.Skip(err)
				}
				if err != nil {
					failCell(t, name, fmt.Errorf("%s, crash %d: %w", kind, c.crashes, err), nil)
				}
				crashes, acked = crashes+c.crashes, acked+c.acked
			}
			t.Logf("%d crashes of ext4 and xfs under three writers, %d changes acknowledged before them, 0 lost, 0 half, 0 back from the dead", crashes, acked)
		})
	}
}

// crasher is a database that lives through crashes.
type crasher struct {
	j       *judge
	r       *rand.Rand
	d       *disk
	state   map[string]string
	crashes int
	acked   int
}

func (c *crasher) play(dir, kind string, size int64, n int) (err error) {
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	if err := makeImage(image, kind, size); err != nil {
		return err
	}
	if c.d, err = mountImage(image, kind, at); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.d.unmount()) }()
	path := filepath.Join(at, "db")
	for c.crashes < n {
		o, err := c.write(path)
		if err != nil {
			return err
		}
		c.crashes++
		if err := c.d.unmount(); err != nil {
			return err
		}
		if c.d, err = mountImage(image, kind, at); err != nil {
			return err
		}
		c.j.absent = len(o.sure) == 0
		if c.state, err = c.j.afterwards(path, o); err != nil {
			return err
		}
	}
	return nil
}

// write has three writers change the database until the file system goes down.
func (c *crasher) write(path string) (*outcome, error) {
	heights := rand.NewPCG(c.r.Uint64(), 9) // of its own: the writers draw from theirs meanwhile
	opts := skiplist.Options{Format: c.j.format, Create: true, Random: heights.Uint64}
	db, err := skiplist.Open(ctx, path, opts)
	if err != nil {
		return nil, err
	}
	downAt, flag := int64(c.r.IntN(120)), uint32(1+c.r.IntN(2)) // with the journal flushed, or without
	var acks atomic.Int64
	var falling atomic.Bool
	var down sync.Once
	var downErr error
	said := make([]heard, 3)
	var wg sync.WaitGroup
	for i := range said {
		w := &said[i]
		r := rand.New(rand.NewPCG(c.r.Uint64(), 7))
		wg.Go(func() {
			for {
				m := changeOf(r, i)
				err := db.Batch(ctx, m.run)
				if err != nil {
					if errors.Is(err, skiplist.ErrCommitUnknown) {
						w.open = append(w.open, m)
					}
					return
				}
				if falling.Load() {
					// In a crash of the system nobody would have heard this, and the sync that the file system's
					// end met half-way is no proof: ext4 lets it succeed.
					w.open = append(w.open, m)
					return
				}
				w.acked++
				w.done = append(w.done, m)
				if acks.Add(1) > downAt {
					down.Do(func() {
						falling.Store(true)
						downErr = shutdown(filepath.Dir(path), flag)
					})
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(downErr, db.Close()); err != nil {
		return nil, err
	}
	all := &outcome{sure: maps.Clone(c.state)}
	for _, w := range said {
		for _, m := range w.done {
			m.apply(all.sure)
		}
		all.open = append(all.open, w.open...)
		all.acked += w.acked
	}
	c.acked += all.acked
	return all, nil
}

// heard is what one of several writers was told.
type heard struct {
	acked      int
	done, open []member
}

// changeOf draws a transaction on the keys of writer i, so that the order of the writers does not matter.
func changeOf(r *rand.Rand, i int) member {
	var m member
	for range 1 + r.IntN(3) {
		o := put(r, "w"+strconv.Itoa(i)+"-")
		o.del = r.IntN(4) == 0
		m = append(m, o)
	}
	return m
}

func shutdown(dir string, flag uint32) error {
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, root.Fd(), goDown, uintptr(unsafe.Pointer(&flag))); errno != 0 {
		return fmt.Errorf("shut the file system down: %w: %w", errNoMount, errno)
	}
	return nil
}

// TestFileSizeLimit lowers the limit on file sizes of the process to every size from a page on: a change that would go
// beyond it is refused, even where the kernel has written a part of it, and when the limit is raised work goes on.
func TestFileSizeLimit(t *testing.T) {
	if !namespaced(t) { // for a process of its own: the limit is the process's
		return
	}
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &before))
	step, rounds := uint64(4<<10), 3000
	if !long() {
		step, rounds = 28<<10, 600
	}
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			j := &judge{format: f, cyrus: startCyrus(t)}
			w := &workDir{dir: fastDir(t)}
			sizes, written, refused := 0, 0, 0
			for size := uint64(512); size < 128<<10; size += step {
				name := cell(f, size)
				if !chosen(name) {
					continue
				}
				path, err := w.fresh(nil)
				require.NoError(t, err)
				u := &full{path: path, j: j, acked: map[string]string{}}
				u.opts = skiplist.Options{Format: f, Create: true}
				if err := u.limited(size, before, rounds); err != nil {
					failCell(t, name, err, nil)
				}
				sizes, written, refused = sizes+1, written+u.written, refused+u.refused
			}
			require.True(t, *point != "" || refused > 0, "the limit was never reached")
			t.Logf("%d limits on the file size: %d changes acknowledged, %d refused, 0 lost", sizes, written, refused)
		})
	}
}

func (u *full) limited(size uint64, before unix.Rlimit, rounds int) error {
	db, err := skiplist.Open(ctx, u.path, u.opts)
	if err != nil {
		return err
	}
	limit := before
	limit.Cur = size
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return errors.Join(err, db.Close())
	}
	err = u.overwrite(db, rounds)
	if e := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); e != nil {
		return errors.Join(err, e)
	}
	if err == nil {
		err = u.look(db)
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	return u.goOn(db)
}
