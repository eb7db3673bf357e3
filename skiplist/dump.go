package skiplist

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// Span is one stretch of a file in a byte map, Field a part of it.
type (
	Span  = codec.Span
	Field = codec.Field
)

// maxDumpBytes bounds, in bytes, how much of one span Dump hands over.
const maxDumpBytes = 1 << 20

// Dump calls show for every stretch of the file at path, from the first byte to the last, damaged ones included, with
// its bytes (the first MiB of them; valid during the call). An error from show ends it. The file is not locked: it shows
// what stands there now.
func Dump(ctx context.Context, path string, opts Options, show func(s Span, bytes []byte) error) (err error) {
	opts, err = opts.withDefaults()
	if err != nil {
		return err
	}
	opts.ReadOnly = true
	s := salvager{db: &DB{path: path, opts: opts, fs: opts.FS}}
	g, err := openGeneration(opts.FS, path, true)
	if err != nil {
		return err
	}
	defer g.release()
	if err := s.chooseCodec(g); err != nil {
		return err
	}
	info, err := g.rd.Stat()
	if err != nil {
		return err
	}
	v := g.view(info.Size)
	defer vfs.CatchFault(vfs.ArmFault(), v.Mem, &err)
	for span := range s.db.codec.Spans(v) {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		b, err := v.Bytes(span.Off, min(span.Len, maxDumpBytes))
		if err != nil {
			return err
		}
		if err := show(span, b); err != nil {
			return err
		}
	}
	return nil
}

// Create makes an empty database at path, complete and durable, or fails if something is there already.
func Create(ctx context.Context, path string, opts Options) error {
	opts, err := opts.withDefaults()
	if err != nil {
		return err
	}
	db := &DB{path: path, opts: opts, fs: opts.FS}
	if _, err = db.create(ctx); errors.Is(err, fs.ErrExist) {
		// The call that failed names a temporary file too, which says nothing to anybody.
		return fmt.Errorf("%s: %w", path, syscall.EEXIST)
	}
	return err
}
