package index

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mailspine/mailspine/internal/dlist"
)

// HeaderFile is a cyrus.header.
type HeaderFile struct {
	Form HeaderForm
	// Type are the letters of the mailbox type, as in the mailbox list. The text form has none.
	Type string
	// Name is the internal name, "." between levels; "" if unknown. It may be an old one: a rename in the legacy layout
	// does not change it. The text form has none.
	Name     string
	UniqueID string
	// JMAPID is of releases after 3.12.
	JMAPID string
	// QuotaRoot is the internal name of the mailbox whose quota counts, "" if there is none. Cyrus goes by this value.
	QuotaRoot string
	// ACL are the access rights; nil if there is no access list, which is not the same as an empty one. The mailbox list
	// decides, this is a copy.
	ACL []ACLEntry
	// Flags are the names of the user's flags by their numbers; "" is an empty slot. Nowhere else are they recorded.
	Flags []string

	read *headerRead
}

// ACLEntry gives an identifier its rights.
type ACLEntry struct{ Identifier, Rights string }

// headerRead is what was read, so that all that does not change is written as it was.
type headerRead struct {
	raw  []byte
	was  HeaderFile
	list *dlist.Node
	// rest follows the body; it means nothing to anybody.
	rest string
	// noID says that the first line of a text had no TAB, idTail what stood behind a second one.
	noID   bool
	idTail string
	// oddACL is an access list that is not pairs of identifier and rights.
	oddACL string
}

// Decode reads a whole cyrus.header.
func (h *HeaderFile) Decode(b []byte) error {
	*h = HeaderFile{}
	if len(b) > headerMax {
		return damaged(0, "size", num(len(b))+" bytes", "at most "+num(headerMax))
	}
	body, ok := bytes.CutPrefix(b, []byte(headerMagic))
	if !ok {
		found := "something else"
		if len(b) == 0 {
			found = "an empty file" // which is what a full disk leaves
		}
		return &FormatError{Field: "magic", Found: found, Wanted: "that of a mailbox header", Class: ErrNotHeader}
	}
	read := &headerRead{raw: bytes.Clone(b)}
	decode := h.decodeText
	if len(body) > 0 && body[0] == headerListMark {
		decode = h.decodeList
	}
	if err := decode(string(body), read); err != nil {
		*h = HeaderFile{}
		return err
	}
	h.read = read
	read.was = h.values()
	return nil
}

// values is a copy that shares nothing with h, and does not remember what was read.
func (h *HeaderFile) values() HeaderFile {
	c := *h
	c.ACL, c.Flags, c.read = slices.Clone(h.ACL), slices.Clone(h.Flags), nil
	return c
}

// same tells whether h has the values of o.
func (h *HeaderFile) same(o *HeaderFile) bool {
	return h.Form == o.Form && h.Type == o.Type && h.Name == o.Name && h.UniqueID == o.UniqueID && h.JMAPID == o.JMAPID && h.QuotaRoot == o.QuotaRoot &&
		h.sameACL(o) && slices.Equal(trimFlags(h.Flags), trimFlags(o.Flags))
}

func (h *HeaderFile) sameACL(o *HeaderFile) bool {
	return (h.ACL == nil) == (o.ACL == nil) && slices.Equal(h.ACL, o.ACL)
}

// trimFlags leaves out empty slots at the end.
func trimFlags(flags []string) []string {
	for len(flags) > 0 && flags[len(flags)-1] == "" {
		flags = flags[:len(flags)-1]
	}
	return flags
}

// decodeText reads the three lines of the old form.
func (h *HeaderFile) decodeText(body string, read *headerRead) error {
	h.Form = HeaderText
	var lines [3]string
	at := len(headerMagic)
	for i, field := range []string{"quotaroot", "userflags", "acl"} {
		line, rest, ok := strings.Cut(body, "\n")
		if !ok {
			return damaged(at+len(body), field, "the end of the file", "the end of the line")
		}
		lines[i], body = line, rest
		at += len(line) + 1
	}
	read.rest = body
	root, id, hasID := strings.Cut(lines[0], "\t")
	h.QuotaRoot, read.noID = root, !hasID
	h.UniqueID, read.idTail, _ = strings.Cut(id, "\t")
	if len(h.UniqueID) < len(id) {
		read.idTail = "\t" + read.idTail
	}
	// Each name is followed by a space; an empty name is an empty slot.
	for line := lines[1]; line != ""; {
		var name string
		name, line, _ = strings.Cut(line, " ")
		h.Flags = append(h.Flags, name)
	}
	h.ACL = []ACLEntry{}
	for rest := lines[2]; rest != ""; {
		id, after, ok := strings.Cut(rest, "\t")
		rights, next, closed := strings.Cut(after, "\t")
		if !ok || !closed {
			read.oddACL = rest
			break
		}
		h.ACL, rest = append(h.ACL, ACLEntry{id, rights}), next
	}
	return nil
}

