package main

import (
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/quota"
	mailstore "github.com/mailspine/mailspine/store"
)

// messageExits are the codes of a command that changes messages.
func messageExits(no string) map[int]string {
	return map[int]string{
		exitOK:     "done, and on the disk",
		exitNo:     no + "; nothing was changed",
		exitQuota:  "a quota has no room for it; nothing was changed",
		exitDamage: "a file of the mailbox is damaged or lost; nothing was changed",
		exitFailed: "it could not be done, as on a full disk; nothing was changed, unless the message says that this is unknown",
	}
}

// messagesJSON is what a change of messages prints in JSON.
type messagesJSON struct {
	Mailbox     string            `json:"mailbox"`
	DryRun      bool              `json:"dry_run"`
	UIDValidity uint32            `json:"uidvalidity"`
	To          string            `json:"to,omitempty"`
	Messages    []messageDoneJSON `json:"messages"`
	// Modified are the UIDs of messages that have changed since --unchanged-since, and were left alone.
	Modified []index.UID `json:"modified,omitempty"`
}

// messageDoneJSON is one message after a change.
type messageDoneJSON struct {
	UID index.UID `json:"uid"`
	// From is the UID of the message that was copied, moved or restored.
	From   index.UID `json:"from,omitempty"`
	ModSeq uint64    `json:"modseq,omitempty"`
	GUID   string    `json:"guid,omitempty"`
	Size   uint64    `json:"size,omitempty"`
	Flags  []string  `json:"flags,omitempty"`
	File   string    `json:"file,omitempty"`
}

// errDry ends a transaction that was only tried.
var errDry = errors.New("a dry run")

// changeable opens the mailbox for changes. In a store those who follow it are told.
func (b *box) changeable(do func(m *index.Mailbox) error) error {
	m, s, err := b.openToChange()
	if err != nil {
		return b.changeHint(err)
	}
	err = do(m)
	return errors.Join(b.changeHint(err), m.Close(), closeStore(s))
}

func (b *box) openToChange() (*index.Mailbox, *mailstore.Store, error) {
	if b.st == nil {
		m, err := index.Open(b.ctx, vfs.OS(), b.place)
		return m, nil, err
	}
	o := b.st.storeOptions(false)
	o.KeepList = true
	s, err := mailstore.Open(b.ctx, b.st.config, o)
	if err != nil {
		return nil, nil, err
	}
	m, err := s.OpenMailbox(b.ctx, b.rec.Name)
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	b.quota = s.Quota()
	return m, s, nil
}

func closeStore(s *mailstore.Store) error {
	if s == nil {
		return nil
	}
	return s.Close()
}

// update carries out a transaction, or only tries it: then nothing is asked of a quota root but whether it has room.
func (b *box) update(m *index.Mailbox, dry bool, do func(tx *index.Tx) error) error {
	err := m.Update(b.ctx, func(tx *index.Tx) error {
		err := do(tx)
		if err != nil || !dry {
			return err
		}
		if u := tx.Usage(); b.quota != nil && u.QuotaRoot != "" && !u.Zero() {
			if err := b.quota.Check(b.ctx, u.QuotaRoot, quota.AmountsOf(u)); err != nil {
				return err
			}
		}
		return errDry
	})
	if errors.Is(err, errDry) {
		return nil
	}
	return err
}

// changeHint adds to an error what to do about it.
func (b *box) changeHint(err error) error {
	var advised *advisedError
	switch {
	case errors.As(err, &advised): // by who knows more
	case errors.Is(err, index.ErrCommitUnknown):
		return &advisedError{err, "the next change of the mailbox, or mailspine recover, decides; look before you run it again"}
	case errors.Is(err, index.ErrNoSpace):
		return &advisedError{err, "nothing was changed; make room and run it again"}
	case errors.Is(err, index.ErrOverQuota):
		return &advisedError{err, "nothing was changed"}
	case errors.Is(err, index.ErrConversations):
		return &advisedError{err, "use Cyrus's own programs, which keep them; nothing was changed"}
	}
	return err
}

