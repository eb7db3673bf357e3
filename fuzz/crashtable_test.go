package fuzz

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCrashTable: every row of the crash table names a test, and every test that it names exists.
func TestCrashTable(t *testing.T) {
	doc, err := os.ReadFile("../docs/format/crash-table.md")
	require.NoError(t, err)
	var tests strings.Builder
	for _, dir := range []string{".", "../skiplist", "../skiplist/internal/*", "../internal/vfs", "../internal/vfs/*", "../internal/journal", "../index", "../quota", "../store"} {
		files, err := filepath.Glob(dir + "/*_test.go")
		require.NoError(t, err)
		for _, name := range files {
			b, err := os.ReadFile(name)
			require.NoError(t, err)
			tests.Write(b)
		}
	}
	rows := 0
	for line := range strings.Lines(string(doc)) {
		named := regexp.MustCompile("`(Test\\w+)(?:/[^`]*)?`").FindAllStringSubmatch(line, -1)
		for _, m := range named {
			require.Contains(t, tests.String(), "func "+m[1]+"(")
		}
		if strings.HasPrefix(line, "| ") && !strings.Contains(line, "shown by") {
			rows++
			require.NotEmpty(t, named, line)
		}
	}
	require.Greater(t, rows, 20)
}
