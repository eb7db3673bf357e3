package v1

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/stretchr/testify/require"
)

// oracle reads a file as Cyrus does: by following pointers. It shares no code with the codec.
type oracle struct{ b []byte }

// orec is a record as Cyrus reads it.
type orec struct {
	typ        uint32
	key, value []byte
	ptrAt      int64
	level      int
	ptr        [20]int64
	size       int64
}

func (o oracle) word(off int64) uint32 {
	if off < 0 || off+4 > int64(len(o.b)) {
		return 0xdeadbeef
	}
	return binary.BigEndian.Uint32(o.b[off:])
}

func (o oracle) curlevel() int   { return int(o.word(32)) }
func (o oracle) logstart() int64 { return int64(o.word(40)) }

// record reads the DUMMY, INORDER or ADD at off.
func (o oracle) record(off int64) (r orec, err error) {
	size := int64(len(o.b))
	r.typ = o.word(off)
	if off < 48 || off%4 != 0 || r.typ != 257 && r.typ != 1 && r.typ != 2 {
		return r, fmt.Errorf("no record at %#x", off)
	}
	klen := int64(o.word(off + 4))
	at := off + 8 + (klen+3)/4*4
	if at+4 > size {
		return r, fmt.Errorf("the key at %#x is too long", off)
	}
	vlen := int64(o.word(at))
	r.ptrAt = at + 4 + (vlen+3)/4*4
	if r.ptrAt+8 > size {
		return r, fmt.Errorf("the value at %#x is too long", off)
	}
	r.key, r.value = o.b[off+8:off+8+klen], o.b[at+4:at+4+vlen]
	for at = r.ptrAt; o.word(at) != 0xffffffff; at += 4 {
		if at+4 > size || r.level == 20 {
			return r, fmt.Errorf("no terminator at %#x", off)
		}
		r.ptr[r.level] = int64(o.word(at))
		r.level++
	}
	r.size = at + 4 - off
	return r, nil
}

// less is compare_signed, on a machine where char is signed.
func less(a, b []byte) bool {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return int8(a[i]) < int8(b[i])
		}
	}
	return len(a) < len(b)
}

// safeToAppend is the check of the same name: what a writer asks before it appends.
func (o oracle) safeToAppend() bool {
	n := int64(len(o.b))
	if n%4 != 0 {
		return false
	}
	if n == o.logstart() {
		return o.word(n-4) == 0xffffffff
	}
	return o.word(n-4) == 255 && (o.word(n-8) == 0xffffffff || o.word(n-12) == 4)
}

// walk lists a file along level 0, as foreach does. It holds that every level is an ascending chain of the records that
// have it, as `consistent` does, and finds each key again by a search down from curlevel.
func (o oracle) walk(t fataler) (list []string) {
	dummy, err := o.record(48)
	require.NoError(t, err)
	require.Equal(t, 20, dummy.level)
	require.LessOrEqual(t, o.curlevel(), 20)
	var onLevel [20][]int64
	last, first := []byte(nil), true
	for off := dummy.ptr[0]; off != 0; {
		r, err := o.record(off)
		require.NoError(t, err)
		if !first && !less(last, r.key) || r.level > o.curlevel() {
			require.Fail(t, "chain", "%q after %q, level %d of %d", r.key, last, r.level, o.curlevel())
		}
		for i := range r.level {
			onLevel[i] = append(onLevel[i], off)
		}
		list = append(list, string(r.key)+"="+string(r.value))
		if o.find(t, r.key) != off {
			require.Fail(t, "search", "%q is not found at %#x", r.key, off)
		}
		last, first, off = r.key, false, r.ptr[0]
	}
	for i, offs := range onLevel {
		at := dummy
		for _, off := range offs {
			require.Equal(t, off, at.ptr[i], "level %d", i)
			at, err = o.record(off)
			require.NoError(t, err)
		}
		require.Zero(t, at.ptr[i], "level %d", i)
	}
	return list
}

// preds is the search: the last records before a key on every level, and the record that may have it.
func (o oracle) preds(key []byte) (pred [20]int64, candidate int64, err error) {
	at := int64(48)
	for i := range pred {
		pred[i] = at
	}
	r, err := o.record(at)
	if err != nil {
		return pred, 0, err
	}
	for i := o.curlevel() - 1; i >= 0; i-- {
		for i < r.level && r.ptr[i] != 0 {
			next, err := o.record(r.ptr[i])
			if err != nil {
				return pred, 0, err
			}
			if !less(next.key, key) {
				break
			}
			at, r = r.ptr[i], next
		}
		pred[i] = at
	}
	return pred, r.ptr[0], nil
}

