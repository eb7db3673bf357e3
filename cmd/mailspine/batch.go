package main

import (
	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/internal/batch"
	"github.com/mailspine/mailspine/skiplist"
)

func (f *dbFlags) batch() *cobra.Command {
	return f.verb("batch FILE", "Run the commands on standard input, in cyr_dbtool's batch language; writes", 1, 1, skiplist.Options{},
		func(cmd *cobra.Command, db *skiplist.DB, _ []string) error {
			return batch.Run(cmd.Context(), db, cmd.InOrStdin(), cmd.OutOrStdout())
		})
}
