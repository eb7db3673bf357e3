package index

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"syscall"

	"github.com/mailspine/mailspine/internal/vfs"
)

// reserve is step 0. Nothing that exists is changed by it.
func (c *commit) reserve() error {
	tx, w := c.tx, c.w
	if tx.usage.QuotaRoot != "" && !tx.usage.Zero() && w.opts.Participant != nil {
		var err error
		if c.pledge, err = w.opts.Participant.Begin(tx.ctx, tx.usage); err != nil {
			return err
		}
		w.told = true
		c.entry.participant = c.pledge.Journal()
	}
	if len(tx.added) > 0 {
		if err := c.reserveAppend(); err != nil {
			return err
		}
	}
	if c.repl = w.opts.Ready.take(c.entry.headerAfter); c.entry.headerAfter != nil && c.repl == nil {
		var err error
		c.repl, err = vfs.PrepareReplacement(w.fs, w.place.Paths.Header, headerOptions(c.entry.headerAfter), writing(c.entry.headerAfter))
		if err != nil {
			return err
		}
	}
	c.journal = len(c.entry.records) > 0 || c.entry.headerAfter != nil || len(c.entry.participant) > 0
	if !c.journal {
		return nil
	}
	if w.journal == nil {
		return errNoJournal
	}
	var err error
	c.slot, err = w.journal.Take(tx.ctx, w.place.Paths.Index, c.entry.size())
	return err
}

// reserveAppend gives the new cache records their places and allocates the ends of cache and index.
func (c *commit) reserveAppend() (err error) {
	tx, w := c.tx, c.w
	if err := c.openCache(); err != nil {
		return err
	}
	for _, a := range tx.added {
		at := c.cacheOff + int64(len(c.cacheBytes))
		if a.cache == nil {
			at = int64(a.rec.CacheOffset)
		}
		a.rec.CacheOffset = Offset(at)
		if err := a.rec.fits(w.index.layout); err != nil || at>>32 != 0 && w.version() < versionChecksums {
			return errors.Join(err, &FormatError{Path: w.place.Paths.Cache, Offset: at, Field: "cache_offset", Found: num(at), Wanted: "a place that the index can hold", Class: ErrValue})
		}
		c.cacheBytes = append(c.cacheBytes, a.cache...)
		c.tail = a.rec.Append(c.tail, w.version())
	}
	c.tailOff = w.index.Offset(RecordNo(w.index.Header.NumRecords) + 1)
	if left := min(w.info.Size-c.tailOff, int64(len(c.tail))); left > 0 {
		c.tailOld = make([]byte, left)
		if err := readFull(w.file, c.tailOld, c.tailOff); err != nil {
			return err
		}
	}
	if err := allocate(c.cache, c.cacheOff, len(c.cacheBytes)); err != nil {
		return err
	}
	return allocate(w.file, c.tailOff, len(c.tail))
}

// openCache opens cyrus.cache, or makes one, and finds the place where to go on: records begin at multiples of four.
func (c *commit) openCache() error {
	w := c.w
	path := w.place.Paths.Cache
	f, err := w.fs.Open(path, vfs.ReadWrite, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = w.fs.Open(path, vfs.ReadWrite|vfs.Create|vfs.Exclusive, fileMode)
		c.cacheMade = err == nil
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		if c.cacheMade {
			_ = w.fs.Unlink(path)
		}
		return errors.Join(err, f.Close())
	}
	// Not before its size is known: undo cuts the file back to that.
	c.cache = f
	c.cacheSize, c.cacheOff = info.Size, info.Size
	fresh := info.Size < cacheHeaderSize
	if !fresh && w.index.Header.NumRecords == 0 {
		have := make([]byte, cacheHeaderSize)
		if err := readFull(f, have, 0); err != nil {
			return err
		}
		fresh = binary.BigEndian.Uint32(have) != w.index.Header.Generation
	}
	if fresh { // a crash came after it was made, and before what was written to it was durable
		c.cacheOff = 0
		c.cacheBytes = binary.BigEndian.AppendUint32(nil, w.index.Header.Generation)
		return nil
	}
	c.cacheBytes = make([]byte, padding(int(info.Size%cacheAlign)))
	return nil
}

// allocate asks for space where the file system can promise it.
func allocate(f vfs.File, off int64, n int) error {
	if n == 0 {
		return nil
	}
	if err := f.Allocate(off, int64(n)); err != nil && !errors.Is(err, syscall.EOPNOTSUPP) {
		return err
	}
	return nil
}
