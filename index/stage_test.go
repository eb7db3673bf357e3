package index

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRemoveStaged: what a killed delivery has left goes a day later, under the name that a delivery gives; what Cyrus has
// staged, which may be in use, and what is of another kind stays.
func TestRemoveStaged(t *testing.T) {
	t.Parallel()
	fsys, p := withMessages(t)
	p.Stage = StageDir("/m")
	m, err := Open(t.Context(), fsys, p)
	require.NoError(t, err)
	_, err = m.Stage(t.Context(), NewMessage{Body: strings.NewReader("a: b\r\n\r\n"), InternalDate: time.Unix(1, 0)}) // and is killed
	require.NoError(t, err)
	require.NoError(t, m.Close())
	staged := namesIn(t, fsys, p.Stage)
	require.Len(t, staged, 1)
	n, err := RemoveStaged(fsys, p.Stage, false)
	require.NoError(t, err)
	require.Zero(t, n, "it may be in use, though its time is that of the message")

	made, ok := stagedAt(staged[0])
	require.True(t, ok)
	require.Equal(t, fsys.Now().Unix(), made)
	others := []string{"1-1-1", "1-1-1.mailspine.x", "1-1.mailspine", "1-01-1.mailspine", "1--1-1.mailspine", "x-1-1.mailspine", "1-99999999999-1.mailspine"}
	for _, name := range append([]string{"1-1-1.mailspine"}, others...) {
		write(t, fsys, p.Stage+"/"+name, nil)
	}
	for _, dry := range []bool{true, false} {
		n, err = RemoveStaged(fsys, p.Stage, dry)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	}
	require.ElementsMatch(t, append(others, staged...), namesIn(t, fsys, p.Stage))
	n, err = RemoveStaged(fsys, "/no/such", false)
	require.NoError(t, err)
	require.Zero(t, n)
}
