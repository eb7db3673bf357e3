package imapconf_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/imapconf"
	"github.com/mailspine/mailspine/internal/vfs"
)

func read(t *testing.T, text string) (*imapconf.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "imapd.conf")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return imapconf.Read(vfs.OS(), path)
}

func TestRead(t *testing.T) {
	more := filepath.Join(t.TempDir(), "more.conf")
	require.NoError(t, os.WriteFile(more, []byte("quota_db: skiplist\n"), 0o600))
	c, err := read(t, "# comment: no\n"+
		"ConfigDirectory :  /var/lib/imap \r\n"+
		"no option\n"+
		"admins: cyrus \\\n root\n"+
		"@include: "+more+"\n"+
		"mboxlist_db: skiplist-nosync\n"+
		"improved_mboxlist_sort: Yes")
	require.NoError(t, err)
	require.Equal(t, "/var/lib/imap", c.ConfigDirectory())
	require.Equal(t, "/var/lib/imap/db/skipstamp", c.Skipstamp())
	require.Equal(t, "/var/lib/imap/mailspine", c.Prepared())
	require.Equal(t, "cyrus  root", c.Get("admins", ""))
	require.Equal(t, "x", c.Get("no option", "x"))
	require.False(t, c.Bool("admins"))
	for path, want := range map[string]imapconf.Database{
		"/var/lib/imap/mailboxes.db":              {Engine: "skiplist", Option: "mboxlist_db", MailboxOrder: true},
		"copy/mailboxes.db":                       {Engine: "skiplist", Option: "mboxlist_db", MailboxOrder: true},
		"/var/lib/imap/quotas.db":                 {Engine: "skiplist", Option: "quota_db", MailboxOrder: true},
		"/var/lib/imap/annotations.db":            {Engine: "twoskip", Option: "annotation_db"},
		"/var/lib/imap/user/f/fred.seen":          {Engine: "twoskip", Option: "seenstate_db"},
		"/var/lib/imap/user/f/fred.sub":           {Engine: "flat", Option: "subscription_db", MailboxOrder: true},
		"/var/lib/imap/user/f/fred.conversations": {Engine: "skiplist", Option: "conversations_db"},
		"/var/lib/imap/other.db":                  {},
	} {
		require.Equal(t, want, c.Database(path), path)
	}
}

func TestOwnPath(t *testing.T) {
	c, err := read(t, "mboxlist_db_path: /fast/list\nmboxlist_db: flat\n")
	require.NoError(t, err)
	require.Equal(t, "flat", c.Database("/fast/list").Engine)
	require.Empty(t, c.Skipstamp())
	require.Empty(t, c.Prepared())
	require.False(t, c.Database("/fast/list").MailboxOrder)
}

func TestUnreadable(t *testing.T) {
	_, err := imapconf.Read(vfs.OS(), filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	path := filepath.Join(t.TempDir(), "loop")
	require.NoError(t, os.WriteFile(path, []byte("@include: "+path+"\n"), 0o600))
	_, err = imapconf.Read(vfs.OS(), path)
	require.ErrorContains(t, err, "too deep")
}
