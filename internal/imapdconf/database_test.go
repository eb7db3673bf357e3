package imapdconf

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
)

func TestDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "imapd.conf")
	require.NoError(t, os.WriteFile(path, []byte("configdirectory: /var/lib/imap\npartition-default: /var/spool/imap\ndefaultpartition: default\n"+
		"mboxlist_db: skiplist\nquota_db: skiplist\nimproved_mboxlist_sort: yes\nannotation_db_path: /fast/notes\n"), 0o600))
	c, err := Read(vfs.OS(), path).Config("")
	require.NoError(t, err)
	require.Equal(t, "/var/lib/imap/db/skipstamp", c.Skipstamp())
	require.Equal(t, "/var/lib/imap/mailspine", c.Prepared())
	for path, want := range map[string]Database{
		"/var/lib/imap/mailboxes.db":              {Engine: "skiplist", Option: "mboxlist_db", MailboxOrder: true},
		"copy/mailboxes.db":                       {Engine: "skiplist", Option: "mboxlist_db", MailboxOrder: true},
		"/var/lib/imap/quotas.db":                 {Engine: "skiplist", Option: "quota_db", MailboxOrder: true},
		"/fast/../fast/notes":                     {Engine: "twoskip", Option: "annotation_db"},
		"/var/lib/imap/user/f/fred.seen":          {Engine: "twoskip", Option: "seenstate_db"},
		"/var/lib/imap/user/f/fred.sub":           {Engine: "flat", Option: "subscription_db", MailboxOrder: true},
		"/var/lib/imap/user/f/fred.conversations": {Engine: "skiplist", Option: "conversations_db"},
		"/var/lib/imap/other.db":                  {},
	} {
		require.Equal(t, want, c.Database(path), path)
	}
	empty, _ := (&Source{}).Config("")
	require.Empty(t, empty.Skipstamp())
	require.Empty(t, empty.Prepared())
}
