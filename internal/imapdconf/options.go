// Package imapdconf reads imapd.conf and cyrus.conf as Cyrus IMAP 3.6 reads them, and finds what is wrong with them before
// Cyrus does: whatever makes its programs exit with status 78, mostly without a word, and what they accept in silence
// although nobody can have meant it. Every finding has a file, a line and a column, and says what stands there and what
// was expected.
//
// [Read] parses a file and what it includes. [Source.Config] is what one service makes of it, with the defaults of the
// option table and the overrides of that service. [Check] looks at both files, and at the directories they name.
//
// The table of options is generated; see the package in gen. Limits: [MaxFileBytes], [MaxFiles].
package imapdconf

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Type is the kind of value that an option takes.
type Type uint8

const (
	// String is any text.
	String Type = iota
	// Int is a whole number: decimal, octal with a leading 0, or hexadecimal with 0x.
	Int
	// Switch is yes or no.
	Switch
	// Enum is one of a list of words; on and off have the synonyms of a switch.
	Enum
	// StringList is one of a list of words, spelled exactly so.
	StringList
	// Bitfield is any number of a list of words.
	Bitfield
	// Duration is numbers with units, such as 1h30m.
	Duration
)

// String names the type as a finding does.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

var typeNames = [...]string{"a text", "a whole number", "a switch", "one of a list", "one of a list", "words of a list", "a duration"}

// Option is a row of the table of options.
type Option struct {
	Name string
	Type Type
	// Default is the value in absence of another, if HasDefault is set; it may be empty.
	Default    string
	HasDefault bool
	// Values are the words allowed for an Enum, a StringList or a Bitfield. Same maps those that are synonyms to the
	// preferred word.
	Values []string
	Same   map[string]string
	// Unit is the unit of a Duration that is given without one: 'd', 'h', 'm' or 's'; 0 stands for seconds.
	Unit byte
	// DeprecatedSince is the release that deprecated the option, and Instead the option to use now, if there is one.
	DeprecatedSince, Instead string
}

// Table returns all options of Cyrus 3.6.1, in its order.
func Table() []Option { return slices.Clone(table) }

var byName = sync.OnceValue(func() map[string]*Option {
	m := make(map[string]*Option, len(table))
	for i := range table {
		m[table[i].Name] = &table[i]
	}
	return m
})

// Lookup returns the option with that name. Upper and lower case are the same.
func Lookup(name string) (Option, bool) {
	o, ok := byName()[strings.ToLower(name)]
	if !ok {
		return Option{}, false
	}
	return *o, true
}

// nearest returns the name among the candidates that a misspelt one most likely stands for: the closest by edit distance,
// where that is small for the length of the name; "" if there is none.
func nearest(name string, candidates []string) string {
	best, least := "", 1+max(1, min(3, (len(name)+1)/3))
	for _, c := range candidates {
		if d := distance(name, c, least); d < least {
			best, least = c, d
		}
	}
	return best
}

// nearestOption is nearest among all options.
func nearestOption(name string) string {
	names := make([]string, len(table))
	for i, o := range table {
		names[i] = o.Name
	}
	return nearest(name, names)
}

// distance is the number of letters to insert, delete, replace or swap with their neighbour to make b of a; or at least
// limit, if it is not less.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least >= limit {
			return limit
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
