package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// The records of cyrus.annotations: the key is UID, entry and user, each with a NUL behind it; the value is a length of
// 32 bits, four zeros, that many bytes, and then a NUL, "text/plain" with a NUL, eight zeros, a modseq and a byte of
// flags.
const (
	annotationHead    = 8
	annotationDeleted = 1
	// annotationOwner stands for the user who owns the mailbox.
	annotationOwner = "[.OwNeR.]"
)

// annotated is what the annotations of one message add up to.
type annotated struct {
	sum   uint32
	bytes uint64
}

// errOwner means that an annotation is the owner's, whose name is not known.
var errOwner = errors.New("the owner of the mailbox is not known")

// readAnnotations reads the annotations of messages. A missing file is an empty one.
func readAnnotations(ctx context.Context, fsys vfs.FS, path, owner string) (map[UID]annotated, error) {
	all := map[UID]annotated{}
	db, err := skiplist.Open(ctx, path, skiplist.Options{ReadOnly: true, FS: fsys})
	if err != nil {
		return all, ignoreMissing(err)
	}
	defer db.Close()
	return all, db.View(ctx, func(s *skiplist.Snapshot) error {
		for r, err := range s.All() {
			if err != nil {
				return err
			}
			parts := strings.Split(string(r.Key), "\x00")
			uid, err := strconv.ParseUint(parts[0], 10, 32)
			value, deleted := annotationValue(r.Value)
			if err != nil || len(parts) < 3 || value == nil || deleted {
				continue
			}
			user := parts[2]
			if user == annotationOwner {
				if user = owner; user == "" {
					return errOwner
				}
			}
			a := all[UID(uid)]
			a.sum ^= AnnotationSum(UID(uid), parts[1], user, value)
			a.bytes += uint64(len(value))
			all[UID(uid)] = a
		}
		return nil
	})
}

// annotationValue takes the bytes of an annotation out of its record, nil if the record is none.
func annotationValue(b []byte) (value []byte, deleted bool) {
	if len(b) < annotationHead {
		return nil, false
	}
	n := int64(binary.BigEndian.Uint32(b))
	if n > int64(len(b)-annotationHead-1) {
		return nil, false
	}
	return b[annotationHead : annotationHead+n], b[len(b)-1]&annotationDeleted != 0
}

// annotations reads the annotations of the mailbox, if the version has a checksum over them.
func (c *checker) annotations() error {
	path := c.files.Paths.Annotations
	if !c.files.Index.Version().hasHeaderField(hSyncAnnot) || path == "" {
		return nil
	}
	var err error
	c.annotated, err = readAnnotations(c.ctx, c.fs, path, c.opts.Owner)
	if err == nil || c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	c.annotated = nil
	if errors.Is(err, errOwner) {
		return nil
	}
	if broken := (*skiplist.FormatError)(nil); !errors.As(err, &broken) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	c.add(annotations, path, -1, "the database cannot be read: %v", err)
	return nil
}

// compareAnnotations compares synccrc_annot, and what of quota_annot_used the files of the mailbox tell: annotations of
// the mailbox itself, in another database, count there too.
func (c *checker) compareAnnotations(at func(int) int64) {
	f := c.files.Index
	h, path := &f.Header, c.files.Paths.Index
	if c.annotated == nil || !f.Version().hasHeaderField(hSyncAnnot) {
		return
	}
	if h.SyncAnnot != 0 && c.totals.SyncAnnot != 0 && h.SyncAnnot != c.totals.SyncAnnot {
		c.add(syncWrong, path, at(hSyncAnnot), "synccrc_annot is %08x, not %08x", h.SyncAnnot, c.totals.SyncAnnot)
	}
	if h.QuotaAnnot < c.totals.QuotaAnnot {
		c.add(quotaWrong, path, at(hQuotaAnnot), "quota_annot_used is %d, and messages alone have %d", h.QuotaAnnot, c.totals.QuotaAnnot)
	}
}
