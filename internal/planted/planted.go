// Package planted names deliberate bugs in the code that keeps data safe. They are there to test the tests: each is the
// kind of slip that loses mail, and TestPlanted in directory fuzz shows that a fault test notices it.
//
// Without the build tag planted every switch is a constant false and its code is left out of the program. With the tag,
// the environment variable MAILSPINE_PLANTED names the one bug that a process has.
//
// The names are listed, with the place and the test that catches them, in docs/track-record.md.
package planted

// Switch names a bug.
type Switch string

// Replacing a file (vfs.ReplaceFile).
const (
	// ReplaceUnsynced renames the new file before its bytes are durable.
	ReplaceUnsynced Switch = "replace-unsynced"
	// DirUnsynced does not sync the directory after the rename.
	DirUnsynced Switch = "dir-unsynced"
	// SpareUnsynced does not sync the directories after a prepared file was exchanged for the old one.
	SpareUnsynced Switch = "spare-unsynced"
	// SpareUnsettled fills a prepared file anew while a crash may still bring it back under the name it had.
	SpareUnsettled Switch = "spare-unsettled"
	// OwnerLost does not carry over owner, group and mode.
	OwnerLost Switch = "owner-lost"
	// OutputTempShared writes an output that a user names under a temporary name that others may use.
	OutputTempShared Switch = "output-temp-shared"
	// PlacedByRename gives a new file a name that had to be free by a rename, which replaces what has come to it.
	PlacedByRename Switch = "placed-by-rename"
)

// Prepared files (vfs.Spares).
const (
	// SpareInUse overwrites a prepared file that somebody reads under its old name.
	SpareInUse Switch = "spare-in-use"
	// SpareUnlocked has two processes write into one prepared file.
	SpareUnlocked Switch = "spare-unlocked"
	// SpareUncut leaves the rest of what was in a prepared file before.
	SpareUncut Switch = "spare-uncut"
)

// Checkpoints, and the creation of databases.
const (
	// IncompleteRenamed overwrites the error of a checkpoint that ran out of space, as Cyrus does (skiplist, window A), and
	// does not compare the new file with the old one.
	IncompleteRenamed Switch = "incomplete-renamed"
	// DirErrorIgnored acknowledges a change whose rename may not last.
	DirErrorIgnored Switch = "dir-error-ignored"
	// OldTruncated empties the old file after a checkpoint, as Cyrus does (window K).
	OldTruncated Switch = "old-truncated"
	// CreateUnsynced gives a new database its name before its bytes are durable (window I).
	CreateUnsynced Switch = "create-unsynced"
	// CreateDirUnsynced does not sync the directory in which a database was created.
	CreateDirUnsynced Switch = "create-dir-unsynced"
)

// Commits, and taking them back.
const (
	// ReserveForgotten does not ask for space before the first byte is written, and keeps none for deletions.
	ReserveForgotten Switch = "reserve-forgotten"
	// RecordsUnsynced does not sync before the phase with the commit point.
	RecordsUnsynced Switch = "records-unsynced"
	// CommitUnsynced acknowledges a commit before its commit point is durable.
	CommitUnsynced Switch = "commit-unsynced"
	// SyncErrorIgnored takes a failed sync for a good one.
	SyncErrorIgnored Switch = "sync-error-ignored"
	// SyncRetried syncs again after a failure and believes the second answer.
	SyncRetried Switch = "sync-retried"
	// LinkUnchecked ignores that a link was not written, as Cyrus does (window C).
	LinkUnchecked Switch = "link-unchecked"
	// CommitUnchecked ignores that the COMMIT word was not written, as Cyrus does (window B).
	CommitUnchecked Switch = "commit-unchecked"
	// CutBeforeRestore cuts the tail of a failed commit before the links are restored.
	CutBeforeRestore Switch = "cut-before-restore"
	// LinksNotRestored cuts the tail of a failed commit and leaves the links.
	LinksNotRestored Switch = "links-not-restored"
	// UndoUnsynced does not sync what was taken back.
	UndoUnsynced Switch = "undo-unsynced"
	// CommitLeft leaves the COMMIT of a transaction that could not be taken back.
	CommitLeft Switch = "commit-left"
	// FailureForgotten goes on with a file that could not be brought back to what it was.
	FailureForgotten Switch = "failure-forgotten"
	// ReleasedTwice gives the file back that a failed rebuild began with, though the published state may use it.
	ReleasedTwice Switch = "released-twice"
	// LockKept keeps the lock on the file in a handle whose disk has failed.
	LockKept Switch = "lock-kept"
	// RefusedCallKept commits the changes of a member of a group that returned an error.
	RefusedCallKept Switch = "refused-call-kept"
	// GroupNotRetried has a change that finds no space fail the small ones that are committed with it.
	GroupNotRetried Switch = "group-not-retried"
	// GroupErrorLost tells the members of a group that their commit went well, whatever happened.
	GroupErrorLost Switch = "group-error-lost"
	// DirtyAnswer tells a member of a group what it said in view of a change that was then refused.
	DirtyAnswer Switch = "dirty-answer"
)

