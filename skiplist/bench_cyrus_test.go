package skiplist_test

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/skiplist"
)

// cyrusSyncs are the syncs of a commit in Cyrus, of any size, as its source has them.
var cyrusSyncs = map[skiplist.Format]float64{skiplist.Skiplist: 2, skiplist.Twoskip: 3}

// startCyrus starts a process of libcyrus that does not recover skiplists when it opens them.
func startCyrus(b *testing.B) *realcyrus.Oracle {
	realcyrus.NeedOracle(b)
	dir := b.TempDir()
	require.NoError(b, realcyrus.WriteSkipstamp(filepath.Join(dir, "imapd.conf"), time.Unix(1_000_000_000, 0)))
	return realcyrus.StartOracle(b, realcyrus.OracleOptions{ConfDir: filepath.Join(dir, "conf")})
}

func cyrusDB(b *testing.B, f skiplist.Format, path string) *realcyrus.OracleDB {
	db, err := startCyrus(b).Open(string(f), path, realcyrus.CreateFlag)
	require.NoError(b, err)
	return db
}

// measured reports the time that the oracle took for all operations, as it saw it: its preparations do not count.
func measured(b *testing.B, total realcyrus.Bench, ops int) {
	b.ReportMetric(float64(total.Time.Nanoseconds())/float64(ops), "ns/op")
	b.ReportMetric(float64(total.CPU.Nanoseconds())/float64(ops), "cpu-ns/op")
}

func plus(a, b realcyrus.Bench) realcyrus.Bench {
	return realcyrus.Bench{Time: a.Time + b.Time, CPU: a.CPU + b.CPU}
}

// cyrusRead runs a reading benchmark of the oracle, in rounds of count operations, on so many records each.
func cyrusRead(command string, count, records int, args ...any) func(*testing.B, skiplist.Format, string) {
	return func(b *testing.B, f skiplist.Format, path string) {
		db := cyrusDB(b, f, path)
		var total realcyrus.Bench
		ops := 0
		for b.Loop() {
			r, err := db.Bench(command, append([]any{count}, args...)...)
			require.NoError(b, err)
			total = plus(total, r)
			ops += count
		}
		measured(b, total, ops)
		if records > 1 {
			b.ReportMetric(float64(total.Time.Nanoseconds())/float64(ops)/float64(records), "ns/record")
		}
	}
}

// cyrusWrite puts random records, in rounds of count.
func cyrusWrite(command string, count int, seed uint64) func(*testing.B, skiplist.Format, string) {
	return func(b *testing.B, f skiplist.Format, path string) {
		db := cyrusDB(b, f, path)
		var total realcyrus.Bench
		ops := 0
		for b.Loop() {
			r, err := db.Bench(command, count, 100_000_000, benchValue, seed+uint64(ops))
			require.NoError(b, err)
			total = plus(total, r)
			ops += count
		}
		measured(b, total, ops)
		b.ReportMetric(cyrusSyncs[f], "syncs/op")
	}
}

// cyrusDelete deletes the count records that it has stored before in one transaction.
func cyrusDelete(count int) func(*testing.B, skiplist.Format, string) {
	return func(b *testing.B, f skiplist.Format, path string) {
		db := cyrusDB(b, f, path)
		var total realcyrus.Bench
		ops := 0
		for b.Loop() {
			_, err := db.Bench("bench-load", count, count, benchValue, 0)
			require.NoError(b, err)
			r, err := db.Bench("bench-delete", count, count, benchValue, 0)
			require.NoError(b, err)
			total = plus(total, r)
			ops += count
		}
		measured(b, total, ops)
		b.ReportMetric(cyrusSyncs[f], "syncs/op")
	}
}

// cyrusWriters has as many processes put records at once as mailspine has goroutines, count each in a round.
func cyrusWriters(count int) func(*testing.B, skiplist.Format, string) {
	return func(b *testing.B, f skiplist.Format, path string) {
		var dbs []*realcyrus.OracleDB
		for range benchWriters {
			dbs = append(dbs, cyrusDB(b, f, path))
		}
		ops := 0
		var total realcyrus.Bench
		var cpu atomic.Int64
		for b.Loop() {
			begin := time.Now()
			var wg sync.WaitGroup
			for i, db := range dbs {
				seed := uint64(1 + ops + i*count)
				wg.Go(func() {
					r, err := db.Bench("bench-put", count, 100_000_000, benchValue, seed)
					if err != nil {
						b.Error(err)
					}
					cpu.Add(int64(r.CPU))
				})
			}
			wg.Wait()
			total.Time += time.Since(begin)
			ops += count * len(dbs)
		}
		total.CPU = time.Duration(cpu.Load())
		measured(b, total, ops)
		b.ReportMetric(cyrusSyncs[f], "syncs/op")
	}
}

// cyrusLoad stores n records in one transaction into an empty database.
func cyrusLoad(n int) func(*testing.B, skiplist.Format) {
	return func(b *testing.B, f skiplist.Format) {
		o := startCyrus(b)
		dir := b.TempDir()
		var total realcyrus.Bench
		rounds := 0
		for b.Loop() {
			rounds++
			db, err := o.Open(string(f), filepath.Join(dir, time.Now().Format("150405.000000000")), realcyrus.CreateFlag)
			require.NoError(b, err)
			r, err := db.Bench("bench-load", n, n, benchValue, 0)
			require.NoError(b, err)
			total = plus(total, r)
			require.NoError(b, db.Close())
		}
		measured(b, total, rounds)
		b.ReportMetric(float64(total.Time.Nanoseconds())/float64(rounds*n), "ns/record")
	}
}

// cyrusOpen opens and closes a database; the line protocol is in the time.
func cyrusOpen(b *testing.B, f skiplist.Format, path string) {
	o := startCyrus(b)
	for b.Loop() {
		db, err := o.Open(string(f), path, 0)
		require.NoError(b, err)
		require.NoError(b, db.Close())
	}
}
