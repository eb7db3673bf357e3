package simfs

import (
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
)

// maxSize bounds files, because a table of sectors has an entry for each.
const maxSize = 1 << 36

// File is an open file of a simulated disk.
type File struct {
	v      *FS
	name   string
	flag   vfs.Flag
	node   *inode
	closed bool
}

var _ vfs.File = (*File)(nil)

func (f *File) Name() string { return f.name }

// enter begins a call on the file. With nil the lock is held.
func (f *File) enter(what string) error {
	if err := f.v.enter(what, f.name); err != nil {
		return err
	}
	if f.closed {
		f.v.d.mu.Unlock()
		return pathError(what, f.name, syscall.EBADF)
	}
	return nil
}

// enterWrite begins a call that changes content.
func (f *File) enterWrite(what string) error {
	if err := f.enter(what); err != nil {
		return err
	}
	if f.flag&vfs.ReadWrite == 0 {
		f.v.d.mu.Unlock()
		if what == "truncate" {
			return pathError(what, f.name, syscall.EINVAL)
		}
		return pathError(what, f.name, syscall.EBADF)
	}
	return nil
}

func (f *File) Close() error {
	if err := f.enter("close"); err != nil {
		return err
	}
	defer f.v.d.mu.Unlock()
	f.v.d.closeFile(f)
	return nil
}

func (d *disk) closeFile(f *File) {
	f.closed = true
	delete(f.v.proc.files, f)
	f.node.unlock(f)
	f.node.wake()
	f.node.opens--
	d.release(f.node)
}

func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if err := f.enter("read"); err != nil {
		return 0, err
	}
	defer f.v.d.mu.Unlock()
	i := f.node
	switch {
	case len(p) == 0:
		return 0, nil
	case off < 0:
		return 0, pathError("read", f.name, syscall.EINVAL)
	case i.dir:
		return 0, pathError("read", f.name, syscall.EISDIR)
	case off >= i.size:
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), i.size-off))
	i.copyOut(p[:n], off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// copyOut reads within the size.
func (f *frozen) copyOut(p []byte, off int64) {
	k, from := int(off/SectorSize), int(off%SectorSize)
	for len(p) > 0 {
		p = p[copy(p, f.at(k).bytes()[from:]):]
		k, from = k+1, 0
	}
}

func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if err := f.enter("write"); err != nil {
		return 0, err
	}
	defer f.v.d.mu.Unlock()
	switch {
	case len(p) == 0:
		return 0, nil
	case f.flag&vfs.ReadWrite == 0:
		return 0, pathError("write", f.name, syscall.EBADF)
	case off < 0:
		return 0, pathError("write", f.name, syscall.EINVAL)
	case off+int64(len(p)) > maxSize:
		return 0, pathError("write", f.name, syscall.EFBIG)
	}
	n, err := f.v.d.takeForWrite(f.node, off, len(p))
	if n > 0 {
		f.v.d.write(f.node, p[:n], off)
	}
	return n, pathError("write", f.name, err)
}

func (d *disk) write(i *inode, p []byte, off int64) {
	end := off + int64(len(p))
	first, last := int(off/SectorSize), sectorCount(end)
	i.ownTab()
	i.tab = growTable(i.tab, last)
	written := make([]sector, last-first)
	skip := int(off % SectorSize)
	rest := p
	for k := range written {
		s := &written[k]
		if skip > 0 || len(rest) < SectorSize {
			*s = *i.tab[first+k].bytes()
		}
		rest = rest[copy(s[skip:], rest):]
		skip = 0
		i.tab[first+k] = s
	}
	was := i.size
	i.size = max(i.size, end)
	d.touch(i)
	d.record(op{kind: opWrite, ino: i.ino, off: off, n: int64(len(p)), first: first, written: written})
	i.refreshMaps(min(off, was), end)
}

// touch sets the times of a changed file.
func (d *disk) touch(i *inode) {
	i.mtime = d.now()
	i.ctime = i.mtime
}

func (f *File) Truncate(size int64) error {
	if err := f.enterWrite("truncate"); err != nil {
		return err
	}
	defer f.v.d.mu.Unlock()
	if size < 0 {
		return pathError("truncate", f.name, syscall.EINVAL)
	}
	if size > maxSize {
		return pathError("truncate", f.name, syscall.EFBIG)
	}
	d, i := f.v.d, f.node
	was := i.size
	d.freeBlocks(i, (size+PageSize-1)/PageSize)
	if size < i.size {
		i.ownTab()
		i.tab = cutTable(i.tab, size)
	}
	i.size = size
	d.touch(i)
	i.blocksShared = true
	d.record(op{kind: opTruncate, ino: i.ino, off: size, blocks: i.blocks})
	i.refreshMaps(min(was, size), max(was, size))
	return nil
}

