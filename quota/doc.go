// Package quota keeps quota roots: who may use how much, and how much is used. A root has the name of a mailbox and counts
// for all mailboxes at and below it that no closer root counts for.
//
// [Roots] is where they are kept: a file for each ("quotalegacy"), or a database of package skiplist, as imapd.conf says.
// Cyrus may use the same files at the same time; the locks are its own.
package quota
