package tree

import "fmt"

// Ref names one record of a file: where it starts, and on how many levels it is linked. The zero Ref names none.
type Ref uint64

// levelBits hold the level; no format has more than 31.
const levelBits = 5

// NewRef makes the Ref of a record that starts at off and is linked on level levels (1..31).
func NewRef(off int64, level int) Ref { return Ref(uint64(off)<<levelBits | uint64(level)) }

// Offset is the absolute file offset of the record's first byte.
func (r Ref) Offset() int64 { return int64(r >> levelBits) }

// Level is the number of levels that the record is linked on.
func (r Ref) Level() int { return int(r & (1<<levelBits - 1)) }

// String shows offset and level.
func (r Ref) String() string { return fmt.Sprintf("%#x/%d", r.Offset(), r.Level()) }
