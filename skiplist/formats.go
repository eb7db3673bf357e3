package skiplist

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/flat"
	"github.com/mailspine/mailspine/skiplist/internal/twoskip"
	"github.com/mailspine/mailspine/skiplist/internal/v1"
)

// codecs are the formats known. Adding one is adding a line here, a Format and a magic.
var codecs = map[Format]codec.Codec{
	Skiplist: v1.New(),
	Twoskip:  twoskip.New(),
	Flat:     flat.New(),
}

// magics begin the files of the formats that have one.
var magics = []struct {
	format Format
	magic  []byte
}{
	{Skiplist, []byte("\xa1\x02\x8b\x0dskiplist file\x00\x00\x00")},
	{Twoskip, []byte("\xa1\x02\x8b\x0dtwoskip file\x00\x00\x00\x00")},
}

// magicLen is how many bytes Cyrus compares (cyrusdb_detect).
const magicLen = 16

// Detect tells the format of the file that r reads: Auto if it is empty. Flat has no magic; it is assumed for text
// whose first line has a TAB. Anything else is ErrNotDatabase.
func Detect(r io.ReaderAt) (Format, error) {
	head := make([]byte, 4096)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Auto, err
	}
	head = head[:n]
	if n == 0 {
		return Auto, nil
	}
	for _, m := range magics {
		k := min(n, magicLen)
		if bytes.Equal(head[:k], m.magic[:k]) && k > 4 {
			return m.format, nil
		}
	}
	line, _, _ := bytes.Cut(head, []byte("\n"))
	if bytes.IndexByte(line, '\t') > 0 && bytes.IndexByte(line, 0) < 0 && head[0] != 0xa1 {
		return Flat, nil
	}
	return Auto, ErrNotDatabase
}

// formatOf decides which codec reads the file: the one asked for, if the file does not say otherwise. Of a file of zero
// bytes nobody may have told it.
func formatOf(path string, f vfs.File, asked Format) (_ Format, told bool, err error) {
	found, err := Detect(f)
	if errors.Is(err, ErrNotDatabase) {
		if asked == Flat {
			return Flat, true, nil // its codec has the last word
		}
		return Auto, false, &FormatError{Path: path, Field: "magic", Problem: "it begins like no format known here", Class: ErrNotDatabase}
	}
	if err != nil {
		return Auto, false, fmt.Errorf("read the first bytes of %s: %w", path, err)
	}
	switch {
	case found == Auto && asked == Auto:
		return Twoskip, false, nil
	case found == Auto || found == asked:
		return asked, true, nil
	case asked == Auto:
		return found, true, nil
	}
	return Auto, false, &FormatError{Path: path, Field: "magic", Class: ErrNotDatabase,
		Problem: fmt.Sprintf("the file is in format %s, it was opened as %s", found, asked)}
}
