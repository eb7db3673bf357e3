package skiplist_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist"
)

// sample writes a small database with a checkpoint, a log and dead records, and returns its path and contents.
func sample(t testing.TB, f skiplist.Format) (string, map[string]string) {
	path := filepath.Join(t.TempDir(), "db")
	db, err := skiplist.Open(ctx, path, skiplist.Options{Format: f, Create: true, Reserve: -1})
	require.NoError(t, err)
	put := func(from, to int, v string) {
		require.NoError(t, db.Update(ctx, func(tx *skiplist.Tx) error {
			for i := from; i < to; i++ {
				if err := tx.Put(fmt.Appendf(nil, "user.%02d", i), []byte(v)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	put(0, 6, "checkpointed")
	require.NoError(t, db.Checkpoint(ctx))
	put(4, 9, "in the log")
	require.NoError(t, db.Delete(ctx, []byte("user.01")))
	put(9, 11, "at the end")
	var all map[string]string
	require.NoError(t, db.View(ctx, func(s *skiplist.Snapshot) error { all = contents(t, s); return nil }))
	require.NoError(t, db.Close())
	return path, all
}

// lookAt opens, checks, dumps and salvages whatever the bytes are. Nothing may panic, hang, or change the file; every
// failure is typed. It returns what can be read, nil if the file is refused.
func lookAt(t testing.TB, dir string, f skiplist.Format, data []byte) (all map[string]string, damaged bool) {
	path := filepath.Join(dir, "damaged")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	typed := func(err error) {
		var at *skiplist.FormatError
		if err != nil && !errors.As(err, &at) && !errors.Is(err, skiplist.ErrNotDatabase) && !errors.Is(err, skiplist.ErrOrder) {
			require.NoError(t, err)
		}
	}
	db, err := skiplist.Open(ctx, path, skiplist.Options{Format: f, ReadOnly: true, AllowDamaged: true})
	typed(err)
	damaged = err != nil
	if err == nil {
		all = map[string]string{}
		err := db.View(ctx, func(s *skiplist.Snapshot) error {
			for r, err := range s.All() {
				if err != nil {
					return err
				}
				all[string(r.Key)] = string(r.Value)
			}
			return nil
		})
		typed(err)
		damaged = err != nil
		require.NoError(t, db.Close())
	}
	found, err := skiplist.Check(ctx, path, skiplist.Options{Format: f})
	typed(err)
	damaged = damaged || err != nil
	for _, x := range found {
		damaged = damaged || x.Severity > skiplist.Info
	}
	typed(skiplist.Dump(ctx, path, skiplist.Options{Format: f}, func(s skiplist.Span, b []byte) error {
		require.Positive(t, s.Len)
		return nil
	}))
	out := filepath.Join(dir, "salvaged")
	_, err = skiplist.Salvage(ctx, path, out, skiplist.SalvageOptions{Options: skiplist.Options{Format: f}})
	typed(err)
	if err == nil {
		checkClean(t.(require.TestingT), out, skiplist.Options{Format: f})
		require.NoError(t, os.Remove(out))
	}
	now, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, now), "a reading call has changed the file")
	return all, damaged
}

// TestEveryBitFlipped flips every bit of a small file: a flip is found, or it makes no difference. Skiplist has no
// checksums; there a flip within a key or a value shows only to the layer above.
func TestEveryBitFlipped(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			path, want := sample(t, f)
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			step := 7
			if os.Getenv("MAILSPINE_CAMPAIGN") != "" {
				step = 1
			}
			dir := t.TempDir()
			for bit := 0; bit < len(data)*8; bit += step {
				data[bit/8] ^= 1 << (bit % 8)
				got, damaged := lookAt(t, dir, f, data)
				if f == skiplist.Twoskip && !damaged {
					require.Equal(t, want, got, "bit %d of byte %#x", bit%8, bit/8)
				}
				data[bit/8] ^= 1 << (bit % 8)
			}
		})
	}
}

// TestTruncatedEverywhere cuts a small file at every byte, and puts zeros in the place of what was cut.
func TestTruncatedEverywhere(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			path, want := sample(t, f)
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			dir := t.TempDir()
			for n := 0; n < len(data); n += 3 {
				got, damaged := lookAt(t, dir, f, data[:n])
				if f == skiplist.Twoskip && n > 0 {
					require.True(t, damaged, "cut at %#x", n)
				}
				for k, v := range got {
					if old, ok := want[k]; ok && v != old {
						require.Equal(t, "checkpointed", v)
					}
				}
				zeros := append(bytes.Clone(data[:n]), make([]byte, len(data)-n)...)
				lookAt(t, dir, f, zeros)
			}
		})
	}
}

