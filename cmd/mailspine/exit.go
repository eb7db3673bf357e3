package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/message"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/quota"
	"github.com/mailspine/mailspine/skiplist"
)

// The exit codes, of every command.
const (
	exitOK          = 0
	exitNo          = 1
	exitQuota       = 2
	exitDamage      = 4
	exitFailed      = 8
	exitUsage       = 16
	exitInterrupted = 32
)

// exitTable says what the codes mean. A command says it in its own words where it can.
var exitTable = []struct {
	code    int
	meaning string
}{
	{exitOK, "fine"},
	{exitNo, "the answer is no, or there are findings"},
	{exitQuota, ""},
	{exitDamage, "damage remains"},
	{exitFailed, "it could not be done; nothing was changed, unless the message says so"},
	{exitUsage, "wrong usage"},
	{exitInterrupted, "interrupted; run it again"},
}

// exitHelp is the last section of every help text. own replaces meanings; an empty one leaves the code out.
func exitHelp(own map[int]string) string {
	var text strings.Builder
	text.WriteString("Exit status:")
	for _, row := range exitTable {
		meaning, ok := own[row.code]
		if !ok {
			meaning = row.meaning
		}
		if meaning != "" {
			fmt.Fprintf(&text, "\n  %2d  %s", row.code, meaning)
		}
	}
	return text.String()
}

// describeExit adds the section to the help of a command and of all below it that have none.
func describeExit(c *cobra.Command) {
	if c.Long == "" {
		c.Long = c.Short + "."
	}
	if !strings.Contains(c.Long, "Exit status:") {
		c.Long += "\n\n" + exitHelp(nil)
	}
	for _, sub := range c.Commands() {
		describeExit(sub)
	}
}

// exitError carries an exit code; its error may be nil if all is said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError marks an error of the command line.
func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// exitCode is the one place where errors become exit codes.
func exitCode(ctx context.Context, err error) int {
	var coded *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.code
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.Is(err, index.ErrOverQuota):
		return exitQuota
	case errors.Is(err, skiplist.ErrDamaged), errors.Is(err, index.ErrDamaged), errors.Is(err, index.ErrNotHeader),
		errors.Is(err, quota.ErrDamaged), errors.Is(err, quota.ErrEmpty), errors.Is(err, quota.ErrMisplaced):
		return exitDamage
	case errors.Is(err, skiplist.ErrNotFound), errors.Is(err, mboxdb.ErrNotFound), errors.Is(err, index.ErrNotFound), errors.Is(err, quota.ErrNotFound),
		errors.Is(err, message.ErrEmpty), errors.Is(err, errNUL):
		return exitNo
	}
	return exitFailed
}
