package mboxdb

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mailspine/mailspine/skiplist"
)

// DumpCyrus writes the list as "ctl_mboxlist -d" of Cyrus 3.6.1 does: one JSON object with a member for each name,
// tombstones included. It leaves out former names, reverse ACL keys, orphans under unique ids, and what is not UTF-8:
// [View.Dump] has everything. Records that cannot be read are left out as well, and counted. With names it writes only
// these members; a name that is not in the list is an ErrNotFound, which comes after the others.
func (v *View) DumpCyrus(w io.Writer, names ...Name) (unreadable int, err error) {
	only, err := v.only(names)
	if err != nil {
		return 0, err
	}
	if only != nil && only.known == 0 {
		return 0, only.unknown()
	}
	out := bufio.NewWriter(w)
	_, _ = out.WriteString("{")
	sep := "\n"
	for r, err := range v.s.Prefix(v.keyPrefix("")) {
		if err != nil {
			return unreadable, errors.Join(err, out.Flush()) // without its end nobody takes it for a whole dump
		}
		if !only.concerns(r.Key, r.Value) || v.isMark(r.Key) {
			continue
		}
		rec, err := v.decode(r.Key, r.Value)
		if err != nil || !utf8.ValidString(rec.Name.String()) {
			unreadable++ // without a name it is no member of an object: Cyrus leaves an empty one behind, and no JSON
			continue
		}
		_, _ = out.WriteString(sep)
		_, _ = out.Write(appendCyrusJSON(nil, rec))
		sep = ",\n"
	}
	_, _ = out.WriteString("\n}\n")
	return unreadable, errors.Join(out.Flush(), only.unknown())
}

// appendCyrusJSON writes one member of the object.
func appendCyrusJSON(b []byte, rec Record) []byte {
	name, _ := appendJSONString(nil, rec.Name.String())
	b = append(append(b, name...), ": {"...)
	first := true
	member := func(key, value string, raw bool) {
		text, ok := []byte(value), true
		if !raw {
			text, ok = appendJSONString(nil, value)
		}
		if !ok {
			return // as Cyrus does
		}
		if !first {
			b = append(b, ", "...)
		}
		first = false
		b = append(append(append(append(b, '"'), key...), `": `...), text...)
	}
	optional := func(key, value string) {
		if value != "" {
			member(key, value, false)
		}
	}
	number := func(v uint64) string { return strconv.FormatUint(v, 10) }
	member("name", rec.Name.String(), false)
	member("mtime", number(uint64(rec.Modified)), false)
	member("uidvalidity", number(uint64(rec.UIDValidity)), false)
	member("createdmodseq", number(rec.CreatedModSeq), false)
	member("foldermodseq", number(rec.FolderModSeq), false)
	member("mbtype", string(rec.Type), false)
	optional("partition", rec.Partition)
	optional("server", rec.Server)
	member("acl", string(appendACLJSON(nil, rec.ACL)), true)
	optional("uniqueid", rec.UniqueID)
	member("name_history", "[]", true) // the record under the name, which is dumped, has none
	return append(b, '}')
}

// appendACLJSON writes an ACL as an object. Of two entries for an identifier the last counts, in the place of the first.
func appendACLJSON(b []byte, acl ACL) []byte {
	b = append(b, '{')
	first := true
	for i, e := range acl {
		if slices.ContainsFunc(acl[:i], func(o ACLEntry) bool { return o.Identifier == e.Identifier }) {
			continue
		}
		for _, later := range acl[i+1:] {
			if later.Identifier == e.Identifier {
				e = later
			}
		}
		id, ok1 := appendJSONString(nil, e.Identifier)
		rights, ok2 := appendJSONString(nil, e.Rights)
		if !ok1 || !ok2 {
			continue
		}
		if !first {
			b = append(b, ", "...)
		}
		first = false
		b = append(append(append(b, id...), ": "...), rights...)
	}
	return append(b, '}')
}

// appendJSONString writes a string as Cyrus's JSON library does; ok is false if it is not UTF-8.
func appendJSONString(b []byte, s string) (_ []byte, ok bool) {
	if !utf8.ValidString(s) {
		return b, false
	}
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			if c < ' ' {
				b = fmt.Appendf(b, `\u%04X`, c)
			} else {
				b = append(b, c)
			}
		}
	}
	return append(b, '"'), true
}

// DumpLine is one line of [View.Dump]: a record of the database as it is, and what it says.
type DumpLine struct {
	// Key and Value are those of the database; bytes that are not UTF-8 go into KeyBytes and ValueBytes instead, which
	// JSON has in base64.
	Key        string `json:"key,omitempty"`
	Value      string `json:"value"`
	KeyBytes   []byte `json:"key_bytes,omitempty"`
	ValueBytes []byte `json:"value_bytes,omitempty"`
	// Mailbox is the record as [Record] describes it, if the key is that of a mailbox and the value can be read.
	Mailbox *Record `json:"mailbox,omitempty"`
	// Problem says why it cannot be read.
	Problem string `json:"problem,omitempty"`
}

// Dump writes everything in the list, one JSON object a line, so that [Undump] makes the very same list of it: tombstones,
// former names, reverse ACL keys, fields that are not understood, and records that cannot be read. With names it writes only
// what concerns these mailboxes, as [List.Check] does; a name that is not in the list is an ErrNotFound, which comes after
// the others.
func (v *View) Dump(w io.Writer, names ...Name) error {
	only, err := v.only(names)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for r, err := range v.s.All() {
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		if !only.concerns(r.Key, r.Value) {
			continue
		}
		if err := enc.Encode(v.dumpLine(r)); err != nil {
			return err
		}
	}
	return errors.Join(out.Flush(), only.unknown())
}

func (v *View) dumpLine(r skiplist.Record) DumpLine {
	var line DumpLine
	if utf8.Valid(r.Key) {
		line.Key = string(r.Key)
	} else {
		line.KeyBytes = slices.Clone(r.Key)
	}
	if utf8.Valid(r.Value) {
		line.Value = string(r.Value)
	} else {
		line.ValueBytes = slices.Clone(r.Value)
	}
	rec, known, err := v.classify(r.Key, r.Value)
	switch {
	case err != nil:
		line.Problem = err.Error()
	case known:
		line.Mailbox = &rec
	}
	return line
}

// classify reads a record of any class; known is false for those that are no mailbox.
func (v *View) classify(key, value []byte) (rec Record, known bool, err error) {
	switch {
	case v.l.form != Form36:
		if strings.HasPrefix(string(key), "$") {
			return rec, false, nil
		}
		rec, _, err = DecodeOld(key, value)
		return rec, true, err
	case key[0] == nameClass:
		rec, err = DecodeName(key, value)
		return rec, true, err
	case key[0] == idClass:
		rec, err = DecodeID(key, value)
		return rec, true, err
	}
	return rec, false, nil
}
