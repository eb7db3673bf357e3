package demo

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// TestLimited plays the whole story under a limit on files, and finds the limit lifted afterwards.
func TestLimited(t *testing.T) {
	var before, after unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &before))
	var out bytes.Buffer
	require.NoError(t, Run(t.Context(), Options{Out: &out}, t.TempDir(), &limited{}), "%s", &out)
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &after))
	require.Equal(t, before, after)
	text := out.String()
	for _, want := range []string{
		"a limit on the size of files stands in for it", "refused with ErrNoSpace",
		"deletions wait too", "acknowledged mailboxes: 0 lost, 0 stale, 0 back from the dead", "names, unique ids and reverse ACLs agree", "300 more changes, none refused",
		"db check", "refused: nothing is written to a damaged file", "into a new file", "format skiplist", "format twoskip",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "\x1b")
}

// TestLossIsTold shows that the comparison sees each kind of difference, and fails.
func TestLossIsTold(t *testing.T) {
	list, err := openList(t.Context(), filepath.Join(t.TempDir(), "db"), skiplist.Options{Create: true})
	require.NoError(t, err)
	defer list.Close()
	l := &ledger{list: list, acked: map[mboxdb.Name]string{}}
	require.NoError(t, l.fill(t.Context()))
	d, err := l.differences(t.Context())
	require.NoError(t, err)
	require.Zero(t, d)
	l.acked[name(mailboxes)] = "x"
	l.acked[name(1)] = "an older record"
	delete(l.acked, name(2))
	delete(l.acked, name(3))
	require.NoError(t, list.DB().Delete(t.Context(), []byte("I"+id(t, list, name(4)))))
	d, err = l.differences(t.Context())
	require.NoError(t, err)
	require.Equal(t, differences{lost: 1, stale: 1, extra: 2, findings: 1}, d)
	var out bytes.Buffer
	s := &story{w: &out, color: true}
	require.ErrorContains(t, s.compare(t.Context(), l), "not what was acknowledged")
	require.Contains(t, out.String(), fmt.Sprintf("%d acknowledged mailboxes: 1 lost, 1 stale, 2 back from the dead\n", mailboxes-1))
}

func id(t *testing.T, l *mboxdb.List, n mboxdb.Name) string {
	rec, err := l.Lookup(t.Context(), n)
	require.NoError(t, err)
	return rec.UniqueID
}

// roomy is a disk that never fills up.
type roomy struct{ limited }

func (*roomy) Fill(ctx context.Context, _ string, refused func() int64) (string, error) {
	<-ctx.Done()
	return "", ctx.Err()
}

// TestInterrupted ends the story early.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	o := Options{Out: writerFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte("twoskip")) || bytes.Contains(p, []byte("A mailbox list")) {
			cancel()
		}
		return out.Write(p)
	})}
	require.ErrorIs(t, Run(ctx, o, t.TempDir(), &roomy{}), context.Canceled)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
