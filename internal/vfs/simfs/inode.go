package simfs

import (
	"bytes"
	"cmp"
	"io/fs"
	"slices"

	"github.com/mailspine/mailspine/internal/vfs"
)

// sector is never changed once it is in a table: a write makes new ones. So tables, the journal, the replayed disk and
// all images share them freely. A nil sector is a hole, all zeros.
type sector [SectorSize]byte

var zeroSector sector

// bytes returns the content of a sector that may be a hole. It must not be changed.
func (s *sector) bytes() *sector {
	if s == nil {
		return &zeroSector
	}
	return s
}

// meta is what CopyMetadata copies.
type meta struct {
	mode     fs.FileMode
	uid, gid uint32
}

// dirent is a name in a directory.
type dirent struct {
	name string
	ino  int
}

// frozen is the content of a file or directory. Bytes beyond the size in the last sector are zeros.
type frozen struct {
	dir bool
	meta
	size         int64
	tab          []*sector
	ents         []dirent // sorted by name
	blocks       []blockState
	mtime, ctime int64
}

// at returns the sector with the given index.
func (f *frozen) at(i int) *sector {
	if i < len(f.tab) {
		return f.tab[i]
	}
	return nil
}

// find returns the inode number behind a name, or 0.
func (f *frozen) find(name string) int {
	if i, ok := searchName(f.ents, name); ok {
		return f.ents[i].ino
	}
	return 0
}

func searchName(ents []dirent, name string) (int, bool) {
	return slices.BinarySearchFunc(ents, name, func(e dirent, name string) int { return cmp.Compare(e.name, name) })
}

// setName changes one entry in place; ino 0 removes it.
func setName(ents []dirent, name string, ino int) []dirent {
	i, ok := searchName(ents, name)
	switch {
	case ok && ino == 0:
		return slices.Delete(ents, i, i+1)
	case ok:
		ents[i].ino = ino
		return ents
	case ino == 0:
		return ents
	}
	return slices.Insert(ents, i, dirent{name, ino})
}

// sectorCount is the number of sectors that size bytes touch.
func sectorCount(size int64) int { return int((size + SectorSize - 1) / SectorSize) }

// cutTable cuts a table that the caller owns to size, and clears the bytes beyond size in the last sector. A table may
// be shorter than its file: the rest is a hole.
func cutTable(tab []*sector, size int64) []*sector {
	n := sectorCount(size)
	if n > len(tab) {
		return tab
	}
	clear(tab[n:])
	tab = tab[:n]
	if n > 0 {
		tab[n-1] = tab[n-1].cut(int(size - int64(n-1)*SectorSize))
	}
	return tab
}

func growTable(tab []*sector, n int) []*sector {
	if n <= len(tab) {
		return tab
	}
	return append(tab, make([]*sector, n-len(tab))...)
}

// cut returns the sector with zeros from byte n on.
func (s *sector) cut(n int) *sector {
	if s == nil || n >= SectorSize || bytes.Equal(s[n:], zeroSector[n:]) {
		return s
	}
	c := *s
	clear(c[n:])
	return &c
}

// inode is a file or directory that is in use.
type inode struct {
	frozen
	ino   int
	nlink int
	opens int
	gone  bool
	// tabShared, entsShared and blocksShared tell that a slice also belongs to somebody else: clone it before a change.
	tabShared, entsShared, blocksShared bool

	delayed int64 // blocks written but not allocated yet
	copies  int64 // blocks that copy-on-write holds twice until the next sync
	locks   map[*File]vfs.LockKind
	changed chan struct{} // closed when a lock is given back; made by who waits
	maps    []*mapping
}

func (i *inode) ownTab() {
	if i.tabShared {
		i.tab, i.tabShared = slices.Clone(i.tab), false
	}
}

func (i *inode) ownEnts() {
	if i.entsShared {
		i.ents, i.entsShared = slices.Clone(i.ents), false
	}
}

// snapshot is the state of a whole disk, never changed. Inode numbers index it.
type snapshot struct {
	inodes      []*frozen // nil: free
	nlink       []int
	clock, boot int64
}

// open starts a disk from a snapshot. Inodes are copied only when they are touched.
func (s *snapshot) open(opts Options) *FS {
	d := &disk{opts: opts, base: s, inodes: make([]*inode, len(s.inodes)), clock: s.clock, boot: s.boot}
	d.initSpace()
	return &FS{d: d, proc: &process{files: map[*File]struct{}{}}}
}

// get returns an inode that is in use.
func (d *disk) get(ino int) *inode {
	if i := d.inodes[ino]; i != nil {
		return i
	}
	i := &inode{frozen: *d.base.inodes[ino], ino: ino, nlink: d.base.nlink[ino],
		tabShared: true, entsShared: true, blocksShared: true}
	d.inodes[ino] = i
	return i
}

// add makes a new inode.
func (d *disk) add(f frozen) *inode {
	i := &inode{frozen: f, ino: len(d.inodes)}
	d.inodes = append(d.inodes, i)
	d.space.inodes++
	return i
}

// release frees an inode that has neither a name nor a user.
func (d *disk) release(i *inode) {
	if i.nlink > 0 || i.opens > 0 || i.gone {
		return
	}
	i.gone = true
	d.freeBlocks(i, 0)
	d.space.inodes--
	if len(i.maps) == 0 {
		i.tab = nil
	}
}

func (i *inode) info() vfs.Info {
	return vfs.Info{
		Dev: 1, Ino: uint64(i.ino), Nlink: uint64(i.nlink), Size: i.size, Blocks: i.usedBlocks() * sectorsPerPage,
		Mode: i.mode, UID: i.uid, GID: i.gid, Mtime: timeOf(i.mtime), Ctime: timeOf(i.ctime),
	}
}
