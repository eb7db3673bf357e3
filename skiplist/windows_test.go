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
