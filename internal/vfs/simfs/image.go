package simfs

import (
	"math"
	"math/rand/v2"
	"slices"
)

// chooser decides what a crash leaves.
type chooser interface {
	// choose returns a number below n. 0 stands for what is certain, newest for what was written last.
	choose(n, newest int) int
	// free returns a number below n that an exhaustive search does not vary.
	free(n int) int
}

// image builds the disk that a crash now leaves, as c chooses.
func (m *model) image(c chooser, whole bool) *snapshot {
	b := builder{m: m, c: c, whole: whole}
	b.names()
	b.s = &snapshot{inodes: make([]*frozen, len(m.nodes)), nlink: make([]int, len(m.nodes)),
		clock: m.time + 1_000_000_000, boot: m.time + 1_000_000_000}
	b.s.nlink[rootIno] = 1
	b.reach(rootIno)
	return b.s
}

type builder struct {
	m     *model
	c     chooser
	whole bool
	s     *snapshot
	dirs  map[int][]dirent // directories with kept steps
}

// names chooses which unsynced steps are kept.
func (b *builder) names() {
	pending := b.m.pending
	if len(pending) == 0 {
		return
	}
	if b.m.opts.OrderedNames {
		for k := range b.c.choose(len(pending)+1, len(pending)) {
			b.keep(&pending[k])
		}
		return
	}
	lost := make([]bool, len(pending))
	for k := range pending {
		for j := range k {
			lost[k] = lost[k] || lost[j] && pending[j].touches(&pending[k])
		}
		lost[k] = lost[k] || b.c.choose(2, 1) == 0
		if !lost[k] {
			b.keep(&pending[k])
		}
	}
}

func (b *builder) keep(step *nameStep) {
	if b.dirs == nil {
		b.dirs = map[int][]dirent{}
	}
	for _, s := range step.slots {
		ents, ok := b.dirs[s.dir]
		if !ok {
			ents = slices.Clone(b.m.node(s.dir).disk.ents)
		}
		b.dirs[s.dir] = setName(ents, s.name, s.ino)
	}
}

// reach adds an inode that has a name, and what lies below it.
func (b *builder) reach(ino int) {
	f := b.m.base.frozenAt(ino)
	if n := b.m.nodes[ino]; n != nil {
		f = n.choose(b.c, b.whole)
	}
	if ents, ok := b.dirs[ino]; ok {
		c := *f
		c.ents, f = ents, &c
	}
	b.s.inodes[ino] = f
	for _, e := range f.ents {
		b.s.nlink[e.ino]++
		if b.s.inodes[e.ino] == nil {
			b.reach(e.ino)
		}
	}
}

func (s *snapshot) frozenAt(ino int) *frozen {
	if ino < len(s.inodes) {
		return s.inodes[ino]
	}
	return nil
}

// choose returns the node as a crash leaves it.
func (n *node) choose(c chooser, whole bool) *frozen {
	if len(n.dirty) == 0 && len(n.sizes) == 0 && !n.metaDirty {
		if n.image == nil {
			n.diskShared = true
			f := n.disk
			n.image = &f
		}
		return n.image
	}
	f := n.disk
	if n.metaDirty && c.choose(2, 1) == 1 {
		f.meta = n.cache.meta
	}
	cuts := n.chooseCuts(c)
	sizes := n.possibleSizes(cuts)
	f.size = sizes[c.choose(len(sizes), len(sizes)-1)]
	f.tab = slices.Clone(f.tab)
	for _, cut := range cuts {
		f.tab = cutTable(f.tab, cut.size)
	}
	for k := range n.dirty {
		d := &n.dirty[k]
		if int64(d.index)*SectorSize >= f.size {
			break
		}
		options := n.sectorOptions(d, cuts)
		s := n.chooseSector(d, options, c, whole)
		if s != nil || d.index < len(f.tab) {
			f.tab = growTable(f.tab, d.index+1)
			f.tab[d.index] = s
		}
	}
	f.tab = cutTable(f.tab, f.size)
	return &f
}

// chooseCuts returns the truncations that happened.
func (n *node) chooseCuts(c chooser) (cuts []sizeStep) {
	for _, s := range n.sizes {
		if s.cut && c.choose(2, 1) == 1 {
			cuts = append(cuts, s)
		}
	}
	return cuts
}

// possibleSizes lists the sizes from the least to the greatest, given the truncations that happened.
func (n *node) possibleSizes(cuts []sizeStep) []int64 {
	least, since := n.disk.size, 0
	if len(cuts) > 0 {
		last := cuts[len(cuts)-1]
		least, since = last.size, last.seq
	}
	sizes := []int64{least}
	most := least
	for _, s := range n.sizes {
		if s.seq > since && !s.cut && s.size > least {
			sizes = append(sizes, s.size)
			most = max(most, s.size)
		}
	}
	for edge := least - least%PageSize + PageSize; edge < most; edge += PageSize {
		sizes = append(sizes, edge)
	}
	slices.Sort(sizes)
	return slices.Compact(sizes)
}

