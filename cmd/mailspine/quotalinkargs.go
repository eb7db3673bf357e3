package main

import (
	"fmt"
	"strings"
)

// linkArgs is the command line of Cyrus's quota.
type linkArgs struct {
	config, domain                 string
	fix, quiet, json, dry, userIDs bool
	specs                          []string
}

// linkUsage is the usage as Cyrus's quota prints it.
const linkUsage = "usage: quota [-C <alt_config>] [-d <domain>] [-f] [-q] [-J] [-n] [-u] [mailbox-spec]..."

// linkLong are the long names of the options, of Cyrus 3.8 and later.
var linkLong = []struct {
	name   string
	letter byte
}{{"domain", 'd'}, {"fix", 'f'}, {"json", 'J'}, {"quiet", 'q'}, {"report-only", 'n'}, {"userids", 'u'}}

// parseLinkArgs reads the arguments as getopt_long does: options may stand behind specs, letters together, a value in the
// same word, long names may be cut short, and "--" ends the options.
func parseLinkArgs(args []string) (a linkArgs, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			a.specs = append(a.specs, args...)
			return a, nil
		case strings.HasPrefix(arg, "--"):
			args, err = a.long(arg[2:], args)
		case strings.HasPrefix(arg, "-") && arg != "-":
			args, err = a.letters(arg[1:], args)
		default:
			a.specs = append(a.specs, arg)
		}
		if err != nil {
			return a, err
		}
	}
	return a, nil
}

// letters reads the options of one word. rest are the words behind it, and what is left of them is returned.
func (a *linkArgs) letters(word string, rest []string) ([]string, error) {
	for i := range len(word) {
		letter := word[i]
		value := a.value(letter)
		switch {
		case value == nil && !a.set(letter):
			return rest, fmt.Errorf("invalid option -- '%c'", letter)
		case value == nil:
			continue
		case i+1 < len(word):
			*value = word[i+1:]
			return rest, nil
		case len(rest) == 0:
			return rest, fmt.Errorf("option requires an argument -- '%c'", letter)
		}
		*value = rest[0]
		return rest[1:], nil
	}
	return rest, nil
}

// long reads an option by its long name.
func (a *linkArgs) long(word string, rest []string) ([]string, error) {
	name, inWord, hasValue := strings.Cut(word, "=")
	var letter byte
	full := ""
	for _, o := range linkLong {
		if !strings.HasPrefix(o.name, name) {
			continue
		}
		if full != "" {
			return rest, fmt.Errorf("option '--%s' is ambiguous", name)
		}
		full, letter = o.name, o.letter
	}
	value := a.value(letter)
	switch {
	case full == "":
		return rest, fmt.Errorf("unrecognized option '--%s'", word)
	case value == nil && hasValue:
		return rest, fmt.Errorf("option '--%s' doesn't allow an argument", full)
	case value == nil:
		a.set(letter)
		return rest, nil
	case hasValue:
		*value = inWord
		return rest, nil
	case len(rest) == 0:
		return rest, fmt.Errorf("option '--%s' requires an argument", full)
	}
	*value = rest[0]
	return rest[1:], nil
}

// value is where the value of an option goes, nil if it has none.
func (a *linkArgs) value(letter byte) *string {
	switch letter {
	case 'C':
		return &a.config
	case 'd':
		return &a.domain
	}
	return nil
}

// set notes an option without a value, if there is one of this letter.
func (a *linkArgs) set(letter byte) bool {
	switch letter {
	case 'f':
		a.fix = true
	case 'q':
		a.quiet = true
	case 'J':
		a.json = true
	case 'n':
		a.dry = true
	case 'u':
		a.userIDs = true
	case 'Z': // a hook of Cyrus's own tests, which wait for it to be at a certain mailbox
	default:
		return false
	}
	return true
}
