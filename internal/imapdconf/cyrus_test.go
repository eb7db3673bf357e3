package imapdconf

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const goodCyrus = "START {\n recover cmd=\"ctl_cyrusdb -r\"\n}\nSERVICES {\n imap cmd=\"imapd\" listen=\"imap\" prefork=1\n}\n"

// cyrusFS holds a cyrus.conf and some programs.
func cyrusFS(text string) memFS {
	return mem("cyrus.conf", text, "/bin/", "", "/bin/imapd", "x", "/bin/ctl_cyrusdb", "x", "/bin/idled", "x", "/bin/true", "x", "/run/", "", "imapd.conf", good,
		"/c/", "", "/c/db/", "", "/p/", "")
}

func TestCyrusEntries(t *testing.T) {
	t.Parallel()
	c := ReadCyrus(cyrusFS("# first\nDaemon {\n}\n"+goodCyrus+
		"DAEMON {\n\tidled cmd=idled wait=n # \"comment\"\n idled2 cmd=\"/bin/idled -x\"maxfds=3\n}\nEvents{\n\n c cmd=\"ctl_cyrusdb -c\" at=0400\n}\n"), "cyrus.conf")
	require.Equal(t, []string{"10:1 section-twice"}, brief(c.Problems), "the first letter of a section is upper case, the rest may be anything")
	require.Equal(t, []string{"imap"}, c.ServiceNames())
	require.Len(t, c.Entries, 3)
	e := c.Entries[2]
	require.Equal(t, "EVENTS", e.Section)
	require.Equal(t, "cyrus.conf:16:2", e.Pos.String())
	require.Equal(t, "ctl_cyrusdb -c", e.Get("cmd"))
	require.Equal(t, "cyrus.conf:16:9", e.Args[0].ValuePos.String())
	require.Equal(t, "cyrus.conf:16:25", e.Args[1].Pos.String())
	require.Empty(t, e.Get("listen"))
}

