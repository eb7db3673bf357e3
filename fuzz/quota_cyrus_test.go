package fuzz

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/locks"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
)

// cyrusWriter stands for a process of the real Cyrus that delivers and expunges. It takes Cyrus's locks in Cyrus's order, and
// writes in Cyrus's order: the usage of the quota root first, then records and header of cyrus.index with one sync for both.
// It knows nothing of journals, dirty marks or reservations, and does not look at limits.
type cyrusWriter struct {
	fs     vfs.FS
	list   *mboxdb.List
	layout mboxdb.Layout
	roots  rootFiles
	rng    *rand.Rand
	// old is a release before 3.4, which opens a mailbox without the lock of its user.
	old bool
}

// errMoved means that the mailbox was renamed or deleted before the writer had its lock.
var errMoved = errors.New("the mailbox has moved")

// cyrusBox is a mailbox that is locked for a change.
type cyrusBox struct {
	name  string
	place index.Place
	file  vfs.File
	names *locks.Held
	head  index.Header
	root  string
	files *index.File
}

func (b *cyrusBox) release() {
	if b.file != nil {
		_ = b.file.Close()
	}
	b.names.Release()
}

// change delivers a message, or expunges one. Of two mailboxes it locks one after the other, in the order given, and delivers
// to the first what it expunges from the second.
func (c *cyrusWriter) change(ctx context.Context, what string, names ...string) error {
	var users []string
	for _, n := range names {
		if user := mboxdb.InternalName(n).User(c.layout.Namespace); user != "" && !c.old {
			users = append(users, c.layout.LockPath(mboxdb.UserLock(user)))
		}
	}
	slices.Sort(users)
	user, err := locks.InOrder(ctx, c.fs, vfs.Exclusively, users...)
	if err != nil {
		return err
	}
	defer user.Release()
	var boxes []*cyrusBox
	for _, n := range names {
		b, err := c.lock(ctx, n)
		if err != nil {
			return err
		}
		defer b.release()
		boxes = append(boxes, b)
	}
	if what == "append" || len(boxes) > 1 {
		if err := c.append(ctx, boxes[0]); err != nil {
			return err
		}
	}
	if what == "expunge" || len(boxes) > 1 {
		return c.expunge(ctx, boxes[len(boxes)-1])
	}
	return nil
}

// lock opens a mailbox: its name lock shared, cyrus.index exclusively. What it has read before it had a lock it reads again.
func (c *cyrusWriter) lock(ctx context.Context, name string) (b *cyrusBox, err error) {
	rec, err := c.list.Lookup(ctx, mboxdb.InternalName(name))
	if err != nil {
		return nil, err
	}
	if !rec.Type.Exists() {
		return nil, errMoved
	}
	b = &cyrusBox{name: name}
	if b.place, err = index.PlaceOf(c.layout, rec); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.release()
		}
	}()
	if b.names, err = locks.Acquire(ctx, c.fs, vfs.Shared, b.place.NameLock); err != nil {
		return b, err
	}
	again, err := c.list.Lookup(ctx, rec.Name)
	if err != nil {
		return b, err
	}
	if !again.Type.Exists() || again.UniqueID != rec.UniqueID {
		return b, errMoved
	}
	path := b.place.Paths.Index
	if b.file, err = c.fs.Open(path, vfs.ReadWrite, 0); err != nil {
		return b, err
	}
	if err = b.file.Lock(ctx, vfs.Exclusively); err != nil {
		return b, err
	}
	info, err := b.file.Stat()
	if err != nil {
		return b, err
	}
	now, err := c.fs.Stat(path)
	if err != nil {
		return b, err
	}
	if !now.SameFile(info) {
		return b, errMoved
	}
	if b.files, err = index.NewFile(b.file, info.Size, path); err != nil {
		return b, err
	}
	b.head = b.files.Header
	h, err := index.ReadHeaderFile(c.fs, b.place.Paths.Header)
	if err != nil {
		return b, err
	}
	b.root = h.QuotaRoot
	return b, nil
}

