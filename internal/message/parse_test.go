package message

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/bounded"

	"github.com/mailspine/mailspine/internal/message/corpus"
)

// summary is all that a message derives to, for comparisons.
func summary(m *Message) string {
	sent, gm := m.Dates(internalDate, time.UTC)
	return fmt.Sprintf("%x %d %d %d %d %q %x", m.GUID, m.Size, m.HeaderSize, sent, gm, m.Limited, m.AppendCache(nil))
}

// TestChunks checks that it does not matter in what pieces a message comes, nor what the parser did before.
func TestChunks(t *testing.T) {
	reused := &Parser{}
	for _, s := range corpus.Messages(150) {
		if len(s.Text) > 50_000 {
			continue
		}
		m, err := (&Parser{}).ParseAt(strings.NewReader(s.Text), int64(len(s.Text)))
		require.NoError(t, err, s.Name)
		want := summary(m)
		small := &Parser{in: window{buf: make([]byte, 16)}}
		for what, r := range map[string]io.Reader{
			"bytes": iotest.OneByteReader(strings.NewReader(s.Text)), "halves": iotest.HalfReader(strings.NewReader(s.Text)),
			"error with data": iotest.DataErrReader(strings.NewReader(s.Text)),
		} {
			m, err := reused.Parse(r)
			require.NoError(t, err, s.Name)
			require.Equal(t, want, summary(m), "%s: %s", s.Name, what)
		}
		// A window of 16 bytes slides all the time.
		m, err = small.ParseAt(strings.NewReader(s.Text), int64(len(s.Text)))
		require.NoError(t, err, s.Name)
		require.Equal(t, want, summary(m), "%s: small window", s.Name)
	}
}

func TestErrors(t *testing.T) {
	p := &Parser{}
	_, err := p.Parse(strings.NewReader(""))
	require.ErrorIs(t, err, ErrEmpty)
	broken := errors.New("broken")
	_, err = p.Parse(io.MultiReader(strings.NewReader("Subject: x\r\n\r\nbody"), iotest.ErrReader(broken)))
	require.ErrorIs(t, err, broken)
	_, err = p.Parse(iotest.TimeoutReader(strings.NewReader(strings.Repeat("x", 200_000))))
	require.ErrorIs(t, err, iotest.ErrTimeout)
	_, err = p.Parse(nothing{})
	require.ErrorIs(t, err, io.ErrNoProgress)
	m, err := p.Parse(strings.NewReader("Subject: x\r\n\r\n"))
	require.NoError(t, err, "a parser can be used after an error")
	require.Equal(t, "x", string(m.Root.Subject))
}

type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

// repeated reads a text again and again.
type repeated struct {
	text string
	left int64
	at   int
}

func (r *repeated) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(int64(len(b)), r.left)], r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	r.left -= int64(n)
	return n, nil
}

