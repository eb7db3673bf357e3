package skiplist_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

// The windows are the weak points of Cyrus's skiplist that docs/format/skiplist.md lists under their letters. Each test
// shows that ours does not get there and, where Cyrus leaves files in such a state, that ours reads what was committed,
// says what is wrong, and leaves a file that Cyrus takes.

// v1 are the options of these tests.
var v1 = skiplist.Options{Format: skiplist.Skiplist, Reserve: -1, ManualCheckpoint: true}

// window makes a file with checkpointed records, a log, and records of several levels; its contents as "key=value".
func window(t *testing.T) (path string, b []byte, want []string) {
	path = filepath.Join(t.TempDir(), "db")
	opts := v1
	opts.Create = true
	level := uint64(0)
	opts.Random = func() uint64 { level++; return 1 << (level % 3) }
	db, err := skiplist.Open(ctx, path, opts)
	require.NoError(t, err)
	for i := range 12 {
		require.NoError(t, db.Put(ctx, fmt.Appendf(nil, "user.%02d", i), fmt.Appendf(nil, "value %d", i)))
		if i == 7 {
			require.NoError(t, db.Checkpoint(ctx))
		}
	}
	require.NoError(t, db.Delete(ctx, []byte("user.03")))
	want = listOf(t, db)
	require.NoError(t, db.Close())
	return path, readFile(t, path), want
}

func readFile(t *testing.T, path string) []byte {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

func listOf(t *testing.T, db *skiplist.DB) (list []string) {
	require.NoError(t, db.View(ctx, func(s *skiplist.Snapshot) error {
		for k, v := range contents(t, s) {
			list = append(list, k+"="+v)
		}
		return nil
	}))
	slices.Sort(list)
	return list
}

func word(b []byte, off int) uint32 { return binary.BigEndian.Uint32(b[off:]) }

func setWord(b []byte, off int, n uint32) []byte {
	binary.BigEndian.PutUint32(b[off:], n)
	return b
}

// tail is an ADD as Cyrus appends it, without its COMMIT.
func tail(key, value string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 2}, uint32(len(key)))
	b = append(append(b, key...), make([]byte, -len(key)&3)...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	b = append(append(b, value...), make([]byte, -len(value)&3)...)
	return append(b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff)
}

// requireFinding checks a file and wants a finding.
func requireFinding(t *testing.T, path, code string) {
	found, err := skiplist.Check(ctx, path, v1)
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(found, func(f skiplist.Finding) bool {
		return f.Code == code && f.Severity > skiplist.Info && f.Path == path
	}), "%s: %v", code, found)
}

// mends holds that a file in the state b is read as want, without a change to it, that a check finds code, that the next
// write mends it, and that Cyrus, which then has no reason to recover it, lists the same, searches it, and adds to it.
func mends(t *testing.T, b []byte, want []string, code string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "left")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	requireFinding(t, path, code)
	opts := v1
	opts.ReadOnly = true
	db, err := skiplist.Open(ctx, path, opts)
	require.NoError(t, err)
	require.Equal(t, want, listOf(t, db))
	require.NoError(t, db.Close())
	require.Equal(t, b, readFile(t, path), "a reader has changed the file")

	db, err = skiplist.Open(ctx, path, v1)
	require.NoError(t, err)
	require.NoError(t, db.Put(ctx, []byte("zz"), []byte("new")))
	want = append(slices.Clone(want), "zz=new")
	require.Equal(t, want, listOf(t, db))
	require.NoError(t, db.Close())
	checkClean(t, path, v1)
	takenByCyrus(t, path, want)
}

