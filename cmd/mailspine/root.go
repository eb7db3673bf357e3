package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/skiplist"
)

// The exit codes, of every command.
const (
	exitOK          = 0
	exitNo          = 1  // the answer is no, or there are findings
	exitDamage      = 4  // damage remains
	exitFailed      = 8  // it could not be done
	exitUsage       = 16 // the command line is wrong
	exitInterrupted = 32
)

const exitHelp = `
Exit status:
   0  fine
   1  the answer is no, or there are findings
   4  damage remains
   8  it could not be done
  16  wrong usage
  32  interrupted`

// exitError carries an exit code; its message may be empty if all is said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError marks an error of the command line.
func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run is the program; it returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if msg := err.Error(); msg != "" {
		fmt.Fprintln(s.err, "mailspine:", msg)
	}
	return exitCode(ctx, err)
}

func exitCode(ctx context.Context, err error) int {
	var coded *exitError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.Is(err, skiplist.ErrDamaged):
		return exitDamage
	case errors.Is(err, skiplist.ErrNotFound), errors.Is(err, skiplist.ErrExists):
		return exitNo
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "mailspine",
		Short:         "Crash-safe metadata for mail servers: open, check, repair and change it",
		Long:          "mailspine opens, checks, repairs and changes the metadata stores of mail servers, those of Cyrus IMAP above all.\nCommands only read, unless the verb says otherwise.",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitUsage, err} })
	root.PersistentFlags().String("output", "text", "output format: text, json or jsonl")
	root.PersistentFlags().Bool("json", false, "the same as --output json")
	root.AddCommand(newDB(), newVersion(), newDemo())
	for _, c := range root.Commands() {
		describeExit(c)
	}
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError("unknown command %q", args[0])
		}
		return cmd.Help()
	}
	root.Args = cobra.ArbitraryArgs
	return root
}

// describeExit ends every help text with the table of exit codes.
func describeExit(c *cobra.Command) {
	if c.Long == "" {
		c.Long = c.Short + "."
	}
	c.Long += "\n" + exitHelp
	for _, sub := range c.Commands() {
		describeExit(sub)
	}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version := "(unknown)"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
			}
			fmt.Fprintln(cmd.OutOrStdout(), "mailspine", version)
			return nil
		},
	}
}

// outputFormat is what the flags --output and --json ask for.
func outputFormat(cmd *cobra.Command) (string, error) {
	f, _ := cmd.Flags().GetString("output")
	if j, _ := cmd.Flags().GetBool("json"); j {
		f = "json"
	}
	switch f {
	case "text", "json", "jsonl":
		return f, nil
	}
	return "", usageError("--output is text, json or jsonl, not %q", f)
}

// printJSON prints one value, indented unless it is a line of many.
func printJSON(w io.Writer, v any, lines bool) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if !lines {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}
