package skiplist_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist"
)

// The benchmarks compare mailspine with libcyrus on the same files, in one run:
//
//	go test -run '^$' -bench . -count 6 ./skiplist | benchstat -col /engine -
//
// The records are those of a mailbox list of Cyrus 3.6, two for each mailbox. Every write is durable. Both sides read a
// byte of each key and the last one of each value. See docs/benchmarks.md.

const (
	benchMailboxes = 100_000
	benchBig       = 1_000_000
	benchFolders   = 10
	benchValue     = 150 // length of the values that are put
	benchWriters   = 64
)

// benchFormats are the formats that Cyrus keeps large databases in.
var benchFormats = []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip}

// mailboxKey is the key of the first record of mailbox i: user after user, with ten folders each.
func mailboxKey(i int) []byte {
	return fmt.Appendf(nil, "Nuser\x1fu%07d\x1fFolder%d", i/benchFolders, i%benchFolders)
}

// userPrefix is what the keys of a user's mailboxes begin with.
func userPrefix(user int) []byte { return fmt.Appendf(nil, "Nuser\x1fu%07d\x1f", user) }

// mailboxRecords are the two records that Cyrus 3.6 keeps of mailbox i.
func mailboxRecords(i int) [2]skiplist.Record {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	r := rand.New(rand.NewPCG(uint64(i), 3))
	id := make([]byte, 24)
	for k := range id {
		id[k] = digits[r.IntN(len(digits))]
	}
	name := mailboxKey(i)[1:]
	common := fmt.Sprintf("P default V %d C 1 F %d M %d A %%(u%07d lrswipkxtecdan anyone p)", 1700000000+i, 1+i%50, 1700000001+i, i/benchFolders)
	return [2]skiplist.Record{
		{Key: append([]byte{'N'}, name...), Value: fmt.Appendf(nil, "%%(T e I %s %s)", id, common)},
		{Key: append([]byte{'I'}, id...), Value: fmt.Appendf(nil, "%%(T e N %s %s H ())", name, common)},
	}
}

// mailboxFile makes a database of n mailboxes in a directory of its own. The share in the log, in parts of a hundred,
// was added after the checkpoint, in random order.
func mailboxFile(tb testing.TB, f skiplist.Format, n, inLog int) string {
	path := filepath.Join(tb.TempDir(), string(f)+".db")
	db, err := skiplist.Open(ctx, path, skiplist.Options{Format: f, Create: true, ManualCheckpoint: true})
	require.NoError(tb, err)
	all := rand.New(rand.NewPCG(1, 1)).Perm(n)
	base := n - n*inLog/100
	for len(all) > 0 {
		part := all[:min(5000, len(all))]
		if base <= 0 {
			part = part[:min(500, len(part))] // in the log transactions are smaller
		}
		all = all[len(part):]
		require.NoError(tb, db.Update(ctx, func(tx *skiplist.Tx) error {
			for _, i := range part {
				for _, r := range mailboxRecords(i) {
					if err := tx.Put(r.Key, r.Value); err != nil {
						return err
					}
				}
			}
			return nil
		}))
		if base -= len(part); base == 0 {
			require.NoError(tb, db.Checkpoint(ctx))
		}
	}
	require.NoError(tb, db.Close())
	return path
}

