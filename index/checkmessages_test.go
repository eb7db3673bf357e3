package index

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/vfs"
)

// withMessages makes a mailbox whose message files are there: UIDs 1, 2 and 4 are messages, 3 is expunged, and 4 is in the
// archive. change changes records.
func withMessages(t *testing.T, change ...func(*Record)) (vfs.FS, Place) {
	g := readGolden(t, 17)
	texts := map[UID][]byte{}
	g.change(t, func(h *Header, r []Record) []Record {
		names := NewFlagSums([]string{"Junk", "$Label1", "Other"})
		totals := NewTotals()
		for i := range r {
			texts[r[i].UID] = []byte(smallMail[i].text)
			require.EqualValues(t, sha1.Sum(texts[r[i].UID]), r[i].GUID)
			if r[i].UID == 4 {
				r[i].Flags |= FlagArchived
			}
			for _, f := range change {
				f(&r[i])
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
		{messageAbove, "/m/99.", func(t *testing.T, fsys vfs.FS) error { write(t, fsys, "/m/99.", []byte("new")); return nil }},
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

// TestDerived: what a message derives to is compared with its records, in an index without checksums of cache records, too.
func TestDerived(t *testing.T) {
	t.Parallel()
	check := func(fsys vfs.FS, p Place) []finding.Finding {
		found, err := Check(t.Context(), fsys, p, CheckOptions{Owner: "u000", Contents: true})
		require.NoError(t, err)
		return found
	}
	only := func(found []finding.Finding, k kind, path, detail string) {
		found = aboveInfo(found)
		require.Len(t, found, 1, "%v", found)
		require.Equal(t, k.code, found[0].Code)
		require.Equal(t, k.severity, found[0].Severity)
		require.Equal(t, path, found[0].Path)
		require.Contains(t, found[0].Detail, detail)
	}
	only(check(withMessages(t, func(r *Record) {
		if r.UID == 2 {
			r.HeaderSize--
		}
	})), messageHeader, "/m/2.", "a header of 106 bytes, and 105")

	// The cache record of another message, whole and with its own checksum.
	var first Record
	found := check(withMessages(t, func(r *Record) {
		if r.UID == 1 {
			first = *r
		}
		if r.UID == 2 {
			r.CacheOffset, r.CacheCRC = first.CacheOffset, first.CacheCRC
		}
	}))
	require.Equal(t, []string{cacheOverlap.code, messageCache.code}, codes(aboveInfo(found)))

	// Each byte of text in the cache of an index without checksums.
	g := readGolden(t, 6)
	for at := cacheHeaderSize; at < len(g[CacheName]); at++ {
		if c := g[CacheName][at]; c < 'a' || c > 'z' {
			continue
		}
		fsys, paths := golden{HeaderName: g[HeaderName], IndexName: g[IndexName], CacheName: bytes.Clone(g[CacheName])}.put(t)
		p := Place{Paths: paths, Messages: "/m"}
		for i, m := range smallMail {
			write(t, fsys, p.Message(&Record{UID: UID(i + 1)}), []byte(m.text))
		}
		require.Empty(t, aboveInfo(check(fsys, p)))
		b := bytes.Clone(g[CacheName])
		b[at] ^= 2
		write(t, fsys, p.Paths.Cache, b)
		found := aboveInfo(check(fsys, p))
		require.NotEmpty(t, found, "byte %d", at)
		require.Contains(t, []string{messageCache.code, cacheDamaged.code}, found[0].Code)
	}

	// Of a record with another version nothing can be said.
	require.Empty(t, aboveInfo(check(withMessages(t, func(r *Record) {
		if r.UID == 2 {
			r.CacheVersion = 10
		}
	}))))
}

// TestOneFlippedCacheByte: it is one finding, and no bytes are said to belong to no record.
func TestOneFlippedCacheByte(t *testing.T) {
	t.Parallel()
	g := readGolden(t, 17)
	whole := g[CacheName]
	for at := cacheHeaderSize; at < len(whole); at++ {
		g[CacheName] = bytes.Clone(whole)
		g[CacheName][at] ^= 0x10
		fsys, p := g.put(t)
		found, err := CheckFiles(t.Context(), fsys, p, CheckOptions{Owner: "u000"})
		require.NoError(t, err)
		require.Len(t, found, 1, "byte %d: %v", at, found)
		require.Contains(t, []string{cacheChecksum.code, cacheDamaged.code}, found[0].Code)
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
	require.Equal(t, []string{messageAbove.code}, codes(aboveInfo(found)))
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
