package twoskip

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

func seeds(f *testing.F) {
	d := newDisk(1)
	f.Add(d.B, false)
	d.Commit(f, set("a", "1"), set("b", strings.Repeat("2", 500)), set("c", "3"))
	d.Commit(f, del("b"), set("d", "4"))
	d.Commit(f, del("d"))
	f.Add(d.B, false)
	f.Add(d.B, true)
	p, _ := plan(f, d, set("e", "5"), del("a"))
	f.Add(perform(perform(d.B, p.Phases[0]), p.Phases[1]), true)
	d.Rewrite(f)
	f.Add(d.B, true)
}

// mended makes the checksums right of what looks like records, one after the other, so that a fuzzer gets past them.
func mended(b []byte) []byte {
	b = append([]byte(nil), b...)
	if len(b) < emptySize {
		return b
	}
	copy(b, magic)
	put64(b, offVersion-4, 1)
	fixHeader(b)
	p := parser{mapped(b), int64(len(b))}
	for off := int64(offDummy); off < p.end; {
		rec, _, err := p.shape(off)
		if err != nil {
			off += 8
			continue
		}
		be.PutUint32(b[rec.crcHeadOff()+crcSize:], checksum(b[rec.body():off+rec.size]))
		be.PutUint32(b[rec.crcHeadOff():], checksum(b[off:rec.crcHeadOff()]))
		off += rec.size
	}
	return b
}

// FuzzReplay reads any bytes in every way; what it has read must be readable, rewritable and the same again.
func FuzzReplay(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if mend {
			b = mended(b)
		}
		v := mapped(b)
		h, err := New().ReadHeader(v)
		for _, opt := range []codec.ReplayOptions{{}, {Salvage: true}, {Salvage: true, Uncommitted: true}} {
			if err != nil {
				if h = (codec.Header{}); !opt.Salvage {
					continue
				}
			}
			ed := tree.Edit(tree.Tree{}, lookup(v))
			log, err := New().Replay(v, h, opt, ed)
			require.NoError(t, err)
			live := ed.Tree()
			want := pairs(t, v, live)
			_ = New().CheckLinks(v, h, live, func(codec.WrongLink) bool { return true })
			d := &disk{Codec: New(), B: b, H: h, Live: live, Random: levels(1)}
			d.Rewrite(t)
			requireSound(t, d.B, want)
			if opt.Salvage || log.State == codec.Damaged {
				continue
			}
			_, err = New().Recover(v, h, log, nil, live, time.Time{})
			require.NoError(t, err)
		}
	})
}

// FuzzSpans maps any bytes.
func FuzzSpans(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if mend {
			b = mended(b)
		}
		requireSpans(t, b, false)
	})
}
