package progress_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/progress"
)

func TestLine(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	l := progress.New(&out, func() time.Time { return now })
	l.Report("reading", 1, 4)
	l.Clear()
	require.Empty(t, out.String(), "a short work shows nothing")
	now = now.Add(time.Second)
	l.Report("reading", 1, 4)
	l.Report("reading", 2, 4)
	require.Equal(t, "\r\x1b[Kreading [======..................]  25 %", out.String(), "the second report comes too soon")
	now = now.Add(time.Second)
	l.Report("writing", 9, 4)
	require.True(t, strings.HasSuffix(out.String(), "writing [========================] 100 %"), out.String())
	l.Clear()
	l.Clear()
	require.Equal(t, 3, strings.Count(out.String(), "\r\x1b[K"))
}

func TestRate(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	for _, c := range []struct {
		done, total int64
		want        string
	}{
		{0, 4000, "  0 %"},
		{1000, 4000, " 25 %, 500 mailboxes/s, 6s left"},
		{3999, 4000, " 99 %, 1999 mailboxes/s, 1s left"},
		{4000, 4000, "100 %, 2000 mailboxes/s"},
		{7, 0, "100 %, 3 mailboxes/s"},
	} {
		out.Reset()
		l := progress.New(&out, func() time.Time { return now })
		l.Rate("mailboxes")
		now = now.Add(2 * time.Second)
		l.Report("counting", c.done, c.total)
		require.True(t, strings.HasSuffix(out.String(), "] "+c.want), "%q", out.String())
	}
}

func TestNoTerminal(t *testing.T) {
	var l *progress.Line
	l.Report("reading", 1, 2)
	l.Rate("records")
	l.Clear()
	(&progress.Line{}).Report("reading", 1, 2)
}
