package quota

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/planted"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// Options say how the quota roots of a store are opened. The zero value is useful.
type Options struct {
	// FS is the file system; the real one by default.
	FS vfs.FS
	// Logger hears what nobody is told otherwise.
	Logger *slog.Logger
	// ReadOnly refuses every change.
	ReadOnly bool
	// StateDir is where a [Keeper] keeps what has to outlive a crash; "mailspine/quota" in the configuration directory by default.
	StateDir string
	// Random supplies the random bits of a database; nil is a good source.
	Random func() uint64
}

// Root is one of the quota roots.
type Root struct {
	// Name is the internal name: "user.fred", "domain!user.fred", or "domain!" for all of a domain.
	Name string
	// Record is what is kept for it, unless Err is set.
	Record Record
	// Err says why the record cannot be read. It is a *[RootError].
	Err error
}

// LeftOver is a file that a change of a root left behind when it was cut off.
type LeftOver struct {
	// Root is the one that was being changed; it has the value of before.
	Root string
	Path string
}

// Roots is where the quota roots of a store are kept. Its methods may be called at once from many goroutines; other
// processes, Cyrus's own too, may use the roots at the same time.
type Roots struct {
	fs       vfs.FS
	kept     backend
	modSeqs  *modSeqs
	layout   mboxdb.Layout
	domains  bool
	readOnly bool
}

// backend keeps values under the names of roots. Names are checked before they come here.
type backend interface {
	// path is where the record of a root is.
	path(root string) string
	// get returns a value, or ErrNotFound.
	get(ctx context.Context, root string) ([]byte, error)
	// has tells whether a root exists, whatever is kept for it.
	has(ctx context.Context, root string) (bool, error)
	// all lists the roots that want says yes to, in bytewise order of their names; nil means all.
	all(ctx context.Context, want func(root string) bool) iter.Seq2[kept, error]
	// change puts another value in the place of one that exists, under the lock of the record.
	change(ctx context.Context, root string, urgent bool, edit edit) error
	// create puts a value where there is none; edit hears of an existing one and may refuse.
	create(ctx context.Context, root string, edit edit) error
	// remove removes a root.
	remove(ctx context.Context, root string) error
	// prepare sees to it that a change will find space.
	prepare(ctx context.Context) error
	leftOvers(ctx context.Context) ([]LeftOver, error)
	removeLeftOver(ctx context.Context, left LeftOver) error
	close() error
}

// kept is a root as a backend finds it; err is why there is no value.
type kept struct {
	root, path string
	value      []byte
	err        error
}

// edit makes the new value of an old one, which is nil if there is none. A new one that is nil leaves the old one. lowers says that
// the change may take the space that is kept for those who free some.
type edit func(old []byte) (value []byte, lowers bool, err error)

// OpenRoots opens the quota roots of the store that c describes. It touches no file yet.
func OpenRoots(_ context.Context, c *imapdconf.Config, o Options) (*Roots, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.FS = vfs.OrOS(o.FS)
	modSeqs := newModSeqs(c, o)
	r := &Roots{fs: o.FS, modSeqs: modSeqs, layout: modSeqs.layout, domains: c.Enum("virtdomains") != "off", readOnly: o.ReadOnly}
	path := c.Path("quota_db_path")
	switch engine := strings.TrimSuffix(c.String("quota_db"), "-nosync"); engine {
	case "quotalegacy":
		r.kept = newFiles(o, filepath.Dir(path), c.Prepared(), r.domains, c.Bool("fulldirhash"))
	case string(skiplist.Skiplist), string(skiplist.Twoskip), string(skiplist.Flat):
		opts := skiplist.Options{FS: o.FS, Logger: o.Logger, ReadOnly: o.ReadOnly, Random: o.Random, Skipstamp: c.Skipstamp(), Prepared: c.Prepared()}
		if c.Bool("improved_mboxlist_sort") {
			opts.Order = skiplist.MailboxOrder
		}
		r.kept = &database{file: path, engine: skiplist.Format(engine), opts: opts}
	default:
		return nil, fmt.Errorf("quota_db: %s: %w", engine, ErrUnsupported)
	}
	return r, nil
}

// Close closes the roots.
func (r *Roots) Close() error { return errors.Join(r.kept.close(), r.modSeqs.close()) }

