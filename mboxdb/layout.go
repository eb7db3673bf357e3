package mboxdb

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Layout says where the files of mailboxes lie: the partitions and hashing options of imapd.conf.
type Layout struct {
	// ConfigDir is configdirectory, LockDir where locks are (mboxname_lockpath; by default ConfigDir/lock).
	ConfigDir, LockDir string
	// HashSpool spreads mailboxes over directories of one letter (hashimapspool); FullHash takes the letter from a hash
	// of the name instead of its first letter (fulldirhash).
	HashSpool, FullHash bool
	// Archive is set if archived messages have partitions of their own (archive_enabled).
	Archive bool
	// MetaFiles are the kinds of files that lie on the metadata partition (metapartition_files).
	MetaFiles map[FileKind]bool
	// Partitions by name.
	Partitions map[string]Partition
	// Namespace tells users, domains and deleted mailboxes apart.
	Namespace Namespace
}

// Partition is where a partition's files lie. Only Data has to be set.
type Partition struct {
	Data, Meta, Archive string
	// MetaDirs overrides the place of one kind of file (metadir-KIND-NAME).
	MetaDirs map[FileKind]string
}

// FileKind is a kind of file of a mailbox, by the name that metapartition_files gives it.
type FileKind string

const (
	HeaderFile       FileKind = "header"
	IndexFile        FileKind = "index"
	CacheFile        FileKind = "cache"
	AnnotationsFile  FileKind = "annotations"
	ExpungeFile      FileKind = "expunge"
	SquatFile        FileKind = "squat"
	DavFile          FileKind = "dav"
	LockFile         FileKind = "lock"
	ArchiveCacheFile FileKind = "archivecache"
)

// fileNames are the names of the kinds of files that have one.
var fileNames = map[FileKind]string{
	HeaderFile: "cyrus.header", IndexFile: "cyrus.index", CacheFile: "cyrus.cache", AnnotationsFile: "cyrus.annotations",
	ExpungeFile: "cyrus.expunge", SquatFile: "cyrus.squat", DavFile: "cyrus.dav", ArchiveCacheFile: "cyrus.cache",
}

// ErrNoPartition means that a mailbox lies on a partition that is not configured.
var ErrNoPartition = errors.New("the partition is not configured")

// Hash is the directory of one letter in which a name is found: the first letter of the name or, full, a letter
// computed from what precedes its first dot.
func Hash(name string, full bool) byte {
	if !full {
		if name == "" {
			return 'q'
		}
		c := name[0] | 0x20
		if c < 'a' || c > 'z' || name[0] >= 0x80 {
			return 'q'
		}
		return c
	}
	n := uint32(0)
	for i := 0; i < len(name) && name[i] != '.'; i++ {
		n = (n<<3 ^ n>>5) ^ uint32(name[i])
	}
	return byte('A' + n%23)
}

// namePath is the directory of a name below a root, in the legacy layout. Every level is a directory, its dots written
// as "^".
func (l Layout) namePath(n Name) string {
	var path []string
	if domain := l.Namespace.visibleDomain(n.Domain()); domain != "" {
		path = append(path, "domain")
		if l.HashSpool {
			path = append(path, string(Hash(domain, l.FullHash)))
		}
		path = append(path, domain)
	}
	levels := n.Levels()
	if t, ok := l.Namespace.deletedAt(levels); ok {
		levels[len(levels)-1] = hexTime(uint64(t)) // as Cyrus does, whatever else stands in that level
	}
	if l.HashSpool && len(levels) > 0 {
		path = append(path, string(Hash(levels[min(1, len(levels)-1)], l.FullHash)))
	}
	for _, level := range levels {
		path = append(path, strings.ReplaceAll(level, ".", "^"))
	}
	return strings.Join(path, "/")
}

// idPath is the directory of a unique id below a root.
func idPath(id string) string { return "uuid/" + id[:1] + "/" + id[1:2] + "/" + id }

// ErrUnsafePath means that the name or the unique id of a mailbox would lead out of its partition.
var ErrUnsafePath = errors.New("the path of the mailbox would lead out of its partition")

// Subdir is the directory of a mailbox below the root of a partition.
func (l Layout) Subdir(r Record) (string, error) {
	if r.Type.Legacy() {
		path := l.namePath(r.Name)
		for _, level := range strings.Split(path, "/") {
			if level == "" || level == "." || level == ".." || strings.IndexByte(level, 0) >= 0 {
				return "", fmt.Errorf("%q: %w", r.Name, ErrUnsafePath)
			}
		}
		return path, nil
	}
	if id := r.UniqueID; len(id) < 2 || strings.ContainsAny(id, "/.\x00") {
		return "", fmt.Errorf("unique id %q: %w", id, ErrUnsafePath)
	}
	return idPath(r.UniqueID), nil
}

