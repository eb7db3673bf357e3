package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
)

// TestRepackDirectory repacks and converts recorded mailboxes by their directory.
func TestRepackDirectory(t *testing.T) {
	dir := copyMailbox(t, "v17")
	before, err := os.ReadFile(filepath.Join(dir, "cyrus.index"))
	require.NoError(t, err)
	require.Contains(t, runBox(t, "index", "repack", "-n", dir), "would be written anew: 4 records, 0 dropped")
	now, err := os.ReadFile(filepath.Join(dir, "cyrus.index"))
	require.NoError(t, err)
	require.Equal(t, before, now)
	require.Contains(t, runBox(t, "index", "repack", dir), "written anew: 4 records")
	require.Contains(t, runBox(t, "index", "show", dir), "generation 1")

	var r boxRepacked
	require.NoError(t, json.Unmarshal([]byte(runBox(t, "index", "upgrade", "--to", "14", "--json", dir)), &r))
	require.EqualValues(t, 14, r.To)
	require.Empty(t, r.Unfinished)
	require.Contains(t, runBox(t, "index", "show", dir), "version 14, generation 2")
	require.Contains(t, runBox(t, "index", "upgrade", dir), "converted from version 14 to 17")
	records := jsonList[indexRecordJSON](t, runBox(t, "index", "records", dir, "--json"))
	require.EqualValues(t, 1795557517, records[0].SaveDate, "it was in the annotations meanwhile")

	_, stderr, code := boxCode(t, "index", "upgrade", "--to", "11", dir)
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "6 to 10 and 12 to 17")
	old := copyMailbox(t, "v9")
	_, stderr, code = boxCode(t, "index", "upgrade", old)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "--seen names it")
	_, stderr, code = boxCode(t, "index", "upgrade", "--seen", filepath.Join(old, "none"), old)
	require.Equal(t, exitDamage, code)
	require.Contains(t, stderr, "UID 1", "its messages were not recorded")
}

// TestRepackStore converts a mailbox of a live server to an old version and back, by its name: the owner has seen the
// same messages before, meanwhile and after.
func TestRepackStore(t *testing.T) {
	realcyrus.EachLayout(t, func(t *testing.T, _ string, o realcyrus.Options) {
		s := realcyrus.StartServer(t, o)
		filled := s.Fill(t, 1, 1, 12, 5)
		box := filled.Mailboxes[0]
		owner := s.Dial(t, filled.Users[0])
		for _, command := range []string{"SELECT INBOX", `STORE 2,4,5 +FLAGS (\Seen)`, "UNSELECT"} {
			_, err := owner.Cmd("%s", command)
			require.NoError(t, err)
		}
		seen := func() []string {
			var all []string
			for _, command := range []string{"EXAMINE INBOX", "SEARCH SEEN", "FETCH 1:* (UID FLAGS ENVELOPE)", "UNSELECT"} {
				lines, err := owner.Cmd("%s", command)
				require.NoError(t, err)
				if command[0] == 'S' || command[0] == 'F' {
					all = append(all, lines...)
				}
			}
			return all
		}
		before := seen()
		for _, to := range []int{9, 17} {
			stdout, stderr, code := cli(t, nil, "index", "upgrade", "-C", s.Conf, "--to", fmt.Sprint(to), box, "--as", "root")
			require.Zero(t, code, stderr)
			require.Contains(t, stdout, fmt.Sprintf("to %d", to))
			realcyrus.Give(t, s.Dir)
			require.Equal(t, before, seen(), "version %d", to)
		}
		stdout, stderr, code := cli(t, nil, "index", "check", "-C", s.Conf, box, "--contents", "--as", "root")
		require.Zero(t, code, "%s%s", stdout, stderr)
	})
}
