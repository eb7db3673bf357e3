package batch_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
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
		{"no newline at the end", "SET a 1\nGET a", "", batch.ErrSyntax},
		{"two spaces", "GET  a\n", "", batch.ErrSyntax},
		{"space at the end", "GET a \n", "", batch.ErrSyntax},
		{"tab", "GET\ta\n", "", batch.ErrSyntax},
		{"CR LF", "SET a 1\r\nGET a\r\n", "a 1\n", nil},
		{"only an argument", " a\nGET a\n", "", nil},
		{"brace inside", "SET a x{%\nGET a\n", "a {3}\r\nx{%\n", nil},
		{"parenthesis", "SET a (x\n", "", batch.ErrSyntax},
		{"CR in quotes", "SET a \"x\ry\"\n", "", batch.ErrSyntax},
		{"NUL in quotes", "SET a \"x\x00y\"\nGET a\n", "a {3}\r\nx\x00y\n", nil},
		{"literal without CR", "SET a {1+}\nx\n", "", batch.ErrSyntax},
		{"waiting literal", "SET a {1}\r\nx\n", "", batch.ErrSyntax},
		{"NIL", "SET NIL nil\nGET NIL\n", "\"NIL\" nil\n", nil},
		{"arguments not used", "SET a 1\nBEGIN x y\nCOMMIT x\nGET a b\n", "a 1\n", nil},
		{"failure in a transaction", "BEGIN\nSET a 1\nFROB\n", "", batch.ErrCommand},
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
			_, err = batch.DryRun(context.Background(), db, strings.NewReader(c.in), &out)
			require.Equal(t, c.out, out.String(), "dry run")
			if c.fails != nil {
				require.ErrorIs(t, err, c.fails, "dry run")
			}
			require.Zero(t, db.Stats().Commits, "a dry run has written")
			out.Reset()
			_, err = batch.Run(context.Background(), db, strings.NewReader(c.in), &out)
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

// TestConversation answers before the next line comes.
func TestConversation(t *testing.T) {
	db, err := skiplist.Open(context.Background(), filepath.Join(t.TempDir(), "db"), skiplist.Options{Create: true})
	require.NoError(t, err)
	defer db.Close()
	in, ask := io.Pipe()
	answer, out := io.Pipe()
	done := make(chan error)
	go func() {
		_, err := batch.Run(context.Background(), db, in, out)
		done <- err
	}()
	lines := bufio.NewReader(answer)
	for range 3 {
		_, err := io.WriteString(ask, "SET a 1\nGET a\n")
		require.NoError(t, err)
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "a 1\n", line)
	}
	require.NoError(t, ask.Close())
	require.NoError(t, <-done)
}

func FuzzRun(f *testing.F) {
	f.Add([]byte("BEGIN\nSET {3+}\r\nabc \"d e\"\nSHOW\nCOMMIT\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		db, err := skiplist.Open(context.Background(), filepath.Join(t.TempDir(), "db"), skiplist.Options{Create: true})
		require.NoError(t, err)
		defer db.Close()
		var dry, out bytes.Buffer
		_, dryErr := batch.DryRun(context.Background(), db, bytes.NewReader(in), &dry)
		_, err = batch.Run(context.Background(), db, bytes.NewReader(in), &out)
		require.Equal(t, err == nil, dryErr == nil, "%v, dry run %v", err, dryErr)
		require.Equal(t, out.String(), dry.String(), "the dry run answers otherwise")
	})
}
