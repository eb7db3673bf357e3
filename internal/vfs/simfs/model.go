package simfs

import (
	"slices"
	"sort"
)

// model is the disk after a number of operations: what is on it for certain, and what may be.
type model struct {
	base    *snapshot
	opts    *Options
	at      int     // operations applied
	nodes   []*node // by inode number; nil: untouched since base
	pending []nameStep
	marks   int // of the operations applied
	time    int64
}

// node is a file or directory that was touched. Both sides are copy-on-write, as images and live disks share them.
type node struct {
	disk, cache             frozen // what a crash leaves for certain; what reads see
	diskShared, cacheShared bool   // tab, ents belong to others too
	metaDirty               bool
	dirty                   []dirtySector // by index
	sizes                   []sizeStep
	seq                     int
	image                   *frozen // the disk side as images have it, while nothing is unsynced
}

// dirtySector is a sector with unsynced writes, and its content after each of them.
type dirtySector struct {
	index    int
	versions []version
}

type version struct {
	seq int
	*sector
}

// sizeStep is an unsynced change of the size: to a smaller one by a cut, or beyond the old one.
type sizeStep struct {
	seq  int
	cut  bool
	size int64
}

// nameStep is an unsynced change of names.
type nameStep struct {
	slots []slot
	// unsynced are the directories that must still be synced until the step is certain.
	unsynced []int
}

func newModel(base *snapshot, opts *Options) *model {
	return &model{base: base, opts: opts, nodes: make([]*node, len(base.inodes)), time: base.clock}
}

func (m *model) node(ino int) *node {
	for ino >= len(m.nodes) {
		m.nodes = append(m.nodes, nil)
	}
	if m.nodes[ino] == nil {
		f := *m.base.inodes[ino]
		m.nodes[ino] = &node{disk: f, cache: f, diskShared: true, cacheShared: true}
	}
	return m.nodes[ino]
}

// apply advances by one operation.
func (m *model) apply(o *op) {
	m.at++
	m.time = o.time
	switch o.kind {
	case opMark:
		m.marks++
	case opEvict:
		for _, n := range m.nodes {
			if n != nil && !n.cache.dir {
				n.evict()
			}
		}
	case opSyncDir:
		m.syncDir(o.ino)
	case opCreate, opRename, opExchange, opLink, opUnlink:
		m.change(o)
	default:
		n := m.node(o.ino)
		n.image = nil
		n.apply(o)
	}
}

func (n *node) apply(o *op) {
	switch o.kind {
	case opWrite:
		n.write(o)
	case opTruncate:
		n.truncate(o)
		n.cache.blocks = o.blocks
	case opAllocate:
		n.cache.blocks = o.blocks
	case opSync:
		n.sync(o)
	case opDrop:
		n.drop(o.seed)
	case opMeta:
		n.cache.meta = o.meta
		n.metaDirty = !o.withMeta
		if o.withMeta {
			n.disk.meta = o.meta
		}
	}
	switch o.kind {
	case opWrite, opTruncate:
		n.cache.mtime, n.disk.mtime = o.time, o.time
	case opTimes:
		n.cache.mtime, n.disk.mtime = o.off, o.off
	}
	n.cache.ctime, n.disk.ctime = o.time, o.time
}

func (n *node) ownCache() {
	if n.cacheShared {
		n.cache.tab, n.cache.ents = slices.Clone(n.cache.tab), slices.Clone(n.cache.ents)
		n.cacheShared = false
	}
}

func (n *node) ownDisk() {
	if n.diskShared {
		n.disk.tab, n.disk.ents = slices.Clone(n.disk.tab), slices.Clone(n.disk.ents)
		n.diskShared = false
	}
}

func (n *node) write(o *op) {
	n.seq++
	n.ownCache()
	n.cache.tab = growTable(n.cache.tab, o.first+len(o.written))
	for k := range o.written {
		n.cache.tab[o.first+k] = &o.written[k]
		n.addVersion(o.first+k, &o.written[k])
	}
	n.grow(o.off + o.n)
}

func (n *node) grow(size int64) {
	if size > n.cache.size {
		n.cache.size = size
		n.sizes = append(n.sizes, sizeStep{n.seq, false, size})
	}
}

func (n *node) addVersion(index int, s *sector) {
	k := sort.Search(len(n.dirty), func(k int) bool { return n.dirty[k].index >= index })
	if k == len(n.dirty) || n.dirty[k].index != index {
		n.dirty = slices.Insert(n.dirty, k, dirtySector{index: index})
	}
	d := &n.dirty[k]
	// A copy, because the images of the previous crash point may still be under way elsewhere.
	d.versions = append(d.versions[:len(d.versions):len(d.versions)], version{n.seq, s})
}

func (n *node) truncate(o *op) {
	n.seq++
	if o.off >= n.cache.size {
		n.grow(o.off)
		return
	}
	n.ownCache()
	last := int(o.off / SectorSize)
	before := n.cache.at(last)
	n.cache.tab = cutTable(n.cache.tab, o.off)
	n.cache.size = o.off
	n.sizes = append(n.sizes, sizeStep{n.seq, true, o.off})
	if after := n.cache.at(last); o.off%SectorSize != 0 && after != before {
		n.addVersion(last, after)
	}
}

