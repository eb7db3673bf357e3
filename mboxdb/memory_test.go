package mboxdb

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// liveHeap is how many bytes are in use, without what is garbage.
func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// listHeap lists all mailboxes of a list that has n, and returns by how much the live heap grew at most, looked at in 16
// places. keep is given each line.
func listHeap(t testing.TB, l *List, n int, keep func(Listed)) (peak int64) {
	count, before := 0, liveHeap()
	require.NoError(t, l.View(ctx, func(v *View) error {
		for line, err := range v.List(Viewer{Namespace: Namespace{Admin: true, User: "cyrus"}}, "*") {
			if err != nil {
				return err
			}
			keep(line)
			if count++; count%(n/16) == 0 {
				peak = max(peak, liveHeap()-before)
			}
		}
		return nil
	}))
	require.Equal(t, n, count)
	return peak
}

// TestListStreams: what a LIST of everything holds in memory is a few batches of records, however many mailboxes there are.
func TestListStreams(t *testing.T) {
	const users, bound = 500, 512 << 10
	small, large := benchList(t, users), benchList(t, 5*users)
	drop := func(Listed) {}
	listHeap(t, small, users*benchFolders, drop) // what is made once, such as pools
	few := listHeap(t, small, users*benchFolders, drop)
	many := listHeap(t, large, 5*users*benchFolders, drop)
	t.Logf("%d mailboxes: %d bytes; %d mailboxes: %d bytes", users*benchFolders, few, 5*users*benchFolders, many)
	require.Less(t, few, int64(bound))
	require.Less(t, many, few+bound/4, "the heap grows with the list")
	// One name for each mailbox would show.
	var names []string
	kept := listHeap(t, large, 5*users*benchFolders, func(l Listed) { names = append(names, l.Name) })
	require.Greater(t, kept, int64(bound))
	runtime.KeepAlive(names)
}
