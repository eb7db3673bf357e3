package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/progress"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

// sharedUser is the user in whose seen database Cyrus keeps what all users of a shared mailbox have seen.
const sharedUser = "anyone"

// seenFile is the database in which a user's \Seen is kept, outside of mailboxes.
func (st *store) seenFile(v *mboxdb.View, user string) (string, error) {
	if user == "" {
		user = sharedUser
	}
	layout := st.opts.Layout
	rec, err := v.Lookup(layout.Namespace.UserInbox(user))
	if errors.Is(err, mboxdb.ErrNotFound) || err == nil && rec.Type.Legacy() {
		return layout.UserFile(user, "seen"), nil
	}
	if err != nil {
		return "", err
	}
	return layout.UserFileByID(rec.UniqueID, "seen")
}

// boxWriteExits are the codes of a command that writes the files of a mailbox anew.
func boxWriteExits() map[int]string {
	return map[int]string{
		exitOK:          "done, and on the disk",
		exitNo:          "",
		exitDamage:      "a file is damaged, or a message that is needed is lost: the mailbox is as it was; see mailspine index check",
		exitFailed:      "it could not be done; the mailbox is as it was, unless the message says that this is unknown",
		exitInterrupted: "interrupted; the mailbox is as it was, or complete: run it again",
	}
}

func (f *boxFlags) indexRepackCommand(s streams) *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use: "repack MAILBOX", Short: "Write index and cache anew, without what is gone; writes",
		Long: "Write cyrus.index and cyrus.cache anew, without the records of messages that were expunged and cleaned up, and without\n" +
			"what is left over in the cache; then remove the files of those messages. Until the new index is on the disk, nothing\n" +
			"that exists is changed. What was interrupted by a crash is brought to its end by the next repack or change.",
		Example: "  mailspine index repack -C /etc/imapd.conf user.alice",
		Args:    cobra.ExactArgs(1),
	}
	dryFlag(c, &dry)
	return f.command(s, c, boxWriteExits(), func(b *box, _ []string) error { return b.repack(s, 0, "", dry) })
}

func (f *boxFlags) indexUpgradeCommand(s streams) *cobra.Command {
	var dry bool
	var to uint32
	var seen string
	c := &cobra.Command{
		Use: "upgrade MAILBOX", Short: "Convert the index to another version, up or down; writes",
		Long: "Convert the index to another version, up or down, as Cyrus's reconstruct -V does: a repack in which the records get another\n" +
			"size. What the new version keeps elsewhere goes there: \\Seen of the owner to and from the seen database (versions before\n" +
			"12), conversation, savedate and createdmodseq to and from the annotations (before 13, 15, 16). If that is not possible\n" +
			"without a loss, it is refused. Versions before 10 have no ids of messages, those before 8 no modification sequences.",
		Example: "  mailspine index upgrade -C /etc/imapd.conf user.alice\n  mailspine index upgrade -C /etc/imapd.conf --to 12 user.alice",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().Uint32Var(&to, "to", uint32(index.VersionWritten), "the version: 6 to 10 or 12 to 17")
	c.Flags().StringVar(&seen, "seen", "", "the seen database of the owner, if it is not the one that -C tells")
	dryFlag(c, &dry)
	return f.command(s, c, boxWriteExits(), func(b *box, _ []string) error {
		if !slices.Contains(index.ConvertVersions(), index.Version(to)) {
			return usageError("--to %d: known are the versions 6 to 10 and 12 to 17", to)
		}
		return b.repack(s, index.Version(to), seen, dry)
	})
}

// boxRepacked is the JSON of index repack and index upgrade.
type boxRepacked struct {
	Mailbox     string        `json:"mailbox"`
	DryRun      bool          `json:"dry_run"`
	From        index.Version `json:"minor_version_before"`
	To          index.Version `json:"minor_version"`
	Generation  uint32        `json:"generation"`
	Records     uint32        `json:"num_records"`
	Dropped     uint32        `json:"dropped"`
	Parsed      uint32        `json:"parsed"`
	Uncached    uint32        `json:"without_cache"`
	Before      int64         `json:"size_before"`
	Size        int64         `json:"size"`
	QuotaBefore uint64        `json:"quota_mailbox_used_before"`
	Quota       uint64        `json:"quota_mailbox_used"`
	Unfinished  string        `json:"unfinished,omitempty"`
}

// repack writes the files anew, in another version if to is not 0.
func (b *box) repack(s streams, to index.Version, seen string, dry bool) error {
	if seen == "" {
		seen = b.seen
	}
	opts := index.RepackOptions{Seen: seen, DryRun: dry}
	var line *progress.Line
	if s.errTerminal {
		line = progress.New(s.err, s.now)
		opts.Progress = line.Report
	}
	do := func() (*index.Repacked, error) { return index.Repack(b.ctx, vfs.OS(), b.place, opts) }
	if to != 0 {
		do = func() (*index.Repacked, error) { return index.Upgrade(b.ctx, vfs.OS(), b.place, to, opts) }
	}
	done, err := do()
	line.Clear()
	if errors.Is(err, index.ErrKeptElsewhere) && b.seen == "" {
		return &advisedError{err, "-C finds the seen database of the owner, --seen names it; nothing was changed"}
	}
	if err != nil {
		return err
	}
	r := boxRepacked{Mailbox: b.arg, DryRun: dry, From: done.From, To: done.To, Generation: done.Generation, Records: uint32(done.Records),
		Dropped: uint32(done.Dropped), Parsed: uint32(done.Parsed), Uncached: uint32(done.Uncached), Before: done.Before, Size: done.After,
		QuotaBefore: done.QuotaBefore, Quota: done.QuotaAfter}
	if done.Unfinished != nil {
		r.Unfinished = done.Unfinished.Error()
	}
	return b.out.report(r, "%s", r.text())
}

// text is the report for people.
func (r *boxRepacked) text() string {
	did := "written anew"
	if r.From != r.To {
		did = fmt.Sprintf("converted from version %d to %d", r.From, r.To)
	}
	if r.DryRun {
		did = "would be " + did
	}
	text := fmt.Sprintf("%s: %s: %s, %d dropped; %s bytes, was %s", r.Mailbox, did, plural(int64(r.Records), "record"), r.Dropped, count(r.Size), count(r.Before))
	if r.Parsed > 0 {
		text += fmt.Sprintf("; %s parsed anew", plural(int64(r.Parsed), "message"))
	}
	if r.Uncached > 0 {
		text += fmt.Sprintf("; %s cannot be read", plural(int64(r.Uncached), "message"))
	}
	if r.QuotaBefore != r.Quota {
		text += fmt.Sprintf("\n%s: uses %s bytes, not %s as its header said: quota -f counts the quota root again", r.Mailbox, count(r.Quota), count(r.QuotaBefore))
	}
	if r.Unfinished != "" {
		text += fmt.Sprintf("\n%s: what is not needed any more was not all removed, the next change does that: %s", r.Mailbox, r.Unfinished)
	}
	return text
}
