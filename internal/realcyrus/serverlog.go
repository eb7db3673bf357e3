package realcyrus

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

// Log returns the messages of the server, debugging left out: what explains the answers that a client cannot understand,
// such as "System I/O error". A line is the time, the program, its process and the priority, as of syslog, and the message.
// There are none where they could not be kept.
func (s *Server) Log() (lines []string) {
	text, err := os.ReadFile(s.logPath())
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		// No idled runs here, and every change tells so.
		if !strings.Contains(line, "IDLE: error sending message") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

// logLines is how many of its messages are shown when a test fails, beside those that are warnings and worse.
const logLines = 100

// lastWords is what is shown of a server's messages when a test fails.
func (s *Server) lastWords() string {
	all := s.Log()
	var shown []string
	for i, line := range all {
		if i >= len(all)-logLines || grave.MatchString(line) {
			shown = append(shown, line)
		}
	}
	return s.log.String() + strings.Join(shown, "\n")
}

// grave is a message of a priority above "notice".
var grave = regexp.MustCompile(`^\S+ \S+ [0-4]: `)
