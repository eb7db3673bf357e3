package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/journal"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/internal/vfs/vfstest"
	"github.com/mailspine/mailspine/skiplist"
)

// bytesOf is every file of a store, with its content: but for locks, the journals and what is staged, which say nothing of a
// mailbox.
func bytesOf(fsys vfs.FS) (map[string]string, error) {
	all := map[string]string{}
	err := vfstest.Walk(fsys, "/", func(path string, isDir bool) error {
		if isDir {
			if slices.Contains([]string{"/conf/lock", "/conf/mailspine", "/spool/stage.", "/spool/mailspine.", "/meta/mailspine."}, path) {
				return fs.SkipDir
			}
			return nil
		}
		b, err := vfs.ReadFile(fsys, path)
		all[path] = fmt.Sprintf("%d %x", len(b), sha256.Sum256(b))
		return err
	})
	return all, err
}

// differs tells what differs in b from a.
func differs(a, b map[string]string) string {
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if a[name] != b[name] {
			return name + " is another, or gone"
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			return name + " is new"
		}
	}
	return ""
}

// TestStoreErrno fails every call of every change in turn: a change that failed is invisible, in this process and in the
// next, one that was made is there; and what is left of either is settled by a recovery.
func TestStoreErrno(t *testing.T) {
	errnos := []syscall.Errno{syscall.ENOSPC, syscall.EIO}
	if os.Getenv("MAILSPINE_CAMPAIGN") != "" {
		errnos = append(errnos, syscall.EDQUOT, syscall.EROFS, syscall.EFBIG, syscall.EINTR, syscall.EMFILE)
	}
	eachChange(t, func(t *testing.T, c changing) {
		require.NoError(t, c.st.Close())
		st, err := openOn(t, c.disk.Kill())
		require.NoError(t, err)
		require.NoError(t, c.do(st))
		after, err := see(st)
		require.NoError(t, err)
		require.NoError(t, st.Close())
		cells := 0
		for i, errno := range errnos {
			plans := []*faultfs.Plan{{Err: errno, Short: faultfs.Shorts[i%len(faultfs.Shorts)]}, {Err: errno, Mode: faultfs.Onwards, Kinds: faultfs.Modifying}}
			if errno == syscall.EIO {
				plans = append(plans, &faultfs.Plan{Err: errno, After: true, Kinds: faultfs.Modifying})
			}
			for _, like := range plans {
				cells += everyCall(t, c.disk, like, c.do, c.before, after)
			}
		}
		t.Logf("%d cells", cells)
	})
}

func everyCall(t *testing.T, disk *simfs.FS, like *faultfs.Plan, change func(*Store) error, before, after state) (cells int) {
	step := 1
	if os.Getenv("MAILSPINE_CAMPAIGN") == "" {
		step = 3 // a different third for each plan
	}
	if racing {
		step = 17
	}
	for n := int(like.Err) % step; ; n += step {
		plan := like.At(n)
		copied := disk.Kill()
		if err := faulty(t, copied, plan, change, before, after); err != nil {
			t.Fatalf("%v: %v", plan, err)
		}
		if !plan.Fired() {
			return cells
		}
		cells++
	}
}

// faulty makes a change on a disk that fails as planned, and looks at what is left.
func faulty(t *testing.T, disk *simfs.FS, plan *faultfs.Plan, change func(*Store) error, before, after state) error {
	c := config(t, disk)
	st, err := openWith(c, faultfs.Wrap(disk, plan))
	if err != nil { // the fault hit the opening
		plan.Stop()
		if st, err = openOn(t, disk); err != nil {
			return err
		}
		if err := answered(st, errors.New("not opened"), before, after); err != nil {
			return err
		}
		return st.Close()
	}
	answer := change(st)
	plan.Stop()
	if err := answered(st, answer, before, after); err != nil {
		return err
	}
	if err := st.Close(); err != nil {
		return err
	}
	if n := disk.OpenFiles(); n > 0 {
		return fmt.Errorf("%d files are open", n)
	}
	next, err := openOn(t, disk)
	if err != nil {
		return err
	}
	if err := answered(next, answer, before, after); err != nil {
		return fmt.Errorf("the next process: %w", err)
	}
	if _, err := next.Recover(ctx); err != nil {
		return err
	}
	if err := answered(next, answer, before, after); err != nil {
		return fmt.Errorf("after recovery: %w", err)
	}
	if err := settled(next); err != nil {
		return fmt.Errorf("after recovery: %w (the answer was %v)", err, answer)
	}
	return next.Close()
}

