package quota

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// database keeps the roots in one database. It is opened by the first use that finds it.
type database struct {
	file   string
	engine skiplist.Format
	opts   skiplist.Options

	mu sync.Mutex
	db *skiplist.DB
	// damaged is open for reading what can be read of a damaged database.
	damaged *skiplist.DB
}

// errNoDatabase says that there is no database yet, and so no root.
var errNoDatabase = errors.New("there is no database of quota roots yet")

func (d *database) path(string) string { return d.file }

// open returns the database, which is made if create is set.
func (d *database) open(ctx context.Context, create bool) (*skiplist.DB, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.db != nil {
		return d.db, nil
	}
	opts := d.opts
	info, err := d.opts.FS.Stat(d.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if !create {
			return nil, errNoDatabase
		}
		opts.Create = true
		opts.Format = d.engine
	case err != nil:
		return nil, err
	case info.Size == 0:
		opts.Format = d.engine // of a file with something in it that counts, as it does for Cyrus
	}
	d.db, err = skiplist.Open(ctx, d.file, opts)
	return d.db, err
}

// openDamaged opens a damaged database for reading.
func (d *database) openDamaged(ctx context.Context) (*skiplist.DB, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.damaged != nil {
		return d.damaged, nil
	}
	opts := d.opts
	opts.ReadOnly, opts.AllowDamaged = true, true
	var err error
	d.damaged, err = skiplist.Open(ctx, d.file, opts)
	return d.damaged, err
}

func (d *database) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []error
	for _, db := range []**skiplist.DB{&d.db, &d.damaged} {
		if *db != nil {
			all = append(all, (*db).Close())
			*db = nil
		}
	}
	return errors.Join(all...)
}

func (d *database) get(ctx context.Context, root string) ([]byte, error) {
	db, err := d.open(ctx, false)
	if errors.Is(err, errNoDatabase) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	value, err := db.Get(ctx, []byte(root))
	if errors.Is(err, skiplist.ErrNotFound) {
		return nil, ErrNotFound
	}
	return value, err
}

func (d *database) has(ctx context.Context, root string) (bool, error) {
	_, err := d.get(ctx, root)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// all reads the whole database first: its order is not that of the bytes, and its lock is not to be held meanwhile.
func (d *database) all(ctx context.Context, want func(root string) bool) iter.Seq2[kept, error] {
	return func(yield func(kept, error) bool) {
		list, err := d.list(ctx)
		slices.SortFunc(list, func(a, b kept) int { return bytes.Compare([]byte(a.root), []byte(b.root)) })
		for _, k := range list {
			if want != nil && !want(k.root) {
				continue
			}
			if !yield(k, nil) {
				return
			}
		}
		if err != nil {
			yield(kept{}, fmt.Errorf("%s: %w", d.file, err))
		}
	}
}

// list returns the roots that can be read, and why there may be more.
func (d *database) list(ctx context.Context) (list []kept, err error) {
	db, err := d.open(ctx, false)
	if errors.Is(err, skiplist.ErrDamaged) {
		db, err = d.openDamaged(ctx)
	}
	if errors.Is(err, errNoDatabase) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = db.View(ctx, func(snap *skiplist.Snapshot) error {
		for rec, err := range snap.All() {
			if rec.Key != nil {
				list = append(list, kept{root: string(rec.Key), path: d.file, value: bytes.Clone(rec.Value)})
			}
			if err != nil {
				return err
			}
			if err := context.Cause(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

func (d *database) change(ctx context.Context, root string, urgent bool, edit edit) error {
	db, err := d.open(ctx, false)
	if errors.Is(err, errNoDatabase) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	return db.Update(ctx, func(tx *skiplist.Tx) error {
		old, err := tx.Get([]byte(root))
		if errors.Is(err, skiplist.ErrNotFound) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		value, lowers, err := edit(old)
		if err != nil || value == nil {
			return err
		}
		if lowers || urgent {
			tx.UseReserve()
		}
		return tx.Put([]byte(root), value)
	})
}

func (d *database) create(ctx context.Context, root string, edit edit) error {
	db, err := d.open(ctx, true)
	if err != nil {
		return err
	}
	return db.Update(ctx, func(tx *skiplist.Tx) error {
		old, err := tx.Get([]byte(root))
		if err != nil && !errors.Is(err, skiplist.ErrNotFound) {
			return err
		}
		if err == nil && old == nil {
			old = []byte{}
		}
		value, _, err := edit(old)
		if err != nil || value == nil {
			return err
		}
		return tx.Put([]byte(root), value)
	})
}

func (d *database) remove(ctx context.Context, root string) error {
	db, err := d.open(ctx, false)
	if errors.Is(err, errNoDatabase) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	return db.Update(ctx, func(tx *skiplist.Tx) error {
		if found, err := tx.Has([]byte(root)); err != nil || !found {
			return errors.Join(err, notFoundIf(!found && err == nil))
		}
		return tx.Delete([]byte(root))
	})
}

func notFoundIf(missing bool) error {
	if missing {
		return ErrNotFound
	}
	return nil
}

const (
	// changeMax is more than a few changes of records take in a database, and plentyBytes so much that the disk is not full.
	changeMax   = 16 << 10
	plentyBytes = 1 << 20
)

// prepare relies on the reserve of the database, which each commit restores, and on the prepared files of a flat one.
func (d *database) prepare(ctx context.Context) error {
	db, err := d.open(ctx, false)
	if errors.Is(err, errNoDatabase) {
		return nil
	}
	if err != nil {
		return err
	}
	stats := db.Stats()
	if db.Format() == skiplist.Flat {
		if d.opts.Prepared != "" {
			spares := vfs.NewSpares(d.opts.FS, d.opts.Prepared)
			if spares.Prepare(d.file, stats.Size) == nil || spares.Ready(stats.Size+prepareBytes) {
				return nil
			}
		}
	} else if stats.AllocatedBytes-stats.Committed >= changeMax {
		return nil
	}
	return plenty(d.opts.FS, filepath.Dir(d.file))
}

// plenty fails with ENOSPC unless the disk has far more room than a record needs.
func plenty(fsys vfs.FS, dir string) error {
	space, err := fsys.StatFS(dir)
	if err == nil && space.FreeBytes < plentyBytes {
		err = &fs.PathError{Op: "prepare", Path: dir, Err: syscall.ENOSPC}
	}
	return err
}

func (d *database) leftOvers(context.Context) ([]LeftOver, error) { return nil, nil }

func (d *database) removeLeftOver(context.Context, LeftOver) error { return ErrNotFound }