// benchOpen opens a database without a check at the end.
func benchOpen(tb testing.TB, path string, opts skiplist.Options) *skiplist.DB {
	db, err := skiplist.Open(ctx, path, opts)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// loop runs op b.N times. Besides the time it reports that of the processor, all threads together, which other load on
// the machine disturbs less.
func loop(b *testing.B, op func()) {
	b.ReportAllocs()
	var begin time.Duration
	for b.Loop() {
		if begin == 0 {
			begin = processorTime(b)
		}
		op()
	}
	b.ReportMetric(float64((processorTime(b)-begin).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// touched keeps the compiler from leaving out what was read.
var touched atomic.Uint64

func touch(r skiplist.Record) uint64 { return uint64(r.Key[0]) + uint64(r.Value[len(r.Value)-1]) }

// engines runs a benchmark of mailspine, and its counterpart in libcyrus, for each format.
func engines(b *testing.B, ours, theirs func(b *testing.B, f skiplist.Format)) {
	for _, f := range benchFormats {
		b.Run("format="+string(f), func(b *testing.B) {
			b.Run("engine=mailspine", func(b *testing.B) { ours(b, f) })
			if theirs != nil {
				b.Run("engine=cyrus", func(b *testing.B) { theirs(b, f) })
			}
		})
	}
}

// benchFiles hold the content of the databases of onFile, so that each is made once a process.
var benchFiles = map[skiplist.Format][]byte{}

// onFile runs both sides on one file, which each of them may change.
func onFile(b *testing.B, ours func(b *testing.B, path string), theirs func(b *testing.B, f skiplist.Format, path string)) {
	file := func(b *testing.B, f skiplist.Format) string {
		path := filepath.Join(b.TempDir(), "copy.db")
		require.NoError(b, os.WriteFile(path, benchFiles[f], 0o644))
		return path
	}
	for _, f := range benchFormats {
		if benchFiles[f] == nil {
			var err error
			benchFiles[f], err = os.ReadFile(mailboxFile(b, f, benchMailboxes, 0))
			require.NoError(b, err)
		}
	}
	engines(b,
		func(b *testing.B, f skiplist.Format) { ours(b, file(b, f)) },
		func(b *testing.B, f skiplist.Format) { theirs(b, f, file(b, f)) })
}

// allKeys are the keys of a database.
func allKeys(b *testing.B, db *skiplist.DB) (keys [][]byte) {
	require.NoError(b, db.View(ctx, func(s *skiplist.Snapshot) error {
		for r, err := range s.All() {
			require.NoError(b, err)
			keys = append(keys, append([]byte(nil), r.Key...))
		}
		return nil
	}))
	return keys
}

// benchRand is the sequence that the oracle has too (mix in oracle.c).
func benchRand(seed, i uint64) uint64 {
	z := seed + (i+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// BenchmarkGet gets random records, each in a snapshot of its own.
func BenchmarkGet(b *testing.B) {
	onFile(b, func(b *testing.B, path string) {
		db := benchOpen(b, path, skiplist.Options{})
		keys := allKeys(b, db)
		order := make([][]byte, 1<<16)
		for i := range order {
			order[i] = keys[benchRand(1, uint64(i))%uint64(len(keys))]
		}
		sum, i := uint64(0), 0
		loop(b, func() {
			key := order[i%len(order)]
			i++
			value, err := db.Get(ctx, key)
			if err != nil {
				b.Fatal(err)
			}
			sum += touch(skiplist.Record{Key: key, Value: value})
		})
		touched.Add(sum)
	}, cyrusRead("bench-get", 1<<16, 1, 1))
}

// BenchmarkPrefix lists the ten mailboxes of random users, each in a snapshot of its own.
func BenchmarkPrefix(b *testing.B) {
	onFile(b, func(b *testing.B, path string) {
		db := benchOpen(b, path, skiplist.Options{})
		sum, i := uint64(0), uint64(0)
		loop(b, func() {
			prefix := userPrefix(int(benchRand(1, i) % (benchMailboxes / benchFolders)))
			i++
			n := 0
			err := db.View(ctx, func(s *skiplist.Snapshot) error {
				for r, err := range s.Prefix(prefix) {
					if err != nil {
						return err
					}
					sum += touch(r)
					n++
				}
				return nil
			})
			if err != nil || n != benchFolders {
				b.Fatal(n, err)
			}
		})
		touched.Add(sum)
	}, cyrusRead("bench-prefix", 1<<13, 1, 1, len("Folder0"), []byte("N")))
}

// BenchmarkScan reads all records.
func BenchmarkScan(b *testing.B) {
	onFile(b, func(b *testing.B, path string) {
		db := benchOpen(b, path, skiplist.Options{})
		sum := uint64(0)
		loop(b, func() {
			n := 0
			err := db.View(ctx, func(s *skiplist.Snapshot) error {
				for r, err := range s.All() {
					if err != nil {
						return err
					}
					sum += touch(r)
					n++
				}
				return nil
			})
			if err != nil || n != 2*benchMailboxes {
				b.Fatal(n, err)
			}
		})
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(2*benchMailboxes), "ns/record")
		touched.Add(sum)
	}, cyrusRead("bench-full", 2, 2*benchMailboxes, 0))
}

// putKey and putValue are what the oracle's bench-put stores as number i.
func putKey(i uint64) []byte { return fmt.Appendf(nil, "k%08d", i) }

func putValue(i uint64) []byte {
	v := make([]byte, benchValue)
	for k := range v {
		v[k] = 'v'
	}
	for k := range 8 {
		v[len(v)-1-k] = 'a' + byte(i>>(4*k)%16)
	}
	return v
}

// benchWriter opens a database and makes a first change, before which a handle compares all links of the file with its
// log: that is a part of opening, and as long.
func benchWriter(b *testing.B, path string) *skiplist.DB {
	db := benchOpen(b, path, skiplist.Options{ManualCheckpoint: true})
	require.NoError(b, db.Put(ctx, []byte("k"), putValue(0)))
	return db
}

// reportSyncs tells how many syncs a change took since before.
func reportSyncs(b *testing.B, before, after skiplist.Stats) {
	if after.Checkpoints != before.Checkpoints {
		b.Fatal("a checkpoint came in between")
	}
	b.ReportMetric(float64(after.Syncs-before.Syncs)/float64(b.N), "syncs/op")
}

// BenchmarkPut stores records under new, random keys, durably one by one.
func BenchmarkPut(b *testing.B) {
	onFile(b, func(b *testing.B, path string) {
		db := benchWriter(b, path)
		before, i := db.Stats(), uint64(0)
		loop(b, func() {
			if err := db.Put(ctx, putKey(benchRand(2, i)%100_000_000), putValue(i)); err != nil {
				b.Fatal(err)
			}
			i++
		})
		reportSyncs(b, before, db.Stats())
	}, cyrusWrite("bench-put", 500, 2))
}

// BenchmarkDelete deletes records in their order, durably one by one.
func BenchmarkDelete(b *testing.B) {
	onFile(b, func(b *testing.B, path string) {
		db := benchWriter(b, path)
		const n = 50_000
		fill := func(first uint64) {
			require.NoError(b, db.Update(ctx, func(tx *skiplist.Tx) error {
				for i := range uint64(n) {
					if err := tx.Put(putKey(first+i), putValue(i)); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		fill(0)
		before, i := db.Stats(), uint64(0)
		loop(b, func() {
			if i > 0 && i%n == 0 {
				b.StopTimer()
				fill(i)
				b.StartTimer()
			}
			if err := db.Delete(ctx, putKey(i)); err != nil {
				b.Fatal(err)
			}
			i++
		})
		after := db.Stats()
		b.ReportMetric(float64(after.Syncs-before.Syncs)/float64(after.Commits-before.Commits), "syncs/op")
	}, cyrusDelete(500))
}

// BenchmarkPut64 stores records from 64 goroutines at once; in Cyrus from 64 processes.
func BenchmarkPut64(b *testing.B) {
	onFile(b, func(b *testing.B, path string) {
		db := benchWriter(b, path)
		before := db.Stats()
		var next atomic.Uint64
		var wg sync.WaitGroup
		begin := processorTime(b)
		b.ResetTimer()
		for range benchWriters {
			wg.Go(func() {
				for i := next.Add(1); i <= uint64(b.N); i = next.Add(1) {
					if err := db.Put(ctx, putKey(benchRand(2, i)%100_000_000), putValue(i)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		b.StopTimer()
		b.ReportMetric(float64((processorTime(b)-begin).Nanoseconds())/float64(b.N), "cpu-ns/op")
		reportSyncs(b, before, db.Stats())
	}, cyrusWriters(20))
}

// BenchmarkLoad stores 100,000 records in one transaction into an empty database, which makes a checkpoint due. That is
// part of it on both sides: mailspine makes it at once, Cyrus's twoskip when the process is idle.
func BenchmarkLoad(b *testing.B) {
	const n = 100_000
	engines(b, func(b *testing.B, f skiplist.Format) {
		dir := b.TempDir()
		loop(b, func() {
			path := filepath.Join(dir, "load.db")
			db, err := skiplist.Open(ctx, path, skiplist.Options{Format: f, Create: true})
			if err != nil {
				b.Fatal(err)
			}
			err = db.Update(ctx, func(tx *skiplist.Tx) error {
				for i := range uint64(n) {
					if err := tx.Put(putKey(i), putValue(i)); err != nil {
						return err
					}
				}
				return nil
			})
			if err = errors.Join(err, db.Close(), os.Remove(path)); err != nil {
				b.Fatal(err)
			}
		})
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/record")
	}, cyrusLoad(n))
}

// BenchmarkOpen opens and closes a database whose file is in memory. In Cyrus that is independent of its size.
func BenchmarkOpen(b *testing.B) {
	onFile(b, func(b *testing.B, path string) {
		benchmarkOpen(b, path, 2*benchMailboxes)
	}, cyrusOpen)
}

// BenchmarkOpenBig opens two million records: all of them checkpointed, or half of them in the log in random order.
func BenchmarkOpenBig(b *testing.B) {
	for _, f := range benchFormats {
		for _, inLog := range []int{0, 50} {
			b.Run(fmt.Sprintf("format=%s/inlog=%d%%/engine=mailspine", f, inLog), func(b *testing.B) {
				benchmarkOpen(b, mailboxFile(b, f, benchBig, inLog), 2*benchBig)
			})
		}
	}
}

func benchmarkOpen(b *testing.B, path string, records int) {
	before := heapInUse()
	db, err := skiplist.Open(context.Background(), path, skiplist.Options{})
	require.NoError(b, err)
	require.Equal(b, records, db.Stats().Records)
	heap := heapInUse() - before
	require.NoError(b, db.Close())
	loop(b, func() {
		db, err := skiplist.Open(ctx, path, skiplist.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	})
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(records), "ns/record")
	b.ReportMetric(float64(heap)/float64(records), "heap-B/record")
}

// heapInUse is the size of what is alive on the heap.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
