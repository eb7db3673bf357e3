package skiplist_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/skiplist"
)

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

// TestWindowJ: curlevel is too low, and Cyrus's insertions put the upper levels out of order.
func TestWindowJ(t *testing.T) {
	t.Parallel()
	_, b, want := window(t)
	require.EqualValues(t, 3, word(b, 32))
	for _, low := range []uint32{0, 1, 2} {
		mends(t, setWord(slices.Clone(b), 32, low), want, "header")
	}
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
