package codectest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// BigRecords is how many records the database of the benchmarks has.
const BigRecords = 1_000_000

// BigKey is the key of record i.
func BigKey(i int) []byte { return fmt.Appendf(nil, "user.u%06d.folder", i) }

// EachBig calls add for each record of a big database: they are like those of a mailbox list, and come in random order. The
// number decides on the level of the record.
func EachBig(add func(key, value []byte, random uint64)) {
	rnd := rand.New(rand.NewPCG(1, 1))
	value := []byte(strings.Repeat("v", 120))
	for _, i := range rnd.Perm(BigRecords) {
		add(BigKey(i), value, rnd.Uint64())
	}
}

// Big reads a database of such records, each of which is a transaction, and makes its checkpoint.
func Big(c codec.Codec, b []byte) (log, checkpoint *Disk) {
	var t big
	log = &Disk{Codec: c, B: b}
	log.H, log.Live, _ = Replayed(t, c, log.View(), codec.ReplayOptions{})
	made := *log
	made.Rewrite(t)
	return log, &made
}

// big stands in for a test where none is at hand.
type big struct{}

func (big) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (big) FailNow()                          { panic("failed") }

// BenchmarkReplay opens a big database, which is in memory.
func BenchmarkReplay(b *testing.B, d *Disk) {
	v := d.View()
	for b.Loop() {
		ed := tree.Edit(tree.Tree{}, Lookup(d.Codec, v))
		log, err := d.Codec.Replay(v, d.H, codec.ReplayOptions{}, ed)
		if err != nil || log.State != codec.Clean || ed.Len() != BigRecords {
			b.Fatal(err, log, ed.Len())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/BigRecords, "ns/record")
}

// BenchmarkCheckLinks compares all links of a big database.
func BenchmarkCheckLinks(b *testing.B, d *Disk) {
	for b.Loop() {
		err := d.Codec.CheckLinks(d.View(), d.H, d.Live, func(w codec.WrongLink) bool { b.Fatal(w); return false })
		require.NoError(b, err)
	}
}

// BenchmarkRewrite makes a checkpoint of a big database into nowhere.
func BenchmarkRewrite(b *testing.B, d *Disk) {
	for b.Loop() {
		w, err := d.Codec.Rewrite(d.View(), d.H, d.Live, Now, func([]byte) error { return nil })
		require.NoError(b, err)
		require.Equal(b, BigRecords, w.Live.Len())
	}
}

// BenchmarkSeal prepares transactions over a big database, without writing them.
func BenchmarkSeal(b *testing.B, d *Disk) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			rnd := rand.New(rand.NewPCG(2, 2))
			d.Random = rnd.Uint64
			for b.Loop() {
				var ops []Op
				for range n {
					ops = append(ops, Set(fmt.Sprintf("user.u%06d.new", rnd.IntN(BigRecords)), "value"))
				}
				d.Plan(b, ops...)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/put")
		})
	}
}
