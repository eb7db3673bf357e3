package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// section is a heading of a Markdown page with the commands under it: the lines that are indented.
type section struct {
	title    string
	commands []string
}

func sections(t *testing.T, page string) (list []section) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if title, ok := strings.CutPrefix(line, "## "); ok {
			list = append(list, section{title: title})
		} else if command, ok := strings.CutPrefix(line, "    "); ok && len(list) > 0 {
			s := &list[len(list)-1]
			s.commands = append(s.commands, command)
		}
	}
	return list
}

// fixture makes a store with a mailbox list and a backup of it, and brings the list into a state.
func fixture(t *testing.T, state string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	imap := filepath.Join(dir, "imap")
	require.NoError(t, os.MkdirAll(filepath.Join(imap, "backup"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "imapd.conf"), []byte("configdirectory: "+imap+"\n"), 0o644))
	list := filepath.Join(imap, "mailboxes.db")
	switch state {
	case "store":
		fillStore(t, dir, list)
		return dir
	case "quotas", "wrong quotas":
		fillQuotas(t, dir, state != "quotas")
		return dir
	}
	db, err := skiplist.Open(t.Context(), list, skiplist.Options{Create: true})
	require.NoError(t, err)
	for i := range 60 {
		require.NoError(t, db.Put(t.Context(), fmt.Appendf(nil, "user.u%03d", i), []byte(strings.Repeat("default ", 9))))
	}
	for _, name := range []string{"user.fred", "user.fred.Trash"} {
		require.NoError(t, db.Put(t.Context(), []byte(name), []byte("default")))
	}
	require.NoError(t, db.Checkpoint(t.Context()))
	_, err = db.BackupFile(t.Context(), filepath.Join(imap, "backup", "mailboxes.db"))
	require.NoError(t, err)
	require.NoError(t, db.Close())
	b, err := os.ReadFile(list)
	require.NoError(t, err)
	switch state {
	case "torn":
		b = append(b, "half a transaction.."...)
	case "damaged":
		clear(b[len(b)/2 : len(b)/2+256])
	}
	require.NoError(t, os.WriteFile(list, b, 0o644))
	return dir
}

// recordedMail are the messages of the recorded mailboxes.
var recordedMail = []string{
	"Subject: one\r\n\r\nbody\r\n",
	"From: A <a@b.example>\r\nDate: Wed, 01 Jan 2020 10:11:12 +0100\r\nContent-Type: text/plain; charset=koi8-r\r\n\r\n\r\n",
	"Subject: =?utf-8?q?=C3=A4?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\n" +
		"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ny\r\n--b--\r\n",
	"To: x@y\r\n\r\nz\r\n",
}

// fillStore makes a whole store: a configuration that Cyrus would accept, a list with a few mailboxes, and one of them
// with the files that Cyrus recorded and its messages.
func fillStore(t *testing.T, dir, path string) {
	t.Helper()
	spool := filepath.Join(dir, "spool", "uuid", "i", "d", "id-1")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "imap", "db"), 0o755))
	require.NoError(t, os.CopyFS(spool, os.DirFS("../../index/testdata/real/v17")))
	for i, text := range recordedMail {
		require.NoError(t, os.WriteFile(filepath.Join(spool, fmt.Sprintf("%d.", i+1)), []byte(text), 0o644))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "imapd.conf"), fmt.Appendf(nil, "configdirectory: %[1]s/imap\n"+
		"defaultpartition: default\npartition-default: %[1]s/spool\nadmins: cyrus\naltnamespace: no\nunixhierarchysep: no\n", dir), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cyrus.conf"), []byte("SERVICES {\n  imap cmd=\"imapd\" listen=\"imap\"\n}\n"), 0o644))
	l, err := mboxdb.Open(t.Context(), path, mboxdb.Options{DB: skiplist.Options{Create: true}})
	require.NoError(t, err)
	for i, name := range []string{"user.fred", "user.fred.Trash", "shared"} {
		_, err := l.Create(t.Context(), mboxdb.NewMailbox{Name: mboxdb.InternalName(name), UniqueID: fmt.Sprintf("id-%d", i+1)})
		require.NoError(t, err)
	}
	require.NoError(t, l.Close())
}