// takenByCyrus has real Cyrus, if it is here, list a file, change it much, and find it consistent.
func takenByCyrus(t *testing.T, path string, want []string) {
	t.Run("Cyrus", func(t *testing.T) {
		db := libcyrus(t, path)
		before := readFile(t, path)
		records, err := db.Foreach(nil, 0)
		require.NoError(t, err)
		var list []string
		for _, r := range records {
			list = append(list, string(r.Key)+"="+string(r.Value))
		}
		require.Equal(t, want, list)
		require.NoError(t, db.Consistent())
		require.Equal(t, before, readFile(t, path), "Cyrus has recovered it")
		for i := range 100 {
			require.NoError(t, db.Store(fmt.Appendf(nil, "c%02d", i*37%100), []byte("by Cyrus")))
		}
		require.NoError(t, db.Consistent())
		require.NoError(t, db.Close())
		ours, err := skiplist.Open(ctx, path, v1)
		require.NoError(t, err)
		require.Len(t, listOf(t, ours), len(want)+100)
		require.NoError(t, ours.Close())
		checkClean(t, path, v1)
	})
}

// libcyrus opens a file with real Cyrus, which sees no reason to recover it but its tail.
func libcyrus(t *testing.T, path string) *realcyrus.OracleDB {
	realcyrus.NeedOracle(t)
	dir := realcyrus.TempDir(t)
	require.NoError(t, realcyrus.WriteSkipstamp(filepath.Join(dir, "imapd.conf"), time.Unix(1_000_000_000, 0)))
	db, err := realcyrus.StartOracle(t, realcyrus.OracleOptions{ConfDir: filepath.Join(dir, "conf")}).Open("skiplist", path, 0)
	require.NoError(t, err)
	return db
}

// refuses holds that writers refuse a damaged file, that readers get prefix and are told, and that a salvage brings out
// saved. It returns the salvaged file.
func refuses(t *testing.T, b []byte, prefix, saved []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "left")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	requireFinding(t, path, "damaged")
	_, err := skiplist.Open(ctx, path, v1)
	require.ErrorIs(t, err, skiplist.ErrDamaged)
	var where *skiplist.FormatError
	require.ErrorAs(t, err, &where)
	require.Equal(t, path, where.Path)
	opts := v1
	opts.ReadOnly, opts.AllowDamaged = true, true
	db, err := skiplist.Open(ctx, path, opts)
	require.NoError(t, err)
	for _, p := range prefix {
		key, value, _ := strings.Cut(p, "=")
		got, err := db.Get(ctx, []byte(key))
		require.ErrorIs(t, err, skiplist.ErrDamaged)
		require.Equal(t, value, string(got))
	}
	require.NoError(t, db.Close())
	out := path + ".out"
	_, err = skiplist.Salvage(ctx, path, out, skiplist.SalvageOptions{Options: v1})
	require.NoError(t, err)
	require.Equal(t, b, readFile(t, path))
	rescued := open(t, out, v1)
	require.Equal(t, saved, listOf(t, rescued))
	require.NoError(t, rescued.Close())
	takenByCyrus(t, out, saved)
}

// faults runs a call on a fresh copy of the file b with every write, sync and other change in turn failing, in
// several length classes, once and for ever, and gives the test what the call returned and the file.
func faults(t *testing.T, b []byte, kinds faultfs.Kind, suffix string, call func(*skiplist.DB) error, then func(t *testing.T, path string, err error, mode faultfs.Mode)) {
	total := 0
	for _, short := range []faultfs.Short{faultfs.Nothing, faultfs.ThreeBytes, faultfs.AllButOne} {
		for _, mode := range []faultfs.Mode{faultfs.Once, faultfs.Onwards} {
			for n := 0; ; n++ {
				path := filepath.Join(t.TempDir(), "db")
				require.NoError(t, os.WriteFile(path, b, 0o600))
				plan := &faultfs.Plan{N: n, Kinds: kinds, Suffix: suffix, Err: syscall.ENOSPC, Short: short, Mode: mode}
				opts := v1
				opts.FS = faultfs.Wrap(vfs.OS(), plan)
				db, err := skiplist.Open(ctx, path, opts)
				require.NoError(t, err)
				err = call(db)
				plan.Stop()
				fired := plan.Fired()
				_ = db.Close()
				if !fired {
					require.NoError(t, err)
					break
				}
				total++
				then(t, path, err, mode)
			}
		}
	}
	require.Positive(t, total)
}

