package imapdconf

import (
	"fmt"
	"slices"
	"strings"
)

// programs are the names under which Cyrus's programs that are no services look for overrides of their own.
var programs = []string{
	"arbitron", "calalarmd", "chk_cyrus", "ctl_backups", "ctl_conversationsdb", "ctl_cyrusdb", "ctl_deliver", "ctl_mboxlist",
	"ctl_zoneinfo", "cvt_cyrusdb", "cvt_xlist_specialuse", "cyr_backup", "cyr_dbtool", "cyr_deny", "cyr_df", "cyr_expire",
	"cyr_info", "cyr_ls", "cyr_pwd", "cyr_synclog", "cyr_userseen", "cyr_virusscan", "dav_reconstruct", "deliver", "fetchnews",
	"idled", "ipurge", "master", "mbexamine", "mbpath", "mbtool", "notifyd", "promstatsd", "ptdump", "ptexpire", "ptloader", "quota",
	"reconstruct", "relocate_by_id", "restore", "smmapd", "squatter", "sync_client", "sync_reset", "tls_prune", "unexpunge",
}

// saslOptions are the options of the SASL library and its common plugins. There may be others, of plugins of a site.
var saslOptions = []string{
	"authdaemond_path", "auto_transition", "auxprop_plugin", "canon_user_plugin", "keytab", "ldapdb_canon_attr", "ldapdb_id",
	"ldapdb_mech", "ldapdb_pw", "ldapdb_rc", "ldapdb_starttls", "ldapdb_uri", "log_level", "maximum_layer", "mech_list",
	"minimum_layer", "ntlm_server", "ntlm_v2", "opiekeys", "otp_mda", "plugin_list", "pwcheck_method", "reauth_timeout",
	"sasldb_path", "saslauthd_path", "sql_database", "sql_engine", "sql_hostnames", "sql_insert", "sql_passwd", "sql_select",
	"sql_update", "sql_user", "sql_usessl", "sql_verbose", "srp_mda", "srvtab",
}

// remoteSuffixes end the keys that say how to log in on another server of a Murder.
var remoteSuffixes = []string{"_password", "_mechs", "_client_cert", "_client_key"}

// metaKinds are the kinds of metadata with a directory of their own, as in metadir-KIND-NAME.
var metaKinds = []string{"header", "index", "cache", "squat", "dav", "archivecache"}

// linter looks at the keys that are not in the table.
type linter struct {
	c        *Config
	services []string // those of cyrus.conf, nil if none are known
	channels []string // of sync_log_channels

	partitions []string
}

// lint reports unknown keys, and known ones that cannot work. Without services, nil, an option may be for any of them.
func (c *Config) lint(services []string) {
	l := linter{c: c, services: services}
	for _, p := range c.Partitions() {
		l.partitions = append(l.partitions, p.Name)
	}
	for _, w := range words(c.String("sync_log_channels")) {
		if w.text != `""` {
			l.channels = append(l.channels, w.text)
			l.channel(w)
		}
	}
	keys := make([]*Setting, 0, len(c.others))
	for _, s := range c.others {
		if o, _ := c.option(s.Key); o == nil { // a deprecated option is among both
			keys = append(keys, s)
		}
	}
	slices.SortFunc(keys, func(a, b *Setting) int { return strings.Compare(a.Key, b.Key) })
	for _, s := range keys {
		l.key(s)
	}
}

// channel looks at the name of a replication channel: its options are looked up as it is spelled, but all keys of the
// file are lower case by then.
func (l *linter) channel(w word) {
	if lower := strings.ToLower(w.text); lower != w.text {
		at := Pos{}
		if s := l.c.values["sync_log_channels"]; s != nil {
			at = s.within(w.at)
		}
		l.c.report(warning(at, "channel-case", "channel "+show(w.text), "lower case", "Cyrus does not find the options of the channel otherwise"))
	}
}

// key reports a key that nothing of Cyrus looks up.
func (l *linter) key(s *Setting) {
	key := s.Key
	if len(l.c.Problems) > maxProblems || key == "" {
		return
	}
	if len(key) > maxKey {
		l.c.report(warning(s.KeyPos, "option-unknown", fmt.Sprintf("an option of %d letters", len(key)), "an option of Cyrus 3.6", "Cyrus ignores it"))
		return
	}
	if l.known(s, key) {
		return
	}
	for _, prefix := range slices.Concat(l.services, programs) {
		rest, ok := strings.CutPrefix(key, strings.ToLower(prefix)+"_")
		if ok && (byName()[rest] != nil || l.known(s, rest)) {
			return
		}
	}
	for _, channel := range l.channels {
		rest, ok := strings.CutPrefix(key, strings.ToLower(channel)+"_")
		if ok && strings.HasPrefix(rest, "sync_") && byName()[rest] != nil {
			l.channelOption(s, byName()[rest])
			return
		}
	}
	fix := l.misspeltService(key)
	if fix != "" && l.services == nil {
		return // there may be such a service
	}
	if fix == "" {
		if near := nearestOption(key); near != "" {
			fix = "did you mean " + near + "?"
		} else if l.remote(key) {
			return
		} else {
			fix = "Cyrus ignores it; remove the line, or a program other than Cyrus may want it"
		}
	}
	l.c.report(warning(s.KeyPos, "option-unknown", "option "+show(key), "an option of Cyrus 3.6", fix))
}

