package journal

import (
	"bytes"
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

// disk is a disk with a partition that the journal can be made on.
func disk(t testing.TB, o simfs.Options) *simfs.FS {
	fsys := simfs.New(o)
	require.NoError(t, fsys.Mkdir("/p", 0o755))
	require.NoError(t, fsys.SyncDir("/"))
	return fsys
}

const dir = "/p/mailspine."

// payload is one that differs from others in all its sectors.
func payload(seed byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = seed + byte(i>>7)
	}
	return b
}

// put writes an entry and leaves it.
func put(t testing.TB, fsys vfs.FS, key string, p []byte) {
	s, err := Open(fsys, dir).Take(t.Context(), key, len(p))
	require.NoError(t, err)
	require.NoError(t, s.Write(p))
	s.Close()
}

// pending returns the entries of a key, or of all keys, as "key:payload", and frees their slots.
func pending(t testing.TB, fsys vfs.FS, key string, clearThem bool) (all []string) {
	j := Open(fsys, dir)
	keys := []string{key}
	if key == "" {
		var err error
		keys, err = j.Keys(t.Context())
		require.NoError(t, err)
	}
	for _, key := range keys {
		slots, err := j.Pending(t.Context(), key)
		require.NoError(t, err)
		for _, s := range slots {
			all = append(all, s.Key()+":"+string(s.Payload()))
			if clearThem {
				require.NoError(t, s.Clear(true))
			}
			s.Close()
		}
	}
	return all
}

func TestEntries(t *testing.T) {
	t.Parallel()
	fsys := disk(t, simfs.Options{})
	require.Empty(t, pending(t, fsys, "", false), "there is no directory yet")
	put(t, fsys, "a", []byte("one"))
	put(t, fsys, "b", []byte("two"))
	put(t, fsys, "a", []byte("three"))
	require.Equal(t, []string{"a:three", "a:one"}, pending(t, fsys, "a", false), "the newest first")
	require.Empty(t, pending(t, fsys, "aa", false))
	require.Equal(t, []string{"a:three", "a:one", "b:two"}, pending(t, fsys, "", false))
	require.Equal(t, []string{"b:two"}, pending(t, fsys, "b", true))
	require.Empty(t, pending(t, fsys, "b", false))
	put(t, fsys, "c", payload(1, 100_000))
	list, err := fsys.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, list, 3, "the slot of b serves again")
	require.Equal(t, []string{"c:" + string(payload(1, 100_000))}, pending(t, fsys, "c", true))
	require.Zero(t, fsys.OpenFiles())
	_, err = Open(fsys, dir).Take(t.Context(), "", 1)
	require.ErrorIs(t, err, ErrKey)
}

// TestHolderLives: who looks for an entry waits until its writer is gone.
func TestHolderLives(t *testing.T) {
	t.Parallel()
	fsys := disk(t, simfs.Options{})
	first := fsys.Process("first")
	s, err := Open(first, dir).Take(t.Context(), "a", 3)
	require.NoError(t, err)
	require.NoError(t, s.Write([]byte("one")))
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	_, err = Open(fsys, dir).Pending(short, "a")
	cancel()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	put(t, fsys, "b", []byte("two"))
	first.Exit()
	require.Equal(t, []string{"a:one"}, pending(t, fsys, "a", false))
}

// TestManyWriters: each has a slot of its own; the slots are as many as there were writers at once.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	fsys := disk(t, simfs.Options{})
	for round := range 3 {
		var all []*Slot
		for i := range 10 {
			s, err := Open(fsys, dir).Take(t.Context(), fmt.Sprint(i), 100)
			require.NoError(t, err)
			require.NoError(t, s.Write(payload(byte(i+round), 100)))
			all = append(all, s)
		}
		for _, s := range all {
			require.NoError(t, s.Clear(false))
			s.Close()
		}
	}
	list, err := fsys.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, list, 10)
}

