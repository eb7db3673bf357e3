package realcyrus

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

//go:embed testdata/syslog.c
var syslogSource []byte

// compileSyslog compiles the library that keeps what a server would tell the system's log.
var compileSyslog = sync.OnceValues(func() (string, error) {
	return compile(syslogSource, []string{"-D_GNU_SOURCE", "-O2", "-Wall", "-Werror", "-U_FORTIFY_SOURCE", "-shared", "-fPIC"})
})

// logPath is where the messages of a server are kept.
func (s *Server) logPath() string { return filepath.Join(s.Dir, "run", "server.log") }

// keepLog has a server, and all that it starts, keep their messages, where a compiler is at hand.
func (s *Server) keepLog(cmd *exec.Cmd) error {
	if oracleMissing() != nil {
		return nil
	}
	library, err := compileSyslog()
	if err != nil {
		return err
	}
	// The master, which is root, and the others, which are not, write to it.
	if err := os.WriteFile(s.logPath(), nil, 0o600); err != nil {
		return err
	}
	if err := own(s.logPath()); err != nil {
		return err
	}
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+library, "SERVER_LOG="+s.logPath())
	return nil
}

// logLines is how much of its messages is shown when a test fails.
const logLines = 200

// Log returns the last messages of the server: what explains the answers that a client cannot understand, such as
// "System I/O error". It is empty where they could not be kept.
func (s *Server) Log() string {
	text, err := os.ReadFile(s.logPath())
	if err != nil {
		return s.log.String()
	}
	lines := strings.SplitAfter(string(text), "\n")
	return s.log.String() + strings.Join(lines[max(0, len(lines)-logLines):], "")
}
