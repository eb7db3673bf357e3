package store

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// TestSyncLog: lines of many writers are whole, each in the file that has the name when it is written, in the logs of all
// channels, also behind a line that somebody could not end.
func TestSyncLog(t *testing.T) {
	disk := simfs.New(simfs.Options{})
	require.NoError(t, vfs.MkdirAll(disk, "/conf/sync", 0o755))
	torn, err := disk.Open("/conf/sync/log", vfs.ReadWrite|vfs.Create, 0o640)
	require.NoError(t, err)
	_, err = torn.WriteAt([]byte("MAILBOX user.al"), 0)
	require.NoError(t, err)
	require.NoError(t, torn.Close())
	l := newSyncLog(disk, "/conf", `"" squatter`)
	require.NoError(t, l.add(ctx, logRenamed("user.a b", `user."x"{y}\z`)...))
	want := "RENAME \"user.a b\" \"user.\\\"x\\\"\\{y\\}\\\\z\"\nMAILBOX \"user.a b\"\nMAILBOX \"user.\\\"x\\\"\\{y\\}\\\\z\"\n"
	b, err := vfs.ReadFile(disk, "/conf/sync/log")
	require.NoError(t, err)
	require.Equal(t, "MAILBOX user.al\n"+want, string(b))
	b, err = vfs.ReadFile(disk, "/conf/sync/squatter/log")
	require.NoError(t, err)
	require.Equal(t, want, string(b))

	// sync_client renames the log and reads it under the lock of the old name.
	require.NoError(t, disk.Rename("/conf/sync/log", "/conf/sync/log-run"))
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 20 {
				if err := newSyncLog(disk.Process("w"), "/conf", "").add(t.Context(), logChanged("user.bob")...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	b, err = vfs.ReadFile(disk, "/conf/sync/log")
	require.NoError(t, err)
	require.Len(t, b, 80*len("MAILBOX user.bob\n"))
	require.Equal(t, `""`, logName(""))
	require.Equal(t, "user.bob", logName("user.bob"))
	require.NoError(t, (*syncLog)(nil).add(ctx, "never"))
}
