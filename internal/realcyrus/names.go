package realcyrus

import (
	"bufio"
	_ "embed"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

//go:embed testdata/names.c
var namesSource []byte

var compileNames = sync.OnceValues(func() (string, error) {
	return compile(namesSource, []string{"-D_GNU_SOURCE", "-O2", "-Wall", "-Werror", "-lcyrus_imap", "-l:libcyrus_sieve.so.0", "-lcyrus", "-lcyrus_min"})
})

// Names is a process of libcyrus_imap that tells what Cyrus makes of names, access control lists and patterns. See
// testdata/names.c for its commands. It is for one goroutine.
type Names struct {
	t   testing.TB
	in  io.Writer
	out *bufio.Reader
}

// StartNames starts it with the options of an imapd.conf, for a user, or for an admin. Call [NeedOracle] before.
func StartNames(t testing.TB, conf string, admin bool, user string) *Names {
	t.Helper()
	program, err := compileNames()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, conf, map[bool]string{true: "1", false: "0"}[admin], hexWord([]byte(user)))
	if id, err := credential(); err == nil {
		become(cmd, id)
	}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the oracle of names: %v", err)
		}
	})
	return &Names{t: t, in: in, out: bufio.NewReader(out)}
}

// Ask sends a command and returns the words of the answer, those in hex decoded. ok is false for "none".
func (n *Names) Ask(command string, args ...string) (words []string, ok bool) {
	n.t.Helper()
	line := command
	for _, a := range args {
		line += " " + hexWord([]byte(a))
	}
	if _, err := io.WriteString(n.in, line+"\n"); err != nil {
		n.t.Fatalf("the oracle of names, at %q: %v", line, err)
	}
	answer, err := n.out.ReadString('\n')
	if err != nil {
		n.t.Fatalf("the oracle of names, at %q: %v", line, err)
	}
	for _, w := range strings.Fields(answer) {
		switch number, isNumber := strings.CutPrefix(w, "#"); {
		case w == "!":
			return nil, false
		case isNumber:
			words = append(words, number)
		case w == "-":
			words = append(words, "")
		default:
			b, err := hex.DecodeString(w)
			if err != nil {
				n.t.Fatalf("the oracle of names answered %q to %q", answer, line)
			}
			words = append(words, string(b))
		}
	}
	return words, true
}
