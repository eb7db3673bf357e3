package mboxdb

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist"
)

// benchUsers is the number of users of the benchmarks' list, each with an INBOX and folders below it, 20 mailboxes in
// all; MAILSPINE_BENCH_USERS=50000 makes the million of the design.
const benchFolders = 20

func benchUsers() int {
	if n, err := strconv.Atoi(os.Getenv("MAILSPINE_BENCH_USERS")); err == nil {
		return n
	}
	return 5000
}

func benchName(user, folder int) Name {
	inbox := Namespace{}.UserInbox(fmt.Sprintf("user%06d", user))
	if folder == 0 {
		return inbox
	}
	return inbox.Child(fmt.Sprintf("Folder %02d", folder))
}

// benchList makes a list as a server has it, with the mailboxes of so many users, and opens it.
func benchList(b testing.TB, users int) *List {
	path := filepath.Join(b.TempDir(), "mailboxes.db")
	db, err := skiplist.Open(ctx, path, skiplist.Options{Create: true, Format: skiplist.Twoskip})
	require.NoError(b, err)
	for start := 0; start < users; start += 1000 {
		require.NoError(b, db.Update(ctx, func(tx *skiplist.Tx) error {
			for u := start; u < min(start+1000, users); u++ {
				for f := range benchFolders {
					rec := Record{Name: benchName(u, f), Type: Mail, UniqueID: fmt.Sprintf("%024d", u*benchFolders+f), Partition: "default",
						UIDValidity: 1795432816, CreatedModSeq: 1, FolderModSeq: 1, Modified: 1795432815,
						ACL: ACL{{fmt.Sprintf("user%06d", u), "lrswipkxtecdan"}}}
					if err := tx.Put(nameKey(rec.Name), rec.EncodeName(nil)); err != nil {
						return err
					}
					if err := tx.Put(idKey(rec.UniqueID), rec.EncodeID(nil)); err != nil {
						return err
					}
				}
			}
			return nil
		}))
	}
	require.NoError(b, db.Checkpoint(ctx))
	require.NoError(b, db.Close())
	l, err := Open(ctx, path, Options{DB: skiplist.Options{ReadOnly: true}})
	require.NoError(b, err)
	b.Cleanup(func() { l.Close() })
	return l
}

func BenchmarkList(b *testing.B) {
	l := benchList(b, benchUsers())
	r := rand.New(rand.NewPCG(1, 1))
	b.Run("engine get", func(b *testing.B) {
		for b.Loop() {
			_, err := l.DB().Get(ctx, nameKey(benchName(r.IntN(benchUsers()), r.IntN(benchFolders))))
			require.NoError(b, err)
		}
	})
	b.Run("lookup", func(b *testing.B) {
		for b.Loop() {
			_, err := l.Lookup(ctx, benchName(r.IntN(benchUsers()), r.IntN(benchFolders)))
			require.NoError(b, err)
		}
	})
	b.Run("lookup id", func(b *testing.B) {
		for b.Loop() {
			_, err := l.LookupID(ctx, fmt.Sprintf("%024d", r.IntN(benchUsers()*benchFolders)))
			require.NoError(b, err)
		}
	})
	b.Run("user", func(b *testing.B) {
		for b.Loop() {
			n := 0
			require.NoError(b, l.View(ctx, func(v *View) error {
				for _, err := range v.UserMailboxes(fmt.Sprintf("user%06d", r.IntN(benchUsers()))) {
					if err != nil {
						return err
					}
					n++
				}
				return nil
			}))
			require.Equal(b, benchFolders, n)
		}
	})
	// What the listing holds at its fullest, beyond the open store: it is not to grow with the store.
	b.Run("LIST heap", func(b *testing.B) {
		peak := int64(0)
		for b.Loop() {
			peak = max(peak, listHeap(b, l, benchUsers()*benchFolders, func(Listed) {}))
		}
		b.ReportMetric(float64(peak), "heap-B/op")
	})
	b.Run("LIST all", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			require.NoError(b, l.View(ctx, func(v *View) error {
				for _, err := range v.List(Viewer{Namespace: Namespace{Admin: true, User: "cyrus"}}, "*") {
					if err != nil {
						return err
					}
					n++
				}
				return nil
			}))
			require.Equal(b, benchUsers()*benchFolders, n)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(benchUsers()*benchFolders*b.N), "ns/mailbox")
	})
}
