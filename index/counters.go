package index

import "encoding/binary"

// The counters file of a user: a generation and a version of 32 bits, counters of 64 bits, a uidvalidity of 32 bits, and
// a checksum of all before it. All integers are big-endian. A version adds counters after those of the one before.
const (
	countersHead = 8
	countersTail = 8
	// CountersVersionWritten is the version that Cyrus 3.6 writes, and the latest known here.
	CountersVersionWritten = 9
)

// countersVersions are the versions: the number of counters that each has.
var countersVersions = [...]int{0: 4, 1: 5, 2: 6, 3: 9, 4: 11, 5: 13, 6: 23, 7: 27, 8: 31, 9: 35}

// counterCount is the number of counters of the latest version.
const counterCount = 35

// Counter is one of the counters. Its place in the file is 8 + 8 times its number.
type Counter int

// Counters that a mailbox of mail takes part in; [Counter.String] names them all.
const (
	// CounterHighest is at least every modseq of the user's mailboxes.
	CounterHighest     Counter = 0
	CounterMail        Counter = 1
	CounterMailFolders Counter = 5
	CounterQuota       Counter = 9
	CounterRACL        Counter = 10
	CounterMailDeleted Counter = 13
	// CounterMailFoldersDeleted is raised when a mailbox is deleted.
	CounterMailFoldersDeleted Counter = 18
)

var counterNames = [counterCount]string{
	"highest", "mail", "calendar", "contacts", "notes",
	"mail_folders", "calendar_folders", "contacts_folders", "notes_folders",
	"quota", "racl", "submission", "submission_folders",
	"mail_deleted", "calendar_deleted", "contacts_deleted", "notes_deleted", "submission_deleted",
	"mail_folders_deleted", "calendar_folders_deleted", "contacts_folders_deleted", "notes_folders_deleted", "submission_folders_deleted",
	"dav_notification", "dav_notification_deleted", "dav_notification_folders", "dav_notification_folders_deleted",
	"jmap_notification", "jmap_notification_deleted", "jmap_notification_folders", "jmap_notification_folders_deleted",
	"sieve", "sieve_deleted", "sieve_folders", "sieve_folders_deleted",
}

// String is the name of the counter.
func (c Counter) String() string {
	if c < 0 || c >= counterCount {
		return num(int(c))
	}
	return counterNames[c]
}

// Counters is the counters file of a user, from which Cyrus gives out modification sequences and uidvalidities with
// "conversations: yes".
type Counters struct {
	// Generation grows by one with each write.
	Generation uint32
	Version    uint32
	// Values are the counters; those that the version does not have are 0.
	Values      [counterCount]ModSeq
	UIDValidity uint32
}

// Size is the size of the file, 0 for an unknown version.
func (c *Counters) Size() int { return countersSize(c.Version) }

func countersSize(version uint32) int {
	if version >= uint32(len(countersVersions)) {
		return 0
	}
	return countersHead + 8*countersVersions[version] + countersTail
}

// Has tells whether the version has a counter.
func (c *Counters) Has(n Counter) bool {
	return c.Version < uint32(len(countersVersions)) && n >= 0 && int(n) < countersVersions[c.Version]
}

// Decode reads a whole file. With a wrong checksum all fields are set nevertheless.
func (c *Counters) Decode(b []byte) error {
	*c = Counters{}
	if len(b) < countersHead {
		return damaged(len(b), "version", num(len(b))+" bytes", "a counters file")
	}
	c.Generation, c.Version = binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	size := c.Size()
	if size == 0 {
		return &FormatError{Offset: 4, Field: "version", Found: num(c.Version), Wanted: "0 to 9", Class: ErrVersion}
	}
	if len(b) != size {
		return damaged(min(len(b), size), "size", num(len(b))+" bytes", num(size))
	}
	for i := range countersVersions[c.Version] {
		c.Values[i] = ModSeq(binary.BigEndian.Uint64(b[countersHead+8*i:]))
	}
	c.UIDValidity = binary.BigEndian.Uint32(b[size-countersTail:])
	if stored, correct := binary.BigEndian.Uint32(b[size-crcSize:]), checksum(b[:size-crcSize]); stored != correct {
		return damaged(size-crcSize, "crc", hexWord(stored), hexWord(correct))
	}
	return nil
}

// Append appends the file in its version, which must be a known one, with its checksum.
func (c *Counters) Append(dst []byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, c.Generation)
	dst = binary.BigEndian.AppendUint32(dst, c.Version)
	for _, v := range c.Values[:countersVersions[c.Version]] {
		dst = binary.BigEndian.AppendUint64(dst, uint64(v))
	}
	dst = binary.BigEndian.AppendUint32(dst, c.UIDValidity)
	return binary.BigEndian.AppendUint32(dst, checksum(dst[start:]))
}

// Validate checks that the version is known, that no counter is above the highest, and that none is set that the version
// does not have.
func (c *Counters) Validate() error {
	if c.Size() == 0 {
		return &FormatError{Offset: 4, Field: "version", Found: num(c.Version), Wanted: "0 to 9", Class: ErrVersion}
	}
	for i, v := range c.Values {
		at := countersHead + 8*i
		if !c.Has(Counter(i)) && v != 0 {
			return &FormatError{Offset: int64(at), Field: counterNames[i], Found: num(v), Wanted: "0 in version " + num(c.Version), Class: ErrValue}
		}
		if v > c.Values[CounterHighest] {
			return damaged(at, counterNames[i], num(v), "at most the highest, "+num(c.Values[CounterHighest]))
		}
	}
	return nil
}