// printChanged prints what was done to messages. In text a line each, of the fields that line gives. What was done is no
// failure because it cannot be printed, on a full disk or into a pipe that nobody reads: a script would deliver it again.
func (b *box) printChanged(m *index.Mailbox, done messagesJSON, line func(d *messageDoneJSON) string) error {
	if done.DryRun {
		return b.printDone(m, done, line)
	}
	signal.Ignore(syscall.SIGPIPE)
	if err := b.printDone(m, done, line); err != nil {
		_, _ = fmt.Fprintf(b.errOut, "mailspine: the change was made, but what it came to could not be printed: %v\n", err)
	}
	return nil
}

func (b *box) printDone(m *index.Mailbox, done messagesJSON, line func(d *messageDoneJSON) string) error {
	h, err := m.Header()
	if err != nil {
		return err
	}
	done.Mailbox, done.UIDValidity = b.arg, h.UIDValidity
	if done.Messages == nil {
		done.Messages = []messageDoneJSON{}
	}
	if err := b.tellQuota(m, done); err != nil {
		return err
	}
	return b.out.result(done, func(w io.Writer) {
		for i := range done.Messages {
			fmt.Fprintln(w, line(&done.Messages[i]))
		}
	})
}

// tellQuota says that the usage of the quota root has to be counted again, on standard error so that the output stays what it
// is. That is so of a bare directory: without a configuration nobody knows where quota roots are kept. Flags change no usage.
func (b *box) tellQuota(m *index.Mailbox, done messagesJSON) error {
	h, err := m.HeaderFile()
	if err != nil || b.st != nil || h.QuotaRoot == "" || done.DryRun || len(done.Messages) == 0 || done.Messages[0].Flags != nil && done.Messages[0].File == "" {
		return err
	}
	_, err = fmt.Fprintf(b.errOut, "mailspine: what the quota root %s has in use is to be counted again: quota -f %[1]s\n", h.QuotaRoot)
	return err
}

func uidLine(d *messageDoneJSON) string { return fmt.Sprint(d.UID) }

func fromLine(d *messageDoneJSON) string { return fmt.Sprintf("%d\t%d", d.From, d.UID) }

func (f *boxFlags) appendCommand(s streams) *cobra.Command {
	var dry bool
	var flags, date string
	c := &cobra.Command{
		Use: "append MAILBOX FILE...", Short: "Append messages to a mailbox, all in one transaction, and print their UIDs; writes",
		Long: "Append messages, from files or with - from standard input, all of them or none, and print their UIDs, a line each in the\n" +
			"order of the files. When it returns 0 they are on the disk, and a server that is running shows them. Line ends become\n" +
			"CR LF, as the spool has them.\n\n" +
			"Nothing is delivered twice if a script runs it again after any status but 0, except after the message that it is unknown\n" +
			"whether the change was made.",
		Example: "  mailspine message append -C /etc/imapd.conf user.alice - --flags '\\Seen $Work' < mail.eml",
		Args:    cobra.MinimumNArgs(2),
	}
	c.Flags().StringVar(&flags, "flags", "", "flags of the messages, separated by blanks or commas: \\Seen, \\Flagged, $Work")
	c.Flags().StringVar(&date, "date", "", "time of arrival: RFC 3339, \"2-Jan-2006 15:04:05 -0700\", or seconds since 1970; \"file\" is the time of each file; now if not given")
	dryFlag(c, &dry)
	return f.command(s, c, messageExits("there is no such mailbox, or a message is empty or has a NUL"), func(b *box, args []string) error {
		if err := notEmpty(c, "date"); err != nil {
			return err
		}
		sys, user, err := parseFlags(flags)
		if err != nil {
			return err
		}
		at, err := parseDate(date)
		if err != nil {
			return err
		}
		stdin := &interruptible{ctx: b.ctx, in: c.InOrStdin()}
		if n := len(slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a != "-" })); n > 1 {
			return usageError("standard input can be read once")
		}
		return b.changeable(func(m *index.Mailbox) error {
			done := messagesJSON{DryRun: dry}
			a := appending{b: b, m: m, stdin: stdin, template: index.NewMessage{InternalDate: at, Flags: sys, User: user}, fileDate: date == "file"}
			if done.Messages, err = a.run(args, dry); err != nil {
				return err
			}
			return b.printChanged(m, done, uidLine)
		})
	})
}

