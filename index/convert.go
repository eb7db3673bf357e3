package index

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/mailspine/mailspine/internal/message"
	"github.com/mailspine/mailspine/internal/vfs"
)

// ErrKeptElsewhere means that a version keeps something outside the files of the mailbox, and that it cannot be brought
// there, or from there, without a loss.
var ErrKeptElsewhere = errors.New("the version keeps this outside of the mailbox")

// KeptElsewhereError says what would be lost. It is of class ErrKeptElsewhere.
type KeptElsewhereError struct {
	// What is to be kept, and Why it cannot be.
	What, Why string
}

func (e *KeptElsewhereError) Error() string { return e.What + ": " + e.Why }

// Unwrap returns the class.
func (e *KeptElsewhereError) Unwrap() error { return ErrKeptElsewhere }

// LostMessageError says that a change of version needs a message whose file cannot be read, or is not the one of the
// record.
type LostMessageError struct {
	UID  UID
	Path string
}

func (e *LostMessageError) Error() string {
	return fmt.Sprintf("the version needs what stands in the message of UID %d, and %s is missing or another message", e.UID, e.Path)
}

// Unwrap returns the class.
func (e *LostMessageError) Unwrap() error { return ErrDamaged }

// convertVersions are those that a mailbox can be converted from and to, as Cyrus 3.6 can.
var convertVersions = []Version{6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17}

// ConvertVersions lists the versions between which [Upgrade] converts.
func ConvertVersions() []Version { return slices.Clone(convertVersions) }

func convertible(from, to Version) error {
	for _, v := range []Version{from, to} {
		if !slices.Contains(convertVersions, v) {
			return &FormatError{Offset: 8, Field: "minor_version", Found: num(v), Wanted: "6 to 10 or 12 to 17", Class: ErrVersion}
		}
	}
	return nil
}

// convertHeader makes the header one of the new version, as far as it does not follow from the records.
func (p *pass) convertHeader(r *repack) {
	h, from, to := &p.header, r.old.Index.Version(), r.to
	h.Generation, h.NumRecords, h.LeakedCache = r.done.Generation, 0, 0
	h.spare = nil
	now := h.now(r.fs)
	if from != to {
		*h = h.Normalized()
		h.Version, h.StartOffset, h.RecordSize = to, uint32(to.HeaderSize()), uint32(to.RecordSize())
		p.fields(r, from, now)
	}
	if to.hasHeaderField(hLastRepack) {
		h.LastRepack = now
	}
	h.Options = h.Options.Written(to) &^ (OptionNeedsUnlink | OptionNeedsRepack)
}

// fields begins those fields that the old version does not have, and clears those that the new one does not have.
func (p *pass) fields(r *repack, from Version, now Time) {
	h := &p.header
	gets := func(id int) bool { return r.to.hasHeaderField(id) && !from.hasHeaderField(id) }
	if gets(hHeaderFileCRC) {
		h.HeaderFileCRC = r.old.Header.Checksum()
	}
	if gets(hRecentUID) && r.seen != nil {
		h.RecentUID, h.RecentTime = r.seen.record.LastUID, r.seen.record.LastChange
	}
	if gets(hChangesEpoch) {
		// Nobody knows since when the records tell all; from now on they do.
		if h.ChangesEpoch = h.LastRepack; h.ChangesEpoch == 0 {
			h.ChangesEpoch = now
		}
	}
	if gets(hCreatedModSeq) {
		h.CreatedModSeq = 0
	}
	for id, field := range map[int]func(){
		hHighestModSeq: func() { h.HighestModSeq = 0 }, hDeletedModSeq: func() { h.DeletedModSeq = 0 },
		hFirstExpunged: func() { h.FirstExpunged = 0 }, hLastRepack: func() { h.LastRepack = 0 },
		hHeaderFileCRC: func() { h.HeaderFileCRC = 0 }, hSyncBasic: func() { h.SyncBasic = 0 },
		hSyncAnnot: func() { h.SyncAnnot = 0 }, hRecentUID: func() { h.RecentUID, h.RecentTime = 0, 0 },
		hPOP3ShowAfter: func() { h.POP3ShowAfter = 0 }, hQuotaAnnot: func() { h.QuotaAnnot = 0 },
		hCreatedModSeq: func() { h.CreatedModSeq = 0 }, hChangesEpoch: func() { h.ChangesEpoch = 0 },
		hExists: func() { h.Exists = 0 }, hUnseen: func() { h.Unseen = 0 },
	} {
		if !r.to.hasHeaderField(id) {
			field()
		}
	}
}

