package index

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/internal/vfs/vfstest"
	"github.com/mailspine/mailspine/skiplist"
)

var boxOptions = RepackOptions{Seen: seenPath}

// TestRepack repacks mailboxes of all versions and compares what is in them before and after.
func TestRepack(t *testing.T) {
	t.Parallel()
	for _, v := range Versions() {
		fsys := simfs.New(simfs.Options{NoTrace: true})
		p := farPlace()
		makeBox(t, fsys, p, v, 40)
		before, files := readBox(t, fsys, p, ""), contents(t, fsys)
		dry := boxOptions
		dry.DryRun = true
		planned, err := Repack(t.Context(), fsys, p, dry)
		require.NoError(t, err)
		require.Equal(t, files, contents(t, fsys))
		done, err := Repack(t.Context(), fsys, p, boxOptions)
		require.NoError(t, err)
		require.NoError(t, done.Unfinished)
		require.Equal(t, planned, done)
		require.Equal(t, before, readBox(t, fsys, p, ""))
		requireWhole(t, fsys, p, v, "")
		f, err := OpenFiles(fsys, p.Paths)
		require.NoError(t, err)
		h := &f.Index.Header
		require.Equal(t, uint32(4), h.Generation)
		require.Zero(t, h.LeakedCache)
		require.Zero(t, h.Options&(OptionNeedsRepack|OptionNeedsUnlink))
		require.EqualValues(t, len(before.uids), h.NumRecords)
		require.Less(t, done.After, done.Before)
		require.Zero(t, done.Uncached+done.Parsed)
		if v.HasChecksums() {
			require.Equal(t, ModSeq(37+10), h.DeletedModSeq)
			require.NotZero(t, h.LastRepack)
			for e, err := range f.Index.Records(1) {
				require.NoError(t, err)
				require.Zero(t, e.Flags&(FlagUnlinked|FlagNeedsCleanup))
			}
		}
		require.NoError(t, f.Close())
		if v.hasHeaderField(hChangesEpoch) {
			require.Equal(t, Seconds(boxTime+37), h.ChangesEpoch)
		}
	}
}

// TestRepackOfLittle repacks mailboxes without messages, without a cache, and with one that cannot be used.
func TestRepackOfLittle(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, fsys *simfs.FS, p Place){
		"no cache": func(t *testing.T, fsys *simfs.FS, p Place) {
			require.NoError(t, fsys.Unlink(p.Paths.Cache))
			require.NoError(t, fsys.Unlink(p.Paths.Archive))
		},
		"zeros": func(t *testing.T, fsys *simfs.FS, p Place) { write(t, fsys, p.Paths.Cache, make([]byte, 5000)) },
		"cut":   func(t *testing.T, fsys *simfs.FS, p Place) { write(t, fsys, p.Paths.Archive, []byte{0, 0, 0, 3, 1}) },
		"garbage of a crash": func(t *testing.T, fsys *simfs.FS, p Place) {
			write(t, fsys, p.Paths.Cache+newSuffix, make([]byte, 5000))
			write(t, fsys, p.Paths.Index+newSuffix, make([]byte, 5000))
		},
	} {
		fsys := simfs.New(simfs.Options{NoTrace: true})
		p := farPlace()
		makeBox(t, fsys, p, 17, 20)
		before := readBox(t, fsys, p, name)
		spoil(t, fsys, p)
		done, err := Repack(t.Context(), fsys, p, boxOptions)
		require.NoError(t, err)
		require.Equal(t, name != "garbage of a crash", done.Parsed > 0)
		require.Zero(t, done.Uncached)
		require.Equal(t, before, readBox(t, fsys, p, name))
		requireWhole(t, fsys, p, 17, name)
	}
	fsys := simfs.New(simfs.Options{NoTrace: true})
	p := farPlace()
	makeBox(t, fsys, p, 17, 1) // and that one is to go
	_, err := Repack(t.Context(), fsys, p, boxOptions)
	require.NoError(t, err)
	requireWhole(t, fsys, p, 17, "none")
	_, err = fsys.Stat(p.Paths.Cache)
	require.ErrorIs(t, err, syscall.ENOENT, "a cache that nobody uses")

	makeBox(t, fsys, p, 17, 9)
	b, err := vfs.ReadFile(fsys, p.Paths.Index)
	require.NoError(t, err)
	b[len(b)-1] ^= 1
	write(t, fsys, p.Paths.Index, b)
	files := contents(t, fsys)
	_, err = Repack(t.Context(), fsys, p, boxOptions)
	require.ErrorIs(t, err, ErrDamaged)
	require.Equal(t, files, contents(t, fsys))
}

