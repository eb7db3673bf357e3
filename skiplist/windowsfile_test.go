package skiplist_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

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
