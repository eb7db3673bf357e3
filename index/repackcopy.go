package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/mailspine/mailspine/skiplist"
)

// pass is one reading of the old mailbox, from the first record to the last. Nothing of it grows with the mailbox.
type pass struct {
	header Header
	// totals are sums over the kept records, as the new version has them.
	totals Totals
	names  *FlagSums
	// added and taken are bytes of annotations that fields become and that become fields; moved tells whether there are
	// fields that become annotations. annotSum and annotBytes are over all annotations of messages that are not expunged.
	added, taken uint64
	moved        bool
	annotSum     uint32
	annotBytes   uint64
	buf, cache   []byte
}

// copy writes the new files, or measures them as long as they are not created. What it does depends on nothing but the
// old files, so that it comes to the same twice.
func (r *repack) copy(doing string) error {
	if r.moving == nil {
		return r.copyAll(doing)
	}
	return r.moving.View(r.ctx, func(s *skiplist.Snapshot) error {
		r.annotations = s
		return r.copyAll(doing)
	})
}

func (r *repack) copyAll(doing string) error {
	old := r.old.Index
	p := &pass{header: old.Header, totals: NewTotals(), names: NewFlagSums(r.old.Header.Flags)}
	r.pass = p
	if r.seen != nil && r.seen.write {
		r.seen.record.UIDs = nil
	}
	for _, o := range r.outputs() {
		o.size = 0
	}
	r.done.Records, r.done.Dropped, r.done.Parsed, r.done.Uncached = 0, 0, 0, 0
	p.convertHeader(r)
	r.index.head = make([]byte, r.to.HeaderSize())
	if _, err := r.index.write(r.index.head); err != nil {
		return err
	}
	for batch, err := range old.Batches(1) {
		if err == nil {
			err = context.Cause(r.ctx)
		}
		if err != nil {
			return err
		}
		if r.opts.Progress != nil {
			r.opts.Progress(doing, int64(batch.First), int64(old.Len()))
		}
		for i := range batch.Len() {
			no := batch.First + RecordNo(i)
			var rec Record
			if err := in(batch.At(i).Decode(&rec), old.path, old.Offset(no), no); err != nil {
				return err
			}
			if err := r.record(p, &rec, no); err != nil {
				return err
			}
		}
	}
	p.sum(r)
	if err := p.header.Validate(); err != nil {
		return err
	}
	r.index.head = p.header.Append(nil)
	return nil
}

// record keeps a record or drops it.
func (r *repack) record(p *pass, rec *Record, no RecordNo) error {
	if rec.UID == 0 {
		r.done.Dropped++
		return nil
	}
	if rec.Flags.gone() {
		r.done.Dropped++
		if r.to.hasHeaderField(hDeletedModSeq) && rec.ModSeq > p.header.DeletedModSeq {
			p.header.DeletedModSeq = rec.ModSeq
			if r.to.hasHeaderField(hChangesEpoch) {
				p.header.ChangesEpoch = rec.LastUpdated
			}
		}
		return nil
	}
	r.noteSeen(rec)
	cache, err := r.convert(p, rec, no)
	if err != nil {
		return err
	}
	rec.Flags &^= FlagNeedsCleanup // the other copy of its file goes with the end of the repack
	if err := r.keepCache(rec, cache); err != nil {
		return err
	}
	if err := rec.fits(layoutOf(r.to)); err != nil {
		return in(err, r.old.Paths.Index, 0, no)
	}
	p.totals.Add(rec, r.to, p.names)
	p.buf = rec.Append(p.buf[:0], r.to)
	if r.done.Records == math.MaxUint32 {
		return fmt.Errorf("more records than fit: %w", ErrValue)
	}
	r.done.Records++
	_, err = r.index.write(p.buf)
	return err
}

// keepCache writes the cache record of a message, if there is one.
func (r *repack) keepCache(rec *Record, cache []byte) error {
	rec.CacheOffset, rec.CacheCRC = 0, 0
	if cache == nil {
		r.done.Uncached++
		return nil
	}
	o := r.caches[0]
	if rec.Flags&FlagArchived != 0 && r.caches[1] != nil {
		o = r.caches[1]
	}
	if o.size == 0 {
		o.head = binary.BigEndian.AppendUint32(nil, r.done.Generation)
		if _, err := o.write(make([]byte, cacheHeaderSize)); err != nil {
			return err
		}
	}
	at, err := o.write(cache)
	rec.CacheOffset = Offset(at)
	if r.to.HasChecksums() {
		rec.CacheCRC = checksum(cache)
	}
	return err
}

// convert makes the record one of the new version, and returns the bytes of its cache record; nil if there is none and
// the message cannot be read.
func (r *repack) convert(p *pass, rec *Record, no RecordNo) ([]byte, error) {
	parse, must := r.needsMessage(rec)
	if !parse {
		cache, err := r.old.CacheRecord(rec)
		switch {
		case err == nil:
			p.cache = cache.Append(p.cache[:0])
		case errors.Is(err, ErrNoCache):
			parse = true
		default:
			return nil, err
		}
	}
	cached := true
	if parse {
		var err error
		if cached, err = r.parseMessage(p, rec); err != nil {
			return nil, err
		}
		if !cached && must {
			return nil, fmt.Errorf("record %d: %w", no, &LostMessageError{UID: rec.UID, Path: r.place.Message(rec)})
		}
		if cached {
			r.done.Parsed++
		}
	}
	if r.old.Index.Version() != r.to {
		if err := r.convertRecord(p, rec); err != nil {
			return nil, err
		}
	}
	if !cached {
		return nil, nil
	}
	return p.cache, nil
}

// gone tells that a record and the file of its message are to be removed.
func (f Flags) gone() bool { return f&FlagUnlinked != 0 && f&FlagExpunged != 0 }

// sum fills in the numbers of the header that follow from the records.
func (p *pass) sum(r *repack) {
	h, t := &p.header, &p.totals
	h.NumRecords = uint32(r.done.Records)
	h.FirstExpunged = 0
	if r.to.hasHeaderField(hFirstExpunged) {
		h.FirstExpunged = t.FirstExpunged
	}
	if r.to.hasHeaderField(hSyncBasic) {
		h.SyncBasic = t.SyncBasic
	}
	p.sumConverted(r)
}
