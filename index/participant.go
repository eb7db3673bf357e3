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
	QuotaRoot                           string
	Bytes, Messages, AnnotBytes, Folder int64
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
// finished or undone. It does not know which, and counts anew.
type Participant interface {
	Begin(ctx context.Context, u Usage) (Pledge, error)
	Recover(ctx context.Context, journal []byte) error
}

// Pledge is the part of a participant in one transaction. Exactly one of Apply, Undo and Leave is called.
type Pledge interface {
	// Journal is what Recover is given after a crash; empty if there is nothing to recover.
	Journal() []byte
	// Apply is called when the transaction is committed. If it fails the bytes stay in the journal, for Recover.
	Apply(ctx context.Context) error
	// Undo is called when the transaction was not committed.
	Undo() error
	// Leave is called when it is not known whether it was: Recover will be called.
	Leave()
}