// firstCut is the smallest size that an unsynced truncation left; -1 if there is none.
func (n *node) firstCut() int64 {
	cut := int64(-1)
	for _, s := range n.sizes {
		if s.cut && (cut < 0 || s.size < cut) {
			cut = s.size
		}
	}
	return cut
}

// settleSize makes all changes of the size certain.
func (n *node) settleSize() {
	n.ownDisk()
	if cut := n.firstCut(); cut >= 0 {
		n.disk.tab = cutTable(n.disk.tab, cut)
	}
	n.disk.size = n.cache.size
	n.disk.tab = cutTable(n.disk.tab, n.disk.size)
	n.sizes = nil
}

func (n *node) settleSector(index int) {
	s := n.cache.at(index)
	if s == nil && index >= len(n.disk.tab) {
		return
	}
	n.disk.tab = growTable(n.disk.tab, index+1)
	n.disk.tab[index] = s
}

func (n *node) sync(o *op) {
	if len(n.sizes) > 0 || len(n.dirty) > 0 {
		n.settleSize()
		for _, d := range n.dirty {
			n.settleSector(d.index)
		}
	}
	n.dirty, n.seq = nil, 0
	n.cache.blocks, n.disk.blocks = o.blocks, o.blocks
	if o.withMeta {
		n.disk.meta, n.metaDirty = n.cache.meta, false
	}
}

// drop is a failed sync: some sectors reached the disk, all are marked clean. The size goes through the journal of the
// file system and is not lost for good: it reached the disk, or a later sync will bring it there.
func (n *node) drop(seed uint64) {
	odds := [...]uint64{0, 1, 2}[seed%3] // none, half, all
	if n.firstCut() >= 0 || mix(seed, 1)%2 == 0 {
		n.settleSize()
	}
	n.ownDisk()
	for _, d := range n.dirty {
		if mix(seed, uint64(d.index)+2)%2 < odds {
			n.settleSector(d.index)
		}
	}
	n.dirty = nil
}

// evict makes the clean sectors of the page cache what the disk holds.
func (n *node) evict() {
	n.ownCache()
	count := sectorCount(n.cache.size)
	tab := slices.Clone(n.disk.tab[:min(count, len(n.disk.tab))])
	if cut := n.firstCut(); cut >= 0 {
		tab = cutTable(tab, cut)
	}
	for _, d := range n.dirty {
		if s := n.cache.at(d.index); s != nil {
			tab = growTable(tab, d.index+1)
			tab[d.index] = s
		}
	}
	n.cache.tab = cutTable(tab, n.cache.size)
}

func (m *model) change(o *op) {
	if o.created != nil {
		for o.ino >= len(m.nodes) {
			m.nodes = append(m.nodes, nil)
		}
		m.nodes[o.ino] = &node{disk: *o.created, cache: *o.created, diskShared: true, cacheShared: true}
	}
	step := nameStep{slots: o.slots}
	for _, s := range o.slots {
		n := m.node(s.dir)
		n.ownCache()
		n.cache.ents = setName(n.cache.ents, s.name, s.ino)
		n.cache.mtime, n.cache.ctime = o.time, o.time
		n.image = nil
		if !slices.Contains(step.unsynced, s.dir) {
			step.unsynced = append(step.unsynced, s.dir)
		}
	}
	m.pending = append(m.pending[:len(m.pending):len(m.pending)], step)
}

// syncDir makes the steps of a directory certain, and with each one all earlier steps on its names. A rename between
// directories becomes certain with the sync of the second one.
func (m *model) syncDir(dir int) {
	certain := make([]bool, len(m.pending))
	pending := slices.Clone(m.pending)
	for k := len(pending) - 1; k >= 0; k-- {
		step := &pending[k]
		if at := slices.Index(step.unsynced, dir); at >= 0 {
			step.unsynced = slices.Delete(slices.Clone(step.unsynced), at, at+1)
		}
		certain[k] = certain[k] || len(step.unsynced) == 0
		if !certain[k] {
			continue
		}
		for j := range k {
			certain[j] = certain[j] || m.opts.OrderedNames || pending[j].touches(step)
		}
	}
	m.pending = nil
	for k, step := range pending {
		if !certain[k] {
			m.pending = append(m.pending, step)
			continue
		}
		for _, s := range step.slots {
			n := m.node(s.dir)
			n.ownDisk()
			n.disk.ents = setName(n.disk.ents, s.name, s.ino)
			n.disk.mtime, n.disk.ctime = m.time, m.time
			n.image = nil
		}
	}
}

// touches tells whether two steps change a common name.
func (s *nameStep) touches(o *nameStep) bool {
	for _, a := range s.slots {
		for _, b := range o.slots {
			if a.dir == b.dir && a.name == b.name {
				return true
			}
		}
	}
	return false
}
