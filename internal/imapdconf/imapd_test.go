package imapdconf

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/finding"
)

// good is the start of a configuration that nothing is wrong with.
const good = "configdirectory: /c\ndefaultpartition: default\npartition-default: /p\n"

// goodFS holds it with the directories it names.
func goodFS(more string) memFS {
	return mem("imapd.conf", good+more, "/c/", "", "/c/db/", "", "/p/", "", "/m/", "", "/a/", "", "/f", "x")
}

// config reads a good configuration with more lines.
func config(t *testing.T, more, service string) *Config {
	t.Helper()
	c, err := Read(goodFS(more), "imapd.conf").Config(service)
	require.NoError(t, err)
	return c
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := config(t, "", "")
	require.Empty(t, c.Problems)
	require.Equal(t, "/c", c.ConfigDirectory())
	require.Equal(t, "twoskip", c.String("mboxlist_db"))
	require.Equal(t, 7*24*time.Hour, c.Duration("archive_after"))
	require.Equal(t, 32*time.Minute, c.Duration("timeout"))
	require.Zero(t, c.Duration("imapidletimeout"))
	require.Equal(t, 1024, c.Int("archive_maxsize"))
	require.True(t, c.Bool("unixhierarchysep"))
	require.False(t, c.Bool("hashimapspool"))
	require.Equal(t, "off", c.Enum("virtdomains"))
	require.EqualValues(t, 0o077, c.Umask())
	require.EqualValues(t, 0o027, config(t, "umask: 27\n", "").Umask())
	require.EqualValues(t, 0o077, config(t, "umask: none\n", "").Umask())
	require.Empty(t, c.Bits("metapartition_files"))
	require.Equal(t, "/c/socket/idle", c.String("idlesocket"))
	require.Empty(t, c.String("mboxlist_db_path"))
	require.Equal(t, "/c/mailboxes.db", c.Path("mboxlist_db_path"))
	require.Equal(t, "/c/quota", c.Path("quota_db_path"))
	require.Equal(t, "/c/lock", c.Path("mboxname_lockpath"))
	require.Equal(t, byte('/'), c.Separator())
	require.Equal(t, []Partition{{Name: "default", Root: "/p"}}, c.Partitions())
	require.Equal(t, "default", c.DefaultPartition())
	require.True(t, c.IsSet("configdirectory"))
	require.False(t, c.IsSet("timeout"))
	for _, misuse := range []func(){
		func() { c.String("no_such_option") }, func() { c.Int("timeout") }, func() { c.Bool("mboxlist_db") },
		func() { c.Path("admins") }, func() { c.IsSet("partition-default") },
	} {
		require.Panics(t, misuse)
	}
	for _, o := range Table() {
		same, ok := Lookup(strings.ToUpper(o.Name))
		require.True(t, ok)
		require.Equal(t, o.Type, same.Type)
		if o.Instead != "" {
			_, ok := Lookup(o.Instead)
			require.True(t, ok, o.Name)
			require.NotEmpty(t, o.DeprecatedSince)
		}
	}
	_, ok := Lookup("partition-default")
	require.False(t, ok)
}

func TestPaths(t *testing.T) {
	t.Parallel()
	c := config(t, "partition-Fast: /fast\nmetapartition-default: /m\nmetapartition_files: index header cache annotations\n"+
		"archivepartition-default: /a\narchive_enabled: on\nmetadir-index-fast: /fastindex\nmboxlist_db_path: /elsewhere/m.db\n"+
		"quota_db: twoskip\nlmtpsocket: {ConfigDirectory}/x\nunixhierarchysep: 0\n", "")
	require.Equal(t, []Partition{{Name: "default", Root: "/p", Meta: "/m", Archive: "/a"}, {Name: "fast", Root: "/fast"}}, c.Partitions())
	require.Equal(t, "/fast", c.Partition("FAST").Root)
	require.Empty(t, c.Partition("none").Root)
	for _, m := range [][3]string{
		{"default", "header", "/m"}, {"default", "squat", "/p"}, {"default", "annotations", "/m"}, {"default", "archivecache", "/a"},
		{"fast", "header", "/fast"}, {"fast", "index", "/fastindex"}, {"fast", "annotations", "/fastindex"}, {"fast", "archivecache", "/fast"},
	} {
		require.Equal(t, m[2], c.MetaRoot(m[0], m[1]), "%v", m)
	}
	require.Equal(t, "/elsewhere/m.db", c.Path("mboxlist_db_path"))
	require.Equal(t, "/c/quotas.db", c.Path("quota_db_path"))
	require.Equal(t, "/c/x", c.String("lmtpsocket"))
	require.Equal(t, byte('.'), c.Separator())
	require.Empty(t, config(t, "archivepartition-default: /a\n", "").Partition("default").Archive, "without archive_enabled")
}