// answered fails unless the store is in the state that the answer to a change promises.
func answered(st *Store, answer error, before, after state) error {
	now, err := see(st)
	switch {
	case err != nil:
		return err
	case answer == nil && maps.Equal(now, after), answer != nil && maps.Equal(now, before):
		return nil
	case errors.Is(answer, skiplist.ErrCommitUnknown) && maps.Equal(now, after):
		return nil
	}
	return fmt.Errorf("the answer was %v, and there is\n%v", answer, now)
}

// TestStoreFullDisk tries every change with every number of free blocks, from none on: it is made to its end, with nothing left
// for a recovery, or refused with ErrNoSpace, and then every file is byte for byte as it was. After either the next deletion
// works on the disk that is still full.
func TestStoreFullDisk(t *testing.T) {
	eachChange(t, func(t *testing.T, c changing) {
		require.NoError(t, c.st.Close())
		refused, made := 0, 0
		for keep := int64(0); keep < 200 && made < 3; keep++ {
			for _, greedy := range []bool{false, true} {
				disk := c.disk.Kill()
				disk.SetCapacity(1<<20, 1<<20)
				disk.FillUp(keep, greedy)
				if onFullDisk(t, c, disk) {
					made++
				} else {
					refused++
				}
			}
		}
		require.NotZero(t, made)
		t.Logf("refused %d times", refused)
		if c.layout == "uuid" && (c.what == "delete at once" || c.what == "delete the inbox") {
			require.Zero(t, refused, "deleting has a reserve")
		}
	})
}

// onFullDisk makes a change on a full disk, and then deletes mailboxes. It tells whether the change was made.
func onFullDisk(t *testing.T, c changing, disk *simfs.FS) bool {
	bytes, err := bytesOf(disk)
	require.NoError(t, err)
	st, err := openOn(t, disk)
	require.NoError(t, err)
	answer := c.do(st)
	if answer == nil {
		require.NoError(t, settled(st))
	} else {
		require.ErrorIs(t, answer, skiplist.ErrNoSpace)
		now, err := bytesOf(disk)
		require.NoError(t, err)
		require.Empty(t, differs(bytes, now))
		seen, err := see(st)
		require.NoError(t, err)
		require.Equal(t, c.before, seen)
	}
	require.Empty(t, pendingIn(t, st))
	if c.layout == "uuid" {
		_, err = st.Delete(ctx, Deletion{Name: name("user.alice"), Recursive: true, Immediate: true})
		require.NoError(t, err, "the deletion that follows")
		require.Empty(t, pendingIn(t, st))
	} else if answer != nil {
		disk.FreeUp()
		require.NoError(t, c.do(st), "once there is room")
	}
	disk.FreeUp()
	require.NoError(t, settled(st))
	require.NoError(t, st.Close())
	return answer == nil
}

// pendingIn are the keys of all entries in the journals of a store.
func pendingIn(t *testing.T, st *Store) (keys []string) {
	t.Helper()
	for _, dir := range []string{st.journalDir(), "/spool/mailspine.", "/spool2/mailspine.", "/meta/mailspine.", "/meta2/mailspine."} {
		found, err := journal.Open(st.fs, dir).Keys(ctx)
		require.NoError(t, err)
		keys = append(keys, found...)
	}
	return keys
}
