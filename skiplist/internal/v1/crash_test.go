package v1

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/codectest"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// TestCrash commits random transactions and crashes in each phase of each, any sectors of it being on the disk. Our
// replay finds the state before, or, in the phase with the commit point, before or after, and so does Cyrus's recovery.
// Our recovery leaves a file that is sound for both; a second and third crash in it changes nothing.
func TestCrash(t *testing.T) {
	images, seeds := 0, uint64(8)
	if os.Getenv("MAILSPINE_CAMPAIGN") != "" {
		seeds = 100
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 1))
		d, m := newDisk(seed), model{}
		for range 40 {
			if rnd.IntN(15) == 0 {
				d.Rewrite(t)
			}
			ops := changing(m, codectest.RandomOps(rnd, 30))
			if len(ops) == 0 {
				continue
			}
			p, live := d.Plan(t, ops...)
			require.Equal(t, 1, p.CommitPhase)
			old := list(m)
			m.Apply(ops)
			b := clone(d.B)
			for i, ph := range p.Phases {
				for range 3 {
					want := [][]string{old}
					if i == p.CommitPhase {
						want = append(want, list(m))
					}
					crashed(t, rnd, torn(rnd, b, ph), want)
					images++
				}
				b = perform(b, ph)
			}
			d.B, d.H, d.Live = b, p.Header, live
			requireSound(t, d.B, list(m))
		}
	}
	t.Logf("%d crash images", images)
}

func crashed(t *testing.T, rnd *rand.Rand, b []byte, want [][]string) {
	got := contents(t, b)
	require.Contains(t, want, got)
	cyrusRecovers(t, b, got)
	for range 2 {
		var whole bool
		if b, whole = recovered(t, rnd, b); whole {
			break
		}
		require.Equal(t, got, contents(t, b))
		cyrusRecovers(t, b, got)
	}
	b, _ = recovered(t, nil, b)
	requireSound(t, b, got)
	cyrusRecovers(t, b, got)
}

// cyrusRecovers holds that Cyrus's recovery finds the same, unless zeros at the end keep it from opening the file at
// all (window G).
func cyrusRecovers(t *testing.T, b []byte, want []string) {
	o, err := oracle{b}.recover()
	if err != nil {
		require.ErrorContains(t, err, "should be ADD or DELETE")
		_, _, log := replayed(t, b, codec.ReplayOptions{})
		require.Equal(t, codec.Torn, log.State)
		require.Zero(t, be.Uint32(append(clone(b), 0, 0, 0)[log.End:]), "only zeros stop Cyrus")
		return
	}
	require.Equal(t, want, contents(t, o.b))
	require.Equal(t, want, o.walk(t))
}

// TestEverySector crashes in the phases of one transaction over a file of many sectors with each single sector missing,
// and each single one alone on the disk.
func TestEverySector(t *testing.T) {
	d, m := newDisk(5), model{}
	for i := range 40 {
		ops := []op{set("key"+string(rune('a'+i)), "0123456789012345678901234567890123456789"[:i])}
		d.Commit(t, ops...)
		m.Apply(ops)
	}
	ops := []op{set("keyb", "x"), del("keyd"), set("new", string(make([]byte, 3000))), set("keyz", "yyy")}
	p, _ := d.Plan(t, ops...)
	old := list(m)
	m.Apply(ops)
	rnd := rand.New(rand.NewPCG(1, 1))
	b := d.B
	const sector = 512
	for i, ph := range p.Phases {
		after := perform(b, ph)
		want := [][]string{old}
		if i == p.CommitPhase {
			want = append(want, list(m))
		}
		for s := 0; s < len(after); s += sector {
			end := min(s+sector, len(after))
			missing, alone := clone(after), append(clone(b), make([]byte, len(after)-len(b))...)
			copy(missing[s:end], append(clone(b), make([]byte, len(after)-len(b))...)[s:end])
			copy(alone[s:end], after[s:end])
			crashed(t, rnd, missing, want)
			crashed(t, rnd, alone, want)
		}
		b = after
	}
}