// TestCrash: at any moment an entry is there, whole, from the return of Write on until it is cleared, and in no image is there
// one that nobody wrote. The slot held other entries before, whose bytes shine through where the new ones did not arrive.
func TestCrash(t *testing.T) {
	t.Parallel()
	fsys := disk(t, simfs.Options{})
	texts := [][]byte{payload(1, 3000), payload(2, 2900), payload(3, 700), payload(1, 5000)}
	j := Open(fsys, dir)
	for i, text := range texts {
		s, err := j.Take(t.Context(), "box", len(text))
		require.NoError(t, err)
		fsys.Mark(fmt.Sprintf("begun %d", i))
		require.NoError(t, s.Write(text))
		fsys.Mark(fmt.Sprintf("written %d", i))
		fsys.Mark(fmt.Sprintf("cleared %d", i))
		require.NoError(t, s.Clear(i == 1))
		s.Close()
	}
	images := 0
	for img := range fsys.Trace().Images(simfs.Search{Limit: 2000, Samples: 300}) {
		images++
		var begun, written, cleared = -1, -1, -1
		for _, m := range img.Marks {
			for i := range texts {
				switch m {
				case fmt.Sprintf("begun %d", i):
					begun = i
				case fmt.Sprintf("written %d", i):
					written = i
				case fmt.Sprintf("cleared %d", i):
					cleared = i
				}
			}
		}
		found := pending(t, img.FS, "", false)
		require.LessOrEqual(t, len(found), 1, img.Seed)
		if len(found) == 0 {
			// Either nothing was there, or the clearing arrived, or the next entry arrived in part.
			require.True(t, written == cleared || begun > written, "%s: an entry is lost", img.Seed)
			continue
		}
		known := false
		for i := max(0, written); i <= begun; i++ {
			known = known || found[0] == "box:"+string(texts[i])
		}
		require.True(t, known, "%s: an entry that nobody wrote, or an older one", img.Seed)
		// The slot can be used again.
		put(t, img.FS, "next", []byte("x"))
		require.Contains(t, pending(t, img.FS, "", true), "next:x")
	}
	require.Greater(t, images, 2000)
}

// TestTornAnywhere: an entry of which any byte is wrong is none.
func TestTornAnywhere(t *testing.T) {
	t.Parallel()
	good := appendEntry(nil, "key", 77, []byte("payload"))
	require.True(t, decodeHead(good).whole(good))
	for i := range good {
		for _, bit := range []byte{1, 0x80} {
			b := bytes.Clone(good)
			b[i] ^= bit
			require.False(t, decodeHead(b).whole(b), "byte %d", i)
		}
		b := good[:i]
		require.False(t, decodeHead(b).whole(b))
	}
}

// TestFaults lets every call fail, once and from then on: an error or success, never an entry that is wrong, and the journal works
// again when the disk does.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, mode := range []faultfs.Mode{faultfs.Once, faultfs.Onwards} {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
			for n := 0; ; n++ {
				fsys := disk(t, simfs.Options{})
				plan := &faultfs.Plan{N: n, Err: errno, Mode: mode, Short: faultfs.Half}
				broken := faultfs.Wrap(fsys, plan)
				j := Open(broken, dir)
				var last error
				for _, text := range []string{"one", "two"} {
					s, err := j.Take(t.Context(), "k", len(text))
					if err == nil {
						if err = s.Write([]byte(text)); err == nil {
							err = s.Clear(false)
						}
						s.Close()
					}
					if err != nil {
						require.ErrorIs(t, err, errno)
						last = err
					}
				}
				left, err := j.Pending(t.Context(), "k")
				for _, s := range left {
					s.Close()
				}
				if !plan.Fired() {
					require.NoError(t, last)
					require.NoError(t, err)
					break
				}
				require.Zero(t, fsys.OpenFiles(), "%v", plan)
				for _, e := range pending(t, fsys, "", true) {
					require.Contains(t, []string{"k:one", "k:two"}, e)
				}
				put(t, fsys, "k", []byte("after"))
				require.Equal(t, []string{"k:after"}, pending(t, fsys, "", false))
			}
		}
	}
}

