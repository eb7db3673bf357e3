package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// damage makes each kind of finding.
var damage = map[kind]struct {
	version Version
	do      func(t *testing.T, g golden)
}{
	headerMissing:  {17, func(_ *testing.T, g golden) { delete(g, HeaderName) }},
	headerDamaged:  {17, func(_ *testing.T, g golden) { g[HeaderName][5]++ }},
	headerLiteral:  {17, editHeader(" A ", " X {3+}\r\na\"b A ")},
	headerNoID:     {17, editHeader(" I ", " Y ")},
	headerFlags:    {17, editHeader("Other", "junk")},
	headerTrailing: {17, func(_ *testing.T, g golden) { g[HeaderName] = append(g[HeaderName], "more"...) }},
	headerChecksum: {17, editHeader("Junk", "Jonk")},

	indexMissing:   {17, func(_ *testing.T, g golden) { delete(g, IndexName) }},
	indexShort:     {17, func(_ *testing.T, g golden) { g[IndexName] = g[IndexName][:100] }},
	indexVersion:   {17, func(_ *testing.T, g golden) { g[IndexName][11] = 11 }},
	indexChecksum:  {17, func(_ *testing.T, g golden) { g[IndexName][30]++ }},
	indexSizes:     {17, editIndex(func(h *Header, r []Record) []Record { h.RecordSize = 100; return r })},
	indexTruncated: {17, func(_ *testing.T, g golden) { g[IndexName] = g[IndexName][:len(g[IndexName])-1] }},
	indexTrailing:  {17, func(_ *testing.T, g golden) { g[IndexName] = append(g[IndexName], 0) }},
	indexSpare:     {17, editIndex(func(h *Header, r []Record) []Record { h.Format = 1; return r })},
	indexModSeq:    {17, editIndex(func(h *Header, r []Record) []Record { h.DeletedModSeq = 1000; return r })},

	recordChecksum: {17, func(_ *testing.T, g golden) { g[IndexName][200]++ }},
	recordWiped:    {17, editIndex(func(_ *Header, r []Record) []Record { r[1].UID = 0; return r })},
	recordOrder:    {17, editIndex(func(_ *Header, r []Record) []Record { r[1].UID = 1; return r })},
	recordUID:      {17, editIndex(func(h *Header, r []Record) []Record { h.LastUID = 3; return r })},
	recordModSeq:   {17, editIndex(func(h *Header, r []Record) []Record { r[0].ModSeq = h.HighestModSeq + 1; return r })},
	recordValue:    {17, editIndex(func(_ *Header, r []Record) []Record { r[0].GUID = GUID{}; return r })},
	recordBits:     {17, editIndex(func(_ *Header, r []Record) []Record { r[0].Flags |= 1 << 10; return r })},
	recordUnnamed:  {17, editIndex(func(_ *Header, r []Record) []Record { r[0].UserFlags.Set(99, true); return r })},

	countWrong:    {17, editIndex(func(h *Header, r []Record) []Record { h.Exists++; return r })},
	quotaWrong:    {17, editIndex(func(h *Header, r []Record) []Record { h.QuotaUsed++; return r })},
	syncWrong:     {17, editIndex(func(h *Header, r []Record) []Record { h.SyncAnnot++; return r })},
	firstExpunged: {17, editIndex(func(h *Header, r []Record) []Record { h.FirstExpunged += second; return r })},
	annotations:   {17, func(_ *testing.T, g golden) { g[AnnotationsName] = []byte("nonsense") }},

	cacheMissing:    {17, func(_ *testing.T, g golden) { delete(g, CacheName) }},
	cacheShort:      {17, func(_ *testing.T, g golden) { g[CacheName] = g[CacheName][:3] }},
	cacheGeneration: {17, func(_ *testing.T, g golden) { g[CacheName][3]++ }},
	cacheNone:       {17, editIndex(func(_ *Header, r []Record) []Record { r[0].CacheOffset = 0; return r })},
	cacheOffset:     {17, editIndex(func(_ *Header, r []Record) []Record { r[0].CacheOffset = 1 << 40; return r })},
	cacheDamaged:    {6, func(_ *testing.T, g golden) { binary.BigEndian.PutUint32(g[CacheName][4:], 1<<31) }},
	cacheChecksum:   {17, func(_ *testing.T, g golden) { g[CacheName][8]++ }},
	cacheVersion:    {17, editIndex(func(_ *Header, r []Record) []Record { r[0].CacheVersion = 15; return r })},
	cacheOverlap: {17, editIndex(func(_ *Header, r []Record) []Record {
		r[0].CacheOffset, r[0].CacheCRC = r[1].CacheOffset, r[1].CacheCRC
		return r
	})},
	cacheLeak: {17, func(_ *testing.T, g golden) { g[CacheName] = append(g[CacheName], "leak"...) }},
}

func editHeader(old, new string) func(*testing.T, golden) {
	return func(t *testing.T, g golden) {
		require.Contains(t, string(g[HeaderName]), old)
		g[HeaderName] = []byte(strings.Replace(string(g[HeaderName]), old, new, 1))
	}
}

func editIndex(edit func(h *Header, records []Record) []Record) func(*testing.T, golden) {
	return func(t *testing.T, g golden) { g.change(t, edit) }
}

