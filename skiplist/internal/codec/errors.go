package codec

import (
	"errors"
	"fmt"
)

// The classes of failure. Package skiplist exports them and says what each means to its callers.
var (
	ErrDamaged       = errors.New("the database is damaged")
	ErrNotDatabase   = errors.New("not a database of a known format")
	ErrVersion       = errors.New("the database has a version that this program does not know")
	ErrTooLarge      = errors.New("the database would grow beyond what its format can address")
	ErrInvalidKey    = errors.New("the key is empty or longer than the format allows")
	ErrInvalidRecord = errors.New("the value is longer than the format allows")
)

// FormatError says where a file breaks the rules of its format. It unwraps to its class.
type FormatError struct {
	Path string
	// Offset is the byte offset in the file.
	Offset int64
	// Field names the field of the record or header, if one is to blame.
	Field string
	// Problem says what was found and what was wanted.
	Problem string
	// Class is one of ErrDamaged, ErrNotDatabase and ErrVersion.
	Class error
}

func (e *FormatError) Error() string {
	field := ""
	if e.Field != "" {
		field = e.Field + ": "
	}
	return fmt.Sprintf("%s: at offset %#x: %s%s: %v", e.Path, e.Offset, field, e.Problem, e.Class)
}

// Unwrap returns the class.
func (e *FormatError) Unwrap() error { return e.Class }

// Errorf makes a FormatError of class ErrDamaged.
func (v *View) Errorf(off int64, field, format string, args ...any) *FormatError {
	return &FormatError{Path: v.Path, Offset: off, Field: field, Problem: fmt.Sprintf(format, args...), Class: ErrDamaged}
}
