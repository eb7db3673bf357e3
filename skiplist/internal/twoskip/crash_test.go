package twoskip

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// torn is what may be on the disk after a crash in a phase: each sector of 512 bytes as it was before or after, the size
// anything between.
func torn(rnd *rand.Rand, before []byte, ph codec.Phase) []byte {
	after := perform(before, ph)
	size := len(before)
	if d := len(after) - len(before); d != 0 {
		size += int(float64(d) * []float64{0, rnd.Float64(), 1}[rnd.IntN(3)])
	}
	out := make([]byte, size)
	copy(out, before[:min(len(before), size)])
	for s := 0; s < min(size, len(after)); s += sector {
		if rnd.IntN(2) == 0 {
			copy(out[s:], after[s:min(s+sector, size, len(after))])
		}
	}
	return out
}

// recovered brings a file into order as package skiplist does, unless a crash comes between: then it returns what is
// there after it. It tells whether it got to the end.
func recovered(t fataler, rnd *rand.Rand, b []byte) ([]byte, bool) {
	v := mapped(b)
	h, live, log := replayed(t, v, codec.ReplayOptions{})
	require.NotEqual(t, codec.Damaged, log.State, log.Problem)
	var mend []codec.Write
	seen := map[int64]bool{}
	for _, w := range wrongLinks(t, v.Sub(log.End), h, live) {
		if !seen[w.Mend.Off] {
			seen[w.Mend.Off] = true
			mend = append(mend, w.Mend)
		}
	}
	p, err := New().Recover(v, h, log, mend, live, time.Time{})
	require.NoError(t, err)
	stop := -1
	if rnd != nil && len(p.Phases) > 0 {
		stop = rnd.IntN(len(p.Phases))
	}
	for i, ph := range p.Phases {
		for _, w := range ph.Writes {
			require.Equal(t, b[w.Off:w.Off+int64(len(w.Old))], w.Old)
		}
		if i == stop {
			return torn(rnd, b, ph), false
		}
		b = perform(b, ph)
	}
	require.EqualValues(t, p.Size, len(b))
	return b, true
}

// randomOps are changes among few keys, so that they meet often.
func randomOps(rnd *rand.Rand, keys int) (ops []op) {
	for range 1 + rnd.IntN(5) {
		key := fmt.Sprintf("key%02d", rnd.IntN(keys))
		if rnd.IntN(5) < 2 {
			ops = append(ops, del(key))
		} else {
			ops = append(ops, set(key, fmt.Sprintf("%0*d", rnd.IntN(300), rnd.IntN(1000))))
		}
	}
	return ops
}

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
				d.rewrite(t)
			}
			p, live := d.plan(t, ops...)
			old := m.list()
			m.apply(ops)
			b := slices.Clone(d.b)
			for i, ph := range p.Phases {
				for range 3 {
					want := [][]string{old}
					if i == p.CommitPhase {
						want = append(want, m.list())
					}
					crashed(t, rnd, torn(rnd, b, ph), want)
					images++
				}
				b = perform(b, ph)
			}
			d.b, d.h, d.live = b, p.Header, live
			requireSound(t, d.b, m.list())
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
	b := slices.Clone(d.b)
	b[len(b)-markSize] ^= 4
	v := mapped(b)
	h, live, log := replayed(t, v, codec.ReplayOptions{})
	require.Equal(t, codec.Damaged, log.State)
	_, err := New().Recover(v, h, log, nil, live, time.Time{})
	require.ErrorIs(t, err, codec.ErrDamaged)
}

func TestRecoverNothing(t *testing.T) {
	d := built(t, []op{set("a", "1")})
	p, err := New().Recover(d.view(), d.h, codec.Log{End: d.h.End}, nil, d.live, time.Time{})
	require.NoError(t, err)
	require.Empty(t, p.Phases)
	require.Equal(t, d.h, p.Header)
}

// TestWrongLinks spoils every pointer of a file in turn, with a right checksum, and has it found and mended.
func TestWrongLinks(t *testing.T) {
	d := built(t, []op{set("a", "1"), set("b", "2"), set("c", "3"), set("d", "4")}, []op{del("b"), set("e", "5")}, []op{set("bb", "6")})
	want := contents(t, d.b)
	targets := []int64{0, 8, 64, emptySize, d.h.End, d.h.End + 8, 1 << 62, -1}
	for c := d.live.First(); c.Ref() != 0; c.Next() {
		targets = append(targets, c.Ref().Offset())
	}
	refs := []int64{offDummy}
	for c := d.live.First(); c.Ref() != 0; c.Next() {
		refs = append(refs, c.Ref().Offset())
	}
	for _, at := range refs {
		rec, _, err := parser{d.view(), d.h.End}.headAt(at)
		require.NoError(t, err)
		for slot := range int(pointers(rec.level)) {
			for _, to := range targets {
				b := slices.Clone(d.b)
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
	put64(d.b, offRecords, 7)
	fixHeader(d.b)
	v := d.view()
	h, live, log := replayed(t, v, codec.ReplayOptions{})
	require.Equal(t, codec.Clean, log.State)
	require.Len(t, log.Findings, 1)
	require.Equal(t, codeCount, log.Findings[0].Code)
	wrong := wrongLinks(t, v, h, live)
	require.Len(t, wrong, 1)
	require.Zero(t, wrong[0].From)
	require.EqualValues(t, 7, wrong[0].Have)
	require.EqualValues(t, 2, wrong[0].Want)
	b, _ := recovered(t, nil, d.b)
	requireSound(t, b, []string{"a=1", "b=2"})
}

// TestAcrossSectors makes files as releases before 3.2 did, without fillers, and has it said.
func TestAcrossSectors(t *testing.T) {
	d := built(t, []op{set("a", "1")})
	require.Empty(t, func() []any { _, _, log := replayed(t, d.view(), codec.ReplayOptions{}); return toAny(log.Findings) }())
	b := d.b[:emptySize]
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
