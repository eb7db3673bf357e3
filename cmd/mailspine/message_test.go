package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
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
