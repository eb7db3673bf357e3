package skiplist_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/skiplist"
)

var ctx = context.Background()

var formats = []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat}

// eachFormat runs a test once for every format.
func eachFormat(t *testing.T, test func(t *testing.T, f skiplist.Format)) {
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) { test(t, f) })
	}
}

// open opens a database, and checks it when the test ends.
func open(t testing.TB, path string, opts skiplist.Options) *skiplist.DB {
	db, err := skiplist.Open(ctx, path, opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = db.Close()
		checkClean(t, path, opts)
	})
	return db
}

func checkClean(t require.TestingT, path string, opts skiplist.Options) {
	found, err := skiplist.Check(ctx, path, opts)
	require.NoError(t, err)
	for _, f := range found {
		if f.Severity > skiplist.Info {
			require.Fail(t, "check", "%v", f)
		}
	}
}

func contents(t require.TestingT, r skiplist.Reader) map[string]string {
	all := map[string]string{}
	for rec, err := range r.All() {
		require.NoError(t, err)
		all[string(rec.Key)] = string(rec.Value)
	}
	require.Equal(t, r.Len(), len(all))
	return all
}

// machine drives two handles on one file, as two processes have, against a map.
type machine struct {
	t     *rapid.T
	path  string
	opts  skiplist.Options
	db    [2]*skiplist.DB
	ro    *skiplist.DB // open for reading only
	disk  *simfs.FS    // nil on the real file system
	model map[string]string
	snaps []kept
}

type kept struct {
	s    *skiplist.Snapshot
	want map[string]string
}

func (m *machine) any() *skiplist.DB { return m.db[rapid.IntRange(0, 1).Draw(m.t, "handle")] }

func (m *machine) key() []byte {
	end := rapid.SampledFrom([]string{"", "", ".", " x", "\xe9", "^a"}).Draw(m.t, "end") // the orders differ in these
	return fmt.Appendf(nil, "k%03d%s", rapid.IntRange(0, 60).Draw(m.t, "key"), end)
}

func (m *machine) value() []byte {
	return rapid.SliceOfN(rapid.Byte(), 0, 90).Draw(m.t, "value")
}

func (m *machine) reopen(i int) {
	if m.db[i] != nil {
		require.NoError(m.t, m.db[i].Close())
	}
	db, err := skiplist.Open(ctx, m.path, m.opts)
	require.NoError(m.t, err)
	m.db[i] = db
}

func (m *machine) reopenReader() {
	if m.ro != nil {
		require.NoError(m.t, m.ro.Close())
	}
	opts := m.opts
	opts.ReadOnly = true
	var err error
	m.ro, err = skiplist.Open(ctx, m.path, opts)
	require.NoError(m.t, err)
	require.ErrorIs(m.t, m.ro.Put(ctx, []byte("k"), nil), skiplist.ErrReadOnly)
}

// crash cuts the power: all that was acknowledged is in the image, whichever it is.
func (m *machine) crash(t *rapid.T) {
	if m.disk == nil {
		t.Skip("only on the simulated disk")
	}
	m.checkSnapshots()
	trace := m.disk.Trace()
	var images []*simfs.FS
	for img := range trace.Images(simfs.Search{From: trace.Len(), Limit: 8, Samples: 8, Seed: rapid.Uint64().Draw(t, "crash")}) {
		images = append(images, img.FS)
	}
	m.disk = rapid.SampledFrom(images).Draw(t, "image")
	m.opts.FS = m.disk
	m.db, m.ro = [2]*skiplist.DB{}, nil
	m.reopen(0)
	m.reopen(1)
	m.reopenReader()
}

// cancelled gives up the wait for a lock that another handle holds. The lock, which may come late, is given back.
func (m *machine) cancelled(t *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(t, "handle")
	require.NoError(t, m.db[i].Update(ctx, func(*skiplist.Tx) error {
		short, stop := context.WithTimeout(ctx, time.Millisecond)
		defer stop()
		commit := m.db[1-i].Update
		if rapid.Bool().Draw(t, "batch") {
			commit = m.db[1-i].Batch
		}
		err := commit(short, func(*skiplist.Tx) error { return errors.New("it has the lock") })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		return nil
	}))
}

func (m *machine) checkSnapshots() {
	for _, k := range m.snaps {
		require.Equal(m.t, k.want, contents(m.t, k.s))
		k.s.Close()
		_, err := k.s.Get([]byte("x"))
		require.ErrorIs(m.t, err, skiplist.ErrClosed)
	}
	m.snaps = nil
}

