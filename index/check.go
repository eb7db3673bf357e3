package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/message"
	"github.com/mailspine/mailspine/internal/vfs"
)

// maxFindingsOfKind bounds how many findings of one kind are listed; the rest is counted in one more.
const maxFindingsOfKind = 100

// CheckOptions say what a check compares. The zero value compares all that the files tell.
type CheckOptions struct {
	// NoCache leaves cyrus.cache alone, which is most of what there is to read.
	NoCache bool
	// Owner is the user of the mailbox. Without it, synccrc_annot is not compared if a message has annotations of its
	// owner's, since they are recorded without the name.
	Owner string
	// Contents has [Check] read every message and compare what it derives to with the record and the cache record.
	Contents bool
}

// Check compares everything of a mailbox with everything else: its files, as [CheckFiles] does, and the records with the
// message files. A server that delivers or expunges meanwhile can make a finding of what was only half done; check again.
func Check(ctx context.Context, fsys vfs.FS, p Place, opts CheckOptions) ([]finding.Finding, error) {
	fsys = vfs.OrOS(fsys)
	return check(ctx, fsys, p.Paths, opts, func(c *checker) error { return c.messages(p) })
}

// CheckFiles compares the files of a mailbox with themselves and with each other. It reads them as they are, locks
// nothing and changes nothing. No findings mean that every checksum is right, every number in the header of cyrus.index
// follows from the records, and every record has a cache record.
//
// An error means that the check could not be made: one of the system, or that ctx ended.
func CheckFiles(ctx context.Context, fsys vfs.FS, p Paths, opts CheckOptions) ([]finding.Finding, error) {
	fsys = vfs.OrOS(fsys)
	return check(ctx, fsys, p, opts, func(*checker) error { return nil })
}

// check compares the files, and then what more is asked for.
func check(ctx context.Context, fsys vfs.FS, p Paths, opts CheckOptions, more func(*checker) error) ([]finding.Finding, error) {
	c := &checker{ctx: ctx, fs: fsys, files: &Files{Paths: p}, opts: opts, more: map[string]int{}, totals: NewTotals(), names: NewFlagSums(nil)}
	defer c.files.Close()
	if err := c.header(); err != nil {
		return nil, err
	}
	if err := c.index(); err != nil {
		return nil, err
	}
	if c.files.Index == nil {
		return c.result(), nil
	}
	for _, step := range []func() error{c.openCaches, c.records, c.compare, c.extents, func() error { return more(c) }} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c.result(), nil
}

// checker is one check under way.
type checker struct {
	ctx   context.Context
	fs    vfs.FS
	files *Files
	opts  CheckOptions

	found []finding.Finding
	more  map[string]int

	headerCRC uint32
	names     *FlagSums
	named     UserFlags
	totals    Totals
	annotated map[UID]annotated
	// partial says that records are missing or damaged, so that no sum over them proves anything.
	partial bool
	caches  []*checkedCache

	// For [CheckOptions.Contents].
	parser  message.Parser
	scratch []byte
}

// checkedCache is a cache and what was found to be used of it.
type checkedCache struct {
	file *CacheFile
	path string
	used []extent
	// far is the largest offset in used; owner finds a record by its offset, once one was used again.
	far     int64
	owner   map[int64]RecordNo
	missing bool
	// read and compared are the bytes of records that were looked at, on their own and beside the messages.
	read, compared int64
	// unclear says that records are wrong about what they use.
	unclear bool
}

func (c *checker) add(k kind, path string, off int64, format string, args ...any) {
	if c.more[k.code]++; c.more[k.code] > maxFindingsOfKind {
		return
	}
	c.found = append(c.found, finding.Finding{Code: k.code, Severity: k.severity, Path: path, Offset: off, Detail: fmt.Sprintf(format, args...), Fix: k.fix})
}

// result lists what was found, and how much more of each kind there was.
func (c *checker) result() []finding.Finding {
	for _, k := range kinds {
		if n := c.more[k.code] - maxFindingsOfKind; n > 0 {
			c.found = append(c.found, finding.Finding{Code: k.code, Severity: k.severity, Path: c.files.Paths.Index, Offset: -1,
				Detail: fmt.Sprintf("and %d more: %s", n, k.meaning), Fix: k.fix})
		}
	}
	return c.found
}

// broken reports a FormatError as a finding.
func (c *checker) broken(k kind, e *FormatError) {
	where := ""
	if e.Record > 0 {
		where = fmt.Sprintf("record %d: ", e.Record)
	}
	c.add(k, e.Path, e.Offset, "%s%s is %s, not %s", where, e.Field, e.Found, e.Wanted)
}

