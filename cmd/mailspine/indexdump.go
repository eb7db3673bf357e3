package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// dumpIndex prints the byte map of a cyrus.index.
func (b *box) dumpIndex([]string) (err error) {
	file, err := vfs.OS().Open(b.place.Paths.Index, vfs.ReadOnly, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	d := indexDump{box: b, file: file, size: info.Size, list: newList(b.out)}
	d.printer = mapPrinter{w: d.list.w, color: b.out.color}
	if err := d.list.end(d.run()); err != nil {
		return err
	}
	if d.printer.problems > 0 {
		return &exitError{exitDamage, nil}
	}
	return nil
}

// indexDump is one run over a file.
type indexDump struct {
	*box
	file    vfs.File
	size    int64
	list    *list
	printer mapPrinter
}

func (d *indexDump) run() error {
	prefix := make([]byte, min(d.size, int64(index.VersionLatest.HeaderSize())))
	if err := d.read(prefix, 0); err != nil {
		return err
	}
	var h index.Header
	problem := ""
	if err := h.Decode(prefix); err != nil {
		if !errors.Is(err, index.ErrDamaged) || !h.Version.Known() {
			return d.span("nothing that is known", 0, d.size, prefix, nil, err.Error())
		}
		problem = err.Error()
	}
	at := int64(h.Version.HeaderSize())
	if d.size < at {
		return d.span("header, cut off", 0, d.size, prefix, nil, fmt.Sprintf("the header of version %d has %d bytes", h.Version, at))
	}
	if err := d.span("header", 0, at, prefix[:at], h.Version.HeaderFields(prefix[:at]), problem); err != nil {
		return err
	}
	return d.records(h, at)
}

// records prints all from the offset on.
func (d *indexDump) records(h index.Header, at int64) error {
	record := make([]byte, h.Version.RecordSize())
	step := int64(len(record))
	for no := uint32(1); no <= h.NumRecords; no++ {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		if d.size-at < step {
			break
		}
		if err := d.read(record, at); err != nil {
			return err
		}
		var r index.Record
		problem := ""
		if err := r.Decode(h.Version, record); err != nil {
			problem = err.Error()
		}
		kind := fmt.Sprintf("record %d, UID %d", no, r.UID)
		if err := d.span(kind, at, step, record, h.Version.RecordFields(record), problem); err != nil {
			return err
		}
		at += step
	}
	want := int64(h.Version.HeaderSize()) + int64(h.NumRecords)*step
	if at == d.size && at >= want {
		return nil
	}
	rest := make([]byte, min(d.size-at, 4096))
	if err := d.read(rest, at); err != nil {
		return err
	}
	if d.size < want {
		return d.span("records, cut off", at, d.size-at, rest, nil, fmt.Sprintf("with num_records %d the file has %d bytes", h.NumRecords, want))
	}
	return d.span("bytes after the last record", at, d.size-at, rest, nil, "")
}

func (d *indexDump) read(b []byte, at int64) error {
	if n, err := d.file.ReadAt(b, at); n < len(b) {
		return fmt.Errorf("read %s at %#x: %w", d.place.Paths.Index, at, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return nil
}

func (d *indexDump) span(kind string, off, size int64, b []byte, fields []index.FieldValue, problem string) error {
	s := skiplist.Span{Off: off, Len: size, Kind: kind, Problem: problem}
	for _, f := range fields {
		s.Fields = append(s.Fields, skiplist.Field{Off: off + int64(f.Offset), Len: int64(f.Size), Name: f.Name, Value: f.Value})
	}
	if problem != "" {
		d.printer.problems++
	}
	if !d.out.text() {
		if len(fields) == 0 {
			s.Fields = []skiplist.Field{{Off: off, Len: int64(len(b)), Name: "bytes", Value: hex.EncodeToString(b)}}
		}
		return d.list.add(s)
	}
	return d.printer.span(s, b)
}
