package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
)

// quotaStore is a store with mailboxes and wrong quota roots, for the real program and for ours.
type quotaStore struct {
	*realcyrus.Store
	// link is a path with the name of Cyrus's program that leads to ours.
	link string
}

// mailspineOn runs the program on the store.
func (s *quotaStore) mailspineOn(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command("mailspine", append(args, "-C", s.Conf)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", args, out)
}

// ours runs the link.
func (s *quotaStore) ours(t *testing.T, args ...string) (out realcyrus.Output) {
	t.Helper()
	cmd := exec.Command(s.link, append([]string{"-C", s.Conf}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return realcyrus.Output{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}

func (s *quotaStore) theirs(t *testing.T, args ...string) realcyrus.Output {
	t.Helper()
	return s.Try(t, "quota", nil, args...)
}

// newQuotaStore makes one. The names of boxes and roots are internal, with a domain behind an "@".
func newQuotaStore(t *testing.T, o realcyrus.Options, boxes []quotaBox, roots map[string]string) *quotaStore {
	t.Helper()
	s := &quotaStore{realcyrus.NewStore(t, o), filepath.Join(t.TempDir(), linkName)}
	program, err := exec.LookPath("mailspine")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(program, s.link))
	s.mailspineOn(t, "", "db", "create", "-q", "--format", "twoskip", s.MailboxDB())
	for _, b := range boxes {
		name := strings.ReplaceAll(b.name, ".", s.Separator())
		if local, domain, ok := strings.Cut(b.name, "@"); ok {
			name = strings.ReplaceAll(local, ".", s.Separator()) + "@" + domain
		}
		s.mailspineOn(t, "", "mailbox", "create", "-q", name)
		for range b.messages {
			s.mailspineOn(t, "Subject: "+strings.Repeat("x", b.size-len("Subject: \r\n\r\n"))+"\r\n\r\n", "message", "append", "-q", name, "-")
		}
	}
	for root, value := range roots {
		s.putRoot(t, root, value)
	}
	realcyrus.Give(t, s.Dir)
	return s
}

type quotaBox struct {
	name           string
	messages, size int
}

// putRoot writes the record of a root, as it stands, in the form that the store is configured for.
func (s *quotaStore) putRoot(t *testing.T, root, value string) {
	t.Helper()
	if s.Options.QuotaDB != "" {
		path := filepath.Join(s.Dir, "conf", "quotas.db")
		if _, err := os.Stat(path); err != nil {
			s.mailspineOn(t, "", "db", "create", "-q", "--format", s.Options.QuotaDB, path)
		}
		s.mailspineOn(t, "", "db", "set", "-q", path, root, value)
		return
	}
	path := filepath.Join("quota", quotaLetter(root), root)
	if domain, local, ok := strings.Cut(root, "!"); ok {
		path = filepath.Join("domain", domain[:1], domain, "quota", "root")
		if local != "" {
			path = filepath.Join("domain", domain[:1], domain, "quota", quotaLetter(local), local)
		}
	}
	path = filepath.Join(s.Dir, "conf", path)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(value+"\n"), 0o600))
}

// quotaLetter is the directory of a root.
func quotaLetter(root string) string {
	_, below, ok := strings.Cut(root, ".")
	if !ok {
		below = root
	}
	if c := strings.ToLower(below[:1]); c >= "a" && c <= "z" {
		return c
	}
	return "q"
}

var (
	quotaBoxes = []quotaBox{
		{"user.foo", 3, 1000}, {"user.foo.sub", 2, 2000}, {"user.foobar", 2, 1500}, {"user.bob", 1, 1500}, {"user.bobby", 1, 1500},
		{"shared", 1, 700}, {"shared.dept", 1, 500},
	}
	quotaRoots = map[string]string{
		"user.foo":    "%(S (6 100000) M (5) AS (0) NF (1))",
		"user.foobar": "%(S (3000) M (2) AS (0) NF (1) MODSEQ 7)",
		"user.bob":    "%(S (2000 0) M (1 10) AS (3 4) NF (1 0))",
		"user.bobby":  "%(S (1023 1) M (5 9223372036854775807) AS (9223372036854775807 12) NF (123456789012 12345678901))",
		"shared":      "%(S (1024000 2000) M (1 3) AS (0) NF (1) SCAN %(MBOX shared S 1 M 1 AS 0 NF 1) MODSEQ 3)",
	}
	domainBoxes = []quotaBox{
		{"user.foo", 1, 100}, {"user.foo@a.example", 2, 200}, {"user.foo.sub@a.example", 1, 300}, {"shared@a.example", 1, 400},
		{"user.foo@b.example", 1, 500},
	}
	domainRoots = map[string]string{
		"user.foo":           "%(S (2047 1) M (5 10) AS (0) NF (1))",
		"a.example!":         "%(S (2047 1) M (5 10) AS (0) NF (1))",
		"a.example!user.foo": "%(S (2047 1) M (5 10) AS (0) NF (1))",
		"a.example!shared":   "%(S (2047 1) M (5 10) AS (0) NF (1))",
		"b.example!user.foo": "%(S (2047 1) M (5 10) AS (0) NF (1))",
	}
	domainOptions = map[string]string{"virtdomains": "userid", "defaultdomain": "def.example"}
)

// eachQuotaStore runs a test on every kind of store.
func eachQuotaStore(t *testing.T, test func(t *testing.T, s *quotaStore)) {
	for _, c := range []struct {
		name  string
		o     realcyrus.Options
		boxes []quotaBox
		roots map[string]string
	}{
		{"files", realcyrus.Options{}, quotaBoxes, quotaRoots},
		{"files, slashes", realcyrus.Options{UnixHS: true, Extra: map[string]string{"fulldirhash": "no"}}, quotaBoxes, quotaRoots},
		{"twoskip", realcyrus.Options{QuotaDB: "twoskip"}, quotaBoxes, quotaRoots},
		{"skiplist, slashes", realcyrus.Options{QuotaDB: "skiplist", UnixHS: true}, quotaBoxes, quotaRoots},
		{"domains", realcyrus.Options{Extra: domainOptions}, domainBoxes, domainRoots},
		{"domains, slashes", realcyrus.Options{UnixHS: true, Extra: domainOptions}, domainBoxes, domainRoots},
		{"domains, twoskip", realcyrus.Options{QuotaDB: "twoskip", Extra: domainOptions}, domainBoxes, domainRoots},
	} {
		t.Run(c.name, func(t *testing.T) { test(t, newQuotaStore(t, c.o, c.boxes, c.roots)) })
	}
}

// reportLines are command lines, without -f, of which the real program makes the same.
var reportLines = []string{
	"", "-q", "-n", "-J", "-Z", "-qnJ", "user.foo", "user/foo", "user.fo", "user/fo", "user/foo/", "user.foo.", "user.foobar", "INBOX", "INBOX.x", "user", "nope",
	"user.foo user.foobar", "user/foo user/foobar -J", "-u foo", "-u foo bob", "-u nobody", "-u user.foo", "-J -u foo foo", "shared", "shared.", ". /",
	"-- user.bob", "shared -- -q", "user..foo", "-d a.example", "-d x.example", "-J -d a.example", "-d a.example user.foo", "-d a.example user/f",
	"user.foo@a.example", "user/foo@a.example", "@a.example", "-J @a.example", "-u foo@a.example", "-d a.example -u foo", "-u foo@def.example",
	"-d def.example", "@def.example", "@", "user.foo@", "user@a.example", "user.foo@def.example", "x@y@a.example", "a.example!user.foo",
	"-x", "-fx", "-C", "-f -d", "-h",
}

// TestQuotaLinkReports compares the reports with those of the real program, byte for byte, and the exit codes.
func TestQuotaLinkReports(t *testing.T) {
	realcyrus.NeedPrograms(t)
	eachQuotaStore(t, func(t *testing.T, s *quotaStore) {
		for _, line := range append(reportLines, "''", "' '") {
			args := strings.Fields(line)
			if strings.HasPrefix(line, "'") {
				args = []string{strings.Trim(line, "'")}
			}
			want, got := s.theirs(t, args...), s.ours(t, args...)
			require.Equal(t, want.Stdout, got.Stdout, "quota %s", line)
			require.Equal(t, want.Code, got.Code, "quota %s\n%s", line, got.Stderr)
			if want.Code == linkUsageCode {
				program, err := realcyrus.Program("quota")
				require.NoError(t, err)
				require.Equal(t, strings.ReplaceAll(want.Stderr, program, linkName), got.Stderr, "quota %s", line)
			}
		}
	})
	for _, conf := range []string{"/nonexistent", "/dev/null"} {
		s := &quotaStore{Store: &realcyrus.Store{Conf: conf}, link: newQuotaStore(t, realcyrus.Options{}, nil, nil).link}
		require.Equal(t, s.theirs(t).Code, s.ours(t).Code, conf)
	}
}