// Recovery.
const (
	// TailKept writes behind a torn tail instead of cutting it.
	TailKept Switch = "tail-kept"
	// LinksNotCompared takes the links of the file for right.
	LinksNotCompared Switch = "links-not-compared"
	// RecoveryUnsynced does not sync between the steps of recovery.
	RecoveryUnsynced Switch = "recovery-unsynced"
	// DamageAccepted lets writers at a damaged file, where recovery cuts off what follows the damage.
	DamageAccepted Switch = "damage-accepted"
	// OrderUnasked mends the links of a file that is in another key order than the one asked for.
	OrderUnasked Switch = "order-unasked"
)

// Several processes.
const (
	// WriterInode does not compare the path's inode with the locked one before writing.
	WriterInode Switch = "writer-inode"
	// WriterLockShared has writers take the lock that does not keep each other out.
	WriterLockShared Switch = "writer-lock-shared"
	// ReaderInode does not compare the path's inode with the one that is read.
	ReaderInode Switch = "reader-inode"
	// CheckInode has a check, a recovery plan and a salvage read the file that had the name before they waited for its lock.
	CheckInode Switch = "check-inode"
	// CheckLockShared has checks share the lock that readers of the handle give back.
	CheckLockShared Switch = "check-lock-shared"
	// StaleSnapshot gives out the last known state without asking for a newer one.
	StaleSnapshot Switch = "stale-snapshot"
	// MarkIgnored goes on reading where it stopped, though the file was rewritten in between.
	MarkIgnored Switch = "mark-ignored"
	// TwoInodes reads one file and writes another if the file is replaced while it is opened.
	TwoInodes Switch = "two-inodes"
)

// The format skiplist.
const (
	// CommitWithRecords writes the COMMIT word with the records, so that either may reach the disk alone.
	CommitWithRecords Switch = "commit-with-records"
	// UncommittedVisible applies the records at the end of the log that no COMMIT follows (window E).
	UncommittedVisible Switch = "uncommitted-visible"
	// CommittedTailCut takes everything after damage for a torn tail, as Cyrus does (window H).
	CommittedTailCut Switch = "committed-tail-cut"
	// CurLevelStale does not raise curlevel with the highest record (window J).
	CurLevelStale Switch = "curlevel-stale"
	// CutBeforeLinks has recovery cut the tail before it sets the links right.
	CutBeforeLinks Switch = "cut-before-links"
)

// The format twoskip.
const (
	// DirtyUnmarked does not mark the header before links are rewritten.
	DirtyUnmarked Switch = "dirty-unmarked"
	// SizeIgnored trusts the last bytes of the file instead of current_size.
	SizeIgnored Switch = "size-ignored"
	// OldSlotOverwritten overwrites the first-level link that holds until the commit.
	OldSlotOverwritten Switch = "old-slot-overwritten"
	// BlanksOmitted lets heads lie across sectors.
	BlanksOmitted Switch = "blanks-omitted"
	// HeadUnchecked does not verify the checksums of heads.
	HeadUnchecked Switch = "head-unchecked"
	// GenerationRestarts begins the generations anew at a checkpoint, as Cyrus's recovery2 does.
	GenerationRestarts Switch = "generation-restarts"
	// DeleteNamesItself replays a DELETE as the deletion of the record that it names, as Cyrus's recovery2 does.
	DeleteNamesItself Switch = "delete-names-itself"
	// SalvageStops gives up at the first unreadable record.
	SalvageStops Switch = "salvage-stops"
)