// failedInvisible has the put of a key fail at every call of the kinds: nobody ever sees it, and the next put works.
func failedInvisible(t *testing.T, kinds faultfs.Kind) {
	_, b, want := window(t)
	faults(t, b, kinds, "", func(db *skiplist.DB) error { return db.Put(ctx, []byte("a"), []byte("x")) }, func(t *testing.T, path string, err error, mode faultfs.Mode) {
		db, openErr := skiplist.Open(ctx, path, v1)
		require.NoError(t, openErr)
		with := append([]string{"a=x"}, want...)
		switch {
		case err == nil:
			require.Equal(t, with, listOf(t, db))
		case errors.Is(err, skiplist.ErrCommitUnknown):
			require.Equal(t, faultfs.Onwards, mode, "one failure does not make a commit unknown: %v", err)
			require.Contains(t, [][]string{want, with}, listOf(t, db))
		default:
			require.Equal(t, want, listOf(t, db))
		}
		require.NoError(t, db.Put(ctx, []byte("b"), []byte("y")))
		require.NoError(t, db.Close())
		checkClean(t, path, v1)
	})
}

// TestWindowA: an incomplete checkpoint is renamed over the good file.
func TestWindowA(t *testing.T) {
	t.Parallel()
	_, before, want := window(t)
	faults(t, before, faultfs.Modifying, "", func(db *skiplist.DB) error { return db.Checkpoint(ctx) }, func(t *testing.T, path string, err error, mode faultfs.Mode) {
		db, openErr := skiplist.Open(ctx, path, v1)
		require.NoError(t, openErr)
		require.Equal(t, want, listOf(t, db))
		require.NoError(t, db.Close())
		if err != nil && len(readFile(t, path)) == len(before) {
			require.Equal(t, before, readFile(t, path))
		}
		checkClean(t, path, v1)
	})
	path, _, _ := window(t)
	db := open(t, path, v1)
	require.NoError(t, db.Checkpoint(ctx))
	b := readFile(t, path)
	first := slices.Index(b[144:], 1) + 144 - 3
	boundary := first + 3*40 // three records of level 1 to 3 end somewhere about here
	for cut := boundary; cut < len(b)-44; cut += 4 {
		if word(b, cut-4) != 0xffffffff {
			continue
		}
		short := setWord(slices.Clone(b[:cut]), 40, uint32(cut)) // whole records, and links beyond the end
		n := 0
		for _, p := range want {
			if strings.Contains(string(short), p[:7]) {
				n++
			}
		}
		mends(t, short, want[:n], "link")
		torn := setWord(slices.Clone(b[:cut+10]), 40, uint32(cut+10)) // a part of a record
		refuses(t, torn, want[:n], want[:n])
		return
	}
	require.Fail(t, "no place to cut")
}

// TestWindowB: the COMMIT word is not written, or in part, and the commit reported as a success.
func TestWindowB(t *testing.T) {
	t.Parallel()
	failedInvisible(t, faultfs.Write)
	_, b, want := window(t)
	for n := range 4 {
		left := append(append(slices.Clone(b), tail("k3", "v3")...), []byte{0, 0, 0, 0xff}[:n]...)
		mends(t, left, want, "torn")
		path := filepath.Join(t.TempDir(), "left")
		require.NoError(t, os.WriteFile(path, left, 0o600))
		_, err := skiplist.Salvage(ctx, path, path+".out", skiplist.SalvageOptions{Options: v1, Uncommitted: true})
		require.NoError(t, err)
		require.Equal(t, append([]string{"k3=v3"}, want...), listOf(t, open(t, path+".out", v1)))
	}
}

// TestWindowC: a link is not written, and nobody asks.
func TestWindowC(t *testing.T) {
	t.Parallel()
	failedInvisible(t, faultfs.Write)
	_, b, want := window(t)
	for level := range 3 { // the DUMMY's links
		mends(t, setWord(slices.Clone(b), 60+4*level, 0), want, "link")
	}
}

