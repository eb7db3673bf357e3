// Package owner lets a process that was started as root become the user that a mail store belongs to, as Cyrus's own
// programs do. What such a process writes belongs to that user: a repair run by root cannot lock the server out.
package owner

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"

	"github.com/mailspine/mailspine/internal/vfs"
)

// Identity is a user with its groups.
type Identity struct {
	UID, GID int
	Groups   []int
	// Name is the user's name, or its number if it has none.
	Name string
}

// Of returns the owner of a file or directory: the user, with the primary and the supplementary groups that the system
// gives to it. A user that the system does not know has the file's group.
func Of(fsys vfs.FS, path string) (*Identity, error) {
	info, err := fsys.Stat(path)
	if err != nil {
		return nil, err
	}
	if u, err := user.LookupId(strconv.Itoa(int(info.UID))); err == nil {
		return fromUser(u)
	}
	gid := int(info.GID)
	return &Identity{UID: int(info.UID), GID: gid, Groups: []int{gid}, Name: strconv.Itoa(int(info.UID))}, nil
}

// Named returns the identity of a user by name.
func Named(name string) (*Identity, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	return fromUser(u)
}

func fromUser(u *user.User) (*Identity, error) {
	list, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of %s: %w", u.Username, err)
	}
	id := &Identity{Name: u.Username}
	if id.UID, err = strconv.Atoi(u.Uid); err == nil {
		id.GID, err = strconv.Atoi(u.Gid)
	}
	for _, g := range list {
		if n, err := strconv.Atoi(g); err == nil {
			id.Groups = append(id.Groups, n)
		}
	}
	if !slices.Contains(id.Groups, id.GID) {
		id.Groups = append(id.Groups, id.GID)
	}
	return id, err
}

// Root tells whether this process may become somebody else.
func Root() bool { return os.Geteuid() == 0 }

// Become turns this process, all its threads, into id, for good. Files that are open stay open. After an error the
// process may be half-way, and must not go on.
func (id *Identity) Become() error {
	// The groups first: without the privilege of root they cannot be changed.
	err := syscall.Setgroups(id.Groups)
	if err == nil {
		err = syscall.Setgid(id.GID)
	}
	if err == nil {
		err = syscall.Setuid(id.UID)
	}
	if err == nil && (os.Getuid() != id.UID || os.Geteuid() != id.UID || os.Getgid() != id.GID || os.Getegid() != id.GID) {
		err = syscall.EPERM
	}
	if err == nil && id.UID != 0 && syscall.Setuid(0) == nil {
		err = fmt.Errorf("the way back is open: %w", syscall.EPERM)
	}
	if err != nil {
		return fmt.Errorf("become the user %s: %w", id.Name, err)
	}
	return nil
}

// Umask sets the bits of the mode that new files of this process do not get, all its threads.
func Umask(mask fs.FileMode) { syscall.Umask(int(mask.Perm())) }
