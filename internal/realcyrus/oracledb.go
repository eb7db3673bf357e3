package realcyrus

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Code is what a function of libcyrus returned, as an error. CYRUSDB_OK is a nil error.
type Code int

// The codes of libcyrus.
const (
	Done           Code = 1
	IOError        Code = -1
	Again          Code = -2
	Exists         Code = -3
	Internal       Code = -4
	NotFound       Code = -5
	Locked         Code = -6
	NotImplemented Code = -7
	Full           Code = -8
	ReadOnly       Code = -9
	BadFormat      Code = -10

	// badCommand is the oracle's own: it did not understand.
	badCommand Code = -100
)

var codeNames = map[Code]string{
	Done: "done", IOError: "I/O error", Again: "again", Exists: "exists", Internal: "internal error", NotFound: "not found",
	Locked: "locked", NotImplemented: "not implemented", Full: "full", ReadOnly: "read only", BadFormat: "bad format",
	badCommand: "the oracle does not understand the command",
}

func (c Code) Error() string {
	if name := codeNames[c]; name != "" {
		return "libcyrus: " + name
	}
	return fmt.Sprintf("libcyrus: code %d", int(c))
}

// The flags of [Oracle.Open].
const (
	CreateFlag    = 0x01
	MailboxOrder  = 0x02
	ConvertFlag   = 0x04
	NoCompactFlag = 0x08
	NoCRCFlag     = 0x20
)

// Record is a key and its value.
type Record struct{ Key, Value []byte }

// Op is one step of [OracleDB.Txn]: a store, or a forced delete.
type Op struct {
	Key, Value []byte
	Delete     bool
}

// OracleDB is a database that libcyrus has open. Every method returns the library's [Code] as its error, or a
// [FatalError], or [ErrOracleGone].
type OracleDB struct {
	o      *Oracle
	handle int
}

// code turns an answer's first word into an error.
func (a *answer) code() error {
	if a.sign != "=" || len(a.words) == 0 {
		return fmt.Errorf("the oracle answered %q %q", a.sign, a.words)
	}
	n, err := strconv.Atoi(a.words[0])
	if err != nil {
		return fmt.Errorf("answer of the oracle: %w", err)
	}
	if n != 0 {
		return Code(n)
	}
	return nil
}

// do sends a command whose answer is only a code.
func (o *Oracle) do(words ...string) error {
	a, err := o.ask(words...)
	if err != nil {
		return err
	}
	return a.code()
}

// Open opens a database with one of the engines skiplist, twoskip, flat, quotalegacy, with flags such as
// [CreateFlag]. Opening a path twice gives the same handle of the library, as in Cyrus.
func (o *Oracle) Open(engine, path string, flags int) (*OracleDB, error) {
	for i := range o.handles {
		if o.handles[i] {
			continue
		}
		if err := o.do("open", strconv.Itoa(i), engine, hexWord([]byte(path)), strconv.Itoa(flags)); err != nil {
			return nil, err
		}
		o.handles[i] = true
		return &OracleDB{o, i}, nil
	}
	return nil, errors.New("the oracle has no handle left")
}

// Detect returns the engine whose file this is, or "".
func (o *Oracle) Detect(path string) (string, error) {
	a, err := o.ask("detect", hexWord([]byte(path)))
	if err != nil {
		return "", err
	}
	if err := a.code(); err != nil || len(a.words) < 2 || a.words[1] == "-" {
		return "", err
	}
	return a.words[1], nil
}

// Convert copies a database into another file or format, or in place.
func (o *Oracle) Convert(from, to, fromEngine, toEngine string) error {
	return o.do("convert", hexWord([]byte(from)), hexWord([]byte(to)), fromEngine, toEngine)
}

// Delayed does what an idle daemon does, such as a twoskip checkpoint that a commit has put off.
func (o *Oracle) Delayed() error { return o.do("delayed") }

// ask sends a command on the database.
func (d *OracleDB) ask(command string, words ...string) (*answer, error) {
	return d.o.ask(append([]string{command, strconv.Itoa(d.handle)}, words...)...)
}

func (d *OracleDB) do(command string, words ...string) error {
	a, err := d.ask(command, words...)
	if err != nil {
		return err
	}
	return a.code()
}

// record sends a command that answers with one row of so many fields.
func (d *OracleDB) record(fields int, command string, words ...string) ([][]byte, error) {
	a, err := d.ask(command, words...)
	if err != nil {
		return nil, err
	}
	if err := a.code(); err != nil {
		return nil, err
	}
	if len(a.rows) != 1 || len(a.rows[0]) != fields {
		return nil, fmt.Errorf("the oracle answered %s with %d rows", command, len(a.rows))
	}
	return a.rows[0], nil
}

// Close closes the database.
func (d *OracleDB) Close() error {
	err := d.do("close")
	d.o.handles[d.handle] = false
	return err
}

// Get returns the value of a key, or [NotFound].
func (d *OracleDB) Get(key []byte) ([]byte, error) {
	row, err := d.record(1, "get", hexWord(key))
	if err != nil {
		return nil, err
	}
	return row[0], nil
}

// GetLocked is cyrusdb_fetchlock: like Get, but it takes the write lock, to the end of the transaction begun.
func (d *OracleDB) GetLocked(key []byte) ([]byte, error) {
	row, err := d.record(1, "lock", hexWord(key))
	if err != nil {
		return nil, err
	}
	return row[0], nil
}

