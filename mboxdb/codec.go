package mboxdb

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/mailspine/mailspine/internal/dlist"
)

// ErrRecord means that a value in the database is not that of a mailbox.
var ErrRecord = errors.New("not the record of a mailbox")

// RecordError says why a value could not be read. It unwraps to ErrRecord.
type RecordError struct {
	// Key is the key of the record in the database.
	Key string
	// Offset is the byte offset in the value, -1 where none applies.
	Offset int
	// Problem says what was found and what was expected.
	Problem string
}

func (e *RecordError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%v: key %q: %s", ErrRecord, e.Key, e.Problem)
	}
	return fmt.Sprintf("%v: key %q, byte %d of the value: %s", ErrRecord, e.Key, e.Offset, e.Problem)
}

func (e *RecordError) Unwrap() error { return ErrRecord }

// The keys of a record, as in Cyrus 3.6.
const (
	fieldType        = "T"
	fieldID          = "I"
	fieldName        = "N"
	fieldPartition   = "P"
	fieldServer      = "S"
	fieldUIDValidity = "V"
	fieldCreated     = "C"
	fieldFolder      = "F"
	fieldModified    = "M"
	fieldACL         = "A"
	fieldHistory     = "H"
)

// orders are the orders in which the fields are written.
var (
	nameOrder    = []string{fieldType, fieldID, fieldPartition, fieldServer, fieldUIDValidity, fieldCreated, fieldFolder, fieldModified, fieldACL}
	idOrder      = []string{fieldType, fieldName, fieldPartition, fieldServer, fieldUIDValidity, fieldCreated, fieldFolder, fieldModified, fieldACL, fieldHistory}
	historyOrder = []string{fieldName, fieldModified, fieldUIDValidity, fieldCreated, fieldFolder, fieldType, fieldPartition}
)

// dlistLimits bound what a value may hold: no ACL is as long.
var dlistLimits = dlist.Parser{Limits: dlist.Limits{Bytes: 16 << 20, Depth: 32, Nodes: 1 << 20}}

// parseValue reads a value as a key/value list.
func parseValue(key, value []byte) (*dlist.Node, error) {
	n, err := dlistLimits.Parse(value)
	var bad *dlist.Error
	switch {
	case errors.As(err, &bad):
		return nil, &RecordError{Key: string(key), Offset: bad.Offset, Problem: fmt.Sprintf("found %s, expected %s", bad.Found, bad.Wanted)}
	case err != nil:
		return nil, &RecordError{Key: string(key), Offset: -1, Problem: err.Error()}
	case n.Kind() != dlist.KVList:
		return nil, &RecordError{Key: string(key), Offset: 0, Problem: "a " + n.Kind().String() + ", expected a key/value list"}
	}
	return n, nil
}

// reader reads the fields of a record; the first fault stays.
type reader struct {
	key  []byte
	list *dlist.Node
	err  error
}

func (r *reader) fail(field, format string, args ...any) {
	if r.err == nil {
		r.err = &RecordError{Key: string(r.key), Offset: -1, Problem: "field " + field + ": " + fmt.Sprintf(format, args...)}
	}
}

// get is the field, of two with its name the last: so Cyrus reads them.
func (r *reader) get(field string) *dlist.Node {
	for _, item := range slices.Backward(r.list.Items) {
		if item.Key() == field {
			return item
		}
	}
	return nil
}

func (r *reader) text(field string) string {
	n := r.get(field)
	if n.Kind() != dlist.String && n.Kind() != dlist.Nil {
		r.fail(field, "a %s, expected a string", n.Kind())
	}
	return n.Text()
}

func (r *reader) number(field string, limit uint64) uint64 {
	n := r.get(field)
	if n == nil {
		return 0
	}
	v, ok := n.Uint64()
	if !ok || v > limit {
		r.fail(field, "%q, expected a number up to %d", n.Text(), limit)
	}
	return v
}

