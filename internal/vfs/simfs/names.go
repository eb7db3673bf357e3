package simfs

import (
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
)

func timeOf(ns int64) time.Time { return time.Unix(0, ns).UTC() }

// place is a name in a directory, and the inode behind it if there is one.
type place struct {
	dir  *inode
	name string // "" for the root
	node *inode
}

// lookup walks to name. Relative names start at the root; there are no symbolic links.
func (d *disk) lookup(name string) (place, error) {
	at := d.get(rootIno)
	rest := strings.Trim(path.Clean("/"+name), "/")
	if rest == "" {
		return place{node: at}, nil
	}
	for {
		part, after, more := strings.Cut(rest, "/")
		if !at.dir {
			return place{}, syscall.ENOTDIR
		}
		if at.gone || (at.nlink == 0 && at.ino != rootIno) {
			return place{}, syscall.ENOENT
		}
		if len(part) > 255 {
			return place{}, syscall.ENAMETOOLONG
		}
		p := place{dir: at, name: part}
		if ino := at.find(part); ino != 0 {
			p.node = d.get(ino)
		}
		if !more {
			return p, nil
		}
		if p.node == nil {
			return place{}, syscall.ENOENT
		}
		at, rest = p.node, after
	}
}

// existing is lookup for a name that must be there.
func (d *disk) existing(name string) (place, error) {
	p, err := d.lookup(name)
	if err == nil && p.node == nil {
		err = syscall.ENOENT
	}
	return p, err
}