// header checks cyrus.header on its own.
func (c *checker) header() error {
	path := c.files.Paths.Header
	h, crc, err := readHeaderFile(c.fs, path)
	var e *FormatError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.add(headerMissing, path, -1, "the file is missing")
		return nil
	case errors.As(err, &e):
		c.broken(headerDamaged, e)
		return nil
	case err != nil:
		return err
	}
	c.files.Header, c.headerCRC = h, crc
	c.names = NewFlagSums(h.Flags)
	for i, name := range h.Flags[:min(len(h.Flags), UserFlagsMax)] {
		if name != "" {
			c.named.Set(i, true)
		}
	}
	if h.HasLiteral() {
		c.add(headerLiteral, path, int64(len(headerMagic)), "a literal stands in the dlist")
	}
	for _, problem := range h.problems() {
		k := headerFlags
		if problem.Field == "uniqueid" {
			k = headerNoID
		}
		problem.Path = path
		c.broken(k, problem)
	}
	if n := len(h.read.rest); n > 0 {
		c.add(headerTrailing, path, int64(len(h.read.raw)-n), "%d bytes follow the body", n)
	}
	return nil
}

// index opens cyrus.index as far as that is possible and checks its header on its own.
func (c *checker) index() error {
	path := c.files.Paths.Index
	s, err := c.files.source(c.fs, path)
	if errors.Is(err, fs.ErrNotExist) {
		c.add(indexMissing, path, -1, "the file is missing")
		return nil
	}
	if err != nil {
		return err
	}
	f, err := NewFile(s, s.size, path)
	c.files.Index = f
	var e *FormatError
	if err != nil && !errors.As(err, &e) {
		return err
	}
	if e != nil {
		c.broken(kindOfIndexError(e), e)
	}
	if f == nil {
		return nil
	}
	h := &f.Header
	c.partial = e != nil
	if e != nil && e.Field == "header_crc" {
		// Why the checksum is wrong may show in the sizes.
		if sizes := (*FormatError)(nil); errors.As(h.validateSizes(f.layout), &sizes) {
			sizes.Path = path
			c.broken(indexSizes, sizes)
		}
	}
	if fit := (s.size - int64(f.layout.headerSize)) / f.stride; e != nil && e.Field != "num_records" && int64(h.NumRecords) > fit {
		c.add(indexTruncated, path, s.size, "%d records in %d bytes, and num_records is %d", fit, s.size, h.NumRecords)
	}
	if end := f.Offset(f.count + 1); s.size > end && !c.partial {
		c.add(indexTrailing, path, end, "%d bytes follow the last record", s.size-end)
	}
	if h.Format != 0 || h.spare != nil {
		c.add(indexSpare, path, 4, "format is %d; bytes of no meaning are zero: %t", h.Format, h.spare == nil)
	}
	n := h.Normalized()
	if n.DeletedModSeq > n.HighestModSeq || n.CreatedModSeq > n.HighestModSeq {
		c.add(indexModSeq, path, int64(f.layout.header[hHighestModSeq].off), "highestmodseq is %d, deletedmodseq %d, createdmodseq %d", n.HighestModSeq, n.DeletedModSeq, n.CreatedModSeq)
	}
	if h.HeaderFileCRC != 0 && c.files.Header != nil && h.HeaderFileCRC != c.headerCRC {
		c.add(headerChecksum, c.files.Paths.Header, 0, "the checksum is %08x, in cyrus.index %08x", c.headerCRC, h.HeaderFileCRC)
	}
	return nil
}

func kindOfIndexError(e *FormatError) kind {
	switch {
	case errors.Is(e, ErrVersion):
		return indexVersion
	case e.Field == "header_crc":
		return indexChecksum
	case e.Field == "start_offset" || e.Field == "record_size":
		return indexSizes
	case e.Field == "num_records":
		return indexTruncated
	}
	return indexShort
}

