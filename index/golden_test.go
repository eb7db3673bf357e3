package index

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// golden is a mailbox that a real Cyrus 3.6.1 wrote: the bytes of its files by their names.
type golden map[string][]byte

func goldenDir(v Version) string { return filepath.Join("testdata", "real", fmt.Sprintf("v%d", v)) }

func readGolden(t testing.TB, v Version) golden {
	g := golden{}
	for _, name := range []string{HeaderName, IndexName, CacheName, AnnotationsName} {
		b, err := os.ReadFile(filepath.Join(goldenDir(v), name))
		require.NoError(t, err)
		g[name] = b
	}
	return g
}

// put writes a mailbox into a new file system.
func (g golden) put(t testing.TB) (vfs.FS, Paths) {
	fsys := simfs.New(simfs.Options{NoTrace: true, NoMap: true})
	require.NoError(t, fsys.Mkdir("/m", 0o755))
	for name, b := range g {
		write(t, fsys, "/m/"+name, b)
	}
	return fsys, PathsIn("/m")
}

func write(t testing.TB, fsys vfs.FS, path string, b []byte) {
	f, err := fsys.Open(path, vfs.ReadWrite|vfs.Create, 0o644)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(0))
	if len(b) > 0 {
		_, err = f.WriteAt(b, 0)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
}

// change decodes the index, lets edit change it, and encodes it with right checksums.
func (g golden) change(t testing.TB, edit func(h *Header, records []Record) []Record) {
	f, err := NewFile(bytes.NewReader(g[IndexName]), int64(len(g[IndexName])), "")
	require.NoError(t, err)
	var records []Record
	for e, err := range f.Records(1) {
		require.NoError(t, err)
		records = append(records, e.Record)
	}
	v := f.Version()
	records = edit(&f.Header, records)
	b := f.Header.Append(nil)
	for i := range records {
		b = records[i].Append(b, v)
	}
	g[IndexName] = b
}

// codes are the codes of findings.
func codes(found []finding.Finding) (list []string) {
	for _, f := range found {
		list = append(list, f.Code)
	}
	return list
}

// TestGolden reads what a real Cyrus 3.6.1 wrote, wherever the test runs.
func TestGolden(t *testing.T) {
	t.Parallel()
	var guids []GUID
	for _, v := range cyrusVersions {
		p := PathsIn(goldenDir(v))
		require.Equal(t, 4, sameBytes(t, p))
		checkReal(t, checkFiles(t, p))
		f, err := OpenFiles(vfs.OS(), p)
		require.NoError(t, err)
		require.Equal(t, v, f.Index.Version())
		require.Equal(t, []string{"Junk", "$Label1", "Other"}, f.Header.Flags)
		require.Equal(t, "user.u000.gold", f.Header.Name)
		require.Equal(t, []ACLEntry{{"u000", "lrswipkxtecdan"}, {"cyrus", "lrswipkxtecda"}, {"anyone", "lr"}}, f.Header.ACL)
		require.EqualValues(t, 4, f.Index.Header.LastUID)
		var ids []GUID
		for e, err := range f.Index.Records(1) {
			require.NoError(t, err)
			require.EqualValues(t, e.No, e.UID)
			require.EqualValues(t, len(smallMail[e.No-1].text), e.Size)
			require.Equal(t, Seconds(uint32(1500000000+e.No-1)), e.InternalDate)
			require.Equal(t, e.UID == 3, e.Expunged())
			require.Equal(t, e.UID == 2, e.Flags&FlagFlagged != 0)
			require.Equal(t, e.UID == 2, e.UserFlags.Has(FlagNumber(f.Header.Flags, "junk")) && e.UserFlags.Has(2))
			ids = append(ids, e.GUID)
			if v >= versionModSeq {
				require.NotZero(t, e.ModSeq)
			}
		}
		if v >= versionGUID {
			if guids == nil {
				guids = ids
			}
			require.Equal(t, guids, ids)
		}
		require.NoError(t, f.Close())
	}
	b, err := os.ReadFile(filepath.Join("testdata", "real", "counters"))
	require.NoError(t, err)
	var c Counters
	require.NoError(t, c.Decode(b))
	require.EqualValues(t, CountersVersionWritten, c.Version)
	require.NotZero(t, c.Values[CounterHighest])
	require.Equal(t, b, c.Append(nil))
}

