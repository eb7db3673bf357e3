package imapdconf

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mailspine/mailspine/internal/vfs"
)

// sections are those of cyrus.conf, in the order in which the master reads them.
var sections = []string{"START", "SERVICES", "EVENTS", "DAEMON"}

const (
	// cyrusLine is the longest line of cyrus.conf: Cyrus takes what follows for another line.
	cyrusLine = 4095
	// maxArgs is how many arguments an entry may have.
	maxArgs = 64
)

// Arg is a NAME="value" of an entry of cyrus.conf.
type Arg struct {
	Name, Value string
	// Pos and ValuePos are where name and value begin, a quote not counted.
	Pos, ValuePos Pos
}

// Entry is a line of a section of cyrus.conf.
type Entry struct {
	Section, Name string
	Pos           Pos
	Args          []Arg
}

// Get returns the value of an argument, "" if there is none. If it is given more than once the first counts.
func (e *Entry) Get(name string) string {
	if a := e.arg(name); a != nil {
		return a.Value
	}
	return ""
}

func (e *Entry) arg(name string) *Arg {
	for i := range e.Args {
		if e.Args[i].Name == name {
			return &e.Args[i]
		}
	}
	return nil
}

// Cyrus is a cyrus.conf as the master process reads it: once for each section, of which it finds the first at the
// outermost level.
type Cyrus struct {
	// Path is the file, and Entries what stands in its sections, in the order in which the master acts on it.
	Path    string
	Entries []*Entry
	// Problems are those of the syntax.
	Problems []*Problem

	lines []cyrusChunk
	// start holds the index in lines at which each section was found.
	start map[string]int
}

// cyrusChunk is a line, or 4095 bytes of a longer one, without its comment.
type cyrusChunk struct {
	text         string
	line, column int
	// cut is set if a comment was removed.
	cut bool
}

// ReadCyrus reads a cyrus.conf. All that is wrong with its syntax becomes a Problem of the result, which holds what could
// be read.
func ReadCyrus(fsys vfs.FS, path string) *Cyrus {
	c := &Cyrus{Path: path, start: map[string]int{}}
	text, err := readFile(fsys, path)
	if err != nil {
		c.report(refused(Pos{File: path}, "file-unreadable", err.Error(), "a readable cyrus.conf", ""))
		return c
	}
	c.split(text)
	for _, section := range sections {
		c.section(section)
	}
	c.structure()
	return c
}

// ServiceNames are the names of all services and daemons, which may have options of their own in imapd.conf.
func (c *Cyrus) ServiceNames() (list []string) {
	for _, e := range c.Entries {
		if (e.Section == "SERVICES" || e.Section == "DAEMON") && e.Name != "" {
			list = append(list, e.Name)
		}
	}
	return list
}

func (c *Cyrus) report(p *Problem) { c.Problems = addProblem(c.Problems, p) }

func (c *Cyrus) pos(chunk *cyrusChunk, offset int) Pos {
	return Pos{File: c.Path, Line: chunk.line, Column: chunk.column + offset}
}

// split makes lines of a text and removes comments. A # begins one wherever it stands.
func (c *Cyrus) split(text string) {
	number := 0
	for line := range strings.Lines(text) {
		number++
		column := 1
		if len(line) > cyrusLine {
			c.report(harmful(Pos{c.Path, number, cyrusLine + 1}, "line-too-long", fmt.Sprintf("a line of %d bytes", len(line)),
				fmt.Sprintf("at most %d", cyrusLine), "Cyrus takes the rest for another line"))
		}
		for line != "" {
			part := line[:min(len(line), cyrusLine)]
			line = line[len(part):]
			chunk := cyrusChunk{text: strings.TrimSuffix(part, "\n"), line: number, column: column}
			column += len(part)
			if at := strings.IndexByte(chunk.text, 0); at >= 0 {
				c.report(harmful(c.pos(&chunk, at), "nul-byte", "a byte of value 0", "text", "Cyrus ignores the rest of the line; remove the byte"))
				chunk.text = chunk.text[:at]
			}
			chunk.text, _, chunk.cut = strings.Cut(chunk.text, "#")
			c.lines = append(c.lines, chunk)
		}
	}
}

// isSection tells whether a line begins with the name of a section: its first letter must be upper case.
func isSection(text, section string) bool {
	text = strings.TrimLeft(text, spaces)
	return len(text) >= len(section) && text[0] == section[0] && strings.EqualFold(text[:len(section)], section) &&
		(len(text) == len(section) || !isAlnum(text[len(section)]))
}

// braces is how much deeper a text leads. Quotes do not matter.
func braces(text string) int { return strings.Count(text, "{") - strings.Count(text, "}") }

