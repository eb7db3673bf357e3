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
		Long: "Re-enact the outage on a small disk of its own: core dumps fill it while the mailbox list is being changed. Nothing\n" +
			"outside of a temporary directory is touched, and no privilege is needed.\n\n" + exitHelp(map[int]string{
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
			err = demo.Main(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() > 0 {
				return &exitError{exit.ExitCode(), nil} // the child has said why
			}
			return err
		},
	}
}
