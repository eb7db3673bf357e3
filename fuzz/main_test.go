package fuzz

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/mailspine/mailspine/internal/killsup"
)

// roleEnv makes this binary one of the roles instead of running tests: the processes that are killed, starved and
// locked out are this program again.
const roleEnv = "MAILSPINE_FUZZ_ROLE"

// roles are what a child can be. Each gets the arguments after the program's name and returns the exit status.
var roles = map[string]func(args []string) int{
	"writer": writerRole,
	"lister": listerRole,

	"mailer":    mailerRole,
	"recoverer": recoverRole,
}

// point runs one cell of a campaign on the real system only; a failure prints the value.
var point = flag.String("point", "", "one cell of a campaign on the real operating system, as printed by a failure")

func TestMain(m *testing.M) {
	killsup.Main()
	if name := os.Getenv(roleEnv); name != "" {
		role, known := roles[name]
		if !known {
			fmt.Fprintf(os.Stderr, "%s=%s is no role\n", roleEnv, name)
			os.Exit(126)
		}
		os.Exit(role(os.Args[1:]))
	}
	os.Exit(m.Run())
}
