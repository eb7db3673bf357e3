package flat

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../../.."

// TestDocument compares the format document with the code, and the tests it names with those there are.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile(root + "/docs/format/flat.md")
	require.NoError(t, err)
	doc := string(b)
	table := "| byte | written as |\n|---|---|\n"
	for c := range 256 {
		if enc := appendEncoded(nil, []byte{byte(c)}); len(enc) > 1 {
			table += fmt.Sprintf("| %02X | % X |\n", c, enc)
		}
	}
	require.Contains(t, doc, table+"\n")
	require.Contains(t, doc, "beyond 2,147,483,647 bytes")
	require.EqualValues(t, 2_147_483_647, maxSize)
	require.Contains(t, doc, fmt.Sprintf("begins with % X, the magic", magicBytes))
	require.Contains(t, doc, fmt.Sprintf("among its first %d bytes", binaryProbe))
	require.Equal(t, 4, binaryNULs) // "four or more NULs"
	for _, code := range []string{codeUnsorted, codeDuplicate, codeUnreadable, codeNUL, codeUnterminated, codeSpelling} {
		require.Contains(t, doc, "`"+code+"`")
	}
	tests := testsOf(t, ".", "../..", root+"/fuzz", root+"/internal/vfs")
	named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(doc, -1)
	require.NotEmpty(t, named)
	for _, m := range named {
		require.Contains(t, tests, "func "+m[1]+"(")
	}
}

// testsOf is the text of all test files in some directories.
func testsOf(t *testing.T, dirs ...string) string {
	var text strings.Builder
	for _, dir := range dirs {
		files, err := filepath.Glob(dir + "/*_test.go")
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, name := range files {
			b, err := os.ReadFile(name)
			require.NoError(t, err)
			text.Write(b)
		}
	}
	return text.String()
}
