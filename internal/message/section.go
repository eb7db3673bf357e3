package message

import "encoding/binary"

// noCharset is the charset word of an entry without one.
const noCharset = 0x0000ffff

// appendSection appends the offsets of all parts in binary, as if the message were the content of a message/rfc822.
func (m *Message) appendSection(dst []byte) []byte { return appendMessageNode(dst, m.Root) }

// appendNode appends the node of a part: how many entries it has, the entries, and the nodes of all but the first.
func (b *Part) appendNode(dst []byte) []byte {
	switch {
	case b.Message():
		return appendMessageNode(dst, b.Parts[0])
	case b.numParts() == 0:
		return appendWords(dst, 0)
	}
	dst = appendWords(dst, int64(len(b.Parts)+1), 0, -1, 0, -1, noCharset)
	dst = (&Part{}).appendTail(dst)
	for _, sub := range b.Parts {
		dst = appendWords(dst, sub.HeaderOffset, sub.HeaderSize, sub.ContentOffset)
		if sub.Multipart() && len(sub.Parts) == 0 {
			dst = appendWords(dst, 0, noCharset)
			dst = sub.appendTail(dst)
		} else {
			dst = sub.appendCharset(appendWords(dst, sub.ContentSize))
		}
	}
	for _, sub := range b.Parts {
		dst = sub.appendNode(dst)
	}
	return dst
}

// appendMessageNode appends the node of a message/rfc822. Its entries are the message itself and its parts; a message
// that is no multipart counts as its own only part.
func appendMessageNode(dst []byte, inner *Part) []byte {
	parts := inner.Parts
	if inner.numParts() == 0 {
		parts = []*Part{inner}
	}
	dst = appendWords(dst, int64(len(parts)+1),
		inner.HeaderOffset, inner.HeaderSize, inner.ContentOffset, inner.ContentSize, noCharset)
	dst = inner.appendTail(dst)
	for _, sub := range parts {
		dst = appendWords(dst, sub.HeaderOffset, sub.HeaderSize, sub.ContentOffset)
		empty := sub.Multipart() && len(sub.Parts) == 0
		switch {
		case empty && sub == inner:
			dst = appendWords(dst, 0, noCharset)
			dst = (&Part{}).appendTail(dst)
		case empty:
			dst = sub.appendCharset(appendWords(dst, 0))
		default:
			dst = sub.appendCharset(appendWords(dst, sub.ContentSize))
		}
	}
	for _, sub := range parts {
		dst = sub.appendNode(dst)
	}
	return dst
}

func appendWords(dst []byte, words ...int64) []byte {
	for _, w := range words {
		dst = binary.BigEndian.AppendUint32(dst, uint32(w))
	}
	return dst
}

// appendCharset appends charset and encoding of a part, and what follows them in each entry.
func (b *Part) appendCharset(dst []byte) []byte {
	name := b.charset()
	length := 0
	if name != nil {
		// The name is padded with at least one NUL.
		length = (len(name)/4 + 1) * 4
		if length > 0xffff {
			length = 0
		}
	}
	dst = appendWords(dst, int64(length)<<16|int64(b.coding()))
	if length > 0 {
		dst = append(dst, name...)
		for n := len(name); n < length; n++ {
			dst = append(dst, 0)
		}
	}
	return b.appendTail(dst)
}

func (b *Part) appendTail(dst []byte) []byte {
	dst = append(dst, b.ContentGUID[:]...)
	return appendWords(dst, b.DecodedSize, b.ContentLines)
}

// charset returns the name of the charset of the content, as the message spells it, or nil if it has none.
func (b *Part) charset() []byte {
	switch string(b.Type) {
	case "TEXT":
		name := asciiName
		for _, param := range b.Params {
			if string(param.Name) == "CHARSET" && len(param.Value) > 0 {
				if _, ok := lookupCharset(param.Value); ok {
					name = param.Value
				}
			}
		}
		return name
	case "MESSAGE":
		if string(b.Subtype) != "RFC822" {
			return asciiName
		}
	}
	return nil
}
