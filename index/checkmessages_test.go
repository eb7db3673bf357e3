package index

import (
	"crypto/sha1"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/vfs"
)

// withMessages makes a mailbox whose message files are there: UIDs 1, 2 and 4 are messages, 3 is expunged, and 4 is in the
// archive.
func withMessages(t *testing.T) (vfs.FS, Place) {
	g := readGolden(t, 17)
	texts := map[UID][]byte{}
	g.change(t, func(h *Header, r []Record) []Record {
		names := NewFlagSums([]string{"Junk", "$Label1", "Other"})
		totals := NewTotals()
		for i := range r {
			texts[r[i].UID] = []byte(strings.Repeat("x", int(r[i].Size)))
			r[i].GUID = sha1.Sum(texts[r[i].UID])
			if r[i].UID == 4 {
				r[i].Flags |= FlagArchived
			}
			totals.Add(&r[i], h.Version, names)
		}
		h.SyncBasic = totals.SyncBasic
		return r
	})
	fsys, paths := g.put(t)
	require.NoError(t, fsys.Mkdir("/a", 0o755))
	p := Place{Paths: paths, Messages: "/m", Archive: "/a"}
	p.Paths.Archive = "/a/cyrus.cache"
	write(t, fsys, p.Paths.Archive, g[CacheName])
	for uid, text := range texts {
		write(t, fsys, p.Message(&Record{UID: uid, Flags: map[bool]Flags{true: FlagArchived}[uid == 4]}), text)
	}
	return fsys, p
}

// TestMessageFindings damages the spool in each way that a check has to see.
func TestMessageFindings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind kind
		path string
		do   func(t *testing.T, fsys vfs.FS) error
	}{
		{messageMissing, "/m/2.", func(_ *testing.T, fsys vfs.FS) error { return fsys.Unlink("/m/2.") }},
		{messageMissing, "/a/4.", func(_ *testing.T, fsys vfs.FS) error { return fsys.Rename("/a/4.", "/a/x") }},
		{messageSize, "/m/1.", func(t *testing.T, fsys vfs.FS) error { write(t, fsys, "/m/1.", []byte("short")); return nil }},
		{messageSize, "/a/4.", func(t *testing.T, fsys vfs.FS) error { write(t, fsys, "/a/4.", nil); return nil }},
		{messageGUID, "/m/2.", func(t *testing.T, fsys vfs.FS) error {
			write(t, fsys, "/m/2.", []byte(strings.Repeat("y", 108)))
			return nil
		}},
		{messageExpunged, "/m/3.", func(_ *testing.T, fsys vfs.FS) error { return fsys.Unlink("/m/3.") }},
		{messageUnknown, "/m/99.", func(t *testing.T, fsys vfs.FS) error { write(t, fsys, "/m/99.", []byte("new")); return nil }},
		{messageUnknown, "/a/1.", func(t *testing.T, fsys vfs.FS) error { write(t, fsys, "/a/1.", []byte("twice")); return nil }},
	} {
		t.Run(fmt.Sprint(c.kind.code, c.path), func(t *testing.T) {
			fsys, p := withMessages(t)
			opts := CheckOptions{Owner: "u000", Contents: true}
			found, err := Check(t.Context(), fsys, p, opts)
			require.NoError(t, err)
			require.Empty(t, aboveInfo(found))
			require.NoError(t, c.do(t, fsys))
			found, err = Check(t.Context(), fsys, p, opts)
			require.NoError(t, err)
			found = aboveInfo(found)
			require.Len(t, found, 1)
			require.Equal(t, c.kind.code, found[0].Code)
			require.Equal(t, c.kind.severity, found[0].Severity)
			require.Equal(t, c.path, found[0].Path)
		})
	}
}

// TestMessageNames checks that other files in the directory of a mailbox are not taken for messages.
func TestMessageNames(t *testing.T) {
	t.Parallel()
	fsys, p := withMessages(t)
	for _, name := range []string{"0.", "05.", "5", "5.x", "-5.", "4294967296.", "cyrus.squat"} {
		write(t, fsys, "/m/"+name, []byte("x"))
	}
	require.NoError(t, fsys.Mkdir("/m/7.", 0o755))
	found, err := Check(t.Context(), fsys, p, CheckOptions{Owner: "u000"})
	require.NoError(t, err)
	require.Empty(t, aboveInfo(found))
	write(t, fsys, "/m/4294967295.", []byte("x"))
	found, err = Check(t.Context(), fsys, p, CheckOptions{Owner: "u000"})
	require.NoError(t, err)
	require.Equal(t, []string{messageUnknown.code}, codes(aboveInfo(found)))
}

// aboveInfo leaves out what needs no action.
func aboveInfo(found []finding.Finding) (list []finding.Finding) {
	for _, f := range found {
		if f.Severity > finding.Info {
			list = append(list, f)
		}
	}
	return list
}
