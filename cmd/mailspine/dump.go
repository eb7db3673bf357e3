package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/mailspine/mailspine/skiplist"
)

func dumpVerb() verb {
	return verb{
		use: "dump FILE", short: "Print an annotated map of every byte, damage included",
		long: "Print a map of the file, from the first byte to the last: offset, bytes, meaning. Damage is marked with !!. It reads\n" +
			"what no other verb can, if the --format is named. Keys and values are in it: look before you send it to anybody.",
		exits: map[int]string{
			exitNo:     "",
			exitDamage: "there is damage in the file, marked with !!",
			exitFailed: "the file cannot be read, or its format is not to be found out",
		},
		run: func(ss *session, _ []string) error { return ss.dump() },
	}
}

// dump prints the byte map of a file. It opens what no other verb can read.
func (ss *session) dump() error {
	l := newList(ss.out)
	p := mapPrinter{w: l.w, color: ss.out.color}
	err := skiplist.Dump(ss.ctx, ss.path, ss.opts, func(s skiplist.Span, bytes []byte) error {
		if s.Problem != "" {
			p.problems++
		}
		if !ss.out.text() {
			return l.add(s)
		}
		return p.span(s, bytes)
	})
	if err = l.end(err); err != nil {
		return err
	}
	if p.problems > 0 {
		return &exitError{exitDamage, nil}
	}
	return nil
}

// mapPrinter prints spans as text.
type mapPrinter struct {
	w        *bufio.Writer
	color    bool
	problems int
}

// A row of the map holds up to rowBytes bytes; of bytes that mean nothing at most garbageRows rows are shown.
const (
	rowBytes    = 16
	garbageRows = 16
)

// span prints one line for the span and one for each field of it.
func (p *mapPrinter) span(s skiplist.Span, bytes []byte) error {
	red, plain := "", ""
	if p.color && s.Problem != "" {
		red, plain = "\x1b[1;31m", "\x1b[m"
	}
	fmt.Fprintf(p.w, "%s%08x  %s, %s", red, s.Off, s.Kind, size(s.Len))
	if s.Problem != "" {
		fmt.Fprintf(p.w, "  !! %s", s.Problem)
	}
	fmt.Fprintf(p.w, "%s\n", plain)
	if len(s.Fields) == 0 {
		return p.garbage(s, bytes)
	}
	for i := 0; i < len(s.Fields); i++ {
		f := s.Fields[i]
		var b []byte
		if at := f.Off - s.Off; at >= 0 && at+f.Len <= int64(len(bytes)) {
			b = bytes[at : at+f.Len]
		}
		name := f.Name
		if last := sameAs(s.Fields, i); last > i {
			name += " to " + lastWord(s.Fields[last].Name)
			i = last
		}
		if _, err := fmt.Fprintf(p.w, "  %08x  %-35s  %-16s %s\n", f.Off, hexBytes(b), name, f.Value); err != nil {
			return err
		}
	}
	return nil
}

// sameAs finds the last of the fields from i on that are numbered on and have the same value: the empty levels of a
// head are many.
func sameAs(fields []skiplist.Field, i int) int {
	last := i
	for last+1 < len(fields) && fields[last+1].Value == fields[i].Value && fields[last+1].Len == fields[i].Len &&
		lastWord(fields[i].Name) != fields[i].Name && stem(fields[last+1].Name) == stem(fields[i].Name) {
		last++
	}
	if last < i+2 {
		return i
	}
	return last
}

func lastWord(s string) string { return s[strings.LastIndexByte(s, ' ')+1:] }
func stem(s string) string     { return s[:strings.LastIndexByte(s, ' ')+1] }

// garbage prints bytes that have no fields, as a hex dump.
func (p *mapPrinter) garbage(s skiplist.Span, bytes []byte) error {
	if s.Kind == "zeros" {
		return nil
	}
	for row := 0; row*rowBytes < len(bytes); row++ {
		if row == garbageRows {
			_, err := fmt.Fprintf(p.w, "  ........  %s more bytes\n", count(s.Len-int64(row*rowBytes)))
			return err
		}
		b := bytes[row*rowBytes : min(len(bytes), (row+1)*rowBytes)]
		if _, err := fmt.Fprintf(p.w, "  %08x  %-35s  %s\n", s.Off+int64(row*rowBytes), hexBytes(b), printable(b)); err != nil {
			return err
		}
	}
	return nil
}

// printable shows the bytes that are ASCII.
func printable(b []byte) string {
	text := make([]byte, len(b))
	for i, c := range b {
		if text[i] = c; c < ' ' || c > '~' {
			text[i] = '.'
		}
	}
	return string(text)
}

// hexBytes shows the first bytes in groups of four.
func hexBytes(b []byte) string {
	const shown = 14
	var text strings.Builder
	for i, c := range b {
		if i > 0 && i%4 == 0 {
			text.WriteByte(' ')
		}
		if len(b) > rowBytes && i == shown {
			text.WriteString("...")
			break
		}
		fmt.Fprintf(&text, "%02x", c)
	}
	return text.String()
}
