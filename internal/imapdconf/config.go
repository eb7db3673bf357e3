package imapdconf

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

// Config is a configuration as one service sees it. Its methods that take the name of an option panic if there is no
// such option or if it has another type: that is a mistake of the program, not of the configuration.
type Config struct {
	// Service is the name of the service, as in cyrus.conf, or that of a program such as "reconstruct"; "" for none.
	Service string
	// Problems are those that this service has with the settings, after those of the syntax.
	Problems []*Problem

	values map[string]*Setting // of the options in the table, by name
	text   map[string]string   // their values where they differ from the setting's
	others map[string]*Setting // what is not in the table, by key
}

// Config applies the settings to a service: "SERVICE_option" goes before "option", a deprecated name gives its value to
// the new one, and {configdirectory} at the start of a text is replaced. The Config is never nil; the error is the first
// problem that keeps Cyrus's programs from starting.
func (s *Source) Config(service string) (*Config, error) {
	c := &Config{Service: service, values: map[string]*Setting{}, text: map[string]string{}, others: map[string]*Setting{}}
	for _, p := range s.Problems {
		c.report(p)
	}
	c.apply(s.Settings)
	c.expand(s.Path)
	c.replaceDeprecated()
	c.checkPartitions(s.Path)
	if p := Refusal(c.Problems); p != nil {
		return c, p
	}
	return c, nil
}

func (c *Config) report(p *Problem) { c.Problems = addProblem(c.Problems, p) }

// option finds the option that a key means to the service, and whether it means this service alone.
func (c *Config) option(key string) (o *Option, mine bool) {
	if c.Service != "" {
		if rest, ok := strings.CutPrefix(key, strings.ToLower(c.Service)+"_"); ok {
			if o := byName()[rest]; o != nil {
				return o, true
			}
		}
	}
	return byName()[key], false
}

// apply goes through the settings in order. An option may be given once for all and once for the service.
func (c *Config) apply(settings []*Setting) {
	specific := map[string]bool{}
	for _, s := range settings {
		o, mine := c.option(s.Key)
		if o == nil {
			if first := c.others[s.Key]; first != nil {
				c.twice(s, first)
			} else {
				c.others[s.Key] = s
			}
			continue
		}
		first := c.values[o.Name]
		if first != nil && specific[o.Name] == mine {
			c.twice(s, first)
			continue
		}
		if first != nil && !mine {
			continue // the service's own was read before
		}
		c.values[o.Name], specific[o.Name] = s, mine
		o.check(s, c.report)
		if o.DeprecatedSince != "" {
			c.others[s.Key] = s
		}
	}
}

func (c *Config) twice(s, first *Setting) {
	c.report(refused(s.KeyPos, "option-twice", fmt.Sprintf("option %q again, first given at %v", s.Key, first.KeyPos),
		"each option once", "Cyrus stops; remove one of the two"))
}

// configDirectoryMark stands for the configuration directory at the start of a text.
const configDirectoryMark = "{configdirectory}"

// expand replaces the mark in the values and defaults of texts.
func (c *Config) expand(file string) {
	if c.values["configdirectory"] == nil {
		c.report(refused(Pos{File: file}, "no-configdirectory", "no option \"configdirectory\"", "one", "add configdirectory: PATH"))
		return
	}
	for i := range table {
		o := &table[i]
		value, ok := c.lookup(o)
		if !ok || o.Type != String || o.Name == "configdirectory" || len(value) < len(configDirectoryMark) {
			continue
		}
		if strings.EqualFold(value[:len(configDirectoryMark)], configDirectoryMark) {
			c.text[o.Name] = c.ConfigDirectory() + value[len(configDirectoryMark):]
		}
	}
}

// replaceDeprecated gives the values of deprecated names to the options that took their place. If several names stand for
// one option, the first in the table wins, not the first in the file.
func (c *Config) replaceDeprecated() {
	for i := range table {
		o := &table[i]
		s := c.values[o.Name]
		if s == nil || o.DeprecatedSince == "" {
			continue
		}
		found := fmt.Sprintf("option %q, deprecated since %s", s.Key, o.DeprecatedSince)
		if o.Instead == "" {
			c.report(warning(s.KeyPos, "deprecated-option", found, "nothing", "remove the line"))
			continue
		}
		if other := c.values[o.Instead]; other != nil {
			c.report(warning(s.KeyPos, "deprecated-option", found, fmt.Sprintf("option %q, which is given at %v", o.Instead, other.KeyPos),
				"Cyrus ignores this line; remove it"))
			continue
		}
		c.report(warning(s.KeyPos, "deprecated-option", found, fmt.Sprintf("option %q", o.Instead), "use the new name"))
		c.values[o.Instead] = s
		if text, ok := c.text[o.Name]; ok {
			c.text[o.Instead] = text
		}
	}
}

