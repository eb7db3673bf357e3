package imapdconf

import (
	"strings"
	"testing"
)

// placed checks that every problem is at a place that the files have.
func placed(t *testing.T, m memFS, problems []*Problem) {
	t.Helper()
	if len(problems) > 10*maxProblems {
		t.Fatalf("%d problems", len(problems))
	}
	for _, p := range problems {
		text, ok := m.files[p.File]
		lines := strings.Split(text, "\n")
		if p.Line == 0 && p.Column == 0 && (ok || p.Code == "file-unreadable") {
			continue // of the file as a whole
		}
		if !ok || p.Line < 1 || p.Line > len(lines) || p.Column < 1 || p.Column > len(lines[p.Line-1])+1 {
			t.Fatalf("problem outside the files: %+v", p)
		}
		if p.Code == "" || p.Found == "" || p.Expected == "" {
			t.Fatalf("problem says nothing: %+v", p)
		}
	}
}

// use calls what a program would call.
func use(c *Config) {
	for _, o := range table {
		switch o.Type {
		case String, StringList:
			c.String(o.Name)
		case Int:
			c.Int(o.Name)
		case Switch:
			c.Bool(o.Name)
		case Enum:
			c.Enum(o.Name)
		case Bitfield:
			c.Bits(o.Name)
		case Duration:
			c.Duration(o.Name)
		}
		c.IsSet(o.Name)
	}
	for name := range files {
		c.Path(name)
	}
	for _, p := range c.Partitions() {
		c.MetaRoot(p.Name, "annotations")
	}
}

func FuzzImapd(f *testing.F) {
	f.Add(good+"@include: /more\nmetapartition-default: /m\n# x \\\ny", "imap_timeout: 3\nsieve_extensions: fileinto \\\n  imapflags\n", "imap")
	f.Add("admins:a\\\n b\n\\\n@INCLUDE:/more", "@include: imapd.conf\narchive_days: -1d\nsync_log_channels: a B\na_sync_try_imap: yes", "")
	f.Add(": x\x00\nconfigdirectory: {configdirectory}\nxsearchpartition-a: /\nmaxlogins_per_host: 010", "", "x")
	f.Fuzz(func(t *testing.T, text, more, service string) {
		m := mem("imapd.conf", text, "/more", more, "/c/", "")
		source := Read(m, "imapd.conf")
		c, err := source.Config(service)
		if (err != nil) != (Refusal(c.Problems) != nil) {
			t.Fatalf("error %v with %v", err, brief(c.Problems))
		}
		placed(t, m, c.Problems)
		use(c)
		placed(t, m, checkImapd(m, "imapd.conf", []string{service}))
	})
}

func FuzzCyrus(f *testing.F) {
	f.Add(goodCyrus)
	f.Add("SERVICES {\n imap cmd=\"a\" listen=\"/x/y\" proto=udp}\n, a=b\n}\n}{\nEVENTS\n{ x at=9999\n} DAEMON {\n x cmd=/bin/imapd wait=y\n")
	f.Add("START{}\nstart {\nSERVICES x {{ y }\n imap cmd=\"#\"\x00")
	f.Fuzz(func(t *testing.T, text string) {
		m := cyrusFS(text)
		c := ReadCyrus(m, "cyrus.conf")
		for _, e := range c.Entries {
			for _, a := range e.Args {
				if e.Get(a.Name) == "" && a.Value != "" && e.arg(a.Name).Value != "" {
					t.Fatalf("argument %+v is lost", a)
				}
			}
		}
		placed(t, m, Problems(Options{FS: m, Imapd: "imapd.conf", Cyrus: "cyrus.conf", ProgramDirs: []string{"/bin"}}))
	})
}
