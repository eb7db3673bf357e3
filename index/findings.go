package index

import "github.com/mailspine/mailspine/internal/finding"

// kind is one kind of finding of [Check]. docs/format has the table with what each means.
type kind struct {
	code     string
	severity finding.Severity
	meaning  string
	fix      string
}

// What mends things.
const (
	fixNone       = ""
	fixRebuild    = "rebuild cyrus.header from the mailbox list before anything else"
	fixHeader     = "write cyrus.header anew"
	fixCounts     = "recompute the header of cyrus.index"
	fixIndex      = "repair cyrus.index; keep a copy"
	fixRecord     = "derive the record from the message"
	fixCache      = "parse the messages again"
	fixMessage    = "bring the message file back from a backup"
	fixUnknown    = "reconstruct the mailbox, which takes the message in"
	fixAppended   = "leave it: an append that comes to its UID replaces it, and nobody was told that it had arrived; only if the index is older than the mail, as from a backup, reconstruct first, which takes the message in"
	fixNewVersion = "use a version of the program that knows the format"
)

// The kinds of findings.
var (
	headerMissing  = kind{"header-missing", finding.Damage, "there is no cyrus.header: the names of the user's flags are lost", fixRebuild}
	headerDamaged  = kind{"header-damaged", finding.Damage, "cyrus.header cannot be read", fixRebuild}
	headerLiteral  = kind{"header-literal", finding.Error, "cyrus.header has a line end inside its dlist: Cyrus 3.6 refuses the mailbox", fixHeader}
	headerNoID     = kind{"header-uniqueid", finding.Error, "cyrus.header has no uniqueid", fixHeader}
	headerFlags    = kind{"header-flags", finding.Warning, "the names of flags are too many, not atoms, or not different", fixHeader}
	headerTrailing = kind{"header-trailing", finding.Info, "bytes follow the body of cyrus.header", fixNone}
	headerChecksum = kind{"header-checksum", finding.Warning, "cyrus.header is not the one of which cyrus.index has the checksum", fixHeader}

	indexMissing   = kind{"index-missing", finding.Damage, "there is no cyrus.index", fixIndex}
	indexShort     = kind{"index-short", finding.Damage, "cyrus.index is shorter than its header", fixIndex}
	indexVersion   = kind{"index-version", finding.Error, "cyrus.index is of an unknown version", fixNewVersion}
	indexChecksum  = kind{"index-checksum", finding.Error, "the checksum of the header of cyrus.index is wrong", fixCounts}
	indexSizes     = kind{"index-sizes", finding.Error, "start_offset or record_size is not that of the version", fixCounts}
	indexTruncated = kind{"index-truncated", finding.Damage, "cyrus.index ends before its last record", fixIndex}
	indexTrailing  = kind{"index-trailing", finding.Info, "bytes follow the last record", fixNone}
	indexSpare     = kind{"index-spare", finding.Info, "format, or bytes of the header that mean nothing, are not zero", fixNone}
	indexModSeq    = kind{"index-modseq", finding.Warning, "deletedmodseq or createdmodseq is above highestmodseq", fixCounts}

	recordChecksum = kind{"record-checksum", finding.Damage, "the checksum of a record is wrong", fixRecord}
	recordWiped    = kind{"record-wiped", finding.Info, "a record was wiped: its UID is 0", fixNone}
	recordOrder    = kind{"record-order", finding.Error, "the UID of a record is not above the one before it", fixIndex}
	recordUID      = kind{"record-uid", finding.Error, "the UID of a record is above last_uid", fixCounts}
	recordModSeq   = kind{"record-modseq", finding.Error, "the modseq of a record is above highestmodseq", fixCounts}
	recordValue    = kind{"record-value", finding.Error, "a field of a record has an impossible value", fixRecord}
	recordBits     = kind{"record-bits", finding.Info, "a record has system flags that its version does not know", fixNone}
	recordUnnamed  = kind{"record-flag-unnamed", finding.Warning, "a record has a user's flag without a name in cyrus.header", fixRecord}

	countWrong    = kind{"count", finding.Warning, "exists, deleted, answered, flagged or unseen is not the number of such records", fixCounts}
	quotaWrong    = kind{"quota", finding.Warning, "a number of bytes is not the sum over the records", fixCounts}
	syncWrong     = kind{"sync-checksum", finding.Warning, "synccrc_basic or synccrc_annot does not follow from the records", fixCounts}
	firstExpunged = kind{"first-expunged", finding.Warning, "first_expunged is later than the change of an expunged record", fixCounts}
	annotations   = kind{"annotations-unreadable", finding.Warning, "cyrus.annotations cannot be read, so synccrc_annot was not compared", fixNone}

	cacheMissing    = kind{"cache-missing", finding.Warning, "there are records with a cache record, but no cyrus.cache", fixCache}
	cacheShort      = kind{"cache-short", finding.Warning, "cyrus.cache has no generation", fixCache}
	cacheGeneration = kind{"cache-generation", finding.Warning, "cyrus.cache is of another generation than cyrus.index", fixCache}
	cacheNone       = kind{"cache-none", finding.Warning, "a record has no cache record", fixCache}
	cacheOffset     = kind{"cache-offset", finding.Warning, "a cache record would be outside the file", fixCache}
	cacheDamaged    = kind{"cache-damaged", finding.Warning, "a cache record does not fit into the file or has not the shape of one", fixCache}
	cacheChecksum   = kind{"cache-checksum", finding.Warning, "the checksum of a cache record is wrong", fixCache}
	cacheVersion    = kind{"cache-version", finding.Info, "a cache record is of a version that is not known here", fixNone}
	cacheOverlap    = kind{"cache-overlap", finding.Warning, "two cache records share bytes", fixCache}
	cacheLeak       = kind{"cache-leak", finding.Info, "bytes of cyrus.cache belong to no record", fixNone}
)

