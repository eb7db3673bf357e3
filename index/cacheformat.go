package index

// The layout of cyrus.cache: the generation, and records one after another. All integers are big-endian, of 32 bits.
// A record is ten items, each a length, that many bytes, and zeros to a multiple of 4. Neither says where the next begins
// nor which version it has: both stand in cyrus.index.

const (
	// cacheHeaderSize is the size of the generation, before which no record can be.
	cacheHeaderSize = 4
	cacheLenSize    = 4
	cacheAlign      = 4
	// cacheRecordMax bounds a record, in bytes, whatever the size of the file.
	cacheRecordMax = 256 << 20
	// cacheReadSize is what is read at first, as most records are shorter.
	cacheReadSize = 4096
)

// CacheItem is one of the items of a cache record.
type CacheItem int

// The items in the order of the file.
const (
	CacheEnvelope CacheItem = iota
	CacheBodyStructure
	CacheBody
	CacheSection
	CacheHeaders
	CacheFrom
	CacheTo
	CacheCc
	CacheBcc
	CacheSubject
	CacheItems
)

var cacheItemNames = [CacheItems]string{"envelope", "bodystructure", "body", "section", "headers", "from", "to", "cc", "bcc", "subject"}

// String is the name of the item.
func (i CacheItem) String() string {
	if i < 0 || i >= CacheItems {
		return num(int(i))
	}
	return cacheItemNames[i]
}

const (
	// CacheVersionWritten is the version that Cyrus 3.6 writes, CacheVersionLatest the latest known here. All since 0 can
	// be read.
	CacheVersionWritten = 11
	CacheVersionLatest  = 14
)

// sectionLayout is how the entries of a SECTION item look in cache versions from since on.
type sectionLayout struct {
	since uint16
	// names says that the high half of the charset word is the length of a name that follows; before it was a number.
	names bool
	// guid, size and lines are whether these follow.
	guid, size, lines bool
}

var sectionLayouts = []sectionLayout{
	{since: 0},
	{since: 4, names: true},
	{since: 5, names: true, guid: true},
	{since: 8, names: true, guid: true, size: true},
	{since: 9, names: true, guid: true, size: true, lines: true},
}

// The SECTION item.
const (
	// sectionFixed is the size of an entry's four numbers and charset word.
	sectionFixed = 20
	// EncodingNone is the Encoding of a part of which neither charset nor encoding is told.
	EncodingNone = 0xffff
)

// layoutOfSection returns the layout of a cache version.
func layoutOfSection(version uint16) (l sectionLayout) {
	for _, row := range sectionLayouts {
		if row.since <= version {
			l = row
		}
	}
	return l
}

// minEntry is the least size of an entry.
func (l sectionLayout) minEntry() int {
	size := sectionFixed
	if l.guid {
		size += len(GUID{})
	}
	if l.size {
		size += 4
	}
	if l.lines {
		size += 4
	}
	return size
}
