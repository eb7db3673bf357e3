package twoskip

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// TestTornHeader cuts every write of a header short, after each of its bytes: what the file held before, or with the
// commit that is being written, is found, recovered, and found again.
func TestTornHeader(t *testing.T) {
	d := newDisk(5)
	m := model{}
	for i := range 300 { // the count of records gets a second byte
		ops := []op{set(fmt.Sprint("k", i), "v"), set(fmt.Sprint("l", i), "w")}
		if i%3 == 0 {
			ops = append(ops, del(fmt.Sprint("k", i-1)))
		}
		before := m.List(New())
		p, _ := plan(t, d, ops...)
		m.Apply(ops)
		if i == 0 || i > 150 && i < 156 || i == 299 {
			tearHeaders(t, d.B, p, before, m.List(New()))
		}
		d.Commit(t, ops...)
	}
}

func tearHeaders(t *testing.T, b []byte, p codec.Plan, before, after []string) {
	b = slices.Clone(b)
	for i, ph := range p.Phases {
		whole := perform(slices.Clone(b), ph)
		if i != 1 {
			holds := func(header []byte) []string {
				if decodeHeader(header).End == p.Size {
					return after
				}
				return before
			}
			tears(t, b[:headerSize], whole[:headerSize], b, holds)
			tears(t, whole[:headerSize], b[:headerSize], b, holds) // taking it back may be cut as well
		}
		b = whole
	}
}

func tears(t *testing.T, old, now, file []byte, holds func([]byte) []string) {
	for k := range headerSize {
		torn := slices.Concat(now[:k], old[k:], file[headerSize:])
		want := holds(old)
		if k > offCRC && !slices.Equal(torn[:headerSize], old) {
			want = holds(now)
		}
		require.Equal(t, want, contents(t, torn), "the first %d bytes of % x over % x", k, now, old)
		if k%8 > 0 && k < offFlags {
			continue
		}
		healed, whole := recovered(t, nil, torn)
		require.True(t, whole)
		requireSound(t, healed, want)
	}
}

// TestTornDummy damages the DUMMY record, byte by byte: it is found, and made anew as it was.
func TestTornDummy(t *testing.T) {
	d, states := history(t)
	want := states[len(states)-1]
	for at := offDummy; at < emptySize; at++ {
		b := slices.Clone(d.B)
		b[at] ^= 0x41
		list, wrong := found(t, b)
		require.True(t, wrong, "byte %#x", at)
		require.Equal(t, want, list)
		healed, whole := recovered(t, nil, b)
		require.True(t, whole)
		requireSound(t, healed, want)
	}
}
