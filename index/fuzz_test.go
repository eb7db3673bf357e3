package index

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/bounded"
)

// seeds adds the golden files of a name.
func seeds(f *testing.F, name string) {
	for _, v := range cyrusVersions {
		b, err := os.ReadFile(filepath.Join(goldenDir(v), name))
		require.NoError(f, err)
		f.Add(b)
	}
}

// FuzzIndex reads a cyrus.index: no panic, errors are typed, and what decodes without one encodes to the same bytes.
func FuzzIndex(f *testing.F) {
	seeds(f, IndexName)
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzIndex(t, b)
		fuzzIndex(t, rightChecksums(b))
	})
}

// rightChecksums sets the checksums of a cyrus.index right, so that the fuzzer gets past them.
func rightChecksums(b []byte) []byte {
	if len(b) < minHeader {
		return b
	}
	l := layoutOf(Version(place{off: 8, size: 4}.get(b)))
	if l == nil || len(b) < l.headerSize || !l.version.HasChecksums() {
		return b
	}
	b = bytes.Clone(b)
	l.header[hCRC].put(b, uint64(checksum(b[:l.header[hCRC].off])))
	for at := l.headerSize; len(b)-at >= l.recordSize; at += l.recordSize {
		l.record[rCRC].put(b[at:], uint64(checksum(b[at:at+int(l.record[rCRC].off)])))
	}
	return b
}

// readIndex reads all records of a cyrus.index, and looks each up.
func readIndex(b []byte) {
	file, _ := NewFile(bytes.NewReader(b), int64(len(b)), "f")
	if file == nil {
		return
	}
	for e := range file.Records(1) {
		_, _, _ = file.Find(e.UID)
	}
}

func fuzzIndex(t *testing.T, b []byte) {
	bounded.Run(t, len(b), 32, func() { readIndex(b) })
	file, err := NewFile(bytes.NewReader(b), int64(len(b)), "f")
	if err != nil {
		require.True(t, isFormat(err), "%v", err)
	}
	if file == nil {
		return
	}
	if err == nil {
		require.Equal(t, b[:file.Offset(1)], file.Header.Append(nil))
	}
	require.LessOrEqual(t, int64(file.Len())*file.stride, int64(len(b)))
	for e, err := range file.Records(1) {
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			continue
		}
		at := file.Offset(e.No)
		require.Equal(t, b[at:at+file.stride], e.Append(nil, file.Version()))
		if _, _, err := file.Find(e.UID); err != nil && !isFormat(err) {
			require.ErrorIs(t, err, ErrNotFound)
		}
	}
}

// readHeader reads a cyrus.header and writes it anew.
func readHeader(b []byte) {
	var h HeaderFile
	if h.Decode(b) == nil && h.Validate() == nil {
		v := h.values()
		v.Append(h.Append(nil))
	}
}

// FuzzHeaderFile reads a cyrus.header; see FuzzIndex. A header that is valid says the same when it is written anew.
func FuzzHeaderFile(f *testing.F) {
	seeds(f, HeaderName)
	for _, c := range readableHeaders {
		f.Add([]byte(headerMagic + c.body))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h, again HeaderFile
		bounded.Run(t, len(b), 64, func() { readHeader(b) })
		if err := h.Decode(b); err != nil {
			require.True(t, isFormat(err), "%v", err)
			return
		}
		require.Equal(t, b, h.Append(nil))
		if h.Validate() != nil {
			return
		}
		h.QuotaRoot += "x"
		b = h.Append(nil)
		require.NoError(t, again.Decode(b), "%q", b)
		require.True(t, h.same(&again), "%q", b)
		require.False(t, again.HasLiteral())
	})
}

// readCache reads a cache record and its sections.
func readCache(b []byte, off uint64, version uint16) {
	file, err := NewCacheFile(bytes.NewReader(b), int64(len(b)), "f")
	if err != nil {
		return
	}
	var c CacheRecord
	if raw, err := file.Read(Offset(off)); err == nil && c.Decode(raw) == nil {
		_ = c.Validate(version)
		if s, err := DecodeSections(c.Item(CacheSection), version); err == nil {
			s.Append(nil, version)
		}
	}
}

// FuzzCache reads a cyrus.cache at any offset; see FuzzIndex.
func FuzzCache(f *testing.F) {
	for _, v := range []Version{6, 17} {
		b, err := os.ReadFile(filepath.Join(goldenDir(v), CacheName))
		require.NoError(f, err)
		f.Add(b, uint64(4), uint16(11))
		f.Add(b, uint64(8), uint16(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, off uint64, version uint16) {
		bounded.Run(t, len(b), 64, func() { readCache(b, off, version) })
		file, err := NewCacheFile(bytes.NewReader(b), int64(len(b)), "f")
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			return
		}
		raw, err := file.Read(Offset(off))
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			return
		}
		require.Equal(t, b[off:off+uint64(len(raw))], raw)
		var c CacheRecord
		require.NoError(t, c.Decode(raw))
		require.Equal(t, raw, c.Append(nil))
		if c.Validate(version) == nil {
			s, err := DecodeSections(c.Item(CacheSection), version)
			require.NoError(t, err)
			require.True(t, bytes.Equal(c.Item(CacheSection), s.Append(nil, version)))
		}
	})
}

