package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
	mailstore "github.com/mailspine/mailspine/store"
)

// recoveredJSON is the JSON of recover.
type recoveredJSON struct {
	DryRun bool `json:"dry_run"`
	mailstore.Recovered
}

func newRecover(s streams) *cobra.Command {
	var f storeFlags
	var dry bool
	c := &cobra.Command{
		Use:   "recover",
		Short: "Finish or undo what a crash of mailspine has interrupted in a store; writes",
		Long: "Finish or undo what a crash of mailspine, or of the machine, has interrupted in a store. As the first entry of START in\n" +
			"cyrus.conf it does so before the server looks:\n\n" +
			"  START {\n    mailspine cmd=\"/usr/local/bin/mailspine recover -C /etc/imapd.conf\"\n    recover cmd=\"ctl_cyrusdb -r\"\n  }\n\n" +
			"It may run at any time, beside whoever uses the store, and is done at once if nothing is pending.",
		Args: cobra.NoArgs,
	}
	f.add(c.Flags())
	dryFlag(c, &dry)
	return f.storeCommand(s, c, writeExits(""), func(st *store, _ []string) (err error) {
		done, err := mailstore.Recover(st.ctx, st.config, st.storeOptions(false), dry)
		st.line.Clear()
		did, removed, counted := "finished or undone", "removed", "was counted anew"
		if dry {
			did, removed, counted = "to finish or to undo", "to remove", "is to be counted anew"
		}
		if errors.Is(err, skiplist.ErrNoSpace) {
			err = &exitError{exitFailed, &advisedError{err, "what is not brought to its end stays noted, and keeps nobody from other changes; make room and run it again"}}
		}
		roots := make([]string, 0, len(done.QuotaRoots))
		for _, root := range done.QuotaRoots {
			roots = append(roots, st.show(mboxdb.InternalName(root)))
		}
		done.QuotaRoots = roots
		return errors.Join(st.out.result(recoveredJSON{dry, done}, func(w io.Writer) {
			if done.Steps+done.Mailboxes > 0 {
				fmt.Fprintf(w, "%s of mailboxes, %s with changes in them %s\n", plural(done.Steps, "change"), plural(done.Mailboxes, "mailbox"), did)
			}
			if done.Staged > 0 {
				fmt.Fprintf(w, "%s of messages that were not delivered %s\n", plural(done.Staged, "file"), removed)
			}
			for _, root := range roots {
				fmt.Fprintf(w, "%s: what this quota root has in use %s\n", root, counted)
			}
		}), err)
	})
}
