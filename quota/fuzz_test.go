package quota

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/bounded"
	"github.com/mailspine/mailspine/internal/dlist"
)

// FuzzRecord reads a value and a file: no panic, bounded memory, typed errors; what is read is written to the same bytes, and what is
// changed says what it should and has all that is not known of before.
func FuzzRecord(f *testing.F) {
	for _, text := range []string{
		"%(S (7000 100000) M (5) AS (0) NF (2) MODSEQ 12)", "%(AS (9) X-NEW (1 2) M (5) S (7 8) MODSEQ 3 Y %(a b))",
		`%(S (7 8) M (5) AS (0) NF (2) SCAN %(MBOX "user.foo.Sent Mail" S 1 M 2 AS 3 NF 4) MODSEQ 9)`,
		"99 100 77 M 5 -1 4 AS 6 7 8", "1234\n5000\n", "%(S (1", "", " \n", "%(S (-1) M (1) AS (1))", "%(S (1) M (1) AS (1) Z {3+}\r\na b)",
	} {
		f.Add([]byte(text))
	}
	real, err := filepath.Glob("testdata/real/*/quota/*/*")
	require.NoError(f, err)
	for _, path := range real {
		b, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzRecord(t, b)
		value, err := unframe(b)
		if err != nil {
			var bad *RecordError
			require.ErrorAs(t, err, &bad)
			return
		}
		if framed := frame(value); string(framed) != string(b) {
			again, err := unframe(framed)
			require.NoError(t, err)
			require.True(t, bytes.Equal(value, again), "only which blank was a line end may be another: %.200q", b)
		}
		fuzzRecord(t, value)
	})
}

func fuzzRecord(t *testing.T, b []byte) {
	bounded.Run(t, len(b), 400, func() { _, _ = ParseRecord(b) })
	r, err := ParseRecord(b)
	if err != nil {
		var bad *RecordError
		require.ErrorAs(t, err, &bad)
		require.True(t, errors.Is(err, ErrDamaged) != errors.Is(err, ErrEmpty))
		require.True(t, bad.Offset >= 0 && bad.Offset <= len(b))
		return
	}
	require.NoError(t, r.check())
	require.True(t, bytes.Equal(b, r.Append(nil)), "%.200q\n%.200q", b, r.Append(nil))
	changed := r.copied()
	changed.Used[Messages] ^= 1
	changed.Limits[Folders], changed.ModSeq = 7, r.ModSeq+1
	value := changed.Append(nil)
	again, err := ParseRecord(value)
	require.NoError(t, err)
	require.True(t, again.same(&changed), "%.200q\n%.200q", b, value)
	require.True(t, slices.Equal(unknown(t, b), unknown(t, value)), "%.200q\n%.200q", b, value)
	require.True(t, bytes.Equal(b, r.Append(nil)), "the record that was copied is as before: %.200q", b)
}

// unknown are the items of a record that mean nothing here.
func unknown(t *testing.T, value []byte) (list []string) {
	if value[0] != '%' {
		return nil
	}
	n, err := dlist.Parse(value)
	require.NoError(t, err)
	for _, item := range n.Items {
		if !slices.Contains(recordOrder, item.Key()) {
			list = append(list, string(item.AppendKeyed(nil)))
		}
	}
	return list
}