// TestWindowD: the append fails or is short.
func TestWindowD(t *testing.T) {
	t.Parallel()
	failedInvisible(t, faultfs.Write|faultfs.Allocate|faultfs.Truncate)
	_, b, want := window(t)
	full := tail("part", "of a record")
	for n := 1; n < len(full); n += 5 {
		mends(t, append(slices.Clone(b), full[:n]...), want, "torn")
	}
}

// TestWindowE: readers see the half transaction of a process that has died.
func TestWindowE(t *testing.T) {
	t.Parallel()
	path, b, want := window(t)
	db, err := skiplist.Open(ctx, path, v1)
	require.NoError(t, err)
	require.ErrorIs(t, db.Update(ctx, func(tx *skiplist.Tx) error {
		require.NoError(t, tx.Put([]byte("a"), []byte("x")))
		require.Equal(t, b, readFile(t, path), "something is written before the commit")
		return errors.ErrUnsupported
	}), errors.ErrUnsupported)
	require.Equal(t, b, readFile(t, path))
	require.NoError(t, db.Close())

	realcyrus.NeedOracle(t)
	dir := realcyrus.TempDir(t)
	require.NoError(t, realcyrus.WriteSkipstamp(filepath.Join(dir, "imapd.conf"), time.Unix(1_000_000_000, 0)))
	o := realcyrus.StartOracle(t, realcyrus.OracleOptions{ConfDir: filepath.Join(dir, "conf")})
	theirs, err := o.Open("skiplist", path, 0)
	require.NoError(t, err)
	require.NoError(t, theirs.Begin())
	require.NoError(t, theirs.Store([]byte("a"), []byte("half")))
	require.NoError(t, theirs.Store([]byte("user.05"), []byte("half")))
	require.NoError(t, theirs.Delete([]byte("user.06"), true))
	o.Kill()
	_ = o.Wait()
	left := readFile(t, path)
	require.Greater(t, len(left), len(b))
	mends(t, left, want, "torn")
}

// TestWindowF: after a power cut links are on the disk that lead to records which are not.
func TestWindowF(t *testing.T) {
	t.Parallel()
	path, b, want := window(t)
	db := open(t, path, v1)
	require.NoError(t, db.Put(ctx, []byte("a"), []byte("first")))
	require.NoError(t, db.Put(ctx, []byte("user.05"), []byte("replaced")))
	require.NoError(t, db.Close())
	left := readFile(t, path)
	mends(t, left[:len(b)], want, "link")
	clear(left[len(b):])
	mends(t, left, want, "torn")
}

// TestWindowG: the size has grown and the data are not there, so that zeros follow the last commit.
func TestWindowG(t *testing.T) {
	t.Parallel()
	_, b, want := window(t)
	for _, left := range [][]byte{
		append(slices.Clone(b), make([]byte, 4096-len(b)%4096)...),
		append(slices.Clone(b), make([]byte, 7)...),
		append(append(slices.Clone(b), make([]byte, 512)...), "and what is no record"...),
	} {
		mends(t, left, want, "torn")
	}
}

// TestWindowH: a damaged type word in the log, and good commits behind it, which Cyrus throws away.
func TestWindowH(t *testing.T) {
	t.Parallel()
	_, b, want := window(t)
	hit := strings.Index(string(b), "user.09") - 8
	require.EqualValues(t, 2, word(b, hit))
	without := slices.DeleteFunc(slices.Clone(want), func(p string) bool { return strings.HasPrefix(p, "user.09") })
	prefix := slices.DeleteFunc(slices.Clone(want), func(p string) bool { return p >= "user.09" })
	refuses(t, setWord(b, hit, 0x10002), prefix, without)
}

