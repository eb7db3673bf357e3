package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/mailspine/mailspine/skiplist"
)

// statusCache is Cyrus's cache of the answers to STATUS. It cannot tell that a mailbox was changed by somebody else: the
// record of the mailbox has to go. What it is given up for is only speed, so it is never made, and what is wrong with it
// is reported and no more.
type statusCache struct {
	path string
	opts skiplist.Options

	mu sync.Mutex
	db *skiplist.DB
}

// drop removes what is cached of a mailbox, given by its internal name: the record of the mailbox, and those of users.
func (c *statusCache) drop(ctx context.Context, name string) error {
	if c == nil {
		return nil
	}
	db, err := c.open(ctx)
	if err != nil || db == nil {
		return err
	}
	mailbox, users := []byte(name+"%"), []byte(name+"%%")
	cached := false
	err = db.View(ctx, func(s *skiplist.Snapshot) (err error) {
		if cached, err = s.Has(mailbox); cached || err != nil {
			return err
		}
		for _, err := range s.Prefix(users) {
			cached = err == nil
			return err
		}
		return nil
	})
	if err == nil && cached {
		err = db.Update(ctx, func(tx *skiplist.Tx) error { return dropCached(tx, mailbox, users) })
	}
	if err != nil {
		return fmt.Errorf("status cache: %w", err)
	}
	return nil
}

func dropCached(tx *skiplist.Tx, mailbox, users []byte) error {
	tx.UseReserve()
	keys := [][]byte{mailbox}
	for r, err := range tx.Prefix(users) {
		if err != nil {
			return err
		}
		keys = append(keys, append([]byte(nil), r.Key...))
	}
	for _, key := range keys {
		if err := tx.Delete(key); err != nil && !errors.Is(err, skiplist.ErrNotFound) {
			return err
		}
	}
	return nil
}

// open opens the database, if there is one.
func (c *statusCache) open(ctx context.Context) (*skiplist.DB, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.db != nil {
		return c.db, nil
	}
	info, err := c.opts.FS.Stat(c.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size == 0 {
		return nil, nil
	}
	if err == nil {
		c.db, err = skiplist.Open(ctx, c.path, c.opts)
	}
	if err != nil {
		return nil, fmt.Errorf("status cache: %w", err)
	}
	return c.db, nil
}

func (c *statusCache) close() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.db == nil {
		return nil
	}
	db := c.db
	c.db = nil
	return db.Close()
}
