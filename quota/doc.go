// Package quota keeps quota roots: who may use how much, and how much is used. A root has the name of a mailbox and counts
// for all mailboxes at and below it that no closer root counts for.
//
// [Roots] is where they are kept: a file for each ("quotalegacy"), or a database of package skiplist, as imapd.conf says.
// Cyrus may use the same files at the same time; the locks are its own. [Keeper] keeps the usage right while mailboxes change,
// and counts it anew where it is wrong: [Keeper.Recalculate].
//
// # Why a recalculation is right
//
// The usage of a root R is the sum of what its members use. A member is a mailbox that the list has here (no tombstone, no name
// that exists for others' sake, none on another server, none that is being removed) and whose longest existing root, of all roots
// and not of those asked for, is R. The names of mailboxes decide that, and nothing else: not the order of keys in the list, and not
// what headers say. Everybody who changes a mailbox, of any release, adds the difference to the root that the header of the
// mailbox names, under the lock of the record, and while he has the exclusive lock of cyrus.index or, where mailboxes are made,
// moved or removed, that of the user. So the number is right for good if, at one instant,
//
//	(a) it is written while no difference is under way: each has been added before, with the mailbox changed, or will be after;
//	(b) it is the sum over all members, each once, of what they use at that instant;
//	(c) the header of each member names R, and no header of another mailbox does.
//
// One root is worked on at a time, and nothing of the work is kept from one to the next, or from one attempt to the next. In
// an attempt:
//
//  1. The members are read from the list. If mailboxes below R count for a closer root, the lock of changes of roots ($QUOTACHANGE) is
//     taken first, and kept to the end: so nobody is in the middle of moving usage between the two.
//  2. The freeze: the locks of the users of the members and of R, under each name that a release has for them, and then cyrus.index of
//     each member, all shared and all at once. A user's lock keeps out whoever makes, moves or removes a mailbox of that
//     user (since Cyrus 3.2; the lock of shared mailboxes since 3.2, too), and since 3.4 whoever writes to one. The locks of the
//     indexes keep out writers of every release, to shared mailboxes, too, for which 3.6.1 takes no lock of a user; and ours. Each is
//     the lock of the file that has the name: a repack puts another in its place only under the same lock. That is (a), but for one
//     case: see below.
//  3. Under the freeze the record is read, and then the list anew, with which roots exist. If the members are not those of step 1,
//     all is given back, and step 1 comes again. So the frozen mailboxes are the members: (b) needs no more than to read each
//     header of an index, which is in no writer's hands, once. A path is counted once, also if two names lead to it.
//     If these count for two roots, each counts it, and as the header names one of them only, that is reported.
//  4. The headers (cyrus.header) are read. One of which the index has another checksum may be in the middle of a change that was cut off,
//     which would be finished or taken back later: that is done first, and then step 1 again. If one is wrong, all is given back, the
//     lock of changes of roots is taken, and
//     step 1 comes again; if it is still wrong it is mended by a transaction of the index, which decides anew, under its exclusive
//     locks, which root is right. Then step 1 again. That is (c) for members. For others see below.
//  5. The sum is written, under the lock of the record and still frozen, with the limits and whatever else the record says by then.
//     If its usage has changed since step 3, somebody who was not frozen has changed it: step 1. After twenty times the record stays as
//     it is, with an error.
//  6. All is given back.
//
// What happens at the same time:
//
//   - A delivery, an expunge, a repack, a reconstruction. Its exclusive lock of the index comes before the freeze, and then both the index
//     and the record have it, or after, and then neither; what is added later is added to the right sum.
//   - A mailbox is made, moved, renamed or removed. Under the lock of the user, so as above. Between steps 1 and 2 it makes step 3 differ.
//     In the middle of a move a mailbox may be in two places on the disk; in the list it is in one.
//   - A mailbox is made for a user who had none below the root of a domain, of all users, or of what they have deleted; or it was the
//     last one of that user, and goes. That lock of a user is not frozen, as nobody knows of it, and Cyrus changes the record before the list. So, after the record was read in step 3, each lock of a
//     user that there is has to be free once: who had it by then is done, and the list has the mailbox; who takes it later changes the
//     record after it was read, and step 5 sees that.
//   - A root is made (SETQUOTA). Cyrus has $QUOTACHANGE; it makes the record first, and then moves the usage of each mailbox from the old
//     root to the new one, under the lock of the index. Before the record is there the mailboxes are members of the old root, and are
//     counted there; their usage is taken off later. After, they are not: while their headers still name the old one, step
//     4 waits for $QUOTACHANGE, that is for the end of it. It is the outermost lock, and not asked for while any other is held.
//   - A root is removed. We do that under $QUOTACHANGE, and count the next root above it then, of which step 1 says that it is not
//     worked on meanwhile. Cyrus removes none that counts for a mailbox. Or a file of one is removed, restored or renamed by hand. Its
//     mailboxes are members of the next root from then on; headers that name the old one are wrong, and step 4.
//   - A second recalculation of ours. The freezes are shared, so both may be at the same root; both find the same sum, and the second
//     to come to the record looks once more, and finds it right. The same holds of a deep count, as long as headers agree with records.
//   - Cyrus's own "quota -f". It holds $QUOTACHANGE, and marks the record (SCAN) while it adds up. A record with the mark is written only
//     under $QUOTACHANGE; then nobody is at work, and the mark was left by one who died. One that comes later finds a right number.
//   - This process is killed. Nothing was written but whole headers and whole records, each right at its time. The next run does not
//     know, and does the same.
//   - Another of our processes is killed between its change and the addition. The index has the change, so the count has it. When the entry
//     in the journal is found the root is marked, and counted once more: nobody adds.
//
// Mailboxes that are no members, and whose headers name R (c). A run over all roots visits every mailbox, each at its own root or as one that
// no root owns: a header that named R is mended, and R is counted once more after that. A run over some roots looks at all
// mailboxes below their names; a header that is mended in favour of a root that was not asked for is reported, with that root, whose
// number is as wrong as it was.
//
// What keeps a number from being written: a member that cannot be read (its root stays as it is, and is reported with the sum of the
// others), a record that is damaged or empty (what it limits is not known), a mailbox list that is damaged (there may be more
// members: usage may be raised, not lowered). Nothing here removes a root, a limit, or an item that is not known; only
// [Keeper.Delete] does.
//
// What is not covered: releases before 3.2 make and move mailboxes under the lock of the mailbox alone. A mailbox that one of those
// makes between steps 3 and 5 may be missing from the number of mailboxes, the only thing a new one uses, until the next run.
//
// # Why nothing waits for ever
//
// The locks have one order, $QUOTACHANGE, users, indexes, record, the mailbox list, and are taken in it. But Cyrus holds the index of one
// mailbox and waits for that of another, in an order of its own. So who waits more than a second for a lock while he has others
// gives all back, waits for that one alone, and begins anew. Who holds a record's lock waits for no user
// and no mailbox.
package quota
