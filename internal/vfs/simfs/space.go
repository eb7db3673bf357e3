package simfs

import (
	"math"
	"slices"
	"syscall"

	"github.com/mailspine/mailspine/internal/vfs"
)

// blockState says more of a page than its sectors do: a page with a sector has a block unless it is delayed, a page
// without one has a block only if it is reserved.
type blockState uint8

const (
	plain blockState = iota
	reserved
	delayed
)

// space counts blocks and inodes. The counts are right only on a disk with a limit.
type space struct {
	used, inodes int64
	filler       int64 // blocks taken by another user of the disk
	greedy       bool
}

func (d *disk) initSpace() {
	if d.opts.Blocks == 0 && d.opts.Inodes == 0 {
		return
	}
	for ino, f := range d.base.inodes {
		if f != nil && (d.base.nlink[ino] > 0 || ino == rootIno) {
			d.space.inodes++
			d.space.used += f.usedBlocks()
		}
	}
}

func (d *disk) inodesUsed() int64 { return d.space.inodes }

func (d *disk) freeBlockCount() int64 {
	if d.opts.Blocks == 0 {
		return math.MaxInt64
	}
	return max(0, d.opts.Blocks-d.space.used-d.space.filler)
}

// giveBack frees blocks; a greedy filler has them at once.
func (d *disk) giveBack(n int64) {
	d.space.used -= n
	if d.space.greedy {
		d.space.filler += n
	}
}

// hasBlock tells whether a page has a block on the disk.
func (f *frozen) hasBlock(page int64) bool {
	if page < int64(len(f.blocks)) {
		switch f.blocks[page] {
		case reserved:
			return true
		case delayed:
			return false
		}
	}
	first := page * sectorsPerPage
	for k := first; k < min(first+sectorsPerPage, int64(len(f.tab))); k++ {
		if f.tab[k] != nil {
			return true
		}
	}
	return false
}

// pages is the number of pages that may have a block.
func (f *frozen) pages() int64 {
	return max(int64(len(f.blocks)), int64(len(f.tab)+sectorsPerPage-1)/sectorsPerPage)
}

func (f *frozen) usedBlocks() (n int64) {
	for page := range f.pages() {
		if f.hasBlock(page) {
			n++
		}
	}
	return n
}

// setBlock changes the state of a page.
func (i *inode) setBlock(page int64, state blockState) {
	if i.blocksShared {
		i.blocks, i.blocksShared = slices.Clone(i.blocks), false
	}
	if short := page + 1 - int64(len(i.blocks)); short > 0 {
		i.blocks = append(i.blocks, make([]blockState, short)...)
	}
	i.blocks[page] = state
}

// takeForWrite takes the blocks that a write needs, and tells how many of its bytes fit.
func (d *disk) takeForWrite(i *inode, off int64, n int) (int, error) {
	if d.opts.Blocks == 0 {
		return n, nil
	}
	for page := off / PageSize; page*PageSize < off+int64(n); page++ {
		has := i.hasBlock(page)
		switch {
		case has && !d.opts.CopyOnWrite:
			continue
		case d.opts.DelayedAlloc && !has:
			d.delay(i, page)
			continue
		case d.freeBlockCount() == 0:
			return int(max(0, page*PageSize-off)), syscall.ENOSPC
		case has:
			i.copies++
		}
		d.space.used++
	}
	return n, nil
}

func (d *disk) delay(i *inode, page int64) {
	if page < int64(len(i.blocks)) && i.blocks[page] == delayed {
		return
	}
	i.setBlock(page, delayed)
	i.delayed++
}

// allocateDelayed finds the blocks for what was written without.
func (d *disk) allocateDelayed(i *inode) error {
	if i.delayed == 0 {
		return nil
	}
	if d.freeBlockCount() < i.delayed {
		return syscall.ENOSPC
	}
	d.space.used += i.delayed
	i.delayed = 0
	for page, state := range i.blocks {
		if state == delayed {
			i.setBlock(int64(page), plain)
		}
	}
	return nil
}

// reserve gives the pages [from, to) blocks, all or none of them.
func (d *disk) reserve(i *inode, from, to int64) error {
	need := int64(0)
	for page := from; page < to; page++ {
		if !i.hasBlock(page) {
			need++
		}
	}
	if d.freeBlockCount() < max(need, 1) { // XFS wants a free block even where it needs none.
		return syscall.ENOSPC
	}
	d.space.used += need
	for page := from; page < to; page++ {
		if page < int64(len(i.blocks)) && i.blocks[page] == delayed {
			i.delayed--
		}
		i.setBlock(page, reserved)
	}
	return nil
}

// freeBlocks frees all pages from the given one on.
func (d *disk) freeBlocks(i *inode, from int64) {
	freed := int64(0)
	for page := from; page < i.pages(); page++ {
		if i.hasBlock(page) {
			freed++
		} else if page < int64(len(i.blocks)) && i.blocks[page] == delayed {
			i.delayed--
		}
	}
	if from < int64(len(i.blocks)) {
		i.blocks = i.blocks[:from:from]
	}
	if from == 0 {
		freed += i.copies
		i.copies = 0
	}
	d.giveBack(freed)
}

// Resolve returns name: there are no symbolic links.
func (v *FS) Resolve(name string) (string, error) { return name, nil }

// StatFS tells what [Options] left.
func (v *FS) StatFS(name string) (vfs.Space, error) {
	if err := v.enter("statfs", name); err != nil {
		return vfs.Space{}, err
	}
	defer v.d.mu.Unlock()
	if _, err := v.d.existing(name); err != nil {
		return vfs.Space{}, pathError("statfs", name, err)
	}
	const plenty = 1 << 50
	s := vfs.Space{FreeBytes: plenty, TotalBytes: plenty, FreeInodes: plenty, CopyOnWrite: v.d.opts.CopyOnWrite}
	if v.d.opts.Blocks > 0 {
		s.FreeBytes, s.TotalBytes = v.d.freeBlockCount()*PageSize, v.d.opts.Blocks*PageSize
	}
	if v.d.opts.Inodes > 0 {
		s.FreeInodes = max(0, v.d.opts.Inodes-v.d.space.inodes)
	}
	return s, nil
}

// SetCapacity changes the limits of [Options].
func (v *FS) SetCapacity(blocks, inodes int64) {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	if v.d.opts.Blocks == 0 || v.d.opts.Inodes == 0 {
		v.d.recount()
	}
	v.d.opts.Blocks, v.d.opts.Inodes = blocks, inodes
}

// recount finds the use of a disk that had no limit so far.
func (d *disk) recount() {
	d.space.used, d.space.inodes = 0, 0
	for ino := range d.inodes {
		if ino == 0 || (d.inodes[ino] == nil && d.base.inodes[ino] == nil) {
			continue
		}
		if i := d.get(ino); !i.gone {
			d.space.inodes++
			d.space.used += i.usedBlocks()
		}
	}
}

// FillUp lets another user of the disk take all free blocks but keep. If greedy it also takes each block the moment
// it is freed, until [FS.FreeUp].
func (v *FS) FillUp(keep int64, greedy bool) {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	if v.d.opts.Blocks > 0 {
		v.d.space.filler += max(0, v.d.freeBlockCount()-keep)
	}
	v.d.space.greedy = greedy
}

// FreeUp gives back all that FillUp took.
func (v *FS) FreeUp() {
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	v.d.space.filler, v.d.space.greedy = 0, false
}