func TestServices(t *testing.T) {
	t.Parallel()
	text := "imap_timeout: 5\ntimeout: 1h\nlmtp_partition-default: /l\nimap_SASL_x: service\nsasl_x: all\narchive_days: 3\n" +
		"createonpost: yes\nautocreate_post: no\n"
	all, imap, lmtp := config(t, text, ""), config(t, text, "IMAP"), config(t, text, "lmtp")
	require.Equal(t, time.Hour, all.Duration("timeout"))
	require.Equal(t, 5*time.Minute, imap.Duration("timeout"), "the unit of the option, and the service first, wherever it stands")
	require.Equal(t, "/l", lmtp.Partition("default").Root)
	require.Equal(t, "/p", imap.Partition("default").Root)
	require.Equal(t, []Partition{{Name: "default", Root: "/l"}}, lmtp.Partitions())
	other := func(c *Config) string {
		v, ok := c.Other("sasl_X")
		require.True(t, ok)
		return v
	}
	require.Equal(t, "all", other(lmtp))
	require.Equal(t, "service", other(imap))
	_, ok := imap.Other("sasl_y")
	require.False(t, ok)
	require.Equal(t, 72*time.Hour, all.Duration("archive_after"), "by its old name")
	require.True(t, all.IsSet("archive_after"))
	require.False(t, all.Bool("autocreate_post"), "the new name goes first")
	require.Equal(t, []string{"9:1 deprecated-option", "10:1 deprecated-option"}, brief(all.Problems))
}

