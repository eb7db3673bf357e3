package simfs

import (
	"fmt"
	"strings"
)

type opKind uint8

const (
	opMark opKind = iota
	opWrite
	opTruncate
	opAllocate
	opSync
	opDrop
	opEvict
	opMeta
	opTimes
	opCreate
	opRename
	opExchange
	opLink
	opUnlink
	opSyncDir
)

var opNames = [...]string{
	opMark: "mark", opWrite: "write", opTruncate: "truncate", opAllocate: "allocate", opSync: "sync",
	opDrop: "failed sync", opEvict: "drop caches", opMeta: "metadata", opTimes: "times", opCreate: "create", opRename: "rename",
	opExchange: "exchange", opLink: "link", opUnlink: "unlink", opSyncDir: "syncdir",
}

// op is one entry of the journal. Which fields count depends on the kind.
type op struct {
	kind     opKind
	withMeta bool // sync: not only of the data
	ino      int
	off, n   int64 // write, allocate; truncate: the size in off
	first    int   // write: the index of written[0]
	written  []sector
	slots    []slot
	created  *frozen
	meta     meta
	blocks   []blockState
	seed     uint64
	note     string
	time     int64
}

// slot is the change of one name: from now on it leads to ino, or to nothing (0).
type slot struct {
	dir  int
	name string
	ino  int
}

func (o *op) String() string {
	var b strings.Builder
	b.WriteString(opNames[o.kind])
	switch o.kind {
	case opMark:
		fmt.Fprintf(&b, " %q", o.note)
	case opWrite, opAllocate:
		fmt.Fprintf(&b, " inode %d [%d, %d)", o.ino, o.off, o.off+o.n)
	case opTruncate:
		fmt.Fprintf(&b, " inode %d to %d", o.ino, o.off)
	case opSync, opDrop, opSyncDir, opMeta, opTimes:
		fmt.Fprintf(&b, " inode %d", o.ino)
	}
	for _, s := range o.slots {
		fmt.Fprintf(&b, " %d/%s=%d", s.dir, s.name, s.ino)
	}
	return b.String()
}

// mix hashes two words into one (splitmix64).
func mix(a, b uint64) uint64 {
	x := a ^ (b+0x9e3779b97f4a7c15)*0xbf58476d1ce4e5b9
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