func (c *cyrusWriter) append(ctx context.Context, b *cyrusBox) error {
	text := fmt.Sprintf("Subject: by Cyrus\r\n\r\n%s\r\n", letters(c.rng, 20+c.rng.IntN(200)))
	h := &b.head
	h.LastUID, h.HighestModSeq, h.NumRecords, h.Exists = h.LastUID+1, h.HighestModSeq+1, h.NumRecords+1, h.Exists+1
	h.QuotaUsed += uint64(len(text))
	rec := index.Record{UID: h.LastUID, Size: uint64(len(text)), HeaderSize: 22, InternalDate: 1_790_000_000, SentDate: 1_790_000_000,
		ModSeq: h.HighestModSeq, CreatedModSeq: h.HighestModSeq, LastUpdated: 1_790_000_000, SaveDate: 1_790_000_000}
	rec.GUID[0], rec.GUID[1] = byte(rec.UID), 1
	if err := writeLeftOver(c.fs, b.place.Message(&rec), text); err != nil {
		return err
	}
	if err := c.roots.add(ctx, b.root, b.name, tally{bytes: int64(len(text)), messages: 1}); err != nil {
		return err
	}
	return b.write(index.RecordNo(h.NumRecords), &rec)
}

// writeLeftOver writes a message file, also over one that somebody has left who died.
func writeLeftOver(fsys vfs.FS, path, text string) error {
	if err := fsys.Unlink(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Open(path, vfs.ReadWrite|vfs.Create, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), 0)
	return errors.Join(err, f.Close())
}

// expunge expunges the last message that is there.
func (c *cyrusWriter) expunge(ctx context.Context, b *cyrusBox) error {
	for no := b.files.Len(); no >= 1; no-- {
		rec, err := b.files.Record(no)
		if err != nil {
			return err
		}
		if rec.Expunged() {
			continue
		}
		h := &b.head
		h.HighestModSeq++
		h.Exists--
		h.QuotaUsed -= min(h.QuotaUsed, rec.Size)
		rec.ModSeq, rec.Flags = h.HighestModSeq, rec.Flags|index.FlagExpunged|index.FlagDeleted
		if err := c.roots.add(ctx, b.root, b.name, tally{bytes: -int64(rec.Size), messages: -1}); err != nil {
			return err
		}
		return b.write(no, &rec)
	}
	return nil
}

// write writes a record and the header, and syncs both at once.
func (b *cyrusBox) write(no index.RecordNo, rec *index.Record) error {
	if _, err := b.file.WriteAt(rec.Append(nil, b.head.Version), b.files.Offset(no)); err != nil {
		return err
	}
	if _, err := b.file.WriteAt(b.head.Append(nil), 0); err != nil {
		return err
	}
	return b.file.Datasync()
}

// rootFiles are quota roots as Cyrus keeps them in files.
type rootFiles struct {
	fs       vfs.FS
	dir      string
	fullHash bool
}

func (r rootFiles) path(root string) string {
	below := root
	for i := range root {
		if root[i] == '.' {
			below = root[i+1:]
			break
		}
	}
	return filepath.Join(r.dir, "quota", string(mboxdb.Hash(below, r.fullHash)), root)
}

// add moves the usage of a root, under its lock. A root that is gone is nobody's concern.
func (r rootFiles) add(ctx context.Context, root, mailbox string, by tally) error {
	if root == "" {
		return nil
	}
	path := r.path(root)
	for {
		f, err := r.fs.Open(path, vfs.ReadWrite, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f.Lock(ctx, vfs.Exclusively); err != nil {
			return errors.Join(err, f.Close())
		}
		held, err := f.Stat()
		if err != nil {
			return errors.Join(err, f.Close())
		}
		named, err := r.fs.Stat(path)
		if err == nil && named.SameFile(held) {
			err := r.replace(path, f, held.Size, mailbox, by)
			return errors.Join(err, f.Close())
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
}

// replace writes the new content beside the old one and renames it, as Cyrus does.
func (r rootFiles) replace(path string, old vfs.File, size int64, mailbox string, by tally) error {
	b := make([]byte, size)
	if _, err := old.ReadAt(b, 0); err != nil && size > 0 {
		return err
	}
	rec, err := parseRoot(string(b))
	if err != nil {
		return nil // Cyrus logs a record that it cannot read, and goes on
	}
	rec.add(mailbox, by)
	temp := path + ".NEW"
	if err := r.fs.Unlink(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := r.fs.Open(temp, vfs.ReadWrite|vfs.Create|vfs.Exclusive, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(rec.String()), 0)
	if err == nil {
		err = f.Datasync()
	}
	if err == nil {
		err = r.fs.Rename(temp, path)
	}
	return errors.Join(err, f.Close())
}
