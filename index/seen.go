package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// seenVersion is the version of the records of a seen database.
const seenVersion = "1"

// Seen is what a seen database says of one mailbox: which messages its user has seen. It is the truth for all users but
// the owner, and for the owner before version 12.
type Seen struct {
	// LastRead is when the user looked last, LastUID the highest that was there then, LastChange when something changed.
	LastRead, LastChange Time
	LastUID              UID
	// UIDs are those of seen messages, ascending.
	UIDs []UIDRange
}

// Decode reads the value of a record.
func (s *Seen) Decode(b []byte) error {
	*s = Seen{}
	bad := func(field, found, wanted string) error { return damaged(0, field, found, wanted) }
	parts := strings.SplitN(strings.TrimRight(string(b), " "), " ", 5)
	if len(parts) < 4 || parts[0] != seenVersion {
		return bad("seen", strconv.Quote(string(b[:min(len(b), 40)])), "a record of version 1")
	}
	var numbers [3]uint64
	for i, text := range parts[1:4] {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return bad("seen", strconv.Quote(text[:min(len(text), 40)]), "a number")
		}
		numbers[i] = n
	}
	s.LastRead, s.LastUID, s.LastChange = Seconds(uint32(numbers[0])), UID(numbers[1]), Seconds(uint32(numbers[2]))
	if len(parts) < 5 || parts[4] == "" {
		return nil
	}
	for text := range strings.SplitSeq(parts[4], ",") {
		low, high, isRange := strings.Cut(text, ":")
		if !isRange {
			high = low
		}
		first, err1 := strconv.ParseUint(low, 10, 32)
		last, err2 := strconv.ParseUint(high, 10, 32)
		if high == "*" && isRange {
			last, err2 = 1<<32-1, nil
		}
		if err1 != nil || err2 != nil || first == 0 || last == 0 {
			return bad("seenuids", strconv.Quote(text[:min(len(text), 40)]), "a UID or a range of UIDs")
		}
		s.UIDs = append(s.UIDs, UIDRange{UID(min(first, last)), UID(max(first, last))})
	}
	s.order()
	return nil
}

// order sorts the ranges and joins those that touch.
func (s *Seen) order() {
	slices.SortFunc(s.UIDs, func(a, b UIDRange) int { return cmp.Compare(a.First, b.First) })
	joined := s.UIDs[:0]
	for _, r := range s.UIDs {
		if n := len(joined); n > 0 && (joined[n-1].Last == 1<<32-1 || r.First <= joined[n-1].Last+1) {
			joined[n-1].Last = max(joined[n-1].Last, r.Last)
			continue
		}
		joined = append(joined, r)
	}
	s.UIDs = joined
}

// Append appends the value of a record.
func (s *Seen) Append(dst []byte) []byte {
	dst = fmt.Appendf(dst, "%s %d %d %d ", seenVersion, s.LastRead.Unix(), s.LastUID, s.LastChange.Unix())
	for i, r := range s.UIDs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, uint64(r.First), 10)
		if r.Last > r.First {
			dst = strconv.AppendUint(append(dst, ':'), uint64(r.Last), 10)
		}
	}
	return dst
}

// Has tells whether a message is seen.
func (s *Seen) Has(uid UID) bool {
	_, found := slices.BinarySearchFunc(s.UIDs, uid, func(r UIDRange, uid UID) int {
		switch {
		case r.Last < uid:
			return -1
		case r.First > uid:
			return 1
		}
		return 0
	})
	return found
}

// seenState is the owner's \Seen across a change of version.
type seenState struct {
	record Seen
	// write is set if the record goes into the database.
	write bool
}

