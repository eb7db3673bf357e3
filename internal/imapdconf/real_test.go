package imapdconf

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
)

// oracle is the program in testdata/oracle.c: config_read of the installed Cyrus.
type oracle struct {
	in  *bufio.Writer
	out *bufio.Reader
}

// reading is what Cyrus made of a configuration: why it stopped, or the values.
type reading struct {
	fatal  string
	values map[string]string // of options; those without a value are missing
	keys   map[string]string // outside the table
}

func startOracle(t *testing.T) *oracle {
	t.Helper()
	realcyrus.NeedOracle(t)
	program := filepath.Join(t.TempDir(), "oracle")
	out, err := exec.Command("gcc", "-D_GNU_SOURCE", "-O1", "-Wall", "-Werror", "testdata/oracle.c", "-o", program, "-lcyrus_min").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.Command(program)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		require.NoError(t, cmd.Wait())
	})
	return &oracle{in: bufio.NewWriter(in), out: bufio.NewReader(stdout)}
}

func (o *oracle) read(t *testing.T, what string, service, path string) reading {
	t.Helper()
	if service == "" {
		service = "-"
	}
	fmt.Fprintf(o.in, "%s 1 %s %s\n", what, service, path)
	require.NoError(t, o.in.Flush())
	r := reading{values: map[string]string{}, keys: map[string]string{}}
	for {
		line, err := o.out.ReadString('\n')
		require.NoError(t, err)
		words := strings.Fields(line)
		switch words[0] {
		case ".":
			return r
		case "!":
			r.fatal = strings.TrimSpace(line[2:])
			return r
		}
		require.Len(t, words, 3)
		name, err := hex.DecodeString(words[1][1:])
		require.NoError(t, err)
		if words[2] == "-" {
			continue
		}
		value, err := hex.DecodeString(words[2][1:])
		require.NoError(t, err)
		map[string]map[string]string{"o": r.values, "k": r.keys}[words[0]][string(name)] = string(value)
	}
}

// value is an option as the oracle prints it.
func value(c *Config, o Option) string {
	switch o.Type {
	case Switch:
		return map[bool]string{true: "yes", false: "no"}[c.Bool(o.Name)]
	case Int:
		return strconv.Itoa(c.Int(o.Name))
	case Enum:
		return c.Enum(o.Name)
	case Bitfield:
		return strings.Join(c.Bits(o.Name), " ")
	case Duration:
		text, ok := c.lookup(&o)
		if d, _, _ := parseDuration(text, 's'); ok {
			return strconv.Itoa(int(d / time.Second))
		}
		return ""
	}
	return c.String(o.Name)
}

// cases is how many random cases a test tries: more in a campaign.
func cases(n int) int {
	if os.Getenv("MAILSPINE_CAMPAIGN") != "" {
		return 25 * n
	}
	return n
}

// TestDefaultsOfCyrus compares all options of an almost empty configuration.
func TestDefaultsOfCyrus(t *testing.T) {
	t.Parallel()
	o := startOracle(t)
	path := filepath.Join(t.TempDir(), "imapd.conf")
	require.NoError(t, os.WriteFile(path, []byte(good), 0o644))
	want := o.read(t, "a", "", path)
	require.Empty(t, want.fatal)
	c, err := Read(vfs.OS(), path).Config("")
	require.NoError(t, err)
	require.Len(t, table, 526)
	for _, option := range table {
		require.Equal(t, want.values[option.Name], value(c, option), option.Name)
	}
}

var lineNumber = regexp.MustCompile(`(?i)line (\d+)`)

