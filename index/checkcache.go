package index

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
)

// extent is the place of one cache record.
type extent struct {
	off  int64
	size uint32
	no   RecordNo
}

// openCaches opens the caches and checks their generations.
func (c *checker) openCaches() error {
	if c.opts.NoCache {
		return nil
	}
	paths := []string{c.files.Paths.Cache}
	if c.files.Paths.archive() {
		paths = append(paths, c.files.Paths.Archive)
	}
	for _, path := range paths {
		checked := &checkedCache{path: path}
		c.caches = append(c.caches, checked)
		s, err := c.files.source(c.fs, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		checked.file, err = NewCacheFile(s, s.size, path)
		if e := (*FormatError)(nil); errors.As(err, &e) {
			c.broken(cacheShort, e)
			checked.missing = true // and that is enough said
			continue
		}
		if err != nil {
			return err
		}
		if c.files.Stale(checked.file) {
			c.add(cacheGeneration, path, 0, "the generation is %d, that of cyrus.index %d", checked.file.Generation, c.files.Index.Header.Generation)
		}
	}
	return nil
}

// cacheOf is the cache in which a message has its record; nil if caches are not looked at.
func (c *checker) cacheOf(r *Record) *checkedCache {
	switch {
	case len(c.caches) == 0:
		return nil
	case r.Flags&FlagArchived != 0:
		return c.caches[len(c.caches)-1]
	}
	return c.caches[0]
}

// cacheRecord checks the cache record of one message.
func (c *checker) cacheRecord(r *Record, no RecordNo) error {
	cache := c.cacheOf(r)
	if cache == nil {
		return nil
	}
	v, index := c.files.Index.Version(), c.files.Paths.Index
	off := c.files.Index.Offset(no)
	switch {
	case r.CacheOffset == 0 || v.HasChecksums() && r.CacheCRC == 0:
		c.add(cacheNone, index, off, "record %d: cache_offset is %d, cache_crc %08x", no, r.CacheOffset, r.CacheCRC)
		return nil
	case cache.file == nil && cache.missing:
		return nil
	case cache.file == nil:
		cache.missing = true
		c.add(cacheMissing, cache.path, -1, "record %d and others have cache records", no)
		return nil
	}
	if c.shared(cache, r) {
		return nil
	}
	if cache.read > 2*cache.file.size {
		// Undamaged records add up to the size of the file. A hostile index has each record name the largest one.
		c.add(cacheOverlap, index, off, "record %d was not looked at: the cache records before it are larger than the file", no)
		return nil
	}
	b, err := cache.file.Read(r.CacheOffset)
	cache.read += int64(len(b))
	if e := (*FormatError)(nil); errors.As(err, &e) {
		k := cacheDamaged
		if e.Field == "cache_offset" {
			k = cacheOffset
		}
		e.Record = no
		c.broken(k, e)
		cache.unclear = true
		return nil
	}
	if err != nil {
		return err
	}
	at := int64(r.CacheOffset)
	if sum := checksum(b); v.HasChecksums() && sum != r.CacheCRC {
		c.add(cacheChecksum, cache.path, at, "record %d: the checksum is %08x, in the record %08x", no, sum, r.CacheCRC)
		cache.unclear = true
		return nil
	}
	cache.used = append(cache.used, extent{at, uint32(len(b)), no})
	if cache.far = max(cache.far, at); cache.owner != nil {
		cache.owner[at] = no
	}
	if r.CacheVersion > CacheVersionLatest {
		c.add(cacheVersion, cache.path, at, "record %d: cache version %d, the latest known is %d", no, r.CacheVersion, CacheVersionLatest)
		return nil
	}
	var rec CacheRecord
	err = rec.Decode(b)
	if err == nil {
		err = rec.Validate(r.CacheVersion)
	}
	if e := (*FormatError)(nil); errors.As(in(err, cache.path, at, no), &e) {
		c.broken(cacheDamaged, e)
	}
	return nil
}

// shared tells whether a message has the cache record of another one that was looked at, which is the same message: one that
// Cyrus or we have unexpunged has that of the one that was expunged.
func (c *checker) shared(cache *checkedCache, r *Record) bool {
	at := int64(r.CacheOffset)
	if at > cache.far {
		return false // as all that are not shared, unless something else is wrong
	}
	if cache.owner == nil {
		cache.owner = make(map[int64]RecordNo, len(cache.used))
		for _, e := range cache.used {
			cache.owner[e.off] = e.no
		}
	}
	no, ok := cache.owner[at]
	if !ok {
		return false
	}
	first, err := c.files.Index.Record(no)
	return err == nil && first.GUID == r.GUID && first.CacheCRC == r.CacheCRC && first.CacheVersion == r.CacheVersion
}

// extents looks for cache records that overlap, and for bytes of the caches that belong to none.
func (c *checker) extents() error {
	for _, cache := range c.caches {
		if cache.file == nil {
			continue
		}
		slices.SortFunc(cache.used, func(a, b extent) int { return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(a.no, b.no)) })
		end, last, leaked := int64(cacheHeaderSize), RecordNo(0), int64(0)
		for _, e := range cache.used {
			if e.off < end && last > 0 {
				c.add(cacheOverlap, cache.path, e.off, "the cache records of records %d and %d share bytes", last, e.no)
				cache.unclear = true
			}
			leaked += max(0, e.off-end)
			if next := e.off + int64(e.size); next > end {
				end, last = next, e.no
			}
		}
		leaked += max(0, cache.file.size-end)
		// Where a record is wrong about its place, or damaged, its bytes only seem to belong to none.
		if leaked > 0 && !c.partial && !cache.unclear {
			c.add(cacheLeak, cache.path, end, "%d of %d bytes belong to no record; leaked_cache_records is %d", leaked, cache.file.size, c.files.Index.Header.LeakedCache)
		}
	}
	return nil
}