// decodeList reads the dlist of the new form.
func (h *HeaderFile) decodeList(body string, read *headerRead) error {
	h.Form = HeaderList
	list, end, err := parseHeaderList(body)
	if err != nil {
		return err
	}
	at := len(headerMagic)
	if list.Kind() != dlist.KVList {
		return damaged(at, "body", list.Kind().String(), dlist.KVList.String())
	}
	read.list, read.rest = list, body[end+1:]
	for _, f := range []struct {
		key string
		to  *string
	}{{keyType, &h.Type}, {keyName, &h.Name}, {keyUniqueID, &h.UniqueID}, {keyJMAPID, &h.JMAPID}, {keyQuotaRoot, &h.QuotaRoot}} {
		n := list.Get(f.key)
		if n.Kind() != dlist.Nil && n.Kind() != dlist.String {
			return damaged(at, f.key, n.Kind().String(), dlist.String.String())
		}
		*f.to = n.Text()
	}
	if acl := list.Get(keyACL); acl != nil {
		if acl.Kind() != dlist.KVList {
			return damaged(at, keyACL, acl.Kind().String(), dlist.KVList.String())
		}
		h.ACL = []ACLEntry{}
		for _, item := range acl.Items {
			h.ACL = append(h.ACL, ACLEntry{item.Key(), item.Text()})
		}
	}
	if flags := list.Get(keyFlags); flags != nil {
		if flags.Kind() != dlist.List {
			return damaged(at, keyFlags, flags.Kind().String(), dlist.List.String())
		}
		for _, item := range flags.Items {
			h.Flags = append(h.Flags, item.Text())
		}
	}
	return nil
}

// parseHeaderList parses the dlist of a body up to the line end behind it, and returns the place of that. It is the
// first one, unless the dlist has literals.
func parseHeaderList(body string) (list *dlist.Node, end int, err error) {
	parser := dlist.Parser{Limits: dlist.Limits{Bytes: headerMax, Depth: headerDepth, Nodes: headerNodes}}
	at := len(headerMagic)
	for range headerLines {
		next := strings.IndexByte(body[end:], '\n')
		if next < 0 {
			return nil, 0, damaged(at+len(body), "body", "the end of the file", "a dlist and a line end")
		}
		end += next
		list, err := parser.Parse([]byte(body[:end]))
		if err == nil {
			return list, end, nil
		}
		var e *dlist.Error
		if !errors.As(err, &e) {
			return nil, 0, err
		}
		if e.Offset < end { // what follows would not help
			return nil, 0, damaged(at+e.Offset, "body", e.Found, e.Wanted)
		}
		end++
	}
	return nil, 0, damaged(at+end, "body", "the end of the line", "a whole dlist")
}

// HasLiteral tells whether the file as read has a line end inside its dlist, which makes Cyrus 3.6 refuse the mailbox
// although it writes such files itself.
func (h *HeaderFile) HasLiteral() bool {
	if h.read == nil || h.read.list == nil {
		return false
	}
	body := h.read.raw[len(headerMagic) : len(h.read.raw)-len(h.read.rest)-1]
	return bytes.IndexByte(body, '\n') >= 0
}

// Append appends the whole file. One that was read and not changed is written as it was; in one that was changed, what
// is not known here is kept. A dlist is written on one line always. Call Validate before.
func (h *HeaderFile) Append(dst []byte) []byte {
	if h.read != nil && h.same(&h.read.was) {
		return append(dst, h.read.raw...)
	}
	dst = append(dst, headerMagic...)
	if h.Form == HeaderText {
		dst = h.appendText(dst)
	} else {
		dst = h.appendList(dst)
	}
	if h.read != nil {
		dst = append(dst, h.read.rest...)
	}
	return dst
}

