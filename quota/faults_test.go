package quota_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
)

// faultVerdicts are defects that show only where the disk fails.
var faultVerdicts = []struct {
	no, what string
	cyrus    verdict
}{
	{"D10", "the disk is full for a moment", verdict{says: "a right value becomes a wrong one, and nothing is reported", ours: "the root stays as it was, and the run fails",
		roots: map[string]string{"user.foo": "4000/2/1"}}},
	{"D13", "a root cannot be deleted", verdict{says: "it is said to be deleted", ours: "the deletion fails", roots: map[string]string{}}},
}

// TestCyrusSaysFullDisk: D10. The third change of a root is refused for want of space, once.
func TestCyrusSaysFullDisk(t *testing.T) {
	realcyrus.NeedPrograms(t)
	if _, err := exec.LookPath("strace"); err != nil || os.Geteuid() != 0 {
		t.Skip("strace, and root to run it as another user, have a call of the real program fail")
	}
	t.Parallel()
	roots := map[string]string{}
	for root, numbers := range baseRight {
		roots[root] = rootText(numbers, 100000)
	}
	s := scenario{roots: roots}
	g := newGround(t, realcyrus.Options{})
	s.build(g)
	program, err := realcyrus.Program("quota")
	require.NoError(t, err)
	cmd := exec.Command("strace", "-f", "-o", "/dev/null", "-u", "cyrus", "-e", "inject=rename:error=ENOSPC:when=3", program, "-C", g.real.Conf, "-f")
	cmd.Dir = "/"
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && bytes.Contains(out.Bytes(), []byte("ptrace")) {
		t.Skip("processes cannot be traced here: " + out.String())
	}
	require.NoError(t, err, out.String())
	require.Equal(t, wants(faultVerdicts[0].cyrus.roots), g.roots(), out.String())
}

// TestCyrusSaysUndeletable: D13. The directory of a root without mailboxes may not be written to.
func TestCyrusSaysUndeletable(t *testing.T) {
	realcyrus.NeedPrograms(t)
	t.Parallel()
	s := scenario{roots: baseRoots(map[string]string{"user.ghost": rootText("1/1/1", 5)})}
	g := newGround(t, realcyrus.Options{})
	s.build(g)
	require.NoError(t, os.Chmod(g.path("conf/quota/g"), 0o555))
	out := g.real.Try(t, "quota", nil, "-f")
	require.Equal(t, 0, out.Code)
	require.Contains(t, out.Stderr, "user.ghost: removed\n")
	require.Equal(t, wants(map[string]string{"user.ghost": "1/1/1"}), g.roots())
}
