package quota

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

const (
	// userLockMark is in the path of the lock of every user, in each of its spellings, and lockSuffix ends it.
	userLockMark = "*U*"
	lockSuffix   = ".lock"
	// lockDepth bounds how deep the directory of locks is searched: that of a user in a domain is 5 below.
	lockDepth = 6
)

// manyUsers tells whether mailboxes of any user may count for a root: that of a domain, or of the level above all users, or above
// all that they have deleted.
func (k *Keeper) manyUsers(root string) bool {
	if strings.HasSuffix(root, domainMark) {
		return true
	}
	ns, name := k.layout.Namespace, mboxdb.InternalName(root)
	if name.User(ns) != "" {
		return false // whose lock is held
	}
	// A deleted mailbox is its owner's by the time in its last level, which the root above it has not.
	some := name.Child("x")
	for _, below := range []mboxdb.Name{some, name.Child("1"), some.Child("1"), name.Child("user").Child("x").Child("1")} {
		if below.User(ns) != "" {
			return true
		}
	}
	return false
}

// passBy waits until nobody is in the middle of making a mailbox for a user who had none, if such a mailbox would count for the
// root: Cyrus adds it to the record first, and then to the list, under the lock of that user, which is not among those that are
// held. So each lock of a user that there is has to be free once, after the record was read. A lock that is taken later, or whose
// file is made later, is for a change that is added to the record after it was read: publish sees that.
//
// It is late if somebody did not give a lock back in time, perhaps because he waits for one of those that are held.
func (k *Keeper) passBy(ctx context.Context, root string, held *frozen) (late bool, err error) {
	if !k.manyUsers(root) {
		return false, nil
	}
	own := map[string]bool{}
	for _, l := range held.users {
		own[l.Name()] = true
	}
	dir := k.layout.LockDir
	if dir == "" {
		dir = filepath.Join(k.layout.ConfigDir, "lock")
	}
	var foreign []string
	if err := k.userLocks(ctx, dir, lockDepth, own, &foreign); err != nil {
		return false, err
	}
	for _, path := range foreign {
		if late, err := k.passOne(ctx, path, held); late || err != nil {
			return late, err
		}
	}
	return false, nil
}

// userLocks finds the files of locks of users that are not own.
func (k *Keeper) userLocks(ctx context.Context, dir string, depth int, own map[string]bool, found *[]string) error {
	if err := context.Cause(ctx); err != nil || depth == 0 {
		return err
	}
	entries, err := k.fs.ReadDir(dir)
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name)
		if e.Dir {
			if err := k.userLocks(ctx, path, depth-1, own, found); err != nil {
				return err
			}
		} else if strings.Contains(path, userLockMark) && strings.HasSuffix(path, lockSuffix) && !own[path] {
			*found = append(*found, path)
		}
	}
	return nil
}

// passOne waits until a lock is free. If that takes too long what is held is given back, and the lock is waited for alone.
func (k *Keeper) passOne(ctx context.Context, path string, held *frozen) (late bool, err error) {
	f, err := k.fs.Open(path, vfs.ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	if err := f.TryLock(vfs.Shared); !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EACCES) {
		return false, err
	}
	brief, cancel := context.WithTimeout(ctx, freezeWait)
	err = f.Lock(brief, vfs.Shared)
	late = err != nil && brief.Err() != nil && ctx.Err() == nil
	cancel()
	if !late {
		return false, err
	}
	held.release()
	return true, f.Lock(ctx, vfs.Shared)
}
