package quota

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocument compares docs/format/quota.md with the code.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../docs/format/quota.md")
	require.NoError(t, err)
	doc := string(b)
	var keys []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z]+) \| .* \|$`).FindAllStringSubmatch(doc, -1) {
		keys = append(keys, m[1])
	}
	require.Equal(t, recordOrder, keys)
	for _, res := range resources {
		require.Regexp(t, fmt.Sprintf(`(?m)^\| %s \| %s \| \w+ \| %d \|`, res.key, res.name, res.unit), doc)
	}
	require.Contains(t, doc, fmt.Sprintf("more than %d bytes", maxRecordBytes))
	require.Contains(t, doc, "%(S (used limit) M (used) AS (used) NF (used) "+keyScan+" %("+keyMailbox+" name")
	require.Contains(t, doc, "`quota/"+filepath.Base(newFile("a", "/quota/a/a"))+"`")
	tests := ""
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	for _, name := range files {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		tests += string(b)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(doc, -1)
	require.NotEmpty(t, named)
	for _, m := range named {
		require.True(t, strings.Contains(tests, "func "+m[1]+"("), m[1])
	}
}
