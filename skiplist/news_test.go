package skiplist_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// simOptions make runs repeatable.
func simOptions(fs *simfs.FS, f skiplist.Format) skiplist.Options {
	return skiplist.Options{FS: fs, Format: f, Create: true, Reserve: 4096, Random: func() uint64 { return 1 }}
}

// TestNewsWithinATick has a writer count while others open the file and keep handles, on a system whose file times stand
// still: only sizes tell that something has changed, and the last write of a twoskip commit changes none. The first scan
// of a large file holds no lock, and may see a commit half-way.
func TestNewsWithinATick(t *testing.T) {
	defer skiplist.SetSmallFile(0)()
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		for seed := range uint64(60) {
			disk := simfs.New(simfs.Options{Tick: 24 * time.Hour})
			db, err := skiplist.Open(ctx, "/db", simOptions(disk, f))
			require.NoError(t, err)
			require.NoError(t, db.Close())
			var acked atomic.Int64
			writer := func(ctx context.Context, fs *simfs.FS) {
				db, err := skiplist.Open(ctx, "/db", simOptions(fs, f))
				require.NoError(t, err)
				for i := range 8 {
					require.NoError(t, db.Put(ctx, []byte("n"), []byte(strconv.Itoa(i+1))))
					acked.Store(int64(i + 1))
				}
				require.NoError(t, db.Close())
			}
			reader := func(ctx context.Context, fs *simfs.FS) {
				for range 6 {
					least := acked.Load()
					db, err := skiplist.Open(ctx, "/db", simOptions(fs, f))
					require.NoError(t, err)
					for range 3 {
						n := 0
						if v, err := db.Get(ctx, []byte("n")); err == nil {
							n, _ = strconv.Atoi(string(v))
						}
						require.GreaterOrEqual(t, n, int(least), "seed %d", seed)
						least = acked.Load()
					}
					require.NoError(t, db.Close())
				}
			}
			simfs.Run(t, disk, simfs.Schedule{Seed: seed}, writer, reader, reader)
		}
	})
}

// TestRecoveredWithinATick has a reader know a file with a torn tail, and a writer cut the tail and append a transaction
// of the same length, all within one tick of the clock: size and times are as before.
func TestRecoveredWithinATick(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		disk := simfs.New(simfs.Options{Tick: 24 * time.Hour})
		first := disk.Process("first")
		db, err := skiplist.Open(ctx, "/db", simOptions(first, f))
		require.NoError(t, err)
		require.NoError(t, db.Put(ctx, []byte("k"), []byte("1")))
		size := func() int64 {
			info, err := disk.Stat("/db")
			require.NoError(t, err)
			return info.Size
		}
		before := size()
		require.NoError(t, db.Put(ctx, []byte("k"), []byte("2")))
		if f == skiplist.Flat {
			return // has no tail
		}
		grown := size() - before
		first.Exit()
		tail, err := disk.Open("/db", vfs.ReadWrite, 0)
		require.NoError(t, err)
		_, err = tail.WriteAt(make([]byte, grown), size())
		require.NoError(t, err)

		ro := simOptions(disk, f)
		ro.ReadOnly = true
		reader, err := skiplist.Open(ctx, "/db", ro)
		require.NoError(t, err)
		require.Equal(t, "torn", reader.Stats().State)
		torn := size()
		writer, err := skiplist.Open(ctx, "/db", simOptions(disk.Process("writer"), f))
		require.NoError(t, err)
		require.NoError(t, writer.Put(ctx, []byte("k"), []byte("3")))
		require.Equal(t, torn, size(), "the case that this test is about")
		v, err := reader.Get(ctx, []byte("k"))
		require.NoError(t, err)
		require.Equal(t, "3", string(v))
	})
}

// TestOneCallASnapshot: while nothing has changed a snapshot costs one fstat, and reading a mapped file no call at all.
func TestOneCallASnapshot(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		disk := simfs.New(simfs.Options{})
		calls := &faultfs.Plan{N: 1 << 30}
		opts := simOptions(disk, f)
		opts.FS = faultfs.Wrap(disk, calls)
		db, err := skiplist.Open(ctx, "/db", opts)
		require.NoError(t, err)
		require.NoError(t, db.Put(ctx, []byte("k"), []byte("v")))
		_, err = db.Get(ctx, []byte("k"))
		require.NoError(t, err)
		before := calls.Count()
		s, err := db.Snapshot(ctx)
		require.NoError(t, err)
		require.Equal(t, before+1, calls.Count())
		require.Len(t, contents(t, s), 1)
		_, err = s.Get([]byte("k"))
		require.NoError(t, err)
		if strconv.IntSize == 64 {
			require.Equal(t, before+1, calls.Count())
		} else {
			require.Greater(t, calls.Count(), before+1, "hosts of 32 bits read")
		}
		s.Close()
	})
}

// TestReserveIsAskedForAgain has another process cut the file where it ends, as an abort of Cyrus does: that frees the
// reserve of this one, which must not believe that it still has it.
func TestReserveIsAskedForAgain(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		if f == skiplist.Flat {
			t.Skip("flat has no reserve behind its end")
		}
		disk := simfs.New(simfs.Options{Tick: 24 * time.Hour}) // the time does not tell of the cut
		opts := simOptions(disk, f)
		opts.Reserve = 64 << 10
		db, err := skiplist.Open(ctx, "/db", opts)
		require.NoError(t, err)
		require.NoError(t, db.Put(ctx, []byte("k"), []byte("1")))
		reserve := func() int64 {
			info, err := disk.Stat("/db")
			require.NoError(t, err)
			return info.Blocks*512 - info.Size
		}
		require.Greater(t, reserve(), opts.Reserve-4096)
		other, err := disk.Process("Cyrus").Open("/db", vfs.ReadWrite, 0)
		require.NoError(t, err)
		info, err := other.Stat()
		require.NoError(t, err)
		require.NoError(t, other.Truncate(info.Size))
		require.Less(t, reserve(), int64(4096))
		require.NoError(t, db.Put(ctx, []byte("k"), []byte("2")))
		require.Greater(t, reserve(), opts.Reserve-4096)
	})
}

// TestNothingMappedIsHandedOut reads what a snapshot handed out after all mappings are gone; a slice of one would end the
// process.
func TestNothingMappedIsHandedOut(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		path, want := sample(t, f)
		db, err := skiplist.Open(ctx, path, skiplist.Options{Format: f})
		require.NoError(t, err)
		s, err := db.Snapshot(ctx)
		require.NoError(t, err)
		var values [][]byte
		for k := range want {
			v, err := s.Get([]byte(k))
			require.NoError(t, err)
			values = append(values, v)
		}
		var records []skiplist.Record
		for r, err := range s.All() {
			require.NoError(t, err)
			records = append(records, r)
		}
		s.Close()
		require.NoError(t, db.Close())
		n := 0
		for _, v := range values {
			n += len(string(v))
		}
		for _, r := range records {
			n += len(string(r.Key)) + len(string(r.Value))
		}
		require.Positive(t, n)
	})
}
