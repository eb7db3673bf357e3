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
	// Damage means data that was committed may be unreachable or lost.
	Damage
)

// String returns the lower-case name used in text and JSON.
func (s Severity) String() string { return [...]string{"info", "warning", "damage"}[s] }

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
	// Detail says what was found and what was expected, without keys or values.
	Detail string `json:"detail"`
	// Fix names what mends it, empty if nothing needs to be done.
	Fix string `json:"fix,omitempty"`
}

// String formats the finding on one line: severity, code, place, detail, fix.
func (f Finding) String() string {
	place := f.Path
	if f.Offset >= 0 {
		place = fmt.Sprintf("%s@%#x", f.Path, f.Offset)
	}
	text := fmt.Sprintf("%s %s %s: %s", f.Severity, f.Code, place, f.Detail)
	if f.Fix != "" {
		text += " (" + f.Fix + ")"
	}
	return text
}
