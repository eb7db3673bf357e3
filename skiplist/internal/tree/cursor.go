package tree

// Cursor is a position in one version of a tree: on an entry, or after the last one, or before the first. It is a
// plain value; a copy moves on its own.
type Cursor struct {
	t    Tree
	path [maxHeight]step // from the root down to the leaf
	// where is -1 before the first entry, +1 after the last, 0 on one.
	where int
}

type step struct {
	nd *node
	i  int
}

// First returns a cursor on the first entry.
func (t Tree) First() Cursor {
	c := Cursor{t: t, where: 1}
	if t.n > 0 {
		c.descend(0, t.root, func(*node) int { return 0 })
	}
	return c
}

// Last returns a cursor on the last entry.
func (t Tree) Last() Cursor {
	c := Cursor{t: t, where: -1}
	if t.n > 0 {
		c.descend(0, t.root, func(nd *node) int { return nd.size() - 1 })
	}
	return c
}

// Seek returns a cursor on the first entry whose key is not before key, and tells whether it has that very key.
func (t Tree) Seek(look Lookup, key []byte) (Cursor, bool) {
	c := Cursor{t: t, where: 1}
	if t.n == 0 {
		return c, false
	}
	nd, depth := t.root, 0
	for ; nd.kids != nil; depth++ {
		i := nd.childFor(look.Compare, key)
		c.path[depth] = step{nd, i}
		nd = nd.kids[i]
	}
	i, exact := nd.find(look, key)
	c.where = 0
	if i == len(nd.refs) {
		c.path[depth] = step{nd, i - 1}
		c.Next()
		return c, false
	}
	c.path[depth] = step{nd, i}
	return c, exact
}

// Ref is the entry under the cursor, or 0 if it is on none.
func (c *Cursor) Ref() Ref {
	if c.where != 0 {
		return 0
	}
	s := c.path[c.t.height-1]
	return s.nd.refs[s.i]
}

// Next moves to the following entry.
func (c *Cursor) Next() { c.forward(0, false) }

// Prev moves to the preceding entry.
func (c *Cursor) Prev() { c.back(0, false) }

// ForwardTo moves to the first entry, from the present one on, that is linked on level (it has more than level levels).
func (c *Cursor) ForwardTo(level int) Ref {
	c.forward(level, true)
	return c.Ref()
}

// BackTo moves to the last entry, up to the present one, that is linked on level.
func (c *Cursor) BackTo(level int) Ref {
	c.back(level, true)
	return c.Ref()
}

func (c *Cursor) forward(level int, stay bool) {
	if c.where < 0 {
		*c = c.t.First()
		stay = true
	}
	if c.where > 0 {
		return
	}
	leaf := &c.path[c.t.height-1]
	i := leaf.i
	if !stay {
		i++
	}
	for ; i < len(leaf.nd.refs); i++ {
		if leaf.nd.refs[i].Level() > level {
			leaf.i = i
			return
		}
	}
	for d := c.t.height - 2; d >= 0; d-- {
		s := &c.path[d]
		for i := s.i + 1; i < len(s.nd.kids); i++ {
			if int(s.nd.levels[i]) > level {
				s.i = i
				c.descend(d+1, s.nd.kids[i], func(nd *node) int { return nd.firstAbove(level) })
				return
			}
		}
	}
	c.where = 1
}

func (c *Cursor) back(level int, stay bool) {
	if c.where > 0 {
		*c = c.t.Last()
		stay = true
	}
	if c.where < 0 {
		return
	}
	leaf := &c.path[c.t.height-1]
	i := leaf.i
	if !stay {
		i--
	}
	for ; i >= 0; i-- {
		if leaf.nd.refs[i].Level() > level {
			leaf.i = i
			return
		}
	}
	for d := c.t.height - 2; d >= 0; d-- {
		s := &c.path[d]
		for i := s.i - 1; i >= 0; i-- {
			if int(s.nd.levels[i]) > level {
				s.i = i
				c.descend(d+1, s.nd.kids[i], func(nd *node) int { return nd.lastAbove(level) })
				return
			}
		}
	}
	c.where = -1
}

// descend fills the path from depth down, choosing in each node the index that pick says.
func (c *Cursor) descend(depth int, nd *node, pick func(*node) int) {
	for ; ; depth++ {
		i := pick(nd)
		c.path[depth] = step{nd, i}
		if nd.kids == nil {
			c.where = 0
			return
		}
		nd = nd.kids[i]
	}
}

// firstAbove is the first index whose level is above the given one; there is one.
func (nd *node) firstAbove(level int) int {
	i := 0
	for nd.levelAt(i) <= level {
		i++
	}
	return i
}

func (nd *node) lastAbove(level int) int {
	i := nd.size() - 1
	for nd.levelAt(i) <= level {
		i--
	}
	return i
}

func (nd *node) levelAt(i int) int {
	if nd.kids != nil {
		return int(nd.levels[i])
	}
	return nd.refs[i].Level()
}
