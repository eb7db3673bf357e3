package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/finding"
	"github.com/mailspine/mailspine/internal/vfs"
)

func newCache(s streams) *cobra.Command {
	var f boxFlags
	c := newBoxCommand("cache", "Look at the cyrus.cache of a mailbox", "Look at the cyrus.cache of a mailbox: what was parsed from each message.", &f)
	c.AddCommand(
		f.command(s, &cobra.Command{
			Use: "show MAILBOX [UID...]", Short: "Print the cache records, all or those of the UIDs given",
			Long: "Print the cache records, all or those of the UIDs given: envelope, structure, sections, headers, search strings.\n" +
				"A message without a usable cache record is named on its own; mailspine message parse tells what its record would be.",
			Args: cobra.MinimumNArgs(1),
		}, boxExits("a message has no cache record that can be used"), (*box).showCache),
		f.command(s, &cobra.Command{
			Use: "check MAILBOX", Short: "Compare the cache with itself and with the index", Args: cobra.ExactArgs(1),
		}, map[int]string{
			exitOK:     "nothing is wrong",
			exitNo:     "cache records are missing or cannot be used: Cyrus parses those messages again",
			exitDamage: "the index is damaged or missing: the cache was not compared, or not all of it",
			exitFailed: "the check could not be made",
		}, (*box).checkCache),
	)
	return c
}

func (b *box) checkCache([]string) error {
	found, err := index.CheckFiles(b.ctx, vfs.OS(), b.place.Paths, index.CheckOptions{Owner: b.owner})
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(f finding.Finding) bool {
		// What keeps the index from being read keeps the cache from being compared.
		unread := strings.HasPrefix(f.Code, "index-") && f.Severity >= finding.Error || f.Code == "record-checksum"
		return !strings.HasPrefix(f.Code, "cache-") && !unread
	})
	return printFindings(b.out, b.arg, found)
}

func (b *box) showCache(args []string) error {
	uids, err := uidArgs(args)
	if err != nil {
		return err
	}
	without := 0
	err = b.list(uids, func(m *index.Mailbox, l *list, _ index.RecordNo, r *index.Record) error {
		record, err := m.Cache(r)
		if errors.Is(err, index.ErrNoCache) {
			without++
			if !b.out.text() {
				return l.add(map[string]any{"uid": r.UID, "missing": true, "reason": err.Error()})
			}
			_, err = fmt.Fprintf(l.w, "UID %d\n  no cache record: %v\n", r.UID, err)
			return err
		}
		if err != nil {
			return err
		}
		j := cacheJSON(record, r.CacheVersion)
		j["uid"], j["cache_offset"] = r.UID, r.CacheOffset
		if !b.out.text() {
			return l.add(j)
		}
		fmt.Fprintf(l.w, "UID %d\n", r.UID)
		row := rowPrinter(l.w)
		row("place", "%s at %d, version %d, checksum %08x", plural(record.Len(), "byte"), r.CacheOffset, r.CacheVersion, record.Checksum())
		printCache(l.w, record, r.CacheVersion)
		return nil
	})
	if err == nil && without > 0 {
		return &exitError{exitNo, nil}
	}
	return err
}

// cacheJSON is a cache record in JSON; an item that is not UTF-8 is in base64, under another name.
func cacheJSON(c index.CacheRecord, version uint16) map[string]any {
	j := map[string]any{"cache_version": version, "cache_crc": c.Checksum(), "cache_size": c.Len()}
	for i := range index.CacheItems {
		name := strings.ToLower(i.String())
		if i == index.CacheSection {
			j[name] = sectionsJSON(c.Item(i), version)
			continue
		}
		if text, raw := jsonBytes(c.Item(i)); text != nil {
			j[name] = *text
		} else {
			j[name+"_base64"] = raw
		}
	}
	return j
}

// sectionsJSON is the SECTION item as a list, or its bytes if that cannot be read.
func sectionsJSON(b []byte, version uint16) any {
	root, err := index.DecodeSections(b, version)
	if err != nil {
		return b
	}
	return sectionList(nil, root, 0)
}

// sectionJSON is an entity of a message: where it is in the file. Depth and Number place it in the tree: number 0 of a
// depth is the entity that the parts behind it, from 1, are in. As a tree, JSON would nest deeper than programs can read.
type sectionJSON struct {
	Depth         int    `json:"depth"`
	Number        int    `json:"number"`
	HeaderOffset  uint32 `json:"header_offset"`
	HeaderSize    uint32 `json:"header_size"`
	ContentOffset uint32 `json:"content_offset"`
	ContentSize   uint32 `json:"content_size"`
	Charset       string `json:"charset,omitempty"`
	Encoding      uint16 `json:"encoding"`
	GUID          string `json:"guid,omitempty"`
	DecodedSize   uint32 `json:"decoded_size,omitempty"`
	Lines         uint32 `json:"lines,omitempty"`
}

func sectionList(list []sectionJSON, s *index.Section, depth int) []sectionJSON {
	for i, p := range s.Parts {
		j := sectionJSON{
			Depth: depth, Number: i,
			HeaderOffset: p.HeaderOffset, HeaderSize: p.HeaderSize, ContentOffset: p.ContentOffset, ContentSize: p.ContentSize,
			Charset: p.Charset(), Encoding: p.Encoding, DecodedSize: p.DecodedSize, Lines: p.Lines,
		}
		if p.GUID != (index.GUID{}) {
			j.GUID = p.GUID.String()
		}
		list = append(list, j)
		if p.Inside != nil {
			list = sectionList(list, p.Inside, depth+1)
		}
	}
	return list
}

// printCache prints the items of a cache record.
func printCache(w io.Writer, c index.CacheRecord, version uint16) {
	row := rowPrinter(w)
	for i := range index.CacheItems {
		name := strings.ToLower(i.String())
		if i != index.CacheSection {
			row(name, "%s", printableText(c.Item(i)))
			continue
		}
		root, err := index.DecodeSections(c.Item(i), version)
		if err != nil {
			row(name, "!! %v", err)
			continue
		}
		row(name, "%s", plural(len(root.Parts), "part"))
		printSections(w, root, 0)
	}
}

// printSections prints where the parts are, a line each, set in by their depth.
func printSections(w io.Writer, s *index.Section, depth int) {
	const deepest = 20
	for i, p := range s.Parts {
		number := fmt.Sprintf("%s%d", strings.Repeat(" ", min(depth, deepest)), i)
		fmt.Fprintf(w, "    %-12s header %d+%d, content %d+%d", number, p.HeaderOffset, p.HeaderSize, p.ContentOffset, p.ContentSize)
		if charset := p.Charset(); charset != "" {
			fmt.Fprintf(w, ", %s", charset)
		}
		fmt.Fprintln(w)
		if p.Inside != nil {
			printSections(w, p.Inside, depth+1)
		}
	}
}

// printableText shows bytes so that a terminal is not upset: line ends and other controls are escaped.
func printableText(b []byte) string {
	var text strings.Builder
	for _, r := range string(b) {
		switch {
		case r == '\r':
			text.WriteString(`\r`)
		case r == '\n':
			text.WriteString(`\n`)
		case r == '\t' || r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f):
			text.WriteRune(r)
		default:
			fmt.Fprintf(&text, `\x%02x`, r)
		}
	}
	return text.String()
}