func TestModel(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		dir := t.TempDir()
		n := 0
		rapid.Check(t, func(t *rapid.T) {
			n++
			m := &machine{t: t, path: filepath.Join(dir, fmt.Sprint(n)), model: map[string]string{},
				opts: skiplist.Options{Format: f, Create: true, Reserve: 4096}}
			m.opts.Order = rapid.SampledFrom([]skiplist.Order{skiplist.DefaultOrder, skiplist.DefaultOrder,
				skiplist.SignedOrder, skiplist.UnsignedOrder, skiplist.MailboxOrder}).Draw(t, "order")
			if rapid.Bool().Draw(t, "simulated") {
				m.disk, m.path = simfs.New(simfs.Options{NoMap: rapid.Bool().Draw(t, "no map")}), "/db"
				m.opts.FS = m.disk
			}
			m.reopen(0)
			m.reopen(1)
			m.reopenReader()
			t.Repeat(map[string]func(*rapid.T){
				"update": func(t *rapid.T) {
					m.t = t
					next := maps.Clone(m.model)
					fail := rapid.Bool().Draw(t, "fail")
					err := m.any().Update(ctx, func(tx *skiplist.Tx) error {
						for range rapid.IntRange(1, 12).Draw(t, "changes") {
							k := m.key()
							if rapid.IntRange(0, 2).Draw(t, "kind") == 0 {
								require.NoError(t, tx.Delete(k))
								delete(next, string(k))
							} else {
								v := m.value()
								require.NoError(t, tx.Put(k, v))
								next[string(k)] = string(v)
							}
							got, err := tx.Get(k)
							want, ok := next[string(k)]
							require.Equal(t, !ok, errors.Is(err, skiplist.ErrNotFound))
							require.Equal(t, want, string(got))
						}
						require.Equal(t, next, contents(t, tx))
						if fail {
							return errors.New("no")
						}
						return nil
					})
					require.Equal(t, fail, err != nil)
					if !fail {
						m.model = next
					}
				},
				"insert": func(t *rapid.T) {
					m.t = t
					k := m.key()
					err := m.any().Insert(ctx, k, []byte("new"))
					if _, ok := m.model[string(k)]; ok {
						require.ErrorIs(t, err, skiplist.ErrExists)
						return
					}
					require.NoError(t, err)
					m.model[string(k)] = "new"
				},
				"checkpoint": func(t *rapid.T) {
					m.t = t
					require.NoError(t, m.any().Checkpoint(ctx))
				},
				"reopen": func(t *rapid.T) {
					m.t = t
					m.reopen(rapid.IntRange(0, 1).Draw(t, "handle"))
				},
				"reopen the reader": func(t *rapid.T) {
					m.t = t
					m.reopenReader()
				},
				"crash":     func(t *rapid.T) { m.t = t; m.crash(t) },
				"cancelled": func(t *rapid.T) { m.t = t; m.cancelled(t) },
				"stop early": func(t *rapid.T) {
					m.t = t
					n := rapid.IntRange(1, 20).Draw(t, "records")
					require.NoError(t, m.any().View(ctx, func(s *skiplist.Snapshot) error {
						for r, err := range s.All() {
							require.NoError(t, err)
							require.Equal(t, m.model[string(r.Key)], string(r.Value))
							if n--; n == 0 {
								break
							}
						}
						return nil
					}))
				},
				"snapshot": func(t *rapid.T) {
					m.t = t
					s, err := m.any().Snapshot(ctx)
					require.NoError(t, err)
					m.snaps = append(m.snaps, kept{s, maps.Clone(m.model)})
				},
				"prefix": func(t *rapid.T) {
					m.t = t
					p := rapid.SampledFrom([]string{"k0", "k1", "k11", "x", ""}).Draw(t, "prefix")
					var want, got []string
					for k := range m.model {
						if len(k) >= len(p) && k[:len(p)] == p {
							want = append(want, k)
						}
					}
					compare := m.db[0].Order().Func()
					slices.SortFunc(want, func(a, b string) int { return compare([]byte(a), []byte(b)) })
					require.NoError(t, m.any().View(ctx, func(s *skiplist.Snapshot) error {
						for r, err := range s.Prefix([]byte(p)) {
							require.NoError(t, err)
							got = append(got, string(r.Key))
						}
						return nil
					}))
					require.Equal(t, want, got)
				},
				"": func(t *rapid.T) {
					for _, db := range []*skiplist.DB{m.db[0], m.db[1], m.ro} {
						require.NoError(t, db.View(ctx, func(s *skiplist.Snapshot) error {
							require.Equal(t, m.model, contents(t, s))
							return nil
						}))
					}
				},
			})
			m.checkSnapshots()
			require.NoError(t, m.ro.Close())
			for _, db := range m.db {
				require.NoError(t, db.Close())
			}
			checkClean(t, m.path, m.opts)
		})
	})
}

