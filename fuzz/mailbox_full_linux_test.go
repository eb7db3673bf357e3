package fuzz

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
)

// fullBoxes are mailboxes on a disk that is too small.
type fullBoxes struct {
	root  string
	r     *rand.Rand
	b     *boxRun
	model boxes
	// done and refused count the answers.
	done, refused int
}

// openFull makes mailboxes on a disk and opens them; with ErrNoSpace there is nothing of them.
func openFull(root string, v index.Version, seed uint64) (*fullBoxes, error) {
	if err := createBoxes(vfs.OS(), root, v); err != nil {
		return nil, err
	}
	u := &fullBoxes{root: root, r: rand.New(rand.NewPCG(seed, 25)), model: newBoxes(v)}
	var err error
	u.b, err = openBoxes(vfs.OS(), root, index.OpenOptions{})
	return u, err
}

// step makes a step of a kind. It is made, or refused for want of space with every byte as it was.
func (u *fullBoxes) step(kind string) error {
	s := u.model.draw(u.r, kind)
	before, err := treeBytes(vfs.OS(), filepath.Join(u.root, "part"))
	if err != nil {
		return err
	}
	err = u.b.step(s)
	next := u.model.apply(s)
	switch {
	case err == nil:
		u.model = next[len(next)-1]
		u.done++
		return nil
	case !errors.Is(err, index.ErrNoSpace):
		return fmt.Errorf("%v: %w", s, err)
	case errors.Is(err, index.ErrCommitUnknown):
		return fmt.Errorf("%v, for want of space: %w", s, err)
	}
	u.refused++
	if u.b.copied {
		u.model = next[0]
		return nil
	}
	now, e := treeBytes(vfs.OS(), filepath.Join(u.root, "part"))
	if e == nil && !maps.Equal(now, before) {
		e = fmt.Errorf("%v was refused, and has changed %s: %w", s, differentNames(now, before), err)
	}
	return e
}

// look compares what lies there with the model, before anybody could recover anything.
func (u *fullBoxes) look() error {
	got, err := readBoxes(vfs.OS(), u.root)
	if err == nil && !maps.Equal(got, u.model.state()) {
		err = errors.New(differences(got, u.model.state()))
	}
	return errors.Join(err, checkBoxes(vfs.OS(), u.root))
}

// TestMailboxFullTmpfs changes mailboxes on a tmpfs of every size, from one on which there is no room for a mailbox to one that
// is ample: what was acknowledged is there, what was refused for want of space has changed no byte, and when the disk gets
// larger work goes on.
func TestMailboxFullTmpfs(t *testing.T) {
	if !namespaced(t) {
		return
	}
	needTmpfs(t)
	const page = 4 << 10
	step, ample := int64(campaign(13, 1)*page), int64(132*page)
	for _, v := range boxVersions {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			t.Parallel()
			sizes, done, refused, last := 0, 0, 0, 0
			for size := int64(page); size <= ample; size += step {
				name := cell(v, size>>10)
				if !chosen(name) {
					continue
				}
				n, no, err := fillBoxes(filepath.Join(t.TempDir(), "disk"), v, size)
				if err != nil {
					failCell(t, name, err, nil)
				}
				sizes, done, refused, last = sizes+1, done+n, refused+no, no
			}
			if *point == "" {
				require.Zero(t, last, "the largest disk was not ample")
				require.NotZero(t, refused, "no disk was ever full")
			}
			t.Logf("%d sizes of a full tmpfs: %d changes acknowledged, %d refused, 0 lost", sizes, done, refused)
		})
	}
}

// fillBoxes runs a workload on a tmpfs of a size, and then on a larger one.
func fillBoxes(dir string, v index.Version, size int64) (done, refused int, err error) {
	d, err := mountTmpfs(dir, fmt.Sprintf("size=%d", size))
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, d.unmount()) }()
	root := filepath.Join(dir, "store")
	u, err := openFull(root, v, uint64(size))
	if err != nil {
		if !isNoSpace(err) {
			return 0, 1, fmt.Errorf("create: %w", err)
		}
		return 0, 1, nil
	}
	defer func() { err = errors.Join(err, u.b.close()) }()
	for i := range 40 {
		if err := u.step(boxKinds[(i*5+int(size>>12))%len(boxKinds)]); err != nil {
			return u.done, u.refused, err
		}
		if i%8 == 7 {
			if err := u.look(); err != nil {
				return u.done, u.refused, fmt.Errorf("after step %d: %w", i, err)
			}
		}
	}
	n, no := u.done, u.refused
	if err := d.resize("size=16m"); err != nil {
		return n, no, err
	}
	for _, kind := range boxKinds {
		if err := u.step(kind); err != nil {
			return n, no, err
		}
	}
	if u.refused > no {
		return n, no, errors.New("changes are refused though there is space again")
	}
	return n, no, u.look()
}