// readSeen reads the record of a mailbox, an empty one if there is none.
func readSeen(ctx context.Context, fsys vfs.FS, path, uniqueID string) (s Seen, err error) {
	db, err := skiplist.Open(ctx, path, skiplist.Options{ReadOnly: true, FS: fsys})
	if err != nil {
		return s, ignoreMissing(err)
	}
	defer db.Close()
	err = db.View(ctx, func(v *skiplist.Snapshot) error {
		b, err := v.Get([]byte(uniqueID))
		if errors.Is(err, skiplist.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return in(s.Decode(b), path, 0, 0)
	})
	return s, err
}

// writeSeen writes the record of a mailbox.
func writeSeen(ctx context.Context, fsys vfs.FS, path, uniqueID string, s *Seen) error {
	if err := vfs.MkdirAll(fsys, filepath.Dir(path), dirMode); err != nil {
		return err
	}
	db, err := skiplist.Open(ctx, path, skiplist.Options{FS: fsys, Create: true, Mode: 0o600})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Put(ctx, []byte(uniqueID), s.Append(nil))
}

// elsewhere reads what the old version keeps elsewhere and the new one in the mailbox.
func (r *repack) elsewhere() error {
	from := r.old.Index.Version()
	if from == r.to {
		return nil
	}
	var err error
	if !from.HasChecksums() && r.to.HasChecksums() {
		if r.opts.Seen == "" && r.old.Index.Len() > 0 {
			return &KeptElsewhereError{What: `which messages the owner has seen`, Why: "version " + num(from) + " keeps it in the owner's seen database, whose place is not known"}
		}
		r.seen = &seenState{}
		if r.opts.Seen != "" {
			if r.seen.record, err = readSeen(r.ctx, r.fs, r.opts.Seen, r.old.Header.UniqueID); err != nil {
				return fmt.Errorf("read %s: %w", r.opts.Seen, err)
			}
		}
	}
	if from.HasChecksums() && !r.to.HasChecksums() {
		h := &r.old.Index.Header
		r.seen = &seenState{write: true, record: Seen{LastRead: h.now(r.fs), LastUID: h.RecentUID, LastChange: h.LastAppend}}
	}
	if !from.hasHeaderField(hSyncAnnot) && r.to.hasHeaderField(hSyncAnnot) && r.place.Paths.Annotations != "" {
		r.annotated, err = readAnnotations(r.ctx, r.fs, r.place.Paths.Annotations, r.place.Owner)
		if errors.Is(err, errOwner) {
			r.annotated, err = nil, nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", r.place.Paths.Annotations, err)
		}
	}
	return r.openAnnotations()
}

// openAnnotations opens the annotations, if some of them become fields.
func (r *repack) openAnnotations() error {
	path := r.place.Paths.Annotations
	moves := slices.ContainsFunc(virtuals, func(v virtual) bool { return r.old.Index.Version() < v.since && r.to >= v.since })
	if !moves || path == "" {
		return nil
	}
	db, err := skiplist.Open(r.ctx, path, skiplist.Options{ReadOnly: true, FS: r.fs})
	if err == nil {
		r.moving = db
	}
	return ignoreMissing(err)
}

// noteSeen remembers that a message is seen, for the seen database.
func (r *repack) noteSeen(rec *Record) {
	if r.seen == nil || !r.seen.write || rec.Flags&FlagSeen == 0 || rec.Expunged() {
		return
	}
	r.seen.record.UIDs = appendUID(r.seen.record.UIDs, rec.UID, rec.UID)
}

// refuse says what would be lost.
func (r *repack) refuse() error {
	if r.seen != nil && r.seen.write && len(r.seen.record.UIDs) > 0 && (r.opts.Seen == "" || r.old.Header.UniqueID == "") {
		return &KeptElsewhereError{What: `which messages the owner has seen`, Why: "version " + num(r.to) + " keeps it in the owner's seen database, whose place is not known"}
	}
	if r.pass.moved && r.place.Paths.Annotations == "" {
		return &KeptElsewhereError{What: "conversation, savedate or createdmodseq of a message", Why: "version " + num(r.to) + " keeps it in cyrus.annotations, whose place is not known"}
	}
	return nil
}

// addElsewhere writes what the new version keeps elsewhere, before the commit point: until then it means nothing.
func (r *repack) addElsewhere() error {
	if r.seen != nil && r.seen.write && (len(r.seen.record.UIDs) > 0 || r.seen.record.LastUID != 0) && r.opts.Seen != "" {
		if err := writeSeen(r.ctx, r.fs, r.opts.Seen, r.old.Header.UniqueID, &r.seen.record); err != nil {
			return fmt.Errorf("write %s: %w", r.opts.Seen, err)
		}
	}
	return r.addVirtual()
}
