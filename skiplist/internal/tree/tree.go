// Package tree keeps sorted record references in memory: a B+tree whose published versions never change, so that a
// snapshot of it is a plain copy of a small struct, readers need no lock, and dropping a version needs no work.
//
// The tree holds few keys: copies of those that separate its nodes, so that a search touches the file only in the last
// node. For the others it asks when it has to compare ([Lookup]). It knows on how many levels each record is linked in
// its file, so that the neighbours of a record on any level are found in O(log n) without following a pointer of the
// file.
package tree

import (
	"encoding/binary"
	"math/bits"
)

const (
	// fanout is the number of kids of a full inner node.
	fanout = 64
	// leafFanout is the number of references in a full leaf. A search compares the keys of one leaf in the file, each at
	// the price of a cache miss; smaller leaves mean fewer of them, and more memory for what separates them: here some
	// 20 bytes a record in all.
	leafFanout = 16
)

// maxHeight bounds the path of a cursor. Nodes other than the root hold at least one entry, and splits halve full
// nodes, so that 16 levels are beyond any file.
const maxHeight = 16

// Lookup tells how to compare.
type Lookup struct {
	// Key returns the key of a record in the tree.
	Key func(Ref) []byte
	// Compare orders keys: negative, zero, positive.
	Compare func(a, b []byte) int
}

// Tree is one version. The zero Tree is empty.
type Tree struct {
	root   *node
	height int // number of node layers; 0 if empty
	n      int
}

// node is a leaf, with refs and marks only, or an inner node, with all the others. marks[i] is the mark of the key of
// refs[i]. In an inner node levels[i] is the highest level below kids[i], and seps[i] a key that is greater than all
// below kids[i-1] and not greater than any below kids[i]; it need not be the key of a record that is still there. seps[0]
// has no meaning.
type node struct {
	own    *byte
	refs   []Ref
	marks  [leafFanout]uint8
	kids   []*node
	seps   [][]byte
	levels []uint8
}

// size is the number of entries.
func (nd *node) size() int {
	if nd.kids != nil {
		return len(nd.kids)
	}
	return len(nd.refs)
}

// full is the number of entries that there is room for.
func (nd *node) full() int {
	if nd.kids != nil {
		return fanout
	}
	return leafFanout
}

// Len is the number of records.
func (t Tree) Len() int { return t.n }

// Get returns the record with the given key, or 0.
func (t Tree) Get(look Lookup, key []byte) Ref {
	nd := t.root
	if nd == nil {
		return 0
	}
	for nd.kids != nil {
		nd = nd.kids[nd.childFor(look.Compare, key)]
	}
	// The file is looked at where the mark fits, once as a rule. Keys that are not alike in all bytes may be equal in the
	// order of the tree, so that only a search can say that there is none.
	m := markOf(key)
	for i, ref := range nd.refs {
		if nd.marks[i] == m && look.Compare(look.Key(ref), key) == 0 {
			return ref
		}
	}
	if i, exact := nd.find(look, key); exact {
		return nd.refs[i]
	}
	return 0
}

// markOf maps keys to numbers such that different ones are rarely alike.
func markOf(key []byte) uint8 {
	const mix = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio
	h := uint64(len(key)) * mix
	for ; len(key) >= 8; key = key[8:] {
		h = bits.RotateLeft64((h^binary.LittleEndian.Uint64(key))*mix, 32)
	}
	for _, c := range key {
		h = (h ^ uint64(c)) * mix
	}
	return uint8(h>>56) ^ uint8(h>>24)
}

// childFor is the index of the kid that holds key, or would.
func (nd *node) childFor(compare func(a, b []byte) int, key []byte) int {
	lo, hi := 0, len(nd.kids)-1
	for lo < hi {
		mid := int(uint(lo+hi+1) >> 1)
		if compare(nd.seps[mid], key) <= 0 {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

// find is the index in a leaf of the first entry not before key, and whether it has that very key.
func (nd *node) find(look Lookup, key []byte) (int, bool) {
	lo, hi := 0, len(nd.refs)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch c := look.Compare(look.Key(nd.refs[mid]), key); {
		case c == 0:
			return mid, true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false
}

// topLevel is the highest level in the node or below.
func (nd *node) topLevel() uint8 {
	top := 0
	if nd.kids != nil {
		for _, l := range nd.levels {
			top = max(top, int(l))
		}
		return uint8(top)
	}
	for _, r := range nd.refs {
		top = max(top, r.Level())
	}
	return uint8(top)
}
