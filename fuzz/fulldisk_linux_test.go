package fuzz

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist"
)

// The workload on which Cyrus's own skiplist lost up to 244 of 300 acknowledged keys for good.
const (
	fullKeys  = 300
	fullValue = 180
)

// full is a database on a disk that is too small.
type full struct {
	path  string
	opts  skiplist.Options
	j     *judge
	acked map[string]string
	// written and refused count what the database answered.
	written, refused int
}

// overwrite puts values under the keys n times, in a fixed order that is not that of the keys.
func (u *full) overwrite(db *skiplist.DB, n int) error {
	for i := range n {
		key := fmt.Sprintf("user.someone.%03d", i*7919%fullKeys)
		value := fmt.Sprintf("%0*d", fullValue, u.written+u.refused)
		if err := u.account(key, value, db.Put(ctx, []byte(key), []byte(value))); err != nil {
			return err
		}
	}
	return nil
}

// account notes the answer to a put: yes, or no for want of space; anything else is an error.
func (u *full) account(key, value string, err error) error {
	switch {
	case err == nil:
		u.acked[key] = value
		u.written++
	case errors.Is(err, skiplist.ErrNoSpace):
		u.refused++
	default:
		return err
	}
	return nil
}

// look compares what a handle, a new reader and the real Cyrus see with what was acknowledged.
func (u *full) look(db *skiplist.DB) error {
	o := &outcome{sure: u.acked}
	got, err := contents(db)
	if err == nil && !o.allows(got) {
		err = errors.New(o.difference(got))
	}
	if err != nil {
		return fmt.Errorf("the handle: %w", err)
	}
	if _, err = u.j.reader(u.path, o); err != nil {
		return fmt.Errorf("a reader: %w", err)
	}
	if u.j.cyrus == nil {
		return nil
	}
	if got, err = u.j.cyrus.listCopy(u.j.format, u.path); err == nil && !o.allows(got) {
		err = errors.New(o.difference(got))
	}
	if err != nil {
		return fmt.Errorf("cyrus: %w", err)
	}
	return nil
}

// goOn shows that work goes on, with a new handle, when there is space again.
func (u *full) goOn(db *skiplist.DB) error {
	before := u.refused
	if err := u.overwrite(db, fullKeys); err != nil {
		return err
	}
	if u.refused != before {
		return fmt.Errorf("%d changes of %d were refused", u.refused-before, fullKeys)
	}
	if err := db.Close(); err != nil {
		return err
	}
	return u.j.next(u.path, u.acked)
}

// TestFullTmpfs overwrites 300 keys 3,000 times on a tmpfs of every size, from one page to ample: what was acknowledged
// is there with its last value, for us and for the real Cyrus, and when the disk gets larger work goes on.
func TestFullTmpfs(t *testing.T) {
	if !namespaced(t) {
		return
	}
	needTmpfs(t)
	const page = 4 << 10
	step, rounds, ample := int64(page), 3000, int64(768<<10)
	if !long() {
		step, rounds = 24*page, 600
	}
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			j := &judge{format: f, cyrus: startCyrus(t)}
			sizes, written, refused, last := 0, 0, 0, 0
			for size := int64(page); size <= ample; size += step {
				name := cell(f, size>>10)
				if !chosen(name) {
					continue
				}
				dir := filepath.Join(t.TempDir(), "disk")
				u, err := fillTmpfs(dir, size, enough, rounds, j)
				if err != nil {
					failCell(t, name, err, nil)
				}
				sizes, written, refused, last = sizes+1, written+u.written, refused+u.refused, u.refused
			}
			if *point == "" {
				require.Zero(t, last, "the largest disk was not ample")
				require.NotZero(t, refused, "no disk was ever full")
			}
			t.Logf("%d sizes of a full tmpfs: %d changes acknowledged, %d refused, 0 lost, 0 stale, says %s too", sizes, written, refused, j.cyrus)
		})
	}
}

// enough is a number of inodes that does not run out.
const enough = 100

// fillTmpfs runs the workload on a tmpfs of a size and a number of inodes, then without a free inode if there were few,
// and then on a larger one.
func fillTmpfs(dir string, size int64, inodes, rounds int, j *judge) (u *full, err error) {
	d, err := mountTmpfs(dir, fmt.Sprintf("size=%d,nr_inodes=%d", size, inodes))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.unmount()) }()
	u = &full{path: filepath.Join(dir, "db"), j: j, acked: map[string]string{}}
	u.opts = skiplist.Options{Format: j.format, Create: true}
	db, err := skiplist.Open(ctx, u.path, u.opts)
	if err == nil {
		if err = u.overwrite(db, rounds); err == nil && inodes < enough {
			err = errors.Join(hoardInodes(dir), u.overwrite(db, rounds))
		}
		if err == nil {
			err = u.look(db)
		}
		if err != nil {
			return u, errors.Join(err, db.Close())
		}
	} else if !errors.Is(err, skiplist.ErrNoSpace) {
		return u, fmt.Errorf("create: %w", err)
	} else {
		u.refused++
	}
	if err := d.resize("size=16m,nr_inodes=1000"); err != nil {
		return u, errors.Join(err, closeIf(db))
	}
	if db == nil {
		if db, err = skiplist.Open(ctx, u.path, u.opts); err != nil {
			return u, fmt.Errorf("create, when there is space: %w", err)
		}
	}
	if err := u.goOn(db); err != nil {
		return u, fmt.Errorf("when there is space: %w", err)
	}
	return u, nil
}

