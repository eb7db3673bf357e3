package index

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// UID identifies a message in its mailbox. 0 is none.
type UID uint32

// RecordNo is the place of a record in cyrus.index, from 1. It is not the IMAP sequence number: expunged records count.
type RecordNo uint32

// ModSeq is a modification sequence number.
type ModSeq uint64

// Offset is a place in cyrus.cache, in bytes; 48 bits in the index. 0 means that there is no cache record.
type Offset uint64

// GUID is the SHA-1 of a message, or zero.
type GUID [20]byte

// String writes the id as Cyrus does.
func (g GUID) String() string { return fmt.Sprintf("%x", g[:]) }

// Time is a number of nanoseconds since 1970; 0 is none. Up to index version 19 files hold whole seconds.
type Time uint64

const second = Time(time.Second)

// Seconds returns the Time of a number of seconds since 1970.
func Seconds(s uint32) Time { return Time(s) * second }

// TimeOf returns the Time of t; what lies before 1970 becomes 0.
func TimeOf(t time.Time) Time {
	if t.Unix() < 0 || t.Unix() >= math.MaxInt64/int64(time.Second) {
		return 0
	}
	return Time(t.UnixNano())
}

// Unix returns whole seconds since 1970.
func (t Time) Unix() int64 { return int64(t / second) }

// Time returns the time in UTC.
func (t Time) Time() time.Time { return time.Unix(t.Unix(), int64(t%second)).UTC() }

// Flags are the system flags of a record. Bits not named here are kept.
type Flags uint32

// The system flags. The upper ones are never shown to clients.
const (
	FlagAnswered Flags = 1 << 0
	FlagFlagged  Flags = 1 << 1
	FlagDeleted  Flags = 1 << 2
	FlagDraft    Flags = 1 << 3
	// FlagSeen is the owner's, or everybody's if the mailbox shares it. Before version 12 it was in the seen database only.
	FlagSeen    Flags = 1 << 4
	FlagSnoozed Flags = 1 << 26
	// FlagSplit: the message was split off a conversation.
	FlagSplit Flags = 1 << 27
	// FlagNeedsCleanup: the message file is to be removed.
	FlagNeedsCleanup Flags = 1 << 28
	// FlagArchived: message and cache record are on the archive partition.
	FlagArchived Flags = 1 << 29
	// FlagUnlinked: the file is gone or to be removed, and the record goes with the next repack.
	FlagUnlinked Flags = 1 << 30
	FlagExpunged Flags = 1 << 31
)

// systemFlags are the names of the bits, in the order of the format document.
var systemFlags = []struct {
	bit  Flags
	name string
}{
	{FlagAnswered, `\Answered`}, {FlagFlagged, `\Flagged`}, {FlagDeleted, `\Deleted`}, {FlagDraft, `\Draft`}, {FlagSeen, `\Seen`},
	{FlagSnoozed, "snoozed"}, {FlagSplit, "split"}, {FlagNeedsCleanup, "needs-cleanup"}, {FlagArchived, "archived"},
	{FlagUnlinked, "unlinked"}, {FlagExpunged, "expunged"},
}

// Names returns the names of the set bits, those of clients with a backslash; a bit without a name is "bit N".
func (f Flags) Names() (names []string) {
	for _, s := range systemFlags {
		if f&s.bit != 0 {
			names = append(names, s.name)
			f &^= s.bit
		}
	}
	return appendBits(names, uint32(f))
}

func (f Flags) String() string { return strings.Join(f.Names(), " ") }

// Options are the options of a mailbox. Bits not named here are kept.
type Options uint32

// The options.
const (
	// OptionPOP3NewUIDL: the ids of POP3 are "uidvalidity.uid".
	OptionPOP3NewUIDL Options = 1 << 0
	// OptionCondstore is obsolete.
	OptionCondstore   Options = 1 << 1
	OptionSharedSeen  Options = 1 << 2
	OptionDuplicates  Options = 1 << 3
	OptionAlarms      Options = 1 << 4
	OptionNeedsUnlink Options = 1 << 29
	OptionNeedsRepack Options = 1 << 30
	// OptionDeleted: the mailbox is being removed.
	OptionDeleted Options = 1 << 31
)

var optionNames = []struct {
	bit  Options
	name string
}{
	{OptionPOP3NewUIDL, "pop3-new-uidl"}, {OptionCondstore, "condstore"}, {OptionSharedSeen, "shared-seen"}, {OptionDuplicates, "duplicates"},
	{OptionAlarms, "alarms"}, {OptionNeedsUnlink, "needs-unlink"}, {OptionNeedsRepack, "needs-repack"}, {OptionDeleted, "deleted"},
}

// Names returns the names of the set bits; a bit without a name is "bit N".
func (o Options) Names() (names []string) {
	for _, s := range optionNames {
		if o&s.bit != 0 {
			names = append(names, s.name)
			o &^= s.bit
		}
	}
	return appendBits(names, uint32(o))
}

func (o Options) String() string { return strings.Join(o.Names(), " ") }

// Written returns the bits that Cyrus lets through when it writes a header of version v.
func (o Options) Written(v Version) Options {
	if v <= 7 {
		return o & OptionPOP3NewUIDL
	}
	return o & (OptionPOP3NewUIDL | OptionSharedSeen | OptionDuplicates | OptionAlarms | OptionNeedsUnlink | OptionNeedsRepack | OptionDeleted)
}

func appendBits(names []string, bits uint32) []string {
	for i := range 32 {
		if bits&(1<<i) != 0 {
			names = append(names, fmt.Sprintf("bit %d", i))
		}
	}
	return names
}

// UserFlagsMax is the number of flags that a mailbox can have names for.
const UserFlagsMax = 128

// UserFlags are the flags that have their names in cyrus.header: flag n is bit n%32 of word n/32.
type UserFlags [UserFlagsMax / 32]uint32

// Has tells whether flag n is set.
func (u UserFlags) Has(n int) bool {
	return n >= 0 && n < UserFlagsMax && u[n/32]&(1<<(n%32)) != 0
}

// Set sets or clears flag n, which must be one.
func (u *UserFlags) Set(n int, on bool) {
	u[n/32] &^= 1 << (n % 32)
	if on {
		u[n/32] |= 1 << (n % 32)
	}
}
