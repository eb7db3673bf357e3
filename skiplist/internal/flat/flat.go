// Package flat is the codec of Cyrus's flat format: a sorted text file, one line a record, that is written anew at
// every commit. The layout is described in docs/format/flat.md.
//
// The format has no header, no checksum and no commit record. A file is replaced whole, by a rename, so that there is
// nothing to recover: what stands in a complete line was committed.
package flat

import (
	"bytes"
	"errors"
	"time"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/order"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

type format struct{}

// New returns the codec.
func New() codec.Codec { return format{} }

// Traits tells what the format is.
func (format) Traits() codec.Traits {
	return codec.Traits{Name: "flat", Order: order.Mailbox, Compare: compare, Rewrites: true, Syncs: 1}
}

// Empty returns nothing: an empty file is an empty database.
func (format) Empty(time.Time) []byte { return nil }

// binaryProbe and binaryNULs decide what cannot be text: so many NULs among so many bytes. The few that a damaged line
// may have leave it a flat file.
const (
	binaryProbe = 64
	binaryNULs  = 4
)

// ReadHeader tells flat files from others, as far as a format without a header allows: Cyrus opens whatever it is
// given, and the next store garbles it. Zeros at the start are passed over, so that a file that has lost its first
// block is still known, damaged, for what it is.
func (format) ReadHeader(v *codec.View) (codec.Header, error) {
	no := func(off int64, problem string) (codec.Header, error) {
		return codec.Header{}, &codec.FormatError{Path: v.Path, Offset: off, Problem: problem, Class: codec.ErrNotDatabase}
	}
	if v.Size == 0 {
		return codec.Header{}, nil
	}
	file := v.Sub(v.Size)
	head, err := window(file, 0, int64(len(magicBytes)))
	if err != nil {
		return codec.Header{}, err
	}
	if bytes.HasPrefix(head, magicBytes) {
		return no(0, "the magic of a binary database of Cyrus")
	}
	start, err := skipZeros(file)
	if err != nil {
		return codec.Header{}, err
	}
	if start == v.Size {
		return no(0, "nothing but zeros")
	}
	if head, err = window(file, start, binaryProbe); err != nil {
		return codec.Header{}, err
	}
	if bytes.Count(head[:min(len(head), binaryProbe)], []byte{0}) >= binaryNULs {
		return no(start, "binary data, not lines of text")
	}
	if _, found, err := until(file, start, separator); err != nil || !found {
		if err != nil {
			return codec.Header{}, err
		}
		return no(start, "no line has a TAB after a key")
	}
	return codec.Header{}, nil
}

// skipZeros is the offset of the first byte that is not NUL.
func skipZeros(v *codec.View) (int64, error) {
	for off := int64(0); off < v.Size; {
		b, err := window(v, off, readStep)
		if err != nil {
			return 0, err
		}
		for i, c := range b {
			if c != 0 {
				return off + int64(i), nil
			}
		}
		off += int64(len(b))
	}
	return v.Size, nil
}

// Key returns the key of the line at r.
func (format) Key(v *codec.View, r tree.Ref) []byte {
	enc, found, err := until(v, r.Offset(), separator)
	if err != nil || !found || bytes.IndexByte(enc, terminator) >= 0 {
		return nil
	}
	return decode(enc)
}

// Record returns key and value of the line at r. A last line without LF is a record here; Replay only accepts it in a
// salvage.
func (format) Record(v *codec.View, r tree.Ref) (key, value []byte, err error) {
	enc, err := lineAt(v, r)
	if err != nil {
		return nil, nil, err
	}
	k, val, _ := bytes.Cut(enc, []byte{separator})
	return decode(k), decode(val), nil
}

// Put appends the line of the record. Cyrus writes a value again that is already there, and so does Put.
func (format) Put(t *codec.Txn, key, value []byte, _ tree.Ref) (tree.Ref, error) {
	if len(key) == 0 {
		return 0, codec.ErrInvalidKey
	}
	r := tree.NewRef(t.View.End(), 1)
	b := appendEncoded(t.View.Tail, key)
	b = append(b, separator)
	b = appendEncoded(b, value)
	t.View.Tail = append(b, terminator)
	return r, nil
}

// Delete has nothing to append: the new file lacks the line.
func (format) Delete(*codec.Txn, tree.Ref, tree.Ref) error { return nil }

// errRewrites says that a caller took the format for one that is changed in place.
var errRewrites = errors.New("a flat file is written anew at every commit, never changed in place")

// Seal is not for this format.
func (format) Seal(*codec.Txn) (codec.Plan, error) { return codec.Plan{}, errRewrites }

// CheckLinks finds nothing, as there are no links.
func (format) CheckLinks(*codec.View, codec.Header, tree.Tree, func(codec.WrongLink) bool) error {
	return nil
}

// Recover is not for this format: a new file takes the place of one with an incomplete last line.
func (format) Recover(*codec.View, codec.Header, codec.Log, []codec.Write, tree.Tree, time.Time) (codec.Plan, error) {
	return codec.Plan{}, errRewrites
}

// CheckpointDue is never so.
func (format) CheckpointDue(codec.Header, int64) bool { return false }

// emitStep is how much Rewrite gathers before it hands it on.
const emitStep = 64 << 10

// Rewrite writes the lines of all live records. A line keeps its bytes, so that values in the spelling of old releases
// stay as they are, unless its key is spelled in a way that Cyrus would not find, or a salvage kept a value with NULs.
func (format) Rewrite(v *codec.View, _ codec.Header, live tree.Tree, _ time.Time, emit func([]byte) error) (codec.Rewritten, error) {
	ed := tree.Edit(tree.Tree{}, tree.Lookup{})
	buf := make([]byte, 0, emitStep)
	size := int64(0)
	for c := live.First(); c.Ref() != 0; c.Next() {
		enc, err := lineAt(v, c.Ref())
		if err != nil {
			return codec.Rewritten{}, err
		}
		before := len(buf)
		key, _, _ := bytes.Cut(enc, []byte{separator})
		ed.Append(tree.NewRef(size, 1), decode(key))
		buf = appendLine(buf, enc)
		if size += int64(len(buf) - before); size > maxSize {
			return codec.Rewritten{}, codec.ErrTooLarge
		}
		if len(buf) >= emitStep {
			if err := emit(buf); err != nil {
				return codec.Rewritten{}, err
			}
			buf = buf[:0]
		}
	}
	if len(buf) > 0 {
		if err := emit(buf); err != nil {
			return codec.Rewritten{}, err
		}
	}
	return codec.Rewritten{Live: ed.Tree(), Size: size}, nil
}

var _ codec.Sizer = format{}

// RewriteSize implements codec.Sizer.
func (format) RewriteSize(v *codec.View, live tree.Tree) (size int64, err error) {
	var buf []byte
	for c := live.First(); c.Ref() != 0; c.Next() {
		enc, err := lineAt(v, c.Ref())
		if err != nil {
			return 0, err
		}
		buf = appendLine(buf[:0], enc)
		size += int64(len(buf))
	}
	return size, nil
}

// appendLine appends a line as Rewrite writes it.
func appendLine(dst, enc []byte) []byte {
	key, value, _ := bytes.Cut(enc, []byte{separator})
	dst = append(appendPart(dst, key, canonical(key)), separator)
	return append(appendPart(dst, value, bytes.IndexByte(value, 0) < 0), terminator)
}

// appendPart appends an encoded key or value as it is, or in Cyrus's spelling.
func appendPart(dst, enc []byte, asIs bool) []byte {
	if asIs {
		return append(dst, enc...)
	}
	return appendEncoded(dst, decode(enc))
}

// lineAt returns the line of a record, verified as by Record.
func lineAt(v *codec.View, r tree.Ref) ([]byte, error) {
	enc, found, err := until(v, r.Offset(), terminator)
	if err != nil {
		return nil, err
	}
	if !found && r.Offset() >= v.Size {
		return nil, v.Errorf(r.Offset(), "", "a line without LF among those to be written")
	}
	if bytes.IndexByte(enc, separator) < 0 {
		return nil, v.Errorf(r.Offset(), "", "a line without a TAB after its key")
	}
	return enc, nil
}
