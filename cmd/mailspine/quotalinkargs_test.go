package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLinkArgs(t *testing.T) {
	for line, want := range map[string]linkArgs{
		"":                {},
		"-f user.foo -q":  {fix: true, quiet: true, specs: []string{"user.foo"}},
		"-fqJnuZ":         {fix: true, quiet: true, json: true, dry: true, userIDs: true},
		"-C x -d y -- -f": {config: "x", domain: "y", specs: []string{"-f"}},
		"-fCx -dy":        {fix: true, config: "x", domain: "y"},
		"-C -f":           {config: "-f"},
		"- a":             {specs: []string{"-", "a"}},
		"--fix --quiet --json --report-only --userids": {fix: true, quiet: true, json: true, dry: true, userIDs: true},
		"--domain y":           {domain: "y"},
		"--domain=y --dom=z a": {domain: "z", specs: []string{"a"}},
		"--domain=":            {},
		"a --q b":              {quiet: true, specs: []string{"a", "b"}},
	} {
		got, err := parseLinkArgs(strings.Fields(line))
		require.NoError(t, err, line)
		require.Equal(t, want, got, line)
	}
	for line, want := range map[string]string{
		"-x":          "invalid option -- 'x'",
		"-fx":         "invalid option -- 'x'",
		"-f-":         "invalid option -- '-'",
		"-C":          "option requires an argument -- 'C'",
		"-fd":         "option requires an argument -- 'd'",
		"--domain":    "option '--domain' requires an argument",
		"--fix=1":     "option '--fix' doesn't allow an argument",
		"--fixit":     "unrecognized option '--fixit'",
		"--nope=1 -f": "unrecognized option '--nope=1'",
		"--=1":        "option '--' is ambiguous",
	} {
		_, err := parseLinkArgs(strings.Fields(line))
		require.EqualError(t, err, want, line)
	}
}
