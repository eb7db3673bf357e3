package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

func (f *storeFlags) mailboxCheckCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "check [NAME...]",
		Short: "Compare the records of the list with each other and with the configuration",
		Long: "Compare the records of the list with each other and with the configuration: those under names and under unique ids,\n" +
			"reverse ACL keys, names, types, rights, partitions. With NAMEs only what concerns these mailboxes is looked at, not\n" +
			"what lies below them. For the file itself see mailspine db check. Nothing is changed.",
		Args: cobra.ArbitraryArgs,
	}
	return f.storeCommand(s, c, map[int]string{
		exitOK:     "the list is consistent",
		exitNo:     "something is wrong, and no mailbox is out of reach because of it; or a NAME is not in the list",
		exitDamage: "records cannot be read, or mailboxes cannot be found by them",
		exitFailed: "the check could not be made",
	}, func(st *store, args []string) error {
		names, err := st.names(args)
		if err != nil {
			return err
		}
		var found []finding.Finding
		err = st.view(func(l *mboxdb.List, _ *mboxdb.View) error {
			return l.Check(st.ctx, func(f finding.Finding) { found = append(found, f) }, names...)
		})
		if err == nil {
			return printFindings(st.out, st.path, found, args...)
		}
		code := exitCode(st.ctx, err)
		if partial := errors.Is(err, mboxdb.ErrNotFound) || errors.Is(err, skiplist.ErrDamaged); partial && len(found) > 0 {
			code = max(code, exitCode(st.ctx, printFindings(st.out, st.path, found, args...)))
		}
		return &exitError{code, st.hint(st.advise(err, args))}
	})
}
