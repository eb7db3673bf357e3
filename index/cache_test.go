package index

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// sections draws a SECTION item that a cache version can hold.
func sections(t *rapid.T, version uint16, depth int) *Section {
	l := layoutOfSection(version)
	s := &Section{}
	if depth == 0 || rapid.Bool().Draw(t, "leaf") {
		return s
	}
	for i := range rapid.IntRange(1, 4).Draw(t, "parts") {
		p := SectionPart{HeaderOffset: rapid.Uint32().Draw(t, "n"), ContentSize: rapid.Uint32().Draw(t, "n"), Encoding: rapid.SampledFrom([]uint16{0, 1, 2, 255, EncodingNone}).Draw(t, "encoding")}
		if l.names {
			p.SetCharset(strings.Repeat("k", rapid.IntRange(0, 13).Draw(t, "charset")))
		} else {
			p.CharsetNumber = rapid.Uint16().Draw(t, "charset")
		}
		if l.guid {
			p.GUID = GUID{rapid.Byte().Draw(t, "guid")}
		}
		if l.size {
			p.DecodedSize = rapid.Uint32().Draw(t, "size")
		}
		if l.lines {
			p.Lines = rapid.Uint32().Draw(t, "lines")
		}
		if i > 0 {
			p.Inside = sections(t, version, depth-1)
		}
		s.Parts = append(s.Parts, p)
	}
	return s
}

// TestSections encodes and decodes SECTION items of every cache version, and cuts them off everywhere.
func TestSections(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		version := uint16(rapid.IntRange(0, CacheVersionLatest).Draw(t, "version"))
		s := sections(t, version, 3)
		b := s.Append(nil, version)
		got, err := DecodeSections(b, version)
		require.NoError(t, err)
		require.Equal(t, b, got.Append(nil, version))
		sameSections(t, s, got)
		for i := range b {
			_, err := DecodeSections(b[:i], version)
			require.ErrorIs(t, err, ErrDamaged)
		}
		_, err = DecodeSections(append(b, 0), version)
		require.ErrorIs(t, err, ErrDamaged)
	})
}

func sameSections(t *rapid.T, a, b *Section) {
	require.Len(t, b.Parts, len(a.Parts))
	for i := range a.Parts {
		p, q := a.Parts[i], b.Parts[i]
		if i > 0 {
			sameSections(t, p.Inside, q.Inside)
		}
		p.Inside, q.Inside = nil, nil
		require.Equal(t, p, q)
		require.Len(t, q.Charset(), len(p.Charset()))
	}
}

// TestSectionOfMessage reads the item of a message of two parts, the second a message.
func TestSectionOfMessage(t *testing.T) {
	t.Parallel()
	g := readGolden(t, 17)
	f, err := NewCacheFile(bytes.NewReader(g[CacheName]), int64(len(g[CacheName])), "")
	require.NoError(t, err)
	index, err := NewFile(bytes.NewReader(g[IndexName]), int64(len(g[IndexName])), "")
	require.NoError(t, err)
	r, err := index.Record(3)
	require.NoError(t, err)
	c, err := f.Record(&r, 17)
	require.NoError(t, err)
	s, err := DecodeSections(c.Item(CacheSection), r.CacheVersion)
	require.NoError(t, err)
	require.Len(t, s.Parts, 3)
	mail := smallMail[2].text
	text := func(p SectionPart) string { return mail[p.ContentOffset : p.ContentOffset+p.ContentSize] }
	require.Equal(t, "x", text(s.Parts[1]))
	require.Equal(t, "us-ascii", s.Parts[1].Charset())
	require.EqualValues(t, 1, s.Parts[1].DecodedSize)
	require.Equal(t, "Subject: in\r\n\r\ny", text(s.Parts[2]))
	require.Equal(t, "y", text(s.Parts[2].Inside.Parts[1]))
}