// TestBounded checks time and memory with messages made to cost as much as they can.
func TestBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("megabytes of hostile messages")
	}
	size := int64(1 << 20)
	if os.Getenv("MAILSPINE_CAMPAIGN") != "" {
		size = 16 << 20
	}
	head := "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	var deep strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=a%d\r\n\r\n--a%d\r\n", i, i)
	}
	long := strings.Repeat("b", 500_000)
	for name, m := range map[string]struct{ start, repeat string }{
		"parts":              {head, "--b\r\n\r\n"},
		"messages":           {"", "Content-Type: message/rfc822\r\n\r\n"},
		"messages and parts": {head, "--b\r\nContent-Type: message/rfc822\r\n\r\n"},
		"header lines":       {"", "x\r\n"},
		"bare header lines":  {"", "To:\n"},
		"header bytes":       {"Subject: ", "x"},
		"folds":              {"Subject: ", "\r\n "},
		"sections":           {"Content-Type: a/b", ";f*0=x;f*1=y"},
		"parameters":         {"Content-Type: a/b", ";f=g"},
		"encoded types":      {"", "Content-Type: =?x?q?" + strings.Repeat("y", 4000) + "?=\n"},
		"open quotes":        {"", "Content-Type: a/b; c=\"" + strings.Repeat("y", 4000) + "\n"},
		"addresses":          {"To: ", "a@b,"},
		"comments":           {"To: ", "("},
		"encoded words":      {"Subject: ", "=?utf-8?q?x?= "},
		"broken words":       {"Subject: ", "=?"},
		"unknown charsets":   {"Subject: ", "=?x?q?y?="},
		"dashes":             {deep.String(), "--\n"},
		"near boundaries":    {deep.String(), "--a999x\n"},
		"long boundary":      {"Content-Type: multipart/mixed; boundary=" + long + "\r\n\r\n", "--\n"},
		"long near boundary": {"Content-Type: multipart/mixed; boundary=" + long + "\r\n\r\n", "--" + long[1:] + "\n"},
		"boundary line":      {head + "--b\r\n\r\nx\r\n--b", " "},
		"quoted-printable":   {"Content-Transfer-Encoding: quoted-printable\r\n\r\n", "=\r\n"},
		"base64":             {"Content-Transfer-Encoding: base64\r\n\r\n", "="},
		"nul":                {"Content-Type: message/rfc822\r\n\r\nX: \x00\r\n\r\n", "x\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			start := time.Now()
			p := &Parser{}
			m, err := p.Parse(io.MultiReader(strings.NewReader(m.start), &repeated{text: m.repeat, left: size}))
			require.NoError(t, err)
			record := m.AppendCache(nil)
			took := time.Since(start)
			require.Less(t, took, 5*time.Second+time.Duration(size)*4*time.Microsecond, "time is linear in the size")
			runtime.GC()
			runtime.ReadMemStats(&after)
			runtime.KeepAlive(p)
			held := int64(after.HeapAlloc) - int64(before.HeapAlloc) - int64(cap(record))
			require.Less(t, held, int64(64<<20))
			require.Less(t, len(record), 16<<20+16*int(size))
			t.Logf("%v, %d KB held, record %d KB, limited: %q", took, held>>10, len(record)>>10, m.Limited)
		})
	}
}

// TestLimits checks what a message has that exceeds a limit.
func TestLimits(t *testing.T) {
	p := &Parser{Limits: Limits{Parts: 3, HeaderBytes: 100, Nested: 1}}
	parse := func(text string) *Message {
		m, err := p.Parse(strings.NewReader(text))
		require.NoError(t, err)
		require.EqualValues(t, len(text), m.Size)
		require.EqualValues(t, sha1.Sum([]byte(text)), m.GUID)
		return m
	}
	m := parse("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b\r\n\r\n3\r\n--b--\r\n")
	require.Equal(t, "parts", m.Limited)
	require.Len(t, m.Root.Parts, 2)
	m = parse("Subject: " + strings.Repeat("x", 200) + "\r\nTo: a@b\r\n\r\nbody")
	require.Equal(t, "header bytes", m.Limited)
	require.EqualValues(t, 222, m.HeaderSize)
	require.Len(t, m.Root.Subject, 100-len("Subject: "))
	require.Empty(t, m.Root.To)
	m = parse("Content-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\n\r\nbody")
	require.Equal(t, "nested messages", m.Limited)
	require.NotZero(t, m.Root.ContentGUID)
	require.Zero(t, m.Root.Parts[0].ContentGUID)
	m = parse("Subject: x\r\n\r\n")
	require.Empty(t, m.Limited)
}

// TestAgain checks the content GUID of a message with a NUL in its header, far from its end.
func TestAgain(t *testing.T) {
	inner := "Subject: a\x00" + strings.Repeat("b", 200_000) + "\r\n\r\n" + strings.Repeat("body\r\n", 100_000)
	text := "Content-Type: message/rfc822\r\n\r\n" + inner
	p := &Parser{}
	m, err := p.ParseAt(strings.NewReader(text), int64(len(text)))
	require.NoError(t, err)
	require.Empty(t, m.Limited)
	require.EqualValues(t, len(inner)-len("\x00\r\n\r\n")-200_000, m.Root.ContentSize)
	require.EqualValues(t, sha1.Sum([]byte(inner[:m.Root.ContentSize])), m.Root.ContentGUID)
	m, err = p.Parse(strings.NewReader(text))
	require.NoError(t, err)
	require.Equal(t, "content before a NUL", m.Limited)
	require.Zero(t, m.Root.ContentGUID)
}

