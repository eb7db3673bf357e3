package mboxdb

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/skiplist"
)

// oldRecords are in each of the old forms.
var oldRecords = []struct{ key, value string }{
	{"user.alice", "0 default alice\tlrswipkxtecda\tanyone\tl\t"},
	{"user.alice.Q1^final", "%(A %(alice lrswipkxtecda) I 4f5e6d7c00000002 P default V 1795431827 F 7 M 1500000000)"},
	{"user.alice.Ext", "(uniqueid 4f5e6d7c00000003 specialuse \\Sent) 0 default alice\tlrswipkxtecda\t"},
	{"user.alice.Gone", "%(I 4f5e6d7c00000009 T d V 1400000000 F 12 M 1500000001)"},
	{"user.alice.Moved", "%(A %(alice lrswipkxtecda bob lr) I 4f5e6d7c0000000a P default V 1795431828 F 20 M 1500000003)"},
	{"user.alice.Before", "%(I 4f5e6d7c0000000a T d V 1795431828 F 19 M 1500000002)"},
	{"user.alice.cal", "%(A %(alice lrswipkxtecda) I 4f5e6d7c0000000b P default T c V 1795431829 C 3 F 20 M 1500000003)"},
	{"News", "%(A %(anyone lrs) I 4f5e6d7c0000000c P default V 1795431830 F 1 M 1500000004)"},
	{"example.com!user.dan.x y", "%(A %(dan@example.com lrswipkxtecda) I 4f5e6d7c0000000d P default V 1795431831 F 1 M 1500000005)"},
}

// makeOld writes a list in the old forms.
func makeOld(t *testing.T, path string, format skiplist.Format, more ...string) {
	db, err := skiplist.Open(ctx, path, skiplist.Options{Create: true, Format: format})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.Update(ctx, func(tx *skiplist.Tx) error {
		for _, r := range oldRecords {
			require.NoError(t, tx.Put([]byte(r.key), []byte(r.value)))
		}
		for i := 0; i < len(more); i += 2 {
			require.NoError(t, tx.Put([]byte(more[i]), []byte(more[i+1])))
		}
		return nil
	}))
}

func TestOldForms(t *testing.T) {
	for _, r := range oldRecords {
		rec, form, err := DecodeOld([]byte(r.key), []byte(r.value))
		require.NoError(t, err)
		require.Equal(t, r.key, rec.Name.String())
		require.True(t, rec.Type.Legacy())
		key, value, err := rec.EncodeOld(form)
		require.NoError(t, err)
		require.Equal(t, r.key, string(key))
		if r.key != "user.alice.Ext" { // other names than uniqueid are not used by anybody
			require.Equal(t, r.value, string(value))
		}
		again, _, err := DecodeOld(key, value)
		require.NoError(t, err)
		require.Equal(t, rec, again)
	}
	for _, bad := range []string{"", "x", "0", "0 default", "9999999999 default a\tl\t", "0 default a\tl", "(uniqueid x 0 default ", "%(A %(", "%(A x)", "(%"} {
		_, _, err := DecodeOld([]byte("user.bad"), []byte(bad))
		require.ErrorIs(t, err, ErrRecord, "%q", bad)
	}
}

