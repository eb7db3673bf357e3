package quota

import (
	"math"

	"github.com/mailspine/mailspine/index"
)

// Resource is what a root may limit. [Amounts] and [Limits] are indexed by it; the order is that of a record.
type Resource int

const (
	// Storage is the bytes of the messages that are not expunged.
	Storage Resource = iota
	// Messages is their number.
	Messages
	// Annotations is the bytes of the annotations of mailboxes and messages.
	Annotations
	// Folders is the number of mailboxes.
	Folders
	// Resources is how many resources there are.
	Resources int = iota
)

// resources are the keys of a record, the names that IMAP and reports use, and the units of limits.
var resources = [Resources]struct {
	key, name string
	unit      int64
}{
	Storage:     {"S", "STORAGE", 1024},
	Messages:    {"M", "MESSAGE", 1},
	Annotations: {"AS", "X-ANNOTATION-STORAGE", 1024},
	Folders:     {"NF", "X-NUM-FOLDERS", 1},
}

// String is the name that Cyrus up to 3.8 has for the resource in IMAP and in reports.
func (r Resource) String() string { return resources[r].name }

// Unit is how many of [Amounts] one of [Limits] is: limits of bytes are in KiB.
func (r Resource) Unit() int64 { return resources[r].unit }

// Unlimited is the limit of a resource that has none. 0 is a limit: it allows nothing.
const Unlimited = -1

// Amounts are amounts of each resource, in bytes or numbers. Those of a record are never negative, differences may be.
type Amounts [Resources]int64

// Limits are limits of each resource, in its unit; [Unlimited] where there is none.
type Limits [Resources]int64

// NoLimits are the limits of a root that limits nothing. The zero Limits allow nothing at all.
func NoLimits() Limits { return Limits{Unlimited, Unlimited, Unlimited, Unlimited} }

// AmountsOf is by how much a transaction of package index changes the usage.
func AmountsOf(u index.Usage) Amounts {
	return Amounts{Storage: u.Bytes, Messages: u.Messages, Annotations: u.AnnotBytes, Folders: u.Folder}
}

// Plus adds two amounts. It is not exact if a sum does not fit into 64 bits, and then the nearest that does.
func (a Amounts) Plus(b Amounts) (sum Amounts, exact bool) {
	exact = true
	for i := range a {
		s := a[i] + b[i]
		switch {
		case a[i] > 0 && b[i] > 0 && s < 0:
			s, exact = math.MaxInt64, false
		case a[i] < 0 && b[i] < 0 && s >= 0:
			s, exact = math.MinInt64, false
		}
		sum[i] = s
	}
	return sum, exact
}

// Clamped puts 0 in the place of negative amounts, and tells whether there was one.
func (a Amounts) Clamped() (Amounts, bool) {
	negative := false
	for i := range a {
		if a[i] < 0 {
			a[i], negative = 0, true
		}
	}
	return a, negative
}
