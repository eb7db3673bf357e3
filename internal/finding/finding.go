// Package finding holds the one form in which every checker of mailspine reports what it found.
package finding

import "fmt"

// Severity grades a finding.
type Severity int

const (
	// Info is worth knowing and needs no action.
	Info Severity = iota
	// Warning is wrong, but no data is lost by it and the next writer mends it.
	Warning
	// Error means that something refuses to work, or does the wrong thing, until it is mended; no data is lost by it yet.
	Error
	// Damage means data that was committed may be unreachable or lost.
	Damage
)

// String returns the lower-case name used in text and JSON.
func (s Severity) String() string { return [...]string{"info", "warning", "error", "damage"}[s] }

// MarshalText writes the severity by its name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is one thing that a checker saw.
type Finding struct {
	// Code is a stable, kebab-case name of the kind of finding.
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Path     string   `json:"path"`
	// Offset is the byte offset in the file at Path, or -1 where none applies.
	Offset int64 `json:"offset"`
	// Line and Column, counted from 1, are the place in a text file; 0 where none applies.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Detail says what was found and what was expected, without keys or values.
	Detail string `json:"detail"`
	// Fix names what mends it, empty if nothing needs to be done.
	Fix string `json:"fix,omitempty"`
}

// String formats the finding on one line: severity, code, place, detail, fix.
func (f Finding) String() string {
	place := f.Path
	switch {
	case f.Line > 0:
		place = fmt.Sprintf("%s:%d:%d", f.Path, f.Line, f.Column)
	case f.Offset >= 0:
		place = fmt.Sprintf("%s@%#x", f.Path, f.Offset)
	}
	text := fmt.Sprintf("%s %s %s: %s", f.Severity, f.Code, place, f.Detail)
	if f.Fix != "" {
		text += " (" + f.Fix + ")"
	}
	return text
}
