package mboxdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// UpgradeOptions say how to upgrade.
type UpgradeOptions struct {
	Options
	// Identify finds out the unique id and the UIDVALIDITY of a mailbox whose record has none, from its files. If it is
	// nil, or does not know, the record stays without.
	Identify func(Record) (id string, uidValidity uint32, err error)
	// Keep is the name under which the old file stays; by default the name of the list with ".before-upgrade" behind.
	Keep string
	// DryRun reads and reports as ever, makes the new list in memory, and writes nothing.
	DryRun bool
}

// Upgraded reports what an upgrade did.
type Upgraded struct {
	// From is the form that the list had. Records is how many mailboxes and tombstones it has.
	From    Form
	Records int
	// Kept is where the old file is, or would be.
	Kept string
	// Findings are the records that could not be read, which were taken over as they were, and those without unique id.
	Findings []Finding
}

// Upgrade rewrites a list in an old form in the form of Cyrus 3.6, with the same engine. Nothing is dropped. Nobody
// can change the old list while it is being read and until the new one is in its place. A list that has the new form is left alone.
//
// What is on the disk after a crash: the old list, and perhaps the new one complete or not under other names (one of which
// the next upgrade uses again); or, from the rename on, the new list, and the old one under the name of Kept.
func Upgrade(ctx context.Context, path string, opts UpgradeOptions) (Upgraded, error) {
	opts.Options = opts.Options.withDefaults()
	if opts.Keep == "" {
		opts.Keep = path + ".before-upgrade"
	}
	u := &upgrader{path: path, opts: opts, fs: opts.DB.FS}
	err := u.run(ctx)
	if err != nil {
		return Upgraded{}, fmt.Errorf("upgrade mailbox list: %w", err)
	}
	return u.done, nil
}

type upgrader struct {
	path string
	opts UpgradeOptions
	fs   vfs.FS
	done Upgraded
}

