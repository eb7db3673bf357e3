// Package mboxdb is the mailbox list of a mail server: which mailboxes there are, who may use them, and where they lie.
//
// It reads and writes Cyrus's mailboxes.db. A mailbox has two records there, one under its name and one under its
// unique id, and for each other user who may see it a reverse ACL key; they change together, in one transaction.
package mboxdb
