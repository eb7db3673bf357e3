package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// virtual is a field of the record that versions before since keep as an annotation of the message.
type virtual struct {
	entry string
	since Version
	get   func(*Record) string // "" if it has no value
	set   func(*Record, string) error
}

var virtuals = []virtual{
	{entryThread, versionCID,
		func(r *Record) string { return notZero(r.CID, 16) },
		func(r *Record, s string) (err error) { r.CID, err = strconv.ParseUint(s, 16, 64); return err }},
	{entrySaveDate, versionSaveDate,
		func(r *Record) string { return notZero(uint64(r.SaveDate.Unix()), 10) },
		func(r *Record, s string) error {
			n, err := strconv.ParseUint(s, 10, 32)
			r.SaveDate = Seconds(uint32(n))
			return err
		}},
	{entryCreated, versionCreated,
		func(r *Record) string { return notZero(uint64(r.CreatedModSeq), 10) },
		func(r *Record, s string) error {
			n, err := strconv.ParseUint(s, 10, 64)
			r.CreatedModSeq = ModSeq(n)
			return err
		}},
}

func notZero(n uint64, base int) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, base)
}

// key is that of the annotation in cyrus.annotations.
func (v *virtual) key(uid UID) []byte {
	b := strconv.AppendUint(nil, uint64(uid), 10)
	b = append(append(b, 0), v.entry...)
	return append(b, 0, 0)
}

// appendAnnotation writes the value of an annotation as Cyrus does.
func appendAnnotation(dst []byte, value string, modseq ModSeq) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
	dst = append(append(dst, 0, 0, 0, 0), value...)
	dst = append(dst, "\x00text/plain\x00"...)
	dst = append(dst, make([]byte, 8)...)
	return append(binary.BigEndian.AppendUint64(dst, uint64(modseq)), 0)
}

// moveVirtual takes fields that the new version has from the annotations, and counts the annotations that the fields
// become which it does not have.
func (r *repack) moveVirtual(p *pass, rec *Record) error {
	from := r.old.Index.Version()
	for i := range virtuals {
		v := &virtuals[i]
		switch {
		case from < v.since && r.to >= v.since:
			text, err := r.annotation(v.key(rec.UID))
			if err != nil || text == "" {
				if err != nil {
					return err
				}
				continue
			}
			if err := v.set(rec, text); err != nil {
				return &KeptElsewhereError{What: fmt.Sprintf("the annotation %s of UID %d", v.entry, rec.UID), Why: strconv.Quote(text) + " is no value of it"}
			}
			if !rec.Expunged() {
				p.taken += uint64(len(text))
			}
		case from >= v.since && r.to < v.since:
			if text := v.get(rec); text != "" {
				p.moved = true
				if !rec.Expunged() {
					p.added += uint64(len(text))
				}
			}
		}
	}
	return nil
}

// annotation is the value of an annotation, "" if there is none.
func (r *repack) annotation(key []byte) (string, error) {
	if r.annotations == nil {
		return "", nil // there is no such file
	}
	b, err := r.annotations.Get(key)
	if errors.Is(err, skiplist.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", r.place.Paths.Annotations, err)
	}
	value, deleted := annotationValue(b)
	if value == nil || deleted {
		return "", nil
	}
	return string(value), nil
}

// annotationsAtOnce is how many records' annotations are put into one transaction.
const annotationsAtOnce = 5000

// addVirtual puts the fields that the new version does not have into the annotations, before the commit point: until
// then, they mean nothing.
func (r *repack) addVirtual() error {
	if !r.pass.moved {
		return nil
	}
	path := r.place.Paths.Annotations
	_, was := r.fs.Stat(path)
	err := r.writeVirtual(path)
	if err != nil && errors.Is(was, fs.ErrNotExist) {
		_ = r.fs.Unlink(path) // made for this alone
	}
	return err
}

func (r *repack) writeVirtual(path string) error {
	db, err := skiplist.Open(r.ctx, path, skiplist.Options{FS: r.fs, Create: true, Mode: 0o600})
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer db.Close()
	from := r.old.Index.Version()
	for first := RecordNo(1); first <= r.old.Index.Len(); first += annotationsAtOnce {
		err := db.Update(r.ctx, func(tx *skiplist.Tx) error {
			for no := first; no < first+annotationsAtOnce && no <= r.old.Index.Len(); no++ {
				rec, err := r.old.Index.Record(no)
				if err != nil {
					return err
				}
				if rec.UID == 0 || rec.Flags.gone() {
					continue
				}
				for i := range virtuals {
					v := &virtuals[i]
					text := v.get(&rec)
					if text == "" || from < v.since || r.to >= v.since {
						continue
					}
					if err := tx.Put(v.key(rec.UID), appendAnnotation(nil, text, r.old.Index.Header.HighestModSeq)); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		if first > r.old.Index.Len()-min(annotationsAtOnce, r.old.Index.Len()) {
			break // the next number might not fit
		}
	}
	return nil
}

// dropVirtual removes the annotations that are fields of the records in a version: what was moved, or was to be moved.
func dropVirtual(ctx context.Context, fsys vfs.FS, path string, version Version) error {
	if path == "" {
		return nil
	}
	db, err := skiplist.Open(ctx, path, skiplist.Options{FS: fsys})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer db.Close()
	for more := true; more; {
		var keys [][]byte
		err := db.View(ctx, func(s *skiplist.Snapshot) error {
			keys, more = nil, false
			for r, err := range s.All() {
				if err != nil {
					return err
				}
				if isVirtual(r.Key, version) {
					keys = append(keys, append([]byte(nil), r.Key...))
				}
				if len(keys) == annotationsAtOnce {
					more = true
					return nil
				}
			}
			return nil
		})
		if err == nil && len(keys) > 0 {
			err = db.Update(ctx, func(tx *skiplist.Tx) error {
				tx.UseReserve()
				for _, key := range keys {
					if err := tx.Delete(key); err != nil && !errors.Is(err, skiplist.ErrNotFound) {
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}

// isVirtual tells whether the key is of an annotation that is a field in the version.
func isVirtual(key []byte, version Version) bool {
	_, rest, ok := strings.Cut(string(key), "\x00")
	if !ok {
		return false
	}
	for _, v := range virtuals {
		if version >= v.since && rest == v.entry+"\x00\x00" {
			return true
		}
	}
	return false
}
