package mboxdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"slices"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// Errors of the list. Those of package skiplist (ErrNoSpace, ErrDamaged, ErrCommitUnknown and others) come through.
var (
	// ErrNotFound means that there is no such mailbox.
	ErrNotFound = errors.New("no such mailbox")
	// ErrExists means that there is a mailbox of this name already.
	ErrExists = errors.New("the mailbox exists")
	// ErrUpgradeFirst means that the list is in the form of a Cyrus before 3.6, which is read only: see Upgrade.
	ErrUpgradeFirst = errors.New("the list is in an old form: it has to be upgraded before it is changed")
)

// Options say how a list is opened. The zero value opens an existing one in a server's plain namespace, without locks.
type Options struct {
	// DB opens the database file.
	DB skiplist.Options
	// NewFormat is the format of a list that is made or still empty, unless DB.Format says which it has to have.
	NewFormat skiplist.Format
	// Layout tells where mailboxes lie and how their names read. With a ConfigDir or LockDir changes take Cyrus's locks
	// of the users whose mailboxes they touch.
	Layout Layout
	// Admins are the administrators (admins), who see everything and have no reverse ACL keys.
	Admins []string
	// ReverseACLs has a new list keep reverse ACL keys; an existing one keeps them if it has the mark for it.
	ReverseACLs bool
	// DefaultPartition is for new mailboxes that name none (defaultpartition); by default "default".
	DefaultPartition string
	// DefaultACL is the ACL of new mailboxes that have nothing above them (defaultacl); by default "anyone lrs".
	DefaultACL ACL
	// ACL says what the old rights mean.
	ACL ACLRules
	// NextModSeq returns the modification sequence for a change of a mailbox as such; last is the mailbox's. By default
	// it is the next number, as in a Cyrus without conversations.
	NextModSeq func(n Name, last uint64) (uint64, error)
	// NewID returns a new unique id; by default 24 random characters, as in Debian's Cyrus.
	NewID func() string
}

// List is an open mailbox list. Its methods may be called at once from many goroutines, and other processes, Cyrus's
// own too, may use the file at the same time.
type List struct {
	db   *skiplist.DB
	opts Options
	form Form
	// turn is held (full) during a change, so that those who watch hear of changes in the order of the commits.
	turn chan struct{}
	hub  hub
}

// Open opens the list in the database file at path. A list in an old form is opened for reading only.
func Open(ctx context.Context, path string, opts Options) (*List, error) {
	opts = opts.withDefaults()
	if info, err := opts.DB.FS.Stat(path); opts.DB.Format == skiplist.Auto && (errors.Is(err, fs.ErrNotExist) || err == nil && info.Size == 0) {
		opts.DB.Format = opts.NewFormat
	}
	db, err := skiplist.Open(ctx, path, opts.DB)
	if err != nil {
		return nil, fmt.Errorf("open mailbox list: %w", err)
	}
	l := &List{db: db, opts: opts, turn: make(chan struct{}, 1)}
	if err := l.learn(ctx); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open mailbox list %s: %w", path, err)
	}
	return l, nil
}

func (o Options) withDefaults() Options {
	if o.DefaultPartition == "" {
		o.DefaultPartition = "default"
	}
	if o.DefaultACL == nil {
		o.DefaultACL = ACL{{"anyone", "lrs"}}
	}
	if o.NextModSeq == nil {
		o.NextModSeq = func(_ Name, last uint64) (uint64, error) { return last + 1, nil }
	}
	if o.NewID == nil {
		random := o.DB.Random
		if random == nil {
			random = rand.Uint64
		}
		o.NewID = func() string { return newID(random) }
	}
	if o.DB.FS == nil {
		o.DB.FS = vfs.OS()
	}
	return o
}

// idLetters are those of unique ids.
const idLetters = "0123456789abcdefghijklmnopqrstuvwxyz"

func newID(random func() uint64) string {
	b := make([]byte, 24)
	for i := range b {
		b[i] = idLetters[random()%uint64(len(idLetters))]
	}
	return string(b)
}

// learn finds out the form of the list.
func (l *List) learn(ctx context.Context) error {
	err := l.db.View(ctx, func(s *skiplist.Snapshot) (err error) {
		l.form, err = formOf(s)
		return err
	})
	if l.opts.DB.AllowDamaged && errors.Is(err, skiplist.ErrDamaged) {
		return nil
	}
	return err
}

// formOf tells the form by the first key that gives it away. A value that begins with the field T is of the new form;
// all others are old. (Cyrus 3.6 looks at the keys alone, and takes an old list with a shared mailbox "News" for new.)
func formOf(s *skiplist.Snapshot) (Form, error) {
	for r, err := range s.All() {
		if err != nil {
			return Form36, err
		}
		if form, ok := formOfRecord(r.Key, r.Value); ok {
			return form, nil
		}
	}
	return Form36, nil
}