func TestCacheRecord(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var c, got CacheRecord
		for i := range CacheItems {
			c.Set(i, rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "item"))
		}
		b := c.Append([]byte("before"))[len("before"):]
		require.Len(t, b, c.Len())
		require.Zero(t, len(b)%cacheAlign)
		require.NoError(t, got.Decode(append(b, "after"...)))
		require.True(t, c.Equal(&got))
		require.Equal(t, checksum(b), got.Checksum())
		for i := range b {
			require.ErrorIs(t, got.Decode(b[:i]), ErrDamaged)
		}
		// In a file, at any place, read in pieces.
		file := append(make([]byte, 7), b...)
		f, err := NewCacheFile(bytes.NewReader(file), int64(len(file)), "")
		require.NoError(t, err)
		read, err := f.Read(7)
		require.NoError(t, err)
		require.Equal(t, b, read)
	})
}

// TestLargeCacheRecord reads a record that is much larger than what is read at once, and one that claims to be.
func TestLargeCacheRecord(t *testing.T) {
	t.Parallel()
	var c CacheRecord
	for i := range CacheItems {
		c.Set(i, bytes.Repeat([]byte{byte(i)}, 3000*int(i)))
	}
	b := c.Append(make([]byte, 4))
	f, err := NewCacheFile(bytes.NewReader(b), int64(len(b)), "")
	require.NoError(t, err)
	read, err := f.Read(4)
	require.NoError(t, err)
	require.Equal(t, b[4:], read)
	for _, off := range []Offset{0, 3, Offset(len(b)), 1 << 47, 1<<64 - 1} {
		_, err := f.Read(off)
		require.ErrorIs(t, err, ErrDamaged, "%d", off)
	}
	b[4] = 0xff
	_, err = f.Read(4)
	require.ErrorIs(t, err, ErrDamaged)
}

// TestUsableCache checks by which rules a cache record is taken or left.
func TestUsableCache(t *testing.T) {
	t.Parallel()
	for _, v := range []Version{6, 17} {
		g := readGolden(t, v)
		fsys, p := g.put(t)
		f, err := OpenFiles(fsys, p)
		require.NoError(t, err)
		require.False(t, f.Stale(f.Cache))
		r, err := f.Index.Record(1)
		require.NoError(t, err)
		c, err := f.CacheRecord(&r)
		require.NoError(t, err)
		require.Equal(t, `(NIL "one" NIL NIL NIL NIL NIL NIL NIL NIL)`, string(c.Item(CacheEnvelope)))
		require.Equal(t, `"one"`, string(c.Item(CacheSubject)))
		for _, bad := range []func(r *Record){
			func(r *Record) { r.CacheOffset = 0 }, func(r *Record) { r.CacheOffset = 1 << 33 }, func(r *Record) { r.CacheOffset = 5 },
		} {
			changed := r
			bad(&changed)
			_, err := f.CacheRecord(&changed)
			require.ErrorIs(t, err, ErrNoCache)
		}
		changed := r
		changed.CacheCRC ^= r.CacheCRC
		_, err = f.CacheRecord(&changed)
		require.Equal(t, v == 17, err != nil, "without checksums there is none to miss")
		changed = r
		changed.Flags |= FlagArchived
		_, err = f.CacheRecord(&changed)
		require.NoError(t, err, "one cache for both")
		require.NoError(t, f.Close())

		// Of another generation: where there are checksums they decide.
		g[CacheName][0] = 1
		fsys, p = g.put(t)
		p.Archive = "/m/none"
		f, err = OpenFiles(fsys, p)
		require.NoError(t, err)
		require.True(t, f.Stale(f.Cache))
		_, err = f.CacheRecord(&r)
		require.Equal(t, v < 12, err != nil, fmt.Sprint(v))
		_, err = f.CacheRecord(&changed)
		require.ErrorIs(t, err, ErrNoCache)
		require.NoError(t, f.Close())
	}
}
