package imapdconf

import (
	"slices"
	"strings"
)

// structure reports what the master passes over in silence: sections that it does not find, and text beside braces. It
// walks through the file as a reader would, and compares with what the master found.
func (c *Cyrus) structure() {
	w := shapeWalk{c: c, seen: map[string]Pos{}}
	for i := range c.lines {
		chunk := &c.lines[i]
		text := strings.TrimLeft(chunk.text, spaces)
		if text == "" {
			continue
		}
		at := len(chunk.text) - len(text)
		switch {
		case w.inside && text[0] == '}':
			w.inside = false
			w.nothingAfter(chunk, at+1, "}")
		case w.inside:
			w.body(chunk)
		default:
			w.outside(i, chunk, at)
		}
	}
	if w.inside && len(c.lines) > 0 {
		end := &c.lines[len(c.lines)-1]
		c.report(warning(c.pos(end, len(end.text)), "section-not-closed", "the end of the file", "} to end section "+w.name, ""))
	}
}

// shapeWalk is where structure is.
type shapeWalk struct {
	c *Cyrus
	// inside is set between the braces of a section, of the given name; known is set for those of the master.
	inside, known bool
	name          string
	// wanting is set after a name that its brace does not follow on the line.
	wanting bool
	seen    map[string]Pos
}

// body looks at a line in a section. The other sections are found by counting braces, also those in values.
func (w *shapeWalk) body(chunk *cyrusChunk) {
	if !w.known || braces(chunk.text) == 0 || len(w.c.Problems) > maxProblems || slices.ContainsFunc(w.c.Problems, func(p *Problem) bool { return p.Refused && p.Line == chunk.line }) {
		return
	}
	brace := strings.IndexAny(chunk.text, "{}")
	w.c.report(warning(w.c.pos(chunk, brace), "brace-in-entry", "a brace in an entry", "braces around sections only",
		"the sections after this line may not be found"))
}

// outside looks at a line between sections.
func (w *shapeWalk) outside(i int, chunk *cyrusChunk, at int) {
	text := chunk.text[at:]
	if text[0] == '{' {
		if !w.wanting {
			w.c.report(harmful(w.c.pos(chunk, at), "misplaced-brace", `"{"`, "the name of a section before it", ""))
		}
		w.inside, w.known, w.wanting = braces(text) > 0, false, false
		return
	}
	if text[0] == '}' {
		w.c.report(harmful(w.c.pos(chunk, at), "misplaced-brace", `"}"`, "a section", "no section is open here, and none after this is found; remove it"))
		return
	}
	end := 0
	for end < len(text) && isAlnum(text[end]) {
		end++
	}
	w.header(i, chunk, at, text[:end])
}

// header looks at a line that should begin a section.
func (w *shapeWalk) header(i int, chunk *cyrusChunk, at int, word string) {
	c := w.c
	text := chunk.text[at:]
	w.name, w.known, w.wanting = word, false, false
	section := ""
	for _, s := range sections {
		if isSection(text, s) {
			section = s
		}
	}
	brace := strings.IndexByte(text, '{')
	w.inside = brace >= 0 && braces(text) > 0
	if section == "" {
		fix := "Cyrus ignores it"
		if near := nearest(strings.ToUpper(word), sections); near != "" {
			fix = "did you mean " + near + "?"
		}
		if w.inside || brace < 0 {
			c.report(harmful(c.pos(chunk, at), "section-unknown", show(strings.TrimSpace(text)), "one of the sections "+strings.Join(sections, ", "), fix))
		}
		w.wanting = brace < 0
		return
	}
	if first, twice := w.seen[section]; twice {
		c.report(harmful(c.pos(chunk, at), "section-twice", "section "+section+" again, first at "+first.String(), "each section once",
			"Cyrus reads only the first; put all entries there"))
		return
	}
	w.seen[section] = c.pos(chunk, at)
	if brace < 0 {
		w.wanting = true
		c.report(harmful(c.pos(chunk, len(chunk.text)), "misplaced-brace", "the end of the line", "{ on the line of section "+section,
			"Cyrus ignores the whole section otherwise"))
		return
	}
	if start, found := c.start[section]; !found || start != i {
		if braces(text) != 0 {
			c.report(harmful(c.pos(chunk, at), "section-ignored", "section "+section, "an equal number of { and } before it",
				"Cyrus counts braces, also in values, and ignores this section; look for a brace above"))
		} else if strings.TrimSpace(strings.Trim(text[brace:], "{} \t\r")) != "" {
			c.report(harmful(c.pos(chunk, at+brace), "misplaced-brace", "a section on one line", "each entry on a line of its own", "Cyrus ignores the whole section"))
		}
		return
	}
	w.known = true
	if between := text[len(section):brace]; strings.TrimSpace(between) != "" {
		c.report(warning(c.pos(chunk, at+len(section)), "text-ignored", show(strings.TrimSpace(between)), "{ after section "+section, "Cyrus ignores the text"))
	}
	w.nothingAfter(chunk, at+brace+1, "{")
}

// nothingAfter reports text after the brace of a section, which the master does not read.
func (w *shapeWalk) nothingAfter(chunk *cyrusChunk, at int, brace string) {
	rest := strings.TrimLeft(chunk.text[at:], spaces)
	if rest == "" {
		return
	}
	w.c.report(harmful(w.c.pos(chunk, len(chunk.text)-len(rest)), "text-ignored", show(strings.TrimSpace(rest)), "the end of the line after "+brace,
		"Cyrus ignores it; put it on a line of its own"))
}