// TestImapdProblems has everything that Check finds in imapd.conf, at its place. Lines count after the three good ones.
func TestImapdProblems(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		found []string
		says  string
	}{
		{"# x\n\n \t # y\r\nAdmins:a\\\n  b \\\n# not a comment\n", nil, ""},
		{"timeout:\t 1h \r\n", nil, ""},
		{"admin: x\n", []string{"4:1 option-unknown"}, "did you mean admins?"},
		{"  unixheirarchysep: yes\n", []string{"4:3 option-unknown"}, "did you mean unixhierarchysep?"},
		{"quite_unknown_thing: yes\n", []string{"4:1 option-unknown"}, "remove the line"},
		{"imapx_timeout: 3\n", []string{"4:1 option-unknown"}, "did you mean imap_timeout?"},
		{"imap_timeout: 3\nsync_client_debug: 1\nreconstruct_sasl_mech_list: x\n", nil, ""},
		{"backend1_password: x\nbackend1_mechs: PLAIN\nxlist-drafts: D\nbackuppartition-b: /b\nautocreate_acl: Plus anyone p\n", nil, ""},
		{"ldap_passwrod: x\n", []string{"4:1 option-unknown"}, "did you mean ldap_password?"},
		{"sasl_pwcheck_metod: x\nsasl_some_plugin: x\n", []string{"4:1 option-unknown"}, "did you mean sasl_pwcheck_method?"},
		{"timeout: 3\nTimeOut: 4\n", []string{"!5:1 option-twice"}, "first given at imapd.conf:4:1"},
		{"partition-default: /x\n", []string{"!4:1 option-twice"}, ""},
		{"imap_timeout: 3\nimap_timeout: 3\n", []string{"!5:1 option-twice"}, ""},
		{"imap_timeout: 3x\nlmtp_timeout: 3x\n", []string{"!4:15 bad-value", "5:1 option-unknown"}, "no service \"lmtp\" that option \"timeout\" could be for"},
		{"autocreate_acl: a b c\nautocreate_acl: d e f\n", []string{"!5:1 option-twice"}, ""},
		{"timeout 3\n", []string{"!4:8 bad-line"}, `found " ", expected a colon`},
		{"timeout : 3\n", []string{"!4:8 bad-line"}, "remove the space before the colon"},
		{"timeout\n", []string{"!4:8 bad-line"}, "found the end of the line"},
		{"time,out: 3\n", []string{"!4:5 bad-line"}, `found ","`},
		{"{}\n", []string{"!4:1 bad-line"}, "the name of an option"},
		{"timeout:\nadmins: \t\n", []string{"!4:8 empty-value", "!5:7 empty-value"}, ""},
		{"@includes: /x\n", []string{"!4:1 unknown-directive"}, ""},
		{": x\n", []string{"!4:1 empty-name"}, ""},
		{"admins: a\x00b\n", []string{"4:10 nul-byte"}, ""},
		{"admins: a \\", nil, ""},
		{"admins: a\\\n", []string{"4:10 continued-nowhere"}, ""},
		{"# a \\\nadmins: x\n", []string{"4:5 comment-continued"}, "the next line belongs to the comment"},
		{"admins: a \\ \n", []string{"4:11 not-continued"}, ""},
		{"timeout: 3 minutes\n", []string{"!4:10 bad-value"}, "units d, h, m or s"},
		{"timeout: 100000d\n", []string{"4:10 value-too-large"}, ""},
		{"altnamespace: maybe\n", []string{"!4:15 bad-value"}, "yes or no"},
		{"altnamespace: Yes\n", []string{"!4:15 bad-value"}, "write it in lower case: yes"},
		{"altnamespace: nope\n", []string{"4:15 odd-value"}, "takes it for no"},
		{"maxlogins_per_host: 3x\n", []string{"!4:21 bad-value"}, "a whole number"},
		{"maxlogins_per_host: 010\n", []string{"4:21 octal"}, "octal: 8"},
		{"maxlogins_per_host: 0x10\nmaxlogins_per_user: -3\n", nil, ""},
		{"maxlogins_per_host: 3000000000\n", []string{"4:21 value-too-large"}, ""},
		{"virtdomains: yes\nserverinfo: min\n", nil, ""},
		{"virtdomains: User\n", []string{"!4:14 bad-value"}, "one of off, userid, on"},
		{"mboxlist_db: skiplsit\n", []string{"!4:14 bad-value"}, "did you mean skiplist?"},
		{"mboxlist_db: skiplist \\\n  x\n", []string{"!4:14 bad-value"}, ""},
		{"sieve_extensions: fileinto, \\\n reject body x\n", []string{"!4:19 bad-value", "!5:14 bad-value"}, "not by commas"},
		{"sieve_extensions: imapflags\n", []string{"4:19 deprecated-value"}, "imap4flags"},
		{"tls_cert_file: /f\n", []string{"4:1 deprecated-option"}, "tls_server_cert"},
		{"flushseenstate: 1\n", []string{"4:1 deprecated-option"}, "remove the line"},
		{"tls_server_key: /none\ntls_server_cert: disabled\ntls_client_ca_file: /f\n", []string{"4:17 file-missing"}, ""},
		{"partition-b: /none\n", []string{"4:14 directory-missing"}, "no such file"},
		{"partition-b: /f\n", []string{"4:14 directory-missing"}, "which is no directory"},
		{"partition-b: spool\n", []string{"4:14 path-relative"}, ""},
		{"partition-b: {configdirectory}/spool\n", []string{"4:14 not-replaced"}, ""},
		{"partition-b: /p/\n", []string{"4:14 same-directory"}, "partition-default"},
		{"partition-b: /p/sub\n", []string{"4:14 directory-inside", "4:14 directory-missing"}, ""},
		{"partition-" + strings.Repeat("x", 70) + ": /m\n", []string{"4:1 partition-name-long"}, ""},
		{"metapartition-default: /m\n", []string{"4:1 metapartition-unused"}, ""},
		{"metapartition_files: header\n", []string{"4:1 metapartition-missing"}, ""},
		{"metapartition-defualt: /m\n", []string{"4:1 partition-unknown"}, "did you mean default?"},
		{"archivepartition-default: /a\n", []string{"4:1 archive-disabled"}, ""},
		{"searchpartition-default: /a\nt1searchpartition-default: /a\nt1searchpartition-x: /a\n", []string{"4:1 search-tier", "6:1 partition-unknown"}, ""},
		{"metadir-index-default: /m\nmetadir-bad-default: /m\n", []string{"5:1 option-unknown"}, ""},
		{"sync_log_channels: one Two\none_sync_host: h\none_sync_try_imap: yes\none_sync_timeout: x\nthree_sync_host: h\n",
			[]string{"4:24 channel-case", "6:20 channel-switch", "7:19 bad-value", "8:1 option-unknown"}, "takes words for 0"},
	} {
		problems := Problems(Options{FS: withServices(goodFS(c.text)), Imapd: "imapd.conf", Cyrus: "cyrus.conf"})
		require.Equal(t, c.found, brief(problems), "%s", c.text)
		all := ""
		for _, f := range Findings(problems) {
			all += f.String() + "\n"
		}
		require.Contains(t, all, c.says, "%s", c.text)
	}
}

