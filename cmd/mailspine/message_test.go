package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
)

func TestLineEnds(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a": "a", "a\nb\n": "a\r\nb\r\n", "a\r\nb\r\n": "a\r\nb\r\n", "\n\n": "\r\n\r\n", "a\rb\n": "a\rb\r\n", "\r\r\n\n": "\r\r\n\r\n",
		strings.Repeat("x\n", 9000): strings.Repeat("x\r\n", 9000),
	} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in)), iotest.DataErrReader(strings.NewReader(in))} {
			got, err := io.ReadAll(newCRLFReader(r))
			require.NoError(t, err)
			require.Equal(t, want, string(got))
			small, err := io.ReadAll(iotest.OneByteReader(newCRLFReader(strings.NewReader(in))))
			require.NoError(t, err)
			require.Equal(t, want, string(small))
		}
	}
	_, err := io.ReadAll(newCRLFReader(strings.NewReader("a\x00b")))
	require.ErrorIs(t, err, errNUL)
}

func TestUIDSets(t *testing.T) {
	all := []index.UID{2, 3, 5, 8, 13}
	for args, want := range map[string]string{
		"3": "[3]", "3 3,3": "[3]", "1:4": "[2 3]", "4:1": "[2 3]", "8:*": "[8 13]", "*": "[13]", "20:*": "[13]", "*:20": "[13]", "14:20": "[]",
		"5,1:2 13": "[2 5 13]", "1:*": "[2 3 5 8 13]", "4": "!", "1": "!", "5,14": "!", "0": "?", "": "?", "a": "?", "1:": "?", ":1": "?", "1,": "?", "4294967296": "?", "-1": "?",
	} {
		words := strings.Fields(args)
		if args == "" {
			words = []string{""}
		}
		set, err := parseUIDSet(words)
		if want == "?" {
			require.Equal(t, exitUsage, exitCode(t.Context(), err), args)
			continue
		}
		require.NoError(t, err, args)
		got, err := set.pick(all)
		if want == "!" {
			require.ErrorIs(t, err, index.ErrNotFound, args)
			continue
		}
		require.NoError(t, err, args)
		require.Equal(t, want, fmt.Sprint(got), args)
	}
	set, err := parseUIDSet([]string{"*"})
	require.NoError(t, err)
	_, err = set.pick(nil)
	require.ErrorContains(t, err, "UID *")
}

// TestReasons: a delivery script can tell why a message was not taken.
func TestReasons(t *testing.T) {
	for err, code := range map[error]int{index.ErrOverQuota: exitQuota, index.ErrNoSpace: exitFailed, index.ErrNotFound: exitNo, index.ErrDamaged: exitDamage} {
		require.Equal(t, code, exitCode(t.Context(), fmt.Errorf("append: %w", err)))
	}
}

// full is a participant that has no room to note what it is asked for.
type full struct{ index.Participant }

func (full) Begin(context.Context, index.Usage) (index.Pledge, error) { return nil, index.ErrNoSpace }

// TestHalfAMove: of a move that has copied, and could not expunge, nobody says that nothing was changed and that it is to be
// run again.
func TestHalfAMove(t *testing.T) {
	fsys := simfs.New(simfs.Options{NoTrace: true})
	ctx := t.Context()
	var boxes []*index.Mailbox
	for _, root := range []string{"q", ""} {
		p := index.PlaceIn("/box" + root)
		_, err := index.Create(ctx, fsys, p, index.Creation{UIDValidity: 1, HeaderFile: index.HeaderFile{Form: index.HeaderList, Type: "e",
			Name: "user.u", UniqueID: "0123456789abcdef", QuotaRoot: root}})
		require.NoError(t, err)
		m, err := index.Open(ctx, fsys, p)
		require.NoError(t, err)
		boxes = append(boxes, m)
	}
	require.NoError(t, boxes[0].Update(ctx, func(tx *index.Tx) error {
		_, err := tx.Append(index.NewMessage{Body: strings.NewReader("Subject: x\r\n\r\n")})
		return err
	}))
	from, err := index.OpenWith(ctx, fsys, boxes[0].Place(), index.OpenOptions{Participant: full{}})
	require.NoError(t, err)
	var out, errOut bytes.Buffer
	b := &box{ctx: ctx, out: output{w: &out, format: "text"}, errOut: &errOut}
	set, err := parseUIDSet([]string{"1"})
	require.NoError(t, err)
	err = b.changeHint(b.transfer(from, boxes[1], "to", set, index.CopyOptions{Move: true}))
	require.ErrorIs(t, err, index.ErrNoSpace)
	explain(&errOut, exitCode(ctx, err), err)
	require.Equal(t, exitFailed, exitCode(ctx, err))
	require.Contains(t, errOut.String(), "they are copied, but could not be expunged")
	require.Contains(t, errOut.String(), "run message expunge, and not this again")
	require.NotContains(t, errOut.String(), "nothing was changed")
	require.Equal(t, "1\t1\n", out.String())
}
