// Package order holds the key orders of Cyrus's databases.
package order

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// Order names a key order. No file of Cyrus records the one it was written in.
type Order int

const (
	// Default is the order that the format uses unless it was told otherwise.
	Default Order = iota
	// Signed compares bytes as signed numbers: 0x80..0xff before 0x00..0x7f (Cyrus skiplist on x86, compare_signed).
	Signed
	// Unsigned compares bytes as unsigned numbers (twoskip, twom, bsearch_ncompare_raw).
	Unsigned
	// Mailbox sorts NUL, then TAB and LF, then '.', then all else unsigned (bsearch_ncompare_mbox).
	Mailbox
)

// String returns the name used in flags, text and JSON.
func (o Order) String() string { return [...]string{"default", "signed", "unsigned", "mailbox"}[o] }

// Func returns the comparison: negative, zero or positive as a sorts before, with or after b. A key that is a prefix
// of another sorts first in every order. Default has no function of its own.
func (o Order) Func() func(a, b []byte) int {
	switch o {
	case Signed:
		return CompareSigned
	case Mailbox:
		return CompareMailbox
	default:
		return bytes.Compare
	}
}

// CompareSigned compares bytes as signed numbers.
func CompareSigned(a, b []byte) int {
	i := mismatch(a, b)
	if i == len(a) || i == len(b) {
		return len(a) - len(b)
	}
	return int(int8(a[i])) - int(int8(b[i]))
}

// CompareMailbox compares in mailbox order.
func CompareMailbox(a, b []byte) int {
	n := min(len(a), len(b))
	for i := mismatch(a, b); i < n; i++ {
		if d := int(mailboxRank[a[i]]) - int(mailboxRank[b[i]]); d != 0 {
			return d
		}
	}
	return len(a) - len(b)
}

// mismatch is the length of the common prefix.
func mismatch(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// mailboxRank is skiplist.md §4: 0 stays first; TAB and LF are 1; '.' is 2; 1..8 move up by two to make room, all
// others keep their value.
var mailboxRank = func() (rank [256]uint8) {
	for c := range rank {
		switch {
		case c == '\t' || c == '\n':
			rank[c] = 1
		case c == '.':
			rank[c] = 2
		case c >= 1 && c <= 8:
			rank[c] = uint8(c + 2)
		default:
			rank[c] = uint8(c)
		}
	}
	return rank
}()
