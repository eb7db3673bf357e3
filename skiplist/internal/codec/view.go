package codec

import (
	"io"

	"github.com/mailspine/mailspine/internal/vfs"
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
	// Tail follows the file's bytes at offset Size.
	Tail []byte
}

// End is the offset after the last byte of the view.
func (v *View) End() int64 { return v.Size + int64(len(v.Tail)) }

// Bytes returns n bytes at off: a slice of the mapping or of the tail, or a fresh one, never to be written to. Bytes
// outside the view, or across file and tail, are a FormatError of class ErrDamaged.
func (v *View) Bytes(off, n int64) ([]byte, error) {
	if off >= 0 && n >= 0 && off <= v.Size-n && off+n <= int64(len(v.Mem)) {
		return v.Mem[off : off+n : off+n], nil
	}
	return v.slow(off, n)
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
	if _, err := v.File.ReadAt(b, off); err != nil && err != io.EOF {
		return nil, err
	} else if err == io.EOF {
		return nil, v.Errorf(off, "", "%d bytes needed, the file is shorter than it was", n)
	}
	return b, nil
}

// Sub is a view of the same bytes cut at size, without a tail.
func (v *View) Sub(size int64) *View {
	return &View{Path: v.Path, Size: size, Mem: v.Mem, File: v.File}
}

var _ io.ReaderAt = vfs.File(nil)
