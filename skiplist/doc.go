// Package skiplist is an ordered key/value store in one file, safe against crashes and full disks, byte-compatible with
// the databases of Cyrus IMAP: skiplist (version 1), twoskip and flat. The same file can be used by Cyrus's programs at
// the same time.
//
// # Use
//
// [Open] returns a [DB]. [DB.View] reads one consistent state, [DB.Update] changes it in one atomic transaction,
// [DB.Batch] does the same and shares its syncs with the other callers that wait. A [Snapshot] keeps a state for
// longer; it survives checkpoints.
//
// # What is promised
//
//   - When Update, Batch, Put, Insert or Delete returns nil, the change is on the disk: it survives a crash of the
//     process and of the machine.
//   - When it returns an error, the change is invisible, now and after any crash, and the next call works; the one
//     exception is [ErrCommitUnknown].
//   - With no space left the answer is [ErrNoSpace] before a byte was written, reads go on, and deletions keep working
//     until the reserve is used up.
//   - A reader never sees half a transaction, not even in a file that a killed Cyrus process left behind, and never
//     waits for a writer of its own process.
//   - A damaged file is never made poorer: writers refuse it, [Options.AllowDamaged] reads what precedes the damage,
//     [Salvage] collects everything readable in a new file.
//
// # How it works
//
// Records are the truth, pointers are derived: the state of a file is the replay of its committed log. Opening replays
// it into a tree of record offsets in memory; keys and values stay in the mapped file. What Cyrus finds by following
// links, the links in the file, is written from that tree, and compared with it before the first write.
package skiplist
