package skiplist_test

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// noNewFiles has no space for a new file, so that only prepared ones serve.
type noNewFiles struct{ vfs.FS }

func (n noNewFiles) Open(name string, flag vfs.Flag, perm fs.FileMode) (vfs.File, error) {
	if flag&vfs.Create != 0 && strings.HasSuffix(name, ".sub.NEW") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
	}
	return n.FS.Open(name, flag, perm)
}

// shared is a flat file that libcyrus and we have open at the same time.
type shared struct {
	*testing.T
	path  string
	ours  *skiplist.DB
	cyrus *realcyrus.Oracle
	c     *realcyrus.OracleDB
	model map[string]string
}

func (s *shared) startCyrus() {
	var err error
	s.cyrus = realcyrus.StartOracle(s.T, realcyrus.OracleOptions{})
	s.c, err = s.cyrus.Open("flat", s.path, 0)
	require.NoError(s, err)
}

// same lists the file in both.
func (s *shared) same() {
	list, err := s.c.Foreach(nil, 0)
	require.NoError(s, err)
	theirs := map[string]string{}
	for _, r := range list {
		theirs[string(r.Key)] = string(r.Value)
	}
	require.Equal(s, s.model, theirs, "Cyrus")
	require.NoError(s, s.ours.View(ctx, func(snap *skiplist.Snapshot) error {
		require.Equal(s, s.model, contents(s, snap), "mailspine")
		return nil
	}))
}

// share makes the file. With prepared, it is replaced by exchange from then on.
func share(t *testing.T, prepared bool) *shared {
	realcyrus.NeedOracle(t)
	s := &shared{T: t, path: filepath.Join(realcyrus.TempDir(t), "fred.sub"), model: map[string]string{"start": "0"}}
	opts := skiplist.Options{Format: skiplist.Flat, Create: true, Prepared: filepath.Join(filepath.Dir(s.path), "mailspine")}
	s.ours = open(t, s.path, opts)
	require.NoError(t, s.ours.Put(ctx, []byte("start"), []byte("0")))
	if prepared {
		require.NoError(t, s.ours.Close())
		opts.FS = noNewFiles{vfs.OS()}
		s.ours = open(t, s.path, opts)
	}
	s.startCyrus()
	return s
}

// TestFlatSharedWithCyrus lets both change one file in turn, while both have it open and mapped. Cyrus is killed now and
// then, in the middle of a transaction, whose locks and left-over files hinder nobody.
func TestFlatSharedWithCyrus(t *testing.T) {
	for _, prepared := range []bool{false, true} {
		t.Run(fmt.Sprintf("prepared=%v", prepared), func(t *testing.T) {
			s := share(t, prepared)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 1))
			key := func() string { return []string{"a", "a.b", "a-b", "k\xff", "tab\t", "nul\x00", "z\r\n"}[r.IntN(7)] }
			for n := range 120 {
				k, v := key(), strings.Repeat(fmt.Sprint(n), r.IntN(4))
				switch r.IntN(6) {
				case 0:
					require.NoError(t, s.ours.Put(ctx, []byte(k), []byte(v)))
					s.model[k] = v
				case 1:
					require.NoError(t, s.ours.Delete(ctx, []byte(k)))
					delete(s.model, k)
				case 2:
					require.NoError(t, s.c.Store([]byte(k), []byte(v)))
					s.model[k] = v
				case 3:
					require.NoError(t, s.c.Delete([]byte(k), true))
					delete(s.model, k)
				case 4:
					next := maps.Clone(s.model)
					require.NoError(t, s.c.Begin())
					for range 3 {
						k := key()
						require.NoError(t, s.c.Store([]byte(k), []byte("in a transaction")))
						next[k] = "in a transaction"
					}
					if r.IntN(2) == 0 {
						s.cyrus.Kill()
						_ = s.cyrus.Wait()
						left, err := os.ReadDir(filepath.Dir(s.path))
						require.NoError(t, err)
						require.Greater(t, len(left), 2, "Cyrus leaves its new file behind")
						s.startCyrus()
						break
					}
					require.NoError(t, s.c.Commit())
					s.model = next
				case 5:
					s.same()
				}
			}
			s.same()
		})
	}
}

// TestFlatLocksWithCyrus: each waits for the other's transaction, and then changes the file that came of it, although the
// one that it had opened and locked has lost its name.
func TestFlatLocksWithCyrus(t *testing.T) {
	for _, prepared := range []bool{false, true} {
		t.Run(fmt.Sprintf("prepared=%v", prepared), func(t *testing.T) {
			s := share(t, prepared)
			for n := range 5 {
				waits := func(done <-chan error) {
					select {
					case err := <-done:
						require.Fail(t, "the other did not wait", "%v", err)
					case <-time.After(30 * time.Millisecond):
					}
				}
				done := make(chan error, 1)
				ours, theirs := fmt.Sprint("ours", n), fmt.Sprint("theirs", n)
				require.NoError(t, s.ours.Update(ctx, func(tx *skiplist.Tx) error {
					go func() { done <- s.c.Store([]byte(theirs), []byte("1")) }()
					waits(done)
					return tx.Put([]byte(ours), []byte("1"))
				}))
				require.NoError(t, <-done)
				s.model[ours], s.model[theirs] = "1", "1"
				s.same()

				require.NoError(t, s.c.Begin())
				require.NoError(t, s.c.Store([]byte(theirs), []byte("2")))
				go func() { done <- s.ours.Put(ctx, []byte(ours), []byte("2")) }()
				waits(done)
				require.NoError(t, s.c.Commit())
				require.NoError(t, <-done)
				s.model[ours], s.model[theirs] = "2", "2"
				s.same()
			}
		})
	}
}