// fillQuotas makes a store with mailboxes that count for a quota root, whose usage may be wrong.
func fillQuotas(t *testing.T, dir string, wrong bool) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "spool"), 0o755))
	conf := filepath.Join(dir, "imapd.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, "configdirectory: %[1]s/imap\ndefaultpartition: default\n"+
		"partition-default: %[1]s/spool\naltnamespace: no\nunixhierarchysep: no\n", dir), 0o644))
	for _, command := range []string{
		"db create --format twoskip " + filepath.Join(dir, "imap", "mailboxes.db"), "mailbox create user.fred", "mailbox create user.fred.Trash",
		"message append user.fred.Trash -", "quota set user.fred STORAGE=100 MESSAGE=10",
	} {
		cmd := exec.Command("mailspine", append(strings.Fields(command), "-q", "-C", conf)...)
		cmd.Stdin = strings.NewReader(recordedMail[0])
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", command, out)
	}
	if wrong {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "imap", "quota", "f", "user.fred"), []byte("%(S (99999 100) M (2 10) AS (0) NF (2))\n"), 0o600))
	}
}

var (
	wanted  = regexp.MustCompile(`\s*# exit status (\d+)$`)
	crontab = regexp.MustCompile(`^\S+ \S+ \S+ \S+ \S+ root (.*)$`)
)

// inStore puts a store in the place of the example's.
func inStore(dir, command string) string {
	return strings.NewReplacer("/var/lib/imap", dir+"/imap", "/etc/imapd.conf", dir+"/imapd.conf", "/etc/cyrus.conf", dir+"/cyrus.conf", "/var/spool/imap", dir+"/spool", "/tmp/", dir+"/").Replace(command)
}

// runDoc runs a command of a page, and expects the exit status that stands behind it.
func runDoc(t *testing.T, command string) {
	t.Helper()
	want := 0
	if m := wanted.FindStringSubmatch(command); m != nil {
		want, _ = strconv.Atoi(m[1])
		command = wanted.ReplaceAllString(command, "")
	}
	if m := crontab.FindStringSubmatch(command); m != nil {
		command = strings.ReplaceAll(m[1], `\%`, "%")
	}
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		require.NoError(t, err)
	}
	require.Equal(t, want, got, "%s\n%s", command, out)
}

// TestOperations runs every command of docs/operations.md, each section on a store in the state that it is about.
func TestOperations(t *testing.T) {
	states := map[string]string{"1. Stop, and look": "damaged", "3. Torn by a crash": "torn", "4. Damaged in the middle": "damaged", "8. The mailbox list": "store", "9. One mailbox": "store", "10. Messages, from a script": "store", "11. Quotas": "wrong quotas"}
	n := 0
	for _, s := range sections(t, "../../docs/operations.md") {
		t.Run(s.title, func(t *testing.T) {
			dir := fixture(t, states[s.title])
			delete(states, s.title)
			for _, command := range s.commands {
				runDoc(t, inStore(dir, command))
				n++
			}
		})
	}
	require.Empty(t, states, "sections that are not on the page")
	require.Greater(t, n, 25)
}

// TestReadme runs the commands of the README: the demo, and the operator's tour on a database. FILE stands for it, and
// what follows two or more spaces is their description.
func TestReadme(t *testing.T) {
	all := map[string]section{}
	for _, s := range sections(t, "../../README.md") {
		all[s.title] = s
	}
	commands := all["Two commands"].commands
	require.Len(t, commands, 2)
	require.Regexp(t, `^go run ./cmd/mailspine demo\s+#`, commands[0])
	require.Regexp(t, `^go test \./\.\.\.\s+#`, commands[1])
	dir, store, quotas := fixture(t, ""), fixture(t, "store"), fixture(t, "quotas")
	file := filepath.Join(dir, "imap", "mailboxes.db")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "commands"), []byte("GET user.fred\n"), 0o644))
	gap := regexp.MustCompile(`  +`)
	verbs := map[string]bool{}
	for _, line := range all["An operator's tour"].commands {
		command := gap.Split(line, 2)[0]
		fields := strings.Fields(command)
		require.GreaterOrEqual(t, len(fields), 2, line)
		if fields[1] != "db" {
			verbs[strings.Join(fields[:min(3, len(fields))], " ")] = true
			on := store
			if fields[1] == "quota" {
				on = quotas
			}
			runDoc(t, inTour(on, fields))
			continue
		}
		verbs[fields[2]] = true
		for i, f := range fields {
			switch f {
			case "FILE":
				fields[i] = file
			case "FILE2":
				fields[i] = filepath.Join(dir, fields[2])
			case "KEY":
				fields[i] = "user.fred"
			case "VALUE":
				fields[i] = "'%(A %() P default)'"
			case "PREFIX", "[PREFIX]":
				fields[i] = "user."
			case "commands":
				fields[i] = filepath.Join(dir, "commands")
			}
		}
		runDoc(t, strings.Join(fields, " "))
	}
	require.Len(t, verbs, 12+27, "all verbs but db create, mailbox rename, delete, setacl and undump, index dump and upgrade, message cat, parse and move, quota get, "+
		"delete and runs")
}

