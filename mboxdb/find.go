package mboxdb

import (
	"iter"
	"slices"
	"strings"
)

// Viewer is who lists mailboxes: the user of the namespace, with the groups ("group:NAME") that the user is in.
type Viewer struct {
	Namespace Namespace
	Groups    []string
}

// Listed is one line of a LIST.
type Listed struct {
	// Name is the name as the viewer sees it.
	Name string
	// Record is the mailbox; it is zero if Exists is false.
	Record Record
	// Exists is false for a level that has only others below it.
	Exists bool
	// HasChildren tells whether anything that was looked at lies below.
	HasChildren bool
}

// List yields the mailboxes that a viewer may see and whose names match one of the patterns, and the levels above others
// that match, as IMAP's LIST answers: first one's own, then those of other users, then the shared ones, and for an admin
// the deleted ones. It needs no memory for what it has yielded.
//
// An empty pattern alone asks for the separator, as in IMAP: the one answer is the zero Listed, to be sent as \Noselect with
// the separator of the viewer's namespace.
func (v *View) List(viewer Viewer, patterns ...string) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		if len(patterns) == 1 && patterns[0] == "" {
			yield(Listed{}, nil)
			return
		}
		f := &finder{v: v, viewer: viewer, yield: yield}
		for _, p := range patterns {
			f.patterns = append(f.patterns, newPattern(p, viewer.Namespace.Separator()))
		}
		for _, c := range f.categories() {
			// A folder is told from one in another category of the same name; but one's own are one tree.
			if part := c == catInboxSub || c == catOwn && !viewer.Namespace.isAlt(); !part && !f.flush() || !f.search(c) {
				return
			}
		}
		f.flush()
	}
}

// category is a part of the names, in the order of LIST.
type category int

const (
	catInbox    category = iota // the INBOX
	catInboxSub                 // below a folder INBOX, in the alternate namespace
	catOwn                      // below the INBOX
	catAltInbox                 // those of one's own that need the alternate prefix
	catOther                    // other users'
	catShared
	catDeleted
)

func (f *finder) categories() []category {
	switch ns := f.viewer.Namespace; {
	case ns.Admin:
		return []category{catOther, catShared, catDeleted}
	case ns.User == "" || ns.hasSeparator():
		return []category{catOther, catShared}
	case ns.isAlt():
		return []category{catInbox, catInboxSub, catOwn, catAltInbox, catOther, catShared}
	}
	return []category{catInbox, catOwn, catOther, catShared}
}

// hasSeparator tells a user whose name holds the separator. Cyrus shows such a user no mailboxes of the user's own.
func (ns Namespace) hasSeparator() bool {
	local, _ := ns.splitUser(ns.User)
	return strings.IndexByte(local, ns.Separator()) >= 0
}

// categoryOf is where a name belongs.
func (ns Namespace) categoryOf(p parts) category {
	switch {
	case !p.hasUser && p.deleted == 0:
		return catShared
	case p.deleted != 0:
		return catDeleted
	case !ns.owned(p) || ns.Admin:
		return catOther
	case len(p.levels) == 0:
		return catInbox
	case ns.isAlt() && p.levels[0] == "INBOX" && len(p.levels) > 1:
		return catInboxSub
	case ns.isAlt() && ns.needsAltPrefix(p.levels):
		return catAltInbox
	}
	return catOwn
}

type finder struct {
	v        *View
	viewer   Viewer
	patterns []pattern
	yield    func(Listed, error) bool
	// last is what is yielded when the next is known: whether it has children shows then.
	last    Listed
	pending bool
}

// search yields what matches in one category; it is false if the caller has stopped.
func (f *finder) search(c category) bool {
	for rec, err := range f.candidates(c) {
		if err != nil {
			if !f.yield(Listed{}, err) {
				return false
			}
			continue
		}
		if !f.consider(c, rec) {
			return false
		}
	}
	return true
}

// candidates are the records among which a category is found.
func (f *finder) candidates(c category) iter.Seq2[Record, error] {
	ns := f.viewer.Namespace
	inbox := ns.UserInbox(ns.User)
	switch c {
	case catInbox:
		return f.lookup([]Name{inbox}, nil)
	case catInboxSub, catOwn, catAltInbox:
		return f.v.entries(inbox.db+string(levelSep), false)
	}
	if !ns.Admin {
		if names, ok, err := f.visible(c); ok || err != nil {
			return f.lookup(names, err)
		}
	}
	prefix := f.prefix(c)
	if c != catShared || len(prefix) >= len(userLevel) {
		return f.v.entries(prefix, false)
	}
	// Users' mailboxes, which are most, need not be read to find the shared ones. With domains they stand in many places.
	return f.v.entriesExcept(prefix, userLevel+string(levelSep))
}