// appending appends the messages of one command.
type appending struct {
	b        *box
	m        *index.Mailbox
	stdin    io.Reader
	template index.NewMessage
	fileDate bool
}

// run stages all messages before it locks the mailbox: nobody waits while files are read and synced.
func (a *appending) run(files []string, dry bool) (done []messageDoneJSON, err error) {
	var staged []*index.Staged
	defer func() {
		for _, s := range staged {
			s.Discard()
		}
	}()
	for _, file := range files {
		s, err := a.stage(file)
		if err != nil {
			return nil, err
		}
		staged = append(staged, s)
	}
	err = a.b.update(a.m, dry, func(tx *index.Tx) error {
		done = nil
		for i, s := range staged {
			rec, err := tx.AppendStaged(s)
			if err != nil {
				return fmt.Errorf("%s: %w", files[i], err)
			}
			done = append(done, messageDoneJSON{UID: rec.UID, ModSeq: uint64(rec.ModSeq), GUID: rec.GUID.String(), Size: rec.Size, File: files[i]})
		}
		return nil
	})
	return done, err
}

func (a *appending) stage(file string) (*index.Staged, error) {
	msg := a.template
	if file == "-" {
		msg.Body = newCRLFReader(a.stdin)
		return a.staged(file, msg)
	}
	f, err := vfs.OS().Open(file, vfs.ReadOnly, 0)
	if errors.Is(err, syscall.EACCES) && a.b.as != nil {
		// Whoever stayed root would make files that the server cannot read.
		err = &exitError{exitFailed, &advisedError{err, fmt.Sprintf("this ran as %s, the owner of the store, who may not read it: give it on standard input, with - < FILE", a.b.as.Name)}}
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if a.fileDate {
		msg.InternalDate = info.Mtime
	}
	msg.Body = newCRLFReader(io.NewSectionReader(f, 0, info.Size))
	s, err := a.staged(file, msg)
	return s, errors.Join(err, f.Close())
}

func (a *appending) staged(file string, msg index.NewMessage) (*index.Staged, error) {
	s, err := a.m.Stage(a.b.ctx, msg)
	if err != nil {
		err = fmt.Errorf("%s: %w", file, err)
	}
	return s, err
}

// parseDate reads a time of arrival; zero is now.
func parseDate(s string) (time.Time, error) {
	var seconds int64
	if s == "" || s == "file" {
		return time.Time{}, nil
	}
	if n, err := fmt.Sscanf(s, "%d", &seconds); err == nil && n == 1 && fmt.Sprint(seconds) == s {
		return time.Unix(seconds, 0), nil
	}
	for _, layout := range []string{time.RFC3339, "_2-Jan-2006 15:04:05 -0700", time.RFC1123Z} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError("--date: not a time: %q", s)
}

// parseFlags reads names of flags, separated by blanks or commas.
func parseFlags(s string) (sys index.Flags, user []string, err error) {
	for _, name := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' }) {
		bit, ok := clientFlags[strings.ToLower(name)]
		switch {
		case ok:
			sys |= bit
		case strings.HasPrefix(name, `\`):
			return 0, nil, usageError(`%s is not a flag that a client can set: those with a backslash are \Answered, \Flagged, \Deleted, \Draft and \Seen`, name)
		default:
			user = append(user, name)
		}
	}
	return sys, user, nil
}

var clientFlags = map[string]index.Flags{
	`\answered`: index.FlagAnswered, `\flagged`: index.FlagFlagged, `\deleted`: index.FlagDeleted, `\draft`: index.FlagDraft, `\seen`: index.FlagSeen,
}
