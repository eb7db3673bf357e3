package main

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// eachQuotaStore runs a test on every kind of store, with a root for a whole domain or without.
func eachQuotaStore(t *testing.T, wholeDomain bool, test func(t *testing.T, s *quotaStore)) {
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
		t.Run(c.name, func(t *testing.T) {
			roots := maps.Clone(c.roots)
			if !wholeDomain {
				delete(roots, "a.example!")
			}
			test(t, newQuotaStore(t, c.o, c.boxes, roots))
		})
	}
}

// fixLines are command lines that recalculate, of which the real program makes the right thing.
var fixLines = []string{"-f", "-fq", "-f -J", "-f user.fo", "-f user/foo", "-fu foo", "-f nope", "-f -d a.example"}

// TestQuotaLinkFixes has the real program and ours put the same store right: they say the same and end the same, and what is in
// the roots and in the headers of the mailboxes is the same then. The root of a domain is left out: Cyrus removes it.
func TestQuotaLinkFixes(t *testing.T) {
	realcyrus.NeedPrograms(t)
	kind := 0
	eachQuotaStore(t, false, func(t *testing.T, s *quotaStore) {
		kind++
		for i, line := range fixLines {
			if i > 0 && (i+kind)%2 == 0 {
				continue // each kind of store takes half of them, and each line half of the kinds
			}
			args := strings.Fields(line)
			their, our := &quotaStore{s.Copy(t), s.link}, &quotaStore{s.Copy(t), s.link}
			want, got := their.theirs(t, args...), our.ours(t, args...)
			require.Equal(t, want.Stdout, got.Stdout, "quota %s", line)
			require.Equal(t, sortedLines(want.Stderr), sortedLines(got.Stderr), "quota %s", line)
			require.Equal(t, want.Code, got.Code, "quota %s", line)
			require.Equal(t, their.theirs(t, "-J").Stdout, our.theirs(t, "-J").Stdout, "quota %s", line)
			again := our.ours(t, args...)
			require.Empty(t, again.Stderr, "quota %s, once more", line)
			require.Empty(t, our.theirs(t, append([]string{"-f"}, args...)...).Stderr, "after quota %s nothing is left for the real program", line)

			// A dry run says the same, and changes nothing.
			dry := &quotaStore{s.Copy(t), s.link}
			before, err := fingerprint(filepath.Join(dry.Dir, "conf"))
			require.NoError(t, err)
			plan := dry.ours(t, append([]string{"-n"}, args...)...)
			require.Equal(t, got.Stderr, plan.Stderr, "quota -n %s", line)
			require.Equal(t, got.Code, plan.Code, "quota -n %s", line)
			after, err := fingerprint(filepath.Join(dry.Dir, "conf"))
			require.NoError(t, err)
			require.Equal(t, before, after, "quota -n %s", line)
		}
	})
}

// TestQuotaLinkDefects gives ours command lines of which the real program makes what is wrong: arguments that overlap, the root of
// a domain, and a mailbox that cannot be opened.
func TestQuotaLinkDefects(t *testing.T) {
	realcyrus.NeedPrograms(t)
	s := newQuotaStore(t, realcyrus.Options{}, quotaBoxes, quotaRoots)
	right := &quotaStore{s.Copy(t), s.link}
	right.theirs(t, "-f")
	want := right.theirs(t, "-J").Stdout
	for _, line := range []string{"-f user.foo user.foo", "-f user.foobar user.bob", "-f user.bob user.bobby", "-fu foo foo", "-f us user.b"} {
		our := &quotaStore{s.Copy(t), s.link}
		require.Zero(t, our.ours(t, strings.Fields(line)...).Code)
		for _, root := range slices.Sorted(maps.Keys(quotaRoots)) {
			require.Contains(t, our.ours(t).Stdout, "STORAGE "+root+"\n", "%s: no root is removed", line)
		}
		require.Zero(t, our.ours(t, "-f").Code)
		require.Equal(t, want, our.ours(t, "-J").Stdout, line)
	}

	// The long names of later releases.
	our := &quotaStore{s.Copy(t), s.link}
	require.Equal(t, our.ours(t, "-f", "-n", "-u", "foo"), our.ours(t, "--fix", "--report-only", "--userids", "foo"))

	// One mailbox cannot be opened: its root stays as it is, and all others are put right.
	path, err := exec.Command("mailspine", "mailbox", "path", "--kind", "index", "-C", our.Conf, "user.foo.sub").Output()
	require.NoError(t, err)
	broken := strings.TrimSpace(string(path))
	require.NoError(t, os.Truncate(broken, 40))
	out := our.ours(t, "-f")
	require.Equal(t, linkSoftware, out.Code, out.Stderr)
	require.Contains(t, out.Stderr, broken)
	require.Contains(t, out.Stderr, "user.bob: STORAGE usage was 2000, now 1500\n")
	require.NotContains(t, out.Stderr, "user.foo: STORAGE usage")
	require.Contains(t, out.Stdout, "  100000        0        0              STORAGE user.foo\n")
	require.Equal(t, 1+4*len(quotaRoots), strings.Count(out.Stdout, "\n"), "the report is there: %s", out.Stdout)

	domains := newQuotaStore(t, realcyrus.Options{Extra: domainOptions}, append(domainBoxes, quotaBox{"user.new@a.example", 1, 1000}), domainRoots)
	out = domains.ours(t, "-f", "-d", "a.example")
	require.Zero(t, out.Code, out.Stderr)
	require.Contains(t, out.Stderr, "a.example!user.new: quota root (none) --> a.example!\n")
	require.Contains(t, out.Stderr, "a.example!: STORAGE usage was 2047, now 1000\n")
	require.Contains(t, out.Stdout, "STORAGE (null)\n")
}

func sortedLines(text string) []string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return lines
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
	eachQuotaStore(t, true, func(t *testing.T, s *quotaStore) {
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