// conversions are the changes of version that crash and fault tests make; 0 is a repack in the version of the mailbox.
var conversions = []struct{ from, to Version }{{17, 0}, {10, 0}, {17, 14}, {14, 17}, {17, 10}, {9, 17}}

// TestRepackCrash stops the machine after every operation of a repack, of a mailbox that is spread over many directories
// and of one that is in one. What is left is the old mailbox or the new one to Cyrus, and whole once the repack was
// finished or taken back; and so it is if the machine stops again meanwhile.
func TestRepackCrash(t *testing.T) {
	t.Parallel()
	here := PlaceIn("/m")
	here.Owner = "u"
	for name, p := range map[string]Place{"far": farPlace(), "here": here} {
		for _, c := range conversions {
			t.Run(fmt.Sprintf("%s/%d to %d", name, c.from, c.to), func(t *testing.T) {
				t.Parallel()
				search := simfs.Search{Limit: 24, Samples: 12}
				if os.Getenv("MAILSPINE_CAMPAIGN") != "" {
					search = simfs.Search{Limit: 512, Samples: 100}
				}
				repackCrash(t, p, c.from, c.to, search)
			})
		}
	}
}

// boxToConvert makes a mailbox of n messages, with the annotations that a conversion has to do with, and tells of which version
// it is in the end.
func boxToConvert(t *testing.T, p Place, from, to Version, n int) (fsys *simfs.FS, end Version) {
	fsys = simfs.New(simfs.Options{})
	makeBox(t, fsys, p, from, n)
	if to == 0 {
		to = from
	}
	if from != to && from < 17 {
		addAnnotations(t, fsys, p, from)
		require.NoError(t, vfstest.WriteBack(fsys, "/"))
	}
	return fsys, to
}

func repackCrash(t *testing.T, p Place, from, to Version, search simfs.Search) {
	fsys, end := boxToConvert(t, p, from, to, 9)
	before, files := readBox(t, fsys, p, ""), contents(t, fsys)
	began := fsys.Ops()
	_, err := repackTo(t.Context(), fsys, p, to, boxOptions)
	require.NoError(t, err)
	fsys.Mark("done")
	search.From = began
	images, old := 0, 0
	for image := range fsys.Trace().Images(search) {
		images++
		done := slices.Contains(image.Marks, "done")
		require.Equal(t, before, readBox(t, image.FS, p, image.Seed), image.Seed)
		again := image.Ops()
		found := finishSomehow(t, image.FS, p, images, image.Seed)
		f, err := OpenFiles(image.FS, p.Paths)
		require.NoError(t, err, image.Seed)
		now, generation := f.Index.Version(), f.Index.Header.Generation
		require.NoError(t, f.Close())
		if generation == 3 {
			require.False(t, done, image.Seed)
			old++
			require.Equal(t, from, now, image.Seed)
			requireNothingLeft(t, image.FS, p, found, image.Seed)
			requireSameFiles(t, p, files, contents(t, image.FS), image.Seed)
			_, err := Repack(t.Context(), image.FS, p, boxOptions)
			require.NoError(t, err, image.Seed)
		} else {
			require.Equal(t, end, now, image.Seed)
		}
		require.Equal(t, before, readBox(t, image.FS, p, image.Seed), image.Seed)
		requireWhole(t, image.FS, p, now, image.Seed)
		if images%40 != 0 {
			continue
		}
		for second := range image.Trace().Images(simfs.Search{From: again, Limit: 4, Samples: 4, Seed: uint64(images)}) {
			why := image.Seed + " then " + second.Seed
			require.Equal(t, before, readBox(t, second.FS, p, why), why)
			finishSomehow(t, second.FS, p, images/40, why)
			require.Equal(t, before, readBox(t, second.FS, p, why), why)
		}
	}
	for image := range fsys.Trace().Kills() {
		if image.Op < began {
			continue
		}
		images++
		require.Equal(t, before, readBox(t, image.FS, p, image.Seed), image.Seed)
		finishSomehow(t, image.FS, p, images, image.Seed)
		require.Equal(t, before, readBox(t, image.FS, p, image.Seed), image.Seed)
		_, err := repackTo(t.Context(), image.FS, p, to, boxOptions)
		require.NoError(t, err, image.Seed)
		requireWhole(t, image.FS, p, end, image.Seed)
	}
	t.Logf("%d images, %d of the old mailbox", images, old)
	require.Positive(t, old)
	require.Greater(t, images, old)
}

