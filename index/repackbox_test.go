package index

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/message"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/vfstest"
	"github.com/mailspine/mailspine/skiplist"
)

// boxTime is when everything in a made mailbox happened.
const boxTime = 1_600_000_000

// seenPath is the seen database of the owner of made mailboxes.
const seenPath = "/user/u.seen"

func boxMessage(uid UID) []byte {
	return fmt.Appendf(nil, "Date: Wed, 01 Jan 2020 10:11:12 +0100\r\nFrom: A <a%d@b.example>\r\nSubject: number %d\r\n\r\n%s\r\n", uid, uid, strings.Repeat("x", int(uid)*7%90))
}

// boxFlags are the flags of a message of a made mailbox: there are kept and expunged ones, some on the archive partition,
// some of which are to go, and some that have left a copy behind.
func boxFlags(uid UID) (f Flags) {
	f = []Flags{0, FlagSeen, FlagFlagged | FlagSeen, FlagAnswered, FlagDeleted}[uid%5]
	switch uid % 6 {
	case 1:
		f |= FlagExpunged | FlagUnlinked | FlagNeedsCleanup
	case 2:
		f |= FlagExpunged
	case 3:
		f |= FlagNeedsCleanup
	}
	if uid%4 < 2 {
		f |= FlagArchived
	}
	return f
}

// makeBox makes a mailbox with n records, with wiped ones and leaks in the caches.
func makeBox(t testing.TB, fsys vfs.FS, p Place, v Version, n int) {
	for _, dir := range append(p.dirs(), p.Archive, filepath.Dir(seenPath)) {
		require.NoError(t, vfs.MkdirAll(fsys, dir, 0o755))
	}
	hf := newbox.HeaderFile
	hf.Flags = []string{"Junk", "", "$Label1"}
	write(t, fsys, p.Paths.Header, hf.Append(nil))
	h := NewHeader(v)
	h.Generation, h.UIDValidity, h.LastAppend, h.LeakedCache = 3, 7, Seconds(boxTime), 2
	h.HeaderFileCRC = hf.Checksum()
	h.Options |= OptionNeedsRepack | OptionNeedsUnlink
	if v.hasHeaderField(hRecentUID) {
		h.RecentUID, h.RecentTime = UID(n), Seconds(boxTime)
	}
	caches := [2][]byte{{0, 0, 0, 3}, {0, 0, 0, 3}}
	totals, names := NewTotals(), NewFlagSums(hf.Flags)
	var records []byte
	for i := range n {
		rec := boxRecord(t, UID(i+1), v, &caches, p.Paths.archive())
		if !rec.Flags.gone() || i%2 == 0 {
			write(t, fsys, p.Message(&rec), boxMessage(rec.UID))
		}
		if rec.Flags&FlagNeedsCleanup != 0 {
			write(t, fsys, p.Message(&Record{UID: rec.UID, Flags: rec.Flags ^ FlagArchived}), boxMessage(rec.UID))
		}
		totals.Add(&rec, v, names)
		records = rec.Append(records, v)
		if i%9 == 8 {
			records = (&Record{}).Append(records, v)
			h.NumRecords++
		}
		h.NumRecords++
	}
	h.LastUID, h.QuotaUsed = totals.LastUID, totals.QuotaUsed
	h.Deleted, h.Answered, h.Flagged = totals.Deleted, totals.Answered, totals.Flagged
	for id, set := range map[int]func(){
		hExists: func() { h.Exists = totals.Exists }, hUnseen: func() { h.Unseen = totals.Unseen },
		hHighestModSeq: func() { h.HighestModSeq = totals.HighestModSeq + 5 }, hSyncBasic: func() { h.SyncBasic = totals.SyncBasic },
		hSyncAnnot: func() { h.SyncAnnot = totals.SyncAnnot }, hFirstExpunged: func() { h.FirstExpunged = totals.FirstExpunged },
		hQuotaDeleted: func() { h.QuotaDeleted = totals.QuotaDeleted }, hQuotaExpunged: func() { h.QuotaExpunged = totals.QuotaExpunged },
	} {
		if v.hasHeaderField(id) {
			set()
		}
	}
	write(t, fsys, p.Paths.Index, append(h.Append(nil), records...))
	write(t, fsys, p.Paths.Cache, caches[0])
	if p.Paths.archive() {
		write(t, fsys, p.Paths.Archive, caches[1])
	}
	if !v.HasChecksums() {
		seen := &Seen{LastUID: UID(n), LastChange: Seconds(boxTime)}
		for uid := UID(1); int(uid) <= n; uid++ {
			if boxFlags(uid)&FlagSeen != 0 {
				seen.UIDs = appendUID(seen.UIDs, uid, uid)
			}
		}
		require.NoError(t, writeSeen(t.Context(), fsys, seenPath, hf.UniqueID, seen))
	}
	require.NoError(t, vfstest.WriteBack(fsys, "/"))
}