// TestTornTerminator crashes while the records are written, such that only the last byte of the last terminator is on the
// disk: it looks like a COMMIT.
func TestTornTerminator(t *testing.T) {
	d := built(t, []op{set("a", "1")})
	p, _ := d.Plan(t, set("b", string(make([]byte, 1000))), set("c", "3"))
	b := perform(d.B, p.Phases[0])
	for from := len(d.B); from < len(b); from++ {
		torn := clone(b)
		clear(torn[from : len(b)-1])
		_, live, log := replayed(t, torn, codec.ReplayOptions{})
		require.Equal(t, codec.Torn, log.State, "%#x: %s", from, log.Problem)
		require.Equal(t, 1, live.Len())
	}
}

// TestCurlevelBeforeCommit holds that no crash leaves a record above curlevel once its transaction is committed: Cyrus's
// recovery would not mend that.
func TestCurlevelBeforeCommit(t *testing.T) {
	d := newDisk(1)
	d.Random = levels(1, 9)
	d.Commit(t, set("a", "1"))
	p, _ := d.Plan(t, set("b", "2"))
	headers := 0
	for i, ph := range p.Phases {
		for _, w := range ph.Writes {
			if w.Off == 0 {
				headers++
				require.Less(t, i, p.CommitPhase)
				require.EqualValues(t, 9, be.Uint32(w.New[offCurLevel:]))
			}
		}
	}
	require.Equal(t, 1, headers)
	require.Equal(t, 9, p.Header.CurLevel)
}

// TestCurlevelOfTheDead raises curlevel also for a record that is deleted in the transaction that adds it: Cyrus's
// recovery links it for a moment, and would leave the link on a level that it does not search.
func TestCurlevelOfTheDead(t *testing.T) {
	d := newDisk(1)
	d.Random = levels(1, 7)
	d.Commit(t, set("a", "1"))
	d.Commit(t, set("b", "2"), del("b"))
	require.Equal(t, 7, d.H.CurLevel)
	cyrusRecovers(t, d.B, []string{"a=1"})
}

// TestRecoverLeavesDamage holds that what was committed and is unreadable is never cut off.
func TestRecoverLeavesDamage(t *testing.T) {
	d := built(t, []op{set("a", "1")}, []op{set("b", "2")})
	b := clone(d.B)
	put32(b, recordAt(t, b, "a").off, 77)
	h, live, log := replayed(t, b, codec.ReplayOptions{})
	require.Equal(t, codec.Damaged, log.State)
	_, err := New().Recover(codectest.Mapped(b), h, log, nil, live, now)
	require.ErrorIs(t, err, codec.ErrDamaged)
	require.Equal(t, log.Offset, requireTyped(t, err).Offset)
}

// TestRecoverRenews has a clean file marked as recovered and nothing else changed.
func TestRecoverRenews(t *testing.T) {
	d := built(t, []op{set("a", "1")})
	p, err := New().Recover(d.View(), d.H, codec.Log{End: int64(len(d.B))}, nil, d.Live, now.Add(1e9))
	require.NoError(t, err)
	require.Len(t, p.Phases, 1)
	b := perform(d.B, p.Phases[0])
	require.Equal(t, d.B[headerSize:], b[headerSize:])
	h, err := New().ReadHeader(codectest.Mapped(b))
	require.NoError(t, err)
	require.Equal(t, p.Header, h)
	require.Equal(t, now.Add(1e9).Unix(), h.LastRecovery.Unix())
	require.EqualValues(t, 1, h.Records)
}

