package v1

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/codectest"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// bigFile has a million mailbox-like records in random order, in transactions of one, and its checkpoint.
var bigFile = sync.OnceValues(func() (log, checkpoint *disk) {
	b := New().Empty(now)
	codectest.EachBig(func(key, value []byte, random uint64) {
		b = appendRecord(b, typeAdd, key, value, make([]uint32, randomLevel(random)))
		b = be.AppendUint32(b, typeCommit)
	})
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
