package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
)

const manual = "/usr/share/man/man5/imapd.conf.5.gz"

// TestReproducible makes the table anew from the installed Cyrus and compares it with the one that is checked in.
func TestReproducible(t *testing.T) {
	t.Parallel()
	realcyrus.NeedOracle(t)
	f, err := os.Open(manual)
	if os.IsNotExist(err) && os.Getenv("MAILSPINE_REQUIRE_CYRUS") != "1" {
		t.Skipf("no manual page %s", manual)
	}
	require.NoError(t, err)
	defer f.Close()
	page, err := gzip.NewReader(f)
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "options")
	out, err := exec.Command("gcc", "-O1", "-Wall", "-Werror", "testdata/options.c", "-o", program, "-lcyrus_min").CombinedOutput()
	require.NoError(t, err, "%s", out)
	rows, err := exec.Command(program).Output()
	require.NoError(t, err)
	got, err := generate(io.MultiReader(page, bytes.NewReader(rows)))
	require.NoError(t, err)
	want, err := os.ReadFile("../table.go")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

// TestDisagreement shows that manual page and library must say the same.
func TestDisagreement(t *testing.T) {
	t.Parallel()
	const page = "\\fBtimeout:\\fP 32m\nx\nIf no unit is specified, minutes is\nassumed.\n\\fBvirtdomains:\\fP off\n" +
		"Allowed values: \\fIoff\\fP, \\fIuserid\\fP\n\\fBdebug:\\fP 0\n\\fBadmins:\\fP <none>\n"
	const rows = "@\ttimeout\tDuration\t-\t-\t=32m\n@\tvirtdomains\tEnum\t-\t-\t=off\toff=0\tuserid=1\n@\tdebug\tSwitch\t-\t-\t=no\n" +
		"@\tadmins\tString\t-\t-\t-\n"
	got, err := generate(strings.NewReader(page + rows))
	require.NoError(t, err)
	require.Contains(t, string(got), `{Name: "timeout", Type: Duration, Default: "32m", HasDefault: true, Unit: 'm'},`)
	for _, c := range [][3]string{
		{"=32m", "=30m", `option timeout: the manual page says "32m", the library "30m"`},
		{"userid=1", "all=1", "option virtdomains: the manual page allows"},
		{"@\tdebug", "@\tbugde", "option bugde is not in the manual page\noption debug is only in the manual page"},
		{"=no", "=yes", "option debug"},
		{"admins\tString\t-\t-\t-", "admins", `row "admins": 1 fields`},
	} {
		_, err := generate(strings.NewReader(page + strings.Replace(rows, c[0], c[1], 1)))
		require.ErrorContains(t, err, c[2])
	}
	_, err = generate(strings.NewReader(page))
	require.Error(t, err)
}