// sumConverted fills in what follows from the records and is counted anew when the version changes.
func (p *pass) sumConverted(r *repack) {
	from, to := r.old.Index.Version(), r.to
	if from == to {
		return
	}
	h, t := &p.header, &p.totals
	if from < versionModSeq && to >= versionModSeq {
		h.HighestModSeq = max(h.HighestModSeq, t.HighestModSeq)
		if to.hasHeaderField(hDeletedModSeq) {
			h.DeletedModSeq = h.HighestModSeq
		}
	}
	h.Deleted, h.Answered, h.Flagged = t.Deleted, t.Answered, t.Flagged
	if to.hasHeaderField(hExists) {
		h.Exists = t.Exists
	}
	if to.hasHeaderField(hUnseen) {
		h.Unseen = t.Unseen
	}
	if from.HasChecksums() != to.HasChecksums() {
		h.QuotaUsed = t.QuotaUsed
	}
	switch {
	case !to.hasHeaderField(hSyncAnnot):
	case from.hasHeaderField(hSyncAnnot):
		// What moves between fields and annotations counts the same in both places.
		h.QuotaAnnot += p.added
		h.QuotaAnnot -= min(h.QuotaAnnot, p.taken)
	case r.annotated == nil:
		h.SyncAnnot = 0 // that nobody has computed
	default:
		h.SyncAnnot, h.QuotaAnnot = SyncAnnotStart^p.annotSum, p.annotBytes-min(p.annotBytes, p.taken)
	}
}

// convertRecord makes a record of the old version one of the new, once its message is parsed where that is needed.
func (r *repack) convertRecord(p *pass, rec *Record) error {
	from, to := r.old.Index.Version(), r.to
	if err := r.moveVirtual(p, rec); err != nil {
		return err
	}
	if a, ok := r.annotated[rec.UID]; ok && !rec.Expunged() {
		p.annotSum, p.annotBytes = p.annotSum^a.sum, p.annotBytes+a.bytes
	}
	rec.tail, rec.UUID, rec.ContentLines, rec.ContentOffset = nil, [12]byte{}, 0, 0
	if to < versionChecksums {
		rec.ContentOffset, rec.GMTime = rec.HeaderSize, 0
		rec.Flags &^= FlagSeen // which is in the seen database now
	} else if from < versionChecksums {
		rec.Flags &^= FlagSeen
		if r.seen.record.Has(rec.UID) {
			rec.Flags |= FlagSeen
		}
	}
	if to < versionGUID {
		rec.GUID = GUID{}
	}
	switch {
	case to < versionModSeq:
		rec.ModSeq = 0
	case from < versionModSeq:
		// It has none, and cannot be older than its creation, which an annotation may tell.
		rec.ModSeq = max(rec.CreatedModSeq, 1)
	}
	return nil
}

// needsMessage tells whether the cache record of a message is made anew, and whether there is no way around it.
func (r *repack) needsMessage(rec *Record) (parse, must bool) {
	from := r.old.Index.Version()
	if from < versionChecksums && r.to >= versionChecksums || from < versionGUID && r.to >= versionGUID {
		return true, true // it has no GUID, or no time of the Date header
	}
	// Later versions of the index leave the number of lines to the cache.
	return from < versionSaveDate && r.to >= versionSaveDate && rec.CacheVersion < cacheLines, false
}

// cacheLines is the first cache version that has the number of lines.
const cacheLines = 9

// parseMessage makes cache record and fields of a record anew from its message. It is false if there is no such message.
func (r *repack) parseMessage(p *pass, rec *Record) (bool, error) {
	f, err := r.fs.Open(r.place.Message(rec), vfs.ReadOnly, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	m, err := r.parser.ParseAt(f, info.Size)
	if errors.Is(err, message.ErrEmpty) || errors.Is(err, message.ErrTooLarge) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if uint64(m.Size) != rec.Size || rec.GUID != (GUID{}) && rec.GUID != m.GUID {
		return false, nil
	}
	p.cache = m.AppendCache(p.cache[:0])
	rec.CacheVersion, rec.GUID = message.CacheVersion, m.GUID
	if !r.old.Index.Version().HasChecksums() && r.to.HasChecksums() {
		sent, gm := m.Dates(rec.InternalDate.Unix(), r.zone())
		rec.HeaderSize = uint32(m.HeaderSize)
		rec.SentDate, rec.GMTime = Seconds(uint32(sent)), Seconds(uint32(gm))
	}
	return true, nil
}

func (r *repack) zone() *time.Location {
	if z := r.opts.Open.Zone; z != nil {
		return z
	}
	return time.Local
}
