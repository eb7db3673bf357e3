package planted_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/planted"
)

// TestNoTrace holds that nothing of the bugs is in a program that is built without the tag, and that they are in one that
// is built with it. (Names shorter than these may become part of an instruction.)
func TestNoTrace(t *testing.T) {
	for _, c := range []struct {
		tags string
		want bool
	}{{"", false}, {"planted", true}} {
		name := filepath.Join(t.TempDir(), "mailspine")
		cmd := exec.Command("go", "build", "-tags", c.tags, "-o", name, "../../cmd/mailspine")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		program, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, s := range []planted.Switch{planted.LinksNotRestored, planted.IncompleteRenamed, planted.UncommittedVisible, planted.OldSlotOverwritten} {
			require.Equal(t, c.want, bytes.Contains(program, []byte(s)), "%s with the tags %q", s, c.tags)
		}
		require.Equal(t, c.want, bytes.Contains(program, []byte("MAILSPINE_PLANTED")), "the tags %q", c.tags)
	}
}