// TestEveryBit flips every bit of a mailbox. With checksums none goes unnoticed; without, in older versions, nothing
// worse happens than that.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	for _, v := range []Version{7, 12, 17} {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			t.Parallel()
			g := readGolden(t, v)
			delete(g, AnnotationsName)
			fsys, p := g.put(t)
			p.Annotations = ""
			before := readAll(t, fsys, p)
			noticed, all := 0, 0
			for name, b := range g {
				f, err := fsys.Open("/m/"+name, vfs.ReadWrite, 0)
				require.NoError(t, err)
				for i := range b {
					for bit := range 8 {
						if v != 17 && bit%3 != i%3 {
							continue
						}
						_, err := f.WriteAt([]byte{b[i] ^ 1<<bit}, int64(i))
						require.NoError(t, err)
						all++
						if found := readAll(t, fsys, p); !slices.Equal(found, before) {
							noticed++
						} else {
							require.False(t, v.HasChecksums(), "%s: byte %d, bit %d", name, i, bit)
						}
					}
					_, err := f.WriteAt(b[i:i+1], int64(i))
					require.NoError(t, err)
				}
				require.NoError(t, f.Close())
			}
			t.Logf("version %d: %d of %d flipped bits noticed", v, noticed, all)
		})
	}
}

// readAll reads all there is of a mailbox, whatever its state, and returns what a check finds.
func readAll(t testing.TB, fsys vfs.FS, p Paths) []finding.Finding {
	found, err := CheckFiles(t.Context(), fsys, p, CheckOptions{})
	require.NoError(t, err)
	f, err := OpenFiles(fsys, p)
	if err != nil {
		require.Nil(t, f)
		require.NotEmpty(t, found, "%v", err)
		return found
	}
	for e, err := range f.Index.Records(1) {
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			continue
		}
		if _, err := f.CacheRecord(&e.Record); err != nil {
			require.ErrorIs(t, err, ErrNoCache)
		}
		if _, _, err := f.Index.Find(e.UID); err != nil && !isFormat(err) {
			require.ErrorIs(t, err, ErrNotFound)
		}
	}
	require.NoError(t, f.Close())
	return found
}

// TestTruncated cuts each file off at every byte.
func TestTruncated(t *testing.T) {
	t.Parallel()
	for _, v := range []Version{6, 10, 13, 17} {
		whole := readGolden(t, v)
		for _, name := range []string{HeaderName, IndexName, CacheName} {
			g := readGolden(t, v)
			fsys, p := g.put(t)
			before := readAll(t, fsys, p)
			f, err := fsys.Open("/m/"+name, vfs.ReadWrite, 0)
			require.NoError(t, err)
			for size := len(whole[name]) - 1; size >= 0; size-- {
				require.NoError(t, f.Truncate(int64(size)))
				found := readAll(t, fsys, p)
				require.NotEqual(t, before, found, "version %d, %s cut at %d", v, name, size)
			}
			require.NoError(t, f.Close())
		}
	}
}

// TestConverted writes a mailbox in each version, those that Cyrus 3.6 does not know included, and checks it: the fields
// that a version has say the same as before.
func TestConverted(t *testing.T) {
	t.Parallel()
	for _, v := range Versions() {
		g := readGolden(t, 17)
		f, err := NewFile(bytes.NewReader(g[IndexName]), int64(len(g[IndexName])), "")
		require.NoError(t, err)
		h, totals := f.Header, NewTotals()
		h.Version, h.StartOffset, h.RecordSize = v, uint32(v.HeaderSize()), uint32(v.RecordSize())
		var records []byte
		for e, err := range f.Records(1) {
			require.NoError(t, err)
			totals.Add(&e.Record, v, NewFlagSums(nil))
			e.ContentOffset = e.HeaderSize
			records = e.Append(records, v)
		}
		h.QuotaDeleted, h.QuotaExpunged = totals.QuotaDeleted, totals.QuotaExpunged
		require.NotZero(t, h.QuotaExpunged)
		require.NoError(t, h.Validate())
		g[IndexName] = append(h.Append(nil), records...)
		fsys, p := g.put(t)
		if v < versionCreated {
			p.Annotations = "" // cid, savedate and createdmodseq are annotations in older versions
		}
		found, err := CheckFiles(t.Context(), fsys, p, CheckOptions{Owner: "u000"})
		require.NoError(t, err)
		for _, f := range found {
			require.Equal(t, recordBits.code, f.Code, "version %d: %s", v, f)
		}
		again, err := OpenFiles(fsys, p)
		require.NoError(t, err)
		require.Equal(t, h.QuotaUsed, again.Index.Header.QuotaUsed)
		require.Equal(t, h.LastUID, again.Index.Header.LastUID)
		require.Equal(t, h.LastAppend, again.Index.Header.LastAppend)
		no, r, err := again.Index.Find(2)
		require.NoError(t, err)
		require.EqualValues(t, 2, no)
		require.EqualValues(t, len(smallMail[1].text), r.Size)
		require.Equal(t, FlagFlagged, r.Flags)
		require.NoError(t, again.Close())
	}
}
