package twoskip

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/stretchr/testify/require"
)

// oracle reads a file as Cyrus does: by following pointers. It shares no code with the codec.
type oracle struct{ b []byte }

// orec is a record as Cyrus reads it.
type orec struct {
	typ        byte
	level      int
	slots      []int64
	slotsAt    int64
	crcAt      int64
	key, value string
}

func (o oracle) size() int64 { return int64(binary.BigEndian.Uint64(o.b[48:])) }

func (o oracle) record(off int64) (r orec, err error) {
	b := o.b
	if off < 64 || off%8 != 0 || off+24 > int64(len(b)) {
		return r, fmt.Errorf("no record at %#x", off)
	}
	r.typ, r.level = b[off], int(b[off+1])
	klen, vlen := int64(binary.BigEndian.Uint16(b[off+2:])), int64(binary.BigEndian.Uint32(b[off+4:]))
	at := off + 8
	if klen == 0xffff {
		klen = int64(binary.BigEndian.Uint64(b[at:]))
		at += 8
	}
	if vlen == 0xffffffff {
		vlen = int64(binary.BigEndian.Uint64(b[at:]))
		at += 8
	}
	if r.level > 31 || klen < 0 || vlen < 0 || at+int64(r.level+1)*8+8+klen+vlen > int64(len(b)) {
		return r, fmt.Errorf("impossible record at %#x", off)
	}
	r.slotsAt = at
	for range r.level + 1 {
		r.slots = append(r.slots, int64(binary.BigEndian.Uint64(b[at:])))
		at += 8
	}
	r.crcAt = at
	if crc32.ChecksumIEEE(b[off:at]) != binary.BigEndian.Uint32(b[at:]) {
		return r, fmt.Errorf("head checksum at %#x", off)
	}
	tail := b[at+8 : at+8+(klen+vlen+7)/8*8]
	if crc32.ChecksumIEEE(tail) != binary.BigEndian.Uint32(b[at+4:]) {
		return r, fmt.Errorf("tail checksum at %#x", off)
	}
	r.key, r.value = string(tail[:klen]), string(tail[klen:klen+vlen])
	return r, nil
}

// next is the rule of _getloc, and one step over a DELETE.
func (o oracle) next(r orec, end int64) (int64, error) {
	var loc int64
	switch {
	case r.slots[0] >= end:
		loc = r.slots[1]
	case r.slots[1] >= end:
		loc = r.slots[0]
	default:
		loc = max(r.slots[0], r.slots[1])
	}
	if loc == 0 {
		return 0, nil
	}
	at, err := o.record(loc)
	if err == nil && at.typ == '-' {
		loc = at.slots[0]
	}
	return loc, err
}

// walk lists a clean file along level 0, and finds each key again through the upper levels.
func (o oracle) walk(t fataler) (list []string) {
	require.Zero(t, o.b[59]&1, "dirty")
	require.EqualValues(t, len(o.b), o.size())
	r, err := o.record(64)
	require.NoError(t, err)
	last := ""
	for {
		off, err := o.next(r, o.size())
		require.NoError(t, err)
		if off == 0 {
			break
		}
		r, err = o.record(off)
		require.NoError(t, err)
		require.Equal(t, byte('+'), r.typ)
		require.Greater(t, r.key, last)
		last = r.key
		list = append(list, r.key+"="+r.value)
		require.Equal(t, off, o.find(t, r.key))
	}
	require.EqualValues(t, len(list), binary.BigEndian.Uint64(o.b[32:]))
	return list
}

// find goes down the levels, as find_loc does.
func (o oracle) find(t fataler, key string) int64 {
	at, err := o.record(64)
	require.NoError(t, err)
	for level := 30; level >= 0; {
		next := int64(0)
		if level == 0 {
			next, err = o.next(at, o.size())
			require.NoError(t, err)
		} else if level < at.level {
			next = at.slots[level+1]
		}
		if next != 0 {
			r, err := o.record(next)
			if err != nil || r.typ != '+' || r.level <= level {
				require.Fail(t, "wrong link", "level %d, to %#x: %v", level, next, err)
			}
			if r.key == key {
				return next
			}
			if r.key < key {
				at = r
				continue
			}
		}
		level--
	}
	return 0
}

func (o oracle) clean() bool { return o.b[59]&1 == 0 && o.size() == int64(len(o.b)) }

func (o oracle) setSlot(off int64, r *orec, k int, to int64) {
	r.slots[k] = to
	binary.BigEndian.PutUint64(o.b[r.slotsAt+int64(k)*8:], uint64(to))
	binary.BigEndian.PutUint32(o.b[r.crcAt:], crc32.ChecksumIEEE(o.b[off:r.crcAt]))
}

// recover1 is Cyrus's recovery1 on a copy of the file. An error is where Cyrus would go on to recovery2.
func (o oracle) recover1() (oracle, error) {
	if crc32.ChecksumIEEE(o.b[:60]) != binary.BigEndian.Uint32(o.b[60:]) {
		return o, fmt.Errorf("header checksum")
	}
	if o.clean() {
		return o, nil
	}
	o = oracle{append([]byte(nil), o.b...)}
	end := o.size()
	if int64(len(o.b)) < end {
		return o, fmt.Errorf("too short")
	}
	var prev, next [32]int64
	at := int64(64)
	r, err := o.record(at)
	if err != nil {
		return o, err
	}
	for k := 2; k <= 31; k++ {
		prev[k], next[k] = 64, r.slots[k]
	}
	count, last := uint64(0), ""
	for {
		for k := range 2 {
			if r.slots[k] >= end {
				o.setSlot(at, &r, k, 0)
			}
		}
		if at, err = o.next(r, end); err != nil {
			return o, err
		} else if at == 0 {
			break
		}
		if r, err = o.record(at); err != nil {
			return o, err
		}
		if r.typ != '+' || r.key <= last {
			return o, fmt.Errorf("disorder at %#x", at)
		}
		last = r.key
		for k := 2; k <= r.level; k++ {
			if next[k] != at {
				p, err := o.record(prev[k])
				if err != nil {
					return o, err
				}
				o.setSlot(prev[k], &p, k, at)
			}
			prev[k], next[k] = at, r.slots[k]
		}
		count++
	}
	for k := 2; k <= 31; k++ {
		if next[k] != 0 {
			p, err := o.record(prev[k])
			if err != nil {
				return o, err
			}
			o.setSlot(prev[k], &p, k, 0)
		}
	}
	o.b = o.b[:end]
	binary.BigEndian.PutUint64(o.b[32:], count)
	o.b[59] &^= 1
	binary.BigEndian.PutUint32(o.b[60:], crc32.ChecksumIEEE(o.b[:60]))
	return o, nil
}