// find returns the live record of a key, or 0.
func (o oracle) find(t fataler, key []byte) int64 {
	_, off, err := o.preds(key)
	require.NoError(t, err)
	if off == 0 {
		return 0
	}
	if r, err := o.record(off); err != nil || !bytes.Equal(r.key, key) {
		return 0
	}
	return off
}

func (o oracle) setPtr(off int64, level int, to int64) error {
	r, err := o.record(off)
	if err == nil {
		binary.BigEndian.PutUint32(o.b[r.ptrAt+4*int64(level):], uint32(to))
	}
	return err
}

// recover is Cyrus's recovery on a copy of the file, without the checkpoint that may follow. After an error it has cut
// the file all the same.
func (o oracle) recover() (oracle, error) {
	o = oracle{append([]byte(nil), o.b...)}
	var tail [20]int64
	for i := range tail {
		tail[i] = 48
	}
	limit, off, count := int64(len(o.b)), int64(144), 0
	for off < limit && o.word(off) == 1 {
		r, err := o.record(off)
		if err != nil {
			limit = off
			break
		}
		for i := range r.level {
			if err := o.setPtr(tail[i], i, off); err != nil {
				return o, err
			}
			tail[i] = off
		}
		count++
		off += r.size
	}
	binary.BigEndian.PutUint32(o.b[40:], uint32(off))
	for i := range tail {
		if err := o.setPtr(tail[i], i, 0); err != nil {
			return o, err
		}
	}
	off, n, err := o.replay(off, limit)
	o.b = o.b[:off]
	binary.BigEndian.PutUint32(o.b[36:], uint32(count+n))
	return o, err
}

// replay links what the log says, and tells where it stopped.
func (o oracle) replay(off, limit int64) (end int64, count int, err error) {
	for off < limit {
		for off < limit && o.word(off) == 0 {
			off += 4
		}
		switch o.word(off) { // it does not ask whether that was the end
		case 255:
			off += 4
			continue
		case 2, 4:
			if !o.commitFollows(off, limit) {
				return off, count, nil
			}
		default:
			return off, count, fmt.Errorf("%#x: should be ADD or DELETE", off)
		}
		if o.word(off) == 4 {
			n, err := o.unlink(int64(o.word(off + 4)))
			if err != nil {
				return off, count, err
			}
			count -= n
			off += 8
			continue
		}
		r, err := o.record(off)
		if err != nil {
			return off, count, err
		}
		n, err := o.link(off, r)
		if err != nil {
			return off, count, err
		}
		count += n
		off += r.size
	}
	return off, count, nil
}

// commitFollows looks ahead for a COMMIT.
func (o oracle) commitFollows(off, limit int64) bool {
	for off < limit {
		switch o.word(off) {
		case 255:
			return true
		case 4:
			off += 8
		case 2:
			r, err := o.record(off)
			if err != nil {
				return false
			}
			off += r.size
		default:
			return false
		}
	}
	return false
}

func (o oracle) unlink(target int64) (int, error) {
	r, err := o.record(target)
	if err != nil {
		return 0, err
	}
	pred, at, err := o.preds(r.key)
	if err != nil || at == 0 {
		return 0, err
	}
	if found, err := o.record(at); err != nil || !bytes.Equal(found.key, r.key) {
		return 0, err
	}
	for i := range o.curlevel() {
		p, err := o.record(pred[i])
		if err != nil {
			return 0, err
		}
		if p.ptr[i] != at {
			break
		}
		if err := o.setPtr(pred[i], i, r.ptr[i]); err != nil {
			return 0, err
		}
	}
	return 1, nil
}

func (o oracle) link(off int64, r orec) (int, error) {
	pred, at, err := o.preds(r.key)
	if err != nil {
		return 0, err
	}
	if at != 0 {
		if found, err := o.record(at); err != nil || bytes.Equal(found.key, r.key) {
			return 0, fmt.Errorf("%#x: the key is there already: %w", off, err)
		}
	}
	for i := range r.level {
		p, err := o.record(pred[i])
		if err != nil {
			return 0, err
		}
		if err := o.setPtr(off, i, p.ptr[i]); err != nil {
			return 0, err
		}
		if err := o.setPtr(pred[i], i, off); err != nil {
			return 0, err
		}
	}
	return 1, nil
}
