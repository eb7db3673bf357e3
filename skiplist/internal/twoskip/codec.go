package twoskip

import (
	"fmt"
	"time"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/order"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

type format struct{}

// New returns the codec.
func New() codec.Codec { return format{} }

// head is the DUMMY record, where the links of all levels begin.
var head = tree.NewRef(offDummy, maxLevel)

// Traits implements codec.Codec.
func (format) Traits() codec.Traits {
	return codec.Traits{
		Name: "twoskip", Order: order.Unsigned, Head: head, LockedReads: true,
		DeleteBytes: 2*markSize + blankSize, MarkBytes: markSize, Syncs: 3,
	}
}

// Empty implements codec.Codec.
func (format) Empty(time.Time) []byte {
	h := codec.Header{Version: version, Generation: 1, LogStart: emptySize, End: emptySize}
	return appendDummy(appendHeader(nil, h), make([]int64, maxLevel+1))
}

func appendHeader(b []byte, h codec.Header) []byte {
	start := len(b)
	b = append(b, magic...)
	b = be.AppendUint32(b, h.Version)
	for _, n := range []uint64{h.Generation, h.Records, uint64(h.LogStart), uint64(h.End)} {
		b = be.AppendUint64(b, n)
	}
	flags := uint32(0)
	if h.Dirty {
		flags = flagDirty
	}
	b = be.AppendUint32(b, flags)
	return be.AppendUint32(b, checksum(b[start:]))
}

// appendHead writes a record up to its checksums; the lengths are those of the key and value that follow.
func appendHead(b []byte, typ byte, level int, klen, vlen int64, ptrs []int64, crcTail uint32) []byte {
	start := len(b)
	b = append(b, typ, byte(level))
	b = be.AppendUint16(b, uint16(min(klen, longKey)))
	b = be.AppendUint32(b, uint32(min(vlen, longValue)))
	if klen >= longKey {
		b = be.AppendUint64(b, uint64(klen))
	}
	if vlen >= longValue {
		b = be.AppendUint64(b, uint64(vlen))
	}
	for _, p := range ptrs {
		b = be.AppendUint64(b, uint64(p))
	}
	b = be.AppendUint32(b, checksum(b[start:]))
	return be.AppendUint32(b, crcTail)
}

func appendDummy(b []byte, ptrs []int64) []byte {
	return appendHead(b, typeDummy, maxLevel, 0, 0, ptrs, 0)
}

// appendMark writes a DELETE or COMMIT record.
func appendMark(b []byte, typ byte, ptr int64) []byte {
	return appendHead(b, typ, 0, 0, 0, []int64{ptr}, 0)
}

// headSize is the size of the head of a record.
func headSize(klen, vlen int64, level int) int64 {
	n := int64(fixedHead) + pointers(level)*ptrSize + 2*crcSize
	if klen >= longKey {
		n += ptrSize
	}
	if vlen >= longValue {
		n += ptrSize
	}
	return n
}

// ReadHeader implements codec.Codec. A file of zero bytes is the caller's business.
func (format) ReadHeader(v *codec.View) (codec.Header, error) {
	b, err := v.Bytes(0, min(headerSize, v.Size))
	if err != nil {
		return codec.Header{}, err
	}
	n := min(len(b), len(magic))
	if string(b[:n]) != magic[:n] {
		return codec.Header{}, &codec.FormatError{Path: v.Path, Field: "magic", Problem: "not that of a twoskip file", Class: codec.ErrNotDatabase}
	}
	if v.Size < emptySize {
		return codec.Header{}, v.Errorf(v.Size, "", "the file has %d bytes, an empty database has %d: its creation was interrupted, or it was cut off", v.Size, emptySize)
	}
	h := decodeHeader(b)
	if got, want := be.Uint32(b[offCRC:]), checksum(b[:offCRC]); got != want {
		if h, ok := tornHeader(v, b); ok {
			return h, nil
		}
		return h, v.Errorf(offCRC, "header checksum", "%08x, computed %08x", got, want)
	}
	if h.Version > version || h.Version == 0 {
		e := v.Errorf(offVersion, "version", "%d, known is %d", h.Version, version)
		e.Class = codec.ErrVersion
		return h, e
	}
	if h.End < emptySize || h.End%8 != 0 {
		return h, v.Errorf(offSize, "current_size", "%#x is not possible", h.End)
	}
	return h, nil
}

func decodeHeader(b []byte) codec.Header {
	return codec.Header{
		Version: be.Uint32(b[offVersion:]), Generation: be.Uint64(b[offGeneration:]), Records: be.Uint64(b[offRecords:]),
		LogStart: int64(be.Uint64(b[offRepackSize:])), End: int64(be.Uint64(b[offSize:])),
		Dirty: be.Uint32(b[offFlags:])&flagDirty != 0, MaxLevel: maxLevel,
	}
}

// Key implements codec.Codec.
func (format) Key(v *codec.View, r tree.Ref) []byte {
	b, err := v.Bytes(r.Offset(), fixedHead)
	if err != nil {
		return nil
	}
	klen, vlen := int64(be.Uint16(b[2:])), be.Uint32(b[4:])
	at := r.Offset() + fixedHead + pointers(r.Level())*ptrSize + 2*crcSize
	if klen == longKey {
		if b, err = v.Bytes(r.Offset()+fixedHead, ptrSize); err != nil {
			return nil
		}
		klen = int64(be.Uint64(b))
		at += ptrSize
	}
	if vlen == longValue {
		at += ptrSize
	}
	key, err := v.Bytes(at, klen)
	if err != nil {
		return nil
	}
	return key
}

// Record implements codec.Codec. A record of a transaction that is not sealed yet has no checksum of its head.
func (format) Record(v *codec.View, r tree.Ref) (key, value []byte, err error) {
	off := r.Offset()
	committed := parser{v, v.Size}
	if size, level := committed.quick(off); size > 0 && level == r.Level() {
		b := v.Mem[off : off+size : off+size]
		body := b[headSize(0, 0, level):]
		klen, vlen := int(be.Uint16(b[2:])), int(be.Uint32(b[4:]))
		if klen+vlen <= len(body) { // what is mapped may change at any time, if a program is broken
			return body[:klen:klen], body[klen : klen+vlen : klen+vlen], nil
		}
	}
	p := parser{v, v.End()}
	read := p.settled
	switch {
	case off >= v.Size:
		read = p.shape
	case v.Salvage:
		read = p.apartFromLinks
	}
	rec, _, err := read(off)
	if err == nil && (rec.typ != typeRecord || rec.level != r.Level()) {
		err = fmt.Errorf("it is not the record that it was")
	}
	if err != nil {
		return nil, nil, v.Errorf(off, "record", "%v", err)
	}
	body, err := v.Bytes(rec.body(), rec.klen+rec.vlen)
	if err != nil {
		return nil, nil, err
	}
	return body[:rec.klen:rec.klen], body[rec.klen:], nil
}

// CheckpointDue implements codec.Codec.
func (format) CheckpointDue(h codec.Header, end int64) bool {
	return end > checkpointMin && end-h.LogStart > h.LogStart
}

func writeHeader(old, now codec.Header) codec.Write {
	return codec.Write{Off: 0, New: appendHeader(nil, now), Old: appendHeader(nil, old)}
}