// The format flat.
const (
	// TornLineShown takes a last line without LF for a record.
	TornLineShown Switch = "torn-line-shown"
)

// The creation of a mailbox (index.Create).
const (
	// BoxCreateUnsynced does not make the bytes of the files of a new mailbox durable.
	BoxCreateUnsynced Switch = "box-create-unsynced"
	// BoxCreateDirUnsynced does not make the names of the files of a new mailbox durable.
	BoxCreateDirUnsynced Switch = "box-create-dir-unsynced"
)

// The repack of a mailbox (index.Repack).
const (
	// RepackUnsynced puts new files in place whose bytes are not durable.
	RepackUnsynced Switch = "repack-unsynced"
	// RepackNamesUnsynced puts the new index in place before the names of the new caches are durable.
	RepackNamesUnsynced Switch = "repack-names-unsynced"
	// RepackCommitUnsynced goes on to caches and message files before the new index is durable.
	RepackCommitUnsynced Switch = "repack-commit-unsynced"
	// RepackCachesFirst puts the new caches in place before the new index.
	RepackCachesFirst Switch = "repack-caches-first"
	// RepackOldEarly forgets the old index before the message files are removed that it names.
	RepackOldEarly Switch = "repack-old-early"
	// RepackLeftBehind leaves the new files of a repack that failed.
	RepackLeftBehind Switch = "repack-left-behind"
)

// Changes of whole mailboxes (package store).
const (
	// StepUnnoted begins a change of mailboxes without an entry in the journal.
	StepUnnoted Switch = "step-unnoted"
	// StepLinksUnsynced changes the list before the names of files in the new directory are durable.
	StepLinksUnsynced Switch = "step-links-unsynced"
	// StepListUnasked removes the files in every place that a change names, whatever the list holds.
	StepListUnasked Switch = "step-list-unasked"
	// StepClearedEarly clears the entry before the files of the old state are gone.
	StepClearedEarly Switch = "step-cleared-early"
	// StepUndoSkipped leaves what was prepared for a change that failed, and clears the entry.
	StepUndoSkipped Switch = "step-undo-skipped"
	// PutUnchecked writes what was decided on a list that has changed meanwhile.
	PutUnchecked Switch = "put-unchecked"
	// LogLineSwallowed writes to the sync log behind a line that another writer could not end.
	LogLineSwallowed Switch = "log-line-swallowed"
)

// Transactions in a mailbox (index.Mailbox.Update), their recovery, and the journal.
const (
	// TxMessageUnsynced gives a message file its name before its bytes are durable.
	TxMessageUnsynced Switch = "tx-message-unsynced"
	// TxDirUnsynced does not make the names of message files durable before the index has records of them.
	TxDirUnsynced Switch = "tx-dir-unsynced"
	// TxCacheUnsynced does not make cache records durable before the index leads to them.
	TxCacheUnsynced Switch = "tx-cache-unsynced"
	// TxRecordsUnsynced does not make new records durable before the header counts them.
	TxRecordsUnsynced Switch = "tx-records-unsynced"
	// TxHeaderFirst writes the header of an index before the new records.
	TxHeaderFirst Switch = "tx-header-first"
	// TxOverwriteFirst overwrites records before the journal has their old state.
	TxOverwriteFirst Switch = "tx-overwrite-first"
	// TxCommitUnsynced acknowledges a transaction before its header is durable.
	TxCommitUnsynced Switch = "tx-commit-unsynced"
	// TxClearedFirst clears the entry of the journal before the change that it describes is made.
	TxClearedFirst Switch = "tx-cleared-first"
	// TxUnlinkFirst removes the files of expunged messages before the commit.
	TxUnlinkFirst Switch = "tx-unlink-first"
	// TxLeftoverKept takes a message file that a crash has left for the one of a new message.
	TxLeftoverKept Switch = "tx-leftover-kept"
	// TxHeaderRepeats lets a header come again, so that an old entry of the journal is taken for one of now.
	TxHeaderRepeats Switch = "tx-header-repeats"
	// TxSyncErrorIgnored takes a failed sync of the index for a good one.
	TxSyncErrorIgnored Switch = "tx-sync-error-ignored"
	// TxSyncRetried syncs the index again after a failure and believes the second answer.
	TxSyncRetried Switch = "tx-sync-retried"
	// TxNotTakenBack leaves what a transaction that failed has overwritten.
	TxNotTakenBack Switch = "tx-not-taken-back"
	// TxTailLeft leaves the records of an append that failed behind the last record.
	TxTailLeft Switch = "tx-tail-left"
	// RecoverRedoes carries out every entry of the journal, without a look at the header.
	RecoverRedoes Switch = "recover-redoes"
	// RecoverUndoes undoes every entry of the journal, also of a transaction that is committed.
	RecoverUndoes Switch = "recover-undoes"
	// JournalUnsynced does not make an entry of the journal durable before the change begins.
	JournalUnsynced Switch = "journal-unsynced"
	// JournalDirUnsynced does not make the names of the journal's files durable.
	JournalDirUnsynced Switch = "journal-dir-unsynced"
	// JournalSlotReused writes an entry over one of another mailbox that was not resolved.
	JournalSlotReused Switch = "journal-slot-reused"
	// JournalTornBelieved does not compare the checksum of an entry.
	JournalTornBelieved Switch = "journal-torn-believed"
)

