package main

import (
	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/vfs"
)

func newConfig(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Look at the configuration of a Cyrus store",
		Args:  cobra.ArbitraryArgs,
		RunE:  needsCommand,
	}
	var imapd, cyrus string
	check := &cobra.Command{
		Use:   "check",
		Short: "Find what is wrong with imapd.conf and cyrus.conf before it hurts",
		Long: "Find what is wrong with imapd.conf and cyrus.conf: unknown and misspelt options, options given twice (Cyrus then stops\n" +
			"without a word), bad values, misplaced commas and braces, missing directories, partitions without a path. Each finding\n" +
			"says where, what was found, and what was expected. Nothing is changed. Without -M the names of the services are not known:\n" +
			"options for one of them, such as imap_timeout, are taken for right.\n\n" +
			exitHelp(map[int]string{
				exitOK: "nothing is wrong", exitNo: "something is wrong; \"error\" if Cyrus stops or does the wrong thing because of it", exitDamage: "",
				exitFailed: "the check could not be made",
			}),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := newOutput(cmd, s)
			if err != nil {
				return err
			}
			return printFindings(out, imapd, imapdconf.Check(imapdconf.Options{FS: vfs.OS(), Imapd: imapd, Cyrus: cyrus, ProgramDirs: programDirs}))
		},
	}
	check.Flags().StringVarP(&imapd, "config", "C", defaultConfig, "imapd.conf to check")
	check.Flags().StringVarP(&cyrus, "master", "M", "", "cyrus.conf to check with it")
	c.AddCommand(check)
	return c
}

// programDirs are where distributions put Cyrus's programs.
var programDirs = []string{"/usr/lib/cyrus/bin", "/usr/lib/cyrus-imapd", "/usr/libexec/cyrus-imapd", "/usr/cyrus/bin"}
