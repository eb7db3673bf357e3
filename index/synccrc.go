package index

import (
	"slices"
	"strconv"
	"strings"
)

// SyncAnnotStart is what synccrc_annot begins with.
const SyncAnnotStart = 12345678

// The entries under which fields of the record count as annotations, so that the checksum is the same in versions that
// lack the field and keep an annotation instead.
const (
	entryThread   = "/vendor/cmu/cyrus-imapd/thrid"
	entrySaveDate = "/vendor/cmu/cyrus-imapd/savedate"
	entryCreated  = "/vendor/cmu/cyrus-imapd/createdmodseq"
)

// clientFlags are the flags that count in synccrc_basic.
var clientFlags = systemFlags[:5]

// FlagSums are the checksums of flag names, by which synccrc_basic knows a set of flags. Make them once for a mailbox.
type FlagSums struct {
	system [5]uint32
	user   [UserFlagsMax]uint32
}

// NewFlagSums takes the names of the user's flags, in the order of cyrus.header; "" is an empty slot.
func NewFlagSums(userFlags []string) *FlagSums {
	s := &FlagSums{}
	for i, f := range clientFlags {
		s.system[i] = checksum([]byte(strings.ToLower(f.name)))
	}
	for i, name := range userFlags[:min(len(userFlags), UserFlagsMax)] {
		if name != "" {
			s.user[i] = checksum([]byte(asciiLower(name)))
		}
	}
	return s
}

func (s *FlagSums) of(r *Record) (sum uint32) {
	for i, f := range clientFlags {
		if r.Flags&f.bit != 0 {
			sum ^= s.system[i]
		}
	}
	for w, word := range r.UserFlags {
		for i := 0; word != 0; i, word = i+1, word>>1 {
			if word&1 != 0 {
				sum ^= s.user[w*32+i]
			}
		}
	}
	return sum
}

// SyncBasic is what the record adds, by exclusive or, to synccrc_basic; 0 if it is expunged.
func (r *Record) SyncBasic(names *FlagSums) uint32 {
	if r.Expunged() || r.UID == 0 {
		return 0
	}
	b := make([]byte, 0, 128)
	b = append(strconv.AppendUint(b, uint64(r.UID), 10), ' ')
	b = append(strconv.AppendUint(b, uint64(r.ModSeq), 10), ' ')
	b = append(strconv.AppendInt(b, r.LastUpdated.Unix(), 10), " ("...)
	b = append(strconv.AppendUint(b, uint64(names.of(r)), 10), ") "...)
	b = append(strconv.AppendInt(b, r.InternalDate.Unix(), 10), ' ')
	for _, c := range r.GUID {
		const digits = "0123456789abcdef"
		b = append(b, digits[c>>4], digits[c&15])
	}
	return checksum(b)
}

// SyncVirtual is what the record itself adds to synccrc_annot, annotations in cyrus.annotations apart; 0 if it is
// expunged.
func (r *Record) SyncVirtual(v Version) (sum uint32) {
	if r.Expunged() || r.UID == 0 {
		return 0
	}
	var value [20]byte
	if r.CID != 0 && v >= versionCID {
		sum ^= AnnotationSum(r.UID, entryThread, "", strconv.AppendUint(value[:0], r.CID, 16))
	}
	if r.SaveDate != 0 && v >= versionSaveDate {
		sum ^= AnnotationSum(r.UID, entrySaveDate, "", strconv.AppendInt(value[:0], r.SaveDate.Unix(), 10))
	}
	if r.CreatedModSeq != 0 && v >= versionCreated {
		sum ^= AnnotationSum(r.UID, entryCreated, "", strconv.AppendUint(value[:0], uint64(r.CreatedModSeq), 10))
	}
	return sum
}

// AnnotationSum is what one annotation of a message that is not expunged adds to synccrc_annot. The user is "" for a
// shared annotation.
func AnnotationSum(uid UID, entry, user string, value []byte) uint32 {
	b := make([]byte, 0, 128)
	b = append(strconv.AppendUint(b, uint64(uid), 10), ' ')
	b = append(append(b, entry...), ' ')
	b = append(append(b, user...), ' ')
	return checksum(append(b, value...))
}

// Totals are the numbers of a header that follow from the records.
type Totals struct {
	Exists, Deleted, Answered, Flagged, Unseen uint32
	// QuotaUsed counts bytes of messages that are not expunged, QuotaDeleted those of them with \Deleted, QuotaExpunged
	// expunged ones that are still there.
	QuotaUsed, QuotaDeleted, QuotaExpunged uint64
	// QuotaAnnot counts bytes of annotations of messages. Add does not know of them, nor of their part in SyncAnnot.
	QuotaAnnot           uint64
	SyncBasic, SyncAnnot uint32
	// FirstExpunged is the earliest change of an expunged record, 0 if there is none.
	FirstExpunged Time
	LastUID       UID
	HighestModSeq ModSeq
	// UserFlags are all that are set in any record.
	UserFlags UserFlags
}

// NewTotals returns the totals of no records.
func NewTotals() Totals { return Totals{SyncAnnot: SyncAnnotStart} }

// Add counts one record of a file of version v. A wiped record does not count.
func (t *Totals) Add(r *Record, v Version, names *FlagSums) {
	if r.UID == 0 {
		return
	}
	t.LastUID, t.HighestModSeq = max(t.LastUID, r.UID), max(t.HighestModSeq, r.ModSeq)
	for i, word := range r.UserFlags {
		t.UserFlags[i] |= word
	}
	if r.Expunged() {
		if t.FirstExpunged == 0 || r.LastUpdated < t.FirstExpunged {
			t.FirstExpunged = r.LastUpdated
		}
		if r.Flags&FlagUnlinked == 0 {
			t.QuotaExpunged += r.Size
		}
		return
	}
	t.Exists++
	t.QuotaUsed += r.Size
	if r.Flags&FlagDeleted != 0 {
		t.Deleted++
		t.QuotaDeleted += r.Size
	}
	if r.Flags&FlagAnswered != 0 {
		t.Answered++
	}
	if r.Flags&FlagFlagged != 0 {
		t.Flagged++
	}
	if r.Flags&FlagSeen == 0 {
		t.Unseen++
	}
	t.SyncBasic ^= r.SyncBasic(names)
	t.SyncAnnot ^= r.SyncVirtual(v)
}

// asciiLower lowers ASCII letters only, as Cyrus does.
func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// sameFlag tells whether two names are of one flag.
func sameFlag(a, b string) bool { return asciiLower(a) == asciiLower(b) }

// FlagNumber returns the number of a user's flag by its name, -1 if there is none.
func FlagNumber(names []string, name string) int {
	if name == "" {
		return -1
	}
	return slices.IndexFunc(names, func(n string) bool { return sameFlag(n, name) })
}
