package quota

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/mailspine/mailspine/internal/dlist"
)

// The keys of a record besides those of the resources.
const (
	keyScan    = "SCAN"
	keyModSeq  = "MODSEQ"
	keyMailbox = "MBOX"
)

// recordOrder is the order of the items that are known.
var recordOrder = []string{resources[Storage].key, resources[Messages].key, resources[Annotations].key, resources[Folders].key, keyScan, keyModSeq}

// notInNames is in no name of a mailbox.
const notInNames = "\x00\r\n"

// maxRecordBytes bounds a record: none is as long, names of mailboxes have some hundred bytes.
const maxRecordBytes = 256 << 10

// Record is what is kept for a quota root.
type Record struct {
	Used   Amounts
	Limits Limits
	// Scan is set while a recalculation of Cyrus is on its way, or if one was cut off.
	Scan *Scan
	// ModSeq grows with each change of a user's root. It is not to be set.
	ModSeq uint64

	source *source
}

// Scan is how far a recalculation of Cyrus has come: what the mailboxes up to one of them use. Whoever changes a mailbox that
// it has passed changes this, too.
type Scan struct {
	// Mailbox is the internal name of the last one counted.
	Mailbox string
	Used    Amounts
}

// source is what a record was read from. It never changes.
type source struct {
	text   string
	record Record      // as read
	list   *dlist.Node // nil for an old form
}

// same compares what can be changed.
func (r *Record) same(o *Record) bool {
	scans := r.Scan == nil && o.Scan == nil || r.Scan != nil && o.Scan != nil && *r.Scan == *o.Scan
	return scans && r.Used == o.Used && r.Limits == o.Limits && r.ModSeq == o.ModSeq
}

// copied is the record with a Scan of its own.
func (r *Record) copied() Record {
	c := *r
	if r.Scan != nil {
		scan := *r.Scan
		c.Scan = &scan
	}
	return c
}

// check tells whether the record can be written.
func (r *Record) check() error {
	for i := range Resources {
		if r.Used[i] < 0 {
			return fmt.Errorf("a usage of %d %s cannot be kept", r.Used[i], Resource(i))
		}
		if r.Limits[i] < Unlimited {
			return fmt.Errorf("a limit of %d %s cannot be kept", r.Limits[i], Resource(i))
		}
		if r.Scan != nil && r.Scan.Used[i] < 0 {
			return fmt.Errorf("a usage of %d %s so far cannot be kept", r.Scan.Used[i], Resource(i))
		}
	}
	if r.Scan != nil && strings.ContainsAny(r.Scan.Mailbox, notInNames) {
		return errors.New("a mailbox name with a line end cannot be kept")
	}
	return nil
}

// Over tells whether a change would pass a limit, and the first resource that has one passed. What does not grow passes no
// limit, even if more is used than is allowed.
func (r *Record) Over(delta Amounts) (Resource, bool) {
	for i, limit := range r.Limits {
		if limit < 0 || delta[i] <= 0 {
			continue
		}
		bound := int64(math.MaxInt64)
		if unit := resources[i].unit; limit <= math.MaxInt64/unit {
			bound = limit * unit
		}
		if r.Used[i] > bound-delta[i] {
			return Resource(i), true
		}
	}
	return 0, false
}

// ParseRecord reads the value of a quota root: the list of Cyrus 2.5 and later, or the numbers of releases before. A value that
// is not whole is refused: in a list that was cut off Cyrus finds no limit, and allows everything. The error is a
// *[RecordError].
func ParseRecord(b []byte) (Record, error) {
	switch {
	case len(b) > maxRecordBytes:
		return Record{}, damaged(maxRecordBytes, "%d bytes, expected at most %d", len(b), maxRecordBytes)
	case strings.Trim(string(b), " \t\r\n") == "":
		return Record{}, &RecordError{Problem: "nothing but blanks", class: ErrEmpty}
	}
	src := &source{text: string(b)}
	var err error
	if b[0] == '%' {
		err = src.parseList(b)
	} else {
		err = src.parseNumbers()
	}
	if err != nil {
		return Record{}, err
	}
	r := src.record.copied()
	r.source = src
	return r, nil
}