// TestFullDisk: without space there is no slot; with one, entries that fit into it need none, and writers wait for each other.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for _, o := range []simfs.Options{{Blocks: 20}, {Blocks: 20, DelayedAlloc: true}} {
		fsys := disk(t, o)
		fsys.FillUp(2, true)
		j := Open(fsys, dir)
		_, err := j.Take(t.Context(), "k", 10)
		require.ErrorIs(t, err, syscall.ENOSPC)
		fsys.FreeUp()
		put(t, fsys, "k", []byte("one"))
		require.Len(t, pending(t, fsys, "k", true), 1)
		fsys.FillUp(0, true)
		for i := range 20 {
			s, err := j.Take(t.Context(), "k", 16000)
			require.NoError(t, err)
			require.NoError(t, s.Write(payload(byte(i), 16000)))
			require.NoError(t, s.Clear(false))
			s.Close()
		}
		_, err = j.Take(t.Context(), "k", 17000)
		require.ErrorIs(t, err, syscall.ENOSPC)
		held, err := j.Take(t.Context(), "k", 10)
		require.NoError(t, err)
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err = j.Take(short, "other", 10)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		got := make(chan error)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		go func() {
			s, err := j.Take(ctx, "other", 10)
			if err == nil {
				s.Close()
			}
			got <- err
		}()
		time.Sleep(10 * time.Millisecond)
		held.Close()
		require.NoError(t, <-got)
		cancel()
	}
}

// TestReserve: a slot whose writer has died with an entry in it is nobody's reserve; one that is in use is, and so is a free one.
func TestReserve(t *testing.T) {
	t.Parallel()
	fsys := disk(t, simfs.Options{Blocks: 40})
	j := Open(fsys, dir)
	slots := func() (n int) {
		for ; n < slotsMax; n++ {
			if _, err := fsys.Stat(j.path(n)); err != nil {
				break
			}
		}
		return n
	}
	require.NoError(t, j.Reserve(t.Context()))
	require.NoError(t, j.Reserve(t.Context()))
	require.Equal(t, 1, slots())
	s, err := j.Take(t.Context(), "k", 3)
	require.NoError(t, err)
	require.NoError(t, j.Reserve(t.Context()))
	require.NoError(t, s.Write([]byte("one")))
	require.NoError(t, j.Reserve(t.Context()))
	require.Equal(t, 1, slots(), "its writer gives it back")
	s.Close()
	require.NoError(t, j.Reserve(t.Context()))
	require.NoError(t, j.Reserve(t.Context()))
	require.Equal(t, 2, slots(), "its writer is gone")
	fsys.FillUp(0, true)
	put(t, fsys, "other", []byte("two"))
	require.ErrorIs(t, j.Reserve(t.Context()), syscall.ENOSPC)
	require.Equal(t, []string{"k:one"}, pending(t, fsys, "k", true))
	require.NoError(t, j.Reserve(t.Context()), "the slot that was resolved")
}

// TestLargeEntry: a slot that held a large entry gives the space back.
func TestLargeEntry(t *testing.T) {
	t.Parallel()
	fsys := disk(t, simfs.Options{NoTrace: true})
	big := payload(9, 3<<20)
	put(t, fsys, "k", big)
	require.Equal(t, []string{"k:" + string(big)}, pending(t, fsys, "k", true))
	info, err := fsys.Stat(dir + "/slot.0")
	require.NoError(t, err)
	require.EqualValues(t, slotBytes, info.Size)
}

// TestRealDisk does the same on the real file system, beside the processes' locks.
func TestRealDisk(t *testing.T) {
	t.Parallel()
	j := Open(vfs.OS(), t.TempDir()+"/mailspine.")
	s, err := j.Take(t.Context(), "k", 3)
	require.NoError(t, err)
	require.NoError(t, s.Write([]byte("one")))
	keys, err := j.Keys(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"k"}, keys)
	s.Close()
	all, err := j.Pending(t.Context(), "k")
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, "one", string(all[0].Payload()))
	require.NoError(t, all[0].Clear(false))
	all[0].Close()
}

// FuzzHead gives the decoder any bytes.
func FuzzHead(f *testing.F) {
	f.Add(appendEntry(nil, "key", 1, []byte("payload")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if h := decodeHead(b); h.whole(b) {
			require.Equal(t, b[:h.size()], appendEntry(nil, string(b[headBytes:headBytes+h.keyLen]), h.time, b[headBytes+h.keyLen:h.size()]))
		}
	})
}
