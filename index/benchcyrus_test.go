package index

import (
	"bytes"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/internal/vfs"
)

// benchMail is a message of some 3 KB.
var benchMail = []byte("From: a@example.org\r\nTo: b@example.org\r\nSubject: a message for the benchmark\r\nDate: Wed, 01 Jan 2020 10:11:12 +0100\r\n" +
	"Message-ID: <bench@example.org>\r\n\r\n" + strings.Repeat("a line of text that is neither long nor short, as they are\r\n", 50))

// BenchmarkBesideCyrus changes one flag and appends one message, durably, by a transaction of ours and by the real Cyrus over
// IMAP and LMTP, on one disk in one run. The syncs of Cyrus are counted by strace, in a few operations that are not timed.
func BenchmarkBesideCyrus(b *testing.B) {
	realcyrus.NeedServer(b)
	s := realcyrus.StartServer(b, realcyrus.Options{})
	admin := s.Dial(b, realcyrus.AdminUser)
	for _, user := range []string{"ours", "theirs"} {
		require.NoError(b, s.AddUser(user))
		_, err := admin.Cmd("CREATE user.%s", user)
		require.NoError(b, err)
	}
	c := s.Dial(b, "theirs")
	require.NoError(b, c.Append("INBOX", "", time.Time{}, benchMail))
	l, layout := openStore(b, s.Store)
	fsys := &counting{FS: vfs.OS()}
	first := openMailbox(b, l, layout, "user.ours")
	m, err := Open(b.Context(), fsys, first.Place())
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, m.Close()) })
	appendOurs := func(int) error {
		return m.Update(b.Context(), func(tx *Tx) error {
			_, err := tx.Append(NewMessage{Body: bytes.NewReader(benchMail)})
			return err
		})
	}
	require.NoError(b, appendOurs(0))
	ours := func(b *testing.B, do func(n int) error) {
		before := fsys.syncs
		for n := range b.N {
			require.NoError(b, do(n))
		}
		b.ReportMetric(float64(fsys.syncs-before)/float64(b.N), "syncs/op")
	}
	b.Run("flag/ours", func(b *testing.B) {
		ours(b, func(n int) error {
			return m.Update(b.Context(), func(tx *Tx) error {
				_, err := tx.SetFlags(1, FlagChange{Op: FlagOp(n % 2), Flags: FlagFlagged})
				return err
			})
		})
	})
	b.Run("flag/imap", func(b *testing.B) {
		_, err := c.Cmd("SELECT INBOX")
		require.NoError(b, err)
		theirs(b, s, func(n int) error {
			_, err := c.Cmd(`UID STORE 1 %sFLAGS.SILENT (\Flagged)`, []string{"+", "-"}[n%2])
			return err
		})
		_, err = c.Cmd("UNSELECT")
		require.NoError(b, err)
	})
	b.Run("append/ours", func(b *testing.B) { ours(b, appendOurs) })
	b.Run("append/imap", func(b *testing.B) {
		theirs(b, s, func(int) error { return c.Append("INBOX", "", time.Time{}, benchMail) })
	})
	b.Run("append/lmtp", func(b *testing.B) {
		conn, err := net.Dial("unix", filepath.Join(s.Dir, "run", "lmtp"))
		require.NoError(b, err)
		p := textproto.NewConn(conn)
		defer p.Close()
		_, _, err = p.ReadResponse(220)
		require.NoError(b, err)
		require.NoError(b, lmtp(p, 250, "LHLO bench"))
		// A message id that was delivered before would be suppressed.
		theirs(b, s, func(int) error {
			return deliver(p, bytes.Replace(benchMail, []byte("<bench@"), fmt.Appendf(nil, "<%d@", time.Now().UnixNano()), 1))
		})
	})
	require.NoError(b, c.Close())
}

// theirs measures Cyrus, and counts its syncs.
func theirs(b *testing.B, s *realcyrus.Server, do func(n int) error) {
	require.NoError(b, do(0))
	for n := range b.N {
		require.NoError(b, do(n+1))
	}
	b.StopTimer()
	if b.N > 1 { // not when the benchmark only looks how long it takes
		syncs, ok := countSyncs(b, s, func(n int) error { return do(b.N + 1 + n) })
		if ok {
			b.ReportMetric(syncs, "syncs/op")
		}
	}
	b.StartTimer()
}

// countSyncs counts the syncs of all processes of the server in some operations.
func countSyncs(b *testing.B, s *realcyrus.Server, do func(n int) error) (float64, bool) {
	if _, err := exec.LookPath("strace"); err != nil {
		return 0, false
	}
	const operations = 10
	out := filepath.Join(b.TempDir(), "trace")
	args := []string{"-f", "-q", "-e", "trace=fsync,fdatasync,msync,sync_file_range", "-o", out}
	for _, pid := range s.Processes() {
		args = append(args, "-p", fmt.Sprint(pid))
	}
	cmd := exec.Command("strace", args...)
	require.NoError(b, cmd.Start())
	time.Sleep(500 * time.Millisecond) // until it is attached to all
	for n := range operations {
		require.NoError(b, do(n))
	}
	require.NoError(b, cmd.Process.Signal(syscall.SIGINT))
	_ = cmd.Wait() // it ends with the signal
	text, err := os.ReadFile(out)
	require.NoError(b, err)
	n := strings.Count(string(text), "sync(") + strings.Count(string(text), "sync_file_range(")
	return float64(n) / operations, true
}

func lmtp(p *textproto.Conn, code int, format string, args ...any) error {
	if _, err := p.Cmd(format, args...); err != nil {
		return err
	}
	_, _, err := p.ReadResponse(code)
	return err
}

func deliver(p *textproto.Conn, text []byte) error {
	for _, step := range []struct {
		code    int
		command string
	}{{250, "MAIL FROM:<a@example.org>"}, {250, "RCPT TO:<theirs>"}, {354, "DATA"}} {
		if err := lmtp(p, step.code, "%s", step.command); err != nil {
			return err
		}
	}
	w := p.DotWriter()
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_, _, err := p.ReadResponse(250)
	return err
}
