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
	"strconv"

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

// maxLiteral bounds, in bytes, what one argument may hold.
const maxLiteral = 1 << 30

// Run executes the commands read from in and prints answers to out. It stops at the first error; what was committed
// before stays. Outside of BEGIN and COMMIT every change is a transaction of its own.
func Run(ctx context.Context, db *skiplist.DB, in io.Reader, out io.Writer) error {
	r := &runner{ctx: ctx, db: db, in: bufio.NewReader(in), out: bufio.NewWriter(out)}
	err := r.run()
	return errors.Join(err, r.out.Flush())
}

type runner struct {
	ctx  context.Context
	db   *skiplist.DB
	in   *bufio.Reader
	out  *bufio.Writer
	line int
}

// errEnd ends a transaction without an error of its own.
var (
	errEnd    = errors.New("end of input")
	errAbort  = errors.New("abort")
	errCommit = errors.New("commit")
)

func (r *runner) run() error {
	for {
		cmd, args, err := r.next()
		if err == errEnd {
			return nil
		}
		if err == nil {
			err = r.command(cmd, args)
		}
		if err != nil {
			return r.failed(cmd, err)
		}
	}
}

func (r *runner) failed(cmd string, err error) error {
	var done *Error
	if errors.As(err, &done) {
		return err
	}
	return &Error{Line: r.line, Command: cmd, Err: err}
}

// command runs one command outside a transaction.
func (r *runner) command(cmd string, args [][]byte) error {
	switch cmd {
	case "BEGIN":
		err := r.db.Update(r.ctx, r.transaction)
		if err == errAbort {
			return nil
		}
		return err
	case "COMMIT", "ABORT":
		return ErrNoTxn
	case "GET", "SHOW":
		return r.db.View(r.ctx, func(s *skiplist.Snapshot) error { return r.read(s, cmd, args) })
	case "SET", "DELETE":
		return r.db.Update(r.ctx, func(tx *skiplist.Tx) error { return write(tx, cmd, args) })
	}
	return ErrCommand
}

// transaction runs the commands between BEGIN and COMMIT or ABORT.
func (r *runner) transaction(tx *skiplist.Tx) error {
	for {
		cmd, args, err := r.next()
		if err == errEnd {
			return &Error{Line: r.line, Command: "BEGIN", Err: ErrOpen}
		}
		if err == nil {
			err = r.inside(tx, cmd, args)
		}
		switch err {
		case nil:
		case errCommit:
			return nil
		case errAbort:
			return errAbort
		default:
			return r.failed(cmd, err)
		}
	}
}

func (r *runner) inside(tx *skiplist.Tx, cmd string, args [][]byte) error {
	switch cmd {
	case "BEGIN":
		return ErrNested
	case "COMMIT":
		return errCommit
	case "ABORT":
		return errAbort
	case "GET", "SHOW":
		return r.read(tx, cmd, args)
	case "SET", "DELETE":
		return write(tx, cmd, args)
	}
	return ErrCommand
}

func write(tx *skiplist.Tx, cmd string, args [][]byte) error {
	switch {
	case len(args) == 0:
		return ErrSyntax
	case cmd == "DELETE":
		return tx.Delete(args[0])
	case len(args) < 2:
		return tx.Put(args[0], nil)
	}
	return tx.Put(args[0], args[1])
}

func (r *runner) read(from skiplist.Reader, cmd string, args [][]byte) error {
	if cmd == "GET" {
		if len(args) == 0 {
			return ErrSyntax
		}
		v, err := from.Get(args[0])
		if errors.Is(err, skiplist.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return r.print(args[0], v)
	}
	var prefix []byte
	if len(args) > 0 {
		prefix = args[0]
	}
	for rec, err := range from.Prefix(prefix) {
		if err != nil {
			return err
		}
		if err := r.print(rec.Key, rec.Value); err != nil {
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

// next reads one command with its arguments; empty lines are passed over.
func (r *runner) next() (string, [][]byte, error) {
	for {
		if err := r.ctx.Err(); err != nil {
			return "", nil, err
		}
		r.line++
		words, err := r.words()
		if err == io.EOF && len(words) == 0 {
			return "", nil, errEnd
		}
		if err != nil && err != io.EOF {
			return first(words), nil, err
		}
		if len(words) == 0 {
			continue
		}
		if len(words) > 3 {
			return first(words), nil, ErrSyntax
		}
		return string(words[0]), words[1:], nil
	}
}

func first(words [][]byte) string {
	if len(words) == 0 {
		return ""
	}
	return string(words[0])
}

// words reads the words of one line, literals included.
func (r *runner) words() (words [][]byte, err error) {
	for {
		c, err := r.in.ReadByte()
		switch {
		case err != nil:
			return words, err
		case c == '\n':
			return words, nil
		case c == ' ' || c == '\r':
			continue
		}
		var w []byte
		switch c {
		case '"':
			w, err = r.quoted()
		case '{':
			w, err = r.literal()
		default:
			_ = r.in.UnreadByte()
			w, err = r.atom()
		}
		if err != nil {
			return words, err
		}
		words = append(words, w)
	}
}

func (r *runner) atom() (w []byte, err error) {
	for {
		c, err := r.in.ReadByte()
		if err == io.EOF {
			return w, nil
		}
		if err != nil {
			return w, err
		}
		if c == ' ' || c == '\n' || c == '\r' {
			_ = r.in.UnreadByte()
			return w, nil
		}
		w = append(w, c)
	}
}

func (r *runner) quoted() (w []byte, err error) {
	for {
		c, err := r.in.ReadByte()
		if err == nil && c == '\\' {
			c, err = r.in.ReadByte()
		} else if c == '"' {
			return w, nil
		}
		if err != nil || c == '\n' {
			return w, ErrSyntax
		}
		w = append(w, c)
	}
}

// literal reads {n+} CRLF and n bytes, after the brace.
func (r *runner) literal() ([]byte, error) {
	head, err := r.in.ReadString('}')
	if err != nil || len(head) < 3 || head[len(head)-2] != '+' {
		return nil, ErrSyntax
	}
	n, err := strconv.ParseUint(head[:len(head)-2], 10, 31)
	if err != nil || n > maxLiteral {
		return nil, ErrSyntax
	}
	if c, err := r.in.ReadByte(); err != nil || c == '\r' {
		if c, err = r.in.ReadByte(); err != nil || c != '\n' {
			return nil, ErrSyntax
		}
	} else if c != '\n' {
		return nil, ErrSyntax
	}
	w, err := io.ReadAll(io.LimitReader(r.in, int64(n)))
	if err != nil || len(w) != int(n) {
		return nil, ErrSyntax
	}
	return w, nil
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
