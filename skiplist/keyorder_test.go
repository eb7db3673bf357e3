package skiplist_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist"
)

// inMailboxOrder are keys that follow each other otherwise in mailbox order than by their bytes.
var inMailboxOrder = []string{"user.a", "user.a.b", "user.a-b", "user.a.c", "user.ab", "user.a b", "user.A"}

// mailboxOrdered makes a database in mailbox order all of whose records stand in the log, where only the links tell the
// order. A deletion is in it if gone is a key.
func mailboxOrdered(t *testing.T, f skiplist.Format, gone string) (path string, want map[string]string) {
	path = filepath.Join(t.TempDir(), "db")
	opts := skiplist.Options{Format: f, Order: skiplist.MailboxOrder, Create: true, ManualCheckpoint: true}
	db, err := skiplist.Open(ctx, path, opts)
	require.NoError(t, err)
	for _, k := range inMailboxOrder {
		require.NoError(t, db.Put(ctx, []byte(k), []byte("value of "+k)))
	}
	if gone != "" {
		require.NoError(t, db.Delete(ctx, []byte(gone)))
	}
	require.NoError(t, db.View(ctx, func(s *skiplist.Snapshot) error { want = contents(t, s); return nil }))
	require.NoError(t, db.Close())
	return path, want
}

// TestOrderOfTheLinks opens files whose log was written in another order than the one that is asked for. Nothing in the
// log tells; a DELETE of twoskip, which names its record by its place, would take another one. Whatever would write to
// the file, or records of it, is refused, and the file stays as it is.
func TestOrderOfTheLinks(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		for _, gone := range []string{"", "user.a-b"} {
			t.Run(string(f)+"/"+gone, func(t *testing.T) {
				path, want := mailboxOrdered(t, f, gone)
				refusedInBytes(t, f, path)

				db, err := skiplist.Open(ctx, path, skiplist.Options{ReadOnly: true, AllowDamaged: true})
				require.NoError(t, err)
				err = db.View(ctx, func(s *skiplist.Snapshot) error {
					got := map[string]string{}
					for r, err := range s.All() {
						if err != nil {
							return err
						}
						got[string(r.Key)] = string(r.Value)
					}
					require.Equal(t, want, got)
					return nil
				})
				require.Equal(t, f == skiplist.Twoskip && gone != "", errors.Is(err, skiplist.ErrOrder), "%v", err)
				require.NoError(t, db.Close())

				found, err := skiplist.Check(ctx, path, skiplist.Options{Order: skiplist.MailboxOrder})
				require.NoError(t, err)
				require.Empty(t, found)
				db, err = skiplist.Open(ctx, path, skiplist.Options{Order: skiplist.MailboxOrder})
				require.NoError(t, err)
				require.NoError(t, db.Put(ctx, []byte("user.a-c"), nil))
				want["user.a-c"] = ""
				require.NoError(t, db.View(ctx, func(s *skiplist.Snapshot) error {
					require.Equal(t, want, contents(t, s))
					return nil
				}))
				require.NoError(t, db.Close())
			})
		}
	}
}

// refusedInBytes has everything that writes refuse a file in mailbox order that is opened in the order of its format.
func refusedInBytes(t *testing.T, f skiplist.Format, path string) {
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	key, out := []byte("user.b"), filepath.Join(t.TempDir(), "out")
	for name, do := range map[string]func(*skiplist.DB) error{
		"put":        func(db *skiplist.DB) error { return db.Put(ctx, key, nil) },
		"delete":     func(db *skiplist.DB) error { return db.Delete(ctx, []byte("user.a")) },
		"checkpoint": func(db *skiplist.DB) error { return db.Checkpoint(ctx) },
		"recover":    func(db *skiplist.DB) error { _, err := db.Recover(ctx); return err },
		"plan":       func(db *skiplist.DB) error { _, err := db.PlanRecovery(ctx); return err },
		"backup":     func(db *skiplist.DB) error { _, err := db.Backup(ctx, io.Discard); return err },
		"file":       func(db *skiplist.DB) error { _, err := db.BackupFile(ctx, out); return err },
	} {
		db, err := skiplist.Open(ctx, path, skiplist.Options{})
		if err == nil {
			err = do(db)
			require.NoError(t, db.Close())
		}
		require.ErrorIs(t, err, skiplist.ErrOrder, name)
		require.ErrorContains(t, err, "but in mailbox order", name)
	}
	_, err = skiplist.Salvage(ctx, path, out, skiplist.SalvageOptions{})
	require.ErrorIs(t, err, skiplist.ErrOrder)
	require.NoFileExists(t, out)

	found, err := skiplist.Check(ctx, path, skiplist.Options{})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, "order", found[0].Code)
	require.Equal(t, "name the order: --order mailbox", found[0].Fix)
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(before, after), "%s: the file was changed", f)
}

