// Package store opens the mail store that an imapd.conf describes, and changes what belongs to more than one mailbox: a
// mailbox is created, renamed, deleted or given to somebody together with its directory, its header file and its entry in
// the mailbox list, in one step that a crash leaves whole or absent.
//
// # How a step survives a crash
//
// The list decides. Its transaction, which is that of the database, is the commit point of every step; what has to be there
// before is made beside what is in use, and what is of no use any more goes afterwards:
//
//	create    directories, cyrus.header, cyrus.index; the list
//	rename    by name: hard links of all files in the new directories; the list; the old names of the files go
//	          by unique id: the list
//	delete    delayed: as rename; else the list, then the files go
//	setacl    the list
//
// and at the end, where a mailbox stays, an index transaction brings its header file and its modification sequence up to
// what the list says. The space that it needs is taken before the list is changed: the new header file, and a slot in the
// journal of its partition. So a full disk refuses the whole step, and ends none in the middle.
//
// Before anything of it a journal entry is written and synced, which names the mailboxes and where they lie before and after.
// Who finds one whose writer is gone asks the list, for every place that it names: does this mailbox lie here? If so the
// place stays, and is brought up to the list; if not the files in it are removed, if they are provably those of the entry.
// So an entry may be resolved at any time, more than once, and whatever Cyrus did in between; no sync is needed to clear it.
//
// Locks are Cyrus's, in its order: those of the users, then those of the mailboxes, then cyrus.index, then the list. Entries
// that name a user are resolved by whoever next takes the lock of that user for such a step, and all of them by
// [Store.Recover].
package store
