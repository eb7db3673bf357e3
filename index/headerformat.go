package index

// The layout of cyrus.header: a magic, and a body in one of two forms. Both are text; the first byte of the body tells
// which it is.

// headerMagic begins every cyrus.header.
const headerMagic = "\xa1\x02\x8b\x0dCyrus mailbox header\n\"The best thing about this system was that it had lots of goals.\"\n\t--Jim Morris on Andrew\n"

// headerMax bounds the size of a cyrus.header, in bytes: 128 flag names and an access list fit a hundred times.
const headerMax = 1 << 20

// HeaderForm is the form of the body of a cyrus.header.
type HeaderForm uint8

const (
	// HeaderText is that of Cyrus up to 3.4: three lines, of quota root and id, of flags, and of access rights.
	HeaderText HeaderForm = iota
	// HeaderList is that of Cyrus 3.6 and later: a dlist on one line. Up to 3.4 it cannot be read.
	HeaderList
)

func (f HeaderForm) String() string { return [...]string{"text", "dlist"}[f] }

// headerListMark is the first byte of a body that is a dlist.
const headerListMark = '%'

// The keys of the dlist. Keys not named here are kept.
const (
	keyType      = "T"
	keyName      = "N"
	keyUniqueID  = "I"
	keyJMAPID    = "J"
	keyQuotaRoot = "Q"
	keyACL       = "A"
	keyFlags     = "U"
)

// headerKeys are the keys in the order of writing, and what each holds.
var headerKeys = []struct{ key, name, written string }{
	{keyType, "type", "always; `e` if unknown"},
	{keyName, "name", "always, NIL if unknown"},
	{keyUniqueID, "uniqueid", "always, NIL if missing"},
	{keyJMAPID, "jmapid", "if there is one"},
	{keyQuotaRoot, "quotaroot", "if there is one"},
	{keyACL, "acl", "unless there is none at all"},
	{keyFlags, "userflags", "if there are any"},
}

// typeMail is the type of a mailbox of mail, which the text form takes for granted.
const typeMail = "e"

// The limits under which the dlist is read.
const (
	headerDepth = 16
	headerNodes = 1 << 16
	// headerLines is how many line ends there may be in literals, for which a body is tried again and again.
	headerLines = 64
)
