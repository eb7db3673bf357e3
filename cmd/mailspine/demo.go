package main

import (
	"errors"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/internal/demo"
)

func newDemo() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Re-enact the outage: core dumps fill the disk while the mailbox list is changed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := demo.Main(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				return &exitError{exit.ExitCode(), nil} // the child has said why
			}
			return err
		},
	}
}
