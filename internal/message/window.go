package message

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"hash"
	"io"
)

const (
	// windowLen is the window's usual length, windowMax the most it grows to for the sake of one line.
	windowLen = 64 << 10
	windowMax = 2 << 20
	// windowKeep is how many bytes before the position stay in the window: the line break before a boundary, which is
	// not hashed with the content.
	windowKeep = 8
)

// window is the part of the stream that is in memory, and the hashes of what passes by. A hash is fed as late as can
// be, when bytes leave the window or its end is known: the end of a content is known only behind it.
type window struct {
	r        io.Reader
	buf      []byte
	pos, end int   // buf[pos:end] has been read from r and not taken
	base     int64 // offset in the message of buf[0]
	eof      bool
	err      error // of the reader
	held     int64 // the offset of what must stay in the window, -1 if nothing must

	active []*region
	free   []*region
}

// region is a stretch of the message that is hashed.
type region struct {
	next int64 // offset of the next byte to be fed
	from int64
	size int64 // decoded
	sum  hash.Hash
	dec  decoder
}

func (w *window) reset(r io.Reader) {
	if cap(w.buf) == 0 || cap(w.buf) > windowMax {
		w.buf = make([]byte, windowLen)
	}
	w.buf = w.buf[:cap(w.buf)]
	w.r, w.pos, w.end, w.base, w.eof, w.err, w.held = r, 0, 0, 0, false, nil, -1
	w.free = append(w.free, w.active...)
	w.active = w.active[:0]
}

// offset is the offset in the message of the next byte.
func (w *window) offset() int64 { return w.base + int64(w.pos) }

// ahead returns what has been read and not taken.
func (w *window) ahead() []byte { return w.buf[w.pos:w.end] }

// more tells whether the message goes on, and sees that at least one byte is in the window then.
func (w *window) more() bool { return w.pos < w.end || w.need(1) }

// need sees that n bytes are ahead, or all that are left, and tells whether they are n.
func (w *window) need(n int) bool {
	for w.end-w.pos < n {
		if w.eof {
			return false
		}
		if w.end == len(w.buf) {
			w.slide(n)
		}
		w.fill()
	}
	return true
}

// emptyReadsMax is how often a reader may return nothing before it counts as broken.
const emptyReadsMax = 100

// fill reads once, or until something comes.
func (w *window) fill() {
	for range emptyReadsMax {
		n, err := w.r.Read(w.buf[w.end:])
		if n < 0 || n > len(w.buf)-w.end {
			n, err = 0, errors.New("message: a reader returned an impossible count")
		}
		w.end += n
		if err != nil {
			w.eof = true
			if !errors.Is(err, io.EOF) {
				w.err = err
			}
			return
		}
		if n > 0 {
			return
		}
	}
	w.eof, w.err = true, io.ErrNoProgress
}

// slide makes room behind the last byte: it lets go of the bytes before the position, and grows the window if less than
// half of it would be free for n bytes ahead: what is copied is paid for by as much that is read.
func (w *window) slide(n int) {
	keep := max(w.pos-windowKeep, 0)
	if held := int(w.held - w.base); w.held >= 0 && w.end-held < windowMax {
		keep = min(keep, held)
	}
	w.feed(keep)
	to := w.buf
	if need := w.pos - keep + n; 2*need > len(w.buf) {
		to = make([]byte, 2*max(need, len(w.buf)))
	}
	copy(to, w.buf[keep:w.end])
	w.buf = to
	w.base += int64(keep)
	w.pos -= keep
	w.end -= keep
}

// feed hashes what lies before an index of the window.
func (w *window) feed(to int) {
	for _, h := range w.active {
		w.feedOne(h, w.base+int64(to))
	}
}

func (w *window) feedOne(h *region, to int64) {
	if h.next >= to {
		return
	}
	h.write(w.buf[h.next-w.base : to-w.base])
	h.next = to
}

// take moves the position on by n bytes, which must be ahead.
func (w *window) take(n int) { w.pos += n }

// takeLine takes the line ahead and returns its length. Until something else is read, the bytes before the line can
// still be hashed.
func (w *window) takeLine() (n int64) {
	w.held = w.base + int64(max(w.pos-windowKeep, 0))
	for w.more() {
		ahead := w.ahead()
		if i := bytes.IndexByte(ahead, '\n'); i >= 0 {
			w.take(i + 1)
			return n + int64(i) + 1
		}
		w.take(len(ahead))
		n += int64(len(ahead))
	}
	return n
}

// begin starts to hash, after decoding, what comes.
func (w *window) begin(c coding) *region {
	w.held = -1
	var h *region
	if n := len(w.free); n > 0 {
		h, w.free = w.free[n-1], w.free[:n-1]
		h.sum.Reset()
	} else {
		h = &region{sum: sha1.New()}
	}
	h.from, h.next, h.size = w.offset(), w.offset(), 0
	h.dec.reset(c)
	w.active = append(w.active, h)
	return h
}

// finish ends a hash at an offset before or at the position. It fails if that has left the window already, or if bytes
// behind it have been hashed.
func (w *window) finish(h *region, at int64) (sum [sha1.Size]byte, size int64, ok bool) {
	for i := len(w.active) - 1; i >= 0; i-- {
		if w.active[i] == h {
			w.active = append(w.active[:i], w.active[i+1:]...)
			break
		}
	}
	w.free = append(w.free, h)
	if h.next > at || at > w.base+int64(w.end) {
		return sum, 0, false
	}
	w.feedOne(h, at)
	h.flush()
	h.sum.Sum(sum[:0])
	return sum, h.size, true
}

// write decodes and hashes bytes.
func (h *region) write(b []byte) {
	if h.dec.coding == codingNone {
		h.size += int64(len(b))
		h.sum.Write(b)
		return
	}
	h.dec.write(b, h.put)
}

func (h *region) put(b []byte) {
	h.size += int64(len(b))
	h.sum.Write(b)
}

func (h *region) flush() {
	if h.dec.coding != codingNone {
		h.dec.flush(h.put)
	}
}

// hashAgain computes the content GUIDs that could not be had in passing.
func (p *Parser) hashAgain() error {
	for _, r := range p.redo {
		h := p.in.begin(codingNone)
		to := r.from + r.part.ContentSize
		err := p.eachAgain(r.from, to, h.put)
		guid, _, _ := p.in.finish(h, 0)
		if errors.Is(err, errGone) {
			p.limited("content before a NUL")
			continue
		}
		if err != nil {
			return err
		}
		h.sum.Sum(guid[:0])
		r.part.ContentGUID, r.part.DecodedSize = guid, to-r.from
	}
	return nil
}

var errGone = errors.New("message: the bytes have passed")

// eachAgain calls f with the bytes of the message from an offset up to another.
func (p *Parser) eachAgain(from, to int64, f func([]byte)) error {
	w := &p.in
	if from >= w.base && to <= w.base+int64(w.end) {
		f(w.buf[from-w.base : to-w.base])
		return nil
	}
	if p.again == nil {
		return errGone
	}
	buf := make([]byte, min(windowLen, to-from))
	for from < to {
		n := min(int64(len(buf)), to-from)
		if _, err := p.again.ReadAt(buf[:n], from); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		f(buf[:n])
		from += n
	}
	return nil
}
