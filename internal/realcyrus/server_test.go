package realcyrus

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestServer starts a server with each engine for the mailbox list, fills it, and looks at what is left when it stops.
func TestServer(t *testing.T) {
	NeedServer(t)
	for _, engine := range []string{"twoskip", "skiplist"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			s := StartServer(t, Options{MailboxDB: engine, UnixHS: engine == "skiplist"})
			filled := s.Fill(t, 2, 2, 12, 1)
			if len(filled.Users) != 2 || len(filled.Mailboxes) != 4 || filled.Appended != 48 || filled.Expunged != 8 {
				t.Errorf("filled %+v", filled)
			}
			c := s.Dial(t, "u001")
			lines, err := c.Cmd("STATUS INBOX (MESSAGES UIDNEXT)")
			if err != nil || !strings.Contains(strings.Join(lines, "\n"), "MESSAGES 10 UIDNEXT 13") {
				t.Errorf("status of u001's INBOX: %q, %v", lines, err)
			}
			if lines, err = c.Cmd("GETQUOTAROOT INBOX"); err != nil || !strings.Contains(strings.Join(lines, "\n"), "MESSAGE 20 100000") {
				t.Errorf("quota of u001: %q, %v", lines, err)
			}
			if len(s.Processes()) < 2 {
				t.Errorf("processes of a running server: %v", s.Processes())
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if left := s.Processes(); len(left) != 0 {
				t.Errorf("processes %v are left", left)
			}
			if log := strings.Join(s.Log(), "\n"); HaveOracle(t) && strings.Count(log, ": login: ") < 2 {
				t.Errorf("the server's log does not have the logins:\n%s", log)
			}
			checkStopped(t, s.Store, engine)
			checkCopy(t, s.Store)
		})
	}
}

// checkStopped looks at the files of a store that was filled by TestServer.
func checkStopped(t *testing.T, s *Store, engine string) {
	t.Helper()
	head := make([]byte, 20)
	f, err := os.Open(s.MailboxDB())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Read(head); err != nil || !bytes.HasPrefix(head, []byte("\xa1\x02\x8b\x0d"+engine+" file")) {
		t.Errorf("mailboxes.db begins with %q, %v", head, err)
	}
	if list := s.Run(t, "ctl_mboxlist", "-d"); strings.Count(list, `"name": "user.u00`) != 4 {
		t.Errorf("mailbox list has not 4 user mailboxes:\n%s", list)
	}
	if info, err := os.Stat(s.Dir + "/conf/db/skipstamp"); err != nil || info.Size() != 4 {
		t.Errorf("skipstamp: %v", err)
	}
}

// checkCopy runs a program on a copy and starts another server on it.
func checkCopy(t *testing.T, s *Store) {
	t.Helper()
	copied := s.Copy(t)
	if out := copied.Run(t, "quota"); !strings.Contains(out, "1000000") {
		t.Errorf("quota on the copy:\n%s", out)
	}
	if strings.Count(copied.Run(t, "mbexamine", "user"+s.Separator()+"u000"), "> UID:") != 10 {
		t.Error("mbexamine shows not the 10 messages")
	}
	again := StartServerOn(t, copied)
	lines, err := again.Dial(t, "u000").Cmd("SELECT INBOX")
	if err != nil || !strings.Contains(strings.Join(lines, "\n"), "10 EXISTS") {
		t.Errorf("select on the copy: %q, %v", lines, err)
	}
	if err := again.Kill(); err != nil {
		t.Error(err)
	}
	if left := again.Processes(); len(left) != 0 {
		t.Errorf("processes %v are left after a kill", left)
	}
}

// TestLegacyLayout starts a server with virtual domains, partitions and conversations.
func TestLegacyLayout(t *testing.T) {
	NeedServer(t)
	t.Parallel()
	o := LegacyLayout()
	o.UnixHS = true
	s := StartServer(t, o)
	s.Fill(t, 1, 2, 2, 7)
	if _, err := os.Stat(s.Dir + "/meta"); err != nil {
		t.Error(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

func TestMessageIsDeterministic(t *testing.T) {
	t.Parallel()
	for n := range 50 {
		a, b := Message(3, n), Message(3, n)
		if !bytes.Equal(a, b) || bytes.Count(a, []byte("\n")) != bytes.Count(a, []byte("\r\n")) || !bytes.HasSuffix(a, []byte("\r\n")) {
			t.Fatalf("message %d is not well formed or differs", n)
		}
	}
}
