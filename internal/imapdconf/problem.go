package imapdconf

import (
	"errors"
	"fmt"

	"github.com/mailspine/mailspine/internal/finding"
)

// ErrRefused means that Cyrus would not start with such a configuration: its programs exit with status 78.
var ErrRefused = errors.New("refused by Cyrus")

// Pos is a place in a text file. Lines and columns, in bytes, count from 1.
type Pos struct {
	File         string
	Line, Column int
}

// String formats the place as file:line:column.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Problem is one thing that is wrong with a configuration. As an error it unwraps to ErrRefused, if Cyrus refuses it.
type Problem struct {
	Pos
	// Code is the stable name of the kind of problem.
	Code     string
	Severity finding.Severity
	// Refused is set if Cyrus's programs, or those of one service, do not start with it.
	Refused bool
	// Found and Expected say what stands there and what should.
	Found, Expected string
	// Fix says what mends it.
	Fix string
}

func (p *Problem) Error() string {
	return fmt.Sprintf("%v: found %s, expected %s", p.Pos, p.Found, p.Expected)
}

func (p *Problem) Unwrap() error {
	if p.Refused {
		return ErrRefused
	}
	return nil
}

// Finding is the problem in the form that all checkers share.
func (p *Problem) Finding() finding.Finding {
	return finding.Finding{
		Code: p.Code, Severity: p.Severity, Path: p.File, Offset: -1, Line: p.Line, Column: p.Column,
		Detail: fmt.Sprintf("found %s, expected %s", p.Found, p.Expected), Fix: p.Fix,
	}
}

// refused is a problem that stops Cyrus.
func refused(at Pos, code, found, expected, fix string) *Problem {
	return &Problem{Pos: at, Code: code, Severity: finding.Error, Refused: true, Found: found, Expected: expected, Fix: fix}
}

// warning is something that Cyrus accepts in silence.
func warning(at Pos, code, found, expected, fix string) *Problem {
	return &Problem{Pos: at, Code: code, Severity: finding.Warning, Found: found, Expected: expected, Fix: fix}
}

// harmful is something that Cyrus accepts, and that does not work.
func harmful(at Pos, code, found, expected, fix string) *Problem {
	return &Problem{Pos: at, Code: code, Severity: finding.Error, Found: found, Expected: expected, Fix: fix}
}
