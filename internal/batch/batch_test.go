package batch_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/batch"
	"github.com/mailspine/mailspine/skiplist"
)

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name, in, out string
		fails         error
	}{
		{"empty", "\n\n", "", nil},
		{"set and get", "SET a 1\nGET a\nGET b\n", "a 1\n", nil},
		{"no newline at the end", "SET a 1\nGET a", "a 1\n", nil},
		{"quoted", "SET \"a b\" \"x \\\" y\"\nSHOW \"a b\"\n", "\"a b\" {5}\r\nx \" y\n", nil},
		{"literal", "SET {3+}\r\nk\x00\t {4+}\r\nv\r\n\xff\nSHOW\n", "{3}\r\nk\x00\t {4}\r\nv\r\n\xff\n", nil},
		{"prefix", "SET ab 1\nSET ac 2\nSET b 3\nSHOW a\n", "ab 1\nac 2\n", nil},
		{"empty value", "SET a\nSHOW\n", "a \"\"\n", nil},
		{"transaction", "BEGIN\nSET a 1\nDELETE a\nSET b 2\nSHOW\nCOMMIT\nSHOW\n", "b 2\nb 2\n", nil},
		{"abort", "SET a 1\nBEGIN\nSET a 2\nABORT\nSHOW\n", "a 1\n", nil},
		{"nested", "BEGIN\nBEGIN\n", "", batch.ErrNested},
		{"commit alone", "COMMIT\n", "", batch.ErrNoTxn},
		{"unknown", "FROB x\n", "", batch.ErrCommand},
		{"lower case", "set a b\n", "", batch.ErrCommand},
		{"too many", "SET a b c\n", "", batch.ErrSyntax},
		{"get without key", "GET\n", "", batch.ErrSyntax},
		{"open at the end", "BEGIN\nSET a 1\n", "", batch.ErrOpen},
		{"huge literal", "SET {99999999999+}\r\n", "", batch.ErrSyntax},
		{"short literal", "SET {5+}\r\nab", "", batch.ErrSyntax},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, err := skiplist.Open(context.Background(), filepath.Join(t.TempDir(), "db"), skiplist.Options{Create: true})
			require.NoError(t, err)
			defer db.Close()
			var out bytes.Buffer
			err = batch.Run(context.Background(), db, strings.NewReader(c.in), &out)
			require.Equal(t, c.out, out.String())
			if c.fails == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, c.fails)
			var at *batch.Error
			require.ErrorAs(t, err, &at)
		})
	}
}

func FuzzRun(f *testing.F) {
	f.Add([]byte("BEGIN\nSET {3+}\r\nabc \"d e\"\nSHOW\nCOMMIT\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		db, err := skiplist.Open(context.Background(), filepath.Join(t.TempDir(), "db"), skiplist.Options{Create: true})
		require.NoError(t, err)
		defer db.Close()
		_ = batch.Run(context.Background(), db, bytes.NewReader(in), &bytes.Buffer{})
	})
}
