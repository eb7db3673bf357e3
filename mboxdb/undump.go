package mboxdb

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// ErrDump means that what was given to Undump is not what a dump writes.
var ErrDump = errors.New("not a dump of a mailbox list")

// Undump puts what [View.Dump] or [View.DumpCyrus] wrote into an empty list, in one transaction, and returns how many
// records the list has then. It tells the two apart by their first bytes. From Cyrus's dump it also makes the records
// under unique ids, with former names where tombstones show them, and reverse ACL keys if the list keeps them. ErrExists
// means that the list is not empty; after any error it still is.
func (l *List) Undump(ctx context.Context, r io.Reader) (n int, err error) {
	if n, err = l.undump(ctx, r); err != nil {
		return 0, fmt.Errorf("undump: %w", err)
	}
	return n, nil
}

func (l *List) undump(ctx context.Context, r io.Reader) (n int, err error) {
	err = l.commit(ctx, func(t *Tx) error {
		if err := emptyList(t.s); err != nil {
			return err
		}
		n, err = t.undump(r)
		return err
	})
	return n, err
}

// emptyList fails for a list that has records, beside the mark for reverse ACL keys.
func emptyList(s store) error {
	for r, err := range s.All() {
		if err != nil {
			return err
		}
		if string(r.Key) != raclMarker {
			return fmt.Errorf("the list is not empty: %w", ErrExists)
		}
	}
	return nil
}

// UndumpOptions say how to make a list of a dump.
type UndumpOptions struct {
	Options
	// DryRun reads the dump, makes the list in memory, and writes nothing.
	DryRun bool
}

// UndumpTo makes the list at path, which has to be missing or empty, of what [List.Undump] reads, and returns how many
// records it has. A missing list is made under another name and gets its own when it is complete and durable, if nothing
// has come to that name meanwhile (fs.ErrExist). After any error, and after a crash before that, there is no list at
// path, or the empty one that was there; a crash may leave a file with the name, a dot and sixteen hexadecimal digits. Only
// if the last sync fails the list is in place, and the error says that it may not last.
func UndumpTo(ctx context.Context, path string, r io.Reader, opts UndumpOptions) (n int, err error) {
	opts.Options = opts.Options.withDefaults()
	_, err = opts.DB.FS.Stat(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return 0, fmt.Errorf("undump: %w", err)
	}
	if missing {
		if err := skiplist.CheckOutput(path, opts.DB); err != nil {
			return 0, fmt.Errorf("undump: %w", err)
		}
	}
	switch {
	case opts.DryRun:
		n, err = undumpDraft(ctx, path, missing, r, opts.Options)
	case missing:
		n, err = undumpNew(ctx, path, r, opts.Options)
	default:
		n, err = undumpInto(ctx, path, r, opts.Options)
	}
	if err != nil {
		return 0, fmt.Errorf("undump: %w", err)
	}
	return n, nil
}

// undumpInto fills an empty list.
func undumpInto(ctx context.Context, path string, r io.Reader, opts Options) (n int, err error) {
	l, err := Open(ctx, path, opts)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return l.undump(ctx, r)
}

// undumpDraft counts what an undump would put into a list.
func undumpDraft(ctx context.Context, path string, missing bool, r io.Reader, opts Options) (n int, err error) {
	d := draft{}
	if !missing {
		opts.DB.ReadOnly = true
		l, err := Open(ctx, path, opts)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		err = l.View(ctx, func(v *View) error {
			if has, err := v.s.Has([]byte(raclMarker)); err != nil || has {
				d[raclMarker] = nil
				return errors.Join(err, emptyList(v.s))
			}
			return emptyList(v.s)
		})
		if err != nil {
			return 0, err
		}
	}
	t, err := newDraft(opts, d)
	if err != nil {
		return 0, err
	}
	return t.undump(r)
}

// undumpNew makes a list where there is none.
func undumpNew(ctx context.Context, path string, r io.Reader, opts Options) (n int, err error) {
	random := opts.DB.Random
	if random == nil {
		random = rand.Uint64
	}
	temp := fmt.Sprintf("%s.%016x", path, random())
	opts.DB.Create = true
	l, err := Open(ctx, temp, opts)
	if err != nil {
		return 0, err
	}
	if n, err = l.undump(ctx, r); err != nil {
		_ = l.Close()
	} else if err = l.Close(); err == nil {
		err = vfs.Place(ctx, opts.DB.FS, temp, path)
	}
	if err != nil {
		_ = opts.DB.FS.Unlink(temp)
		return 0, err
	}
	if err := opts.DB.FS.SyncDir(filepath.Dir(path)); err != nil {
		return 0, &vfs.NotDurableError{Path: path, Err: err}
	}
	return n, nil
}

// undump puts what it reads, and returns how many records there are then.
func (t *Tx) undump(r io.Reader) (n int, err error) {
	in := bufio.NewReader(r)
	head, err := in.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if string(head) == "{\n" {
		err = t.undumpCyrus(in)
	} else {
		err = t.undumpLines(in)
	}
	return t.tx.Len(), err
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
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("there is something behind the end of the dump: %w", ErrDump)
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