// TestWindowI: the creation was interrupted, and no program opens the file any more.
func TestWindowI(t *testing.T) {
	t.Parallel()
	for n := 0; ; n++ {
		path := filepath.Join(t.TempDir(), "db")
		plan := &faultfs.Plan{N: n, Kinds: faultfs.Modifying, Err: syscall.ENOSPC, Mode: faultfs.Onwards, Short: faultfs.Half}
		opts := v1
		opts.FS = faultfs.Wrap(vfs.OS(), plan)
		err := skiplist.Create(ctx, path, opts)
		plan.Stop()
		if !plan.Fired() {
			require.NoError(t, err)
			break
		}
		if _, statErr := os.Stat(path); statErr == nil {
			checkClean(t, path, v1)
		}
	}
	path := filepath.Join(t.TempDir(), "db")
	require.NoError(t, skiplist.Create(ctx, path, v1))
	empty := readFile(t, path)
	for n := 1; n < len(empty); n++ {
		require.NoError(t, os.WriteFile(path, empty[:n], 0o600))
		_, err := skiplist.Open(ctx, path, v1)
		var where *skiplist.FormatError
		require.ErrorAs(t, err, &where)
		if errors.Is(err, skiplist.ErrNotDatabase) {
			require.Less(t, n, 20, "the magic is there")
		} else {
			requireFinding(t, path, "damaged")
		}
		require.Equal(t, empty[:n], readFile(t, path))
	}
	out := path + ".out"
	_, err := skiplist.Salvage(ctx, path, out, skiplist.SalvageOptions{Options: v1})
	require.NoError(t, err)
	takenByCyrus(t, out, nil)
}

// TestWindowJ: curlevel is too low, and Cyrus's insertions put the upper levels out of order.
func TestWindowJ(t *testing.T) {
	t.Parallel()
	_, b, want := window(t)
	require.EqualValues(t, 3, word(b, 32))
	for _, low := range []uint32{0, 1, 2} {
		mends(t, setWord(slices.Clone(b), 32, low), want, "header")
	}
}

// TestWindowK: a checkpoint empties the old file under those who still read it.
func TestWindowK(t *testing.T) {
	t.Parallel()
	path, b, want := window(t)
	old, err := os.Open(path)
	require.NoError(t, err)
	defer old.Close()
	db := open(t, path, v1)
	s, err := db.Snapshot(ctx)
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, db.Put(ctx, []byte("a"), []byte("x")))
	require.NoError(t, db.Checkpoint(ctx))
	require.Len(t, contents(t, s), len(want))
	again := make([]byte, len(b))
	_, err = old.ReadAt(again, 0)
	require.NoError(t, err)
	require.Equal(t, b[144:160], again[144:160])
}

// TestWindowL: after a failed checkpoint the handle works on a descriptor that is closed.
func TestWindowL(t *testing.T) {
	t.Parallel()
	_, b, want := window(t)
	failed := 0
	faults(t, b, faultfs.Modifying, ".NEW", func(db *skiplist.DB) error {
		if db.Checkpoint(ctx) == nil {
			return nil
		}
		failed++
		require.Equal(t, want, listOf(t, db))
		return db.Put(ctx, []byte("a"), []byte("x"))
	}, func(t *testing.T, path string, err error, mode faultfs.Mode) {
		db := open(t, path, v1)
		require.NoError(t, err)
		require.Contains(t, [][]string{want, append([]string{"a=x"}, want...)}, listOf(t, db))
		require.NoError(t, db.Close())
	})
	require.Positive(t, failed)
}

// TestWindowM: the rename of a checkpoint is not made durable.
func TestWindowM(t *testing.T) {
	t.Parallel()
	disk := simfs.New(simfs.Options{})
	opts := v1
	opts.FS, opts.Create = disk, true
	db, err := skiplist.Open(ctx, "/db", opts)
	require.NoError(t, err)
	require.NoError(t, db.Put(ctx, []byte("a"), []byte("x")))
	from := disk.Ops()
	require.NoError(t, db.Checkpoint(ctx))
	require.NoError(t, db.Close())
	var steps []string
	trace := disk.Trace()
	for i := from; i < trace.Len(); i++ {
		what, _, _ := strings.Cut(trace.Op(i), " ")
		if what == "sync" || what == "rename" || what == "syncdir" {
			steps = append(steps, what)
		}
	}
	require.Equal(t, []string{"sync", "rename", "syncdir"}, steps)
}

