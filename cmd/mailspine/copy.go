package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/mailspine/mailspine/skiplist"
)

// salvaged is the JSON of db salvage.
type salvaged struct {
	Path   string `json:"path"`
	Out    string `json:"out"`
	DryRun bool   `json:"dry_run"`
	skiplist.Salvaged
}

func salvageVerb() verb {
	var to string
	var uncommitted bool
	return verb{
		use: "salvage FILE --out FILE2", short: "Collect everything readable in a new file; FILE is only read; writes FILE2", writes: true,
		long: "Collect every readable record of a damaged file in a new one, which must not exist yet. FILE is only read. Where it\n" +
			"is in doubt whether a record was deleted, the record is kept. Look at the findings, then put the new file in the\n" +
			"place of the old one while the server is stopped. If the beginning of FILE is unreadable, name its --format.",
		example: "  mailspine db salvage mailboxes.db --out mailboxes.db.salvaged",
		exits: map[int]string{
			exitOK:          "the new file is complete; the old one had no damage, or only a torn tail",
			exitNo:          "the new file is complete with all that is readable; the findings say what was damaged",
			exitDamage:      "",
			exitFailed:      "it could not be done; there is no new file",
			exitInterrupted: "interrupted; there is no new file: run it again",
		},
		flags: func(p *pflag.FlagSet) {
			p.StringVar(&to, "out", "", "the new file; it must not exist")
			p.BoolVar(&uncommitted, "uncommitted", false, "also take complete records that no commit follows")
		},
		run: func(ss *session, _ []string) error {
			if to == "" {
				return usageError("salvage needs --out FILE2, the new file")
			}
			return ss.salvage(to, uncommitted)
		},
	}
}

func (ss *session) salvage(to string, uncommitted bool) error {
	o := skiplist.SalvageOptions{Options: ss.opts, Uncommitted: uncommitted, DryRun: ss.dry}
	res, err := skiplist.Salvage(ss.ctx, ss.path, to, o)
	if err != nil {
		if errors.Is(err, skiplist.ErrDamaged) {
			return &exitError{exitFailed, err}
		}
		return err
	}
	ss.line.Clear()
	if res.Findings == nil {
		res.Findings = []skiplist.Finding{}
	}
	s := salvaged{Path: ss.path, Out: to, DryRun: ss.dry, Salvaged: res}
	damaged := res.Unreadable > 0
	for _, f := range res.Findings {
		damaged = damaged || f.Severity == skiplist.Damage
	}
	did := "salvaged"
	if ss.dry {
		did = "would be salvaged"
	}
	if !ss.out.text() || len(res.Findings) > 0 || !ss.out.quiet {
		err = ss.out.result(s, func(w io.Writer) {
			printAll(w, res.Findings)
			fmt.Fprintf(w, "%s: %s %s, %s found but unreadable\n", to, plural(res.Records, "record"), did, count(res.Unreadable))
		})
	}
	if err == nil && damaged {
		return &exitError{exitNo, nil}
	}
	return err
}

// backedUp is the JSON of db backup.
type backedUp struct {
	Path   string `json:"path"`
	Out    string `json:"out"`
	DryRun bool   `json:"dry_run"`
	skiplist.Copied
}

func backupVerb() verb {
	return verb{
		use: "backup FILE FILE2", short: "Write a consistent, checkpointed copy beside running writers; writes FILE2", min: 1, max: 1, writes: true,
		long: "Write a copy of the newest committed state, freshly checkpointed: a complete database, whatever happens to FILE\n" +
			"meanwhile. Writers are not held up. The copy is read back and compared before it takes the name FILE2; an older\n" +
			"backup of that name stays until then, and for good if FILE is damaged. \"-\" stands for standard output.",
		example: "  mailspine db backup /var/lib/imap/mailboxes.db /var/lib/imap/backup/mailboxes.db",
		exits: map[int]string{
			exitOK:          "the copy is complete, and on the disk",
			exitNo:          "",
			exitDamage:      "FILE is damaged: there is no copy, and an older one was not touched",
			exitFailed:      "it could not be done; an older copy was not touched",
			exitInterrupted: "interrupted; an older copy was not touched",
		},
		run: func(ss *session, args []string) error {
			return ss.with(false, func(db *skiplist.DB) error { return ss.backup(db, args[0]) })
		},
	}
}

func (ss *session) backup(db *skiplist.DB, out string) error {
	if out == "-" && !ss.dry {
		_, err := db.Backup(ss.ctx, ss.out.w)
		return err
	}
	b := backedUp{Path: ss.path, Out: out, DryRun: ss.dry}
	did, err := "copied", error(nil)
	if ss.dry {
		did = "would be copied"
		b.Copied, err = db.PlanBackup(ss.ctx, out)
	} else {
		b.Copied, err = db.BackupFile(ss.ctx, out)
	}
	if err != nil {
		return err
	}
	ss.line.Clear()
	return ss.out.report(b, "%s: %s %s to %s, %s bytes", b.Path, plural(b.Records, "record"), did, b.Out, count(b.Size))
}
