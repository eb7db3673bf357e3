package skiplist_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist"
)

// maxHeapPerRecord is what an open database may keep on the heap for each record, and maxPrefixAlloc what listing a
// prefix of ten records may allocate, in bytes.
const (
	maxHeapPerRecord = 64
	maxPrefixAlloc   = 16 << 10
)

// TestMemory opens a mailbox list, half of which is in the log in random order, and holds the limits.
func TestMemory(t *testing.T) {
	n := 20_000
	if testing.Short() {
		n = 5_000
	}
	for _, f := range benchFormats {
		t.Run(string(f), func(t *testing.T) {
			path := mailboxFile(t, f, n, 50)
			before := heapInUse()
			db := benchOpen(t, path, skiplist.Options{})
			heap := float64(heapInUse()-before) / float64(2*n)
			require.Equal(t, 2*n, db.Stats().Records)
			require.Less(t, heap, float64(maxHeapPerRecord), "bytes on the heap a record")

			list := func(prefix []byte) (records int, bytes uint64) {
				var from, to runtime.MemStats
				runtime.ReadMemStats(&from)
				require.NoError(t, db.View(ctx, func(s *skiplist.Snapshot) error {
					for _, err := range s.Prefix(prefix) {
						require.NoError(t, err)
						records++
					}
					return nil
				}))
				runtime.ReadMemStats(&to)
				return records, to.TotalAlloc - from.TotalAlloc
			}
			records, bytes := list(userPrefix(n / benchFolders / 2))
			require.Equal(t, benchFolders, records)
			require.Less(t, bytes, uint64(maxPrefixAlloc), "bytes allocated to list one user")
			// A scan of all reuses its buffers.
			records, bytes = list(nil)
			require.Equal(t, 2*n, records)
			require.Less(t, bytes, uint64(2<<20), "bytes allocated to list all")
			runtime.KeepAlive(db)
		})
	}
}
