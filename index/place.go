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
	// UserLock and NameLock are the files of Cyrus's locks of the mailbox's user and of the mailbox, "" where they are not
	// known: then only cyrus.index itself is locked.
	UserLock, NameLock string
}

// PlaceIn is a mailbox that has everything in one directory.
func PlaceIn(dir string) Place { return Place{Paths: PathsIn(dir), Messages: dir, Archive: dir} }

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
	if l.ConfigDir != "" || l.LockDir != "" {
		p.UserLock = l.LockPath(mboxdb.UserLock(rec.Name.User(l.Namespace)))
		p.NameLock = l.LockPath(rec.MailboxLock())
	}
	return p, nil
}

// Message is the path of a message file.
func (p Place) Message(r *Record) string {
	dir := p.Messages
	if r.Flags&FlagArchived != 0 && p.Archive != "" {
		dir = p.Archive
	}
	return filepath.Join(dir, messageFile(r.UID))
}
