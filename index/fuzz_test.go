package index

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
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

func fuzzIndex(t *testing.T, b []byte) {
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

// FuzzHeaderFile reads a cyrus.header; see FuzzIndex. A header that is valid says the same when it is written anew.
func FuzzHeaderFile(f *testing.F) {
	seeds(f, HeaderName)
	for _, c := range readableHeaders {
		f.Add([]byte(headerMagic + c.body))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h, again HeaderFile
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

// FuzzCache reads a cyrus.cache at any offset; see FuzzIndex.
func FuzzCache(f *testing.F) {
	for _, v := range []Version{6, 17} {
		b, err := os.ReadFile(filepath.Join(goldenDir(v), CacheName))
		require.NoError(f, err)
		f.Add(b, uint64(4), uint16(11))
		f.Add(b, uint64(8), uint16(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, off uint64, version uint16) {
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
		readAll(t, fsys, p)
	})
}
