package flat

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocumentedEncoding compares the table in the format document with the code.
func TestDocumentedEncoding(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/format/flat.md")
	require.NoError(t, err)
	table := "| byte | written as |\n|---|---|\n"
	for c := range 256 {
		if enc := appendEncoded(nil, []byte{byte(c)}); len(enc) > 1 {
			table += fmt.Sprintf("| %02X | % X |\n", c, enc)
		}
	}
	require.Contains(t, string(doc), table+"\n")
	for _, code := range []string{codeUnsorted, codeDuplicate, codeNUL, codeUnterminated, codeSpelling} {
		require.Contains(t, string(doc), "`"+code+"`")
	}
}
