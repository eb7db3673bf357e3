package mboxdb

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist"
)

// TestRenameUpwards: a mailbox that goes one level up may have a folder whose new name is its own old one. That name is
// taken, whichever of the two comes first in the list, and nothing changes.
func TestRenameUpwards(t *testing.T) {
	for _, folders := range [][]string{{"user.x.a.b.b"}, {"user.x.a.b.a", "user.x.a.b.b.a"}, {"user.x.a.b.c", "user.x.a.b.b.c"}} {
		l, err := Open(ctx, "/mailboxes.db", testOptions(newDisk(t), skiplist.Twoskip, false))
		require.NoError(t, err)
		for _, n := range append([]string{"user.x.a.b"}, folders...) {
			_, err := l.Create(ctx, NewMailbox{Name: InternalName(n)})
			require.NoError(t, err)
		}
		before := everything(t, l)
		_, err = l.Rename(ctx, InternalName("user.x.a.b"), InternalName("user.x.a"), RenameOptions{})
		require.ErrorIs(t, err, ErrExists, folders)
		require.Equal(t, before, everything(t, l))
		require.NoError(t, l.Close())
	}
}
