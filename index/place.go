package index

import (
	"path/filepath"

	"github.com/mailspine/mailspine/mboxdb"
)

// Place says where everything of one mailbox lies.
type Place struct {
	Paths Paths
	// Messages is the directory of the message files, Archive that of the archived ones; the same if there is no other.
	Messages, Archive string
	// UserLocks and NameLock are the files of Cyrus's locks of the mailbox's user and of the mailbox, empty where they are
	// not known, or held already: then only cyrus.index itself is locked. The lock of the user has several names, because
	// releases differ in what they call it; all are taken.
	UserLocks []string
	NameLock  string
	// Journal is the directory of the journal, on the file system of the index. Stage is where messages are written before
	// they have a number, on the file system of Messages. Neither needs to exist, but their parents must.
	Journal, Stage string
	// Owner is the user whose mailbox it is, "" of a shared one.
	Owner string
}

const (
	// journalName is the directory for the journal of a partition. No mailbox can have it: a name that ends in a dot would
	// have an empty level.
	journalName = "mailspine."
	// stageName is that of Cyrus for messages that arrive.
	stageName = "stage."
)

// StageDir is the directory of a partition, by its root, for messages that arrive.
func StageDir(root string) string { return filepath.Join(root, stageName) }

// PlaceIn is a mailbox that has everything in one directory.
func PlaceIn(dir string) Place {
	return Place{Paths: PathsIn(dir), Messages: dir, Archive: dir, Journal: filepath.Join(dir, journalName), Stage: filepath.Join(dir, stageName)}
}

// PlaceOf finds the place of a mailbox by its entry in the mailbox list.
func PlaceOf(l mboxdb.Layout, rec mboxdb.Record) (p Place, err error) {
	for _, f := range []struct {
		kind mboxdb.FileKind
		to   *string
	}{
		{mboxdb.HeaderFile, &p.Paths.Header}, {mboxdb.IndexFile, &p.Paths.Index}, {mboxdb.CacheFile, &p.Paths.Cache},
		{mboxdb.AnnotationsFile, &p.Paths.Annotations}, {mboxdb.ArchiveCacheFile, &p.Paths.Archive},
	} {
		if *f.to, err = l.Path(rec, f.kind); err != nil {
			return Place{}, err
		}
	}
	if p.Messages, err = l.MessageDir(rec, false); err != nil {
		return Place{}, err
	}
	if p.Archive, err = l.MessageDir(rec, true); err != nil {
		return Place{}, err
	}
	if p.Journal, err = JournalDir(l, rec.Partition); err != nil {
		return Place{}, err
	}
	p.Stage = StageDir(l.Partitions[rec.Partition].Data)
	p.Owner = rec.Name.User(l.Namespace)
	if l.ConfigDir != "" || l.LockDir != "" {
		p.UserLocks = l.UserLocks(p.Owner)
		p.NameLock = l.LockPath(rec.MailboxLock())
	}
	return p, nil
}

// JournalDir is where the journal of the mailboxes of a partition is.
func JournalDir(l mboxdb.Layout, partition string) (string, error) {
	root, err := l.Root(partition, mboxdb.IndexFile)
	if err != nil {
		return "", err
	}
	return filepath.Join(root, journalName), nil
}

// Unlocked is the place without the locks of user and mailbox, for who holds them already.
func (p Place) Unlocked() Place {
	p.UserLocks, p.NameLock = nil, ""
	return p
}

// Message is the path of a message file.
func (p Place) Message(r *Record) string {
	dir := p.Messages
	if r.Flags&FlagArchived != 0 && p.Archive != "" {
		dir = p.Archive
	}
	return filepath.Join(dir, messageFile(r.UID))
}
