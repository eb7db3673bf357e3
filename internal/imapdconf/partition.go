package imapdconf

import (
	"maps"
	"slices"
	"strings"
)

// Partition is a place for mailboxes, with the paths of its roots; "" where there is none.
type Partition struct {
	// Name is in lower case, as it stands in the mailbox list.
	Name string
	// Root holds the messages, and the metadata that is not elsewhere.
	Root string
	// Meta holds the kinds of metadata that metapartition_files lists.
	Meta string
	// Archive holds archived messages, if archive_enabled is set.
	Archive string
}

// The prefixes of keys that name roots, by what follows.
const (
	partitionKey        = "partition-"
	metaPartitionKey    = "metapartition-"
	archivePartitionKey = "archivepartition-"
	backupPartitionKey  = "backuppartition-"
	searchPartitionKey  = "searchpartition-"
	metaDirKey          = "metadir-"
)

// maxPartitionKey is the longest key of a partition that Cyrus looks up.
const maxPartitionKey = 79

// Partitions returns all partitions, sorted by name. What a service sets for itself goes before.
func (c *Config) Partitions() []Partition {
	names := map[string]bool{}
	for key := range c.others {
		for _, prefix := range []string{"", strings.ToLower(c.Service) + "_"} {
			if name, ok := strings.CutPrefix(key, prefix+partitionKey); ok && (prefix != "_") {
				names[name] = true
			}
		}
	}
	var list []Partition
	for _, name := range slices.Sorted(maps.Keys(names)) {
		list = append(list, c.Partition(name))
	}
	return list
}

// Partition returns one partition; its Root is "" if there is none of that name.
func (c *Config) Partition(name string) Partition {
	p := Partition{Name: strings.ToLower(name)}
	p.Root, _ = c.Other(partitionKey + p.Name)
	p.Meta, _ = c.Other(metaPartitionKey + p.Name)
	if c.Bool("archive_enabled") {
		p.Archive, _ = c.Other(archivePartitionKey + p.Name)
	}
	return p
}

// MetaRoot is the root under which a kind of metadata of a partition lies: header, index, cache, expunge, squat,
// annotations, dav or archivecache.
func (c *Config) MetaRoot(name, kind string) string {
	p := c.Partition(name)
	key := kind
	if kind == "annotations" {
		key = "index" // Cyrus 3.6 has no key of their own for them
	}
	if dir, ok := c.Other(metaDirKey + key + "-" + p.Name); ok && kind != "expunge" {
		return dir
	}
	if p.Meta != "" && slices.Contains(c.Bits("metapartition_files"), kind) {
		return p.Meta
	}
	if kind == "archivecache" && p.Archive != "" {
		return p.Archive
	}
	return p.Root
}

// DefaultPartition is where new mailboxes go; "" if Cyrus chooses by free space.
func (c *Config) DefaultPartition() string { return c.String("defaultpartition") }

// checkPartitions applies the rules without which no program that touches mailboxes starts.
func (c *Config) checkPartitions(file string) {
	name := strings.ToLower(c.String("defaultpartition"))
	c.text["defaultpartition"] = name
	at := Pos{File: file}
	if s := c.values["defaultpartition"]; s != nil {
		at = s.ValuePos
	}
	for i := range len(name) {
		if !isAlnum(name[i]) {
			c.report(refused(at, "bad-partition-name", "partition "+show(name), "letters and digits", "rename the partition"))
			return
		}
	}
	switch {
	case name == "" && (len(c.Partitions()) > 0 || c.String("mupdate_server") != "" && c.isFrontend()):
	case name == "":
		p := harmful(at, "no-partition", "no option \"partition-NAME\"", "at least one", "add partition-default: PATH")
		p.Refused = !c.isFrontend()
		c.report(p)
	case c.Partition(name).Root == "" || len(partitionKey+name) > maxPartitionKey:
		fix := "add partition-" + name + ": PATH"
		var names []string
		for _, p := range c.Partitions() {
			names = append(names, p.Name)
		}
		if near := nearest(name, names); near != "" {
			fix = "did you mean " + near + "?"
		}
		c.report(refused(at, "no-default-partition", "defaultpartition "+show(name)+" without a path",
			"option \"partition-"+name+"\"", fix))
	}
}

// isFrontend tells of a server that could hold no mail of its own: Cyrus lets it start without a partition.
func (c *Config) isFrontend() bool {
	return (c.String("mupdate_server") == "" || c.Enum("mupdate_config") == "standard") && c.String("proxyservers") == ""
}
