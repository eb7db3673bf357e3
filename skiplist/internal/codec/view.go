package codec

import (
	"bytes"
	"io"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// View reads one file at one moment: the bytes [0, Size) of the file, followed by a tail that is still in memory (the
// records of a transaction that is not written yet), as if it stood in the file already.
type View struct {
	// Path is for error messages.
	Path string
	// Size is how many bytes of the file the view may look at.
	Size int64
	// Mem is the mapped file; where it does not cover Size, and on hosts that cannot map, File is read instead.
	Mem []byte
	// File is what Mem maps.
	File io.ReaderAt
	// Salvage reads also records whose links are damaged, as long as key and value are whole.
	Salvage bool
	// Tail follows the file's bytes at offset Size.
	Tail []byte
}

// End is the offset after the last byte of the view.
func (v *View) End() int64 { return v.Size + int64(len(v.Tail)) }

// Bytes returns n bytes at off: a slice of the mapping or of the tail, or a fresh one, never to be written to. Bytes
// outside the view, or across file and tail, are a FormatError of class ErrDamaged.
//
// A disk that fails, or a file that has become shorter than the view, is no error of this call: it ends the whole
// guarded call (vfs.Fault), be the file mapped or read. Else a byte that could not be read would be taken for damage,
// or for the end of the log.
func (v *View) Bytes(off, n int64) ([]byte, error) {
	if off >= 0 && n >= 0 && off <= v.Size-n && off+n <= int64(len(v.Mem)) {
		return v.Mem[off : off+n : off+n], nil
	}
	return v.slow(off, n)
}

// zeroBlock is the unit in which PastZeros looks.
const zeroBlock = 4096

var zeros [zeroBlock]byte

// PastZeros returns off, or the first offset from there up to end at which a block is not all zeros, if off is where a
// block begins. A scan that has met zeros calls it at every step, so that a sparse file of any size is soon read.
func (v *View) PastZeros(off, end int64) int64 {
	for off%zeroBlock == 0 && off <= end-zeroBlock {
		b, err := v.Bytes(off, zeroBlock)
		if err != nil || !bytes.Equal(b, zeros[:]) {
			break
		}
		off += zeroBlock
	}
	return off
}

func (v *View) slow(off, n int64) ([]byte, error) {
	switch {
	case off < 0 || n < 0 || off > v.End()-n:
		return nil, v.Errorf(off, "", "%d bytes needed, the file ends at %#x", n, v.End())
	case off >= v.Size:
		return v.Tail[off-v.Size : off-v.Size+n : off-v.Size+n], nil
	case off > v.Size-n || v.File == nil:
		return nil, v.Errorf(off, "", "%d bytes needed, across the end of the file at %#x", n, v.Size)
	}
	b := make([]byte, n)
	if m, err := v.File.ReadAt(b, off); err == io.EOF && int64(m) < n {
		vfs.Fault(vfs.ErrFault) // the file is shorter than it was
	} else if err != nil && err != io.EOF {
		vfs.Fault(err)
	}
	return b, nil
}

// Lookup returns the lookup of records in v. A record whose key cannot be read any more ends the guarded call: a search
// that went on with another key would go astray.
func Lookup(c Codec, v *View, compare func(a, b []byte) int) tree.Lookup {
	return tree.Lookup{Compare: compare, Key: func(r tree.Ref) []byte {
		key := c.Key(v, r)
		if key == nil {
			vfs.Fault(v.Errorf(r.Offset(), "key", "the record is not there any more"))
		}
		return key
	}}
}

// Sub is a view of the same bytes cut at size, without a tail.
func (v *View) Sub(size int64) *View {
	return &View{Path: v.Path, Size: size, Mem: v.Mem, File: v.File, Salvage: v.Salvage}
}

var _ io.ReaderAt = vfs.File(nil)