func TestDelivered(t *testing.T) {
	for text, want := range map[string]int64{
		"Received: by x; Wed, 01 Jan 2020 10:11:12 +0100\r\nReceived: by y; 2 Jan 2020 00:00:00 +0000\r\n\r\n":        1577869872,
		"Received: by x;\r\n 1 Jan 2020 10:11:12 +0100\r\nX-DeliveredInternalDate: 3 Jan 2020 00:00:00 +0000\r\n\r\n": 1578009600,
		"X-DeliveredInternalDate: nonsense\r\nReceived: by x (a; b); 1 Jan 2020 10:11:12 +0100\r\n\r\n":               1577869872,
		"Received: 1 Jan 2020 10:11:12 +0100\r\n\r\n":                                                                 1577869872,
		"Received: by x\r\nReceived: by y; 2 Jan 2020 00:00:00 +0000\r\n\r\n":                                         0,
		"Date: 1 Jan 2020 10:11:12 +0100\r\n\r\n":                                                                     0,
	} {
		m, err := (&Parser{}).Parse(strings.NewReader(text))
		require.NoError(t, err)
		got, ok := m.Delivered()
		require.Equal(t, want, got, text)
		require.Equal(t, want != 0, ok, text)
	}
}

// TestZone checks that sentdate is midnight in the zone of the server.
func TestZone(t *testing.T) {
	zone := time.FixedZone("", -5*3600)
	m, err := (&Parser{}).Parse(strings.NewReader("Date: Thu, 3 Mar 2022 03:04:05 +0530\r\n\r\n"))
	require.NoError(t, err)
	sent, gm := m.Dates(1, zone)
	require.EqualValues(t, 1646265600+5*3600, sent)
	require.EqualValues(t, 1646256845, gm)
	m, err = (&Parser{}).Parse(strings.NewReader("Subject: x\r\n\r\n"))
	require.NoError(t, err)
	sent, gm = m.Dates(1646256845, zone)
	require.EqualValues(t, 1646197200, sent)
	require.EqualValues(t, 1646256845, gm)
}

// FuzzParse checks that whatever comes is parsed, alike in any pieces, and that all offsets are inside the message.
func FuzzParse(f *testing.F) {
	for _, s := range corpus.Messages(50) {
		if len(s.Text) < 4000 {
			f.Add([]byte(s.Text))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		// A part of a few bytes has a structure of hundreds. TestBounded has what holds for large messages.
		bounded.Run(t, len(text), 600, func() {
			if m, err := new(Parser).ParseAt(bytes.NewReader(text), int64(len(text))); err == nil {
				m.AppendCache(nil)
			}
		})
		p := &Parser{}
		m, err := p.ParseAt(bytes.NewReader(text), int64(len(text)))
		if len(text) == 0 {
			require.ErrorIs(t, err, ErrEmpty)
			return
		}
		require.NoError(t, err)
		require.EqualValues(t, len(text), m.Size)
		require.EqualValues(t, sha1.Sum(text), m.GUID)
		checkPart(t, m, m.Root)
		want := summary(m)
		require.Less(t, len(want), 2*(10_000+400*len(text)))
		m, err = (&Parser{in: window{buf: make([]byte, 16)}}).ParseAt(bytes.NewReader(text), int64(len(text)))
		require.NoError(t, err)
		require.Equal(t, want, summary(m))
	})
}

// checkPart checks the offsets of an entity and its parts.
func checkPart(t *testing.T, m *Message, b *Part) {
	require.NotNil(t, b.Type)
	require.NotNil(t, b.Subtype)
	for _, n := range []int64{b.HeaderOffset, b.HeaderSize, b.ContentOffset, b.ContentSize, b.DecodedSize} {
		require.GreaterOrEqual(t, n, int64(0))
	}
	headerFrom, headerTo := m.Header(b)
	contentFrom, contentTo := m.Content(b)
	require.LessOrEqual(t, headerFrom, headerTo)
	require.LessOrEqual(t, contentFrom, contentTo)
	require.LessOrEqual(t, max(headerTo, contentTo), m.Size)
	if !twiceCounted(m.Root) {
		require.Equal(t, b.HeaderOffset+b.HeaderSize, headerTo)
		require.Equal(t, b.ContentOffset+b.ContentSize, contentTo)
	}
	if b.Message() {
		require.Len(t, b.Parts, 1)
	}
	for _, sub := range b.Parts {
		checkPart(t, m, sub)
	}
}

// twiceCounted tells whether some header is a lone line feed before a boundary.
func twiceCounted(b *Part) bool {
	for _, sub := range b.Parts {
		if twiceCounted(sub) {
			return true
		}
	}
	return b.headerLines < 0
}