// hoardInodes makes empty files until there is no inode left.
func hoardInodes(dir string) error {
	for i := range enough {
		f, err := os.Create(filepath.Join(dir, "hoard."+strconv.Itoa(i)))
		if errors.Is(err, syscall.ENOSPC) {
			return nil
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return err
		}
	}
	return errors.New("there are always more inodes")
}

func closeIf(db *skiplist.DB) error {
	if db == nil {
		return nil
	}
	return db.Close()
}

// TestNoInodes does the same on disks with space but few inodes, which new files need.
func TestNoInodes(t *testing.T) {
	if !namespaced(t) {
		return
	}
	needTmpfs(t)
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			j := &judge{format: f, cyrus: startCyrus(t)}
			written, refused, most := 0, 0, min(campaign(4, 12), 20)
			for inodes := 1; inodes <= most; inodes++ { // the root directory has one of them
				name := cell(f, inodes)
				if !chosen(name) {
					continue
				}
				u, err := fillTmpfs(filepath.Join(t.TempDir(), "disk"), 8<<20, inodes, 150*most, j)
				if err != nil {
					failCell(t, name, err, nil)
				}
				written, refused = written+u.written, refused+u.refused
			}
			require.NotZero(t, refused, "inodes never ran out")
			t.Logf("%d numbers of inodes: %d changes acknowledged, %d refused, 0 lost", most, written, refused)
		})
	}
}

// TestFillAndRelease has a disk fill up and empty again, over and over, while transactions of all kinds are made.
func TestFillAndRelease(t *testing.T) {
	if !namespaced(t) {
		return
	}
	needTmpfs(t)
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			j := &judge{format: f, cyrus: startCyrus(t)}
			cycles, refused := 0, 0
			for seed := range uint64(campaign(1, 8)) {
				name := cell(f, seed)
				if !chosen(name) {
					continue
				}
				u, n, err := fillAndRelease(t, filepath.Join(t.TempDir(), "disk"), seed, j)
				if err != nil {
					failCell(t, name, err, nil)
				}
				cycles, refused = cycles+n, refused+u.refused
			}
			t.Logf("%d cycles of filling and releasing, %d changes refused, 0 lost", cycles, refused)
		})
	}
}

func fillAndRelease(t *testing.T, dir string, seed uint64, j *judge) (u *full, cycles int, err error) {
	d, err := mountTmpfs(dir, "size=1m")
	require.NoError(t, err)
	defer func() { err = errors.Join(err, d.unmount()) }()
	r := rand.New(rand.NewPCG(seed, 4))
	u = &full{path: filepath.Join(dir, "db"), j: j, acked: map[string]string{}}
	db, err := skiplist.Open(ctx, u.path, skiplist.Options{Format: j.format, Create: true, Reserve: int64(4096 << r.IntN(5))})
	if err != nil {
		return u, 0, err
	}
	defer func() {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	weights := []ballast{{filepath.Join(dir, "core.1")}, {filepath.Join(dir, "core.2")}}
	for range campaign(20, 60) {
		if err := weights[0].fill(int64(r.IntN(900 << 10))); err != nil {
			return u, cycles, err
		}
		if r.IntN(2) == 0 {
			if err := weights[1].fill(-1); err != nil {
				return u, cycles, err
			}
		}
		for range 1 + r.IntN(30) {
			if err := u.transact(db, r); err != nil {
				return u, cycles, err
			}
		}
		if err := u.look(db); err != nil {
			return u, cycles, fmt.Errorf("cycle %d: %w", cycles, err)
		}
		cycles++
		if err := errors.Join(weights[0].release(), weights[1].release()); err != nil {
			return u, cycles, err
		}
	}
	err = u.goOn(db)
	db = nil // closed by goOn
	return u, cycles, err
}

// transact makes one change of any kind.
func (u *full) transact(db *skiplist.DB, r *rand.Rand) error {
	next := maps.Clone(u.acked)
	var m member
	for range 1 + r.IntN(6) {
		o := op{key: "k" + strconv.Itoa(r.IntN(60)), value: letters(r, r.IntN(2000)), del: r.IntN(3) == 0}
		m = append(m, o)
	}
	m.apply(next)
	var err error
	switch r.IntN(12) {
	case 0:
		if err = db.Checkpoint(ctx); err == nil || errors.Is(err, skiplist.ErrNoSpace) {
			return nil
		}
	case 1, 2, 3:
		err = db.Batch(ctx, m.run)
	default:
		err = db.Update(ctx, m.run)
	}
	switch {
	case err == nil:
		u.acked = next
		u.written++
	case errors.Is(err, skiplist.ErrNoSpace):
		u.refused++
	default:
		return err
	}
	return nil
}
