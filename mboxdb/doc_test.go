package mboxdb

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocument compares docs/format/mailboxes.md with the code.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../docs/format/mailboxes.md")
	require.NoError(t, err)
	text := string(b)
	_, fields, ok := strings.Cut(text, "## Fields")
	require.True(t, ok)
	var order []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z]) \|`).FindAllStringSubmatch(fields, -1) {
		order = append(order, m[1])
	}
	all := append([]string{fieldType, fieldID}, idOrder[1:]...)
	require.Equal(t, all, order)
	for i := range kindLetters {
		require.Regexp(t, `[:,]\s`+kindLetters[i:i+1]+`\s`, fields)
	}
	for i := range flagLetters {
		require.Regexp(t, `[;,]\s`+flagLetters[i:i+1]+`\s`, fields)
	}
	source, err := os.ReadFile("check.go")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`report\("([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
		require.Contains(t, text, "`"+m[1]+"`")
	}
}