// parseList reads "%(S (used limit) ...)".
func (s *source) parseList(b []byte) error {
	list, err := dlist.Parser{Limits: dlist.Limits{Bytes: maxRecordBytes, Depth: 32, Nodes: 4096}}.Parse(b)
	var bad *dlist.Error
	if errors.As(err, &bad) {
		return damaged(bad.Offset, "found %s, expected %s", bad.Found, bad.Wanted)
	}
	if err != nil {
		return damaged(0, "%v", err)
	}
	s.list = list
	if list.Kind() != dlist.KVList {
		return damaged(0, "found a %s, expected a key/value list", list.Kind())
	}
	s.record.Limits = NoLimits()
	seen := map[string]bool{}
	offset := len("%(")
	for _, item := range list.Items {
		key := item.Key()
		if slices.Contains(recordOrder, key) && seen[key] {
			return damaged(offset, "a second %s", key)
		}
		seen[key] = true
		if problem := s.record.take(item); problem != "" {
			return damaged(offset, "%s: %s", key, problem)
		}
		offset += len(item.AppendKeyed(nil)) + len(" ")
	}
	// Folders are counted since later than the rest.
	for _, r := range []Resource{Storage, Messages, Annotations} {
		if key := resources[r].key; !seen[key] {
			return damaged(len(b), "no item %s", key)
		}
	}
	return nil
}

// take reads one item of the list; it leaves unknown ones alone.
func (r *Record) take(item *dlist.Node) (problem string) {
	switch key := item.Key(); key {
	case keyScan:
		r.Scan = &Scan{}
		return r.Scan.take(item)
	case keyModSeq:
		n, ok := item.Uint64()
		if !ok {
			return "expected a number"
		}
		r.ModSeq = n
	default:
		for i, res := range resources {
			if res.key == key {
				return r.takeResource(Resource(i), item)
			}
		}
	}
	return ""
}

// takeResource reads "(used limit)" or "(used)".
func (r *Record) takeResource(res Resource, item *dlist.Node) (problem string) {
	if item.Kind() != dlist.List || item.Len() < 1 || item.Len() > 2 {
		return "expected a list of the usage and perhaps a limit"
	}
	for i, into := range []*int64{&r.Used[res], &r.Limits[res]}[:item.Len()] {
		n, ok := item.At(i).Uint64()
		if !ok || n > math.MaxInt64 {
			return fmt.Sprintf("expected a number up to %d", int64(math.MaxInt64))
		}
		*into = int64(n)
	}
	return ""
}

func (s *Scan) take(item *dlist.Node) (problem string) {
	if item.Kind() != dlist.KVList {
		return "expected a key/value list"
	}
	name := item.Get(keyMailbox)
	if name.Kind() != dlist.String || strings.ContainsAny(name.Text(), notInNames) {
		return "expected the name of a mailbox"
	}
	s.Mailbox = name.Text()
	for i, res := range resources {
		value := item.Get(res.key)
		if value == nil {
			continue
		}
		n, ok := value.Uint64()
		if !ok || n > math.MaxInt64 {
			return fmt.Sprintf("%s: expected a number up to %d", res.key, int64(math.MaxInt64))
		}
		s.Used[i] = int64(n)
	}
	return ""
}

// Append appends the value of the record to dst. One that was read and not changed is as it was read, in an old form, too; in
// one that was changed all items that are not known stay as and where they were.
func (r *Record) Append(dst []byte) []byte {
	src := r.source
	if src != nil && r.same(&src.record) {
		return append(dst, src.text...)
	}
	list, was := dlist.NewKVList(), Record{}
	if src != nil && src.list != nil {
		list.Items, was = slices.Clone(src.list.Items), src.record
	}
	for i, res := range resources {
		if list.Get(res.key) != nil && r.Used[i] == was.Used[i] && r.Limits[i] == was.Limits[i] {
			continue
		}
		item := dlist.NewList(dlist.NewUint(uint64(max(r.Used[i], 0))))
		if r.Limits[i] >= 0 {
			item.Items = append(item.Items, dlist.NewUint(uint64(r.Limits[i])))
		}
		place(list, res.key, item)
	}
	switch {
	case r.Scan == nil:
		list.Delete(keyScan)
	case was.Scan == nil || *r.Scan != *was.Scan:
		place(list, keyScan, r.Scan.node())
	}
	if r.ModSeq != was.ModSeq || list.Get(keyModSeq) == nil {
		place(list, keyModSeq, dlist.NewUint(r.ModSeq))
	}
	return list.Append(dst)
}

func (s *Scan) node() *dlist.Node {
	n := dlist.NewKVList(dlist.NewString(s.Mailbox).Named(keyMailbox))
	for i, res := range resources {
		n.Set(res.key, dlist.NewUint(uint64(max(s.Used[i], 0))))
	}
	return n
}

// place puts an item where it was, or, a new one, in front of those that Cyrus writes after it.
func place(list *dlist.Node, key string, item *dlist.Node) {
	if list.Get(key) != nil {
		list.Set(key, item)
		return
	}
	later := recordOrder[slices.Index(recordOrder, key)+1:]
	at := slices.IndexFunc(list.Items, func(n *dlist.Node) bool { return slices.Contains(later, n.Key()) })
	if at < 0 {
		at = len(list.Items)
	}
	list.Items = slices.Insert(list.Items, at, item.Named(key))
}
