// Package fuzz holds the campaigns against the stores: crash images, faults at every call, and kills.
//
// MAILSPINE_CAMPAIGN chooses how long they are: empty for go test ./..., ci, or nightly. A failure prints the line that
// repeats it: with -image a crash of the simulated disk, with -point a cell of a campaign on the real system.
//
// The mailboxes have campaigns of their own, TestMailbox...: one model says what each step makes of a mailbox, for crash
// images, faults, kills, full disks and random runs of all these.
//
// So have quota roots, TestQuota...: random histories of several processes on one store, cut off and spoiled in all ways, after which
// a count of its own says what each root should have; -histories repeats one. And crash images and faults of each change.
//
// On the simulated disk every crash and every failing call is tried, also those that a real system makes once in a
// million. The campaigns on the real system (the files *_linux_test.go) show that the simulation is not a fancy of ours:
//
//	TestKillEverywhere       SIGKILL at every system call that changes files, writes torn as well
//	TestKillCommandLine      the same for "mailspine db batch"
//	TestSystemCallsFail      an errno at every such call, once, every second time, from then on; short writes
//	TestFullTmpfs            a full tmpfs of every size; TestNoInodes, TestFillAndRelease, TestFileSizeLimit
//	TestDeleteAtZeroBytes    deletions on tmpfs, ext4, xfs and btrfs with somebody who takes every freed block
//	TestSystemCrash          ext4 and xfs shut down under writers, and mounted again
//	TestRoundsWithCyrus      writers of ours and of the real Cyrus in turn on one file, each killed at random
//	TestRootLeavesFilesUsable  root changes files of another user
//	TestMailboxKill          SIGKILL at every such call of a process that changes mailboxes, and of one that recovers them
//	TestMailboxFullTmpfs     mailboxes on a full tmpfs of every size
//	TestMailboxAtZeroBytes   flags removed and messages expunged on full tmpfs, ext4, xfs
//
// They mount disks in a namespace of their own and run children of this program (see roles), so that nothing is left
// mounted or running when one fails; what a machine does not have, they skip.
package fuzz