// sameAsCyrus compares one configuration for one service. It tells whether Cyrus accepts it.
func sameAsCyrus(t *testing.T, o *oracle, path, service string) bool {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	want := o.read(t, "s", service, path)
	c, err := Read(vfs.OS(), path).Config(service)
	if want.fatal != "" {
		require.ErrorIs(t, err, ErrRefused, "service %q: Cyrus says %q of\n%s", service, want.fatal, text)
		if m := lineNumber.FindStringSubmatch(want.fatal); m != nil && !strings.Contains(string(text), "\\\n") {
			ours := slices.ContainsFunc(c.Problems, func(p *Problem) bool { return p.Refused && strconv.Itoa(p.Line) == m[1] })
			require.True(t, ours, "service %q: Cyrus says %q, not %v of\n%s", service, want.fatal, brief(c.Problems), text)
		}
		return false
	}
	require.NoError(t, err, "service %q: Cyrus accepts\n%s", service, text)
	for name, v := range want.values {
		if o := *byName()[name]; o.Type == Duration {
			if _, wrapped, _ := parseDuration(c.values[name].Value, 's'); wrapped {
				continue // C leaves open what Cyrus makes of it
			}
		}
		require.Equal(t, v, value(c, *byName()[name]), "service %q: %s of\n%s", service, name, text)
	}
	keys := map[string]string{}
	for key, s := range c.others {
		keys[key] = s.Value
	}
	require.Equal(t, want.keys, keys, "service %q:\n%s", service, text)
	return true
}

// TestRandomImapdConf compares random configurations, of which about half are wrong.
func TestRandomImapdConf(t *testing.T) {
	t.Parallel()
	o := startOracle(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "more"), []byte("lmtp_over_quota_perm_failure: 1\n"), 0o644))
	const seed = 7
	rnd := rand.New(rand.NewPCG(seed, seed))
	path := filepath.Join(dir, "imapd.conf")
	accepted, refused := 0, 0
	for range cases(400) {
		require.NoError(t, os.WriteFile(path, []byte(randomConf(rnd, dir)), 0o644))
		service := []string{"", "imap", "lmtp", "Sync"}[rnd.IntN(4)]
		if sameAsCyrus(t, o, path, service) {
			accepted++
		} else {
			refused++
		}
	}
	t.Logf("%d configurations accepted by both, %d refused, seed %d", accepted, refused, seed)
	require.Greater(t, accepted, 100)
	require.Greater(t, refused, 100)
}

// pool are values that a random setting may have.
var pool = []string{
	"yes", "no", "on", "off", "t", "f", "true", "false", "1", "0", "y", "maybe", "Yes", "only", "ofx", "o", "7", "-3", "+5", "0x1F", "010", "08", "0x", "3x",
	"99999999999999999999", "1h30m", "5", "-5m", "-", "5 m", "m", "1d2h3m4s", "10y", "skiplist", "twoskip", "flat", "header", "header index", "header,index",
	"fileinto imapflags  body", "userid", "delayed", "a b  c", "{configdirectory}/x", "{ConfigDirectory}", "x{configdirectory}", "\"q\"", "a#b", "ä", "x\\", "standard",
}