// prefix is what the names of a category that can match begin with, in the spelling of the database.
func (f *finder) prefix(c category) string {
	ns := f.viewer.Namespace
	if ns.VirtDomains && ns.Admin || ns.crosses() {
		return "" // domains come first in the database, and last in names
	}
	domain := ""
	if _, own := ns.splitUser(ns.User); own != "" {
		domain = own + string(domainSep)
	}
	above := ""
	if c == catOther {
		above = userLevel + string(levelSep)
	}
	if len(f.patterns) != 1 {
		return domain + above
	}
	literal := f.patterns[0].literal()
	switch {
	case c == catOther && ns.isAlt():
		literal = strings.TrimPrefix(literal, ns.userPrefix()+string(ns.Separator()))
	case c == catOther:
		literal = strings.TrimPrefix(literal, userLevel+string(ns.Separator()))
	case c == catShared && ns.isAlt():
		literal = strings.TrimPrefix(literal, ns.sharedPrefix()+string(ns.Separator()))
	}
	if c == catDeleted || literal == f.patterns[0].literal() && (c == catOther || ns.isAlt()) {
		return domain + above
	}
	db := []byte(literal)
	for i, ch := range db {
		switch {
		case ch == ns.Separator():
			db[i] = levelSep
		case ch == '^':
			db[i] = '.'
		}
	}
	return domain + above + string(db)
}

// visible lists the names of a category by the reverse ACL keys of the viewer; ok is false if the list has none.
func (f *finder) visible(c category) (names []Name, ok bool, err error) {
	if f.v.l.form != Form36 {
		return nil, false, nil
	}
	if ok, err = f.v.s.Has([]byte(raclMarker)); err != nil || !ok {
		return nil, false, err
	}
	class := "AS"
	if c == catOther {
		class = "AU"
	}
	for _, id := range append([]string{f.viewer.Namespace.User, "anyone"}, f.viewer.Groups...) {
		if id == "" {
			continue
		}
		for r, err := range f.v.s.Prefix([]byte(class + string(recordSep) + id + string(recordSep))) {
			if err != nil {
				return nil, true, err
			}
			if _, n, ok := splitRACL(r.Key); ok {
				names = append(names, n)
			}
		}
	}
	slices.SortFunc(names, func(a, b Name) int { return strings.Compare(a.db, b.db) })
	return slices.Compact(names), true, nil
}

func (f *finder) lookup(names []Name, err error) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err != nil {
			yield(Record{}, err)
			return
		}
		for _, n := range names {
			rec, err := f.v.Lookup(n)
			if rec.Type.Deleted() || rec.Name.IsZero() && err != nil && isNotFound(err) {
				continue // a key that was left behind
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

// consider looks at one mailbox; it is false if the caller has stopped.
func (f *finder) consider(c category, rec Record) bool {
	ns := f.viewer.Namespace
	p := ns.take(rec.Name)
	if ns.categoryOf(p) != c || !f.maySee(rec, p) {
		return true
	}
	name, ok := ns.External(rec.Name)
	if !ok {
		return true
	}
	matched, levels := 0, false
	for _, pat := range f.patterns {
		if n := pat.match(name); n > matched {
			matched = n
		}
		levels = levels || pat.levels && len(f.patterns) == 1
	}
	if matched == 0 {
		return true
	}
	if levels {
		for i := range matched {
			if name[i] == ns.Separator() && f.patterns[0].match(name[:i]) == i && !f.emit(name[:i], Record{}) {
				return false
			}
		}
	}
	if matched < len(name) {
		return f.emit(name[:matched], Record{})
	}
	return f.emit(name, rec)
}

// maySee tells whether the viewer may see a mailbox. Mailboxes that are not for mail are an admin's to see.
func (f *finder) maySee(rec Record, p parts) bool {
	ns := f.viewer.Namespace
	if ns.Admin {
		return true
	}
	if rec.Type.Intermediate() || !strings.HasPrefix(string(rec.Type), string(Mail)) {
		return false
	}
	if _, own := ns.splitUser(ns.User); !ns.CrossDomains && p.domain != own {
		return false
	}
	return f.v.l.opts.ACL.MyRights(rec.ACL, ns.User, f.viewer.Groups)&RightLookup != 0
}

// emit holds a line back until the next one is known. A zero record stands for a level that was not found itself.
func (f *finder) emit(name string, rec Record) bool {
	if f.pending {
		last, sep := f.last.Name, f.viewer.Namespace.Separator()
		switch {
		case last == name:
			f.last.HasChildren = f.last.HasChildren || rec.Name.IsZero()
			return true
		case len(last) > len(name) && last[len(name)] == sep && strings.HasPrefix(last, name):
			return true // it was there before its children
		case len(name) > len(last) && name[len(last)] == sep && strings.HasPrefix(name, last):
			f.last.HasChildren = true
		}
		if !f.flush() {
			return false
		}
	}
	exists := !rec.Name.IsZero() && !rec.Type.Intermediate()
	f.last = Listed{Name: name, Record: rec, Exists: exists, HasChildren: rec.Name.IsZero()}
	f.pending = true
	return true
}

// flush yields what was held back. What does not exist and has nothing below it is not worth a line.
func (f *finder) flush() bool {
	if !f.pending {
		return true
	}
	f.pending = false
	if !f.last.Exists && !f.last.HasChildren {
		return true
	}
	return f.yield(f.last, nil)
}
