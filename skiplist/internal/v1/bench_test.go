package v1

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/codectest"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// tb stands in for a test where none is at hand.
type tb struct{}

func (tb) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (tb) FailNow()                          { panic("failed") }

// bigFile has a million mailbox-like records in random order, in transactions of one, and its checkpoint.
var bigFile = sync.OnceValues(func() (log, checkpoint *disk) {
	const n = 1_000_000
	rnd := rand.New(rand.NewPCG(1, 1))
	value := strings.Repeat("v", 120)
	b := New().Empty(now)
	for _, i := range rnd.Perm(n) {
		b = appendRecord(b, typeAdd, fmt.Appendf(nil, "user.u%06d.folder", i), []byte(value), make([]uint32, randomLevel(rnd.Uint64())))
		b = be.AppendUint32(b, typeCommit)
	}
	log = &disk{Codec: New(), B: b}
	log.H, log.Live, _ = replayed(tb{}, b, codec.ReplayOptions{})
	c := *log
	c.Rewrite(tb{})
	return log, &c
})

func benchmarkReplay(b *testing.B, d *disk) {
	v := d.View()
	for b.Loop() {
		ed := tree.Edit(tree.Tree{}, codectest.Lookup(New(), v))
		log, err := New().Replay(v, d.H, codec.ReplayOptions{}, ed)
		if err != nil || log.State != codec.Clean || ed.Len() != 1_000_000 {
			b.Fatal(err, log, ed.Len())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/record")
}

// BenchmarkReplayCheckpoint opens a million checkpointed records; the file is in memory.
func BenchmarkReplayCheckpoint(b *testing.B) {
	_, d := bigFile()
	benchmarkReplay(b, d)
}

// BenchmarkReplayLog opens a million records that were added one by one in random order.
func BenchmarkReplayLog(b *testing.B) {
	d, _ := bigFile()
	benchmarkReplay(b, d)
}

// BenchmarkCheckLinks compares all links of a million checkpointed records.
func BenchmarkCheckLinks(b *testing.B) {
	_, d := bigFile()
	for b.Loop() {
		err := New().CheckLinks(d.View(), d.H, d.Live, func(w codec.WrongLink) bool { b.Fatal(w); return false })
		require.NoError(b, err)
	}
}

// BenchmarkRewrite makes a checkpoint of a million records into nowhere.
func BenchmarkRewrite(b *testing.B) {
	d, _ := bigFile()
	for b.Loop() {
		w, err := New().Rewrite(d.View(), d.H, d.Live, now, func([]byte) error { return nil })
		require.NoError(b, err)
		require.Equal(b, 1_000_000, w.Live.Len())
	}
}

// BenchmarkSeal prepares transactions over a million records, without writing them.
func BenchmarkSeal(b *testing.B) {
	_, d := bigFile()
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			rnd := rand.New(rand.NewPCG(2, 2))
			d.Random = rnd.Uint64
			for b.Loop() {
				var ops []op
				for range n {
					ops = append(ops, set(fmt.Sprintf("user.u%06d.new", rnd.IntN(1_000_000)), "value"))
				}
				d.Plan(b, ops...)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/put")
		})
	}
}

// BenchmarkResync searches 100 MB of a hostile file for a committed transaction.
func BenchmarkResync(b *testing.B) {
	for _, name := range []string{"words", "ADDs without a COMMIT", "overlapping"} {
		file := patterns[name](100 << 20)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(file)))
			b.ReportAllocs()
			for b.Loop() {
				v := codectest.Mapped(file)
				_, err := New().Replay(v, codec.Header{LogStart: emptySize}, codec.ReplayOptions{}, tree.Edit(tree.Tree{}, codectest.Lookup(New(), v)))
				require.NoError(b, err)
			}
		})
	}
}
