package index

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// newTestBox makes an empty mailbox in /m and opens it.
func newTestBox(t testing.TB, fsys vfs.FS, v Version) *Mailbox {
	c := newbox
	c.Version = v
	p := PlaceIn("/m")
	_, err := Create(t.Context(), fsys, p, c)
	require.NoError(t, err)
	return openTestBox(t, fsys, p, OpenOptions{})
}

func openTestBox(t testing.TB, fsys vfs.FS, p Place, o OpenOptions) *Mailbox {
	o.Zone = time.UTC
	m, err := OpenWith(t.Context(), fsys, p, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func text(n int) string { return fmt.Sprintf("Subject: message %d\r\n\r\nbody %d\r\n", n, n) }

var arrived = time.Unix(1_700_000_000, 0)

// appendTo appends a message in a transaction of its own.
func appendTo(t testing.TB, m *Mailbox, body string, flags Flags, user ...string) (rec Record) {
	require.NoError(t, m.Update(t.Context(), func(tx *Tx) (err error) {
		rec, err = tx.Append(NewMessage{Body: strings.NewReader(body), InternalDate: arrived, Flags: flags, User: user})
		return err
	}))
	return rec
}

// checkBox finds nothing wrong in a mailbox, message files included.
func checkBox(t testing.TB, fsys vfs.FS, p Place) {
	found, err := Check(t.Context(), fsys, p, CheckOptions{Owner: "u"})
	require.NoError(t, err)
	for _, f := range found {
		// Cyrus, too, keeps the bit of expunged messages where the version has none.
		require.True(t, f.Severity == finding.Info && f.Code == "record-bits", "%v", f)
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	for _, v := range Versions() {
		fsys := simfs.New(simfs.Options{NoTrace: true})
		m := newTestBox(t, fsys, v)
		seen := FlagSeen
		if v < versionChecksums {
			seen = 0
		}
		one := appendTo(t, m, text(1), FlagSeen, "Later", "$Work")
		two := appendTo(t, m, text(2), 0, "later")
		require.EqualValues(t, 2, two.UID)
		require.Equal(t, len(text(1)), int(one.Size))
		checkBox(t, fsys, m.place)
		rec, err := m.Record(t.Context(), 2)
		require.NoError(t, err)
		names, err := m.FlagNames(rec.Flags, rec.UserFlags)
		require.NoError(t, err)
		require.Equal(t, []string{"Later"}, names)
		b, err := m.Body(&rec)
		require.NoError(t, err)
		var got bytes.Buffer
		_, err = got.ReadFrom(b)
		require.NoError(t, err)
		require.NoError(t, b.Close())
		require.Equal(t, text(2), got.String())
		info, err := fsys.Stat(m.place.Message(&rec))
		require.NoError(t, err)
		require.True(t, info.Mtime.Equal(arrived))
		h, err := m.Header()
		require.NoError(t, err)
		before := *h

		require.NoError(t, m.Update(t.Context(), func(tx *Tx) error {
			rec, err := tx.SetFlags(1, FlagChange{Op: AddFlags, Flags: FlagFlagged | FlagDeleted | FlagExpunged, User: []string{"$Work"}})
			require.NoError(t, err)
			require.Equal(t, seen|FlagFlagged|FlagDeleted, rec.Flags)
			again, err := tx.SetFlags(1, FlagChange{Op: AddFlags, Flags: FlagFlagged})
			require.NoError(t, err)
			require.Equal(t, rec, again, "nothing changes")
			if v >= versionModSeq {
				_, err = tx.SetFlags(2, FlagChange{Op: AddFlags, Flags: FlagAnswered, UnchangedSince: 1})
				require.ErrorIs(t, err, ErrModified)
			}
			_, err = tx.SetFlags(2, FlagChange{Op: ReplaceFlags, Flags: FlagAnswered, User: []string{"new"}})
			require.NoError(t, err)
			_, err = tx.SetFlags(3, FlagChange{})
			require.ErrorIs(t, err, ErrNotFound)
			_, err = tx.SetFlags(2, FlagChange{User: []string{"no atom"}})
			require.ErrorIs(t, err, ErrFlag)
			_, err = tx.Expunge(1, ExpungeDelayed)
			require.NoError(t, err)
			_, err = tx.Expunge(1, ExpungeDelayed)
			require.ErrorIs(t, err, ErrNotFound)
			_, err = tx.SetFlags(1, FlagChange{Flags: FlagSeen})
			require.ErrorIs(t, err, ErrNotFound)
			return nil
		}))
		checkBox(t, fsys, m.place)
		h, err = m.Header()
		require.NoError(t, err)
		if v >= versionModSeq {
			require.Equal(t, before.HighestModSeq+3, h.HighestModSeq)
		}
		s, err := m.Snapshot(t.Context())
		require.NoError(t, err)
		require.Len(t, s.Messages, 1)
		require.Len(t, s.Expunged, 1)

		require.NoError(t, m.Update(t.Context(), func(tx *Tx) error {
			rec, err := tx.Unexpunge(1, FlagDeleted)
			require.NoError(t, err)
			require.EqualValues(t, 3, rec.UID)
			require.Equal(t, seen|FlagFlagged, rec.Flags)
			return nil
		}))
		_, err = fsys.Stat("/m/1.")
		require.Error(t, err)
		checkBox(t, fsys, m.place)
		require.NoError(t, m.Update(t.Context(), func(tx *Tx) error {
			_, err := tx.Expunge(2, ExpungeImmediate)
			return err
		}))
		_, err = fsys.Stat("/m/2.")
		require.Error(t, err)
		checkBox(t, fsys, m.place)
		require.Empty(t, namesIn(t, fsys, "/m/stage."))
	}
}

func namesIn(t testing.TB, fsys vfs.FS, dir string) (names []string) {
	list, err := fsys.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range list {
		names = append(names, e.Name)
	}
	return names
}

// TestNoChange: a transaction that changes nothing, or fails, leaves every byte as it was, and one that is over does nothing.
func TestNoChange(t *testing.T) {
	t.Parallel()
	fsys := simfs.New(simfs.Options{NoTrace: true})
	m := newTestBox(t, fsys, 17)
	appendTo(t, m, text(1), FlagSeen)
	before := files(t, fsys, "/m")
	var kept *Tx
	for _, do := range []func(tx *Tx) error{
		func(tx *Tx) error { kept = tx; return nil },
		func(tx *Tx) error { _, err := tx.SetFlags(1, FlagChange{Flags: FlagSeen}); return err },
	} {
		require.NoError(t, m.Update(t.Context(), do))
		require.Equal(t, before, files(t, fsys, "/m"))
	}
	mine := fmt.Errorf("mine")
	require.Equal(t, mine, m.Update(t.Context(), func(tx *Tx) error {
		_, err := tx.Append(NewMessage{Body: strings.NewReader(text(2)), User: []string{"x"}})
		require.NoError(t, err)
		_, err = tx.Expunge(1, ExpungeImmediate)
		require.NoError(t, err)
		return mine
	}))
	require.Equal(t, before, files(t, fsys, "/m"))
	_, err := kept.SetFlags(1, FlagChange{Flags: FlagDraft})
	require.ErrorIs(t, err, ErrTxDone)
	_, err = kept.Append(NewMessage{Body: strings.NewReader("x")})
	require.ErrorIs(t, err, ErrTxDone)
	m.opts.Conversations = true
	require.ErrorIs(t, m.Update(t.Context(), nil), ErrConversations)
}

// files are the contents of all files below a directory, those of the journal apart.
func files(t testing.TB, fsys vfs.FS, dir string) map[string]string {
	all := map[string]string{}
	list, err := fsys.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range list {
		path := dir + "/" + e.Name
		switch {
		case e.Name == journalName:
		case e.Dir:
			for k, v := range files(t, fsys, path) {
				all[k] = v
			}
		default:
			b, err := vfs.ReadFile(fsys, path)
			require.NoError(t, err)
			all[path] = string(b)
		}
	}
	return all
}
