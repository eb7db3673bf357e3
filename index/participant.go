package index

import (
	"context"
	"log/slog"
	"time"
)

// OpenOptions are those of an open mailbox. The zero value is useful.
type OpenOptions struct {
	// Conversations is set where imapd.conf has "conversations: yes". Then a change of the mailbox would have to change the
	// user's counters and conversations database, too: every change is refused with [ErrConversations].
	Conversations bool
	// Participant has a part in each transaction that changes what counts for a quota.
	Participant Participant
	// Zone is the time zone of the server, in which the day of a message begins; time.Local by default.
	Zone *time.Location
	// Committed is called after each transaction, under the locks of the mailbox, if it is set: for what has to follow
	// every change, such as a log of it for replicas.
	Committed func(ctx context.Context, c Committed)
	// Log is told what could not be done after a commit, and what recovery found; nil is nobody.
	Log *slog.Logger
	// Ready is used by the first transaction that makes of cyrus.header what was prepared: see [PrepareHeader].
	Ready *ReadyHeader
}

// Committed is what a transaction has changed.
type Committed struct {
	Place Place
	// Before and After are the headers.
	Before, After Header
	// Appended are the UIDs of new messages, Changed those of messages whose records were changed.
	Appended, Changed []UID
}

// Usage is by how much a transaction changes what counts for a quota root.
type Usage struct {
	QuotaRoot string
	// Mailbox is the internal name of the mailbox that changes, as its header has it; empty if it is not known, or is more
	// than one.
	Mailbox string
	// Bytes and Messages are those that are not expunged, AnnotBytes the bytes of annotations, Folder is the mailbox itself.
	Bytes, Messages, AnnotBytes, Folder int64
	// Moved says that what is added is taken from another mailbox of the same root right afterwards, under the same locks: in
	// the end nothing is added, and a limit is no reason to refuse it.
	Moved bool
	// Parts are, where several mailboxes change at once, the parts of each. They add up to the whole.
	Parts []Usage
}

// Usage is what a mailbox counts for its quota root, by its header, without the mailbox itself. Before version 12 no header says how
// many messages exist: all that have a record do.
func (h *Header) Usage() Usage {
	messages := h.Exists
	if !h.Version.HasChecksums() {
		messages = h.NumRecords
	}
	return Usage{Bytes: int64(h.QuotaUsed), Messages: int64(messages), AnnotBytes: int64(h.QuotaAnnot)}
}

// Zero tells whether nothing changes.
func (u Usage) Zero() bool {
	return u.Bytes == 0 && u.Messages == 0 && u.AnnotBytes == 0 && u.Folder == 0
}

// Participant keeps accounts of something that lies outside of the mailbox and has to change with it: the usage of a quota
// root.
//
// Begin is called, under the lock of the mailbox, before anything is written. It may refuse, and then nothing is changed.
// The bytes that a pledge returns are kept in the journal from before the change until after its Apply, so that after a
// crash somebody knows that the accounts may be wrong: Recover is given them once, or more than once, after the change was
// finished or undone. It does not know which, so the accounts are to be made anew. That needs locks of mailboxes, which the
// one who recovers holds: Recover only makes a note of it, which outlives a crash.
//
// Doubt makes such a note of a quota root, for a change that comes to other numbers than the header of a mailbox had: a repack that
// finds it wrong. It is called before the change.
//
// Settle does what was noted. It is called after a change that Begin has consented to, and after Recover and Doubt, when all locks
// are given back. What it cannot do stays noted, and its error is told to the log alone.
type Participant interface {
	Begin(ctx context.Context, u Usage) (Pledge, error)
	Recover(ctx context.Context, journal []byte) error
	Doubt(ctx context.Context, root string) error
	Settle(ctx context.Context) error
}

// SettleLater is a participant for who holds locks that [Participant].Settle would wait for: it is not called, and is left to
// them. It is nil if p is.
func SettleLater(p Participant) Participant {
	if p == nil {
		return nil
	}
	return unsettling{p}
}

type unsettling struct{ Participant }

func (unsettling) Settle(context.Context) error { return nil }

// settle has the participant do what it has noted, if it was told of anything. No lock is held.
func (o *OpenOptions) settle(ctx context.Context, told bool) {
	if !told || o.Participant == nil {
		return
	}
	if err := o.Participant.Settle(ctx); err != nil {
		logger(o.Log).ErrorContext(ctx, "the accounts of a change that was interrupted are still to be made anew", "error", err)
	}
}

// Pledge is the part of a participant in one transaction. Exactly one of Apply, Undo and Leave is called.
type Pledge interface {
	// Journal is what Recover is given after a crash; empty if there is nothing to recover.
	Journal() []byte
	// Apply is called when the transaction is committed, with a context that does not end. If it fails the bytes stay in the
	// journal, for Recover.
	Apply(ctx context.Context) error
	// Undo is called when the transaction was not committed.
	Undo() error
	// Leave is called when it is not known whether it was: Recover will be called.
	Leave()
}