func formOfRecord(key, value []byte) (form Form, ok bool) {
	switch {
	case len(key) > 0 && key[0] == '$':
		return Form25, true // the marks of reverse ACLs and of unique ids, which 3.6 puts elsewhere
	case len(value) == 0:
		return Form36, len(key) > 1 && key[0] == raclClass && (key[1] == 'U' || key[1] == 'S')
	case value[0] != '%':
		_, err := decode20(key, value)
		return Form20, err == nil
	}
	list, err := parseValue(key, value)
	if err != nil || list.Len() == 0 {
		return Form36, false
	}
	if first := list.At(0).Key(); first == fieldType {
		return Form36, true
	}
	return Form25, list.Get(fieldACL) != nil || list.Get(fieldPartition) != nil
}

// Close closes the list.
func (l *List) Close() error {
	l.hub.close()
	return l.db.Close()
}

// Form is the form in which the list is kept.
func (l *List) Form() Form { return l.form }

// DB is the database under the list.
func (l *List) DB() *skiplist.DB { return l.db }

// Layout is where mailboxes lie.
func (l *List) Layout() Layout { return l.opts.Layout }

func (l *List) ns() Namespace { return l.opts.Layout.Namespace }

// store is what a snapshot and a transaction of the database have in common.
type store interface {
	Get(key []byte) ([]byte, error)
	Has(key []byte) (bool, error)
	Prefix(prefix []byte) iter.Seq2[skiplist.Record, error]
	Range(from, to []byte) iter.Seq2[skiplist.Record, error]
	All() iter.Seq2[skiplist.Record, error]
}

// View calls fn with the list as it is at one moment. The view is valid until fn returns.
func (l *List) View(ctx context.Context, fn func(*View) error) error {
	return l.db.View(ctx, func(s *skiplist.Snapshot) error { return fn(&View{l: l, s: s}) })
}

// Lookup returns the mailbox of a name as it is now; see [View.Lookup].
func (l *List) Lookup(ctx context.Context, n Name) (rec Record, err error) {
	err = l.View(ctx, func(v *View) error {
		rec, err = v.Lookup(n)
		return err
	})
	return rec, err
}

// LookupID returns the mailbox of a unique id as it is now; see [View.LookupID].
func (l *List) LookupID(ctx context.Context, id string) (rec Record, err error) {
	err = l.View(ctx, func(v *View) error {
		rec, err = v.LookupID(id)
		return err
	})
	return rec, err
}

// View is the list at one moment.
type View struct {
	l *List
	s store
}

// Lookup returns the mailbox of a name. A tombstone, and a name that is only reserved, are ErrNotFound, and returned
// with it.
func (v *View) Lookup(n Name) (Record, error) {
	rec, err := v.Entry(n)
	if err == nil && (rec.Type.Deleted() || rec.Type.Reserved()) {
		err = fmt.Errorf("%s: %w", n, ErrNotFound)
	}
	return rec, err
}

// Entry returns what stands in the list under a name, tombstones too.
func (v *View) Entry(n Name) (Record, error) {
	key := nameKey(n)
	if v.l.form != Form36 {
		key = []byte(n.String())
	}
	value, err := v.s.Get(key)
	if errors.Is(err, skiplist.ErrNotFound) {
		return Record{}, absent(n.String(), err)
	}
	if value == nil && err != nil {
		return Record{}, err
	}
	rec, decodeErr := v.decode(key, value)
	return rec, errors.Join(decodeErr, err)
}

func (v *View) decode(key, value []byte) (Record, error) {
	if v.l.form != Form36 {
		rec, _, err := DecodeOld(key, value)
		return rec, err
	}
	return DecodeName(key, value)
}

func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }

// LookupID returns the mailbox of a unique id, with its former names. In a list of an old form all records are read
// for it.
func (v *View) LookupID(id string) (Record, error) {
	if v.l.form != Form36 {
		return v.scanForID(id)
	}
	rec, err := v.entryByID(id)
	if err == nil && rec.Type.Deleted() {
		err = fmt.Errorf("unique id %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return rec, err
	}
	// Cyrus leaves such a record behind when it forgets a mailbox: only the one under the name makes it live.
	named, err := v.Lookup(rec.Name)
	if err == nil && named.UniqueID != id {
		err = fmt.Errorf("unique id %s: %w", id, ErrNotFound)
	}
	return rec, err
}

func (v *View) entryByID(id string) (Record, error) {
	key := idKey(id)
	value, err := v.s.Get(key)
	if errors.Is(err, skiplist.ErrNotFound) || id == "" {
		return Record{}, absent("unique id "+id, err)
	}
	if value == nil && err != nil {
		return Record{}, err
	}
	rec, decodeErr := DecodeID(key, value)
	return rec, errors.Join(decodeErr, err)
}

// absent is the error for a record that is not there. In a damaged list that is no answer, as the record may be behind the
// damage: who took it for one would send an operator looking elsewhere, or remove files that somebody needs.
func absent(what string, err error) error {
	if errors.Is(err, skiplist.ErrDamaged) {
		return fmt.Errorf("%s is not in what can be read of the list: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, ErrNotFound)
}

func (v *View) scanForID(id string) (Record, error) {
	for rec, err := range v.All() {
		if err != nil {
			return rec, err
		}
		if rec.UniqueID == id && id != "" {
			return rec, nil
		}
	}
	return Record{}, fmt.Errorf("unique id %s: %w", id, ErrNotFound)
}

// All yields every mailbox, in the order of the names. A record that cannot be read comes as an error of class
// ErrRecord, and the iteration goes on.
func (v *View) All() iter.Seq2[Record, error] { return v.entries("", false) }

// Entries is All with tombstones and reserved names.
func (v *View) Entries() iter.Seq2[Record, error] { return v.entries("", true) }

// Below yields the mailboxes below n, at any depth.
func (v *View) Below(n Name) iter.Seq2[Record, error] {
	return v.entries(n.db+string(levelSep), false)
}

// InDomain yields the mailboxes of a domain. Those of the default domain have none in their names, and cannot be asked for.
func (v *View) InDomain(domain string) iter.Seq2[Record, error] {
	return v.entries(domain+string(domainSep), false)
}

// UserMailboxes yields a user's INBOX and all mailboxes below it.
func (v *View) UserMailboxes(user string) iter.Seq2[Record, error] {
	inbox := v.l.ns().UserInbox(user)
	return func(yield func(Record, error) bool) {
		rec, err := v.Lookup(inbox)
		if !errors.Is(err, ErrNotFound) && !yield(rec, err) {
			return
		}
		for rec, err := range v.Below(inbox) {
			if !yield(rec, err) {
				return
			}
		}
	}
}

// Children yields the mailboxes right below n. What lies deeper is read over.
func (v *View) Children(n Name) iter.Seq2[Record, error] {
	depth := len(n.Levels()) + 1
	return func(yield func(Record, error) bool) {
		for rec, err := range v.Below(n) {
			if err == nil && len(rec.Name.Levels()) != depth {
				continue
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

// entries yields the records whose names, in the spelling of the database, begin with prefix.
func (v *View) entries(prefix string, all bool) iter.Seq2[Record, error] {
	return v.read(v.s.Prefix(v.keyPrefix(prefix)), all)
}

// keyPrefix is what the keys of names begin with that begin with prefix.
func (v *View) keyPrefix(prefix string) []byte {
	if v.l.form != Form36 {
		return []byte(Name{prefix}.String())
	}
	return append([]byte{nameClass}, prefix...)
}

// isMark tells a key that is not a name, in a list of an old form.
func (v *View) isMark(key []byte) bool {
	return v.l.form != Form36 && len(key) > 0 && key[0] == '$'
}

// entriesExcept is entries without those that begin with except, which are not read.
func (v *View) entriesExcept(prefix, except string) iter.Seq2[Record, error] {
	if v.l.form != Form36 {
		return v.entries(prefix, false) // old lists need not be in an order that allows it
	}
	begin, from := v.keyPrefix(prefix), v.keyPrefix(except)
	to := slices.Clone(from)
	to[len(to)-1]++
	return func(yield func(Record, error) bool) {
		for _, part := range [2]iter.Seq2[skiplist.Record, error]{v.s.Range(begin, from), v.s.Range(to, nil)} {
			inside := func(yield func(skiplist.Record, error) bool) {
				for r, err := range part {
					if err == nil && !bytes.HasPrefix(r.Key, begin) {
						return
					}
					if !yield(r, err) {
						return
					}
				}
			}
			for rec, err := range v.read(inside, false) {
				if !yield(rec, err) {
					return
				}
			}
		}
	}
}

// read decodes the records of names.
func (v *View) read(records iter.Seq2[skiplist.Record, error], all bool) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for r, err := range records {
			if err != nil {
				yield(Record{}, err)
				return
			}
			if v.isMark(r.Key) {
				continue
			}
			rec, err := v.decode(r.Key, r.Value)
			if err == nil && !all && (rec.Type.Deleted() || rec.Type.Reserved()) {
				continue
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}