// inTour completes a command of the tour that works on a whole store.
func inTour(dir string, fields []string) string {
	for i, f := range fields {
		switch f {
		case "NAME", "NAME...", "[NAME...]":
			fields[i] = "user.fred"
		case "NEW":
			fields[i] = "user.fred.New"
		case "UID":
			fields[i] = "1"
		case "MAIL":
			fields[i] = filepath.Join(dir, "spool/uuid/i/d/id-1/1.")
		case "PATH":
			fields[i] = filepath.Join(dir, "spool/uuid/i/d/id-1")
		case "cyrus.conf":
			fields[i] = filepath.Join(dir, "cyrus.conf")
		}
	}
	return strings.Join(fields, " ") + " -C " + filepath.Join(dir, "imapd.conf")
}

// TestDocumentedFields compares the JSON fields that docs/operations.md lists with those that the verbs print.
func TestDocumentedFields(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	listed := map[string]map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(cells[1], "`") {
			continue
		}
		names := map[string]bool{}
		for _, m := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(cells[2], -1) {
			names[m[1]] = true
		}
		for _, m := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(cells[1], -1) {
			listed[m[1]] = names
		}
	}
	field := regexp.MustCompile(`"([a-z0-9_]+)":`)
	for _, state := range []string{"", "torn", "damaged"} {
		dir := fixture(t, state)
		file := filepath.Join(dir, "imap", "mailboxes.db")
		for _, args := range []string{
			"version", "db check", "db info", "db show", "db get user.fred", "db get none", "db dump", "db backup " + dir + "/copy",
			"db salvage --out " + dir + "/saved", "db recover -n", "db recover", "db set a 1", "db delete a", "db repack", "db create -n",
		} {
			words := strings.Fields(args)
			verb := words[0]
			if verb == "db" {
				verb = words[1]
				words = append([]string{"db", verb, file}, words[2:]...)
				if verb == "create" {
					words[2] = dir + "/new"
				}
			}
			out, _, _ := cli(t, nil, append(words, "--json")...)
			for _, m := range field.FindAllStringSubmatch(out, -1) {
				require.True(t, listed[verb][m[1]], "%s prints the field %q, which docs/operations.md does not list", verb, m[1])
			}
			require.NotEmpty(t, listed[verb], verb)
		}
	}
}

// TestDocumentedQuotaFields does so for the verbs of mailspine quota.
func TestDocumentedQuotaFields(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	code := regexp.MustCompile("`([^`]+)`")
	listed := map[string]map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || !strings.HasPrefix(cells[1], " `quota") {
			continue
		}
		names := map[string]bool{}
		for _, m := range code.FindAllStringSubmatch(cells[2], -1) {
			names[m[1]] = true
		}
		for _, m := range code.FindAllStringSubmatch(cells[1], -1) {
			listed[m[1]] = names
		}
	}
	for _, field := range []string{"root", "root_base64", "resources", "resource", "used", "limit", "unit", "percent", "problem", "path"} {
		for _, verb := range []string{"quota -f", "quota set", "quota delete"} {
			listed[verb][field] = true // the fields of quota, as they say
		}
	}
	for _, field := range []string{"code", "severity", "path", "offset", "detail", "fix", "damage", "errors", "warnings", "infos", "findings", "mailboxes"} {
		for _, verb := range []string{"quota -f", "quota check"} {
			listed[verb][field] = true // those of check in section 7
		}
	}
	for _, field := range []string{"resource", "used", "was", "unit"} {
		listed["quota undo"][field] = true
	}
	dir := fixture(t, "wrong quotas")
	conf := filepath.Join(dir, "imapd.conf")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "imap", "quota", "c"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "imap", "quota", "c", "user.cut"), []byte("%(S ("), 0o600))
	field := regexp.MustCompile(`"([a-z0-9_]+)":`)
	for _, args := range []string{
		"quota", "quota get user.cut", "quota check", "quota check user.fred", "quota -f --explain", "quota -fn", "quota set user.fred MESSAGE=9", "quota delete -n user.fred",
		"quota runs", "quota undo", "quota delete user.fred", "quota undo",
	} {
		out, err := exec.Command("mailspine", append(strings.Fields(args), "--json", "-C", conf)...).Output()
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			require.NoError(t, err, args)
		}
		verb := "quota"
		if words := strings.Fields(args); len(words) > 1 {
			verb += " " + strings.Replace(words[1], "-fn", "-f", 1)
		}
		require.NotEmpty(t, listed[verb], verb)
		found := field.FindAllStringSubmatch(string(out), -1)
		require.NotEmpty(t, found, args)
		for _, m := range found {
			require.True(t, listed[verb][m[1]], "%s prints the field %q, which docs/operations.md does not list", args, m[1])
		}
	}
}