func randomConf(rnd *rand.Rand, dir string) string {
	var b strings.Builder
	if rnd.IntN(20) > 0 {
		b.WriteString("configdirectory: /c\n")
	}
	if rnd.IntN(20) > 0 {
		b.WriteString("partition-default: /p\n")
	}
	if rnd.IntN(4) > 0 {
		b.WriteString([]string{"defaultpartition: default\n", "DefaultPartition:\tDefault\n"}[rnd.IntN(2)])
	}
	var names []string
	for range 1 + rnd.IntN(8) {
		o := table[rnd.IntN(len(table))]
		name := o.Name
		v := pool[rnd.IntN(len(pool))]
		switch {
		case rnd.IntN(3) > 0 && len(o.Values) > 0:
			v = o.Values[rnd.IntN(len(o.Values))]
		case rnd.IntN(3) > 0:
			v = map[Type]string{String: "text", Int: "42", Switch: "yes", Duration: "3h", Enum: "on", StringList: "x", Bitfield: "x"}[o.Type]
		}
		if len(names) > 0 && rnd.IntN(8) == 0 {
			name = names[rnd.IntN(len(names))]
		}
		names = append(names, name)
		if prefix := []string{"imap_", "lmtp_", "IMAP_", "sync_", "x_"}; rnd.IntN(4) == 0 {
			name = prefix[rnd.IntN(len(prefix))] + name
		}
		switch rnd.IntN(24) {
		case 0:
			name = strings.ToUpper(name)
		case 1:
			name = "no_" + name
		case 2:
			name = []string{"sasl_x", "partition-x", "metapartition-default", "", "@include", "@INCLUDE", "@x", "a.b", "mupdate_server", "proxyservers"}[rnd.IntN(10)]
			if strings.EqualFold(name, "@include") {
				v = filepath.Join(dir, []string{"more", "none", "imapd.conf"}[rnd.IntN(3)])
			}
		}
		b.WriteString([]string{"", "", "", " ", "\t", "\v", "#"}[rnd.IntN(7)])
		b.WriteString(name)
		b.WriteString([]string{": ", ": ", ": ", ":", ":\t", ":\\\n ", ":  \\\n\\\n"}[rnd.IntN(7)])
		b.WriteString(v)
		b.WriteString([]string{"\n", "\n", "\n", "\n", " \t\n", "\r\n", "\n\n# x\n", "\n#\\\n"}[rnd.IntN(8)])
		if rnd.IntN(100) == 0 {
			b.WriteString([]string{"junk\n", "admins:\n", "x : y\n", ":\n", "\f\n", "# " + strings.Repeat("long", 3000) + "\n", "admins: " + strings.Repeat("long ", 3000) + "\n"}[rnd.IntN(7)])
		}
	}
	text := b.String()
	if rnd.IntN(20) == 0 {
		text = strings.TrimSuffix(text, "\n")
	}
	return text
}

// TestDurationsOfCyrus compares durations one by one.
func TestDurationsOfCyrus(t *testing.T) {
	t.Parallel()
	o := startOracle(t)
	path := filepath.Join(t.TempDir(), "imapd.conf")
	rnd := rand.New(rand.NewPCG(1, 2))
	for range cases(100) {
		v := ""
		for range 1 + rnd.IntN(5) {
			v += string("0123456789dhms-dhmsx"[rnd.IntN(20)])
		}
		require.NoError(t, os.WriteFile(path, []byte(good+"timeout: "+v+"\n"), 0o644))
		sameAsCyrus(t, o, path, "")
	}
}

// confLint runs Cyrus's own check and returns its exit status and the keys it does not know.
func confLint(t *testing.T, conf, master string) (int, []string) {
	t.Helper()
	s := &realcyrus.Store{Dir: filepath.Dir(conf), Conf: conf}
	out := s.Try(t, "cyr_info", nil, "-M", master, "conf-lint")
	keys := map[string]bool{}
	for line := range strings.Lines(out.Stdout) {
		key, _, _ := strings.Cut(line, ":")
		keys[key] = true
	}
	return out.Code, slices.Sorted(maps.Keys(keys))
}

// TestUnknownAsConfLint compares which options are unknown with Cyrus's own check.
func TestUnknownAsConfLint(t *testing.T) {
	t.Parallel()
	realcyrus.NeedPrograms(t)
	dir := realcyrus.TempDir(t)
	conf, master := filepath.Join(dir, "imapd.conf"), filepath.Join(dir, "cyrus.conf")
	require.NoError(t, os.WriteFile(master, []byte(goodCyrus), 0o644))
	require.NoError(t, os.WriteFile(conf, []byte(good+`admin: x
imap_timeout: 3
imap_partition-default: /x
imapx_timeout: 3
quite_unknown: 1
sasl_mech_list: PLAIN
metapartition-default: /m
metapartition-defualt: /m
archivepartition-none: /a
t1searchpartition-default: /s
t1searchpartition-none: /s
xlist-drafts: Drafts
backuppartition-x: /b
archive_days: 3
sync_log_channels: one "" two
one_sync_host: h
two_sync_unknown: h
two_timeout: h
timeuot: 3
`), 0o644))
	code, want := confLint(t, conf, master)
	require.Zero(t, code)
	var got []string
	for _, p := range Problems(Options{Imapd: conf, Cyrus: master}) {
		if p.Code == "option-unknown" || p.Code == "partition-unknown" || p.Code == "deprecated-option" {
			key, _, _ := strings.Cut(strings.TrimPrefix(p.Found, `option "`), `"`)
			got = append(got, key)
		}
	}
	slices.Sort(got)
	require.Equal(t, want, got)
}

