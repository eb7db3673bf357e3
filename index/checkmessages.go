package index

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// expected is a message that its record says is in a directory.
type expected struct {
	no       RecordNo
	uid      UID
	size     uint64
	guid     GUID
	archived bool
	expunged bool
	unlinked bool
}

// messages compares the records with the message files.
func (c *checker) messages(p Place) error {
	all, err := c.expected()
	if err != nil {
		return err
	}
	archive := p.Archive != "" && p.Archive != p.Messages
	if err := c.directory(p.Messages, all, func(e *expected) bool { return !archive || !e.archived }); err != nil || !archive {
		return err
	}
	return c.directory(p.Archive, all, func(e *expected) bool { return e.archived })
}

// expected lists the messages of all records that can be believed, by UID.
func (c *checker) expected() (all []expected, err error) {
	var r Record
	for batch, err := range c.files.Index.Batches(1) {
		if err != nil {
			return nil, err
		}
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
		for i := range batch.Len() {
			raw := batch.At(i)
			if raw.UID() == 0 || !raw.Intact() || raw.Decode(&r) != nil {
				continue
			}
			all = append(all, expected{no: batch.First + RecordNo(i), uid: r.UID, size: r.Size, guid: r.GUID, archived: r.Flags&FlagArchived != 0,
				expunged: r.Expunged(), unlinked: r.Flags&FlagUnlinked != 0})
		}
	}
	slices.SortStableFunc(all, func(a, b expected) int { return cmp.Compare(a.uid, b.uid) })
	return all, nil
}

// directory compares the files in one directory with the messages that should be there.
func (c *checker) directory(dir string, all []expected, here func(*expected) bool) error {
	entries, err := c.fs.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	present := make(map[UID]bool, len(entries))
	for _, e := range entries {
		if uid, ok := messageName(e.Name); ok && !e.Dir {
			present[uid] = true
		}
	}
	for i := range all {
		e := &all[i]
		if !here(e) {
			continue
		}
		delete(present, e.uid)
		if e.unlinked {
			continue // the server may have yet to remove it
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.message(filepath.Join(dir, messageFile(e.uid)), e); err != nil {
			return err
		}
	}
	unknown := make([]UID, 0, len(present))
	for uid := range present {
		unknown = append(unknown, uid)
	}
	slices.Sort(unknown)
	for _, uid := range unknown {
		path := filepath.Join(dir, messageFile(uid))
		if last := c.files.Index.Header.LastUID; uid > last {
			c.add(messageAbove, path, -1, "no record says that UID %d is here, and last_uid is %d", uid, last)
			continue
		}
		c.add(messageUnknown, path, -1, "no record says that UID %d is here", uid)
	}
	return nil
}

// message compares one file with its record.
func (c *checker) message(path string, e *expected) error {
	info, err := c.fs.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && e.expunged:
		c.add(messageExpunged, path, -1, "no file for UID %d, which is expunged", e.uid)
		return nil
	case errors.Is(err, fs.ErrNotExist):
		c.add(messageMissing, path, -1, "no file for UID %d", e.uid)
		return nil
	case err != nil:
		return err
	case uint64(info.Size) != e.size:
		c.add(messageSize, path, -1, "%d bytes, and %d in the record of UID %d", info.Size, e.size, e.uid)
		return nil
	case !c.opts.Contents:
		return nil
	}
	return c.content(path, e)
}

// messageFile is the name of the file of a message.
func messageFile(uid UID) string { return strconv.FormatUint(uint64(uid), 10) + "." }

// messageName reads such a name.
func messageName(name string) (UID, bool) {
	digits, ok := strings.CutSuffix(name, ".")
	if !ok || digits == "" || digits[0] < '1' || digits[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	return UID(n), err == nil
}