// Dir is the directory in which files of a kind lie.
func (l Layout) Dir(r Record, kind FileKind) (string, error) {
	sub, err := l.Subdir(r)
	if err != nil {
		return "", err
	}
	root, err := l.Root(r.Partition, kind)
	if err != nil {
		return "", fmt.Errorf("mailbox %s: %w", r.Name, err)
	}
	return filepath.Join(root, sub), nil
}

// Path is the path of a file of a mailbox.
func (l Layout) Path(r Record, kind FileKind) (string, error) {
	dir, err := l.Dir(r, kind)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, fileNames[kind]), nil
}

// MessageDir is the directory of the messages of a mailbox, or of its archived ones.
func (l Layout) MessageDir(r Record, archived bool) (string, error) {
	sub, err := l.Subdir(r)
	if err != nil {
		return "", err
	}
	p, ok := l.Partitions[r.Partition]
	if !ok || p.Data == "" {
		return "", fmt.Errorf("mailbox %s, partition %q: %w", r.Name, r.Partition, ErrNoPartition)
	}
	if archived && l.Archive && p.Archive != "" {
		return filepath.Join(p.Archive, sub), nil
	}
	return filepath.Join(p.Data, sub), nil
}

// Root is the root of a partition for a kind of file.
func (l Layout) Root(name string, kind FileKind) (string, error) {
	p, ok := l.Partitions[name]
	switch dir := p.MetaDirs[kind]; {
	case !ok || p.Data == "":
		return "", fmt.Errorf("partition %q: %w", name, ErrNoPartition)
	case dir != "":
		return dir, nil
	case l.MetaFiles[kind] && p.Meta != "":
		return p.Meta, nil
	case kind == ArchiveCacheFile && l.Archive && p.Archive != "":
		return p.Archive, nil
	}
	return p.Data, nil
}

// LockPath is the file whose lock stands for a lock name: a mailbox's name or unique id, or "*U*USER".
func (l Layout) LockPath(lockName string) string {
	dir := l.LockDir
	if dir == "" {
		dir = filepath.Join(l.ConfigDir, "lock")
	}
	return filepath.Join(dir, l.namePath(InternalName(lockName))+".lock")
}

// MailboxLock is the name of the lock of one mailbox.
func (r Record) MailboxLock() string {
	if r.Type.Legacy() {
		return r.Name.String()
	}
	return r.UniqueID
}

// UserLock is the name of the lock under which the mailboxes of a user are created, renamed and deleted; with an empty
// user that of all shared mailboxes.
func UserLock(user string) string { return "*U*" + strings.ReplaceAll(user, ".", "^") }

// UserLocks are the files of the locks under which the mailboxes of these users are changed, in the order in which to take
// them: that of the users, an empty one, which stands for the shared mailboxes, first. Each user's lock is taken under
// every name that a supported release gives it: before Cyrus 3.12 that of [UserLock], since then one made of the name of
// the INBOX.
func (l Layout) UserLocks(users ...string) (paths []string) {
	users = slices.Sorted(slices.Values(users))
	for _, user := range slices.Compact(users) {
		paths = append(paths, l.LockPath(UserLock(user)))
		if user != "" {
			paths = append(paths, l.LockPath("*U*"+l.Namespace.UserInbox(user).String()))
		}
	}
	return paths
}

// UserFile is a file of a user, such as "sub" or "seen", by the legacy layout. These are always hashed.
func (l Layout) UserFile(user, suffix string) string {
	local, domain := l.Namespace.splitUser(user)
	dir := l.ConfigDir
	if domain != "" {
		dir = filepath.Join(dir, "domain", string(Hash(domain, l.FullHash)), domain)
	}
	return filepath.Join(dir, "user", string(Hash(local, l.FullHash)), local+"."+suffix)
}

// UserFileByID is a file of a user whose INBOX is not of the legacy layout.
func (l Layout) UserFileByID(inboxID, suffix string) (string, error) {
	if len(inboxID) < 2 || strings.ContainsAny(inboxID, "/.\x00") {
		return "", fmt.Errorf("unique id %q: %w", inboxID, ErrUnsafePath)
	}
	return filepath.Join(l.ConfigDir, "user", idPath(inboxID), suffix+".db"), nil
}