// lookupBoth finds the two names of a rename. As in Linux, missing directories show before a missing file.
func (d *disk) lookupBoth(old, new string) (from, to place, err error) {
	if from, err = d.lookup(old); err != nil {
		return from, to, err
	}
	if to, err = d.lookup(new); err != nil {
		return from, to, err
	}
	if from.dir == nil || to.dir == nil {
		return from, to, syscall.EBUSY
	}
	if from.node == nil {
		return from, to, syscall.ENOENT
	}
	return from, to, nil
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func linkError(op, old, new string, err error) error {
	if err == nil {
		return nil
	}
	return &os.LinkError{Op: op, Old: old, New: new, Err: err}
}

func (v *FS) Open(name string, flag vfs.Flag, perm fs.FileMode) (vfs.File, error) {
	if err := v.enter("open", name); err != nil {
		return nil, err
	}
	defer v.d.mu.Unlock()
	i, err := v.d.openNode(name, flag, perm)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	f := &File{v: v, name: name, flag: flag, node: i}
	i.opens++
	v.proc.files[f] = struct{}{}
	return f, nil
}

func (d *disk) openNode(name string, flag vfs.Flag, perm fs.FileMode) (*inode, error) {
	p, err := d.lookup(name)
	if err != nil {
		return nil, err
	}
	if p.node == nil {
		if flag&vfs.Create == 0 {
			return nil, syscall.ENOENT
		}
		if strings.HasSuffix(name, "/") {
			return nil, syscall.EISDIR
		}
		return d.create(p, frozen{meta: meta{mode: perm.Perm() &^ 0o022}})
	}
	if flag&(vfs.Create|vfs.Exclusive) == vfs.Create|vfs.Exclusive {
		return nil, syscall.EEXIST
	}
	if p.node.dir && flag&(vfs.ReadWrite|vfs.Create) != 0 {
		return nil, syscall.EISDIR
	}
	return p.node, nil
}

// create makes a file or directory at a free place.
func (d *disk) create(p place, f frozen) (*inode, error) {
	if d.opts.Inodes > 0 && d.inodesUsed() >= d.opts.Inodes {
		return nil, syscall.ENOSPC
	}
	f.mtime = d.now()
	f.ctime = f.mtime
	i := d.add(f)
	d.change(op{kind: opCreate, ino: i.ino, created: &f}, slot{p.dir.ino, p.name, i.ino})
	return i, nil
}

// change applies changes of names, as one step, and records them. Only after the last one inodes without a name are
// released: an exchange takes each name away before it gives the other.
func (d *disk) change(o op, slots ...slot) {
	o.slots = slots
	d.record(o)
	for _, s := range slots {
		dir := d.get(s.dir)
		if was := dir.find(s.name); was != 0 {
			i := d.get(was)
			i.nlink--
			defer d.release(i)
			if o.kind != opExchange { // XFS does not note it in the files.
				i.ctime = d.now()
			}
		}
		if s.ino != 0 {
			i := d.get(s.ino)
			i.nlink++
			if o.kind != opExchange {
				i.ctime = d.now()
			}
		}
		dir.ownEnts()
		dir.ents = setName(dir.ents, s.name, s.ino)
		dir.mtime = d.now()
		dir.ctime = dir.mtime
	}
}

func (v *FS) Stat(name string) (vfs.Info, error) {
	if err := v.enter("stat", name); err != nil {
		return vfs.Info{}, err
	}
	defer v.d.mu.Unlock()
	p, err := v.d.existing(name)
	if err != nil {
		return vfs.Info{}, pathError("stat", name, err)
	}
	return p.node.info(), nil
}

func (v *FS) ReadDir(name string) ([]vfs.Entry, error) {
	if err := v.enter("readdir", name); err != nil {
		return nil, err
	}
	defer v.d.mu.Unlock()
	p, err := v.d.existing(name)
	if err == nil && !p.node.dir {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	list := make([]vfs.Entry, 0, len(p.node.ents))
	for _, e := range p.node.ents {
		list = append(list, vfs.Entry{Name: e.name, Dir: v.d.get(e.ino).dir})
	}
	return list, nil
}

func (v *FS) Mkdir(name string, perm fs.FileMode) error {
	if err := v.enter("mkdir", name); err != nil {
		return err
	}
	defer v.d.mu.Unlock()
	p, err := v.d.lookup(name)
	if err == nil && p.node != nil {
		err = syscall.EEXIST
	}
	if err == nil {
		_, err = v.d.create(p, frozen{dir: true, meta: meta{mode: fs.ModeDir | perm.Perm()&^0o022}})
	}
	return pathError("mkdir", name, err)
}

func (v *FS) Rename(old, new string) error {
	if err := v.enter("rename", old); err != nil {
		return err
	}
	defer v.d.mu.Unlock()
	return linkError("rename", old, new, v.d.rename(old, new))
}

func (d *disk) rename(old, new string) error {
	from, to, err := d.lookupBoth(old, new)
	if err != nil {
		return err
	}
	if from.node.dir && within(new, old) {
		return syscall.EINVAL
	}
	if to.node != nil {
		switch {
		case to.node == from.node:
			return nil
		case to.node.dir && within(old, new):
			return syscall.ENOTEMPTY
		case to.node.dir && !from.node.dir:
			return syscall.EISDIR
		case !to.node.dir && from.node.dir:
			return syscall.ENOTDIR
		case to.node.dir && len(to.node.ents) > 0:
			return syscall.ENOTEMPTY
		}
	}
	d.change(op{kind: opRename}, slot{from.dir.ino, from.name, 0}, slot{to.dir.ino, to.name, from.node.ino})
	return nil
}

// within tells whether name lies below dir.
func within(name, dir string) bool {
	name, dir = path.Clean("/"+name), path.Clean("/"+dir)
	return strings.HasPrefix(name, dir+"/")
}

func (v *FS) Exchange(a, b string) error {
	if err := v.enter("exchange", a); err != nil {
		return err
	}
	defer v.d.mu.Unlock()
	return linkError("exchange", a, b, v.d.exchange(a, b))
}

func (d *disk) exchange(a, b string) error {
	from, to, err := d.lookupBoth(a, b)
	if err != nil {
		return err
	}
	if to.node == nil {
		return syscall.ENOENT
	}
	if within(a, b) || within(b, a) {
		return syscall.EINVAL
	}
	if from.node == to.node {
		return nil
	}
	d.change(op{kind: opExchange}, slot{from.dir.ino, from.name, to.node.ino}, slot{to.dir.ino, to.name, from.node.ino})
	return nil
}

func (v *FS) Link(old, new string) error {
	if err := v.enter("link", old); err != nil {
		return err
	}
	defer v.d.mu.Unlock()
	from, err := v.d.existing(old)
	if err != nil {
		return linkError("link", old, new, err)
	}
	to, err := v.d.lookup(new)
	switch {
	case err != nil:
	case to.node != nil:
		err = syscall.EEXIST
	case from.node.dir:
		err = syscall.EPERM
	default:
		v.d.change(op{kind: opLink}, slot{to.dir.ino, to.name, from.node.ino})
	}
	return linkError("link", old, new, err)
}

func (v *FS) Unlink(name string) error {
	if err := v.enter("unlink", name); err != nil {
		return err
	}
	defer v.d.mu.Unlock()
	p, err := v.d.existing(name)
	switch {
	case err != nil:
	case p.node.dir:
		err = syscall.EISDIR
	default:
		v.d.change(op{kind: opUnlink}, slot{p.dir.ino, p.name, 0})
	}
	return pathError("unlink", name, err)
}

func (v *FS) Rmdir(name string) error {
	if err := v.enter("rmdir", name); err != nil {
		return err
	}
	defer v.d.mu.Unlock()
	p, err := v.d.existing(name)
	switch {
	case err != nil:
	case !p.node.dir:
		err = syscall.ENOTDIR
	case p.dir == nil:
		err = syscall.EBUSY
	case len(p.node.ents) > 0:
		err = syscall.ENOTEMPTY
	default:
		v.d.change(op{kind: opUnlink}, slot{p.dir.ino, p.name, 0})
	}
	return pathError("rmdir", name, err)
}

func (v *FS) SyncDir(name string) error {
	if err := v.enter("syncdir", name); err != nil {
		return err
	}
	defer v.d.mu.Unlock()
	p, err := v.d.existing(name)
	if err == nil && !p.node.dir {
		err = syscall.ENOTDIR
	}
	if err == nil {
		v.d.record(op{kind: opSyncDir, ino: p.node.ino})
	}
	return pathError("syncdir", name, err)
}
