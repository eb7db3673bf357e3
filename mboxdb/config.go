package mboxdb

import (
	"strings"

	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/skiplist"
)

// Configured returns the path of the mailbox list that an imapd.conf names, and the options with which Cyrus would open it.
func Configured(c *imapdconf.Config) (path string, opts Options) {
	opts = Options{
		DB:               skiplist.Options{Skipstamp: c.Skipstamp(), Prepared: c.Prepared()},
		Layout:           configuredLayout(c),
		Admins:           strings.Fields(c.String("admins")),
		ReverseACLs:      c.Bool("reverseacls"),
		DefaultPartition: c.DefaultPartition(),
		DefaultACL:       configuredACL(c.String("defaultacl")),
	}
	if right := c.String("deleteright"); right != "" {
		opts.ACL.DeleteRight = right[0]
	}
	switch engine := skiplist.Format(strings.TrimSuffix(c.String("mboxlist_db"), "-nosync")); engine {
	case skiplist.Skiplist, skiplist.Twoskip, skiplist.Flat:
		opts.NewFormat = engine // what is in a file counts, as it does for Cyrus
	}
	if c.Bool("improved_mboxlist_sort") {
		opts.DB.Order = skiplist.MailboxOrder
	}
	return c.Path("mboxlist_db_path"), opts
}

// configuredACL reads the identifiers and rights of defaultacl.
func configuredACL(s string) ACL {
	words := strings.Fields(s)
	acl := ACL{}
	for i := 0; i+1 < len(words); i += 2 {
		acl = append(acl, ACLEntry{Identifier: words[i], Rights: words[i+1]})
	}
	return acl
}

// metaKinds are the kinds of files that may lie apart from the messages.
var metaKinds = []FileKind{HeaderFile, IndexFile, CacheFile, AnnotationsFile, ExpungeFile, SquatFile, DavFile, LockFile, ArchiveCacheFile}

func configuredLayout(c *imapdconf.Config) Layout {
	l := Layout{
		ConfigDir:  c.ConfigDirectory(),
		LockDir:    c.Path("mboxname_lockpath"),
		HashSpool:  c.Bool("hashimapspool"),
		FullHash:   c.Bool("fulldirhash"),
		Archive:    c.Bool("archive_enabled"),
		MetaFiles:  map[FileKind]bool{},
		Partitions: map[string]Partition{},
		Namespace: Namespace{
			UnixSep:           c.Bool("unixhierarchysep"),
			Alt:               c.Bool("altnamespace"),
			UserPrefix:        c.String("userprefix"),
			SharedPrefix:      c.String("sharedprefix"),
			AltPrefix:         c.String("altprefix"),
			DeletedPrefix:     c.String("deletedprefix"),
			VirtDomains:       c.Enum("virtdomains") != "off",
			DefaultDomain:     c.String("defaultdomain"),
			CrossDomains:      c.Bool("crossdomains"),
			CrossDomainsOther: c.Bool("crossdomains_onlyother"),
		},
	}
	for _, kind := range c.Bits("metapartition_files") {
		l.MetaFiles[FileKind(kind)] = true
	}
	for _, p := range c.Partitions() {
		part := Partition{Data: p.Root, Meta: p.Meta, Archive: p.Archive, MetaDirs: map[FileKind]string{}}
		for _, kind := range metaKinds {
			// What an option for this kind alone says stands out from what its partition says.
			if root := c.MetaRoot(p.Name, string(kind)); root != p.Root && root != p.Meta && root != p.Archive {
				part.MetaDirs[kind] = root
			}
		}
		l.Partitions[p.Name] = part
	}
	return l
}