func TestBatchSharesSyncs(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		t.Run(string(f), func(t *testing.T) {
			db := open(t, filepath.Join(t.TempDir(), "db"), skiplist.Options{Format: f, Create: true})
			const writers, each = 32, 20
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := range each {
						require.NoError(t, db.Put(ctx, fmt.Appendf(nil, "w%02d.%03d", w, i), []byte("v")))
					}
				})
			}
			wg.Wait()
			s := db.Stats()
			require.Equal(t, writers*each, s.Records)
			require.Less(t, s.Commits, int64(writers*each))
			require.NoError(t, db.View(ctx, func(s *skiplist.Snapshot) error {
				require.Len(t, contents(t, s), writers*each)
				return nil
			}))
		})
	}
}

func TestBatchKeepsFailuresApart(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		db := open(t, filepath.Join(t.TempDir(), "db"), skiplist.Options{Format: f, Create: true})
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				err := db.Batch(ctx, func(tx *skiplist.Tx) error {
					require.NoError(t, tx.Put(fmt.Appendf(nil, "%02d", i), []byte("x")))
					if i%3 == 0 {
						return fs.ErrInvalid
					}
					return nil
				})
				if i%3 == 0 {
					require.ErrorIs(t, err, fs.ErrInvalid)
				} else {
					require.NoError(t, err)
				}
			})
		}
		wg.Wait()
		require.PanicsWithValue(t, "mine", func() {
			_ = db.Batch(ctx, func(tx *skiplist.Tx) error { panic("mine") })
		})
		require.Equal(t, 26, db.Stats().Records)
	})
}

// TestBatchGoexit has a function given to Batch end its goroutine, as a failing test does: nobody waits for it.
func TestBatchGoexit(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		db := open(t, filepath.Join(t.TempDir(), "db"), skiplist.Options{Format: f, Create: true})
		var wg sync.WaitGroup
		require.NoError(t, db.Update(ctx, func(*skiplist.Tx) error { // the queue grows while this holds the turn
			for i := range 20 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					defer func() { _ = recover() }() // the leader may not be the one that ends
					_ = db.Batch(ctx, func(tx *skiplist.Tx) error {
						if i == 10 {
							runtime.Goexit()
						}
						return tx.Put(fmt.Appendf(nil, "%02d", i), nil)
					})
				}()
			}
			time.Sleep(20 * time.Millisecond)
			return nil
		}))
		wg.Wait()
		// The goroutine that ended may have been that of another caller.
		require.GreaterOrEqual(t, db.Stats().Records, 18)
		require.NoError(t, db.Put(ctx, []byte("next"), nil))
	})
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	_, err := skiplist.Open(ctx, filepath.Join(dir, "none"), skiplist.Options{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = skiplist.Open(ctx, filepath.Join(dir, "none"), skiplist.Options{Format: "berkeley"})
	require.ErrorContains(t, err, "berkeley")
	junk := filepath.Join(dir, "junk")
	require.NoError(t, os.WriteFile(junk, []byte("#!/bin/sh\nexit\n"), 0o600))
	_, err = skiplist.Open(ctx, junk, skiplist.Options{})
	require.ErrorIs(t, err, skiplist.ErrNotDatabase)
	path := filepath.Join(dir, "db")
	open(t, path, skiplist.Options{Format: skiplist.Twoskip, Create: true})
	_, err = skiplist.Open(ctx, path, skiplist.Options{Format: skiplist.Skiplist})
	require.ErrorIs(t, err, skiplist.ErrNotDatabase)
	require.ErrorContains(t, err, "twoskip")
}

// TestReadingWritesNothing holds that a file of zero bytes stays one until somebody writes a record.
func TestReadingWritesNothing(t *testing.T) {
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		path := filepath.Join(t.TempDir(), "db")
		require.NoError(t, os.WriteFile(path, nil, 0o640))
		db := open(t, path, skiplist.Options{Format: f})
		_, err := db.Get(ctx, []byte("k"))
		require.ErrorIs(t, err, skiplist.ErrNotFound)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Zero(t, info.Size())
		require.NoError(t, db.Put(ctx, []byte("k"), []byte("v")))
		v, err := db.Get(ctx, []byte("k"))
		require.NoError(t, err)
		require.Equal(t, "v", string(v))
		info, err = os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o640), info.Mode().Perm())
	})
}
