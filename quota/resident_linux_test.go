package quota_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/quota"
)

// residentEnv makes TestResidentProcess recalculate a store: its directory, the number of users and of mailboxes of each.
const residentEnv = "MAILSPINE_QUOTA_RESIDENT"

// resident recalculates a store in a process of its own, and returns how much memory that had in the end, without
// what is mapped of files.
func resident(t *testing.T, users, folders int) int64 {
	f := fill(t, users, folders, false)
	own, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(own, "-test.run=^TestResidentProcess$", "-test.v")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d:%d:%s", residentEnv, users, folders, f.dir))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	words := regexp.MustCompile(`anonymous (\d+) kB`).FindSubmatch(out)
	require.Len(t, words, 2, "%s", out)
	n, err := strconv.ParseInt(string(words[1]), 10, 64)
	require.NoError(t, err)
	return n << 10
}

// TestResident: of a mailbox more, the process that recalculates has no more than twice the 64 bytes of TestMemory more: the
// collector lets there be as much garbage as there is in use.
func TestResident(t *testing.T) {
	if os.Getenv("MAILSPINE_CAMPAIGN") == "" {
		t.Skip("TestMemory looks at the heap; the whole process is looked at in campaigns")
	}
	const folders, few, many = 20, 100, 5000
	small, large := resident(t, few, folders), resident(t, many, folders)
	per := float64(large-small) / ((many - few) * folders)
	t.Logf("%d mailboxes: %d KiB; %d mailboxes: %d KiB: %.1f bytes for each more", few*folders, small>>10, many*folders, large>>10, per)
	require.LessOrEqual(t, per, 128.0)
}

// TestResidentProcess is no test: it is what TestResident runs.
func TestResidentProcess(t *testing.T) {
	words := strings.SplitN(os.Getenv(residentEnv), ":", 3)
	if len(words) != 3 {
		t.Skip("it is run by TestResident")
	}
	users, err := strconv.Atoi(words[0])
	require.NoError(t, err)
	folders, err := strconv.Atoi(words[1])
	require.NoError(t, err)
	f := &filled{ground: &ground{t: t, fs: vfs.OS(), dir: words[2]}, users: users, folders: folders}
	f.readTemplate()
	k := f.keep(&thinFS{FS: vfs.OS(), f: f}, false)
	opened := anonymous(t)
	report, err := k.Recalculate(t.Context(), quota.Recalculation{Each: func(o quota.Outcome) {
		require.NoError(t, o.Err)
		require.Equal(t, folders, o.Count)
	}})
	require.NoError(t, err)
	require.Equal(t, users, report.Roots)
	t.Logf("anonymous %d kB, %d kB of them when the store was open", anonymous(t), opened)
	require.NoError(t, k.close())
}

// anonymous is the memory of this process that is not of files, in KiB.
func anonymous(t *testing.T) int {
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	words := regexp.MustCompile(`RssAnon:\s+(\d+) kB`).FindSubmatch(status)
	require.Len(t, words, 2)
	n, err := strconv.Atoi(string(words[1]))
	require.NoError(t, err)
	return n
}