// TestOrderOfCyrusLinks is the same with files that real Cyrus has written in mailbox order.
func TestOrderOfCyrusLinks(t *testing.T) {
	c := needCyrus(t)
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		path := c.create("mailbox-order-"+string(f), f)
		tool := func(args ...string) {
			out, err := exec.Command(cyrDBTool, append([]string{"-C", c.conf, "-M", path, string(f)}, args...)...).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
		for _, k := range inMailboxOrder {
			tool("set", k, "value")
		}
		tool("delete", "user.a-b")
		refusedInBytes(t, f, path)
		db, err := skiplist.Open(ctx, path, skiplist.Options{Order: skiplist.MailboxOrder, ReadOnly: true})
		require.NoError(t, err)
		require.NoError(t, db.View(ctx, func(s *skiplist.Snapshot) error {
			require.Equal(t, []string{"user.A", "user.a", "user.a b", "user.a.b", "user.a.c", "user.ab"},
				slices.Sorted(maps.Keys(contents(t, s))))
			return nil
		}))
		require.NoError(t, db.Close())
	}
}

// TestSalvageTellsOfAKeyOutOfPlace damages a key in the checkpointed records of a skiplist, which has no checksums. The
// check says that the file is damaged; so does the salvage, which keeps the record.
func TestSalvageTellsOfAKeyOutOfPlace(t *testing.T) {
	path, all := sample(t, skiplist.Skiplist)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	at := bytes.Index(b, []byte("user.03"))
	b[at] = 'a' // aser.03
	require.NoError(t, os.WriteFile(path, b, 0o600))
	out := path + ".salvaged"
	res, err := skiplist.Salvage(ctx, path, out, skiplist.SalvageOptions{})
	require.NoError(t, err)
	require.Equal(t, len(all), res.Records)
	require.Len(t, res.Findings, 1)
	require.Equal(t, "disorder", res.Findings[0].Code)
	require.Equal(t, skiplist.Damage, res.Findings[0].Severity)
	require.Equal(t, int64(at), res.Findings[0].Offset+8)
	found, err := skiplist.Check(ctx, out, skiplist.Options{})
	require.NoError(t, err)
	require.Empty(t, found)

	// A whole file in another order is not damaged, and is not salvaged in the wrong one.
	db, err := skiplist.Open(ctx, path+".mailbox", skiplist.Options{Format: skiplist.Skiplist, Order: skiplist.MailboxOrder, Create: true})
	require.NoError(t, err)
	for _, k := range inMailboxOrder {
		require.NoError(t, db.Put(ctx, []byte(k), nil))
	}
	require.NoError(t, db.Checkpoint(ctx))
	require.NoError(t, db.Close())
	_, err = skiplist.Salvage(ctx, path+".mailbox", out+"2", skiplist.SalvageOptions{})
	require.ErrorIs(t, err, skiplist.ErrOrder)
	res, err = skiplist.Salvage(ctx, path+".mailbox", out+"2", skiplist.SalvageOptions{Options: skiplist.Options{Order: skiplist.MailboxOrder}})
	require.NoError(t, err)
	require.Equal(t, len(inMailboxOrder), res.Records)
	require.Empty(t, res.Findings)
}