// CheckName fails with ErrName if no root can have the name.
func CheckName(root string) error {
	domain, rest, _ := strings.Cut(root, "!")
	switch {
	case root == "", domain == "", rest == "." || rest == "..", root == "." || root == "..", domain == "." || domain == "..",
		strings.ContainsAny(root, "/\x00\r\n"):
		return fmt.Errorf("%q: %w", root, ErrName)
	}
	return nil
}

// Get returns the record of a root. The error is a *[RootError]: ErrNotFound, ErrEmpty, ErrDamaged, or why it cannot be read.
func (r *Roots) Get(ctx context.Context, root string) (Record, error) {
	if err := CheckName(root); err != nil {
		return Record{}, rootError(root, "", err)
	}
	value, err := r.kept.get(ctx, root)
	if err == nil {
		var rec Record
		if rec, err = ParseRecord(value); err == nil {
			return rec, nil
		}
	}
	return Record{}, rootError(root, r.kept.path(root), err)
}

// All lists the roots in bytewise order of their names. One whose record cannot be read is among them, with its error. An error
// of the list itself means that there may be more roots than were listed.
func (r *Roots) All(ctx context.Context) iter.Seq2[Root, error] { return r.Some(ctx, nil) }

// Some is All for the roots to whose names want says yes: the records of the others are not read.
func (r *Roots) Some(ctx context.Context, want func(root string) bool) iter.Seq2[Root, error] {
	return func(yield func(Root, error) bool) {
		for k, err := range r.kept.all(ctx, want) {
			if err != nil {
				yield(Root{}, fmt.Errorf("quota roots: %w", err))
				return
			}
			if errors.Is(k.err, ErrNotFound) {
				continue // it was removed after it was listed
			}
			root := Root{Name: k.root, Err: k.err}
			if root.Err == nil {
				root.Record, root.Err = ParseRecord(k.value)
			}
			root.Err = rootError(k.root, k.path, root.Err)
			if !yield(root, nil) {
				return
			}
		}
	}
}

// Exists tells whether there is a root of that name. What its record says is not looked at, nor does Cyrus.
func (r *Roots) Exists(ctx context.Context, root string) (bool, error) {
	if CheckName(root) != nil {
		return false, nil
	}
	found, err := r.kept.has(ctx, root)
	return found, rootError(root, r.kept.path(root), err)
}

// Owner returns the root that counts for a mailbox, by its internal name: the longest that is the name or above it; "" if
// there is none.
func (r *Roots) Owner(ctx context.Context, mailbox string) (string, error) {
	domain, name := "", mailbox
	if i := strings.IndexByte(name, '!'); i >= 0 && r.domains {
		domain, name = name[:i+1], name[i+1:]
	}
	for root := name; root != ""; {
		if found, err := r.Exists(ctx, domain+root); err != nil || found {
			return ifFound(domain+root, err)
		}
		i := strings.LastIndexByte(root, '.')
		if planted.On(planted.QuotaNeighbours) {
			i = len(root) - 1
		}
		root = root[:max(i, 0)]
	}
	if domain == "" {
		return "", nil
	}
	if found, err := r.Exists(ctx, domain); err != nil || found {
		return ifFound(domain, err)
	}
	return "", nil
}

func ifFound(root string, err error) (string, error) {
	if err != nil {
		return "", fmt.Errorf("quota roots: %w", err)
	}
	return root, nil
}

// Update has change change the record of a root, under the lock of the record, and writes it with the next ModSeq if anything
// differs; it returns what is kept then. A root that does not exist is not made: ErrNotFound. change must be quick and must
// not use the roots.
//
// If there is no space the error is ErrNoSpace and the old record stays; a record whose usage only shrinks is written all the same,
// where space was prepared. The commit point is the rename of the new file, or the commit of the database.
func (r *Roots) Update(ctx context.Context, root string, change func(*Record) error) (Record, error) {
	return r.update(ctx, root, false, change)
}

// Finish is [Roots.Update] for the account of what has happened already, and cannot be refused any more: it may use the space that is
// kept for changes that free some, whatever it changes.
func (r *Roots) Finish(ctx context.Context, root string, change func(*Record) error) (Record, error) {
	return r.update(ctx, root, true, change)
}