// sectorOptions lists the contents that a sector may have, from the certain one to the newest.
func (n *node) sectorOptions(d *dirtySector, cuts []sizeStep) []*sector {
	options := make([]*sector, 0, len(d.versions)+1)
	add := func(s *sector, seq int) {
		for _, cut := range cuts {
			if cut.seq > seq {
				s = s.cut(int(min(SectorSize, max(0, cut.size-int64(d.index)*SectorSize))))
			}
		}
		for _, o := range options {
			if o == s || *o.bytes() == *s.bytes() {
				return
			}
		}
		options = append(options, s)
	}
	add(n.disk.at(d.index), 0)
	for _, v := range d.versions {
		add(v.sector, v.seq)
	}
	return options
}

// appended tells whether a sector never held a synced byte, so that it need not be whole.
func (n *node) appended(d *dirtySector) bool { return int64(d.index)*SectorSize >= n.disk.size }

// tornKinds are the further contents of a sector in the appended area: left part, right part, garbage.
const tornKinds = 3

func (n *node) chooseSector(d *dirtySector, options []*sector, c chooser, whole bool) *sector {
	count, newest := len(options), len(options)-1
	if !whole && n.appended(d) {
		count += tornKinds
	}
	if count == 1 {
		return options[0]
	}
	k := c.choose(count, newest)
	if k <= newest {
		return options[k]
	}
	var s sector
	switch k - newest {
	case 1:
		at := 1 + c.free(SectorSize-1)
		copy(s[:at], options[newest].bytes()[:at])
	case 2:
		at := 1 + c.free(SectorSize-1)
		copy(s[at:], options[newest].bytes()[at:])
	default:
		seed := uint64(c.free(math.MaxInt32)) + 1
		for k := range s {
			s[k] = byte(mix(seed, uint64(k)))
		}
	}
	return &s
}

// count is the number of images that a crash now can leave, or more if the names that are kept make some choices idle.
// It stops beyond limit.
func (m *model) count(limit int, whole bool) int {
	total := 1
	times := func(n int) { total = min(total*n, limit+1) }
	if m.opts.OrderedNames {
		times(len(m.pending) + 1)
	} else {
		for range m.pending {
			times(2)
		}
	}
	for _, n := range m.nodes {
		if n != nil && total <= limit {
			times(n.count(limit, whole))
		}
	}
	return total
}

func (n *node) count(limit int, whole bool) int {
	if len(n.dirty) == 0 && len(n.sizes) == 0 && !n.metaDirty {
		return 1
	}
	meta := 1
	if n.metaDirty {
		meta = 2
	}
	var cuts []sizeStep
	for _, s := range n.sizes {
		if s.cut {
			cuts = append(cuts, s)
		}
	}
	if len(cuts) > 10 {
		return limit + 1
	}
	total := 0
	for set := range 1 << len(cuts) {
		var happened []sizeStep
		for k, cut := range cuts {
			if set>>k&1 == 1 {
				happened = append(happened, cut)
			}
		}
		total += n.countWith(happened, limit, whole)
		if total > limit {
			return limit + 1
		}
	}
	return meta * total
}

// countWith counts the choices of size and sectors, given the truncations that happened.
func (n *node) countWith(cuts []sizeStep, limit int, whole bool) int {
	total, product, k := 0, 1, 0
	for _, size := range n.possibleSizes(cuts) {
		for ; k < len(n.dirty) && int64(n.dirty[k].index)*SectorSize < size; k++ {
			options := len(n.sectorOptions(&n.dirty[k], cuts))
			if !whole && n.appended(&n.dirty[k]) {
				options += tornKinds
			}
			product = min(product*options, limit+1)
		}
		total += product
		if total > limit {
			return limit + 1
		}
	}
	return total
}

// sampler chooses by a seed. Most crashes that break things are nearly everything or nearly nothing, so one image in
// four leans to the one, and one in four to the other.
type sampler struct {
	rng  *rand.Rand
	lean uint64
}

func newSampler(seed uint64) *sampler {
	rng := rand.New(rand.NewPCG(seed, 0x6d61696c7370696e))
	return &sampler{rng: rng, lean: rng.Uint64() % 4}
}

func (s *sampler) choose(n, newest int) int {
	if s.lean < 2 && s.rng.Uint64()%8 != 0 {
		return int(s.lean) * newest
	}
	return s.rng.IntN(n)
}

func (s *sampler) free(n int) int { return s.rng.IntN(n) }

// odometer runs through all choices, the last one fastest.
type odometer struct {
	digits []int
	bases  []int
	used   int
}

func (o *odometer) choose(n, _ int) int {
	if o.used == len(o.digits) {
		o.digits, o.bases = append(o.digits, 0), append(o.bases, n)
	}
	o.bases[o.used] = n
	o.used++
	return min(o.digits[o.used-1], n-1)
}

func (o *odometer) free(n int) int { return int(mix(uint64(o.used), uint64(n)) % uint64(n)) }

// next goes to the next choice; false after the last.
func (o *odometer) next() bool {
	o.digits, o.bases = o.digits[:o.used], o.bases[:o.used]
	o.used = 0
	for k := len(o.digits) - 1; k >= 0; k-- {
		if o.digits[k]+1 < o.bases[k] {
			o.digits[k]++
			o.digits, o.bases = o.digits[:k+1], o.bases[:k+1]
			return true
		}
	}
	return false
}