func withServices(m memFS) memFS {
	m.files["cyrus.conf"] = "SERVICES {\n  imap cmd=\"imapd\" listen=\"imap\"\n}\n"
	return m
}

// TestWhole has what is wrong with a configuration as a whole.
func TestWhole(t *testing.T) {
	t.Parallel()
	dirs := []string{"/c/", "", "/c/db/", "", "/p/", ""}
	for _, c := range []struct {
		text  string
		found []string
		says  string
	}{
		{"partition-a: /p\n", []string{"!0:0 no-configdirectory"}, "imapd.conf: found"},
		{"configdirectory: /c\n", []string{"0:0 no-partition"}, ""},
		{"configdirectory: /c\nproxyservers: x\n", []string{"!0:0 no-partition"}, ""},
		{"configdirectory: /c\nmupdate_server: x\n", nil, ""},
		{"configdirectory: /c\npartition-a: /p\n", nil, ""},
		{"configdirectory: /c\ndefaultpartition: A\npartition-a: /p\n", nil, ""},
		{"configdirectory: /c\ndefaultpartition: deflt\npartition-default: /p\n", []string{"!2:19 no-default-partition"}, "did you mean default?"},
		{"configdirectory: /c\ndefaultpartition: a-b\npartition-a-b: /p\n", []string{"!2:19 bad-partition-name"}, ""},
		{"configdirectory: /d\npartition-a: /p\n", []string{"1:18 directory-missing"}, ""},
		{"configdirectory: /p\npartition-a: /p\n", []string{"1:18 db-directory-missing", "2:14 same-directory"}, ""},
		{"\ufeffconfigdirectory: /c\npartition-a: /p\n", []string{"!0:0 no-configdirectory", "!1:1 bad-line", "!1:1 byte-order-mark"}, ""},
	} {
		problems := Problems(Options{FS: mem(append(dirs, "imapd.conf", c.text)...), Imapd: "imapd.conf"})
		require.Equal(t, c.found, brief(problems), "%s", c.text)
		require.Contains(t, fmt.Sprint(Findings(problems)), c.says)
	}
}

