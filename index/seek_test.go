package index

import (
	"bytes"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// indexOf is a cyrus.index with records of these UIDs; 0 is a wiped one.
func indexOf(t require.TestingT, uids []UID, r func([]byte) io.ReaderAt) *File {
	h := NewHeader(VersionWritten)
	h.NumRecords, h.LastUID = uint32(len(uids)), slices.Max(append(uids, 0))
	b := h.Append(nil)
	for _, uid := range uids {
		rec := Record{UID: uid, Size: 1, GUID: GUID{1}}
		b = rec.Append(b, VersionWritten)
	}
	f, err := NewFile(r(b), int64(len(b)), "f")
	require.NoError(t, err)
	return f
}

func plain(b []byte) io.ReaderAt { return bytes.NewReader(b) }

// TestSeek compares a search with a look at all records, in files with gaps of all sizes and runs of wiped records, when
// the runs are not yet known and when they are.
func TestSeek(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var uids []UID
		last := UID(0)
		for range rapid.IntRange(0, 20).Draw(t, "pieces") {
			gap := rapid.SampledFrom([]UID{1, 1, 2, 5, 1000, 1 << 24}).Draw(t, "gap")
			for range rapid.IntRange(0, 40).Draw(t, "live") {
				last += gap
				uids = append(uids, last)
			}
			uids = append(uids, make([]UID, rapid.SampledFrom([]int{0, 0, 1, 3, 63, 64, 200}).Draw(t, "wiped"))...)
		}
		f := indexOf(t, uids, plain)
		if rapid.Bool().Draw(t, "header") {
			f.Header.LastUID = UID(rapid.Uint32().Draw(t, "last_uid"))
		}
		sought := []UID{0, 1, last, last + 1, 1<<32 - 1}
		for _, uid := range uids {
			sought = append(sought, uid-1, uid, uid+1)
		}
		for range 2 {
			for _, uid := range rapid.Permutation(sought).Draw(t, "sought") {
				want := slices.IndexFunc(uids, func(x UID) bool { return x != 0 && x >= uid })
				no, err := f.Seek(uid)
				require.NoError(t, err)
				if want < 0 {
					want = len(uids)
				}
				require.EqualValues(t, want+1, no, "UID %d", uid)
			}
		}
	})
}

// TestSeekAnyFile: in a file where UIDs are in no order a search ends, in a record of the file.
func TestSeekAnyFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uids := rapid.SliceOf(rapid.Map(rapid.Uint32(), func(x uint32) UID { return UID(x) })).Draw(t, "uids")
		f := indexOf(t, uids, plain)
		f.Header.LastUID = UID(rapid.Uint32().Draw(t, "last_uid"))
		for range 20 {
			no, err := f.Seek(UID(rapid.Uint32().Draw(t, "uid")))
			require.NoError(t, err)
			require.True(t, no >= 1 && int(no) <= len(uids)+1)
		}
	})
}

// counted counts reads.
type counted struct {
	io.ReaderAt
	reads int
}

func (c *counted) ReadAt(b []byte, off int64) (int, error) {
	c.reads++
	return c.ReaderAt.ReadAt(b, off)
}

// TestSeekLooksAtFew: a search in a large mailbox looks at few records, and in one where hundreds of thousands in a row
// were wiped all searches together look at each of those once.
func TestSeekLooksAtFew(t *testing.T) {
	const live, wiped = 20_000, 300_000
	c := &counted{}
	counting := func(b []byte) io.ReaderAt {
		c.ReaderAt = bytes.NewReader(b)
		return c
	}
	uids := make([]UID, 0, live+wiped)
	for i := range live {
		uids = append(uids, largeUID(count/2-live/2+i))
	}
	find := func(f *File) {
		c.reads = 0
		for _, uid := range uids {
			if uid == 0 {
				continue
			}
			_, rec, err := f.Find(uid)
			require.NoError(t, err)
			require.Equal(t, uid, rec.UID)
		}
	}
	find(indexOf(t, uids, counting))
	require.Less(t, c.reads, 8*live)
	uids = slices.Insert(uids, live/2, make([]UID, wiped)...)
	find(indexOf(t, uids, counting))
	require.Less(t, c.reads, wiped+live*30)
	// Runs too short to remember cost their length at most.
	short := make([]UID, 0, 64*live)
	for i := range 2000 {
		short = append(append(short, uids[i]), make([]UID, longRun-1)...)
	}
	uids = short
	find(indexOf(t, uids, counting))
	require.Less(t, c.reads, 2000*longRun*25)
}