// TestDamageInTheMiddle destroys a record of the log that commits follow: writers refuse the file, readers get what
// precedes the damage and are told with every answer, salvage brings out the rest.
func TestDamageInTheMiddle(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		t.Run(string(f), func(t *testing.T) {
			path, want := sample(t, f)
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			at := bytes.Index(data, []byte("in the log"))
			copy(data[at-20:], bytes.Repeat([]byte{0x5a}, 12))
			require.NoError(t, os.WriteFile(path, data, 0o600))

			_, err = skiplist.Open(ctx, path, skiplist.Options{})
			require.ErrorIs(t, err, skiplist.ErrDamaged)
			var where *skiplist.FormatError
			require.ErrorAs(t, err, &where)
			require.Positive(t, where.Offset)
			_, err = skiplist.Open(ctx, path, skiplist.Options{ReadOnly: true})
			require.ErrorIs(t, err, skiplist.ErrDamaged)

			db, err := skiplist.Open(ctx, path, skiplist.Options{ReadOnly: true, AllowDamaged: true})
			require.NoError(t, err)
			v, err := db.Get(ctx, []byte("user.00"))
			require.ErrorIs(t, err, skiplist.ErrDamaged)
			require.Equal(t, "checkpointed", string(v))
			_, err = db.Get(ctx, []byte("nobody"))
			require.ErrorIs(t, err, skiplist.ErrDamaged)
			require.ErrorIs(t, err, skiplist.ErrNotFound)
			require.NoError(t, db.Close())

			out := path + ".out"
			res, err := skiplist.Salvage(ctx, path, out, skiplist.SalvageOptions{})
			require.NoError(t, err)
			require.GreaterOrEqual(t, res.Records, len(want)-1)
			saved := open(t, out, skiplist.Options{})
			v, err = saved.Get(ctx, []byte("user.10"))
			require.NoError(t, err)
			require.Equal(t, "at the end", string(v))
			_, err = skiplist.Salvage(ctx, path, out, skiplist.SalvageOptions{})
			require.ErrorIs(t, err, os.ErrExist)
		})
	}
}

func FuzzOpen(f *testing.F) {
	for _, format := range formats {
		path, _ := sample(f, format)
		data, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lookAt(t, t.TempDir(), skiplist.Auto, data)
	})
}

// TestSalvageOfATornTail cuts a transaction off at every byte, as a crash does: what was committed is brought out, and
// where the check speaks of a torn tail so does the salvage.
func TestSalvageOfATornTail(t *testing.T) {
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		t.Run(string(f), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			opts := skiplist.Options{Format: f, Create: true}
			db, err := skiplist.Open(ctx, path, opts)
			require.NoError(t, err)
			putMany(t, db, 5, "v")
			before := readFile(t, path)
			putMany(t, db, 7, "w")
			after := readFile(t, path)
			require.NoError(t, db.Close())
			for k := len(before) + 1; k < len(after)-4; k++ {
				require.NoError(t, os.WriteFile(path, append(slices.Clone(before), after[len(before):k]...), 0o600))
				found, err := skiplist.Check(ctx, path, opts)
				require.NoError(t, err)
				require.Equal(t, "torn", found[0].Code)
				res, err := skiplist.Salvage(ctx, path, "", skiplist.SalvageOptions{Options: opts, DryRun: true})
				require.NoError(t, err)
				require.Equal(t, 5, res.Records, "at %d", k)
				require.Zero(t, res.Unreadable, "at %d", k)
				require.Len(t, res.Findings, 1, "at %d", k)
				require.Equal(t, "torn", res.Findings[0].Code)
				require.Equal(t, skiplist.Warning, res.Findings[0].Severity)
			}
		})
	}
}
