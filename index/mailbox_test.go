package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

// openStore opens the mailbox list of a store.
func openStore(t testing.TB, s *realcyrus.Store) (*mboxdb.List, mboxdb.Layout) {
	c, err := imapdconf.Read(vfs.OS(), s.Conf).Config("")
	require.NoError(t, err)
	path, opts := mboxdb.Configured(c)
	l, err := mboxdb.Open(t.Context(), path, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l, opts.Layout
}

// openMailbox opens a mailbox by name.
func openMailbox(t testing.TB, l *mboxdb.List, layout mboxdb.Layout, name string) *Mailbox {
	rec, err := l.Lookup(t.Context(), mboxdb.InternalName(name))
	require.NoError(t, err)
	place, err := PlaceOf(layout, rec)
	require.NoError(t, err)
	m, err := Open(t.Context(), vfs.OS(), place)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// changesAgree asks what has changed while a client stores flags, appends and expunges, and a repack drops records.
func changesAgree(t *testing.T, c *realcyrus.Client, m *Mailbox, box string) {
	ctx := t.Context()
	before, err := m.Snapshot(ctx)
	require.NoError(t, err)
	since := before.Header.HighestModSeq
	cmd := func(format string, args ...any) {
		_, err := c.Cmd(format, args...)
		require.NoError(t, err)
	}
	cmd("SELECT %s", realcyrus.Quote(box))
	cmd(`STORE 1 +FLAGS (\Flagged Later)`)
	require.NoError(t, c.Append(box, "", time.Time{}, []byte("Subject: new\r\n\r\nbody\r\n")))
	cmd(`STORE 2 +FLAGS (\Deleted)`)
	cmd("EXPUNGE")
	changes, err := m.Changes(ctx, since)
	require.NoError(t, err)
	require.True(t, changes.Exact)
	gone := before.Messages[1].UID
	require.Equal(t, []UIDRange{{gone, gone}}, changes.Vanished)
	require.Len(t, changes.Changed, 2)
	require.Equal(t, before.Messages[0].UID, changes.Changed[0].UID)
	names, err := m.FlagNames(changes.Changed[0].Flags, changes.Changed[0].UserFlags)
	require.NoError(t, err)
	require.Contains(t, names, "Later")
	require.Equal(t, before.Header.LastUID+1, changes.Changed[1].UID)
	none, err := m.Changes(ctx, changes.HighestModSeq)
	require.NoError(t, err)
	require.Empty(t, none.Changed)
	require.Empty(t, none.Vanished)
	all, err := m.Changes(ctx, 0)
	require.NoError(t, err)
	require.Len(t, all.Changed, len(before.Messages))
	rec, err := m.Record(ctx, gone)
	require.NoError(t, err)
	require.True(t, rec.Expunged())
	_, err = m.Record(ctx, before.Header.LastUID+100)
	require.ErrorIs(t, err, ErrNotFound)
}

// TestRepackUnderneath: files that a repack has replaced can be read to the end, and the next snapshot is of the new ones.
func TestRepackUnderneath(t *testing.T) {
	realcyrus.NeedServer(t)
	s := realcyrus.StartServer(t, realcyrus.Options{})
	filled := s.Fill(t, 1, 1, 12, 3)
	l, layout := openStore(t, s.Store)
	m := openMailbox(t, l, layout, filled.Mailboxes[0])
	before, err := m.Header()
	require.NoError(t, err)
	old := *before
	seen := 0
	for e, err := range m.Records(t.Context()) {
		require.NoError(t, err)
		if seen++; seen == 3 {
			s.Run(t, "cyr_expire", "-E", "1", "-X", "0", "-D", "0")
		}
		_, err := m.Cache(&e.Record)
		require.NoError(t, err)
	}
	require.EqualValues(t, old.NumRecords, seen)
	changes, err := m.Changes(t.Context(), 1)
	require.NoError(t, err)
	require.False(t, changes.Exact)
	require.NotEmpty(t, changes.Vanished)
	after, err := m.Header()
	require.NoError(t, err)
	require.Greater(t, after.Generation, old.Generation)
	require.Equal(t, old.Exists, after.NumRecords)
}

// copyGolden copies the files of a version into a directory.
func copyGolden(t *testing.T, v Version) Place {
	dir := t.TempDir()
	from := filepath.Join("testdata", "real", fmt.Sprintf("v%d", v))
	for _, name := range []string{HeaderName, IndexName, CacheName, AnnotationsName} {
		b, err := os.ReadFile(filepath.Join(from, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
	}
	return PlaceIn(dir)
}

// TestTornRecord: a record that a writer is in the middle of is read again when the writer has finished; if nobody is, it
// is damage.
func TestTornRecord(t *testing.T) {
	p := copyGolden(t, VersionWritten)
	m, err := Open(t.Context(), vfs.OS(), p)
	require.NoError(t, err)
	defer m.Close()
	good, err := os.ReadFile(p.Paths.Index)
	require.NoError(t, err)
	f, err := vfs.OS().Open(p.Paths.Index, vfs.ReadWrite, 0)
	require.NoError(t, err)
	defer f.Close()
	at := m.cur.Index.Offset(1)
	var first Entry
	for e, err := range m.Records(t.Context()) {
		require.NoError(t, err)
		first = e
		break
	}
	require.NoError(t, f.Lock(t.Context(), vfs.Exclusively))
	torn := bytes.Clone(good[at : at+20])
	torn[13] ^= 0xff
	_, err = f.WriteAt(torn, at)
	require.NoError(t, err)
	type answer struct {
		rec Record
		err error
	}
	got := make(chan answer)
	go func() {
		rec, err := m.Record(context.Background(), first.UID)
		got <- answer{rec, err}
	}()
	select {
	case <-got:
		t.Fatal("it did not wait for the writer")
	case <-time.After(50 * time.Millisecond):
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = m.Snapshot(short)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = f.WriteAt(good[at:at+20], at)
	require.NoError(t, err)
	require.NoError(t, f.Unlock())
	a := <-got
	require.NoError(t, a.err)
	require.Equal(t, first.Record, a.rec)
	_, err = f.WriteAt(torn, at)
	require.NoError(t, err)
	_, err = m.Record(t.Context(), first.UID)
	require.ErrorIs(t, err, ErrDamaged)
	_, err = m.Snapshot(t.Context())
	require.ErrorIs(t, err, ErrDamaged)
	found := 0
	for e, err := range m.Records(t.Context()) {
		if e.No == 1 {
			require.ErrorIs(t, err, ErrDamaged)
			continue
		}
		require.NoError(t, err)
		found++
	}
	require.Positive(t, found)
	for msg, err := range m.Messages(t.Context()) {
		require.Equal(t, msg.No == 1, errors.Is(err, ErrDamaged))
		found--
	}
	require.Equal(t, -1, found)
}

// TestEveryVersionOpens opens the golden mailbox of each version.
func TestEveryVersionOpens(t *testing.T) {
	for _, v := range cyrusVersions {
		p := copyGolden(t, v)
		m, err := Open(t.Context(), vfs.OS(), p)
		require.NoError(t, err)
		s, err := m.Snapshot(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, s.Messages)
		for _, msg := range s.Messages {
			rec, err := m.Record(t.Context(), msg.UID)
			require.NoError(t, err)
			require.Equal(t, msg.Flags, rec.Flags)
			_, err = m.Cache(&rec)
			require.True(t, err == nil || errors.Is(err, ErrNoCache), "%v", err)
		}
		var all []Message
		for msg, err := range m.Messages(t.Context()) {
			require.NoError(t, err)
			all = append(all, msg)
		}
		require.ElementsMatch(t, append(s.Messages, s.Expunged...), all)
		require.NoError(t, m.Close())
		require.ErrorIs(t, m.Close(), ErrClosed)
		_, err = m.Record(t.Context(), 1)
		require.ErrorIs(t, err, ErrClosed)
		require.ErrorIs(t, m.Refresh(t.Context()), ErrClosed)
		_, err = m.Snapshot(t.Context())
		require.ErrorIs(t, err, ErrClosed)
	}
}

// TestChangesInOldVersions: what a version does not record is not answered as if nothing had happened.
func TestChangesInOldVersions(t *testing.T) {
	for _, v := range cyrusVersions {
		m, err := Open(t.Context(), vfs.OS(), copyGolden(t, v))
		require.NoError(t, err)
		s, err := m.Snapshot(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, s.Expunged, "Cyrus keeps the bit in every version")
		h := s.Header.Normalized()
		since, err := m.Changes(t.Context(), h.HighestModSeq)
		require.NoError(t, err)
		require.Equal(t, h.HighestModSeq, since.HighestModSeq)
		require.Equal(t, v >= versionModSeq, since.Exact)
		require.Equal(t, v < versionModSeq, len(since.Changed) == len(s.Messages))
		require.Equal(t, v >= versionModSeq, len(since.Changed) == 0)
		older, err := m.Changes(t.Context(), h.HighestModSeq-1)
		require.NoError(t, err)
		require.Equal(t, v >= versionChecksums, older.Exact, "version %d", v)
		gone := s.Expunged[0].UID
		all, err := m.Changes(t.Context(), 0)
		require.NoError(t, err)
		require.Len(t, all.Changed, len(s.Messages))
		require.True(t, slices.ContainsFunc(all.Vanished, func(r UIDRange) bool { return r.First <= gone && gone <= r.Last }))
		require.NoError(t, m.Close())
	}
}

// TestHostileLastUID: the UIDs that are gone are told in ranges, however many a header says there were.
func TestHostileLastUID(t *testing.T) {
	p := copyGolden(t, VersionWritten)
	b, err := os.ReadFile(p.Paths.Index)
	require.NoError(t, err)
	var h Header
	require.NoError(t, h.Decode(b))
	h.LastUID, h.DeletedModSeq, h.HighestModSeq = 1<<32-1, 1<<62, 1<<63
	require.NoError(t, os.WriteFile(p.Paths.Index, append(h.Append(nil), b[h.StartOffset:]...), 0o644))
	m, err := Open(t.Context(), vfs.OS(), p)
	require.NoError(t, err)
	defer m.Close()
	c, err := m.Changes(t.Context(), 1)
	require.NoError(t, err)
	require.False(t, c.Exact)
	require.EqualValues(t, uint32(1<<32-1), c.Vanished[len(c.Vanished)-1].Last)
	require.Less(t, len(c.Vanished), 20)
}

// TestOpenDamaged: of a mailbox that does not open there is what is whole, with the reason.
func TestOpenDamaged(t *testing.T) {
	records := func(m *Mailbox) (n int) {
		for e, err := range m.Records(t.Context()) {
			if err == nil {
				_, err := m.Cache(&e.Record)
				require.NoError(t, err)
				n++
			}
		}
		return n
	}
	for name, c := range map[string]struct {
		damage func(p Place, index []byte) []byte
		class  error
		whole  int // -1 if nothing can be read
	}{
		"whole":          {func(_ Place, b []byte) []byte { return b }, nil, 4},
		"cut off":        {func(_ Place, b []byte) []byte { return b[:len(b)-1] }, ErrDamaged, 3},
		"header's bit":   {func(_ Place, b []byte) []byte { b[40] ^= 1; return b }, ErrDamaged, 4},
		"record's size":  {func(_ Place, b []byte) []byte { b[18] ^= 1; return b }, ErrDamaged, 4},
		"no header file": {func(p Place, b []byte) []byte { require.NoError(t, os.Remove(p.Paths.Header)); return b }, os.ErrNotExist, 4},
		"empty":          {func(_ Place, b []byte) []byte { return nil }, ErrDamaged, -1},
		"version":        {func(_ Place, b []byte) []byte { b[11] = 77; return b }, ErrVersion, -1},
		"no index":       {func(p Place, b []byte) []byte { require.NoError(t, os.Remove(p.Paths.Index)); return nil }, os.ErrNotExist, -1},
	} {
		t.Run(name, func(t *testing.T) {
			p := copyGolden(t, VersionWritten)
			b, err := os.ReadFile(p.Paths.Index)
			require.NoError(t, err)
			if b = c.damage(p, b); b != nil || name == "empty" {
				require.NoError(t, os.WriteFile(p.Paths.Index, b, 0o644))
			}
			_, openErr := Open(t.Context(), vfs.OS(), p)
			require.ErrorIs(t, openErr, c.class)
			m, err := OpenDamaged(t.Context(), vfs.OS(), p)
			require.ErrorIs(t, err, c.class)
			if c.whole < 0 {
				require.Nil(t, m)
				return
			}
			require.Equal(t, c.whole, records(m))
			require.ErrorIs(t, m.Refresh(t.Context()), c.class)
			require.NoError(t, m.Close())
		})
	}
}
