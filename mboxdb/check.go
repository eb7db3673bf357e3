package mboxdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/skiplist"
)

// Finding is one thing that Check saw.
type Finding = finding.Finding

// Check compares the records of the list with each other and with the configuration. It calls found for each finding,
// in the order of the keys, and changes nothing. What can be wrong with the file itself is for [skiplist.Check]. With
// names it looks only at what concerns these mailboxes: their records under names and unique ids, and their reverse ACL
// keys. A name that is not in the list is an ErrNotFound, which comes after the findings.
//
// Invariants of a list in the form of Cyrus 3.6:
//
//  1. Every key is of a known class, and its value can be read.
//  2. Names are valid, types have known letters, rights are known, a mailbox has a unique id and a partition that is
//     configured, and its path stays inside that.
//  3. Every mailbox under a name has a record under its unique id with the same name, and the two agree.
//  4. A record under a unique id names a mailbox that has this id. (Cyrus leaves others behind: no harm is in them.)
//  5. With the mark for reverse ACL keys there is one for each mailbox and identifier that should have one, and no other;
//     without it there is none.
func (l *List) Check(ctx context.Context, found func(Finding), names ...Name) error {
	return l.View(ctx, func(v *View) error {
		c := &checker{v: v, found: found}
		only, err := v.only(names)
		if err != nil {
			return err
		}
		if c.racl, err = v.s.Has([]byte(raclMarker)); err != nil && !errors.Is(err, skiplist.ErrDamaged) {
			return err
		}
		for r, err := range v.s.All() {
			if err != nil {
				return err
			}
			if c.n++; c.n%1024 == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if !only.concerns(r.Key, r.Value) {
				continue
			}
			if err := c.record(r.Key, r.Value); err != nil {
				return err
			}
		}
		return only.unknown()
	})
}

type checker struct {
	v     *View
	found func(Finding)
	racl  bool
	n     int
}

func (c *checker) report(code string, severity finding.Severity, fix, format string, args ...any) {
	c.found(Finding{Code: code, Severity: severity, Path: c.v.l.db.Path(), Offset: -1, Detail: fmt.Sprintf(format, args...), Fix: fix})
}

func (c *checker) record(key, value []byte) error {
	if c.v.l.form != Form36 {
		c.old(key, value)
		return nil
	}
	switch {
	case key[0] == nameClass && len(key) > 1:
		return c.name(key, value)
	case key[0] == idClass && len(key) > 1:
		return c.id(key, value)
	case key[0] == raclClass:
		return c.reverse(key)
	case key[0] == jmapClass:
	default:
		c.report("key-unknown", finding.Warning, "", "the key %q is of no known class", key)
	}
	return nil
}

// old looks at a record of an old form.
func (c *checker) old(key, value []byte) {
	if key[0] == '$' {
		return
	}
	rec, _, err := DecodeOld(key, value)
	if err != nil {
		c.report("record-unreadable", finding.Damage, "", "%v", err)
		return
	}
	c.mailbox(rec)
}

// What mends a finding. Cyrus writes both records of a mailbox whenever it changes it.
const (
	fixRecords    = "any change of the mailbox, such as a SETACL, or Cyrus's reconstruct"
	fixUnreadable = "take the record from a backup: mailspine db get BACKUP KEY, mailspine db set FILE KEY VALUE"
	fixFiles      = "Cyrus's reconstruct, which takes it from cyrus.header"
)

func (c *checker) name(key, value []byte) error {
	rec, err := DecodeName(key, value)
	if err != nil {
		c.report("record-unreadable", finding.Damage, fixUnreadable, "%v", err)
		return nil
	}
	c.twice(key, value, fieldID)
	c.mailbox(rec)
	if rec.UniqueID == "" {
		return c.expectRACL(rec)
	}
	byID, err := c.v.entryByID(rec.UniqueID)
	switch {
	case errors.Is(err, ErrNotFound):
		if !rec.Type.Deleted() {
			c.report("id-missing", finding.Warning, fixRecords, "%s: there is no record under its unique id %s", rec.Name, rec.UniqueID)
		}
	case errors.Is(err, ErrRecord):
		// It is reported under its own key.
	case errors.Is(err, skiplist.ErrDamaged):
		// The other record may be behind the damage, which is reported at the end.
	case err != nil:
		return err
	case byID.Name != rec.Name:
		if !rec.Type.Deleted() {
			c.report("id-elsewhere", finding.Damage, fixUnreadable, "%s: its unique id %s is that of %s", rec.Name, rec.UniqueID, byID.Name)
		}
	default:
		if diff := difference(rec, byID); diff != "" {
			c.report("id-disagrees", finding.Warning, fixRecords, "%s: the record under the unique id has another %s", rec.Name, diff)
		}
	}
	return c.expectRACL(rec)
}