func (u *upgrader) run(ctx context.Context) error {
	if dir := u.opts.Layout.ConfigDir; dir != "" && !u.opts.DryRun {
		// Cyrus's own lock for conversions: two upgrades at once would get into each other's way.
		held, err := locks.Acquire(ctx, u.fs, vfs.Exclusively, filepath.Join(dir, "lock", "cyrusdb_convert.lock"))
		if err != nil {
			return err
		}
		defer held.Release()
	}
	held, err := u.hold(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = held.Close() }()
	list, err := u.read(ctx)
	if err != nil || list.form == Form36 {
		return err
	}
	u.done.From, u.done.Records = list.form, len(list.records)+len(list.raw)
	if u.opts.DryRun {
		return u.plan(list)
	}
	temp := u.path + ".upgrade"
	if err := u.fs.Unlink(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = u.write(ctx, temp, list)
	_ = u.fs.Unlink(temp) // if it stays the next upgrade removes it
	return err
}

// plan goes the way of write as far as that is possible without writing.
func (u *upgrader) plan(list oldList) error {
	opts := u.opts.Options
	opts.ReverseACLs = opts.ReverseACLs || list.racl
	t, err := newDraft(opts, draft{})
	if err == nil {
		err = t.putAll(list.records)
	}
	if err != nil {
		return err
	}
	u.done.Kept = u.opts.Keep
	if _, err := u.kept(); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// hold takes the shared lock of the old file: others may read it until it is replaced, nobody may change it.
func (u *upgrader) hold(ctx context.Context) (vfs.File, error) {
	for {
		f, err := u.fs.Open(u.path, vfs.ReadOnly, 0)
		if err != nil {
			return nil, err
		}
		var held, named vfs.Info
		if err = f.Lock(ctx, vfs.Shared); err == nil {
			if held, err = f.Stat(); err == nil {
				named, err = u.fs.Stat(u.path)
			}
		}
		if err == nil && held.SameFile(named) {
			return f, nil
		}
		_ = f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// oldList is what an old list holds.
type oldList struct {
	form    Form
	format  skiplist.Format
	records []Record
	// raw are the records that cannot be read, under the keys that they get.
	raw  []skiplist.Record
	racl bool // it has reverse ACLs
}

func (u *upgrader) read(ctx context.Context) (list oldList, err error) {
	opts := u.opts.Options
	opts.DB.ReadOnly = true
	l, err := Open(ctx, u.path, opts)
	if err != nil {
		return list, err
	}
	defer func() { _ = l.Close() }()
	list.form, list.format = l.Form(), l.DB().Format()
	if list.form == Form36 {
		return list, nil
	}
	return list, l.View(ctx, func(v *View) error {
		for r, err := range v.s.All() {
			if err != nil {
				return err
			}
			switch key := string(r.Key); {
			case strings.HasPrefix(key, oldRACLPrefix):
				list.racl = true
				continue
			case strings.HasPrefix(key, oldIDMarker):
				continue
			}
			u.take(&list, r)
		}
		return nil
	})
}

// take decodes one old record.
func (u *upgrader) take(list *oldList, r skiplist.Record) {
	rec, _, err := DecodeOld(r.Key, r.Value)
	if err != nil {
		list.raw = append(list.raw, skiplist.Record{Key: nameKey(InternalName(string(r.Key))), Value: bytes.Clone(r.Value)})
		u.report("record-unreadable", finding.Damage, "%v; it is kept as it is", err)
		return
	}
	if rec.UniqueID == "" || rec.UIDValidity == 0 && !rec.Type.Deleted() {
		u.identify(&rec)
	}
	if rec.Modified == 0 {
		rec.Modified = u.fs.Now().Unix()
	}
	list.records = append(list.records, rec)
}

func (u *upgrader) identify(rec *Record) {
	if u.opts.Identify != nil {
		id, v, err := u.opts.Identify(*rec)
		if err != nil {
			u.report("unidentified", finding.Warning, "%s: %v", rec.Name, err)
		}
		if rec.UniqueID == "" {
			rec.UniqueID = id
		}
		if rec.UIDValidity == 0 {
			rec.UIDValidity = v
		}
	}
	if rec.UniqueID == "" {
		u.report("uniqueid-missing", finding.Warning, "%s has no unique id", rec.Name)
	}
}

func (u *upgrader) report(code string, severity finding.Severity, format string, args ...any) {
	u.done.Findings = append(u.done.Findings, Finding{Code: code, Severity: severity, Path: u.path, Offset: -1, Detail: fmt.Sprintf(format, args...)})
}

// write makes the new list under another name, in one transaction, reads it back, and puts a copy of it in the place of
// the old one, with its owner and mode.
func (u *upgrader) write(ctx context.Context, temp string, list oldList) error {
	opts := u.opts.Options
	opts.DB.Create, opts.DB.ReadOnly, opts.DB.AllowDamaged, opts.DB.Order = true, false, false, skiplist.DefaultOrder
	opts.DB.Format = list.format
	opts.ReverseACLs = opts.ReverseACLs || list.racl
	l, err := Open(ctx, temp, opts)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	err = l.commit(ctx, func(t *Tx) error {
		if err := t.putAll(list.records); err != nil {
			return err
		}
		for _, r := range list.raw {
			if err := t.tx.Put(r.Key, r.Value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := l.View(ctx, func(v *View) error { return list.same(v) }); err != nil {
		return fmt.Errorf("verify the new list: %w", err)
	}
	if err := u.keep(); err != nil {
		return err
	}
	u.done.Kept = u.opts.Keep
	_, err = l.DB().BackupFile(ctx, u.path)
	return err
}

// keep gives the old file its second name. An upgrade that was interrupted may have done so already.
func (u *upgrader) keep() error {
	err := u.fs.Link(u.path, u.opts.Keep)
	if errors.Is(err, fs.ErrExist) {
		if same, e := u.kept(); same && e == nil {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	return u.fs.SyncDir(filepath.Dir(u.path)) // or a crash could leave only the new name of the new file
}

// kept tells whether the old file has its second name already. If another file has that the error is fs.ErrExist.
func (u *upgrader) kept() (bool, error) {
	kept, err := u.fs.Stat(u.opts.Keep)
	if err != nil {
		return false, err
	}
	named, err := u.fs.Stat(u.path)
	if err != nil {
		return false, err
	}
	if !named.SameFile(kept) {
		return false, &fs.PathError{Op: "link", Path: u.opts.Keep, Err: fs.ErrExist}
	}
	return true, nil
}

// same tells whether a new list holds what the old one held.
func (list oldList) same(v *View) error {
	for _, rec := range list.records {
		if got, err := v.Entry(rec.Name); err != nil || got.UniqueID != rec.UniqueID || got.ACL.String() != rec.ACL.String() {
			return fmt.Errorf("%s is not as it was: %w", rec.Name, errors.Join(err, ErrRecord))
		}
	}
	for _, r := range list.raw {
		if got, err := v.s.Get(r.Key); err != nil || !bytes.Equal(got, r.Value) {
			return fmt.Errorf("an unreadable record is not as it was: %w", errors.Join(err, ErrRecord))
		}
	}
	return nil
}
