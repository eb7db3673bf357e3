package twoskip

import (
	"bytes"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/codectest"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// bigFile has a million mailbox-like records in random order, in transactions of one, and its checkpoint.
var bigFile = sync.OnceValues(func() (log, checkpoint *disk) {
	b := New().Empty(noTime)
	codectest.EachBig(func(key, value []byte, random uint64) {
		level := drawLevel(random)
		start := int64(len(b))
		b, _ = appendRecord(b, 0, key, value, make([]int64, level+1), level)
		b, _ = appendBlanks(b, 0, markSize)
		b = appendMark(b, typeCommit, start)
	})
	put64(b, offSize, int64(len(b)))
	put64(b, offRecords, codectest.BigRecords)
	fixHeader(b)
	return codectest.Big(New(), b)
})

// BenchmarkReplayCheckpoint opens a million checkpointed records.
func BenchmarkReplayCheckpoint(b *testing.B) {
	_, d := bigFile()
	codectest.BenchmarkReplay(b, d)
}

// BenchmarkReplayLog opens a million records that were added one by one in random order.
func BenchmarkReplayLog(b *testing.B) {
	d, _ := bigFile()
	codectest.BenchmarkReplay(b, d)
}

func BenchmarkCheckLinks(b *testing.B) {
	_, d := bigFile()
	codectest.BenchmarkCheckLinks(b, d)
}

func BenchmarkRewrite(b *testing.B) {
	d, _ := bigFile()
	codectest.BenchmarkRewrite(b, d)
}

func BenchmarkSeal(b *testing.B) {
	_, d := bigFile()
	codectest.BenchmarkSeal(b, d)
}

// BenchmarkSealDeletes deletes 100,000 records in one transaction.
func BenchmarkSealDeletes(b *testing.B) {
	_, d := bigFile()
	for b.Loop() {
		v := d.View()
		txn := &codec.Txn{View: v, Header: d.H, Compare: bytes.Compare}
		ed := tree.Edit(d.Live, lookup(v))
		for i := range 100_000 {
			key := codectest.BigKey(i * 10)
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