// TestFindings makes each kind of damage and looks for its finding.
func TestFindings(t *testing.T) {
	t.Parallel()
	files := slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return strings.HasPrefix(k.code, "message-") }) // TestMessageFindings
	require.Len(t, damage, len(files))
	for _, k := range files {
		t.Run(k.code, func(t *testing.T) {
			d, ok := damage[k]
			require.True(t, ok)
			g := readGolden(t, d.version)
			d.do(t, g)
			fsys, p := g.put(t)
			found, err := CheckFiles(t.Context(), fsys, p, CheckOptions{Owner: "u000"})
			require.NoError(t, err)
			i := slices.Index(codes(found), k.code)
			require.GreaterOrEqual(t, i, 0, "%v", found)
			require.Equal(t, k.severity, found[i].Severity)
			require.Equal(t, k.fix, found[i].Fix)
			require.NotEmpty(t, found[i].Detail)
			require.True(t, strings.HasPrefix(found[i].Path, "/m/cyrus."))
			for _, other := range codes(found) {
				require.Contains(t, append(alsoFound[k.code], k.code), other, "%v", found)
			}
		})
	}
}

// alsoFound are the findings that a damage brings with it, besides its own.
var alsoFound = map[string][]string{
	headerLiteral.code:  {headerChecksum.code},
	headerNoID.code:     {headerChecksum.code},
	headerFlags.code:    {headerChecksum.code, syncWrong.code},
	headerTrailing.code: {headerChecksum.code},
	headerChecksum.code: {syncWrong.code},
	recordWiped.code:    {countWrong.code, quotaWrong.code, syncWrong.code, cacheLeak.code},
	recordOrder.code:    {syncWrong.code},
	recordModSeq.code:   {syncWrong.code},
	recordValue.code:    {syncWrong.code},
	cacheNone.code:      {cacheLeak.code},
	cacheDamaged.code:   {recordBits.code},
}

// TestManyFindings checks that a file full of damage does not make as many findings.
func TestManyFindings(t *testing.T) {
	t.Parallel()
	g := readGolden(t, 17)
	g.change(t, func(h *Header, r []Record) []Record {
		h.NumRecords = 1000
		all := make([]Record, 1000)
		for i := range all {
			all[i] = r[0]
		}
		return all
	})
	fsys, p := g.put(t)
	found, err := CheckFiles(t.Context(), fsys, p, CheckOptions{})
	require.NoError(t, err)
	count := 0
	for _, f := range found {
		if f.Code == recordOrder.code {
			count++
		}
	}
	require.Equal(t, maxFindingsOfKind+1, count)
	require.Contains(t, found[len(found)-1].Detail, "more")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = CheckFiles(ctx, fsys, p, CheckOptions{})
	require.ErrorIs(t, err, context.Canceled)
}

// TestSharedCache gives many records one large cache record, which must not be read for each of them. It is a finding, unless
// they are all of one message: an unexpunged message has the cache record of the expunged one.
func TestSharedCache(t *testing.T) {
	t.Parallel()
	g := readGolden(t, 17)
	var c CacheRecord
	c.Set(CacheHeaders, make([]byte, 1<<20))
	g[CacheName] = c.Append(g[CacheName][:cacheHeaderSize])
	const count = 10_000
	alike := false
	change := func(h *Header, r []Record) []Record {
		h.NumRecords, h.LastUID = count, count
		all, sum := make([]Record, count), c.Checksum()
		for i := range all {
			all[i] = r[0]
			all[i].UID, all[i].CacheOffset, all[i].CacheCRC = UID(i+1), cacheHeaderSize, sum
			if !alike {
				all[i].GUID[0], all[i].GUID[1] = byte(i), byte(i>>8)
			}
		}
		return all
	}
	g.change(t, change)
	fsys, p := g.put(t)
	begin := time.Now()
	found, err := CheckFiles(t.Context(), fsys, p, CheckOptions{})
	require.NoError(t, err)
	require.Contains(t, codes(found), cacheOverlap.code)
	alike = true
	g.change(t, change)
	fsys, p = g.put(t)
	found, err = CheckFiles(t.Context(), fsys, p, CheckOptions{})
	require.NoError(t, err)
	require.NotContains(t, codes(found), cacheOverlap.code)
	require.Less(t, time.Since(begin), 5*time.Second, "10 GB were read")
}

// TestHugeCounts gives counts and lengths that no file can have: nothing is allocated for them.
func TestHugeCounts(t *testing.T) {
	t.Parallel()
	g := readGolden(t, 17)
	g.change(t, func(h *Header, r []Record) []Record { h.NumRecords = 1<<32 - 1; return r })
	f, err := NewFile(bytes.NewReader(g[IndexName]), int64(len(g[IndexName])), "x")
	require.ErrorIs(t, err, ErrDamaged)
	require.EqualValues(t, 4, f.Len())
	e := err.(*FormatError)
	require.Equal(t, "num_records", e.Field)
	require.EqualValues(t, 5, e.Record)
	for range f.Records(1) {
	}
	_, err = f.Record(5)
	require.ErrorIs(t, err, ErrNotFound)

	section := binary.BigEndian.AppendUint32(nil, 1<<32-1)
	for v := range uint16(CacheVersionLatest + 1) {
		_, err := DecodeSections(section, v)
		require.ErrorIs(t, err, ErrDamaged)
	}
	// A nesting as deep as the item is long costs no stack.
	deep := Section{}
	node := &deep
	for range 100_000 {
		node.Parts = make([]SectionPart, 2)
		node.Parts[1].Inside = &Section{}
		node = node.Parts[1].Inside
	}
	b := deep.Append(nil, 11)
	got, err := DecodeSections(b, 11)
	require.NoError(t, err)
	require.Equal(t, b, got.Append(nil, 11))
}