// The usage of quota roots (package quota).
const (
	// QuotaDoubled begins another look at the mailboxes of a root with the sums of the last one, as Cyrus did until 2011.
	QuotaDoubled Switch = "quota-doubled"
	// QuotaNestedTwice counts the mailboxes of a root that lies below another for both.
	QuotaNestedTwice Switch = "quota-nested-twice"
	// QuotaNeighbours takes a mailbox for one of a root whose name is the beginning of its own.
	QuotaNeighbours Switch = "quota-neighbours"
	// QuotaUnfrozen counts mailboxes without the locks of their indexes.
	QuotaUnfrozen Switch = "quota-unfrozen"
	// QuotaUsersUnfrozen counts mailboxes without the locks of their users.
	QuotaUsersUnfrozen Switch = "quota-users-unfrozen"
	// QuotaWaitsHolding waits for the lock of one mailbox without end while those of others are held.
	QuotaWaitsHolding Switch = "quota-waits-holding"
	// QuotaSuspectsForgotten does not count a root again that a header has named until somebody else mended it.
	QuotaSuspectsForgotten Switch = "quota-suspects-forgotten"
	// QuotaHeaderBelieved takes the header of a change that was cut off for one that lasts.
	QuotaHeaderBelieved Switch = "quota-header-believed"
	// QuotaScanKept leaves the mark of a scan in the record.
	QuotaScanKept Switch = "quota-scan-kept"
	// QuotaLimitsOld writes the limits that the record had before its mailboxes were counted.
	QuotaLimitsOld Switch = "quota-limits-old"
	// QuotaDamageLowers lowers usage by a mailbox list that is damaged.
	QuotaDamageLowers Switch = "quota-damage-lowers"
	// QuotaPartWritten writes the sum of a root of which a mailbox could not be counted.
	QuotaPartWritten Switch = "quota-part-written"
	// QuotaUndoLate notes the old usage after it was changed.
	QuotaUndoLate Switch = "quota-undo-late"
	// QuotaUndoUnsynced changes usage before the note of the old one is durable.
	QuotaUndoUnsynced Switch = "quota-undo-unsynced"
	// QuotaUnnoted begins a change of a mailbox without a note in the journal that its root may be wrong after a crash.
	QuotaUnnoted Switch = "quota-unnoted"
	// QuotaMarkForgotten does not mark the root of a change that was cut off as dirty.
	QuotaMarkForgotten Switch = "quota-mark-forgotten"
	// QuotaMarkClearedFirst clears the mark of a dirty root before it is counted.
	QuotaMarkClearedFirst Switch = "quota-mark-cleared-first"
	// QuotaSettlesBeside counts dirty roots while somebody makes or removes them.
	QuotaSettlesBeside Switch = "quota-settles-beside"
	// QuotaDoubtForgotten moves a mailbox whose header names a foreign root without having that counted.
	QuotaDoubtForgotten Switch = "quota-doubt-forgotten"
	// QuotaTokensIgnored gives away room that others have asked for.
	QuotaTokensIgnored Switch = "quota-tokens-ignored"
)
