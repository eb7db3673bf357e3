package index

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"io/fs"
	"strings"

	"github.com/mailspine/mailspine/internal/message"
	"github.com/mailspine/mailspine/internal/vfs"
)

// content compares what a message file derives to with its index record and its cache record.
func (c *checker) content(path string, e *expected) error {
	file, err := c.fs.Open(path, vfs.ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed since
	}
	if err != nil {
		return err
	}
	defer file.Close()
	m, err := c.parser.ParseAt(file, int64(e.size))
	if errors.Is(err, message.ErrEmpty) {
		m, err = &message.Message{GUID: sha1.Sum(nil)}, nil
	}
	if errors.Is(err, message.ErrTooLarge) {
		return nil // no index but that of version 20 has a record for it, and Cyrus derives none
	}
	if err != nil {
		return err
	}
	if guid := GUID(m.GUID); e.guid != (GUID{}) && guid != e.guid {
		c.add(messageGUID, path, -1, "id %s, and %s in the record of UID %d", guid, e.guid, e.uid)
		return nil // it is another message
	}
	if m.Size == 0 {
		return nil
	}
	r, err := c.files.Index.Record(e.no)
	if err != nil || r.UID != e.uid || r.GUID != e.guid || r.Size != e.size {
		if errors.Is(err, ErrDamaged) || err == nil {
			return nil // written to since
		}
		return err
	}
	if int64(r.HeaderSize) != m.HeaderSize {
		c.add(messageHeader, path, -1, "a header of %d bytes, and %d in the record of UID %d", m.HeaderSize, r.HeaderSize, e.uid)
	}
	return c.derived(path, m, &r)
}

// derived compares the cache record of a message with what the message derives to, where both follow the same rules: its
// version is ours. A record that cannot be used has been reported.
func (c *checker) derived(path string, m *message.Message, r *Record) error {
	cache := c.cacheOf(r)
	if cache == nil || cache.file == nil || r.CacheVersion != message.CacheVersion || m.Limited != "" {
		return nil
	}
	v := c.files.Index.Version()
	c.scratch = m.AppendCache(c.scratch[:0])
	if v.HasChecksums() && checksum(c.scratch) == r.CacheCRC || cache.compared > 2*cache.file.size {
		return nil
	}
	recorded, err := cache.file.Record(r, v)
	cache.compared += int64(recorded.Len())
	if errors.Is(err, ErrNoCache) {
		return nil
	}
	if err != nil {
		return err
	}
	var own CacheRecord
	if err := own.Decode(c.scratch); err != nil {
		return err
	}
	var unlike []string
	for i := range CacheItems {
		if bytes.Equal(own.Item(i), recorded.Item(i)) || i >= CacheFrom && m.Unsure() {
			continue
		}
		unlike = append(unlike, i.String())
	}
	if len(unlike) > 0 {
		c.add(messageCache, path, -1, "the cache record of UID %d has something else as %s", r.UID, strings.Join(unlike, ", "))
	}
	return nil
}