// section finds a section as the master does, and reads its entries.
func (c *Cyrus) section(section string) {
	level := 0
	for i := 0; i < len(c.lines); i++ {
		text := c.lines[i].text
		if level == 0 && isSection(text, section) {
			if level += braces(text); level == 1 {
				c.start[section] = i
				for i++; i < len(c.lines) && !c.entry(section, &c.lines[i]); i++ {
				}
			}
			continue
		}
		level += braces(text)
	}
}

// entry reads one line of a section and tells whether it ends the section.
func (c *Cyrus) entry(section string, chunk *cyrusChunk) (last bool) {
	text := chunk.text
	start := len(text) - len(strings.TrimLeft(text, spaces))
	if start == len(text) {
		return false
	}
	if text[start] == '}' {
		return true
	}
	end := start
	for end < len(text) && isAlnum(text[end]) {
		end++
	}
	if end > start && end < len(text) && strings.IndexByte(spaces, text[end]) < 0 {
		c.badCharacter(chunk, end, "a space after the name of the entry", section)
		return false
	}
	e := &Entry{Section: section, Name: text[start:end], Pos: c.pos(chunk, start)}
	// If there is no name at all, Cyrus steps over one character and goes on with the arguments.
	if end == start {
		c.report(harmful(e.Pos, "no-name", show(text[start:start+1]), "the name of an entry", ""))
	}
	if c.args(e, chunk, min(end+1, len(text))) {
		c.Entries = append(c.Entries, e)
		return false
	}
	// The master stops at a bad entry. Others are still worth reading, unless the section was not closed.
	return slices.ContainsFunc(sections, func(s string) bool { return isSection(text, s) })
}

// args reads the arguments of an entry, which begin at the given offset.
func (c *Cyrus) args(e *Entry, chunk *cyrusChunk, at int) bool {
	text := chunk.text
	for {
		at += len(text[at:]) - len(strings.TrimLeft(text[at:], spaces))
		if at == len(text) {
			return true
		}
		start := at
		for at < len(text) && isAlnum(text[at]) {
			at++
		}
		if at == len(text) || text[at] != '=' {
			expected := "= after " + show(text[start:at])
			if at == start {
				expected = "an argument NAME=\"value\", or the end of the line"
			}
			c.badCharacter(chunk, at, expected, e.Section)
			return false
		}
		a := Arg{Name: text[start:at], Pos: c.pos(chunk, start)}
		at++
		if at < len(text) && text[at] == '"' {
			at++
			a.ValuePos = c.pos(chunk, at)
			end := strings.IndexByte(text[at:], '"')
			if end < 0 {
				c.noQuote(chunk, at-1)
				return false
			}
			a.Value = text[at : at+end]
			at += end + 1
		} else {
			a.ValuePos = c.pos(chunk, at)
			end := strings.IndexAny(text[at:], spaces)
			if end < 0 {
				end = len(text) - at
			}
			a.Value = text[at : at+end]
			at += end
			if trimmed := strings.TrimRight(a.Value, ",;"); trimmed != a.Value {
				c.report(warning(c.pos(chunk, at-1), "misplaced-comma", show(a.Value[len(a.Value)-1:])+" at the end of value "+show(a.Value),
					"a space or the end of the line", "it is taken for a part of the value; remove it"))
			}
		}
		if len(e.Args) == maxArgs {
			c.report(refused(a.Pos, "too-many-arguments", "argument "+show(a.Name), fmt.Sprintf("at most %d arguments", maxArgs), ""))
			return false
		}
		e.Args = append(e.Args, a)
	}
}

// badCharacter reports what stops the master in an entry, with a guess at what went wrong.
func (c *Cyrus) badCharacter(chunk *cyrusChunk, at int, expected, section string) {
	code, found, fix := "bad-entry", "the end of the line", ""
	if at < len(chunk.text) {
		found = show(chunk.text[at : at+1])
		switch chunk.text[at] {
		case ',', ';':
			code, fix = "misplaced-comma", "remove it: arguments are separated by spaces"
		case '}':
			code, fix = "misplaced-brace", "put it on a line of its own"
		case '{':
			code, fix = "misplaced-brace", "a section's opening brace stands on the line of its name, and each entry on a line of its own"
			for _, other := range sections {
				if isSection(chunk.text, other) {
					expected = "} before section " + other
					fix = "end section " + section + " with } on a line of its own"
				}
			}
		case '"':
			fix = "look for a missing or a superfluous quote before it"
		case '-', '_', '.':
			if strings.HasPrefix(expected, "a space after the name") {
				fix = "a name has only letters and digits"
			}
		}
	} else if chunk.cut {
		fix = "the # begins a comment"
	}
	c.report(refused(c.pos(chunk, at), code, found, expected, fix))
}

// noQuote reports a value whose quote is not closed.
func (c *Cyrus) noQuote(chunk *cyrusChunk, at int) {
	fix := ""
	if chunk.cut {
		fix = "a # begins a comment, even between quotes"
	}
	c.report(refused(c.pos(chunk, at), "missing-quote", "a quote that is not closed", "another quote on the same line", fix))
}