// TestUpgrade upgrades a list of each engine. Nothing is lost: what cannot be read is kept as it is, and the old file too.
func TestUpgrade(t *testing.T) {
	for _, format := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat} {
		t.Run(string(format), func(t *testing.T) {
			dir := t.TempDir()
			path := dir + "/mailboxes.db"
			makeOld(t, path, format, "user.broken", "%(A %(alice", "$RACL", "", "$RACL$U$bob$user.alice.Moved", "")
			require.NoError(t, os.Chmod(path, 0o640))
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			opts := Options{Layout: Layout{ConfigDir: dir, Namespace: Namespace{VirtDomains: true}}}
			old, err := Open(ctx, path, opts)
			require.NoError(t, err)
			require.NotEqual(t, Form36, old.Form())
			_, err = old.Create(ctx, NewMailbox{Name: InternalName("user.bob")})
			require.ErrorIs(t, err, ErrUpgradeFirst)
			rec, err := old.LookupID(ctx, "4f5e6d7c0000000a")
			require.NoError(t, err)
			require.Equal(t, "user.alice.Moved", rec.Name.String())
			require.NoError(t, old.Close())
			done, err := Upgrade(ctx, path, UpgradeOptions{Options: opts})
			require.NoError(t, err)
			require.Equal(t, len(oldRecords)+1, done.Records)
			require.Len(t, done.Findings, 2) // the broken one, and the one without unique id
			kept, err := os.ReadFile(done.Kept)
			require.NoError(t, err)
			require.Equal(t, before, kept)
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o640), info.Mode().Perm())
			l, err := Open(ctx, path, opts)
			require.NoError(t, err)
			defer l.Close()
			require.Equal(t, Form36, l.Form())
			all := everything(t, l)
			require.Equal(t, "%(A %(alice", all["Nuser\x1fbroken"])
			require.Contains(t, all, "AU\x1ebob\x1euser\x1falice\x1fMoved")
			require.Equal(t, "%(T el N user\x1falice\x1fMoved P default V 1795431828 F 20 M 1500000003 A %(alice lrswipkxtecda bob lr) H (%(N user\x1falice\x1fBefore M 1500000002 V 1795431828 F 19 T edl)))",
				all["I4f5e6d7c0000000a"])
			again, err := Upgrade(ctx, path, UpgradeOptions{Options: opts})
			require.NoError(t, err)
			require.Zero(t, again.Records)
			_, err = l.Create(ctx, NewMailbox{Name: InternalName("user.bob")})
			require.NoError(t, err)
		})
	}
}

// forget deletes records.
func forget(t *testing.T, path string, keys ...string) {
	db, err := skiplist.Open(ctx, path, skiplist.Options{})
	require.NoError(t, err)
	defer db.Close()
	for _, k := range keys {
		require.NoError(t, db.Delete(ctx, []byte(k)))
	}
}

// TestUpgradeLikeCyrus compares an upgrade with the one that ctl_cyrusdb makes, of a list from which Cyrus drops nothing
// (it drops a mailbox without unique id) and which it takes for an old one (a mailbox "News" deceives it).
func TestUpgradeLikeCyrus(t *testing.T) {
	realcyrus.NeedPrograms(t)
	for _, engine := range []string{"skiplist", "twoskip"} {
		s := realcyrus.NewStore(t, realcyrus.Options{MailboxDB: engine, Extra: map[string]string{"virtdomains": "userid"}})
		makeOld(t, s.MailboxDB(), skiplist.Format(engine))
		forget(t, s.MailboxDB(), "News", "user.alice")
		realcyrus.Give(t, s.MailboxDB())
		ours := s.Copy(t)
		s.Run(t, "ctl_cyrusdb", "-r")
		opts := Options{Layout: Layout{Namespace: Namespace{VirtDomains: true}}}
		_, err := Upgrade(ctx, ours.MailboxDB(), UpgradeOptions{Options: opts})
		require.NoError(t, err)
		read := func(path string) map[string]string {
			l, err := Open(ctx, path, opts)
			require.NoError(t, err)
			defer l.Close()
			all := everything(t, l)
			for k, v := range all {
				// Cyrus writes the time of the upgrade, we keep the one that was there; and it gives tombstones an empty ACL.
				all[k] = regexp.MustCompile(` M \d+`).ReplaceAllString(strings.Replace(v, " A %()", "", 1), "")
			}
			return all
		}
		require.Equal(t, read(s.MailboxDB()), read(ours.MailboxDB()))
		times := regexp.MustCompile(`"mtime": "\d+"`)
		require.Equal(t, times.ReplaceAllString(s.Run(t, "ctl_mboxlist", "-d"), ""), times.ReplaceAllString(ours.Run(t, "ctl_mboxlist", "-d"), ""))
	}
}
