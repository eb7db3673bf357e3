package twoskip

import (
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/codectest"
)

// TestCyrusReadsOurs has Cyrus check, list and change our files; we read what it has made of them.
func TestCyrusReadsOurs(t *testing.T) {
	c := realcyrus.NewDBTool(t, "twoskip", "test.db")
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		d, m := newDisk(seed), model{}
		for i := range 60 {
			ops := randomOps(rnd, 40)
			d.Commit(t, ops...)
			m.Apply(ops)
			if i == 30 && seed%2 == 0 {
				d.Rewrite(t)
			}
			if i%10 != 9 {
				continue
			}
			c.Write(t, d.B)
			require.Contains(t, c.Run(t, "", "consistent"), "Yes, consistent")
			require.Equal(t, m.List(New()), c.Show(t))
			require.Equal(t, hex.Dump(d.B), hex.Dump(c.Read(t)))

			if ops = codectest.Effective(m, randomOps(rnd, 40)); len(ops) == 0 {
				continue
			}
			c.Run(t, codectest.Script(ops), "batch")
			d.B = c.Read(t)
			requireSound(t, d.B, m.List(New()))
			d.H, d.Live, _ = replayed(t, d.View(), codec.ReplayOptions{})
		}
	}
}

// logLevels lists the levels of the RECORDs in a file, in the order in which they were written.
func logLevels(t *testing.T, b []byte) (list []int) {
	p := parser{mapped(b), int64(len(b))}
	for off := p.skipBlanks(emptySize); off < p.end; off = p.skipBlanks(off) {
		rec, _, err := p.whole(off)
		require.NoError(t, err)
		if rec.typ == typeRecord {
			list = append(list, rec.level)
		}
		off += rec.size
	}
	return list
}

// TestCyrusWritesTheSame lets Cyrus write transactions of one operation and does the same with the levels that it drew:
// every byte agrees.
func TestCyrusWritesTheSame(t *testing.T) {
	c := realcyrus.NewDBTool(t, "twoskip", "test.db")
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 6))
		m := model{}
		var txns [][]op
		var batch strings.Builder
		for range 80 { // short of the size at which Cyrus makes a checkpoint
			if ops := codectest.Effective(m, randomOps(rnd, 20)[:1]); len(ops) > 0 {
				txns = append(txns, ops)
				batch.WriteString(codectest.Script(ops))
			}
		}
		c.Write(t, nil)
		c.Run(t, batch.String(), "batch")
		theirs := c.Read(t)
		require.EqualValues(t, 1, u64(theirs, offGeneration))
		requireSound(t, theirs, m.List(New()))

		d := newDisk(1)
		d.Random = levels(logLevels(t, theirs)...)
		for _, ops := range txns {
			d.Commit(t, ops...)
		}
		require.Equal(t, hex.Dump(theirs), hex.Dump(d.B))
	}
}

// TestCyrusTransactions replays what Cyrus writes in transactions of several operations, and its checkpoint.
func TestCyrusTransactions(t *testing.T) {
	c := realcyrus.NewDBTool(t, "twoskip", "test.db")
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		c.Write(t, nil)
		m := model{}
		for range 10 {
			var batch strings.Builder
			for range 20 {
				if ops := codectest.Effective(m, randomOps(rnd, 60)); len(ops) > 0 {
					batch.WriteString(codectest.Script(ops))
				}
			}
			c.Run(t, batch.String(), "batch")
			b := c.Read(t)
			requireSound(t, b, m.List(New()))
			requireSpans(t, b, true)
			got, log := salvaged(t, b, false)
			require.Equal(t, m.List(New()), got)
			require.Equal(t, codec.Clean, log.State)
		}
		require.Greater(t, u64(c.Read(t), offGeneration), int64(1), "Cyrus has never checkpointed")
	}
}

// TestCyrusRecoversOurs gives Cyrus what crashes in our commits and in our recoveries leave.
func TestCyrusRecoversOurs(t *testing.T) {
	c := realcyrus.NewDBTool(t, "twoskip", "test.db")
	rnd := rand.New(rand.NewPCG(1, 9))
	d, m := newDisk(4), model{}
	for range 25 {
		ops := randomOps(rnd, 20)
		p, live := plan(t, d, ops...)
		old := m.List(New())
		m.Apply(ops)
		b := slices.Clone(d.B)
		for i, ph := range p.Phases {
			image := torn(rnd, b, ph)
			want := contents(t, image)
			require.True(t, slices.Equal(want, old) || i == 2 && slices.Equal(want, m.List(New())))
			for _, image := range [][]byte{image, recoveredSome(t, rnd, image)} {
				c.Write(t, image)
				require.Equal(t, want, c.Show(t))
				requireSound(t, c.Read(t), want)
				ours, err := oracle{image}.recover1()
				require.NoError(t, err)
				require.Equal(t, hex.Dump(ours.b), hex.Dump(c.Read(t)), "the oracle is not Cyrus")
			}
			b = perform(b, ph)
		}
		d.B, d.H, d.Live = b, p.Header, live
	}
}

func recoveredSome(t *testing.T, rnd *rand.Rand, b []byte) []byte {
	b, _ = recovered(t, rnd, b)
	return b
}