func (h *HeaderFile) appendText(dst []byte) []byte {
	text := h.read != nil && h.read.was.Form == HeaderText
	dst = append(dst, h.QuotaRoot...)
	if !(text && h.read.noID && h.UniqueID == "") {
		dst = append(append(dst, '\t'), h.UniqueID...)
	}
	if text {
		dst = append(dst, h.read.idTail...)
	}
	dst = append(dst, '\n')
	for _, name := range trimFlags(h.Flags) {
		dst = append(append(dst, name...), ' ')
	}
	dst = append(dst, '\n')
	for _, e := range h.ACL {
		dst = append(append(append(append(dst, e.Identifier...), '\t'), e.Rights...), '\t')
	}
	if text && h.sameACL(&h.read.was) {
		dst = append(dst, h.read.oddACL...)
	}
	return append(dst, '\n')
}

// appendList writes the dlist: the items that were read in their order, and new ones behind those that Cyrus writes
// before them.
func (h *HeaderFile) appendList(dst []byte) []byte {
	values := h.listValues()
	var old []*dlist.Node
	if h.read != nil && h.read.list != nil {
		old = h.read.list.Items
	}
	present, written := map[string]bool{}, map[string]bool{}
	for _, item := range old {
		present[item.Key()] = true
	}
	dst = append(dst, "%("...)
	start := len(dst)
	put := func(key, value string) {
		written[key] = true
		if value == "" {
			return
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		dst = append(append(append(dst, key...), ' '), value...)
	}
	rank := 0
	// upTo writes what is new among the keys before the given rank.
	upTo := func(limit int) {
		for ; rank < limit; rank++ {
			if key := headerKeys[rank].key; !present[key] {
				put(key, values[key])
			}
		}
	}
	for _, item := range old {
		i := headerKey(item.Key())
		if i < 0 {
			put(string(appendHeaderString(nil, item.Key())), unknownItem(item))
			continue
		}
		if !written[item.Key()] {
			upTo(i)
			put(item.Key(), values[item.Key()])
		}
	}
	upTo(len(headerKeys))
	return append(dst, ")\n"...)
}

// headerKey is the rank of a key, -1 if it is not known here.
func headerKey(key string) int {
	return slices.IndexFunc(headerKeys, func(k struct{ key, name, written string }) bool { return k.key == key })
}

// unknownItem is the text of an item that is not known here.
func unknownItem(item *dlist.Node) string {
	if text := string(appendOneLine(nil, item)); text != "" {
		return text
	}
	return `""` // it was an empty atom
}

// listValues are the texts of the values by their keys; a key that is left out has none.
func (h *HeaderFile) listValues() map[string]string {
	word := func(s string, empty string) string {
		if s == "" {
			return empty
		}
		return string(appendHeaderString(nil, s))
	}
	values := map[string]string{keyType: word(h.Type, typeMail), keyName: word(h.Name, "NIL"), keyUniqueID: word(h.UniqueID, "NIL"),
		keyJMAPID: word(h.JMAPID, ""), keyQuotaRoot: word(h.QuotaRoot, "")}
	if h.Type == "" && h.read != nil && h.read.list != nil {
		values[keyType] = "" // there was none, and none was asked for
	}
	if h.ACL != nil {
		acl := []byte("%(")
		for i, e := range h.ACL {
			if i > 0 {
				acl = append(acl, ' ')
			}
			acl = append(appendHeaderString(acl, e.Identifier), ' ')
			acl = appendHeaderString(acl, e.Rights)
		}
		values[keyACL] = string(append(acl, ')'))
	}
	if flags := trimFlags(h.Flags); len(flags) > 0 {
		var names []string
		for _, name := range flags {
			names = append(names, word(name, "NIL"))
		}
		values[keyFlags] = "(" + strings.Join(names, " ") + ")"
	}
	return values
}

// appendHeaderString spells a string as Cyrus does, but never as a literal: its reader stops at the first line end.
func appendHeaderString(dst []byte, s string) []byte {
	start := len(dst)
	if dst = dlist.AppendString(dst, s); dst[start] != '{' {
		return dst
	}
	dst = append(dst[:start], '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

// appendOneLine writes an item that is not known here as it was read, without literals. Its depth is bounded by
// headerDepth.
func appendOneLine(dst []byte, n *dlist.Node) []byte {
	if b := n.Append(nil); bytes.IndexByte(b, '\n') < 0 {
		return append(dst, b...)
	}
	switch n.Kind() {
	case dlist.List, dlist.KVList:
	default:
		return appendHeaderString(dst, n.Text())
	}
	if n.Kind() == dlist.KVList {
		dst = append(dst, '%')
	}
	dst = append(dst, '(')
	for i, item := range n.Items {
		if i > 0 {
			dst = append(dst, ' ')
		}
		if n.Kind() == dlist.KVList {
			dst = append(appendHeaderString(dst, item.Key()), ' ')
		}
		dst = appendOneLine(dst, item)
	}
	return append(dst, ')')
}

// Validate returns the first of the problems of a header:
//
//  1. It has a uniqueid.
//  2. No value has a byte that its form cannot hold: NUL, CR or LF; in the text form also TAB, and spaces in flags
//     (class ErrValue). That goes for items of unknown meaning, too: such a file can be read, but not changed.
//  3. There are at most 128 flags; their names are IMAP atoms, and differ, by more than case.
func (h *HeaderFile) Validate() error {
	if all := h.problems(); len(all) > 0 {
		return all[0]
	}
	return nil
}

func (h *HeaderFile) problems() (all []*FormatError) {
	add := func(class error, field, found, wanted string) {
		all = append(all, &FormatError{Offset: int64(len(headerMagic)), Field: field, Found: found, Wanted: wanted, Class: class})
	}
	if h.UniqueID == "" {
		add(ErrDamaged, "uniqueid", "none", "the id of the mailbox")
	}
	forbidden := "\x00\r\n"
	if h.Form == HeaderText {
		forbidden += "\t"
	}
	texts := []string{h.Type, h.Name, h.UniqueID, h.JMAPID, h.QuotaRoot}
	for _, e := range h.ACL {
		texts = append(texts, e.Identifier, e.Rights)
	}
	if slices.ContainsFunc(texts, func(s string) bool { return strings.ContainsAny(s, forbidden) }) {
		add(ErrValue, "value", "a control character", "none")
	}
	if h.Form == HeaderList && h.read != nil && h.read.list != nil {
		for _, item := range h.read.list.Items {
			if headerKey(item.Key()) < 0 && strings.ContainsAny(item.Key()+unknownItem(item), forbidden) {
				add(ErrValue, "value", "an item of unknown meaning with a control character", "none")
			}
		}
	}
	if n := len(trimFlags(h.Flags)); n > UserFlagsMax {
		add(ErrDamaged, "userflags", num(n)+" flags", "at most "+num(UserFlagsMax))
	}
	seen := map[string]int{}
	for i, name := range h.Flags {
		if name == "" {
			continue
		}
		if strings.ContainsAny(name, forbidden+" ") {
			add(ErrValue, "userflags", "flag "+num(i)+" with a space or control character", "an IMAP atom")
		} else if !isAtom(name) {
			add(ErrDamaged, "userflags", "flag "+num(i)+" that is no atom", "an IMAP atom")
		}
		if first, ok := seen[asciiLower(name)]; ok {
			add(ErrDamaged, "userflags", "flag "+num(i)+" with the name of flag "+num(first), "another name")
		} else {
			seen[asciiLower(name)] = i
		}
	}
	return all
}

// isAtom tells whether s is an atom of IMAP (RFC 3501), as the names of flags are.
func isAtom(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// Checksum is that of the whole file, which cyrus.index records in header_file_crc.
func (h *HeaderFile) Checksum() uint32 { return checksum(h.Append(nil)) }

// shownFlags are the system flags that clients see.
const shownFlags = FlagAnswered | FlagFlagged | FlagDeleted | FlagDraft | FlagSeen

// FlagNames are the flags of a record as clients name them: system flags, then the user's; one without a name is "flag N".
func (h *HeaderFile) FlagNames(f Flags, u UserFlags) []string {
	names := (f & shownFlags).Names()
	for n := range UserFlagsMax {
		if u.Has(n) {
			name := fmt.Sprintf("flag %d", n)
			if n < len(h.Flags) && h.Flags[n] != "" {
				name = h.Flags[n]
			}
			names = append(names, name)
		}
	}
	return names
}