// TestWindowN: recovery is left out because the file claims to have been recovered since the server's start: within the
// same second, after the clock was set, or in a backup that was restored. Ours does not rely on the time alone.
func TestWindowN(t *testing.T) {
	t.Parallel()
	_, b, want := window(t)
	now := uint32(time.Now().Unix())
	for _, at := range []uint32{now, now + 3600} {
		left := setWord(setWord(slices.Clone(b), 60, 0), 44, at)
		mends(t, left, want, "link")
	}
	stamp := filepath.Join(t.TempDir(), "skipstamp")
	require.NoError(t, os.WriteFile(stamp, binary.BigEndian.AppendUint32(nil, now), 0o600))
	path := filepath.Join(t.TempDir(), "left")
	require.NoError(t, os.WriteFile(path, setWord(slices.Clone(b), 44, now-1), 0o600))
	opts := v1
	opts.Skipstamp = stamp
	db := open(t, path, opts)
	require.NoError(t, db.Delete(ctx, []byte("user.00")))
	require.NoError(t, db.Close())
	require.GreaterOrEqual(t, word(readFile(t, path), 44), now)
}

// TestWindowO: the sync of a commit fails.
func TestWindowO(t *testing.T) {
	t.Parallel()
	failedInvisible(t, faultfs.Syncs)
}

// TestWindowP: offsets beyond what 32 bits address. The file is a sparse one of almost 2 GiB.
func TestWindowP(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a file of 2 GiB")
	}
	path, b, _ := window(t)
	big := tail("big", "")
	const size = 1<<31 - 64<<10
	value := size - len(b) - len(big) - 4
	value -= value % 4
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	for off, part := range map[int64][]byte{
		int64(len(b)):                        binary.BigEndian.AppendUint32(slices.Clone(big[:12]), uint32(value)),
		int64(len(b) + len(big) - 8 + value): {0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff},
	} {
		_, err = f.WriteAt(part, off)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	db, err := skiplist.Open(ctx, path, v1)
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.Put(ctx, []byte("a"), []byte("small"))) // and the link of big is mended
	before, err := os.Stat(path)
	require.NoError(t, err)
	err = db.Put(ctx, []byte("b"), make([]byte, 100<<10))
	require.ErrorIs(t, err, skiplist.ErrTooLarge)
	require.ErrorContains(t, err, "checkpoint it, or convert it to twoskip")
	after, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, before.Size(), after.Size())
	require.Less(t, after.Size(), int64(1<<31))
	got, err := db.Get(ctx, []byte("a"))
	require.NoError(t, err)
	require.Equal(t, "small", string(got))
	require.NoError(t, db.Delete(ctx, []byte("user.00")))
	checkClean(t, path, v1)
}

// TestWindowQ: a backup without a lock holds half a transaction.
func TestWindowQ(t *testing.T) {
	t.Parallel()
	path, b, want := window(t)
	db := open(t, path, v1)
	out := path + ".backup"
	require.NoError(t, db.Update(ctx, func(tx *skiplist.Tx) error {
		require.NoError(t, tx.Put([]byte("a"), []byte("x")))
		_, err := db.BackupFile(ctx, out)
		return err
	}))
	checkClean(t, out, v1)
	require.Equal(t, want, listOf(t, open(t, out, v1)))

	// A copy that Cyrus made: the links of a transaction, half of its records, and a time of recovery that is newer than
	// the start of the server on which it is restored.
	left := readFile(t, path)
	copied := setWord(slices.Clone(left[:len(b)+12]), 44, uint32(time.Now().Unix()))
	mends(t, copied, want, "torn")
}

// TestWindowS: a dump of an unknown type does not end.
func TestWindowS(t *testing.T) {
	t.Parallel()
	path, b, _ := window(t)
	hit := strings.Index(string(b), "user.09") - 8
	require.NoError(t, os.WriteFile(path, setWord(b, hit, 77), 0o600))
	end, problems := int64(0), 0
	require.NoError(t, skiplist.Dump(ctx, path, v1, func(s skiplist.Span, _ []byte) error {
		require.Equal(t, end, s.Off)
		end += s.Len
		if s.Problem != "" {
			problems++
		}
		return nil
	}))
	require.EqualValues(t, len(b), end)
	require.Equal(t, 1, problems)
}
