package imapdconf

import (
	"fmt"
	"strings"

	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/vfs"
)

const (
	// maxTotalBytes bounds all files of a configuration together, and maxProblems what is reported of them.
	maxTotalBytes = 4 * MaxFileBytes
	maxProblems   = 1000
	// maxKey is the longest key that Cyrus can look up.
	maxKey = 255
)

// Setting is one "option: value" of a file. Nothing is known of the option yet.
type Setting struct {
	// Key is in lower case, as Cyrus compares it.
	Key, Value string
	// KeyPos and ValuePos are where they begin.
	KeyPos, ValuePos Pos

	line    *logical
	valueAt int // where the value begins in the line
}

// within is the place of a byte of the value.
func (s *Setting) within(offset int) Pos { return s.line.pos(s.valueAt + offset) }

// Source is an imapd.conf with all that it includes, read but not yet applied to a service.
type Source struct {
	// Path is the file that was read first.
	Path string
	// Settings are in the order in which Cyrus reads them.
	Settings []*Setting
	// Problems are those of the syntax. If one is Refused, none of Cyrus's programs starts.
	Problems []*Problem

	fsys  vfs.FS
	read  map[string]Pos // each file, as it was spelled, and who included it
	total int
}

// Read reads an imapd.conf and the files that it includes. All that is wrong becomes a Problem of the Source, which holds
// what could be read.
func Read(fsys vfs.FS, path string) *Source {
	s := &Source{Path: path, fsys: fsys, read: map[string]Pos{}}
	s.include(path, Pos{File: path}, 0)
	return s
}

func (s *Source) report(p *Problem) { s.Problems = addProblem(s.Problems, p) }

// addProblem appends a problem, up to the limit. One that stops Cyrus is never left out for others.
func addProblem(list []*Problem, p *Problem) []*Problem {
	switch {
	case len(list) < maxProblems:
		return append(list, p)
	case len(list) == maxProblems:
		return append(list, warning(p.Pos, "too-many", "more problems", fmt.Sprintf("at most %d", maxProblems), "mend these and look again"))
	case p.Refused && !list[len(list)-1].Refused:
		list[len(list)-1] = p
	}
	return list
}

// FileUnreadable is the code of the problem that a file of the configuration cannot be read.
const FileUnreadable = "file-unreadable"

// include reads one file. Cyrus opens it before it looks whether it was read already, and compares the names as they are
// spelled.
func (s *Source) include(path string, from Pos, depth int) {
	text, err := readFile(s.fsys, path)
	if err != nil {
		s.report(refused(from, FileUnreadable, err.Error(), "a readable configuration file", ""))
		return
	}
	if first, twice := s.read[path]; twice {
		what := "read first as the main file"
		if first.Line > 0 {
			what = "included first at " + first.String()
		}
		s.report(refused(from, "include-twice", "file "+show(path)+" again, "+what, "each file once", "remove one of the two"))
		return
	}
	s.read[path] = from
	if s.total += len(text); s.total > maxTotalBytes || len(s.read) > MaxFiles || depth > MaxFiles {
		s.report(harmful(from, "too-large", "a configuration of more files or bytes", fmt.Sprintf("at most %d files and %d bytes", MaxFiles, maxTotalBytes), ""))
		return
	}
	if strings.HasPrefix(text, "\ufeff") {
		s.report(refused(Pos{path, 1, 1}, "byte-order-mark", "a byte order mark", "an option", "save the file without one"))
	}
	for _, line := range logicalLines(path, text, s.report) {
		if included, at := s.statement(&line); included != "" {
			s.include(included, at, depth+1)
		}
	}
}

// statement reads one line and returns the path of a file to include, if it is one.
func (s *Source) statement(l *logical) (include string, at Pos) {
	text := l.text
	start := len(text) - len(strings.TrimLeft(text, spaces))
	if start == len(text) || text[start] == '#' {
		return "", Pos{}
	}
	end := start
	if text[end] == '@' {
		end++
	}
	for end < len(text) && (isAlnum(text[end]) || text[end] == '-' || text[end] == '_') {
		end++
	}
	if end == len(text) || text[end] != ':' {
		s.badName(l, start, end)
		return "", Pos{}
	}
	key := strings.ToLower(text[start:end])
	valueAt := end + 1
	for valueAt < len(text) && strings.IndexByte(spaces, text[valueAt]) >= 0 {
		valueAt++
	}
	value := strings.TrimRight(text[valueAt:], spaces)
	switch {
	case value == "":
		s.report(refused(l.pos(end), "empty-value", "option "+show(key)+" without a value", "a value after the colon", "give it a value or remove the line"))
	case key == "@include":
		if !strings.HasPrefix(value, "/") {
			s.report(warning(l.pos(valueAt), "include-relative", "path "+show(value), "an absolute path",
				"a relative one depends on where a program was started"))
		}
		return value, l.pos(valueAt)
	case key[:min(1, len(key))] == "@":
		s.report(refused(l.pos(start), "unknown-directive", "directive "+show(key), `"@include"`, ""))
	default:
		if key == "" {
			s.report(refused(l.pos(start), "empty-name", "a value without a name", "the name of an option before the colon",
				"Cyrus's programs abort at this line"))
		}
		s.Settings = append(s.Settings, &Setting{
			Key: key, Value: value, KeyPos: l.pos(start), ValuePos: l.pos(valueAt), line: l, valueAt: valueAt,
		})
	}
	return "", Pos{}
}

// badName reports a line whose option is not followed by a colon.
func (s *Source) badName(l *logical, start, end int) {
	found, fix := "the end of the line", "Cyrus stops at this line; write \"option: value\""
	if end < len(l.text) {
		found = show(l.text[end : end+1])
		if rest := strings.TrimLeft(l.text[end:], spaces); strings.HasPrefix(rest, ":") {
			fix = "remove the space before the colon"
		}
	}
	expected := "a colon after the name of the option"
	if end == start {
		expected = "the name of an option"
	}
	s.report(refused(l.pos(end), "bad-line", found, expected, fix))
}

// Refusal is the first problem that stops Cyrus, nil if there is none.
func Refusal(problems []*Problem) *Problem {
	for _, p := range problems {
		if p.Refused {
			return p
		}
	}
	return nil
}

// Findings converts problems into the form that all checkers share.
func Findings(problems []*Problem) []finding.Finding {
	list := make([]finding.Finding, len(problems))
	for i, p := range problems {
		list[i] = p.Finding()
	}
	return list
}