// records checks each record, alone and with the one before it, and its cache record, and adds them up.
func (c *checker) records() error {
	f := c.files.Index
	path, v, h := c.files.Paths.Index, f.Version(), f.Header.Normalized()
	if err := c.annotations(); err != nil {
		return err
	}
	last := UID(0)
	for batch, err := range f.Batches(1) {
		if err == nil {
			err = c.ctx.Err()
		}
		if err != nil {
			return err
		}
		for i := range batch.Len() {
			no := batch.First + RecordNo(i)
			var r Record
			off := f.Offset(no)
			if e := (*FormatError)(nil); errors.As(in(batch.At(i).Decode(&r), path, off, no), &e) {
				c.broken(recordChecksum, e)
				c.partial = true
				continue
			}
			if r.UID == 0 {
				c.add(recordWiped, path, off, "record %d was wiped", no)
				continue
			}
			if r.UID <= last {
				c.add(recordOrder, path, off, "record %d: UID %d follows UID %d", no, r.UID, last)
			}
			last = r.UID
			c.record(&r, no, v, &h)
			c.totals.Add(&r, v, c.names)
			if a, ok := c.annotated[r.UID]; ok && !r.Expunged() {
				c.totals.SyncAnnot ^= a.sum
				c.totals.QuotaAnnot += a.bytes
			}
			if err := c.cacheRecord(&r, no); err != nil {
				return err
			}
		}
	}
	return nil
}

// knownFlags are the system flags of a version.
func knownFlags(v Version) (known Flags) {
	for _, f := range systemFlags {
		if v >= versionChecksums || f.bit <= FlagDraft {
			known |= f.bit
		}
	}
	return known
}

// record checks the fields of one record.
func (c *checker) record(r *Record, no RecordNo, v Version, h *Header) {
	path, off := c.files.Paths.Index, c.files.Index.Offset(no)
	if r.UID > h.LastUID {
		c.add(recordUID, path, off, "record %d: UID %d is above last_uid, %d", no, r.UID, h.LastUID)
	}
	if v >= versionModSeq && r.ModSeq > h.HighestModSeq {
		c.add(recordModSeq, path, off, "record %d: modseq %d is above highestmodseq, %d", no, r.ModSeq, h.HighestModSeq)
	}
	if e := (*FormatError)(nil); errors.As(in(r.Validate(v), path, off, no), &e) {
		c.broken(recordValue, e)
	}
	if odd := r.Flags &^ knownFlags(v); odd != 0 {
		c.add(recordBits, path, off, "record %d: system flags %08x have no meaning in version %d", no, uint32(odd), v)
	}
	if c.files.Header == nil {
		return
	}
	unnamed := 0
	for i, word := range r.UserFlags {
		unnamed += bits.OnesCount32(word &^ c.named[i])
	}
	if unnamed > 0 {
		c.add(recordUnnamed, path, off, "record %d: %d flags have no name", no, unnamed)
	}
}

// compare holds the header against the sums over the records.
func (c *checker) compare() error {
	if c.partial {
		return nil
	}
	f, t := c.files.Index, &c.totals
	path, v, h := c.files.Paths.Index, f.Version(), &f.Header
	at := func(id int) int64 { return int64(f.layout.header[id].off) }
	for _, n := range []struct {
		id            int
		k             kind
		found, wanted uint64
	}{
		{hExists, countWrong, uint64(h.Exists), uint64(t.Exists)},
		{hDeleted, countWrong, uint64(h.Deleted), uint64(t.Deleted)},
		{hAnswered, countWrong, uint64(h.Answered), uint64(t.Answered)},
		{hFlagged, countWrong, uint64(h.Flagged), uint64(t.Flagged)},
		{hUnseen, countWrong, uint64(h.Unseen), uint64(t.Unseen)},
		{hQuotaUsed, quotaWrong, h.QuotaUsed, t.QuotaUsed},
		{hQuotaDeleted, quotaWrong, h.QuotaDeleted, t.QuotaDeleted},
		{hQuotaExpunged, quotaWrong, h.QuotaExpunged, t.QuotaExpunged},
	} {
		if v.hasHeaderField(n.id) && n.found != n.wanted {
			c.add(n.k, path, at(n.id), "%s is %d, not %d", fieldName(headerFields, n.id), n.found, n.wanted)
		}
	}
	c.compareAnnotations(at)
	// A value of 0 is one that nobody has computed.
	if v.hasHeaderField(hSyncBasic) && h.SyncBasic != 0 && t.SyncBasic != 0 && h.SyncBasic != t.SyncBasic && c.files.Header != nil {
		c.add(syncWrong, path, at(hSyncBasic), "synccrc_basic is %08x, not %08x", h.SyncBasic, t.SyncBasic)
	}
	if v.hasHeaderField(hFirstExpunged) && t.FirstExpunged != 0 && (h.FirstExpunged == 0 || h.FirstExpunged > t.FirstExpunged) {
		c.add(firstExpunged, path, at(hFirstExpunged), "first_expunged is %d, not %d", h.FirstExpunged.Unix(), t.FirstExpunged.Unix())
	}
	return nil
}
