package imapdconf

import (
	"path/filepath"
	"strings"
)

// Skipstamp is the path of the file that holds the time of the last server start; "" without a configuration directory.
func (c *Config) Skipstamp() string { return c.below("db", "skipstamp") }

// Prepared is the directory of mailspine's prepared files, for databases that are written whole.
func (c *Config) Prepared() string { return c.below("mailspine") }

func (c *Config) below(names ...string) string {
	if c.ConfigDirectory() == "" {
		return ""
	}
	return filepath.Join(append([]string{c.ConfigDirectory()}, names...)...)
}

// dbUse is one use that Cyrus makes of databases: which files, in the engine that which option names.
type dbUse struct {
	// file is the name under the configuration directory, suffix that of a user's files.
	file, suffix string
	option       string
	// path is the option that may name another file.
	path string
	// sorted marks what improved_mboxlist_sort puts in mailbox order.
	sorted bool
}

var uses = []dbUse{
	{file: "mailboxes.db", option: "mboxlist_db", path: "mboxlist_db_path", sorted: true},
	{file: "annotations.db", option: "annotation_db", path: "annotation_db_path"},
	{file: "quotas.db", option: "quota_db", path: "quota_db_path", sorted: true},
	{file: "deliver.db", option: "duplicate_db", path: "duplicate_db_path"},
	{file: "statuscache.db", option: "statuscache_db", path: "statuscache_db_path"},
	{file: "tls_sessions.db", option: "tls_sessions_db", path: "tls_sessions_db_path"},
	{file: "ptscache.db", option: "ptscache_db", path: "ptscache_db_path"},
	{file: "user_deny.db", option: "userdeny_db", path: "userdeny_db_path"},
	{file: "zoneinfo.db", option: "zoneinfo_db", path: "zoneinfo_db_path"},
	{file: "backups.db", option: "backup_db", path: "backup_db_path"},
	{suffix: ".seen", option: "seenstate_db"},
	{suffix: ".sub", option: "subscription_db", sorted: true},
	{suffix: ".mboxkey", option: "mboxkey_db"},
	{suffix: ".conversations", option: "conversations_db"},
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
			engine := strings.TrimSuffix(c.String(u.option), "-nosync")
			return Database{Engine: engine, Option: u.option, MailboxOrder: u.sorted && c.Bool("improved_mboxlist_sort")}
		}
	}
	return Database{}
}

// isFor compares names: an operator works on copies, which keep their names and lie elsewhere.
func (c *Config) isFor(u dbUse, path string) bool {
	if u.suffix != "" {
		return strings.HasSuffix(path, u.suffix)
	}
	if own := c.String(u.path); own != "" && filepath.Clean(own) == filepath.Clean(path) {
		return true
	}
	return filepath.Base(path) == u.file
}
