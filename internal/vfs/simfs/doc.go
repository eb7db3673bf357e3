// Package simfs is a disk in memory that knows what a power cut may leave of it.
//
// [New] makes an empty one; it implements vfs.FS. Everything that changes it is written to a journal, so that one run
// of a workload gives the state after every operation: [FS.Trace] replays the journal and builds, for each operation,
// images of the disk that a crash at that moment could leave. An image is itself an [FS] that records, so that crashes
// during recovery are enumerated in the same way.
//
// # What a crash may leave
//
// A file has synced content (what was there at its last Datasync or Sync) and a page cache (what reads see). Space is
// kept in sectors of 512 bytes. In an image:
//
//   - A sector that was not written since the last sync holds its synced content.
//   - A sector that was written holds its synced content, or the content after any one of those writes. Which of them
//     is chosen for each sector on its own: writes reach the disk in any order, or not at all.
//   - A sector that held a synced byte is written whole or not at all, and no write disturbs its neighbours (SQLite's
//     "powersafe overwrite"). Only a sector wholly in the appended area, beyond the synced size, may also hold the left
//     or the right part of its newest content (the rest zeros), or garbage. [Search.Whole] leaves these out.
//   - The size is the synced size, or the end of any unsynced write or extending Truncate beyond it, or any multiple
//     of 4096 between the synced and the largest size. What lies in the size but never reached the disk reads as
//     zeros; what lies beyond it is gone.
//   - A Truncate that cuts may be lost while later writes persist, or happen while earlier and later writes are lost.
//     If it happened, the cut bytes are zeros where a later write does not cover them.
//   - Owner and mode that CopyMetadata set are old or new, as a whole, until Sync.
//   - Names: a create, link, unlink, rename or exchange is one step that changes one or two names together. Until the
//     directory is synced (both directories, where a step changes names in two) it may be lost. Steps on one name keep
//     their order: if one is kept, so are all earlier ones on its names. Steps on different names are independent;
//     with [Options.OrderedNames] a prefix of all steps is kept instead, as an ordered journal does.
//   - A file synced under a name whose directory was not synced may be missing. Files without a name are gone. Locks,
//     open files and shared words are gone; space reserved by Allocate stays if the file was synced since.
//
// An exchange leaves the times of both files as they were, as XFS does.
//
// A failed sync leaves the page cache as it was but marks it clean: see [File.DropDirty].
//
// # Beyond crashes
//
// [Options] limits blocks and inodes, with delayed allocation or copy-on-write. [FS.Process] gives further views that
// act like other processes on the same disk, [FS.Kill] a copy in which the processes died but the machine did not.
// [Run] lets tasks take turns at every call, in an order that a seed decides.
package simfs
