package v1

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/codectest"
)

// cyrus is libcyrus, working on one file. Its skipstamp is so old that nothing is recovered unless the tail asks for it,
// and a recovery does not checkpoint.
type cyrus struct {
	t    *testing.T
	o    *realcyrus.Oracle
	path string
}

var longAgo = time.Unix(1_000_000_000, 0)

// newCyrus starts libcyrus with a skipstamp.
func newCyrus(t *testing.T, stamp time.Time) *cyrus {
	realcyrus.NeedOracle(t)
	dir := realcyrus.TempDir(t)
	require.NoError(t, realcyrus.WriteSkipstamp(filepath.Join(dir, "imapd.conf"), stamp))
	return &cyrus{t, realcyrus.StartOracle(t, realcyrus.OracleOptions{ConfDir: filepath.Join(dir, "conf")}), filepath.Join(dir, "test.db")}
}

func (c *cyrus) write(b []byte) { require.NoError(c.t, os.WriteFile(c.path, b, 0o600)) }

func (c *cyrus) read() []byte {
	b, err := os.ReadFile(c.path)
	require.NoError(c.t, err)
	return b
}

func (c *cyrus) open() *realcyrus.OracleDB {
	db, err := c.o.Open("skiplist", c.path, realcyrus.CreateFlag)
	require.NoError(c.t, err)
	return db
}

// do opens the file for one call.
func (c *cyrus) do(call func(db *realcyrus.OracleDB) error) {
	db := c.open()
	require.NoError(c.t, call(db))
	require.NoError(c.t, db.Close())
}

// list is what Cyrus lists, as "key=value". It holds that the links are consistent, and that each key is found.
func (c *cyrus) list() (list []string) {
	c.do(func(db *realcyrus.OracleDB) error {
		records, err := db.Foreach(nil, 0)
		for _, r := range records {
			list = append(list, string(r.Key)+"="+string(r.Value))
			value, err := db.Get(r.Key)
			require.NoError(c.t, err)
			require.Equal(c.t, string(r.Value), string(value))
		}
		return errors.Join(err, db.Consistent())
	})
	return list
}

// txn has Cyrus commit a transaction.
func (c *cyrus) txn(ops []op) {
	var list []realcyrus.Op
	for _, o := range ops {
		list = append(list, realcyrus.Op{Key: []byte(o.Key), Value: []byte(o.Value), Delete: o.Del})
	}
	c.do(func(db *realcyrus.OracleDB) error { return db.Txn(list...) })
}

// TestCyrusReadsOurs has Cyrus check, list and change our files; we read what it has made of them.
func TestCyrusReadsOurs(t *testing.T) {
	c := newCyrus(t, longAgo)
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		d, m := newDisk(seed), model{}
		for i := range 60 {
			ops := changing(m, codectest.RandomOps(rnd, 40))
			if len(ops) > 0 {
				d.Commit(t, ops...)
				m.Apply(ops)
			}
			if i == 30 && seed%2 == 0 {
				d.Rewrite(t)
			}
			if i%10 != 9 {
				continue
			}
			c.write(d.B)
			require.Equal(t, list(m), c.list())
			require.Equal(t, hex.Dump(d.B), hex.Dump(c.read()))

			if ops = codectest.Effective(m, codectest.RandomOps(rnd, 40)); len(ops) == 0 {
				continue
			}
			c.txn(ops)
			d.B = c.read()
			requireSound(t, d.B, list(m))
			d.H, d.Live, _ = replayed(t, d.B, codec.ReplayOptions{})
		}
		c.do(func(db *realcyrus.OracleDB) error { return db.Checkpoint() })
		requireSound(t, c.read(), list(m))
	}
}

// logLevels lists the levels of the ADDs in a file, in the order in which they were written, leaving out those that
// replace a record.
func logLevels(t *testing.T, b []byte) (list []int) {
	p := newParser(codectest.Mapped(b), codec.Header{})
	known := map[string]bool{}
	for off := int64(emptySize); off < p.end; {
		e, err := p.entry(off)
		require.NoError(t, err)
		switch e.typ {
		case typeDelete:
			rec, err := p.record(e.target, typeAdd)
			require.NoError(t, err)
			key, _ := p.key(rec)
			if next, err := p.entry(off + deleteSize); err == nil && next.typ == typeAdd {
				if again, _ := p.key(next.record); string(again) == string(key) {
					break
				}
			}
			known[string(key)] = false
		case typeAdd:
			key, _ := p.key(e.record)
			if !known[string(key)] {
				list = append(list, e.level)
			}
			known[string(key)] = true
		}
		off += e.size
	}
	return list
}

