package mboxdb

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// ErrDump means that what was given to Undump is not what a dump writes.
var ErrDump = errors.New("not a dump of a mailbox list")

// Undump puts what [View.Dump] or [View.DumpCyrus] wrote into an empty list, in one transaction, and returns how many
// records the list has then. It tells the two apart by their first bytes. From Cyrus's dump it also makes the records
// under unique ids, with former names where tombstones show them, and reverse ACL keys if the list keeps them. ErrExists
// means that the list is not empty; after any error it still is.
func (l *List) Undump(ctx context.Context, r io.Reader) (n int, err error) {
	in := bufio.NewReader(r)
	head, err := in.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	err = l.commit(ctx, func(t *Tx) error {
		for r, err := range t.s.All() {
			if err != nil {
				return err
			}
			if string(r.Key) != raclMarker {
				return fmt.Errorf("the list: %w", ErrExists)
			}
		}
		if string(head) == "{\n" {
			err = t.undumpCyrus(in)
		} else {
			err = t.undumpLines(in)
		}
		n = t.tx.Len()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("undump: %w", err)
	}
	return n, nil
}

// undumpLines puts every record as it was.
func (t *Tx) undumpLines(r io.Reader) error {
	dec := json.NewDecoder(r)
	for line := 1; ; line++ {
		var d DumpLine
		err := dec.Decode(&d)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d: %w: %w", line, ErrDump, err)
		}
		key, value := []byte(d.Key), []byte(d.Value)
		if d.KeyBytes != nil {
			key = d.KeyBytes
		}
		if d.ValueBytes != nil {
			value = d.ValueBytes
		}
		if len(key) == 0 {
			return fmt.Errorf("line %d has no key: %w", line, ErrDump)
		}
		if err := t.tx.Put(key, value); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

// cyrusMailbox is a member of Cyrus's dump.
type cyrusMailbox struct {
	MTime         string          `json:"mtime"`
	UIDValidity   string          `json:"uidvalidity"`
	CreatedModSeq string          `json:"createdmodseq"`
	FolderModSeq  string          `json:"foldermodseq"`
	Type          string          `json:"mbtype"`
	Partition     string          `json:"partition"`
	Server        string          `json:"server"`
	ACL           json.RawMessage `json:"acl"`
	UniqueID      string          `json:"uniqueid"`
}

// undumpCyrus reads the whole dump before it writes: see putAll.
func (t *Tx) undumpCyrus(r io.Reader) error {
	dec := json.NewDecoder(r)
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("%w: %w", ErrDump, err)
	}
	var all []Record
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDump, err)
		}
		var m cyrusMailbox
		if err := dec.Decode(&m); err != nil {
			return fmt.Errorf("%v: %w: %w", name, ErrDump, err)
		}
		rec, err := m.record(fmt.Sprint(name))
		if err != nil {
			return fmt.Errorf("%v: %w: %w", name, ErrDump, err)
		}
		all = append(all, rec)
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("the dump has no end: %w: %w", ErrDump, err)
	}
	return t.putAll(all)
}

// putAll puts mailboxes and tombstones, as they are, into an empty list: the tombstones first, the oldest change of all
// first, so that the records under unique ids get the former names in the right order.
func (t *Tx) putAll(all []Record) error {
	deleted := func(r Record) int {
		if r.Type.Deleted() {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(all, func(a, b Record) int {
		return cmp.Or(cmp.Compare(deleted(a), deleted(b)), cmp.Compare(a.FolderModSeq, b.FolderModSeq))
	})
	for _, rec := range all {
		if err := t.put(rec); err != nil {
			return err
		}
	}
	return nil
}

func (m cyrusMailbox) record(name string) (Record, error) {
	rec := Record{Name: InternalName(name), Type: Type(m.Type), Partition: m.Partition, Server: m.Server, UniqueID: m.UniqueID}
	var errs []error
	number := func(field, s string, bits int) uint64 {
		v, err := strconv.ParseUint(orElse(s, "0"), 10, bits)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
		return v
	}
	rec.Modified = int64(number("mtime", m.MTime, 63))
	rec.UIDValidity = uint32(number("uidvalidity", m.UIDValidity, 32))
	rec.CreatedModSeq = number("createdmodseq", m.CreatedModSeq, 64)
	rec.FolderModSeq = number("foldermodseq", m.FolderModSeq, 64)
	acl, err := parseACLJSON(m.ACL)
	if rec.ACL = acl; rec.Type.Deleted() && len(acl) == 0 {
		rec.ACL = nil
	}
	return rec, errors.Join(append(errs, err)...)
}

// parseACLJSON reads an object in its order, which encoding/json does not keep in a map.
func parseACLJSON(raw json.RawMessage) (ACL, error) {
	acl := ACL{}
	if len(raw) == 0 || string(raw) == "null" {
		return acl, nil
	}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, fmt.Errorf("acl: found %v, expected an object", open)
	}
	for dec.More() {
		id, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("acl: %w", err)
		}
		var rights string
		if err := dec.Decode(&rights); err != nil {
			return nil, fmt.Errorf("acl: %w", err)
		}
		acl = append(acl, ACLEntry{Identifier: fmt.Sprint(id), Rights: rights})
	}
	return acl, nil
}
