package dlist

import "strconv"

// stringMax is the length from which Cyrus writes every string as a literal.
const stringMax = 1024

// Append appends the text of the node, without its key, to dst.
func (n *Node) Append(dst []byte) []byte {
	type place struct {
		list *Node
		next int
	}
	var open []place
	for {
		if n.Kind() == List || n.Kind() == KVList {
			if n.kind == KVList {
				dst = append(dst, '%')
			}
			dst = append(dst, '(')
			open = append(open, place{list: n})
		} else {
			dst = n.appendScalar(dst)
		}
		for len(open) > 0 {
			top := &open[len(open)-1]
			if top.next < len(top.list.Items) {
				break
			}
			if top.list.spaceAtEnd && len(top.list.Items) > 0 {
				dst = append(dst, ' ')
			}
			dst = append(dst, ')')
			open = open[:len(open)-1]
		}
		if len(open) == 0 {
			return dst
		}
		top := &open[len(open)-1]
		if top.next > 0 {
			dst = append(dst, ' ')
		}
		n = top.list.Items[top.next]
		top.next++
		if top.list.kind == KVList {
			dst = append(n.appendKey(dst), ' ')
		}
	}
}

// AppendKeyed appends the key of the node, a space and its text.
func (n *Node) AppendKeyed(dst []byte) []byte {
	return n.Append(append(n.appendKey(dst), ' '))
}

func (n *Node) appendKey(dst []byte) []byte {
	if n != nil && n.keyAsRead {
		return append(dst, n.rawKey...)
	}
	return AppendString(dst, n.Key())
}

func (n *Node) appendScalar(dst []byte) []byte {
	switch n.Kind() {
	case Nil:
		return append(dst, "NIL"...)
	case File:
		head := n.raw
		if !n.asRead {
			head = fileHeadText(n)
		}
		return append(append(append(dst, '%'), head...), n.value...)
	}
	if n.asRead {
		return append(dst, n.raw...)
	}
	return AppendString(dst, n.value)
}

func fileHeadText(n *Node) string {
	b := AppendString([]byte("{"), n.file.partition)
	b = AppendString(append(b, ' '), n.file.guid)
	b = strconv.AppendInt(append(b, ' '), int64(len(n.value)), 10)
	return string(append(b, "}\r\n"...))
}

// AppendString appends a string as Cyrus spells it: as an atom if it can be one, else between quotes if nothing in it
// would need a backslash, else as a literal.
func AppendString(dst []byte, s string) []byte {
	switch spelling(s) {
	case atom:
		return append(dst, s...)
	case quoted:
		return append(append(append(dst, '"'), s...), '"')
	}
	dst = append(strconv.AppendInt(append(dst, '{'), int64(len(s)), 10), "+}\r\n"...)
	return append(dst, s...)
}

// The properties of bytes that decide how a string is spelled.
const (
	notInAtom = 1 << iota
	notInQuotes
)

var properties = func() (p [256]uint8) {
	for c := range p {
		switch {
		case c >= 0x80, c == 0, c == '\r', c == '\n', c == '"', c == '%', c == '\\':
			p[c] = notInAtom | notInQuotes
		// 0x1F, the separator of levels in stored mailbox names, is allowed in an atom.
		case c < 0x1f, c == 0x7f, c == ' ', c == '{', c == '(', c == ')', c == '*':
			p[c] = notInAtom
		}
	}
	return p
}()

// spelling is Cyrus's choice.
func spelling(s string) form {
	if len(s) >= stringMax {
		return literal
	}
	var seen uint8
	for i := range len(s) {
		seen |= properties[s[i]]
	}
	switch {
	case seen&notInQuotes != 0:
		return literal
	case seen != 0, s == "", s == "NIL":
		return quoted
	}
	return atom
}