// TestServicesUnknown: without cyrus.conf an option may be for any service, but has to be one.
func TestServicesUnknown(t *testing.T) {
	t.Parallel()
	for text, found := range map[string][]string{
		"imap_timeout: 3\nlmtpunix_admins: x\n":   nil,
		"imap_timeuot: 3\n":                       {"4:1 option-unknown"},
		"unixheirarchysep: yes\nimap_admins: x\n": {"4:1 option-unknown"},
	} {
		require.Equal(t, found, brief(Problems(Options{FS: goodFS(text), Imapd: "imapd.conf"})), text)
	}
}

// TestUnreadable: of a file that cannot be read nothing else is said.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"!0:0 file-unreadable"}, brief(Problems(Options{FS: mem("/c/", ""), Imapd: "imapd.conf"})))
}

func TestIncludes(t *testing.T) {
	t.Parallel()
	m := goodFS("@include: /1\n")
	m.files["/1"] = "@INCLUDE:/2\nadmins: x\n"
	m.files["/2"] = "timeout: 1h\n"
	c, err := Read(m, "imapd.conf").Config("")
	require.NoError(t, err)
	require.Equal(t, "x", c.String("admins"))
	require.Equal(t, time.Hour, c.Duration("timeout"))

	for _, x := range []struct{ two, found string }{
		{"@include: /1\n", "/2:1:11: found file \"/1\" again, included first at imapd.conf:4:11, expected each file once"},
		{"@include: imapd.conf\n", "/2:1:11: found file \"imapd.conf\" again, read first as the main file, expected each file once"},
		{"@include: /none\n", "/2:1:11: found open /none: no such file or directory, expected a readable configuration file"},
		{"admins: y\n", "/1:2:1: found option \"admins\" again, first given at /2:1:1, expected each option once"},
		{"x\n", "/2:1:2: found the end of the line, expected a colon after the name of the option"},
	} {
		m.files["/2"] = x.two
		_, err = Read(m, "imapd.conf").Config("")
		require.ErrorIs(t, err, ErrRefused)
		require.EqualError(t, err, x.found)
		var p *Problem
		require.ErrorAs(t, err, &p)
		require.Equal(t, finding.Error, p.Severity)
	}
	_, err = Read(m, "/nowhere").Config("")
	require.ErrorIs(t, err, ErrRefused)

	m.files["/1"] = strings.Repeat("# x\n", MaxFileBytes/4+1)
	_, err = Read(m, "imapd.conf").Config("")
	require.ErrorContains(t, err, "more than 1048576")
	for i := range MaxFiles + 10 {
		m.files[fmt.Sprintf("/%d", i+1)] = fmt.Sprintf("@include: /%d\n", i+2)
	}
	require.Contains(t, fmt.Sprint(Findings(Read(m, "imapd.conf").Problems)), "at most 256 files")
}

// TestManyProblems shows that a file of nothing but mistakes is answered soon, and that a refusal is not lost among them.
func TestManyProblems(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, "altnamespac%d_x: nope\n", i)
	}
	m := mem("imapd.conf", good+b.String()+"timeout: x\n", "/c/", "", "/c/db/", "", "/p/", "")
	start := time.Now()
	problems := Problems(Options{FS: m, Imapd: "imapd.conf"})
	require.Less(t, time.Since(start), time.Minute)
	require.LessOrEqual(t, len(problems), 3*maxProblems)
	require.NotNil(t, Refusal(problems))

	m.files["imapd.conf"] = good + strings.Repeat("\\\n", 50_000) + strings.Repeat("a_", 50_000) + ": x\n"
	problems = Problems(Options{FS: m, Imapd: "imapd.conf"})
	require.Equal(t, []string{"50004:1 option-unknown"}, brief(problems))
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		d    int
	}{{"", "", 0}, {"a", "", 1}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abcd", "axcd", 1}, {"abc", "abcd", 1}, {"ca", "abc", 3}, {"timeout", "admins", 5}} {
		require.Equal(t, c.d, distance(c.a, c.b, 5), "%q %q", c.a, c.b)
		require.Equal(t, c.d, distance(c.b, c.a, 5), "%q %q", c.b, c.a)
	}
}