// TestRandomCyrusConf compares the section SERVICES of random files with Cyrus's program that reads only that: whether it
// stops, and which services it finds.
func TestRandomCyrusConf(t *testing.T) {
	t.Parallel()
	realcyrus.NeedPrograms(t)
	dir := realcyrus.TempDir(t)
	conf, master := filepath.Join(dir, "imapd.conf"), filepath.Join(dir, "cyrus.conf")
	names := []string{"imap", "imaps", "lmtp", "pop3"}
	text := good
	for _, name := range names {
		text += name + "_timeout: 3\n"
	}
	require.NoError(t, os.WriteFile(conf, []byte(text), 0o644))
	lines := []string{
		"SERVICES {", "SERVICES {", "SERVICES {", "}", "}", "}", "START {", "EVENTS {", "Services{", "services {", "SERVICES", "{", "} SERVICES {",
		`imap cmd="imapd" listen="imap"`, `  imaps cmd="imapd -s" listen="imaps" prefork=1`, `lmtp cmd=lmtpd listen=/x`, `pop3 cmd="x"`, "imap", "pop3 a=b",
		`imap cmd="imapd", listen="imap"`, `lmtp, cmd="x"`, `imap cmd="x" }`, `pop3 cmd="{"`, `pop3 cmd="}"`, `pop3 cmd="a # b"`, `# }`, "pop3 a={", ", imap", "- a=b", `x ="y"`, "\t", `lmtp a="b"c="d"`,
	}
	const seed = 3
	rnd := rand.New(rand.NewPCG(seed, seed))
	accepted, refused := 0, 0
	for range cases(50) {
		var b strings.Builder
		for range 2 + rnd.IntN(8) {
			b.WriteString(lines[rnd.IntN(len(lines))] + "\n")
		}
		require.NoError(t, os.WriteFile(master, []byte(b.String()), 0o644))
		code, unknown := confLint(t, conf, master)
		c := &Cyrus{Path: master, start: map[string]int{}}
		c.split(b.String())
		c.section("SERVICES")
		if code != 0 {
			refused++
			require.Equal(t, 78, code, "%s", b.String())
			require.NotNil(t, Refusal(c.Problems), "Cyrus refuses\n%s", b.String())
			require.NotNil(t, Refusal(ReadCyrus(vfs.OS(), master).Problems))
			continue
		}
		accepted++
		require.Nil(t, Refusal(c.Problems), "Cyrus accepts\n%s", b.String())
		for _, name := range names {
			found := slices.Contains(c.ServiceNames(), name)
			require.NotEqual(t, found, slices.Contains(unknown, name+"_timeout"), "service %s of\n%s", name, b.String())
		}
	}
	t.Logf("%d files accepted by both, %d refused, seed %d", accepted, refused, seed)
	require.Greater(t, accepted, 5)
	require.Greater(t, refused, 5)
}

