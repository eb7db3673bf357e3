package mboxdb

import "strings"

// quick reads the values that Cyrus and mailspine write, which nearly all are, without taking them apart into a tree: a
// lookup is many times faster so. What is not plain, in any way, it leaves to the parser of dlists: it may decline, but
// it never reads anything that the parser would read otherwise.
type quick struct {
	s   string
	pos int
	ok  bool
}

// plain are the bytes of an atom that need no thought.
var plain = func() (t [256]bool) {
	for c := 0x1f; c < 0x7f; c++ {
		t[c] = !strings.ContainsRune(" (){\"%*\\", rune(c))
	}
	return t
}()

func (q *quick) eat(s string) bool {
	if strings.HasPrefix(q.s[q.pos:], s) {
		q.pos += len(s)
		return true
	}
	return false
}

// atom reads an atom that is followed by a space or a parenthesis.
func (q *quick) atom() string {
	start := q.pos
	for q.pos < len(q.s) && plain[q.s[q.pos]] {
		q.pos++
	}
	s := q.s[start:q.pos]
	if s == "" || s == "NIL" || q.pos == len(q.s) || q.s[q.pos] != ' ' && q.s[q.pos] != ')' {
		q.ok = false
	}
	return s
}

// text reads an atom or a quoted string without escapes.
func (q *quick) text() string {
	if !q.eat(`"`) {
		return q.atom()
	}
	n := strings.IndexAny(q.s[q.pos:], `"\`)
	if n < 0 || q.s[q.pos+n] != '"' {
		q.ok = false
		return ""
	}
	s := q.s[q.pos : q.pos+n]
	q.pos += n + 1
	return s
}

// number reads a decimal number of up to 18 digits.
func (q *quick) number() (v uint64) {
	start := q.pos
	for q.pos < len(q.s) && q.s[q.pos] >= '0' && q.s[q.pos] <= '9' {
		v = v*10 + uint64(q.s[q.pos]-'0')
		q.pos++
	}
	if n := q.pos - start; n == 0 || n > 18 {
		q.ok = false
	}
	return v
}

func (q *quick) acl() ACL {
	if !q.eat("%(") {
		q.ok = false
		return nil
	}
	acl := ACL{}
	if q.eat(")") {
		return acl
	}
	for q.ok {
		e := ACLEntry{Identifier: q.text()}
		q.ok = q.ok && q.eat(" ")
		e.Rights = q.text()
		acl = append(acl, e)
		if q.eat(")") {
			return acl
		}
		q.ok = q.ok && q.eat(" ")
	}
	return acl
}

// record reads a value; identity is the key under which it has the other half of what names the mailbox: I or N.
func (q *quick) record(identity string) (rec Record, id string, ok bool) {
	q.ok = q.eat("%(")
	seen := 0
	for q.ok {
		if q.pos >= len(q.s) {
			return rec, "", false
		}
		field := q.s[q.pos]
		bit := 1 << (field & 31)
		q.pos++
		q.ok = q.eat(" ") && field >= 'A' && field <= 'Z' && seen&bit == 0
		seen |= bit
		switch field {
		case 'T':
			rec.Type = Type(q.text())
		case 'P':
			rec.Partition = q.text()
		case 'S':
			rec.Server = q.text()
		case 'V':
			v := q.number()
			rec.UIDValidity = uint32(v)
			q.ok = q.ok && v <= 0xffffffff
		case 'C':
			rec.CreatedModSeq = q.number()
		case 'F':
			rec.FolderModSeq = q.number()
		case 'M':
			rec.Modified = int64(q.number())
		case 'A':
			rec.ACL = q.acl()
		case 'H':
			q.ok = q.ok && identity == fieldName && q.eat("()")
		case identity[0]:
			id = q.text()
		default:
			q.ok = false
		}
		if q.ok && q.eat(")") {
			return rec, id, q.pos == len(q.s) && rec.Type != ""
		}
		q.ok = q.ok && q.eat(" ")
	}
	return rec, "", false
}
