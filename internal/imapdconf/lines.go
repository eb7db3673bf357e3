package imapdconf

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/mailspine/mailspine/internal/vfs"
)

const (
	// MaxFileBytes is the longest configuration file that is read.
	MaxFileBytes = 1 << 20
	// MaxFiles is how many files one configuration may consist of. Cyrus keeps all of them open at once.
	MaxFiles = 256
)

// readFile reads a whole file.
func readFile(fsys vfs.FS, name string) (text string, err error) {
	f, err := fsys.Open(name, vfs.ReadOnly, 0)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode.IsRegular() {
		return "", fmt.Errorf("%s is no regular file", name)
	}
	if info.Size > MaxFileBytes {
		return "", fmt.Errorf("%s has %d bytes, more than %d", name, info.Size, MaxFileBytes)
	}
	b := make([]byte, info.Size)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return "", err
	}
	return string(b[:n]), nil
}

// part is a run of bytes of a logical line that stand next to each other in the file.
type part struct {
	at           int // offset in the logical line
	line, column int
}

// logical is a line with its continuations.
type logical struct {
	file  string
	text  string
	parts []part
}

// pos is the place of a byte of the line, or of its end.
func (l *logical) pos(offset int) Pos {
	i := sort.Search(len(l.parts), func(i int) bool { return l.parts[i].at > offset })
	p := l.parts[max(i-1, 0)]
	return Pos{File: l.file, Line: p.line, Column: p.column + offset - p.at}
}

// logicalLines splits a file as Cyrus does: a backslash at the very end of a line joins it with the next. What is odd
// about the lines themselves goes to report.
func logicalLines(file, text string, report func(*Problem)) []logical {
	var list []logical
	var joined strings.Builder
	var parts []part
	blank, comment := true, false // of the logical line so far
	number := 0
	for text != "" {
		number++
		line, rest, ended := strings.Cut(text, "\n")
		text = rest
		parts = append(parts, part{at: joined.Len(), line: number, column: 1})
		if at := strings.IndexByte(line, 0); at >= 0 {
			report(harmful(Pos{file, number, at + 1}, "nul-byte", "a byte of value 0", "text",
				"Cyrus ignores the rest of the line; remove the byte"))
			line, ended = line[:at], false
		}
		body, continued := strings.CutSuffix(line, `\`)
		continued = continued && ended
		if first := strings.TrimLeft(body, spaces); blank && first != "" {
			blank, comment = false, first[0] == '#'
		}
		if !continued {
			if trimmed := strings.TrimRight(line, spaces); !comment && trimmed != line && strings.HasSuffix(trimmed, `\`) {
				report(warning(Pos{file, number, len(trimmed)}, "not-continued", "a backslash and white space",
					"the end of the line after the backslash", "the line is not continued; remove the white space, or the backslash"))
			}
			joined.WriteString(line)
			list = append(list, logical{file: file, text: joined.String(), parts: parts})
			joined.Reset()
			parts, blank, comment = nil, true, false
			continue
		}
		joined.WriteString(body)
		if comment {
			report(warning(Pos{file, number, len(line)}, "comment-continued", "a comment that ends in a backslash", "its end",
				"the next line belongs to the comment; remove the backslash"))
		}
		if text == "" {
			report(harmful(Pos{file, number, len(line)}, "continued-nowhere", "a backslash at the end of the file",
				"the rest of the line", "Cyrus forgets this line; remove the backslash"))
		}
	}
	return list
}

// spaces are what C takes for white space.
const spaces = " \t\n\v\f\r"

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// show quotes what was found, shortened.
func show(s string) string {
	if len(s) > 60 {
		s = s[:60] + "..."
	}
	return fmt.Sprintf("%q", s)
}
