// Package imapconf reads Cyrus's imapd.conf, as far as it decides how files are to be read.
package imapconf

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/mailspine/mailspine/internal/vfs"
)

// Config is the content of an imapd.conf.
type Config struct {
	path   string
	values map[string]string
}

// maxIncludes bounds how deep files may include each other.
const maxIncludes = 16

// Read reads the file at path and those that it includes.
func Read(fsys vfs.FS, path string) (*Config, error) {
	c := &Config{path: path, values: map[string]string{}}
	if err := c.read(fsys, path, 0); err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return c, nil
}

func (c *Config) read(fsys vfs.FS, path string, depth int) error {
	if depth > maxIncludes {
		return fmt.Errorf("%s: included too deep", path)
	}
	text, err := vfs.ReadFile(fsys, path)
	if err != nil {
		return err
	}
	// A backslash before the end of a line joins it with the next.
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", "")) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if name == "@include" {
			if err := c.read(fsys, value, depth+1); err != nil {
				return err
			}
			continue
		}
		c.values[name] = value
	}
	return nil
}

// Get returns the value of an option, or standard if it is not set.
func (c *Config) Get(name, standard string) string {
	if v, ok := c.values[name]; ok {
		return v
	}
	return standard
}

// Bool returns the value of a switch that is off unless it is set.
func (c *Config) Bool(name string) bool {
	switch strings.ToLower(c.values[name]) {
	case "1", "yes", "on", "t", "true", "y":
		return true
	}
	return false
}

// ConfigDirectory is where the databases are; empty if the file does not tell.
func (c *Config) ConfigDirectory() string { return c.values["configdirectory"] }

// Skipstamp is the path of the file that holds the time of the last server start.
func (c *Config) Skipstamp() string {
	if c.ConfigDirectory() == "" {
		return ""
	}
	return filepath.Join(c.ConfigDirectory(), "db", "skipstamp")
}

// Prepared is the directory of prepared files, for databases that are written whole.
func (c *Config) Prepared() string {
	if c.ConfigDirectory() == "" {
		return ""
	}
	return filepath.Join(c.ConfigDirectory(), "mailspine")
}

// use is one use that Cyrus makes of databases: which files, by which option, in which engine unless that is set. The
// engines are those of Cyrus 2.5 and later.
type use struct {
	// file is the name under the configuration directory, suffix that of a user's files; the option with "_path" behind
	// it may name another file.
	file, suffix string
	option       string
	engine       string
	// sorted marks what improved_mboxlist_sort puts in mailbox order.
	sorted bool
}

var uses = []use{
	{file: "mailboxes.db", option: "mboxlist_db", engine: "twoskip", sorted: true},
	{file: "annotations.db", option: "annotation_db", engine: "twoskip"},
	{file: "quotas.db", option: "quota_db", engine: "quotalegacy", sorted: true},
	{file: "deliver.db", option: "duplicate_db", engine: "twoskip"},
	{file: "statuscache.db", option: "statuscache_db", engine: "twoskip"},
	{file: "tls_sessions.db", option: "tls_sessions_db", engine: "twoskip"},
	{file: "ptscache/ptscache.db", option: "ptscache_db", engine: "twoskip"},
	{file: "user_deny.db", option: "userdeny_db", engine: "flat"},
	{file: "zoneinfo.db", option: "zoneinfo_db", engine: "twoskip"},
	{file: "backups.db", option: "backup_db", engine: "twoskip"},
	{suffix: ".seen", option: "seenstate_db", engine: "twoskip"},
	{suffix: ".sub", option: "subscription_db", engine: "flat", sorted: true},
	{suffix: ".mboxkey", option: "mboxkey_db", engine: "twoskip"},
	{suffix: ".conversations", option: "conversations_db", engine: "skiplist"},
}

// Database is what the configuration says of one database file.
type Database struct {
	// Engine is the configured engine; empty if the file is none that Cyrus knows by its name. Option is what sets it.
	Engine, Option string
	// MailboxOrder is set if the keys are in mailbox order.
	MailboxOrder bool
}

// Database tells what the configuration says of the database at path.
func (c *Config) Database(path string) Database {
	for _, u := range uses {
		if c.isFor(u, path) {
			engine := strings.TrimSuffix(c.Get(u.option, u.engine), "-nosync")
			return Database{Engine: engine, Option: u.option, MailboxOrder: u.sorted && c.Bool("improved_mboxlist_sort")}
		}
	}
	return Database{}
}

// isFor compares names: an operator works on copies, which keep their names and lie elsewhere.
func (c *Config) isFor(u use, path string) bool {
	if u.suffix != "" {
		return strings.HasSuffix(path, u.suffix)
	}
	if own := c.values[u.option+"_path"]; own != "" && filepath.Clean(own) == filepath.Clean(path) {
		return true
	}
	return filepath.Base(path) == filepath.Base(u.file)
}
