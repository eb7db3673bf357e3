package tree

import (
	"bytes"
	"slices"
)

// Editor makes a new version of a tree. It copies the nodes it changes, once; versions taken before stay as they were.
// It is for one goroutine at a time.
type Editor struct {
	look Lookup
	t    Tree
	own  *byte // marks the nodes that this editor made since the last version was taken
}

// Edit returns an editor that begins with t.
func Edit(t Tree, look Lookup) *Editor { return &Editor{look: look, t: t, own: new(byte)} }

// Tree takes the present version. Later edits leave it as it is.
func (e *Editor) Tree() Tree {
	e.own = new(byte)
	return e.t
}

// Peek is the present version for a look at it before the next edit, which may change it.
func (e *Editor) Peek() Tree { return e.t }

// Reset returns to a version taken before.
func (e *Editor) Reset(t Tree) {
	e.own = new(byte)
	e.t = t
}

// Len is the number of records.
func (e *Editor) Len() int { return e.t.n }

// Lookup is how the editor compares.
func (e *Editor) Lookup() Lookup { return e.look }

// Get returns the record with the given key, or 0.
func (e *Editor) Get(key []byte) Ref { return e.t.Get(e.look, key) }

// Seek is Tree.Seek on the present state; the cursor must not be used after a further edit.
func (e *Editor) Seek(key []byte) (Cursor, bool) { return e.t.Seek(e.look, key) }

// Last is Tree.Last on the present state; the cursor must not be used after a further edit.
func (e *Editor) Last() Cursor { return e.t.Last() }

// Put makes ref the record of key and returns the one that was, or 0.
func (e *Editor) Put(key []byte, ref Ref) (old Ref) {
	if e.t.root == nil {
		e.t = Tree{root: e.leafWith(ref, key), height: 1, n: 1}
		return 0
	}
	root, more, old := e.put(e.t.root, key, ref)
	e.grow(root, more)
	if old == 0 {
		e.t.n++
	}
	return old
}

// Append adds a record whose key is after all others; that is not checked.
func (e *Editor) Append(ref Ref, key []byte) {
	if e.t.root == nil {
		e.Put(key, ref)
		return
	}
	root, more := e.append(e.t.root, ref, key)
	e.grow(root, more)
	e.t.n++
}

// Delete removes the record of key and returns it, or 0.
func (e *Editor) Delete(key []byte) (old Ref) {
	if e.t.root == nil {
		return 0
	}
	root, old := e.remove(e.t.root, key)
	if old == 0 {
		return 0
	}
	e.t.n--
	e.t.root = root
	for root != nil && root.kids != nil && len(root.kids) == 1 {
		root = root.kids[0]
		e.t.root = root
		e.t.height--
	}
	if root == nil {
		e.t = Tree{}
	}
	return old
}

// part is what was split off a node: the node to its right, and the key that separates the two.
type part struct {
	nd  *node
	sep []byte
}

// grow puts a new root over the old one and what was split off it.
func (e *Editor) grow(root *node, more part) {
	e.t.root = root
	if more.nd == nil {
		return
	}
	top := e.inner()
	top.kids = append(top.kids, root, more.nd)
	top.seps = append(top.seps, nil, more.sep)
	top.levels = append(top.levels, root.topLevel(), more.nd.topLevel())
	e.t.root = top
	e.t.height++
}

func (e *Editor) put(nd *node, key []byte, ref Ref) (_ *node, more part, old Ref) {
	nd = e.mine(nd)
	if nd.kids == nil {
		more, old = e.putLeaf(nd, key, ref)
		return nd, more, old
	}
	i := nd.childFor(e.look.Compare, key)
	kid, more, old := e.put(nd.kids[i], key, ref)
	nd.set(i, kid)
	if more.nd == nil {
		return nd, part{}, old
	}
	return nd, e.adopt(nd, i+1, more), old
}

func (e *Editor) putLeaf(nd *node, key []byte, ref Ref) (more part, old Ref) {
	i, exact := nd.find(e.look, key)
	if exact {
		old, nd.refs[i], nd.marks[i] = nd.refs[i], ref, markOf(key)
		return part{}, old
	}
	if len(nd.refs) < leafFanout {
		nd.insertRef(i, ref, key)
		return part{}, 0
	}
	if i == leafFanout {
		return part{e.leafWith(ref, key), bytes.Clone(key)}, 0
	}
	right := e.leaf()
	right.appendRefs(nd, leafFanout/2)
	nd.refs = nd.refs[:leafFanout/2]
	sep := bytes.Clone(e.look.Key(right.refs[0]))
	if i <= len(nd.refs) {
		nd.insertRef(i, ref, key)
	} else {
		right.insertRef(i-len(nd.refs), ref, key)
	}
	return part{right, sep}, 0
}

// adopt inserts a kid, before which its separator stands, at index i of nd, which is split if it is full: in the middle,
// or at the end if the kid comes there, so that nodes filled in order stay full.
func (e *Editor) adopt(nd *node, i int, kid part) (more part) {
	if len(nd.kids) < fanout {
		nd.insert(i, kid)
		return part{}
	}
	half := fanout / 2
	if i == fanout {
		half = fanout
	}
	right := e.inner()
	right.kids = append(right.kids, nd.kids[half:]...)
	right.seps = append(right.seps, nd.seps[half:]...)
	right.levels = append(right.levels, nd.levels[half:]...)
	clear(nd.kids[half:])
	nd.kids, nd.seps, nd.levels = nd.kids[:half], nd.seps[:half:half], nd.levels[:half]
	if i > half || i == fanout {
		right.insert(i-half, kid)
	} else {
		nd.insert(i, kid)
	}
	return part{right, right.seps[0]}
}