// finishSomehow finishes or takes back a repack in one of the ways that there are, and tells whether that removes what
// was left before the repack counted.
func finishSomehow(t *testing.T, fsys vfs.FS, p Place, way int, why string) bool {
	if way%2 == 0 {
		_, err := FinishRepack(t.Context(), fsys, p, OpenOptions{})
		require.NoError(t, err, why)
		return false
	}
	found, err := RecoverJournal(t.Context(), fsys, p.Journal, OpenOptions{})
	require.NoError(t, err, why)
	for _, r := range found {
		require.NotEqual(t, Overtaken, r.Outcome, why)
	}
	return true
}

// requireNothingLeft requires that none of the files of a repack is left.
func requireNothingLeft(t *testing.T, fsys vfs.FS, p Place, all bool, why string) {
	for _, path := range append(p.cachePaths(), p.Paths.Index) {
		for _, suffix := range []string{oldSuffix, newSuffix} {
			if suffix == newSuffix && !all { // garbage of which no recovery was asked
				require.NoError(t, ignoreMissing(fsys.Unlink(path+suffix)))
			}
			_, err := fsys.Stat(path + suffix)
			require.ErrorIs(t, err, syscall.ENOENT, "%s: %s", why, path+suffix)
		}
	}
}

// addAnnotations gives a mailbox the annotations that fields of later versions become, and one of a user.
func addAnnotations(t testing.TB, fsys vfs.FS, p Place, v Version) {
	f, err := OpenFiles(fsys, p.Paths)
	require.NoError(t, err)
	defer f.Close()
	db, err := skiplist.Open(t.Context(), p.Paths.Annotations, skiplist.Options{FS: fsys, Create: true})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.Update(t.Context(), func(tx *skiplist.Tx) error {
		for e, err := range f.Index.Records(1) {
			require.NoError(t, err)
			for i := range virtuals {
				virtual := &virtuals[i]
				if v < virtual.since {
					require.NoError(t, tx.Put(virtual.key(e.UID), appendAnnotation(nil, fmt.Sprint(e.UID), 1)))
				}
			}
		}
		return tx.Put([]byte("3\x00/comment\x00\x00"), appendAnnotation(nil, "a comment", 1))
	}))
	if !v.hasHeaderField(hSyncAnnot) {
		return
	}
	sums, err := readAnnotations(t.Context(), fsys, p.Paths.Annotations, "u")
	require.NoError(t, err)
	h := f.Index.Header
	for e, err := range f.Index.Records(1) {
		require.NoError(t, err)
		if !e.Expunged() {
			h.SyncAnnot ^= sums[e.UID].sum
			h.QuotaAnnot += sums[e.UID].bytes
		}
	}
	index, err := fsys.Open(p.Paths.Index, vfs.ReadWrite, 0)
	require.NoError(t, err)
	_, err = index.WriteAt(h.Append(nil), 0)
	require.NoError(t, err)
	require.NoError(t, index.Close())
}

// TestRepackFaults fails every call of a repack, once and from then on. After an error the mailbox is as it was to the
// byte, unless the disk refuses that, too; then the next one finds out what to do.
func TestRepackFaults(t *testing.T) {
	t.Parallel()
	for _, c := range conversions {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
			t.Run(fmt.Sprintf("%d to %d, %v", c.from, c.to, errno), func(t *testing.T) {
				t.Parallel()
				repackFaults(t, c.from, c.to, &faultfs.Plan{Err: errno})
				repackFaults(t, c.from, c.to, &faultfs.Plan{Err: errno, Mode: faultfs.Onwards})
				if errno == syscall.EIO {
					repackFaults(t, c.from, c.to, &faultfs.Plan{Err: errno, After: true})
				}
			})
		}
	}
}

func repackFaults(t *testing.T, from, to Version, like *faultfs.Plan) {
	p := farPlace()
	base, end := boxToConvert(t, p, from, to, 7)
	before, files := readBox(t, base, p, ""), contents(t, base)
	like.Short = faultfs.Half
	if like.Mode != faultfs.Once {
		like.Short = faultfs.ThreeBytes // a database refuses a head that is half written and cannot be restored
	}
	like.Kinds = faultfs.Modifying | faultfs.Stat | faultfs.Open | faultfs.Read
	for n, fired := 0, true; fired; n++ {
		fsys := base.Kill()
		plan := like.At(n)
		why := plan.String()
		done, err := repackTo(t.Context(), faultfs.Wrap(fsys, plan), p, to, boxOptions)
		fired = plan.Fired()
		var unsure *vfs.NotDurableError
		switch {
		case err == nil: // there was no fault, or none that matters, or only clearing away has failed
			require.NotNil(t, done, why)
		case like.Mode == faultfs.Once && !errors.As(err, &unsure):
			require.ErrorIs(t, err, like.Err, why)
			requireSameFiles(t, p, files, contents(t, fsys), why)
		default:
			require.ErrorIs(t, err, like.Err, why)
		}
		require.Equal(t, before, readBox(t, fsys, p, why), why)
		finishSomehow(t, fsys, p, n, why)
		require.Equal(t, before, readBox(t, fsys, p, why), why)
		_, err = repackTo(t.Context(), fsys, p, to, boxOptions)
		require.NoError(t, err, why)
		require.Equal(t, before, readBox(t, fsys, p, why), why)
		requireWhole(t, fsys, p, end, why)
	}
}