// misspeltService explains a key that is an option with a prefix that no service has.
func (l *linter) misspeltService(key string) string {
	for at := range len(key) {
		if key[at] != '_' || byName()[key[at+1:]] == nil {
			continue
		}
		prefix := key[:at]
		if slices.Contains(remoteSuffixes, key[at:]) {
			return ""
		}
		if near := nearest(prefix, slices.Concat(l.services, l.channels, programs)); near != "" {
			return fmt.Sprintf("there is no service %q; did you mean %s_%s?", prefix, near, key[at+1:])
		}
		return fmt.Sprintf("there is no service %q that option %q could be for", prefix, key[at+1:])
	}
	return ""
}

// remote tells of a key of another server, HOST_password and the like.
func (l *linter) remote(key string) bool {
	return slices.ContainsFunc(remoteSuffixes, func(suffix string) bool {
		return len(key) > len(suffix) && strings.HasSuffix(key, suffix)
	})
}

// channelOption looks at an override of a replication channel. It is not parsed as the option itself is.
func (l *linter) channelOption(s *Setting, o *Option) {
	if o.Type == Switch && s.Value != "0" && s.Value != "1" {
		l.c.report(harmful(s.ValuePos, "channel-switch", show(s.Value)+" for option "+show(s.Key), "1 or 0",
			"for a channel Cyrus reads a number here and takes words for 0"))
		return
	}
	if o.Type == Duration {
		o.check(s, func(p *Problem) {
			p.Refused = false // it is looked at only when it is used, and then ignored
			l.c.report(p)
		})
	}
}

// known tells of the keys outside the table. What is wrong with one of them is reported with its setting.
func (l *linter) known(s *Setting, key string) bool {
	switch {
	case key == "autocreate_acl", strings.HasPrefix(key, "xlist-"), strings.HasPrefix(key, backupPartitionKey):
		return true
	case strings.HasPrefix(key, "sasl_"):
		l.sasl(s, key[len("sasl_"):])
		return true
	case strings.HasPrefix(key, partitionKey):
		if len(key) > maxPartitionKey {
			l.c.report(harmful(s.KeyPos, "partition-name-long", fmt.Sprintf("a name of %d bytes", len(key)), fmt.Sprintf("at most %d", maxPartitionKey),
				"Cyrus does not find the partition"))
		}
		return true
	case strings.HasPrefix(key, metaPartitionKey):
		l.needsPartition(s, key[len(metaPartitionKey):])
		return true
	case strings.HasPrefix(key, archivePartitionKey):
		l.needsPartition(s, key[len(archivePartitionKey):])
		return true
	case strings.HasPrefix(key, metaDirKey):
		return l.metaDir(s, key[len(metaDirKey):])
	}
	if tier, name, ok := strings.Cut(key, searchPartitionKey); ok {
		if tier == "" {
			l.c.report(warning(s.KeyPos, "search-tier", "option "+show(key), "TIERsearchpartition-NAME", "put the name of a tier in front, such as t1"))
		}
		l.needsPartition(s, name)
		return true
	}
	return false
}

func (l *linter) metaDir(s *Setting, rest string) bool {
	kind, name, ok := strings.Cut(rest, "-")
	if !ok || !slices.Contains(metaKinds, kind) {
		return false
	}
	l.needsPartition(s, name)
	return true
}

// needsPartition reports a root beside those of a partition that does not exist.
func (l *linter) needsPartition(s *Setting, name string) {
	if l.c.other(partitionKey+name) != nil {
		return
	}
	fix := "add partition-" + name + ": PATH"
	if near := nearest(name, l.partitions); near != "" {
		fix = "did you mean " + near + "?"
	}
	l.c.report(warning(s.KeyPos, "partition-unknown", "option "+show(s.Key), "option \"partition-"+name+"\" as well", fix))
}

// sasl reports a SASL option that looks like a misspelt one. Plugins may have options of any name.
func (l *linter) sasl(s *Setting, name string) {
	if slices.Contains(saslOptions, name) {
		return
	}
	if near := nearest(name, saslOptions); near != "" {
		l.c.report(warning(s.KeyPos, "option-unknown", "option "+show(s.Key), "an option of SASL", "did you mean sasl_"+near+"?"))
	}
}