func (e *Editor) append(nd *node, ref Ref, key []byte) (_ *node, more part) {
	nd = e.mine(nd)
	if nd.kids == nil {
		if len(nd.refs) == leafFanout {
			return nd, part{e.leafWith(ref, key), bytes.Clone(key)}
		}
		nd.insertRef(len(nd.refs), ref, key)
		return nd, part{}
	}
	i := len(nd.kids) - 1
	kid, more := e.append(nd.kids[i], ref, key)
	nd.kids[i] = kid
	if more.nd == nil {
		nd.levels[i] = max(nd.levels[i], uint8(ref.Level()))
		return nd, part{}
	}
	return nd, e.adopt(nd, i+1, more)
}

// remove deletes key below nd. It returns nil for a node that became empty.
func (e *Editor) remove(nd *node, key []byte) (*node, Ref) {
	if nd.kids == nil {
		i, exact := nd.find(e.look, key)
		if !exact {
			return nd, 0
		}
		nd = e.mine(nd)
		old := nd.refs[i]
		nd.dropRef(i)
		if len(nd.refs) == 0 {
			return nil, old
		}
		return nd, old
	}
	i := nd.childFor(e.look.Compare, key)
	kid, old := e.remove(nd.kids[i], key)
	if old == 0 {
		return nd, 0
	}
	nd = e.mine(nd)
	if kid == nil {
		nd.drop(i)
		if len(nd.kids) == 0 {
			return nil, old
		}
		return nd, old
	}
	nd.set(i, kid)
	e.merge(nd, i)
	return nd, old
}

// merge joins kid i with a neighbour if it has become small and both fit well into one node.
func (e *Editor) merge(nd *node, i int) {
	full := nd.kids[i].full()
	if nd.kids[i].size() > full/4 || len(nd.kids) < 2 {
		return
	}
	if i == len(nd.kids)-1 {
		i--
	}
	left, right := nd.kids[i], nd.kids[i+1]
	if left.size()+right.size() > full*3/4 {
		return
	}
	left = e.mine(left)
	left.appendRefs(right, 0)
	if right.kids != nil {
		// What separated the two nodes now separates their kids: right's own first separator means nothing.
		left.seps = append(append(left.seps, nd.seps[i+1]), right.seps[1:]...)
		left.kids = append(left.kids, right.kids...)
		left.levels = append(left.levels, right.levels...)
	}
	nd.set(i, left)
	nd.drop(i + 1)
}

// mine returns nd if this editor may change it, else a copy.
func (e *Editor) mine(nd *node) *node {
	if nd.own == e.own {
		return nd
	}
	if nd.kids == nil {
		c := e.leaf()
		c.appendRefs(nd, 0)
		return c
	}
	// The separators stay the same as long as no kid comes or goes: versions share them, and the bound of the capacity
	// lets those who insert make their own.
	c := &node{own: e.own, kids: make([]*node, 0, fanout), seps: nd.seps[:len(nd.seps):len(nd.seps)], levels: make([]uint8, 0, fanout)}
	c.kids = append(c.kids, nd.kids...)
	c.levels = append(c.levels, nd.levels...)
	return c
}

func (e *Editor) leaf() *node { return &node{own: e.own, refs: make([]Ref, 0, leafFanout)} }

func (e *Editor) leafWith(ref Ref, key []byte) *node {
	nd := e.leaf()
	nd.insertRef(0, ref, key)
	return nd
}

func (e *Editor) inner() *node {
	return &node{own: e.own, kids: make([]*node, 0, fanout), seps: make([][]byte, 0, fanout), levels: make([]uint8, 0, fanout)}
}

func (nd *node) insertRef(i int, ref Ref, key []byte) {
	copy(nd.marks[i+1:], nd.marks[i:])
	nd.marks[i] = markOf(key)
	nd.refs = slices.Insert(nd.refs, i, ref)
}

func (nd *node) dropRef(i int) {
	copy(nd.marks[i:], nd.marks[i+1:])
	nd.refs = slices.Delete(nd.refs, i, i+1)
}

// appendRefs adds those of another leaf from index from on.
func (nd *node) appendRefs(other *node, from int) {
	copy(nd.marks[len(nd.refs):], other.marks[from:])
	nd.refs = append(nd.refs, other.refs[from:]...)
}

func (nd *node) insert(i int, kid part) {
	nd.kids = slices.Insert(nd.kids, i, kid.nd)
	nd.seps = slices.Insert(nd.seps, i, kid.sep)
	nd.levels = slices.Insert(nd.levels, i, kid.nd.topLevel())
}

func (nd *node) set(i int, kid *node) { nd.kids[i], nd.levels[i] = kid, kid.topLevel() }

func (nd *node) drop(i int) {
	nd.kids = slices.Delete(nd.kids, i, i+1)
	nd.seps = slices.Concat(nd.seps[:i], nd.seps[i+1:]) // what other versions share stays
	nd.levels = slices.Delete(nd.levels, i, i+1)
}
