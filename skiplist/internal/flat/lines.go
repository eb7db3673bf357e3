package flat

import (
	"bytes"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// readStep is how much of a file that is not mapped is read at a time.
const readStep = 64 << 10

// keyStep is how much is read of one line at first, where the file is not mapped.
const keyStep = 512

// regionEnd is where the bytes end that a line at off may extend over: lines never cross from the file into the tail.
func regionEnd(v *codec.View, off int64) int64 {
	if off < v.Size {
		return v.Size
	}
	return v.End()
}

// window returns the bytes of a region from off on: at least n of them, or all there are.
func window(v *codec.View, off, n int64) ([]byte, error) {
	end := regionEnd(v, off)
	if off < 0 || off > end {
		return nil, v.Errorf(off, "", "a line is wanted, the file ends at %#x", end)
	}
	if off < v.Size && int64(len(v.Mem)) >= min(off+n, end) {
		return v.Mem[off:min(end, int64(len(v.Mem)))], nil
	}
	if off >= v.Size {
		n = end - off
	}
	return v.Bytes(off, min(n, end-off))
}

// until returns the bytes from off up to the first c, without it; found is false if the region has none.
func until(v *codec.View, off int64, c byte) (b []byte, found bool, err error) {
	for n := int64(keyStep); ; n *= 2 {
		if b, err = window(v, off, n); err != nil {
			return nil, false, err
		}
		if i := bytes.IndexByte(b, c); i >= 0 {
			return b[:i:i], true, nil
		}
		if off+int64(len(b)) >= regionEnd(v, off) {
			return b, false, nil
		}
	}
}

// scanner walks a region of a view line by line. Lines stay valid as long as the view's bytes.
type scanner struct {
	v   *codec.View
	off int64
	end int64
	win []byte // the bytes from off on that are at hand
}

func scan(v *codec.View, off int64) *scanner {
	return &scanner{v: v, off: off, end: regionEnd(v, off)}
}

// line is one line without its LF.
type line struct {
	off int64
	b   []byte
	// whole is false for a last line that no LF ends.
	whole bool
}

// next returns the next line; ok is false at the end.
func (s *scanner) next() (l line, ok bool, err error) {
	if s.off >= s.end {
		return line{}, false, nil
	}
	for {
		if i := bytes.IndexByte(s.win, terminator); i >= 0 {
			l = line{off: s.off, b: s.win[:i:i], whole: true}
			s.win = s.win[i+1:]
			s.off += int64(i + 1)
			return l, true, nil
		}
		if int64(len(s.win)) == s.end-s.off {
			l = line{off: s.off, b: s.win}
			s.off, s.win = s.end, nil
			return l, true, nil
		}
		if s.win, err = window(s.v, s.off, max(readStep, 2*int64(len(s.win)))); err != nil {
			return line{}, false, err
		}
	}
}

// split returns the encoded key and value; ok is false without a TAB.
func (l line) split() (key, value []byte, ok bool) { return bytes.Cut(l.b, []byte{separator}) }

// flaw says why the line is not a record of Cyrus, and where; the text is empty if it is one. No encoded byte is NUL,
// so one that stands there was never written: a block of the file is missing. Cyrus ends an iteration there.
func (l line) flaw() (off int64, problem string) {
	if i := bytes.IndexByte(l.b, 0); i >= 0 {
		return l.off + int64(i), "a NUL byte, which no writer leaves in a line"
	}
	if bytes.IndexByte(l.b, separator) < 0 {
		return l.off, "a line without a TAB after its key"
	}
	return 0, ""
}
