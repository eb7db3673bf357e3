package main

import (
	"errors"
	"os/exec"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/internal/demo"
)

func newDemo(s streams) *cobra.Command {
	var kind string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Re-enact the outage: core dumps fill the disk while the mailbox list, a mailbox and quotas are changed",
		Long: "Re-enact the outage on a small disk of its own: core dumps fill it while the mailbox list, then a mailbox, and then\n" +
			"mailboxes with quotas are being changed, and quotas recalculated. Nothing outside of a temporary directory is touched, and\n" +
			"no privilege is needed.\n\n" + exitHelp(map[int]string{
			exitOK: "everything that was acknowledged survived", exitNo: "", exitDamage: "",
			exitFailed: "something was lost, or the story could not be played",
		}),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := newOutput(cmd, streams{})
			if err != nil {
				return err
			}
			if !o.text() {
				return usageError("the demo is a story: it has no JSON")
			}
			if !slices.Contains(demo.Kinds, kind) {
				return usageError("--disk is one of %v, not %q", demo.Kinds, kind)
			}
			err = demo.Main(cmd.Context(), demo.Options{Out: s.out, Err: s.err, Color: s.outTerminal, Kind: kind})
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() > 0 {
				return &exitError{exit.ExitCode(), nil} // the child has said why
			}
			if exit != nil && brokenPipe(exit) {
				return &exitError{exitFailed, nil} // nobody reads on
			}
			return err
		},
	}
	c.Flags().StringVar(&kind, "disk", "auto", "the small disk: tmpfs, limit (on the size of files), or auto for the first that can be had")
	return c
}

func brokenPipe(exit *exec.ExitError) bool {
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGPIPE
}