// The kinds of findings of [Check] about message files.
var (
	messageMissing  = kind{"message-missing", finding.Damage, "the file of a message is missing", fixMessage}
	messageSize     = kind{"message-size", finding.Damage, "the file of a message has not the size in its record", fixMessage}
	messageGUID     = kind{"message-guid", finding.Damage, "the file of a message is not the one whose id is in its record", fixMessage}
	messageExpunged = kind{"message-expunged-missing", finding.Warning, "the file of an expunged message is missing: it cannot be brought back", fixNone}
	messageHeader   = kind{"message-header", finding.Error, "header_size of a record is not that of the message", fixRecord}
	messageCache    = kind{"message-cache", finding.Warning, "the cache record of a message is not what the message derives to", fixCache}
	messageAbove    = kind{"message-above", finding.Warning, "a message file has a UID above last_uid: an append was interrupted, or the index is an old one", fixAppended}
	messageUnknown  = kind{"message-unknown", finding.Warning, "a message file belongs to no record, or to one that says it is elsewhere", fixUnknown}
)

// kinds are all of them, in the order of the document.
var kinds = []kind{
	headerMissing, headerDamaged, headerLiteral, headerNoID, headerFlags, headerTrailing, headerChecksum,
	indexMissing, indexShort, indexVersion, indexChecksum, indexSizes, indexTruncated, indexTrailing, indexSpare, indexModSeq,
	recordChecksum, recordWiped, recordOrder, recordUID, recordModSeq, recordValue, recordBits, recordUnnamed,
	countWrong, quotaWrong, syncWrong, firstExpunged, annotations,
	cacheMissing, cacheShort, cacheGeneration, cacheNone, cacheOffset, cacheDamaged, cacheChecksum, cacheVersion, cacheOverlap, cacheLeak,
	messageMissing, messageSize, messageGUID, messageHeader, messageCache, messageExpunged, messageAbove, messageUnknown,
}