func isNoSpace(err error) bool {
	return errors.Is(err, index.ErrNoSpace) || strings.Contains(err.Error(), "no space left on device")
}

// TestMailboxAtZeroBytes fills a disk to the last byte, with somebody waiting for each block that is freed: flags can be removed
// and messages expunged without end, as the journal has its space; appends are refused, and no byte changes; and when there
// is space again all goes on.
func TestMailboxAtZeroBytes(t *testing.T) {
	if !namespaced(t) {
		return
	}
	needTmpfs(t)
	kinds := []struct {
		kind  string
		bytes int64
	}{{"tmpfs", 8 << 20}, {"ext4", 32 << 20}, {"xfs", 320 << 20}}
	for _, k := range kinds[:min(campaign(1, len(kinds)), len(kinds))] {
		for _, v := range boxVersions {
			t.Run(k.kind+"/"+fmt.Sprint(v), func(t *testing.T) {
				dir := t.TempDir()
				d, err := mountKind(dir, k.kind, k.bytes)
				if errors.Is(err, errNoMount) {
					t.Skip(err)
				}
				require.NoError(t, err)
				n, err := zeroBoxes(d, v)
				if err = errors.Join(err, d.unmount()); err != nil {
					failCell(t, cell(k.kind, v), err, nil)
				}
				t.Logf("%d changes at zero bytes free, 0 refused, 0 lost", n)
			})
		}
	}
}

// zeroBoxes removes flags and expunges messages on a full disk and returns how often.
func zeroBoxes(d *disk, v index.Version) (n int, err error) {
	u, err := openFull(filepath.Join(d.dir, "store"), v, 1)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, u.b.close()) }()
	for _, kind := range []string{"append many", "new flag", "append many", "many flags", "append many", "new flag"} {
		if err := u.step(kind); err != nil {
			return 0, err
		}
	}
	stop, err := grabAll(d.dir)
	if err != nil {
		return 0, err
	}
	n, err = u.starve()
	if err = errors.Join(err, stop()); err != nil {
		return n, err
	}
	for _, kind := range boxKinds {
		if err := u.step(kind); err != nil {
			return n, fmt.Errorf("when there is space: %w", err)
		}
	}
	return n, u.look()
}

// starve changes what can be changed without space.
func (u *fullBoxes) starve() (n int, err error) {
	change := func(o boxOp) error {
		s := boxStep{kind: "flags", ops: []boxOp{o}}
		if err := u.b.step(s); err != nil {
			return fmt.Errorf("%v at zero bytes free: %w", s, err)
		}
		u.model = u.model.apply(s)[0]
		n++
		return nil
	}
	refused := u.refused
	for range 3 {
		if err := u.step("append many"); err != nil {
			return n, err
		}
	}
	if u.refused != refused+3 {
		return n, errors.New("the disk is not full")
	}
	for _, uid := range u.model[0].pick(u.r, 100, (*boxMessage).live) {
		for i := range 20 {
			flags := []index.Flags{index.FlagAnswered, index.FlagFlagged, index.FlagDeleted, index.FlagDraft}[i%4]
			if err := change(boxOp{what: "flag", uid: uid, change: index.FlagChange{Op: index.FlagOp(i % 2), Flags: flags, User: nil}}); err != nil {
				return n, err
			}
		}
		for _, user := range strings.Fields(u.model[0].find(uid).user) {
			if err := change(boxOp{what: "flag", uid: uid, change: index.FlagChange{Op: index.RemoveFlags, User: []string{user}}}); err != nil {
				return n, err
			}
		}
		if err := change(boxOp{what: []string{"expunge", "remove"}[int(uid)%2], uid: uid}); err != nil {
			return n, err
		}
	}
	return n, u.look()
}