func (f *File) Allocate(off, n int64) error {
	if err := f.enterWrite("allocate"); err != nil {
		return err
	}
	defer f.v.d.mu.Unlock()
	if off < 0 || n <= 0 {
		return pathError("allocate", f.name, syscall.EINVAL)
	}
	if off+n > maxSize {
		return pathError("allocate", f.name, syscall.EFBIG)
	}
	d, i := f.v.d, f.node
	if err := d.reserve(i, off/PageSize, (off+n+PageSize-1)/PageSize); err != nil {
		return pathError("allocate", f.name, err)
	}
	i.ctime = d.now()
	i.blocksShared = true
	d.record(op{kind: opAllocate, ino: i.ino, off: off, n: n, blocks: i.blocks})
	return nil
}

func (f *File) Datasync() error { return f.sync("datasync", false) }

func (f *File) Sync() error { return f.sync("sync", true) }

func (f *File) sync(what string, withMeta bool) error {
	if err := f.enter(what); err != nil {
		return err
	}
	defer f.v.d.mu.Unlock()
	d, i := f.v.d, f.node
	if i.dir {
		d.record(op{kind: opSyncDir, ino: i.ino})
		return nil
	}
	err := d.fail
	d.fail = nil
	if err == nil {
		err = d.allocateDelayed(i)
	}
	if err != nil {
		d.drop(i)
		return pathError(what, f.name, err)
	}
	d.giveBack(i.copies)
	i.copies = 0
	i.blocksShared = true
	d.record(op{kind: opSync, ino: i.ino, blocks: i.blocks, withMeta: withMeta})
	return nil
}

// DropDirty is what a failed sync does to the pages written since the last good one: they are marked clean, and reads
// go on showing them, but each sector reached the disk or did not, as a seed decides: none, some or all of them. A
// later sync writes only what was written after. Package faultfs calls it when it makes a sync fail.
func (f *File) DropDirty() {
	f.v.d.mu.Lock()
	defer f.v.d.mu.Unlock()
	if !f.closed && !f.node.dir {
		f.v.d.drop(f.node)
	}
}

func (d *disk) drop(i *inode) {
	d.drops++
	d.record(op{kind: opDrop, ino: i.ino, seed: mix(d.opts.Seed, d.drops)})
}

func (f *File) Stat() (vfs.Info, error) {
	if err := f.enter("stat"); err != nil {
		return vfs.Info{}, err
	}
	defer f.v.d.mu.Unlock()
	return f.node.info(), nil
}

// Sole tells whether there is no other open file or mapping of the inode.
func (f *File) Sole() error {
	if err := f.enter("sole"); err != nil {
		return err
	}
	defer f.v.d.mu.Unlock()
	if f.node.dir {
		return pathError("sole", f.name, syscall.EINVAL)
	}
	own := 1
	for _, m := range f.node.maps {
		if m.file == f {
			own++
		}
	}
	if f.node.opens != own {
		return pathError("sole", f.name, syscall.EAGAIN)
	}
	return nil
}

func (f *File) CopyMetadata(from vfs.File) error {
	if err := f.enter("copymetadata"); err != nil {
		return err
	}
	defer f.v.d.mu.Unlock()
	src, ok := from.(*File)
	if !ok || src.v.d != f.v.d {
		return pathError("copymetadata", f.name, fmt.Errorf("%s is on another disk: %w", from.Name(), syscall.EXDEV))
	}
	if src.closed {
		return pathError("copymetadata", f.name, syscall.EBADF)
	}
	d, i := f.v.d, f.node
	i.uid, i.gid = src.node.uid, src.node.gid
	i.mode = i.mode.Type() | src.node.mode&^src.node.mode.Type()
	i.ctime = d.now()
	d.record(op{kind: opMeta, ino: i.ino, meta: i.meta})
	return nil
}

// SetModTime sets the time at once also on the disk: what a crash leaves of it is not varied.
func (f *File) SetModTime(t time.Time) error {
	if err := f.enter("setmodtime"); err != nil {
		return err
	}
	defer f.v.d.mu.Unlock()
	d, i := f.v.d, f.node
	i.mtime, i.ctime = t.UnixNano(), d.now()
	d.record(op{kind: opTimes, ino: i.ino, off: i.mtime})
	return nil
}

// Chown sets owner and mode of a file, durably: a test prepares its disk with it.
func (v *FS) Chown(name string, uid, gid uint32, perm uint32) error {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	p, err := v.d.existing(name)
	if err != nil {
		return pathError("chown", name, err)
	}
	i := p.node
	i.uid, i.gid, i.mode = uid, gid, i.mode&^0o777|modeBits(perm)
	i.ctime = v.d.now()
	v.d.record(op{kind: opMeta, ino: i.ino, meta: i.meta, withMeta: true})
	return nil
}