// lookup is the text of an option: as set, else its default.
func (c *Config) lookup(o *Option) (string, bool) {
	if text, ok := c.text[o.Name]; ok {
		return text, true
	}
	if s := c.values[o.Name]; s != nil {
		return s.Value, true
	}
	return o.Default, o.HasDefault
}

// get is the text of an option that must be in the table and have one of the types.
func (c *Config) get(name string, types ...Type) (*Option, string) {
	o := byName()[name]
	if o == nil {
		panic("imapdconf: no option " + name)
	}
	for _, t := range types {
		if o.Type == t {
			text, _ := c.lookup(o)
			return o, text
		}
	}
	panic("imapdconf: option " + name + " is " + o.Type.String())
}

// String returns a text or a word of a list; "" if there is neither a value nor a default.
func (c *Config) String(name string) string {
	_, text := c.get(name, String, StringList)
	return text
}

// Int returns a number, as Cyrus has it after it was cut to 32 bits.
func (c *Config) Int(name string) int {
	_, text := c.get(name, Int)
	v, _, _ := parseInt(text)
	return int(int32(v))
}

// Bool returns a switch.
func (c *Config) Bool(name string) bool {
	_, text := c.get(name, Switch)
	v, _ := parseSwitch(text)
	return v
}

// Enum returns the word of an Enum.
func (c *Config) Enum(name string) string {
	o, text := c.get(name, Enum)
	v, ok := parseEnum(o, text)
	if !ok {
		return o.Default
	}
	return v
}

// Bits returns the words of a Bitfield, each once, by its preferred spelling and in the order of the table.
func (c *Config) Bits(name string) []string {
	o, text := c.get(name, Bitfield)
	set := map[string]bool{}
	for _, w := range words(text) {
		if preferred := o.Same[w.text]; preferred != "" {
			w.text = preferred
		}
		set[w.text] = true
	}
	var list []string
	for _, v := range o.Values {
		if set[v] {
			list = append(list, v)
		}
	}
	return list
}

// Duration returns a duration; a number without a unit has the one of the option.
func (c *Config) Duration(name string) time.Duration {
	o, text := c.get(name, Duration)
	v, _, _ := parseDuration(text, o.Unit)
	return v
}

// IsSet tells whether an option was given, by its own name or by a deprecated one.
func (c *Config) IsSet(name string) bool {
	c.get(name, String, Int, Switch, Enum, StringList, Bitfield, Duration)
	return c.values[name] != nil
}

// Other returns the value of a key that is not in the table, such as "sasl_mech_list" or "partition-default". A setting
// of the service goes first.
func (c *Config) Other(key string) (string, bool) {
	s := c.other(key)
	if s == nil {
		return "", false
	}
	return s.Value, true
}

func (c *Config) other(key string) *Setting {
	key = strings.ToLower(key)
	if c.Service != "" {
		if s := c.others[strings.ToLower(c.Service)+"_"+key]; s != nil {
			return s
		}
	}
	return c.others[key]
}

// ConfigDirectory is where Cyrus keeps its databases and all else that is not mail.
func (c *Config) ConfigDirectory() string { return c.String("configdirectory") }

// files are the options that name a file or directory and may be left out, with its standard place below the
// configuration directory.
var files = map[string]string{
	"mboxlist_db_path": "mailboxes.db", "annotation_db_path": "annotations.db", "statuscache_db_path": "statuscache.db",
	"duplicate_db_path": "deliver.db", "tls_sessions_db_path": "tls_sessions.db", "userdeny_db_path": "user_deny.db",
	"ptscache_db_path": "ptscache.db", "zoneinfo_db_path": "zoneinfo.db", "backup_db_path": "backups.db",
	"newsrc_db_path": "fetchnews.db", "proc_path": "proc", "mboxname_lockpath": "lock",
}

// Path returns the place of a file or directory that an option names: mboxlist_db_path, quota_db_path and their like,
// with the place that Cyrus takes if the option is not given. It panics if there is no standard place.
func (c *Config) Path(name string) string {
	if given := c.String(name); given != "" {
		return given
	}
	if name == "quota_db_path" {
		if c.String("quota_db") == "quotalegacy" {
			return path.Join(c.ConfigDirectory(), "quota")
		}
		return path.Join(c.ConfigDirectory(), "quotas.db")
	}
	file, ok := files[name]
	if !ok {
		panic("imapdconf: no standard place for " + name)
	}
	return path.Join(c.ConfigDirectory(), file)
}

// Umask is what is taken away from the modes of new files (umask). Cyrus reads it as C does an octal number, and what is none
// as 0; such a one is read as the standard here, as mail is nobody else's to read.
func (c *Config) Umask() fs.FileMode {
	n, err := strconv.ParseUint(c.String("umask"), 8, 32)
	if err != nil {
		return 0o077
	}
	return fs.FileMode(n).Perm()
}

// Separator is the character between the levels of mailbox names that clients see.
func (c *Config) Separator() byte {
	if c.Bool("unixhierarchysep") {
		return '/'
	}
	return '.'
}
