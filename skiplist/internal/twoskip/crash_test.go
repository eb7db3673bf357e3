package twoskip

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// TestCrash commits random transactions and crashes in each phase of each, any sectors of it being on the disk. Our
// replay and Cyrus's recovery1 find the state before, or, in the phase with the commit point, before or after; both
// recoveries leave a file that is sound for both; a second and third crash in our recovery changes nothing.
func TestCrash(t *testing.T) {
	images := 0
	for seed := range uint64(25) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		d, m := newDisk(seed), model{}
		for range 40 {
			ops := randomOps(rnd, 30)
			if rnd.IntN(15) == 0 {
				d.Rewrite(t)
			}
			p, live := plan(t, d, ops...)
			old := m.List(New())
			m.Apply(ops)
			b := slices.Clone(d.B)
			for i, ph := range p.Phases {
				for range 3 {
					want := [][]string{old}
					if i == p.CommitPhase {
						want = append(want, m.List(New()))
					}
					crashed(t, rnd, torn(rnd, b, ph), want)
					images++
				}
				b = perform(b, ph)
			}
			d.B, d.H, d.Live = b, p.Header, live
			requireSound(t, d.B, m.List(New()))
		}
	}
	t.Logf("%d crash images", images)
}

func crashed(t *testing.T, rnd *rand.Rand, b []byte, want [][]string) {
	got := contents(t, b)
	require.Contains(t, want, got)

	c, err := oracle{b}.recover1()
	require.NoError(t, err, "Cyrus would fall into recovery2")
	requireSound(t, c.b, got)

	for range 2 {
		var whole bool
		if b, whole = recovered(t, rnd, b); whole {
			break
		}
		require.Equal(t, got, contents(t, b))
		c, err := oracle{b}.recover1()
		require.NoError(t, err, "Cyrus would fall into recovery2")
		requireSound(t, c.b, got)
	}
	b, _ = recovered(t, nil, b)
	requireSound(t, b, got)
}

// TestRecoverLeavesDamage holds that what was committed and is unreadable is never cut off.
func TestRecoverLeavesDamage(t *testing.T) {
	d := built(t, []op{set("a", "1")}, []op{set("b", "2")})
	b := slices.Clone(d.B)
	b[len(b)-markSize] ^= 4
	v := mapped(b)
	h, live, log := replayed(t, v, codec.ReplayOptions{})
	require.Equal(t, codec.Damaged, log.State)
	_, err := New().Recover(v, h, log, nil, live, time.Time{})
	require.ErrorIs(t, err, codec.ErrDamaged)
}

func TestRecoverNothing(t *testing.T) {
	d := built(t, []op{set("a", "1")})
	p, err := New().Recover(d.View(), d.H, codec.Log{End: d.H.End}, nil, d.Live, time.Time{})
	require.NoError(t, err)
	require.Empty(t, p.Phases)
	require.Equal(t, d.H, p.Header)
}

// TestWrongLinks spoils every pointer of a file in turn, with a right checksum, and has it found and mended.
func TestWrongLinks(t *testing.T) {
	d := built(t, []op{set("a", "1"), set("b", "2"), set("c", "3"), set("d", "4")}, []op{del("b"), set("e", "5")}, []op{set("bb", "6")})
	want := contents(t, d.B)
	targets := []int64{0, 8, 64, emptySize, d.H.End, d.H.End + 8, 1 << 62, -1}
	for c := d.Live.First(); c.Ref() != 0; c.Next() {
		targets = append(targets, c.Ref().Offset())
	}
	refs := []int64{offDummy}
	for c := d.Live.First(); c.Ref() != 0; c.Next() {
		refs = append(refs, c.Ref().Offset())
	}
	for _, at := range refs {
		rec, _, err := parser{d.View(), d.H.End}.headAt(at)
		require.NoError(t, err)
		for slot := range int(pointers(rec.level)) {
			for _, to := range targets {
				b := slices.Clone(d.B)
				put64(b, rec.slotOff(slot), to)
				be.PutUint32(b[rec.crcHeadOff():], checksum(b[at:rec.crcHeadOff()]))
				v := mapped(b)
				h, live, log := replayed(t, v, codec.ReplayOptions{})
				require.Equal(t, codec.Clean, log.State)
				require.Equal(t, want, pairs(t, v, live))
				b, _ = recovered(t, nil, b)
				requireSound(t, b, want)
				stopped := 0
				require.NoError(t, New().CheckLinks(v, h, live, func(codec.WrongLink) bool { stopped++; return false }))
				require.LessOrEqual(t, stopped, 1)
			}
		}
	}
}

// TestWrongCount has the number of records in the header found wrong and mended.
func TestWrongCount(t *testing.T) {
	d := built(t, []op{set("a", "1"), set("b", "2")})
	put64(d.B, offRecords, 7)
	fixHeader(d.B)
	v := d.View()
	h, live, log := replayed(t, v, codec.ReplayOptions{})
	require.Equal(t, codec.Clean, log.State)
	require.Len(t, log.Findings, 1)
	require.Equal(t, codeCount, log.Findings[0].Code)
	wrong := wrongLinks(t, v, h, live)
	require.Len(t, wrong, 1)
	require.Zero(t, wrong[0].From)
	require.EqualValues(t, 7, wrong[0].Have)
	require.EqualValues(t, 2, wrong[0].Want)
	b, _ := recovered(t, nil, d.B)
	requireSound(t, b, []string{"a=1", "b=2"})
}

// TestAcrossSectors makes files as releases before 3.2 did, without fillers, and has it said.
func TestAcrossSectors(t *testing.T) {
	d := built(t, []op{set("a", "1")})
	require.Empty(t, func() []any { _, _, log := replayed(t, d.View(), codec.ReplayOptions{}); return toAny(log.Findings) }())
	b := d.B[:emptySize]
	b = appendHead(b, typeRecord, 1, 1, 110, []int64{0, 0}, 0)
	b = append(b, make([]byte, 112)...)
	b[len(b)-112] = 'a'
	be.PutUint32(b[emptySize+28:], checksum(b[len(b)-112:]))
	b = appendHead(b, typeRecord, 3, 1, 0, []int64{0, 0, 0, 0}, checksum([]byte("b\x00\x00\x00\x00\x00\x00\x00")))
	b = append(b, "b\x00\x00\x00\x00\x00\x00\x00"...)
	b = appendMark(b, typeCommit, emptySize)
	put64(b, offSize, int64(len(b)))
	put64(b, offRecords, 2)
	fixHeader(b)
	_, live, log := replayed(t, mapped(b), codec.ReplayOptions{})
	require.Equal(t, 2, live.Len())
	require.Equal(t, codec.Clean, log.State, log.Problem)
	require.Len(t, log.Findings, 1)
	require.Equal(t, codeAcross, log.Findings[0].Code)
}

func toAny[T any](list []T) (out []any) {
	for _, x := range list {
		out = append(out, x)
	}
	return out
}