// TestCyrusWritesTheSame lets Cyrus write transactions of one operation and does the same with the levels that it drew:
// every byte agrees.
func TestCyrusWritesTheSame(t *testing.T) {
	c := newCyrus(t, longAgo)
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 6))
		m := model{}
		var txns [][]op
		require.NoError(t, os.RemoveAll(c.path))
		for range 60 { // short of the size at which Cyrus makes a checkpoint
			if ops := codectest.Effective(m, codectest.RandomOps(rnd, 20)[:1]); len(ops) > 0 {
				txns = append(txns, ops)
				c.txn(ops)
			}
		}
		theirs := c.read()
		require.EqualValues(t, emptySize, be.Uint32(theirs[offLogStart:]))
		requireSound(t, theirs, list(m))

		d := newDisk(1)
		d.B = New().Empty(time.Unix(int64(be.Uint32(theirs[offLastRec:])), 0))
		d.H, _ = New().ReadHeader(d.View())
		d.Random = levels(logLevels(t, theirs)...)
		for _, ops := range txns {
			d.Commit(t, ops...)
		}
		require.Equal(t, hex.Dump(theirs), hex.Dump(d.B))
	}
}

// TestCyrusTransactions replays what Cyrus writes in transactions of several operations, and its checkpoints; those are
// byte for byte ours.
func TestCyrusTransactions(t *testing.T) {
	c := newCyrus(t, longAgo)
	checkpoints := 0
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		require.NoError(t, os.RemoveAll(c.path))
		m := model{}
		for i := range 120 {
			if ops := codectest.Effective(m, codectest.RandomOps(rnd, 60)); len(ops) > 0 {
				c.txn(ops)
			}
			if i%12 != 11 {
				continue
			}
			b := c.read()
			requireSound(t, b, list(m))
			codectest.RequireSpans(t, New(), b, true)
			got, log := salvaged(t, b, false)
			require.Equal(t, list(m), got)
			require.Equal(t, codec.Clean, log.State)
			if be.Uint32(b[offLogStart:]) > emptySize {
				checkpoints++
			}
		}
		d := &disk{Codec: New(), B: c.read()}
		d.H, d.Live, _ = replayed(t, d.B, codec.ReplayOptions{})
		c.do(func(db *realcyrus.OracleDB) error { return db.Checkpoint() })
		theirs := c.read()
		d.Rewrite(t)
		copy(d.B[offLastRec:headerSize], theirs[offLastRec:headerSize])
		require.Equal(t, hex.Dump(theirs), hex.Dump(d.B))
	}
	require.Positive(t, checkpoints, "Cyrus has never checkpointed by itself")
}

// TestCyrusRecoversOurs gives Cyrus what crashes in our commits and in our recoveries leave, at the moment when it
// recovers: it finds what we find. The oracle agrees with it byte for byte.
func TestCyrusRecoversOurs(t *testing.T) {
	c := newCyrus(t, time.Now().Add(time.Hour)) // later than any recovery, so that every opening recovers
	rnd := rand.New(rand.NewPCG(1, 9))
	d, m := newDisk(4), model{}
	stuck := 0
	for range 25 {
		ops := changing(m, codectest.RandomOps(rnd, 20))
		if len(ops) == 0 {
			continue
		}
		p, live := d.Plan(t, ops...)
		old := list(m)
		m.Apply(ops)
		b := clone(d.B)
		for i, ph := range p.Phases {
			image := torn(rnd, b, ph)
			want := contents(t, image)
			require.True(t, slices.Equal(want, old) || i == p.CommitPhase && slices.Equal(want, list(m)))
			again, _ := recovered(t, rnd, image)
			for _, image := range [][]byte{image, again} {
				if _, err := (oracle{image}).recover(); err != nil {
					stuck++ // zeros at the end, which Cyrus does not get over: window G
					continue
				}
				c.write(image)
				require.Equal(t, want, c.list())
				theirs := c.read()
				ours, _ := oracle{image}.recover()
				copy(ours.b[offLastRec:headerSize], theirs[offLastRec:headerSize])
				require.Equal(t, hex.Dump(ours.b), hex.Dump(theirs), "the oracle is not Cyrus")
			}
			b = perform(b, ph)
		}
		d.B, d.H, d.Live = b, p.Header, live
	}
	require.Less(t, stuck, 20)
	t.Logf("%d images that Cyrus does not open", stuck)
}

// TestCyrusAfterOurRecovery has Cyrus take what our recovery leaves as it is: it lists it, and appends to it.
func TestCyrusAfterOurRecovery(t *testing.T) {
	c := newCyrus(t, longAgo)
	rnd := rand.New(rand.NewPCG(1, 10))
	d, m := newDisk(6), model{}
	for range 30 {
		ops := changing(m, codectest.RandomOps(rnd, 20))
		if len(ops) == 0 {
			continue
		}
		p, _ := d.Plan(t, ops...)
		b := d.B
		for range rnd.IntN(len(p.Phases)) {
			b = perform(b, p.Phases[0])
		}
		b, _ = recovered(t, nil, torn(rnd, b, p.Phases[0]))
		require.Equal(t, list(m), contents(t, b))
		c.write(b)
		require.Equal(t, list(m), c.list())
		require.Equal(t, hex.Dump(b), hex.Dump(c.read()), "Cyrus has recovered it again")
		ops = codectest.Effective(m, codectest.RandomOps(rnd, 20))
		if len(ops) > 0 {
			c.txn(ops)
		}
		require.Equal(t, list(m), c.list())
		d.B = c.read()
		d.H, d.Live, _ = replayed(t, d.B, codec.ReplayOptions{})
		requireSound(t, d.B, list(m))
	}
}