// difference names the first field in which the two records of a mailbox differ. Their times may: Cyrus looks at the clock
// for each.
func difference(a, b Record) string {
	switch {
	case a.Type != b.Type:
		return "type"
	case a.Partition != b.Partition:
		return "partition"
	case a.Server != b.Server:
		return "server"
	case a.UIDValidity != b.UIDValidity:
		return "uidvalidity"
	case a.CreatedModSeq != b.CreatedModSeq || a.FolderModSeq != b.FolderModSeq:
		return "modseq"
	case !slices.Equal(a.ACL, b.ACL):
		return "ACL"
	}
	return ""
}

// mailbox looks at one mailbox by itself.
func (c *checker) mailbox(rec Record) {
	l := c.v.l
	if err := l.ns().Validate(rec.Name); err != nil {
		c.report("name-invalid", finding.Warning, "", "%v", err)
	}
	if bad := unknownLetters(rec.Type); bad != "" {
		c.report("type-unknown", finding.Warning, "", "%s: type %q has the unknown letters %q", rec.Name, rec.Type, bad)
	}
	if rec.Type.Deleted() {
		return
	}
	for _, e := range rec.ACL {
		if _, err := l.opts.ACL.ParseRights(e.Rights); err != nil {
			c.report("acl-rights", finding.Warning, "", "%s: the rights of %q: %v", rec.Name, e.Identifier, err)
		}
		if err := checkIdentifier(e.Identifier); err != nil {
			c.report("acl-identifier", finding.Warning, "", "%s: %v", rec.Name, err)
		}
	}
	if rec.Type.Remote() || rec.Type.Intermediate() || rec.Type.Reserved() {
		return
	}
	if rec.UniqueID == "" {
		c.report("uniqueid-missing", finding.Warning, fixFiles, "%s has no unique id", rec.Name)
	} else if _, err := l.opts.Layout.Subdir(rec); err != nil {
		c.report("path-unsafe", finding.Damage, "", "%s: %v", rec.Name, err)
	}
	switch parts := l.opts.Layout.Partitions; {
	case rec.Partition == "":
		c.report("partition-missing", finding.Damage, fixUnreadable, "%s has no partition", rec.Name)
	case parts != nil && parts[rec.Partition].Data == "":
		c.report("partition-unknown", finding.Warning, "configure partition-"+rec.Partition, "%s lies on partition %q, which is not configured", rec.Name, rec.Partition)
	}
}

func unknownLetters(t Type) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(kindLetters+flagLetters, r) {
			return -1
		}
		return r
	}, string(t))
}

// twice looks for fields that stand more than once in a value that can be read: nobody writes that.
func (c *checker) twice(key, value []byte, identity string) {
	q := quick{s: string(value)}
	if _, _, plain := q.record(identity); plain {
		return
	}
	list, err := parseValue(key, value)
	if err != nil {
		return
	}
	seen := map[string]bool{}
	for _, item := range list.Items {
		if seen[item.Key()] {
			c.report("field-twice", finding.Warning, fixRecords, "key %q: field %s stands there more than once; the last counts", key, item.Key())
			return
		}
		seen[item.Key()] = true
	}
}

func (c *checker) id(key, value []byte) error {
	rec, err := DecodeID(key, value)
	if err != nil {
		c.report("record-unreadable", finding.Damage, fixUnreadable, "%v", err)
		return nil
	}
	c.twice(key, value, fieldName)
	named, err := c.v.Entry(rec.Name)
	switch {
	case errors.Is(err, ErrNotFound) || err == nil && named.UniqueID != rec.UniqueID:
		c.report("id-orphan", finding.Info, "", "unique id %s: %s is not a mailbox with this id", rec.UniqueID, rec.Name)
	case err != nil && !errors.Is(err, ErrRecord) && !errors.Is(err, skiplist.ErrDamaged):
		return err
	}
	return nil
}

// expectRACL looks for the reverse ACL keys of a mailbox.
func (c *checker) expectRACL(rec Record) error {
	if !c.racl {
		return nil
	}
	for _, id := range c.v.l.viewers(rec) {
		has, err := c.v.s.Has(raclKey(c.v.l.ns(), id, rec.Name))
		if errors.Is(err, skiplist.ErrDamaged) {
			return nil
		}
		if err != nil {
			return err
		}
		if !has {
			c.report("racl-missing", finding.Warning, fixRecords, "%s: %q does not find it by a reverse ACL key", rec.Name, id)
		}
	}
	return nil
}

// reverse looks at a reverse ACL key.
func (c *checker) reverse(key []byte) error {
	if string(key) == raclMarker {
		return nil
	}
	id, n, ok := splitRACL(key)
	if !ok {
		c.report("key-unknown", finding.Warning, "", "the key %q is not that of a reverse ACL", key)
		return nil
	}
	rec, err := c.v.Lookup(n)
	if errors.Is(err, skiplist.ErrDamaged) {
		return nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrRecord) {
		return err
	}
	if err != nil || !c.racl || !slices.Contains(c.v.l.viewers(rec), id) {
		c.report("racl-stale", finding.Warning, fixRecords, "a reverse ACL key shows %s to %q, who has no right to see it", n, id)
	}
	return nil
}
