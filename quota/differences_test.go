package quota_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// differences is the table of the page for operators: what the real program makes wrong, and what becomes of it here.
func differences() string {
	rows := []string{"| no | input | `quota -f` of Cyrus 3.6.1 | here |\n|---|---|---|---|\n"}
	row := func(no, what string, v *verdict) {
		if v == nil {
			return
		}
		says := v.says
		if v.code != 0 {
			says += fmt.Sprintf(" (exit status %d)", v.code)
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s |\n", no, what, says, v.ours))
	}
	for _, s := range scenarios() {
		row(s.no, s.what, s.cyrus)
	}
	for _, s := range duringScenarios() {
		row(s.no, s.what, s.cyrus)
	}
	for _, f := range faultVerdicts {
		row(f.no, f.what, &f.cyrus)
	}
	return strings.Join(rows, "")
}

// TestDifferencesAreListed: the page for operators has the table of the differences, which are those of the scenarios.
func TestDifferencesAreListed(t *testing.T) {
	page, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	require.True(t, strings.Contains(string(page), differences()), "docs/operations.md must have this table:\n%s", differences())
}