// TestCyrusProblems has everything that Check finds in cyrus.conf.
func TestCyrusProblems(t *testing.T) {
	t.Parallel()
	services := func(body string) string { return "SERVICES {\n" + body + "\n}\n" }
	events := func(body string) string { return goodCyrus + "EVENTS {\n" + body + "\n}\n" }
	const imap = `imap cmd="imapd" listen="imap"`
	for _, c := range []struct {
		text  string
		found []string
		says  string
	}{
		{goodCyrus, nil, ""},
		{services(" # x\n\n\t" + imap + "\r"), nil, ""},
		{services(`imap cmd="imapd", listen="imap"`), []string{"!2:17 misplaced-comma"}, `found ",", expected an argument NAME="value"`},
		{services(`imap, cmd="imapd" listen="imap"`), []string{"!2:5 misplaced-comma"}, ""},
		{services(`, ` + imap), []string{"2:1 no-name", "!2:7 bad-entry"}, ""},
		{services(`imap cmd=imapd listen=imap,`), []string{"2:27 misplaced-comma"}, "a part of the value"},
		{services(`imap cmd="imapd" listen="imap" }`), []string{"!2:32 misplaced-brace"}, "put it on a line of its own"},
		{services(`imap cmd="imapd" listen="imap"}`), []string{"!2:31 misplaced-brace"}, ""},
		{services(`imap { cmd="imapd" listen="imap"`), []string{"!2:6 misplaced-brace"}, ""},
		{services(`imap cmd="imapd listen="imap"`), []string{"!2:29 bad-entry"}, "superfluous quote"},
		{services(`imap cmd="imapd" listen="imap`), []string{"!2:25 missing-quote"}, ""},
		{services(`imap cmd="imapd # x" listen="imap"`), []string{"!2:10 missing-quote"}, "even between quotes"},
		{services(`imap cmd "imapd"`), []string{"!2:9 bad-entry"}, "= after"},
		{services(`im-ap cmd="imapd" listen="imap"`), []string{"!2:3 bad-entry"}, "only letters and digits"},
		{services(`imap cmd="imapd" listen`), []string{"!2:24 bad-entry"}, "the end of the line"},
		{services(`imap`), []string{"!2:1 argument-missing"}, "without cmd"},
		{services(`imap cmd="imapd"`), []string{"!2:1 argument-missing"}, "without listen"},
		{services(`imap comd="imapd" listen="imap"`), []string{"!2:1 argument-missing", "2:6 argument-unknown"}, "write cmd in the place of comd"},
		{services(imap + ` prefrok=3`), []string{"2:32 argument-unknown"}, "did you mean prefork?"},
		{services(imap + ` prefork=3 prefork=4`), []string{"2:42 argument-twice"}, "takes the first"},
		{services(imap + ` prefork=many maxchild=x babysit=z proto=sctp`),
			[]string{"2:40 bad-value", "2:54 bad-value", "2:64 bad-value", "2:72 bad-value"}, ""},
		{services(imap + strings.Repeat(" a=b", 63)), []string{"!2:280 too-many-arguments"}, ""},
		{services(imap + "\n" + imap), []string{"!3:1 entry-twice", "3:26 socket-twice"}, "first at cyrus.conf:2:1"},
		{services(imap + "\nimap2 cmd=\"imapd\" listen=\"imap\""), []string{"3:27 socket-twice"}, ""},
		{services(`imap cmd="imadp" listen="imap"`), []string{"!2:11 program-missing"}, "did you mean imapd?"},
		{services(`imap cmd="/none/imapd" listen="imap"`), []string{"!2:11 program-missing"}, ""},
		{services(`imap cmd=" " listen="imap"`), []string{"2:11 program-missing"}, ""},
		{services(`l cmd="imapd" listen="/nowhere/lmtp"` + "\n" + `m cmd="imapd" listen="/run/` + strings.Repeat("x", 103) + `"`),
			[]string{"2:23 directory-missing", "3:23 socket-path-long"}, ""},
		{services(imap) + "DAEMON {\n imap cmd=\"idled\"\n}\n", []string{"!5:2 entry-twice"}, ""},
		{events(`e cmd="true"`), []string{"8:1 event-once"}, ""},
		{events(`e cmd="true" at=2400`), []string{"8:1 event-once", "8:17 bad-value"}, "0000 to 2359"},
		{events(`e cmd="true" at=0460 period=5`), []string{"8:17 bad-value"}, ""},
		{events(`e cmd="gone" period=5`), []string{"8:8 program-missing"}, ""},
		{events(`e period=5`), []string{"!8:1 argument-missing"}, ""},
		{"SERVICES\n{\n" + imap + "\n}\n", []string{"0:0 no-services", "1:9 misplaced-brace"}, "ignores the whole section"},
		{"SERVICES { " + imap + " }\n", []string{"0:0 no-services", "1:10 misplaced-brace"}, "each entry on a line of its own"},
		{"SERVICES { " + imap + "\n}\n", []string{"1:12 text-ignored"}, ""},
		{"SERVICES of all {\n" + imap + "\n}\n", []string{"1:9 text-ignored"}, ""},
		{"START {\n} SERVICES {\n" + imap + "\n}\n", []string{"0:0 no-services", "2:3 text-ignored", "3:1 section-unknown", "4:1 misplaced-brace"}, ""},
		{"START {\nr cmd=\"true\"\nSERVICES {\n" + imap + "\n}\n", []string{"0:0 no-services", "!3:10 misplaced-brace"}, "expected } before section SERVICES"},
		{"START {\nr cmd=\"true {\"\n}\n" + services(imap), []string{"0:0 no-services", "2:13 brace-in-entry", "4:1 section-ignored"}, "look for a brace above"},
		{"}\n" + services(imap), []string{"0:0 no-services", "1:1 misplaced-brace", "2:1 section-ignored"}, ""},
		{"SERVICE {\n" + imap + "\n}\n", []string{"0:0 no-services", "1:1 section-unknown"}, "did you mean SERVICES?"},
		{"services {\n" + imap + "\n}\n", []string{"0:0 no-services", "1:1 section-unknown"}, "did you mean SERVICES?"},
		{services(imap) + services(imap), []string{"4:1 section-twice"}, "reads only the first"},
		{"SERVICES {\n" + imap + "\n", []string{"2:31 section-not-closed"}, ""},
		{services(imap + " # " + strings.Repeat("x", 5000)), []string{"!2:4096 argument-missing", "2:4096 line-too-long"}, ""},
		{services(imap + "\x00 junk"), []string{"2:31 nul-byte"}, ""},
		{"", nil, ""},
	} {
		problems := Problems(Options{FS: cyrusFS(c.text), Imapd: "imapd.conf", Cyrus: "cyrus.conf", ProgramDirs: []string{"/bin"}})
		require.Equal(t, c.found, brief(problems), "%s", c.text)
		all := ""
		for _, f := range Findings(problems) {
			all += f.String() + "\n"
		}
		require.Contains(t, all, c.says, "%s", c.text)
	}
	problems := Problems(Options{FS: cyrusFS(goodCyrus), Imapd: "imapd.conf", Cyrus: "/none"})
	require.Equal(t, []string{"!0:0 file-unreadable"}, brief(problems))
}

// TestManyEntries shows that a file of nothing but mistakes is answered soon, and that a refusal is not lost among them.
func TestManyEntries(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"a\n", "}\n", "{\n", "x {\n", "a b=\"{\"\n", "a cmd=\"q\" listen=\"/r\"\n", "=\n", "a b,\n"} {
		text := "SERVICES {\n" + strings.Repeat(line, 1<<17/len(line)) + "}\nEVENTS {\n a\n}\n"
		start := time.Now()
		problems := Problems(Options{FS: cyrusFS(text), Imapd: "imapd.conf", Cyrus: "cyrus.conf", ProgramDirs: []string{"/bin"}})
		require.Less(t, time.Since(start), time.Minute, "%q", line)
		require.LessOrEqual(t, len(problems), maxProblems+2)
		if line[0] == 'a' || line[0] == 'x' {
			require.NotNil(t, Refusal(problems), "%q", line)
		}
	}
}
