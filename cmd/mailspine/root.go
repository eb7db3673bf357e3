package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
)

// streams are what a run reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
	// outTerminal and errTerminal tell whether somebody looks.
	outTerminal, errTerminal bool
	// now is the clock of the progress line; nil is the system's.
	now func() time.Time
}

// run is the program; it returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitCode(ctx, err)
	explain(s.err, code, err)
	return code
}

func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "mailspine",
		Short: "Crash-safe metadata for mail servers: open, check, repair and change it",
		Long: "mailspine opens, checks, repairs and changes the metadata stores of mail servers, those of Cyrus IMAP above all.\n" +
			"Commands only read, unless the verb says \"writes\".",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          needsCommand,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitUsage, err} })
	p := root.PersistentFlags()
	p.StringP("output", "o", "text", "output format: text, json (one document) or jsonl (one object a line)")
	p.Bool("json", false, "the same as --output json")
	p.BoolP("quiet", "q", false, "say nothing when all goes well; results that were asked for are printed")
	p.BoolP("verbose", "v", false, "say on standard error what is done, and as which user")
	root.AddCommand(newDB(s), newMailbox(s), newIndex(s), newCache(s), newHeader(s), newMessage(s), newQuota(s), newLocate(s), newRecover(s), newConfig(s), newVersion(), newDemo(s))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" { // cobra's own, which takes its wrong arguments for help or prints them
			c.Args, c.RunE = cobra.ArbitraryArgs, needsCommand
		}
		argErrors(c)
	}
	describeExit(root)
	return root
}

// needsCommand is run for a command that only has others below it.
func needsCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError("unknown command %q; see %s --help", args[0], cmd.CommandPath())
	}
	return cmd.Help()
}

// argErrors makes every complaint about arguments one of usage.
func argErrors(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			var coded *exitError
			if err == nil || errors.As(err, &coded) {
				return err
			}
			return usageError("usage: %s", cmd.UseLine()) // cobra's own words speak of commands where a file was meant
		}
	}
	for _, sub := range c.Commands() {
		argErrors(sub)
	}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := newOutput(cmd, streams{})
			if err != nil {
				return err
			}
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				System  string `json:"system"`
			}{"(unknown)", runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if info, ok := debug.ReadBuildInfo(); ok {
				v.Version = info.Main.Version
			}
			return o.result(v, func(w io.Writer) { fmt.Fprintln(w, "mailspine", v.Version, v.Go, v.System) })
		},
	}
}