// acl is the access list. The entries of a second one follow those of the first, as in Cyrus.
func (r *reader) acl() (acl ACL) {
	for _, n := range r.list.Items {
		if n.Key() != fieldACL {
			continue
		}
		if n.Kind() != dlist.KVList {
			r.fail(fieldACL, "a %s, expected a key/value list", n.Kind())
			return nil
		}
		acl = slices.Grow(acl, len(n.Items))
		if acl == nil {
			acl = ACL{}
		}
		for _, item := range n.Items {
			if item.Kind() != dlist.String {
				r.fail(fieldACL, "the rights of an identifier are a %s, expected a string", item.Kind())
			}
			acl = append(acl, ACLEntry{Identifier: item.Key(), Rights: item.Text()})
		}
	}
	return acl
}

// common reads the fields that every kind of record has.
func (r *reader) common() Record {
	return Record{
		Type:          Type(r.text(fieldType)),
		Partition:     r.text(fieldPartition),
		Server:        r.text(fieldServer),
		UIDValidity:   uint32(r.number(fieldUIDValidity, math.MaxUint32)),
		CreatedModSeq: r.number(fieldCreated, math.MaxUint64),
		FolderModSeq:  r.number(fieldFolder, math.MaxUint64),
		Modified:      int64(r.number(fieldModified, math.MaxInt64)),
		ACL:           r.acl(),
	}
}

// DecodeName reads the record of a mailbox under its name: a key that begins with N, in the form of Cyrus 3.6.
func DecodeName(key, value []byte) (Record, error) {
	if len(key) < 2 || key[0] != nameClass {
		return Record{}, &RecordError{Key: string(key), Offset: -1, Problem: "not the key of a name"}
	}
	q := quick{s: string(value)}
	if rec, id, ok := q.record(fieldID); ok {
		rec.Name, rec.UniqueID = Name{string(key[1:])}, id
		return rec, nil
	}
	return decodeName(key, value)
}

// decodeName is DecodeName for values of any shape.
func decodeName(key, value []byte) (Record, error) {
	list, err := parseValue(key, value)
	if err != nil {
		return Record{}, err
	}
	r := reader{key: key, list: list}
	rec := r.common()
	rec.Name, rec.UniqueID = Name{string(key[1:])}, r.text(fieldID)
	return r.done(rec)
}

// DecodeID reads the record of a mailbox under its unique id: a key that begins with I.
func DecodeID(key, value []byte) (Record, error) {
	if len(key) < 2 || key[0] != idClass {
		return Record{}, &RecordError{Key: string(key), Offset: -1, Problem: "not the key of a unique id"}
	}
	q := quick{s: string(value)}
	if rec, name, ok := q.record(fieldName); ok && name != "" {
		rec.Name, rec.UniqueID, rec.History = Name{name}, string(key[1:]), []FormerName{}
		return rec, nil
	}
	return decodeID(key, value)
}

// decodeID is DecodeID for values of any shape.
func decodeID(key, value []byte) (Record, error) {
	list, err := parseValue(key, value)
	if err != nil {
		return Record{}, err
	}
	r := reader{key: key, list: list}
	rec := r.common()
	rec.Name, rec.UniqueID = Name{r.text(fieldName)}, string(key[1:])
	rec.History = r.history()
	if rec.Name.IsZero() {
		r.fail(fieldName, "missing")
	}
	return r.done(rec)
}

func (r *reader) done(rec Record) (Record, error) {
	if rec.Type == "" {
		rec.Type = Mail
	}
	return rec, r.err
}