func (r *Roots) update(ctx context.Context, root string, urgent bool, change func(*Record) error) (rec Record, err error) {
	if err := r.mayChange(root); err != nil {
		return Record{}, err
	}
	err = r.kept.change(ctx, root, urgent, func(old []byte) (value []byte, lowers bool, err error) {
		was, err := ParseRecord(old)
		if err != nil {
			return nil, false, err
		}
		rec = was.copied()
		if err := change(&rec); err != nil {
			return nil, false, err
		}
		if rec.ModSeq = was.ModSeq; rec.same(&was) {
			return nil, false, nil
		}
		value, err = r.next(ctx, root, &rec)
		return value, rec.lowers(&was), err
	})
	if err != nil {
		return Record{}, rootError(root, r.kept.path(root), writeError(err))
	}
	return rec, nil
}

// mayChange fails if the roots, or one of this name, cannot be changed.
func (r *Roots) mayChange(root string) error {
	err := CheckName(root)
	if err == nil && r.readOnly {
		err = ErrReadOnly
	}
	if err != nil {
		return rootError(root, "", err)
	}
	return nil
}

// next gives a changed record its ModSeq and makes its value, which is read back: what is written is what was meant.
func (r *Roots) next(ctx context.Context, root string, rec *Record) ([]byte, error) {
	if err := rec.check(); err != nil {
		return nil, err
	}
	rec.ModSeq = r.modSeqs.next(ctx, root, rec.ModSeq)
	value := rec.Append(nil)
	read, err := ParseRecord(value)
	if err != nil {
		return nil, fmt.Errorf("the new record: %w", err)
	}
	if !read.same(rec) {
		return nil, errors.New("the new record does not say what it should")
	}
	*rec = read
	return value, nil
}

// lowers tells whether a record says that less is used than was said before, and nothing else.
func (r *Record) lowers(was *Record) bool {
	less := false
	for i := range Resources {
		if r.Used[i] > was.Used[i] {
			return false
		}
		less = less || r.Used[i] < was.Used[i]
	}
	return less && r.Limits == was.Limits
}

// Prepare sees to it that a change of a root will find space, and fails with ErrNoSpace if that cannot be promised.
func (r *Roots) Prepare(ctx context.Context) error {
	if r.readOnly {
		return ErrReadOnly
	}
	return writeError(r.kept.prepare(ctx))
}

// LockChanges takes the lock under which roots are made and removed ($QUOTACHANGE). It is the outermost of all: who holds any
// other has to give it back first.
func (r *Roots) LockChanges(ctx context.Context) (*locks.Held, error) {
	return locks.Acquire(ctx, r.fs, vfs.Exclusively, r.layout.LockPath("$QUOTACHANGE"))
}

// Create makes a root. The caller holds the lock of [Roots.LockChanges]. A root whose record is empty, as a creation that was cut
// off leaves it, is made anew; any other one is ErrExists.
func (r *Roots) Create(ctx context.Context, root string, rec Record) error {
	if err := r.mayChange(root); err != nil {
		return err
	}
	err := r.kept.create(ctx, root, func(old []byte) (value []byte, lowers bool, err error) {
		if old != nil {
			if _, err := ParseRecord(old); !errors.Is(err, ErrEmpty) {
				return nil, false, ErrExists
			}
		}
		made := rec.copied()
		value, err = r.next(ctx, root, &made)
		return value, false, err
	})
	return rootError(root, r.kept.path(root), writeError(err))
}

// Delete removes a root. The caller holds the lock of [Roots.LockChanges], and has seen to it that no mailbox counts for the root
// any more. If the disk fails in the end it is unknown whether the root comes back after a crash: ErrCommitUnknown.
func (r *Roots) Delete(ctx context.Context, root string) error {
	if err := r.mayChange(root); err != nil {
		return err
	}
	return rootError(root, r.kept.path(root), writeError(r.kept.remove(ctx, root)))
}

// LeftOvers lists the files that were left behind by changes that were cut off. They are no roots, although Cyrus takes them for
// some, and the next change of the root removes them.
func (r *Roots) LeftOvers(ctx context.Context) ([]LeftOver, error) { return r.kept.leftOvers(ctx) }

// RemoveLeftOver removes one, under the lock of its root.
func (r *Roots) RemoveLeftOver(ctx context.Context, left LeftOver) error {
	if err := r.mayChange(left.Root); err != nil {
		return err
	}
	return rootError(left.Root, left.Path, r.kept.removeLeftOver(ctx, left))
}