// TestRepackMemory repacks a large mailbox: what it needs of memory does not grow with it.
func TestRepackMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a large mailbox")
	}
	dir := t.TempDir()
	p := PlaceIn(dir)
	p.Journal = ""
	const n = 60_000
	makeLargeBox(t, p, n)
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	most, calls := uint64(0), 0
	began := time.Now()
	done, err := Repack(t.Context(), vfs.OS(), p, RepackOptions{Progress: func(string, int64, int64) {
		if calls++; calls%16 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
		}
	}})
	require.NoError(t, err)
	require.NoError(t, done.Unfinished)
	require.EqualValues(t, n, done.Records)
	require.Greater(t, calls, 100)
	t.Logf("%d records in %v; %d bytes at most", n, time.Since(began), int64(most)-int64(before.HeapAlloc))
	require.Less(t, int64(most)-int64(before.HeapAlloc), int64(4<<20))
}

// makeLargeBox makes a mailbox without message files, all of whose records are the same message.
func makeLargeBox(t *testing.T, p Place, n int) {
	hf := newbox.HeaderFile
	write(t, vfs.OS(), p.Paths.Header, hf.Append(nil))
	caches := [2][]byte{{0, 0, 0, 0}}
	rec := boxRecord(t, 1, 17, &caches, true)
	cache := caches[0]
	if len(cache) == 4 {
		cache = append([]byte{0, 0, 0, 0}, caches[1]...)
	}
	rec.Flags, rec.UserFlags = 0, UserFlags{}
	h := NewHeader(17)
	h.UIDValidity, h.NumRecords, h.LastUID, h.HighestModSeq = 7, uint32(n), UID(n), ModSeq(n)+100
	var records []byte
	size := len(cache) - int(rec.CacheOffset)
	for i := range n {
		rec.UID = UID(i + 1)
		if i > 0 {
			rec.CacheOffset = Offset(len(cache))
			cache = append(cache, cache[4:4+size]...)
		}
		records = rec.Append(records, 17)
	}
	write(t, vfs.OS(), p.Paths.Index, append(h.Append(nil), records...))
	write(t, vfs.OS(), p.Paths.Cache, cache)
}

// requireSameFiles compares all files but the databases beside the mailbox and the journal: what was put into them and
// taken out again means nothing, and leaves traces.
func requireSameFiles(t *testing.T, p Place, want, got map[string]string, why string) {
	want, got = maps.Clone(want), maps.Clone(got)
	for _, m := range []map[string]string{want, got} {
		maps.DeleteFunc(m, func(path, _ string) bool {
			return slices.ContainsFunc([]string{p.Journal, p.Paths.Annotations, seenPath}, func(of string) bool { return strings.HasPrefix(path, of) })
		})
	}
	require.Equal(t, want, got, why)
}

// TestRepackFull has a repack find less and less space. Where it is not enough, every byte is as it was.
func TestRepackFull(t *testing.T) {
	t.Parallel()
	p := farPlace()
	for _, delayed := range []bool{false, true} {
		base := simfs.New(simfs.Options{Blocks: 4096, DelayedAlloc: delayed})
		makeBox(t, base, p, 17, 60)
		before, files := readBox(t, base, p, ""), contents(t, base)
		refused, done := 0, 0
		for keep := int64(0); keep < 16; keep++ {
			fsys := base.Kill()
			fsys.FillUp(keep, false)
			_, err := Repack(t.Context(), fsys, p, boxOptions)
			if err != nil {
				require.ErrorIs(t, err, syscall.ENOSPC)
				requireSameFiles(t, p, files, contents(t, fsys), "full")
				refused++
			} else {
				done++
			}
			require.Equal(t, before, readBox(t, fsys, p, ""))
		}
		require.Positive(t, refused)
		require.Positive(t, done)
	}
}
