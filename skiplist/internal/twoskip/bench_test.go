package twoskip

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// bigFile has a million mailbox-like records in random order, in transactions of one, and its checkpoint.
var bigFile = sync.OnceValues(func() (log, checkpoint *disk) {
	const n = 1_000_000
	rnd := rand.New(rand.NewPCG(1, 1))
	value := strings.Repeat("v", 120)
	b := New().Empty(noTime)
	for _, i := range rnd.Perm(n) {
		level := drawLevel(rnd.Uint64())
		start := int64(len(b))
		b, _ = appendRecord(b, 0, fmt.Appendf(nil, "user.u%06d.folder", i), []byte(value), make([]int64, level+1), level)
		b, _ = appendBlanks(b, 0, markSize)
		b = appendMark(b, typeCommit, start)
	}
	put64(b, offSize, int64(len(b)))
	put64(b, offRecords, n)
	fixHeader(b)
	log = &disk{Codec: New(), B: b}
	var t tb
	log.H, log.Live, _ = replayed(&t, log.View(), codec.ReplayOptions{})
	c := *log
	c.Rewrite(&t)
	return log, &c
})

// tb stands in for a test where none is at hand.
type tb struct{}

func (*tb) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (*tb) FailNow()                          { panic("failed") }

func benchmarkReplay(b *testing.B, d *disk) {
	v := d.View()
	for b.Loop() {
		ed := tree.Edit(tree.Tree{}, lookup(v))
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
		w, err := New().Rewrite(d.View(), d.H, d.Live, noTime, func([]byte) error { return nil })
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
				plan(b, d, ops...)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/put")
		})
	}
}

// BenchmarkSealDeletes deletes 100,000 records in one transaction.
func BenchmarkSealDeletes(b *testing.B) {
	_, d := bigFile()
	for b.Loop() {
		v := d.View()
		txn := &codec.Txn{View: v, Header: d.H, Compare: bytes.Compare}
		ed := tree.Edit(d.Live, lookup(v))
		for i := range 100_000 {
			key := fmt.Appendf(nil, "user.u%06d.folder", i*10)
			at, _ := ed.Seek(key)
			old := at.Ref()
			at.Next()
			require.NoError(b, New().Delete(txn, old, at.Ref()))
			ed.Delete(key)
			txn.Touched = append(txn.Touched, codec.Touch{Key: key, Level: old.Level(), Deleted: true})
		}
		txn.Live = ed.Tree()
		_, err := New().Seal(txn)
		require.NoError(b, err)
	}
}
