package v1

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
		Name: "skiplist", Order: order.Signed, Head: head, LockedReads: true, Timestamped: true,
		DeleteBytes: deleteSize + commitSize, MarkBytes: commitSize, Syncs: 2,
	}
}

// Empty implements codec.Codec.
func (format) Empty(now time.Time) []byte {
	h := codec.Header{Version: version, MinorVersion: versionMinor, MaxLevel: maxLevel, CurLevel: 1, LogStart: emptySize, LastRecovery: now}
	return appendDummy(appendHeader(nil, h), make([]uint32, maxLevel))
}

func appendHeader(b []byte, h codec.Header) []byte {
	b = append(b, magic...)
	for _, w := range []uint32{
		h.Version, h.MinorVersion, uint32(h.MaxLevel), uint32(h.CurLevel), uint32(h.Records), uint32(h.LogStart),
		uint32(h.LastRecovery.Unix()),
	} {
		b = be.AppendUint32(b, w)
	}
	return b
}

func appendDummy(b []byte, ptrs []uint32) []byte {
	b = be.AppendUint32(b, typeDummy)
	b = be.AppendUint32(b, 0)
	b = be.AppendUint32(b, 0)
	for _, p := range ptrs {
		b = be.AppendUint32(b, p)
	}
	return be.AppendUint32(b, terminator)
}

// ReadHeader implements codec.Codec. A file of zero bytes is the caller's business.
func (format) ReadHeader(v *codec.View) (codec.Header, error) {
	b, err := v.Bytes(0, min(headerSize, v.Size))
	if err != nil {
		return codec.Header{}, err
	}
	n := min(len(b), len(magic))
	if string(b[:n]) != magic[:n] {
		return codec.Header{}, &codec.FormatError{Path: v.Path, Field: "magic", Problem: "not that of a skiplist file", Class: codec.ErrNotDatabase}
	}
	if v.Size < emptySize {
		return codec.Header{}, v.Errorf(v.Size, "", "the file has %d bytes, an empty database has %d: its creation was interrupted", v.Size, emptySize)
	}
	h := codec.Header{
		Version: be.Uint32(b[offVersion:]), MinorVersion: be.Uint32(b[offMinor:]),
		MaxLevel: int(be.Uint32(b[offMaxLevel:])), CurLevel: int(be.Uint32(b[offCurLevel:])),
		Records: uint64(be.Uint32(b[offListSize:])), LogStart: int64(be.Uint32(b[offLogStart:])),
		LastRecovery: time.Unix(int64(be.Uint32(b[offLastRec:])), 0),
	}
	if h.Version != version {
		e := v.Errorf(offVersion, "version", "%d, known is %d", h.Version, version)
		e.Class = codec.ErrVersion
		return h, e
	}
	if m := be.Uint32(b[offMaxLevel:]); m != maxLevel {
		return h, v.Errorf(offMaxLevel, "maxlevel", "%d, should be %d", m, maxLevel)
	}
	if cur := be.Uint32(b[offCurLevel:]); cur > maxLevel {
		return h, v.Errorf(offCurLevel, "curlevel", "%d, above maxlevel %d", cur, h.MaxLevel)
	}
	return h, checkDummy(v)
}

// checkDummy verifies all of the DUMMY record but its pointers.
func checkDummy(v *codec.View) error {
	b, err := v.Bytes(offDummy, emptySize-offDummy)
	if err != nil {
		return err
	}
	for _, w := range []struct {
		off  int64
		want uint32
		name string
	}{
		{0, typeDummy, "type"}, {word, 0, "key length"}, {2 * word, 0, "value length"}, {int64(len(b)) - word, terminator, "terminator"},
	} {
		if got := be.Uint32(b[w.off:]); got != w.want {
			return v.Errorf(offDummy+w.off, "DUMMY "+w.name, "%#x, should be %#x", got, w.want)
		}
	}
	return nil
}

// Key implements codec.Codec.
func (format) Key(v *codec.View, r tree.Ref) []byte {
	off := r.Offset()
	b, err := v.Bytes(off+word, word)
	if err != nil {
		return nil
	}
	key, _ := v.Bytes(off+2*word, int64(be.Uint32(b)))
	return key
}

// Record implements codec.Codec. There is no checksum to verify: the lengths have to fit, and the pointers to end where
// they did when the log was read.
func (format) Record(v *codec.View, r tree.Ref) (key, value []byte, err error) {
	off := r.Offset()
	b, err := v.Bytes(off, 2*word)
	if err != nil {
		return nil, nil, err
	}
	rec := record{typ: be.Uint32(b), off: off, klen: int64(be.Uint32(b[word:])), level: r.Level()}
	if rec.typ != typeAdd && rec.typ != typeInorder {
		return nil, nil, v.Errorf(off, "type", "%#x where a record should stand", rec.typ)
	}
	if key, err = v.Bytes(rec.keyOff(), rec.klen); err != nil {
		return nil, nil, err
	}
	if b, err = v.Bytes(rec.dlenOff(), word); err != nil {
		return nil, nil, err
	}
	rec.dlen = int64(be.Uint32(b))
	if value, err = v.Bytes(rec.valueOff(), rec.dlen); err != nil {
		return nil, nil, err
	}
	if b, err = v.Bytes(rec.ptrOff(rec.level), word); err != nil {
		return nil, nil, err
	}
	if be.Uint32(b) != terminator {
		return nil, nil, v.Errorf(rec.ptrOff(rec.level), "terminator", "%#x: the record has changed", be.Uint32(b))
	}
	return key, value, nil
}

// CheckpointDue implements codec.Codec: Cyrus compares the position before the COMMIT word, which ends the log.
func (format) CheckpointDue(h codec.Header, end int64) bool {
	return end-commitSize > 2*h.LogStart+checkpointSlack
}

// mendHeader is the write that replaces the header.
func mendHeader(old, now codec.Header) codec.Write {
	return codec.Write{Off: 0, New: appendHeader(nil, now), Old: appendHeader(nil, old)}
}

var errTooLarge = fmt.Errorf("%w: a skiplist file holds 2 GiB; checkpoint it, or convert it to twoskip", codec.ErrTooLarge)
