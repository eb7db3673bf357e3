// Package dlist reads and writes dlists, the list syntax in which Cyrus IMAP keeps the records of mailboxes.db and of the
// conversations database, and which it speaks between servers.
//
// What has been read is written again byte for byte: every node remembers how it was spelled, if that is not the
// spelling that Cyrus would choose, so unknown fields, odd spellings and the order of things survive a rewrite. New
// nodes are spelled as Cyrus spells them: a string is an atom where it can be, else quoted, else a literal.
//
// Neither reading nor writing recurses, and what a hostile input can cost is bounded by [Limits].
//
// The grammar is that of Cyrus 3.6's parser for stored values. Between two items stands one space, and a second space is
// an empty atom; a literal may also end the input, which is how Cyrus's other parser, for the wire, has it.
package dlist

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind tells what a node is.
type Kind uint8

const (
	// Nil is the bare word NIL: no value.
	Nil Kind = iota
	// String is an atom, a quoted string or a literal. Numbers, dates, flags and ids are strings as well: nothing in the
	// text tells them apart, so ask the node for what you expect.
	String
	// List is "(item item)".
	List
	// KVList is "%(key item key item)".
	KVList
	// File is "%{partition guid size}" and a message, which the replication protocol carries.
	File
)

// String returns the name of the kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

var kindNames = [...]string{"NIL", "string", "list", "key/value list", "file"}

// Node is one item. A string never changes: to change a value, put another node in its place. The methods may be called
// on a nil node, which has no value; so a chain of [Node.Get] needs one check at its end.
type Node struct {
	kind Kind
	// asRead says that raw, not the printer's choice, is the text of the value; keyAsRead the same of rawKey. Both texts
	// may be empty, since an empty atom is one.
	asRead, keyAsRead bool
	// spaceAtEnd is set for a list that was read with a space before its closing parenthesis.
	spaceAtEnd bool

	key, rawKey string
	value, raw  string
	file        *fileHead

	// Items are the members of a List or KVList, in order. Those of a KVList have keys.
	Items []*Node
}

// fileHead is what stands between the braces of a file.
type fileHead struct{ partition, guid string }

// Kind tells what the node is. A nil node is Nil.
func (n *Node) Kind() Kind {
	if n == nil {
		return Nil
	}
	return n.kind
}

// Key is the name under which the node stands in its key/value list.
func (n *Node) Key() string {
	if n == nil {
		return ""
	}
	return n.key
}

// Text returns the bytes of a string or the content of a file; "" for all else.
func (n *Node) Text() string {
	if n == nil {
		return ""
	}
	return n.value
}

// Len is the number of items of a list.
func (n *Node) Len() int {
	if n == nil {
		return 0
	}
	return len(n.Items)
}

// At returns item i of a list, nil if there is none.
func (n *Node) At(i int) *Node {
	if n == nil || i < 0 || i >= len(n.Items) {
		return nil
	}
	return n.Items[i]
}

// Get returns the first item of a key/value list with that key, nil if there is none. Cyrus, too, looks no further than
// the first.
func (n *Node) Get(key string) *Node {
	if n == nil || n.kind != KVList {
		return nil
	}
	for _, item := range n.Items {
		if item.key == key {
			return item
		}
	}
	return nil
}

// Uint64 reads a string as a decimal number. It is false if the string holds anything else, or a number that is too
// large.
func (n *Node) Uint64() (uint64, bool) {
	if n.Kind() != String || !allOf(n.value, '0', '9') {
		return 0, false
	}
	v, err := strconv.ParseUint(n.value, 10, 64)
	return v, err == nil
}

// Hex64 reads a string as a hexadecimal number of up to 16 digits.
func (n *Node) Hex64() (uint64, bool) {
	if n.Kind() != String || len(n.value) > 16 || strings.ContainsAny(n.value, "+-_xX") {
		return 0, false
	}
	v, err := strconv.ParseUint(n.value, 16, 64)
	return v, err == nil
}