// TestWrongLinks spoils every pointer of a file in turn and has it found and mended. What no writer can have written as
// a pointer is damage instead: then the bytes are probably none, and must not be overwritten.
func TestWrongLinks(t *testing.T) {
	d := newDisk(1)
	d.Random = levels(1, 3, 2, 1, 2, 1)
	d.Commit(t, set("a", "1"), set("b", "2"), set("c", "3"), set("d", "4"))
	d.Commit(t, del("b"), set("e", "5"))
	d.Commit(t, set("bb", "6"))
	want := contents(t, d.B)
	targets := []int64{0, emptySize, emptySize + 4, int64(len(d.B)), int64(len(d.B)) + 8, 1 << 20}
	for _, r := range refs(d.Live) {
		targets = append(targets, r.Offset())
	}
	for _, at := range append(refs(d.Live), head) {
		for level := range min(at.Level(), 4) {
			slot, err := slotOff(d.View(), at, level)
			require.NoError(t, err)
			right := int64(be.Uint32(d.B[slot:]))
			for _, to := range targets {
				b := clone(d.B)
				put32(b, slot, uint32(to))
				v := codectest.Mapped(b)
				h, live, log := replayed(t, b, codec.ReplayOptions{})
				require.Equal(t, codec.Clean, log.State)
				require.Equal(t, want, codectest.Pairs(t, New(), v, live))
				wrong := codectest.WrongLinks(t, New(), v, h, live)
				if to == right {
					require.Empty(t, wrong)
					continue
				}
				mend := codec.Write{Off: slot, New: be.AppendUint32(nil, uint32(right)), Old: be.AppendUint32(nil, uint32(to))}
				require.Equal(t, []codec.WrongLink{{From: at, Level: level, Have: to, Want: right, Mend: mend}}, wrong)
				stopped := 0
				require.NoError(t, New().CheckLinks(v, h, live, func(codec.WrongLink) bool { stopped++; return false }))
				require.Equal(t, 1, stopped)
				b, _ = recovered(t, nil, b)
				requireSound(t, b, want)
			}
			if at == head {
				continue
			}
			for _, to := range []uint32{1, 4, emptySize - 4, uint32(len(d.B)) + 1, 1 << 31, 1<<32 - 8} {
				b := clone(d.B)
				put32(b, slot, to)
				got, log, _ := found(t, b)
				require.Equal(t, codec.Damaged, log.State, "%#x", to)
				require.Subset(t, want, difference(got, "b=2"))
			}
		}
	}
}

func difference(list []string, without string) (out []string) {
	for _, s := range list {
		if s != without {
			out = append(out, s)
		}
	}
	return out
}

// TestWrongLinksOfAll spoils all pointers at once, upper and lower, with loops among them.
func TestWrongLinksOfAll(t *testing.T) {
	d, _ := history(t)
	want := contents(t, d.B)
	all := append(refs(d.Live), head)
	rnd := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		b := clone(d.B)
		for _, at := range all {
			for level := range at.Level() {
				slot, err := slotOff(d.View(), at, level)
				require.NoError(t, err)
				put32(b, slot, uint32(all[rnd.IntN(len(all)-1)].Offset()))
			}
		}
		require.Equal(t, want, contents(t, b))
		b, _ = recovered(t, nil, b)
		requireSound(t, b, want)
	}
}

// farFile has a record of 28 bytes beyond 4 GiB and zeros between.
type farFile struct {
	b   []byte
	at  int64
	rec []byte
}

func (f farFile) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(f.b)) {
		copy(p, f.b[off:])
	}
	if off >= f.at && off < f.at+int64(len(f.rec)) {
		copy(p, f.rec[off-f.at:])
	}
	return len(p), nil
}

// TestBeyondFourGiB reads a record where links do not reach, and refuses to mend links to it.
func TestBeyondFourGiB(t *testing.T) {
	d := built(t, []op{set("a", "1")})
	f := farFile{b: d.B, at: 1<<32 + 16, rec: appendRecord(nil, typeAdd, []byte("k"), []byte("v"), []uint32{0})}
	v := &codec.View{Path: "db", Size: 1<<32 + 100, File: f}
	ed := tree.Edit(tree.Tree{}, codectest.Lookup(New(), v))
	ed.Put([]byte("k"), tree.NewRef(f.at, 1))
	key, value, err := New().Record(v, tree.NewRef(f.at, 1))
	require.NoError(t, err)
	require.Equal(t, "k=v", string(key)+"="+string(value))
	err = New().CheckLinks(v, d.H, ed.Tree(), func(codec.WrongLink) bool { return true })
	require.Equal(t, f.at, requireTyped(t, err).Offset)
}
