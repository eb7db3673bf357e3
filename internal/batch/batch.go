// Package batch runs the batch language of Cyrus's cyr_dbtool on a database.
//
// A line is a command with up to two arguments: SET key value, GET key, SHOW [prefix], DELETE key, BEGIN, COMMIT, ABORT.
// An argument is an atom, a quoted string, or a literal {n+} CRLF and n bytes. GET and SHOW print key SP value, in the
// plainest of those forms that holds them.
package batch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/mailspine/mailspine/skiplist"
)

// Error says which line was wrong, and unwraps to the reason.
type Error struct {
	Line    int
	Command string
	Err     error
}

func (e *Error) Error() string {
	return fmt.Sprintf("FAILED: line %d at cmd %s with error %v", e.Line, e.Command, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// The reasons, with the texts of Cyrus.
//
//lint:file-ignore ST1005 Cyrus's texts begin with a capital letter.
var (
	ErrCommand = errors.New("Mailbox does not exist")
	ErrNoTxn   = errors.New("Item does not exist")
	ErrNested  = errors.New("Mailbox is locked")
	ErrSyntax  = errors.New("Syntax error in parameters")
	// ErrOpen means that the input ended within a transaction, which was dropped.
	ErrOpen = errors.New("the input ended before COMMIT")
)

// Result counts what the commands have changed.
type Result struct {
	Sets    int `json:"sets"`
	Deletes int `json:"deletes"`
}

// Run executes the commands read from in and prints answers to out. It stops at the first error; what was committed
// before stays. Outside of BEGIN and COMMIT every change is a transaction of its own.
func Run(ctx context.Context, db *skiplist.DB, in io.Reader, out io.Writer) (Result, error) {
	return newRunner(ctx, db, in, out).run()
}

// DryRun executes the commands in one transaction that is dropped at the end: they answer as they would, and change
// nothing. The file is locked meanwhile.
func DryRun(ctx context.Context, db *skiplist.DB, in io.Reader, out io.Writer) (Result, error) {
	r := newRunner(ctx, db, in, out)
	err := db.Update(ctx, func(tx *skiplist.Tx) error {
		r.dry = tx
		if _, err := r.run(); err != nil {
			return err
		}
		return errDry
	})
	if err == errDry {
		err = nil
	}
	return r.done, err
}

// What ends a transaction without being an error of it.
var (
	errDry    = errors.New("dry run")
	errAbort  = errors.New("abort")
	errCommit = errors.New("commit")
)

type runner struct {
	ctx  context.Context
	db   *skiplist.DB
	dry  *skiplist.Tx // in a dry run, the transaction in which everything happens
	in   parser
	out  *bufio.Writer
	done Result
	// pending counts the changes of the transaction under way.
	pending Result
}

func newRunner(ctx context.Context, db *skiplist.DB, in io.Reader, out io.Writer) *runner {
	r := &runner{ctx: ctx, db: db, out: bufio.NewWriter(out)}
	r.in.in = bufio.NewReader(flushFirst{in, r.out})
	return r
}

// flushFirst shows what is answered so far before it waits for more commands, so that a program can converse.
type flushFirst struct {
	in  io.Reader
	out *bufio.Writer
}

func (f flushFirst) Read(p []byte) (int, error) {
	if err := f.out.Flush(); err != nil {
		return 0, err
	}
	return f.in.Read(p)
}

func (r *runner) run() (Result, error) {
	err := r.commands()
	return r.done, errors.Join(err, r.out.Flush())
}

func (r *runner) commands() error {
	for {
		c, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = r.command(c)
		}
		if err != nil {
			return r.failed(c.name, err)
		}
	}
}

// next reads one command; lines without one are passed over.
func (r *runner) next() (command, error) {
	for {
		if err := r.ctx.Err(); err != nil {
			return command{}, err
		}
		if c, err := r.in.next(); err != nil || c.name != "" {
			return c, err
		}
	}
}

func (r *runner) failed(name string, err error) error {
	var done *Error
	if errors.As(err, &done) || r.ctx.Err() != nil {
		return err
	}
	return &Error{Line: r.in.line, Command: name, Err: err}
}

// command runs one command outside a transaction.
func (r *runner) command(c command) error {
	switch c.name {
	case "BEGIN":
		err := r.update(r.transaction)
		if err == errAbort {
			return nil
		}
		return err
	case "COMMIT", "ABORT":
		return ErrNoTxn
	case "GET", "SHOW":
		if r.dry != nil {
			return r.read(r.dry, c)
		}
		return r.db.View(r.ctx, func(s *skiplist.Snapshot) error { return r.read(s, c) })
	case "SET", "DELETE":
		return r.update(func(tx *skiplist.Tx) error { return r.write(tx, c) })
	}
	return ErrCommand
}

// update makes one transaction and counts its changes when it is durable.
func (r *runner) update(fn func(*skiplist.Tx) error) (err error) {
	r.pending = Result{}
	if r.dry != nil {
		err = r.dry.Nested(func() error { return fn(r.dry) })
	} else {
		err = r.db.Update(r.ctx, fn)
	}
	if err == nil {
		r.done.Sets += r.pending.Sets
		r.done.Deletes += r.pending.Deletes
	}
	return err
}

// transaction runs the commands between BEGIN and COMMIT or ABORT.
func (r *runner) transaction(tx *skiplist.Tx) error {
	begun := r.in.line
	for {
		c, err := r.next()
		if err == io.EOF {
			return &Error{Line: begun, Command: "BEGIN", Err: ErrOpen}
		}
		if err == nil {
			err = r.inside(tx, c)
		}
		switch err {
		case nil:
		case errCommit:
			return nil
		case errAbort:
			return errAbort
		default:
			return r.failed(c.name, err)
		}
	}
}

func (r *runner) inside(tx *skiplist.Tx, c command) error {
	switch c.name {
	case "BEGIN":
		return ErrNested
	case "COMMIT":
		return errCommit
	case "ABORT":
		return errAbort
	case "GET", "SHOW":
		return r.read(tx, c)
	case "SET", "DELETE":
		return r.write(tx, c)
	}
	return ErrCommand
}

func (r *runner) write(tx *skiplist.Tx, c command) error {
	if len(c.args) == 0 {
		return ErrSyntax
	}
	if c.name == "DELETE" {
		found, err := tx.Has(c.args[0])
		if err == nil && found {
			r.pending.Deletes++
			err = tx.Delete(c.args[0])
		}
		return err
	}
	r.pending.Sets++
	if len(c.args) < 2 {
		return tx.Put(c.args[0], nil)
	}
	return tx.Put(c.args[0], c.args[1])
}

func (r *runner) read(from skiplist.Reader, c command) error {
	if c.name == "GET" {
		if len(c.args) == 0 {
			return ErrSyntax
		}
		v, err := from.Get(c.args[0])
		if errors.Is(err, skiplist.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return r.print(c.args[0], v)
	}
	var prefix []byte
	if len(c.args) > 0 {
		prefix = c.args[0]
	}
	for rec, err := range from.Prefix(prefix) {
		if err == nil {
			err = r.ctx.Err()
		}
		if err == nil {
			err = r.print(rec.Key, rec.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) print(key, value []byte) error {
	r.out.Write(AppendString(nil, key))
	r.out.WriteByte(' ')
	r.out.Write(AppendString(nil, value))
	return r.out.WriteByte('\n')
}

// maxPlain is the length from which on Cyrus prints a literal.
const maxPlain = 1024

// AppendString appends b as an atom, a quoted string or a literal.
func AppendString(dst, b []byte) []byte {
	atom, quoted := len(b) > 0 && len(b) < maxPlain && string(b) != "NIL", len(b) < maxPlain
	for _, c := range b {
		switch {
		case c >= 0x80 || c == 0 || c == '\r' || c == '\n' || c == '"' || c == '%' || c == '\\':
			atom, quoted = false, false
		case c <= ' ' || c == 0x7f || c == '{' || c == '(' || c == ')' || c == '*':
			atom = false
		}
	}
	switch {
	case atom:
		return append(dst, b...)
	case quoted:
		return append(append(append(dst, '"'), b...), '"')
	}
	return append(fmt.Appendf(dst, "{%d}\r\n", len(b)), b...)
}