// Date reads a string as a time: seconds since 1970.
func (n *Node) Date() (time.Time, bool) {
	v, ok := n.Uint64()
	if !ok || v > 1<<62 {
		return time.Time{}, false
	}
	return time.Unix(int64(v), 0), true
}

// GUID reads a string as the id of a message: 20 bytes in hexadecimal digits.
func (n *Node) GUID() (id [20]byte, ok bool) {
	text := n.Text()
	if n.Kind() == File {
		text = n.file.guid
	}
	if len(text) != 2*len(id) {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(text))
	return id, err == nil
}

// Partition is the partition that a file is meant for.
func (n *Node) Partition() string {
	if n.Kind() != File {
		return ""
	}
	return n.file.partition
}

// Set puts a node under a key of a key/value list, in the place of the first item with that key, or at the end. It
// panics if n is no key/value list.
func (n *Node) Set(key string, value *Node) {
	if n.Kind() != KVList {
		panic("dlist: Set on a " + n.Kind().String())
	}
	for i, item := range n.Items {
		if item.key == key {
			// The key keeps its spelling.
			named := *value
			named.key, named.rawKey, named.keyAsRead = item.key, item.rawKey, item.keyAsRead
			n.Items[i] = &named
			return
		}
	}
	n.Items = append(n.Items, value.Named(key))
}

// Delete removes all items with that key and tells whether there was one.
func (n *Node) Delete(key string) bool {
	if n.Kind() != KVList {
		return false
	}
	kept := make([]*Node, 0, len(n.Items))
	for _, item := range n.Items {
		if item.key != key {
			kept = append(kept, item)
		}
	}
	found := len(kept) < len(n.Items)
	n.Items = kept
	return found
}

// Named returns a copy of the node that stands under the given key.
func (n *Node) Named(key string) *Node {
	named := *n
	named.key, named.rawKey, named.keyAsRead = key, "", false
	return &named
}

// NewNil returns the node NIL.
func NewNil() *Node { return &Node{kind: Nil} }

// NewString returns a string.
func NewString(s string) *Node { return &Node{kind: String, value: s} }

// NewUint returns a decimal number.
func NewUint(v uint64) *Node { return NewString(strconv.FormatUint(v, 10)) }

// NewHex returns a number as 16 hexadecimal digits.
func NewHex(v uint64) *Node { return NewString(fmt.Sprintf("%016x", v)) }

// NewDate returns a time as seconds since 1970; times before that become 0, as the format has no sign.
func NewDate(t time.Time) *Node { return NewUint(uint64(max(t.Unix(), 0))) }

// NewGUID returns the id of a message.
func NewGUID(id [20]byte) *Node { return NewString(hex.EncodeToString(id[:])) }

// NewFlag returns a message flag. Cyrus writes flags bare, although a system flag's backslash is not allowed in an atom;
// a flag that could not be read back bare is written as any other string.
func NewFlag(flag string) *Node {
	n := NewString(flag)
	if name, system := strings.CutPrefix(flag, `\`); system && spelling(name) == atom {
		n.asRead, n.raw = true, flag
	}
	return n
}

// NewList returns a list.
func NewList(items ...*Node) *Node { return &Node{kind: List, Items: items} }

// NewKVList returns a key/value list. The items need keys: see [Node.Named].
func NewKVList(items ...*Node) *Node { return &Node{kind: KVList, Items: items} }

// NewFile returns a message with the partition it is meant for and its id.
func NewFile(partition string, guid [20]byte, content string) *Node {
	head := &fileHead{partition: partition, guid: hex.EncodeToString(guid[:])}
	return &Node{kind: File, value: content, file: head}
}

func allOf(s string, low, high byte) bool {
	for i := range len(s) {
		if s[i] < low || s[i] > high {
			return false
		}
	}
	return s != ""
}
