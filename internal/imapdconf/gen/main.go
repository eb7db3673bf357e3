// Command gen writes the option table of package imapdconf. It reads the manual page imapd.conf(5) of the installed Cyrus
// and the table that Cyrus's own library holds, compares the two, and stops if they disagree in anything but what is
// listed below. From the manual page come the units of durations, from the library the types and what replaces deprecated
// options; names, defaults and allowed values must be the same in both.
//
// With Cyrus and its headers installed, in this directory:
//
//	gcc testdata/options.c -o /tmp/options -lcyrus_min
//	(zcat /usr/share/man/man5/imapd.conf.5.gz; /tmp/options) | go run . > ../table.go
//
// A test runs it and compares the result with the table that is checked in.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"go/format"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	text, err := generate(os.Stdin)
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// patterns are described in the manual page like options, but stand for any number of them, or for those of a library.
var patterns = []string{
	"@include", "archivepartition-name", "autocreate_acl", "backuppartition-name", "hostname_mechs", "hostname_password",
	"metapartition-name", "partition-name", "sasl_auto_transition", "sasl_option", "sasl_pwcheck_method",
	"searchpartition-name", "xlist-flag",
}

// undocumented are options that the manual page leaves out.
var undocumented = []string{"maxargssize", "maxliteral", "postspec"}

// option is one row. A missing field is "-".
type option struct {
	name, kind, since, instead, standard string
	values                               []string // name=number
}

// page is what the manual page says of an option.
type page struct {
	standard string
	values   []string
	unit     string
}

func generate(r io.Reader) ([]byte, error) {
	pages, options, err := read(r)
	if err != nil {
		return nil, err
	}
	if len(options) == 0 || len(pages) == 0 {
		return nil, errors.New("expected the manual page and the library's table on standard input")
	}
	var wrong []error
	known := map[string]bool{}
	for i, o := range options {
		known[o.name] = true
		p, ok := pages[o.name]
		switch {
		case !ok && !slices.Contains(undocumented, o.name):
			wrong = append(wrong, fmt.Errorf("option %s is not in the manual page", o.name))
		case ok:
			wrong = append(wrong, compare(o, p))
		}
		if o.kind == "Duration" && p.unit == "" && o.instead != "-" {
			p.unit = pages[o.instead].unit
		}
		if p.unit != "" {
			options[i].kind += " " + p.unit
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		if !known[name] && !slices.Contains(patterns, name) {
			wrong = append(wrong, fmt.Errorf("option %s is only in the manual page", name))
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return write(options)
}

var (
	heading = regexp.MustCompile(`^\\fB(@?[a-z0-9_-]+):\\fP(?: (.*))?$`)
	unit    = regexp.MustCompile(`(?i)if no unit is specified, (days|hours|minutes|seconds)`)
	font    = regexp.MustCompile(`\\f[A-Z]|\\%`)
)

// read splits the input into the paragraphs of the manual page, by option, and the rows of the table.
func read(r io.Reader) (map[string]page, []option, error) {
	pages, name, text := map[string]page{}, "", ""
	var options []option
	finish := func() {
		p := pages[name]
		if m := unit.FindStringSubmatch(text); m != nil {
			p.unit = strings.ToLower(m[1][:1])
		}
		pages[name] = p
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if row, ok := strings.CutPrefix(line, "@\t"); ok {
			f := strings.Split(row, "\t")
			if len(f) < 5 {
				return nil, nil, fmt.Errorf("row %q: %d fields", row, len(f))
			}
			options = append(options, option{name: f[0], kind: f[1], since: f[2], instead: f[3], standard: f[4], values: f[5:]})
			continue
		}
		line = strings.ReplaceAll(line, `\-`, "-")
		if m := heading.FindStringSubmatch(line); m != nil {
			finish()
			name, text = m[1], ""
			pages[name] = page{standard: plain(m[2])}
			continue
		}
		if list, ok := strings.CutPrefix(line, "Allowed values: "); ok && name != "" {
			p := pages[name]
			p.values = strings.FieldsFunc(plain(list), func(r rune) bool { return strings.ContainsRune(", =", r) }) // a=b are synonyms
			pages[name] = p
		}
		text += line + " "
	}
	finish()
	delete(pages, "")
	return pages, options, lines.Err()
}

// plain removes what dresses a text in the manual page.
func plain(s string) string {
	return strings.NewReplacer(`\e`, `\`, `\(aq`, "'", `\(dq`, `"`, "‘", "'", "’", "'", "“", `"`, "”", `"`, `\&`, "").Replace(font.ReplaceAllString(s, ""))
}

// compare holds a row against the manual page.
func compare(o option, p page) error {
	var values []string
	for _, v := range o.values {
		name, _, _ := strings.Cut(v, "=")
		values = append(values, name)
	}
	if !slices.Equal(values, p.values) && (o.since == "-" || p.values != nil) {
		return fmt.Errorf("option %s: the manual page allows %q, the library %q", o.name, p.values, values)
	}
	standard := strings.TrimPrefix(o.standard, "=")
	if o.kind == "Switch" {
		standard = map[string]string{"yes": "1", "no": "0"}[standard]
	}
	if p.standard != standard && !(strings.HasPrefix(p.standard, "<") && (standard == "" || standard == "-")) {
		return fmt.Errorf("option %s: the manual page says %q, the library %q", o.name, p.standard, standard)
	}
	return nil
}

func write(options []option) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("// Code generated by gen from the manual page and the library of Cyrus IMAP 3.6.1. DO NOT EDIT.\n\npackage imapdconf\n\n")
	b.WriteString("// table holds all options in the order of Cyrus, which decides between deprecated names of one option.\nvar table = []Option{\n")
	for _, o := range options {
		kind, unit, _ := strings.Cut(o.kind, " ")
		fmt.Fprintf(&b, "{Name: %q, Type: %s", o.name, kind)
		if standard, ok := strings.CutPrefix(o.standard, "="); ok {
			fmt.Fprintf(&b, ", Default: %q, HasDefault: true", standard)
		}
		if unit != "" {
			fmt.Fprintf(&b, ", Unit: '%s'", unit)
		}
		writeValues(&b, o.values)
		if o.since != "-" {
			fmt.Fprintf(&b, ", DeprecatedSince: %q", o.since)
		}
		if o.instead != "-" {
			fmt.Fprintf(&b, ", Instead: %q", o.instead)
		}
		b.WriteString("},\n")
	}
	b.WriteString("}\n")
	return format.Source(b.Bytes())
}

// writeValues writes the allowed values, and those of them that mean the same as an earlier one.
func writeValues(b *bytes.Buffer, values []string) {
	if len(values) == 0 {
		return
	}
	first, same := map[string]string{}, ""
	b.WriteString(", Values: []string{")
	for _, v := range values {
		name, number, _ := strings.Cut(v, "=")
		fmt.Fprintf(b, "%q, ", name)
		if earlier, ok := first[number]; ok && number != "0" {
			same += fmt.Sprintf("%q: %q, ", name, earlier)
		} else {
			first[number] = name
		}
	}
	b.WriteString("}")
	if same != "" {
		fmt.Fprintf(b, ", Same: map[string]string{%s}", same)
	}
}