// FuzzCounters reads a counters file; see FuzzIndex.
func FuzzCounters(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "real", "counters"))
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Counters
		bounded.Run(t, len(b), 16, func() { _ = new(Counters).Decode(b) })
		if err := c.Decode(b); err != nil {
			require.True(t, isFormat(err), "%v", err)
			return
		}
		require.Equal(t, b, c.Append(nil))
	})
}

// FuzzCheck checks a mailbox of arbitrary files: the check ends, without an error, and finds whatever makes the files
// unopenable.
func FuzzCheck(f *testing.F) {
	for _, v := range []Version{8, 12, 17} {
		g := readGolden(f, v)
		f.Add(g[HeaderName], g[IndexName], g[CacheName])
	}
	f.Fuzz(func(t *testing.T, header, index, cache []byte) {
		fsys, p := golden{HeaderName: header, IndexName: index, CacheName: cache}.put(t)
		bounded.Run(t, len(header)+len(index)+len(cache), 64, func() { _, _ = CheckFiles(t.Context(), fsys, p, CheckOptions{}) })
		readAll(t, fsys, p)
	})
}

// TestBounded reads files that are made to cost as much as they can, of a megabyte each: memory is a small multiple of
// that, and time linear in it.
func TestBounded(t *testing.T) {
	const size = 1 << 20
	fill := func(start, repeat, end string) []byte {
		return []byte(start + strings.Repeat(repeat, max(0, size-len(start)-len(end))/len(repeat)) + end)
	}
	for name, body := range map[string][]byte{
		"lists":         fill("%(U ", "(", ")"),
		"open lists":    fill("%(U (", "% (", "))\n"),
		"flags":         fill("%(T e U (", "a ", "x))\n"),
		"keys":          fill("%(", "Z x ", "T e)\n"),
		"literals":      fill("%(U (", "{1+}\r\nx ", "x))\n"),
		"quotes":        fill("%(U (\"", "\\\"", "\"))\n"),
		"one flag":      fill("%(U (", "x", "))\n"),
		"old flags":     fill("\tid\n", "a ", "\n\n"),
		"old ACL":       fill("\tid\n\n", "a\tlr\t", "\n"),
		"same names":    fill("%(T e U (", "a a a ", "x))\n"),
		"ACL":           fill("%(T e A %(", "a lr ", "))\n"),
		"ACL of nobody": fill("%(T e A %(", "\"\" \"\" ", "))\n"),
	} {
		t.Run("header, "+name, func(t *testing.T) {
			b := []byte(headerMagic + string(body))
			bounded.Run(t, len(b), 64, func() { readHeader(b) })
		})
	}
	for _, row := range versions {
		v := row.version
		var wiped, same, falling []byte
		h := NewHeader(v)
		n := size / row.recordSize
		h.NumRecords, h.LastUID = uint32(n), UID(n)
		head := h.Append(nil)
		for i := range n {
			wiped = (&Record{}).Append(wiped, v)
			same = (&Record{UID: 1, CacheOffset: 4, CacheCRC: 1}).Append(same, v)
			falling = (&Record{UID: UID(n - i)}).Append(falling, v)
		}
		for name, records := range map[string][]byte{"wiped": wiped, "same": same, "falling": falling} {
			t.Run(fmt.Sprintf("index %d, %s", v, name), func(t *testing.T) {
				b := append(slices.Clone(head), records...)
				bounded.Run(t, len(b), 32, func() { readIndex(b) })
			})
		}
	}
	for name, section := range map[string][]byte{
		"leaves": make([]byte, size), "deep": bytes.Repeat(append([]byte{0, 0, 0, 2}, make([]byte, 2*sectionFixed)...), size/44),
		"many": append([]byte{0, 0, 0x80, 0}, make([]byte, size)...),
	} {
		for version := range uint16(CacheVersionLatest + 1) {
			t.Run(fmt.Sprintf("cache %d, %s", version, name), func(t *testing.T) {
				var c CacheRecord
				c.Set(CacheSection, section)
				b := c.Append(make([]byte, cacheHeaderSize))
				bounded.Run(t, len(b), 64, func() { readCache(b, cacheHeaderSize, version) })
			})
		}
	}
}
