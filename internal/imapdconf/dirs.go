package imapdconf

import (
	"cmp"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/mailspine/mailspine/internal/vfs"
)

// root is a directory that a setting names.
type root struct {
	setting   *Setting
	path      string
	partition bool
}

// checkDirs looks at the directories that the configuration names, and at how they lie to each other.
func (c *Config) checkDirs(fsys vfs.FS) {
	config := c.values["configdirectory"]
	var roots []root
	if config != nil {
		roots = append(roots, root{setting: config, path: config.Value})
		if c.checkDir(fsys, config) {
			c.checkDatabaseDir(fsys, config)
		}
	}
	c.checkFiles(fsys)
	for _, p := range c.Partitions() {
		root := root{setting: c.other(partitionKey + p.Name), path: p.Root, partition: true}
		c.checkDir(fsys, root.setting)
		roots = append(roots, root)
		if s := c.other(metaPartitionKey + p.Name); s != nil {
			c.checkDir(fsys, s)
			if len(c.Bits("metapartition_files")) == 0 {
				c.report(warning(s.KeyPos, "metapartition-unused", "a metapartition", "option \"metapartition_files\" as well", "without it no file is placed there"))
			}
		}
		if s := c.other(archivePartitionKey + p.Name); s != nil {
			c.checkDir(fsys, s)
			if !c.Bool("archive_enabled") {
				c.report(warning(s.KeyPos, "archive-disabled", "an archive partition", "\"archive_enabled: yes\" as well",
					"without it Cyrus does not find messages that are already there"))
			}
		}
	}
	if s := c.values["metapartition_files"]; s != nil && !c.hasMeta() {
		c.report(warning(s.KeyPos, "metapartition-missing", "option \"metapartition_files\"", "option \"metapartition-NAME\" as well", "without it all files stay with the messages"))
	}
	c.checkOverlap(roots)
}

func (c *Config) hasMeta() bool {
	return slices.ContainsFunc(c.Partitions(), func(p Partition) bool { return p.Meta != "" })
}

// checkDir reports a path that is no directory, and tells whether it is one.
func (c *Config) checkDir(fsys vfs.FS, s *Setting) bool {
	if strings.HasPrefix(strings.ToLower(s.Value), configDirectoryMark) {
		c.report(harmful(s.ValuePos, "not-replaced", show(configDirectoryMark), "a path", "Cyrus replaces this only in options of its table; write the path"))
		return false
	}
	if !path.IsAbs(s.Value) {
		c.report(harmful(s.ValuePos, "path-relative", "path "+show(s.Value), "an absolute path", "it depends on where a program was started"))
		return false
	}
	info, err := fsys.Stat(s.Value)
	switch {
	case err != nil:
		c.report(harmful(s.ValuePos, "directory-missing", "path "+show(s.Value)+": "+reason(err), "a directory", "create it and give it to the user of Cyrus"))
	case !info.Mode.IsDir():
		c.report(harmful(s.ValuePos, "directory-missing", "path "+show(s.Value)+", which is no directory", "a directory", ""))
	default:
		return true
	}
	return false
}

// reason is the bare cause of a failed call.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return err.Error()
}

// checkDatabaseDir looks for the directory of the skipstamp.
func (c *Config) checkDatabaseDir(fsys vfs.FS, s *Setting) {
	dir := path.Join(s.Value, "db")
	if _, err := fsys.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		c.report(warning(s.ValuePos, "db-directory-missing", "no directory "+show(dir), "one", "without it Cyrus recovers every skiplist whenever it opens one"))
	}
}

// fileOptions name a file that must be there. The word "disabled" turns off what they are for.
var fileOptions = []string{"tls_server_cert", "tls_server_key", "tls_client_ca_file", "tls_client_cert", "tls_client_key", "tls_server_ca_file"}

func (c *Config) checkFiles(fsys vfs.FS) {
	for _, name := range fileOptions {
		s := c.values[name]
		if s == nil || s.Value == "disabled" {
			continue
		}
		if _, err := fsys.Stat(c.String(name)); errors.Is(err, fs.ErrNotExist) {
			c.report(harmful(s.ValuePos, "file-missing", "path "+show(c.String(name))+": "+reason(err), "a file", ""))
		}
	}
}

// checkOverlap reports roots that are the same directory, and those that lie in a partition: the files of one would be
// odd files, or whole mailboxes, of the other. In sorted order a directory follows the one it lies in.
func (c *Config) checkOverlap(roots []root) {
	for i := range roots {
		roots[i].path = path.Clean(roots[i].path) + "/"
	}
	slices.SortStableFunc(roots, func(a, b root) int {
		return cmp.Or(strings.Compare(a.path, b.path), cmp.Compare(a.setting.KeyPos.Line, b.setting.KeyPos.Line))
	})
	var outer []root
	for _, r := range roots {
		for len(outer) > 0 && !strings.HasPrefix(r.path, outer[len(outer)-1].path) {
			outer = outer[:len(outer)-1]
		}
		if len(outer) > 0 {
			o := outer[len(outer)-1]
			if r.path == o.path {
				c.report(harmful(r.setting.ValuePos, "same-directory", "path "+show(r.setting.Value), "another than that of "+o.setting.Key, ""))
			} else if o.partition {
				c.report(warning(r.setting.ValuePos, "directory-inside", "path "+show(r.setting.Value), "one outside that of "+o.setting.Key, ""))
			}
		}
		outer = append(outer, r)
	}
}