// Next returns the first record after a key, or [NotFound]. Not every engine implements it.
func (d *OracleDB) Next(key []byte) (Record, error) {
	row, err := d.record(2, "next", hexWord(key))
	if err != nil {
		return Record{}, err
	}
	return Record{row[0], row[1]}, nil
}

// Store sets a key: durably by itself, or in the transaction begun. A failure ends the transaction, as in Cyrus.
func (d *OracleDB) Store(key, value []byte) error { return d.do("put", hexWord(key), hexWord(value)) }

// Create is Store for a key that must not exist ([Exists]).
func (d *OracleDB) Create(key, value []byte) error {
	return d.do("create", hexWord(key), hexWord(value))
}

// Delete deletes a key. Without force, twoskip answers [NotFound] for a missing one.
func (d *OracleDB) Delete(key []byte, force bool) error {
	flag := "0"
	if force {
		flag = "1"
	}
	return d.do("delete", hexWord(key), flag)
}

// Foreach lists the records whose keys begin with prefix, at most limit of them if limit is not 0, in the engine's
// order.
func (d *OracleDB) Foreach(prefix []byte, limit int) ([]Record, error) {
	a, err := d.ask("foreach", hexWord(prefix), strconv.Itoa(limit))
	if err != nil {
		return nil, err
	}
	var list []Record
	for _, row := range a.rows {
		if len(row) != 2 {
			return nil, fmt.Errorf("the oracle answered with a row of %d fields", len(row))
		}
		list = append(list, Record{row[0], row[1]})
	}
	if err := a.code(); err != nil && (limit == 0 || !errors.Is(err, Done)) {
		return list, err
	}
	return list, nil
}

// Begin begins a transaction: the calls until Commit or Abort are in it, and the first of them takes the write lock.
func (d *OracleDB) Begin() error { return d.do("begin") }

// Commit commits the transaction. If it fails, Cyrus has already aborted it.
func (d *OracleDB) Commit() error { return d.do("commit") }

// Abort takes the transaction back.
func (d *OracleDB) Abort() error { return d.do("abort") }

// Consistent checks the file as the engine does. It may repair what it finds.
func (d *OracleDB) Consistent() error { return d.do("consistent") }

// Checkpoint rewrites the file.
func (d *OracleDB) Checkpoint() error { return d.do("checkpoint") }

// Dump is the engine's own description of its file.
func (d *OracleDB) Dump(level int) (string, error) {
	row, err := d.record(1, "dump", strconv.Itoa(level))
	if err != nil {
		return "", err
	}
	return string(row[0]), nil
}

// Compare is the sign of the database's key order.
func (d *OracleDB) Compare(a, b []byte) (int, error) {
	answer, err := d.ask("compare", hexWord(a), hexWord(b))
	if err != nil {
		return 0, err
	}
	if err := answer.code(); err != nil {
		return 0, err
	}
	if len(answer.words) != 2 {
		return 0, fmt.Errorf("the oracle answered compare with %q", answer.words)
	}
	return strconv.Atoi(answer.words[1])
}

// Txn does some steps in one transaction of its own. It returns nil once the commit has (the oracle's ACK), a [Code] if
// a step or the commit failed (NACK), and [ErrOracleGone] if neither was heard: then it has happened or not.
func (d *OracleDB) Txn(ops ...Op) error {
	words := []string{"t"}
	for _, op := range ops {
		word := hexWord(op.Key)
		if !op.Delete {
			word += ":" + hexWord(op.Value)
		}
		words = append(words, word)
	}
	a, err := d.ask("txn", words...)
	switch {
	case err != nil:
		return err
	case a.sign == "ACK":
		return nil
	case a.sign == "NACK" && len(a.words) == 2:
		n, err := strconv.Atoi(a.words[1])
		if err != nil {
			return fmt.Errorf("answer of the oracle: %w", err)
		}
		return Code(n)
	}
	return fmt.Errorf("the oracle answered %q %q", a.sign, a.words)
}

// Bench is what a benchmark in the oracle measured.
type Bench struct {
	// Time is what all of it took, inside the process, without the line protocol; CPU is the processor's part of it.
	Time, CPU time.Duration
	// Count is the number of operations, or of records visited. Sum is over what was touched.
	Count, Sum uint64
}

// Bench runs one of the commands bench-get, bench-prefix, bench-full, bench-put, bench-delete, bench-load with its
// arguments, numbers or byte slices; see testdata/oracle.c. There is no time limit.
func (d *OracleDB) Bench(command string, args ...any) (Bench, error) {
	if !strings.HasPrefix(command, "bench-") {
		return Bench{}, badCommand
	}
	if d.o.err != nil {
		return Bench{}, d.o.err
	}
	var line bytes.Buffer
	fmt.Fprintf(&line, "%s %d", command, d.handle)
	for _, arg := range args {
		if b, ok := arg.([]byte); ok {
			arg = hexWord(b)
		}
		fmt.Fprintf(&line, " %v", arg)
	}
	line.WriteByte('\n')
	a, err := d.o.exchange(line.String())
	if err != nil {
		d.o.err = err
		return Bench{}, err
	}
	if err := a.code(); err != nil {
		return Bench{}, err
	}
	var b Bench
	var wall, cpu int64
	if _, err := fmt.Sscan(strings.Join(a.words[1:], " "), &wall, &cpu, &b.Count, &b.Sum); err != nil {
		return Bench{}, fmt.Errorf("the oracle answered %q: %w", a.words, err)
	}
	b.Time, b.CPU = time.Duration(wall), time.Duration(cpu)
	return b, nil
}