func boxRecord(t testing.TB, uid UID, v Version, caches *[2][]byte, archive bool) Record {
	var parser message.Parser
	text := boxMessage(uid)
	m, err := parser.Parse(bytes.NewReader(text))
	require.NoError(t, err)
	cache := m.AppendCache(nil)
	rec := Record{UID: uid, InternalDate: Seconds(boxTime), LastUpdated: Seconds(boxTime + uint32(uid)), Size: uint64(len(text)),
		HeaderSize: uint32(m.HeaderSize), Flags: boxFlags(uid), CacheVersion: message.CacheVersion}
	sent, gm := m.Dates(boxTime, time.Local)
	rec.SentDate = Seconds(uint32(sent))
	rec.UserFlags.Set(int(uid)%2*2, true)
	to := &caches[0]
	if rec.Flags&FlagArchived != 0 && archive {
		to = &caches[1]
	}
	*to = append(*to, bytes.Repeat([]byte("leak"), int(uid)%3)...)
	rec.CacheOffset = Offset(len(*to))
	*to = append(*to, cache...)
	for since, set := range map[Version]func(){
		versionModSeq: func() { rec.ModSeq = ModSeq(uid) + 10 }, versionGUID: func() { rec.GUID = m.GUID },
		versionChecksums: func() { rec.CacheCRC, rec.GMTime = checksum(cache), Seconds(uint32(gm)) },
		versionCID:       func() { rec.CID = uint64(uid % 3 * 4711) }, versionSaveDate: func() { rec.SaveDate = Seconds(boxTime + 9) },
		versionCreated: func() { rec.CreatedModSeq = ModSeq(uid) + 1 },
	} {
		if v >= since {
			set()
		}
	}
	if !v.HasChecksums() {
		rec.ContentOffset = rec.HeaderSize
		rec.Flags &^= FlagSeen | FlagExpunged | FlagUnlinked | FlagNeedsCleanup
	}
	return rec
}

// contents are all files below the root.
func contents(t testing.TB, fsys vfs.FS) map[string]string {
	all := map[string]string{}
	require.NoError(t, vfstest.Walk(fsys, "/", func(path string, isDir bool) error {
		if isDir {
			all[path] = "directory"
			return nil
		}
		all[path] = fileBytes(t, fsys, path)
		return nil
	}))
	return all
}

// boxState is what a user sees of a mailbox.
type boxState struct {
	messages []string
	uids     []UID
}

// readBox reads all messages of a mailbox as Cyrus would, whatever state a repack is in: their cache records may be
// unusable, but none may be wrong, and every message can be read.
func readBox(t testing.TB, fsys vfs.FS, p Place, why string) (s boxState) {
	f, err := OpenFiles(fsys, p.Paths)
	require.NoError(t, err, why)
	defer f.Close()
	seen, err := readSeen(t.Context(), fsys, seenPath, f.Header.UniqueID)
	require.NoError(t, err, why)
	for e, err := range f.Index.Records(1) {
		require.NoError(t, err, why)
		if e.Flags.gone() {
			continue
		}
		if !f.Index.Version().HasChecksums() {
			e.Flags &^= FlagSeen
			if seen.Has(e.UID) {
				e.Flags |= FlagSeen
			}
		}
		b, err := vfs.ReadFile(fsys, p.Message(&e.Record))
		require.NoError(t, err, why)
		require.Equal(t, string(boxMessage(e.UID)), string(b), why)
		var parser message.Parser
		m, err := parser.Parse(bytes.NewReader(b))
		require.NoError(t, err)
		switch c, err := f.CacheRecord(&e.Record); {
		case err == nil:
			require.Equal(t, string(m.AppendCache(nil)), string(c.Append(nil)), why)
		default:
			require.ErrorIs(t, err, ErrNoCache, why)
		}
		names := f.Header.FlagNames(e.Flags&^FlagSeen, e.UserFlags)
		seen := e.Flags&FlagSeen != 0 && !e.Expunged()
		s.messages = append(s.messages, fmt.Sprintf("%d %d %v seen=%t expunged=%t archived=%t", e.UID, e.InternalDate.Unix(), names, seen, e.Expunged(), e.Flags&FlagArchived != 0))
		s.uids = append(s.uids, e.UID)
	}
	return s
}

// requireWhole requires that nothing is wrong with a mailbox, and that no file of a repack is left.
func requireWhole(t testing.TB, fsys vfs.FS, p Place, v Version, why string) {
	found, err := Check(t.Context(), fsys, p, CheckOptions{Owner: "u", Contents: true})
	require.NoError(t, err, why)
	for _, f := range found {
		leak := f.Code == cacheLeak.code || f.Code == recordWiped.code || f.Code == recordBits.code
		require.True(t, f.Severity <= finding.Info && leak, "%s: %s", why, f)
	}
	for _, path := range tree(t, fsys, "/") {
		temporary := strings.HasSuffix(path, newSuffix) || strings.HasSuffix(path, oldSuffix)
		require.False(t, temporary && path != p.Paths.Header+newSuffix, "%s: %s", why, path)
	}
	f, err := OpenFiles(fsys, p.Paths)
	require.NoError(t, err, why)
	require.Equal(t, v, f.Index.Version(), why)
	require.NoError(t, f.Close())
	for _, key := range annotationKeys(t, fsys, p.Paths.Annotations) {
		require.False(t, isVirtual([]byte(key), v), "%s: %q", why, key)
	}
}

func annotationKeys(t testing.TB, fsys vfs.FS, path string) (keys []string) {
	db, err := skiplist.Open(t.Context(), path, skiplist.Options{FS: fsys, ReadOnly: true})
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.View(t.Context(), func(s *skiplist.Snapshot) error {
		for r, err := range s.All() {
			require.NoError(t, err)
			keys = append(keys, string(r.Key))
		}
		return nil
	}))
	return keys
}
