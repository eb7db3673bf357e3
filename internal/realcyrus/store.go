package realcyrus

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Options choose how a store is configured. The zero value is Cyrus 3.6's default: twoskip, "." as separator.
type Options struct {
	// MailboxDB and QuotaDB are the engines mboxlist_db and quota_db: twoskip or skiplist; also quotalegacy, the
	// default, for quotas.
	MailboxDB, QuotaDB string
	// UnixHS makes "/" the separator of mailbox names and allows dots in them.
	UnixHS bool
	// Hash spreads users over directories by their first letter (hashimapspool).
	Hash bool
	// Extra are further lines of imapd.conf, or others in the place of those written here. "DIR" in a value stands
	// for the store's directory. Partition directories named here are created.
	Extra map[string]string
}

// LegacyLayout is a second kind of store worth testing: directories by mailbox name instead of by id, hashed spools,
// metadata and archive partitions, virtual domains and conversations.
func LegacyLayout() Options {
	return Options{Hash: true, Extra: map[string]string{
		"mailbox_legacy_dirs": "yes", "fulldirhash": "yes",
		"metapartition-default": "DIR/meta", "metapartition_files": "header index cache annotations",
		"archive_enabled": "yes", "archivepartition-default": "DIR/archive", "archive_maxsize": "4",
		"virtdomains": "userid", "defaultdomain": "def.example", "conversations": "yes", "reverseacls": "yes",
	}}
}

// Store is a directory laid out for Cyrus, with or without a server running on it: imapd.conf, conf (databases,
// quotas, user data), spool, sasl and run.
type Store struct {
	// Dir is the store's directory and Conf its imapd.conf.
	Dir, Conf string
	// Options are those it was made with.
	Options Options
}

// serverName is what the server calls itself, so that logins do not depend on the host's name.
const serverName = "mailspine.example"

// NewStore makes an empty store in a directory of its own.
func NewStore(t testing.TB, o Options) *Store {
	t.Helper()
	dir := TempDir(t)
	return &Store{Dir: dir, Conf: Conf(t, dir, o), Options: o}
}

// Conf writes a minimal imapd.conf and the directories it names into dir, gives them to the user cyrus, and returns
// its path. There is no skipstamp yet (see [WriteSkipstamp]), so every opening of a skiplist recovers it.
func Conf(t testing.TB, dir string, o Options) string {
	t.Helper()
	options := options(dir, o)
	dirs := []string{"conf/db", "sasl", "run"}
	for name, value := range options {
		if strings.Contains(name, "partition-") {
			if rel, err := filepath.Rel(dir, value); err == nil {
				dirs = append(dirs, rel)
			}
		}
	}
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// An option given twice would stop Cyrus without a word; a map has each once.
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(options)) {
		fmt.Fprintf(&text, "%s: %s\n", name, options[name])
	}
	path := filepath.Join(dir, "imapd.conf")
	if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := credential(); err == nil {
		if err := own(dir); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// options are the lines of imapd.conf.
func options(dir string, o Options) map[string]string {
	yes := map[bool]string{true: "yes", false: "no"}
	engine := func(name, standard string) string {
		if name == "" {
			return standard
		}
		return name
	}
	m := map[string]string{
		"configdirectory":     filepath.Join(dir, "conf"),
		"defaultpartition":    "default",
		"partition-default":   filepath.Join(dir, "spool"),
		"admins":              "cyrus",
		"servername":          serverName,
		"sasl_pwcheck_method": "auxprop",
		"sasl_auxprop_plugin": "sasldb",
		"sasl_sasldb_path":    filepath.Join(dir, "sasl", "sasldb2"),
		"sasl_mech_list":      "PLAIN LOGIN",
		"allowplaintext":      "yes",
		"virtdomains":         "off",
		"altnamespace":        "no",
		"unixhierarchysep":    yes[o.UnixHS],
		"hashimapspool":       yes[o.Hash],
		"mboxlist_db":         engine(o.MailboxDB, "twoskip"),
		"quota_db":            engine(o.QuotaDB, "quotalegacy"),
		"expunge_mode":        "delayed",
		"delete_mode":         "delayed",
		"conversations":       "no",
		"sync_log":            "no",
		"munge8bit":           "no",
		"autocreate_quota":    "0",
		"temp_path":           filepath.Join(dir, "run"),
		"lmtpsocket":          filepath.Join(dir, "run", "lmtp"),
		"idlesocket":          filepath.Join(dir, "run", "idle"),
	}
	for name, value := range o.Extra {
		m[name] = strings.ReplaceAll(value, "DIR", dir)
	}
	return m
}

// WriteSkipstamp writes the time of the last server start into the configuration directory next to conf, as
// "ctl_cyrusdb -r" does. A skiplist that was last recovered before it is recovered when it is opened; without a stamp
// every opening recovers.
func WriteSkipstamp(conf string, at time.Time) error {
	path := filepath.Join(filepath.Dir(conf), "conf", "db", "skipstamp")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, binary.BigEndian.AppendUint32(nil, uint32(at.Unix())), 0o644)
}

// Run runs one of Cyrus's programs as the user cyrus with "-C conf" before its arguments and returns its standard
// output. A program that fails fails the test.
func (s *Store) Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out := s.Try(t, program, nil, args...)
	if out.Code != 0 {
		t.Fatalf("%s %s: exit status %d\n%s%s", program, strings.Join(args, " "), out.Code, out.Stdout, out.Stderr)
	}
	return out.Stdout
}

// Try is like Run, with standard input, and lets the caller judge the exit status.
func (s *Store) Try(t testing.TB, program string, stdin []byte, args ...string) Output {
	t.Helper()
	out, err := runProgram(program, stdin, append([]string{"-C", s.Conf}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Command prepares one of Cyrus's programs on the store without starting it, for example to run it under a supervisor.
func (s *Store) Command(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd, err := command(program, append([]string{"-C", s.Conf}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

// Copy copies the whole store, with owners, times, links and permissions, into a directory of its own and adapts its
// imapd.conf. Stop a server before, or the copy may be torn.
func (s *Store) Copy(t testing.TB) *Store {
	t.Helper()
	dir := TempDir(t)
	if out, err := exec.Command("cp", "-a", s.Dir+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("copy the store: %v\n%s", err, out)
	}
	conf := filepath.Join(dir, "imapd.conf")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.ReplaceAll(string(text), s.Dir, dir))
	if err := os.WriteFile(conf, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return &Store{Dir: dir, Conf: conf, Options: s.Options}
}

// MailboxDB is the path of the mailbox list.
func (s *Store) MailboxDB() string { return filepath.Join(s.Dir, "conf", "mailboxes.db") }

// Separator is the character between the parts of mailbox names.
func (s *Store) Separator() string {
	if s.Options.UnixHS {
		return "/"
	}
	return "."
}

// Give gives a file or tree, made by the test, to the user cyrus.
func Give(t testing.TB, path string) {
	t.Helper()
	if err := own(path); err != nil {
		t.Fatal(err)
	}
}