// TestMaster starts the real master on good and bad files: it stops where we say so, and else runs.
func TestMaster(t *testing.T) {
	t.Parallel()
	realcyrus.NeedServer(t)
	s := realcyrus.NewStore(t, realcyrus.Options{})
	imapd, err := realcyrus.Program("imapd")
	require.NoError(t, err)
	sock := filepath.Join(s.Dir, "run", "sock")
	imap := func(args string) string {
		return "SERVICES {\n imap cmd=\"imapd\" listen=\"" + sock + "\"" + args + "\n}\n"
	}
	const start = "START {\n true cmd=\"/bin/true\"\n}\n"
	for i, c := range []struct {
		text string
		code int // -1: it runs
	}{
		{start + imap(""), -1},
		{start + imap(" prefrok=1 maxchild=x") + "EVENTS {\n e cmd=\"/none\"\n}\n", -1},
		{start + imap(","), 78},
		{start + imap(" }"), 78},
		{"START {\n true cmd=\"/bin/true\"\n" + imap(""), 78},
		{start + imap("") + "EVENTS {\n e period=3\n}\n", 78},
		{start + imap("") + "EVENTS {\n e, cmd=\"/bin/true\"\n}\n", 78},
		{start + imap("") + "DAEMON {\n imap cmd=\"idled\"\n}\n", 78},
		{start + strings.Replace(imap(""), "imapd", "imadp", 1), 78},
		{"START {\n x cmd=\"/none\"\n}\n" + imap(""), 1},
		{"START {\n x\n}\n" + imap(""), 78},
	} {
		master := filepath.Join(s.Dir, "cyrus.conf")
		require.NoError(t, os.WriteFile(master, []byte(c.text), 0o644))
		cmd := s.Command(t, "master", "-M", master, "-p", filepath.Join(s.Dir, "run", "pid"+strconv.Itoa(i)))
		cmd.SysProcAttr.Setpgid = true // the master ends its whole process group
		require.Equal(t, c.code, exitOf(t, cmd, c.code == -1), "%s", c.text)
		p := Refusal(Problems(Options{Imapd: s.Conf, Cyrus: master, ProgramDirs: []string{filepath.Dir(imapd)}}))
		require.Equal(t, c.code != -1, p != nil, "%s", c.text)
	}
}

// exitOf runs a program until it ends or, if it is expected to run, has done so for a moment. It returns the exit status,
// -1 for a program that had to be stopped.
func exitOf(t *testing.T, cmd *exec.Cmd, runs bool) int {
	t.Helper()
	require.NoError(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	patience := 20 * time.Second
	if runs {
		patience = 2 * time.Second
	}
	select {
	case <-done:
		return cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			require.NoError(t, cmd.Process.Kill())
			<-done
		}
		return -1
	}
}

// TestGoodStores shows that nothing is found in configurations that work: those of the stores that tests run on, and the
// ones that the packages of a distribution install, apart from programs of packages that are not there.
func TestGoodStores(t *testing.T) {
	t.Parallel()
	realcyrus.NeedPrograms(t)
	for _, options := range []realcyrus.Options{{}, {UnixHS: true, Hash: true, MailboxDB: "skiplist"}, realcyrus.LegacyLayout()} {
		s := realcyrus.NewStore(t, options)
		require.NoError(t, os.MkdirAll(filepath.Join(s.Dir, "spool"), 0o755))
		require.Empty(t, Findings(Problems(Options{Imapd: s.Conf})))
		c, err := Read(vfs.OS(), s.Conf).Config("imap")
		require.NoError(t, err)
		require.Equal(t, s.MailboxDB(), c.Path("mboxlist_db_path"))
		require.Equal(t, s.Separator(), string(c.Separator()))
	}
	if _, err := os.Stat("/etc/cyrus.conf"); err != nil {
		return
	}
	imapd, err := realcyrus.Program("imapd")
	require.NoError(t, err)
	for _, p := range Problems(Options{Imapd: "/etc/imapd.conf", Cyrus: "/etc/cyrus.conf", ProgramDirs: []string{filepath.Dir(imapd), "/usr/sbin"}}) {
		t.Log(p.Finding())
		require.False(t, p.Refused && p.Code != "file-unreadable" && p.Code != "program-missing", "packages may be missing here")
	}
}
