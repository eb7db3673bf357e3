// Package index reads the files that Cyrus keeps of one mailbox, whole or damaged:
//
//   - cyrus.index: a header with counters and one fixed-size record for every message ([Header], [Record], [File]);
//   - cyrus.header: name, id, access rights and the names of the user's flags ([HeaderFile]);
//   - cyrus.cache: what was parsed from each message ([CacheRecord], [CacheFile]);
//   - a user's counters, from which modification sequences are given out ([Counters]).
//
// Each format has its constants and its differences between versions in tables in one file: format.go, headerformat.go,
// cacheformat.go, counters.go. Every structure decodes and appends itself, and what was read and not changed is written
// again byte for byte, with bits and fields that are not known here.
//
// [Mailbox] reads a mailbox beside whoever writes to it, under the locks of Cyrus; [Check] compares all its files and
// messages with each other. [Files] and [CheckFiles] take no locks, for those who hold them.
//
// [Mailbox.Update] changes a mailbox in a transaction, [Tx]: messages are appended, flagged, expunged, restored. It is whole or
// it is not there, whatever stops the program or the machine, and a full disk leaves every file as it was. What was under way
// when a process died is in a journal, and is finished or undone by the next one that changes the mailbox, or by [Recover].
//
// [Copy] copies messages to another mailbox, or moves them: the copies are committed first, so that a crash leaves the messages
// in both rather than in neither.
//
// Where a function takes a file system, nil is that of the machine.
//
// docs/format/index.md, header.md, cache.md and counters.md describe the formats.
package index
