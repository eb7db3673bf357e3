package mboxdb

import (
	"strings"

	"github.com/mailspine/mailspine/internal/dlist"
)

// Type says what kind of mailbox it is and in which state: Cyrus's letters, the first of which is the kind.
type Type string

// Kinds of mailboxes. Others are kept as they are.
const (
	Mail        Type = "e"
	News        Type = "n"
	Collection  Type = "b"
	Calendar    Type = "c"
	AddressBook Type = "a"
	Submission  Type = "s"
	Push        Type = "p"
	Sieve       Type = "f"
	JMAP        Type = "j"
)

// flagLetters are the states, in the order in which they are written: deleted, moving, remote, reserved, intermediate,
// legacy directories.
const flagLetters = "dmrzil"

func (t Type) has(flag byte) bool { return strings.IndexByte(string(t), flag) >= 0 }

// Deleted tells a tombstone: a mailbox that is gone.
func (t Type) Deleted() bool { return t.has('d') }

// Remote tells a mailbox on another server.
func (t Type) Remote() bool { return t.has('r') }

// Moving tells a mailbox that is being moved to another server.
func (t Type) Moving() bool { return t.has('m') }

// Reserved tells a name under which a mailbox is being created.
func (t Type) Reserved() bool { return t.has('z') }

// Intermediate tells a name that exists only because others lie below it.
func (t Type) Intermediate() bool { return t.has('i') }

// Legacy tells a mailbox whose directory follows from its name, not from its unique id.
func (t Type) Legacy() bool { return t.has('l') }

// Exists tells a mailbox that can be opened.
func (t Type) Exists() bool { return !t.Deleted() && !t.Intermediate() && !t.Reserved() }

// With is t with a state added, Without one without it.
func (t Type) With(flag byte) Type    { return t.set(flag, true) }
func (t Type) Without(flag byte) Type { return t.set(flag, false) }

// set writes the states in Cyrus's order; letters that are not known stay where they are, before them.
func (t Type) set(flag byte, on bool) Type {
	if t.has(flag) == on {
		return t
	}
	head, flags := []byte(nil), map[byte]bool{}
	for i := range len(t) {
		if strings.IndexByte(flagLetters, t[i]) >= 0 {
			flags[t[i]] = true
		} else {
			head = append(head, t[i])
		}
	}
	flags[flag] = on
	for i := range len(flagLetters) {
		if flags[flagLetters[i]] {
			head = append(head, flagLetters[i])
		}
	}
	return Type(head)
}

// Record is a mailbox in the list.
type Record struct {
	Name     Name
	Type     Type
	UniqueID string
	// Partition is where the mailbox lies; empty in a tombstone.
	Partition string
	// Server is set for a mailbox on another server.
	Server string
	// UIDValidity changes when the mailbox becomes another one under the same name.
	UIDValidity uint32
	// CreatedModSeq and FolderModSeq are the modification sequences of the creation, and of the last change of the
	// mailbox as such.
	CreatedModSeq, FolderModSeq uint64
	// Modified is when the record was written, in Unix time.
	Modified int64
	// ACL is nil in a record that has none, a tombstone.
	ACL ACL
	// History are the former names, newest first. Only a record read by its unique id has them.
	History []FormerName
}

// FormerName is a name that a mailbox had.
type FormerName struct {
	Name          Name   `json:"name"`
	Modified      int64  `json:"modified"`
	UIDValidity   uint32 `json:"uid_validity,omitempty"`
	CreatedModSeq uint64 `json:"created_modseq,omitempty"`
	FolderModSeq  uint64 `json:"folder_modseq,omitempty"`
	Type          Type   `json:"type"`
	Partition     string `json:"partition,omitempty"`

	source *dlist.Node // as it was read
}