func (r *reader) history() []FormerName {
	h := r.get(fieldHistory)
	if h == nil {
		return nil
	}
	if h.Kind() != dlist.List {
		r.fail(fieldHistory, "a %s, expected a list", h.Kind())
		return nil
	}
	names := make([]FormerName, len(h.Items))
	for i, item := range h.Items {
		if item.Kind() != dlist.KVList {
			r.fail(fieldHistory, "entry %d is a %s, expected a key/value list", i, item.Kind())
			continue
		}
		e := reader{key: r.key, list: item}
		c := e.common()
		names[i] = FormerName{
			Name: Name{e.text(fieldName)}, Modified: c.Modified, UIDValidity: c.UIDValidity, CreatedModSeq: c.CreatedModSeq,
			FolderModSeq: c.FolderModSeq, Type: c.Type, Partition: c.Partition, source: item,
		}
		if e.err != nil && r.err == nil {
			r.err = e.err
		}
	}
	return names
}

// EncodeName is the value of the record under its name. Fields that were not understood when old, the value that stands
// there now, was read stay; old may be nil.
func (r Record) EncodeName(old []byte) []byte { return r.encode(nameOrder, old) }

// EncodeID is the value of the record under its unique id.
func (r Record) EncodeID(old []byte) []byte { return r.encode(idOrder, old) }

func (r Record) encode(order []string, old []byte) []byte {
	fields := map[string]*dlist.Node{}
	text := func(key, s string) {
		if s != "" {
			fields[key] = dlist.NewString(s)
		}
	}
	number := func(key string, v uint64) {
		if v != 0 {
			fields[key] = dlist.NewUint(v)
		}
	}
	text(fieldType, orElse(string(r.Type), string(Mail)))
	text(fieldID, r.UniqueID)
	text(fieldName, r.Name.db)
	text(fieldPartition, r.Partition)
	text(fieldServer, r.Server)
	number(fieldUIDValidity, uint64(r.UIDValidity))
	number(fieldCreated, r.CreatedModSeq)
	number(fieldFolder, r.FolderModSeq)
	fields[fieldModified] = dlist.NewUint(uint64(max(r.Modified, 0)))
	if r.ACL != nil {
		fields[fieldACL] = r.ACL.node()
	}
	h := dlist.NewList()
	for _, f := range r.History {
		h.Items = append(h.Items, f.node())
	}
	fields[fieldHistory] = h
	var before *dlist.Node
	if old != nil {
		before, _ = dlistLimits.Parse(old) // what cannot be read cannot be kept here: see Check
	}
	return assemble(order, fields, before).Append(nil)
}

func (a ACL) node() *dlist.Node {
	n := dlist.NewKVList()
	for _, e := range a {
		n.Items = append(n.Items, dlist.NewString(e.Rights).Named(e.Identifier))
	}
	return n
}

func (f FormerName) node() *dlist.Node {
	if f.source != nil {
		return f.source // it never changes
	}
	r := Record{Name: f.Name, Type: f.Type, Partition: f.Partition, UIDValidity: f.UIDValidity,
		CreatedModSeq: f.CreatedModSeq, FolderModSeq: f.FolderModSeq, Modified: f.Modified}
	n, err := dlistLimits.Parse(r.encode(historyOrder, nil))
	if err != nil {
		panic("mboxdb: a history entry cannot be read back: " + err.Error()) // it was just written
	}
	return n
}

// assemble makes a list of the fields in their order. Fields of before that are unknown stay behind the field that they
// follow there; those of the same value keep their spelling.
func assemble(order []string, fields map[string]*dlist.Node, before *dlist.Node) *dlist.Node {
	unknown := map[string][]*dlist.Node{} // by the known key before them
	known := map[string]bool{}
	for _, k := range order {
		known[k] = true
	}
	if before.Kind() == dlist.KVList {
		last := ""
		for _, item := range before.Items {
			if known[item.Key()] {
				last = item.Key()
				continue
			}
			unknown[last] = append(unknown[last], item)
		}
	}
	out := dlist.NewKVList(unknown[""]...)
	for _, k := range order {
		if n := fields[k]; n != nil {
			out.Items = append(out.Items, n.Named(k))
		}
		out.Items = append(out.Items, unknown[k]...)
	}
	return out
}
