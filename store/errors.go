package store

import (
	"errors"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/quota"
)

// Errors of changes. Those of the packages mboxdb, index and skiplist come through: mboxdb.ErrExists, mboxdb.ErrNotFound,
// mboxdb.ErrName and skiplist.ErrNoSpace above all. After each of them nothing is changed, now and after any crash, but for
// skiplist.ErrCommitUnknown: then the next change or Recover decides.
var (
	// ErrConversations means that the store keeps conversations (conversations: yes): the database of the user's
	// conversations would have to change with the mailbox.
	ErrConversations = index.ErrConversations
	// ErrChildren means that there are mailboxes below the one that is to be deleted.
	ErrChildren = errors.New("there are mailboxes below it")
	// ErrInbox means that an INBOX cannot be renamed: all else of its user would have to move with it.
	ErrInbox = errors.New("it is the INBOX of a user, whose other files would have to move, too")
	// ErrKind means that the mailbox holds no mail, but calendars, address books or scripts, which have a database of their
	// own.
	ErrKind = errors.New("it is not a mailbox of mail")
	// ErrElsewhere means that the mailbox is not on this server, or not all there.
	ErrElsewhere = errors.New("it has no files here")
	// ErrNotEmpty means that there are files where the new mailbox would lie.
	ErrNotEmpty = errors.New("there are files in the directory of the new mailbox")
	// ErrNoUser means that a user has no INBOX, below which the mailbox would lie.
	ErrNoUser = errors.New("the user has no INBOX")
	// ErrUnsupported means that the configuration asks for something that is not supported here.
	ErrUnsupported = quota.ErrUnsupported
)
