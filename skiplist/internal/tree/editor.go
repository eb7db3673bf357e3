package tree

import "slices"

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
		e.t = Tree{root: &node{own: e.own, refs: append(make([]Ref, 0, fanout), ref)}, height: 1, n: 1}
		return 0
	}
	root, right, old := e.put(e.t.root, key, ref)
	e.grow(root, right)
	if old == 0 {
		e.t.n++
	}
	return old
}

// Append adds a record whose key is after all others; that is not checked.
func (e *Editor) Append(ref Ref) {
	if e.t.root == nil {
		e.Put(nil, ref)
		return
	}
	root, right := e.append(e.t.root, ref)
	e.grow(root, right)
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

// grow puts a new root over the old one and what was split off it.
func (e *Editor) grow(root, right *node) {
	e.t.root = root
	if right == nil {
		return
	}
	top := e.inner()
	top.push(root)
	top.push(right)
	e.t.root = top
	e.t.height++
}

func (e *Editor) put(nd *node, key []byte, ref Ref) (_, right *node, old Ref) {
	nd = e.mine(nd)
	if nd.kids == nil {
		i, exact := nd.find(e.look, key)
		if exact {
			old, nd.refs[i] = nd.refs[i], ref
			return nd, nil, old
		}
		if len(nd.refs) == fanout {
			right = e.split(nd, i)
			if i > len(nd.refs) || i == fanout {
				right.refs = slices.Insert(right.refs, i-len(nd.refs), ref)
				return nd, right, 0
			}
		}
		nd.refs = slices.Insert(nd.refs, i, ref)
		return nd, right, 0
	}
	i := nd.childFor(e.look, key)
	kid, more, old := e.put(nd.kids[i], key, ref)
	nd.set(i, kid)
	if more == nil {
		return nd, nil, old
	}
	return nd, e.adopt(nd, i+1, more), old
}

// adopt inserts kid at index i of nd, splitting nd if it is full.
func (e *Editor) adopt(nd *node, i int, kid *node) (right *node) {
	to := nd
	if len(nd.kids) == fanout {
		right = e.split(nd, i)
		if i > len(nd.kids) || i == fanout {
			i -= len(nd.kids)
			to = right
		}
	}
	to.refs = slices.Insert(to.refs, i, kid.refs[0])
	to.kids = slices.Insert(to.kids, i, kid)
	to.levels = slices.Insert(to.levels, i, kid.topLevel())
	return right
}

// split moves the upper half of a full node to a new one; nothing, if the next insertion is at the very end, so that
// nodes filled in order stay full.
func (e *Editor) split(nd *node, at int) *node {
	half := fanout / 2
	if at == fanout {
		half = fanout
	}
	if nd.kids == nil {
		right := &node{own: e.own, refs: append(make([]Ref, 0, fanout), nd.refs[half:]...)}
		nd.refs = nd.refs[:half]
		return right
	}
	right := e.inner()
	right.refs = append(right.refs, nd.refs[half:]...)
	right.kids = append(right.kids, nd.kids[half:]...)
	right.levels = append(right.levels, nd.levels[half:]...)
	clear(nd.kids[half:])
	nd.refs, nd.kids, nd.levels = nd.refs[:half], nd.kids[:half], nd.levels[:half]
	return right
}

func (e *Editor) append(nd *node, ref Ref) (_, right *node) {
	nd = e.mine(nd)
	if nd.kids == nil {
		if len(nd.refs) == fanout {
			right = e.split(nd, fanout)
			right.refs = append(right.refs, ref)
			return nd, right
		}
		nd.refs = append(nd.refs, ref)
		return nd, nil
	}
	i := len(nd.kids) - 1
	kid, more := e.append(nd.kids[i], ref)
	nd.kids[i] = kid
	if more == nil {
		nd.levels[i] = max(nd.levels[i], uint8(ref.Level()))
		return nd, nil
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
		nd.refs = slices.Delete(nd.refs, i, i+1)
		if len(nd.refs) == 0 {
			return nil, old
		}
		return nd, old
	}
	i := nd.childFor(e.look, key)
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
	if len(nd.kids[i].refs) > fanout/4 || len(nd.kids) < 2 {
		return
	}
	if i == len(nd.kids)-1 {
		i--
	}
	left, right := nd.kids[i], nd.kids[i+1]
	if len(left.refs)+len(right.refs) > fanout*3/4 {
		return
	}
	left = e.mine(left)
	left.refs = append(left.refs, right.refs...)
	left.kids = append(left.kids, right.kids...)
	left.levels = append(left.levels, right.levels...)
	nd.set(i, left)
	nd.drop(i + 1)
}

// mine returns nd if this editor may change it, else a copy.
func (e *Editor) mine(nd *node) *node {
	if nd.own == e.own {
		return nd
	}
	c := &node{own: e.own, refs: append(make([]Ref, 0, fanout), nd.refs...)}
	if nd.kids != nil {
		c.kids = append(make([]*node, 0, fanout), nd.kids...)
		c.levels = append(make([]uint8, 0, fanout), nd.levels...)
	}
	return c
}

func (e *Editor) inner() *node {
	return &node{own: e.own, refs: make([]Ref, 0, fanout), kids: make([]*node, 0, fanout), levels: make([]uint8, 0, fanout)}
}

func (nd *node) push(kid *node) {
	nd.refs = append(nd.refs, kid.refs[0])
	nd.kids = append(nd.kids, kid)
	nd.levels = append(nd.levels, kid.topLevel())
}

func (nd *node) set(i int, kid *node) {
	nd.refs[i], nd.kids[i], nd.levels[i] = kid.refs[0], kid, kid.topLevel()
}

func (nd *node) drop(i int) {
	nd.refs = slices.Delete(nd.refs, i, i+1)
	nd.kids = slices.Delete(nd.kids, i, i+1)
	nd.levels = slices.Delete(nd.levels, i, i+1)
}
