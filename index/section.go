package index

import (
	"encoding/binary"
	"strings"
)

// Section is a node of the SECTION item: where the parts of a message are in its file. The root stands for the message
// as if it were the content of a message/rfc822 part. A node without parts is that of a part with nothing inside.
type Section struct {
	// Parts has, first, the entity itself (of a multipart: none, which has 0xFFFFFFFF as its sizes), then its parts. Each
	// but the first has a node of its own.
	Parts []SectionPart
}

// SectionPart is one entity of a message.
type SectionPart struct {
	// The offsets count from the start of the message file, in bytes; the header includes the empty line after it.
	HeaderOffset, HeaderSize, ContentOffset, ContentSize uint32
	// Encoding is the low half of the charset word: 0 for none, 1 quoted-printable, 2 base64, 255 unknown, 65535 where
	// neither charset nor encoding is told.
	Encoding uint16
	// CharsetNumber is the number of the charset in a table of the release that wrote it, before cache version 4.
	CharsetNumber uint16
	// GUID is the SHA-1 of the decoded content, DecodedSize its size, Lines the number of lines before decoding.
	GUID               GUID
	DecodedSize, Lines uint32
	// Inside is the node of the part, nil for the first part of a node.
	Inside *Section

	name string // the charset with the NULs behind it
}

// Charset is the name of the charset, "" if there is none.
func (p *SectionPart) Charset() string {
	name, _, _ := strings.Cut(p.name, "\x00")
	return name
}

// SetCharset changes the name.
func (p *SectionPart) SetCharset(name string) {
	p.name = ""
	if name != "" {
		p.name = name + strings.Repeat("\x00", cacheAlign-len(name)%cacheAlign)
	}
}

// DecodeSections reads a SECTION item of a cache version. It must fill b.
func DecodeSections(b []byte, version uint16) (*Section, error) {
	l := layoutOfSection(version)
	root := &Section{}
	at := 0
	// The nodes still to be read, the next one last. A list, not a recursion: the depth is up to the file.
	for todo := []*Section{root}; len(todo) > 0; {
		node := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if len(b)-at < 4 {
			return nil, damaged(at, "section", "the end", "a number of parts")
		}
		n := int64(binary.BigEndian.Uint32(b[at:]))
		if room := int64(len(b)-at-4) / int64(l.minEntry()); n > room {
			return nil, damaged(at, "section", num(n)+" parts", "at most "+num(room))
		}
		at += 4
		node.Parts = make([]SectionPart, n)
		for i := range node.Parts {
			size, err := node.Parts[i].decode(b[at:], l)
			if err != nil {
				return nil, in(err, "", int64(at), 0)
			}
			at += size
		}
		for i := len(node.Parts) - 1; i >= 1; i-- {
			node.Parts[i].Inside = &Section{}
			todo = append(todo, node.Parts[i].Inside)
		}
	}
	if at != len(b) {
		return nil, damaged(at, "section", num(len(b)-at)+" more bytes", "the end")
	}
	return root, nil
}

// decode reads one entry and returns its size.
func (p *SectionPart) decode(b []byte, l sectionLayout) (int, error) {
	if len(b) < l.minEntry() {
		return 0, damaged(0, "section", num(len(b))+" bytes", "a part")
	}
	for i, to := range []*uint32{&p.HeaderOffset, &p.HeaderSize, &p.ContentOffset, &p.ContentSize} {
		*to = binary.BigEndian.Uint32(b[4*i:])
	}
	high := binary.BigEndian.Uint16(b[16:])
	p.Encoding = binary.BigEndian.Uint16(b[18:])
	at := sectionFixed
	if !l.names {
		p.CharsetNumber = high
		return at, nil
	}
	if int(high) > len(b)-l.minEntry() {
		return 0, damaged(16, "section", "a charset of "+num(high)+" bytes", "at most "+num(len(b)-l.minEntry()))
	}
	p.name = string(b[at : at+int(high)])
	at += int(high)
	if l.guid {
		at += copy(p.GUID[:], b[at:])
	}
	if l.size {
		p.DecodedSize = binary.BigEndian.Uint32(b[at:])
		at += 4
	}
	if l.lines {
		p.Lines = binary.BigEndian.Uint32(b[at:])
		at += 4
	}
	return at, nil
}

// Append appends the item as a cache version has it.
func (s *Section) Append(dst []byte, version uint16) []byte {
	l := layoutOfSection(version)
	for todo := []*Section{s}; len(todo) > 0; {
		node := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(node.Parts)))
		for i := range node.Parts {
			dst = node.Parts[i].append(dst, l)
		}
		for i := len(node.Parts) - 1; i >= 1; i-- {
			inside := node.Parts[i].Inside
			if inside == nil {
				inside = &Section{}
			}
			todo = append(todo, inside)
		}
	}
	return dst
}

func (p *SectionPart) append(dst []byte, l sectionLayout) []byte {
	for _, v := range []uint32{p.HeaderOffset, p.HeaderSize, p.ContentOffset, p.ContentSize} {
		dst = binary.BigEndian.AppendUint32(dst, v)
	}
	high := p.CharsetNumber
	if l.names {
		high = uint16(len(p.name))
	}
	dst = binary.BigEndian.AppendUint16(dst, high)
	dst = binary.BigEndian.AppendUint16(dst, p.Encoding)
	if l.names {
		dst = append(dst, p.name...)
	}
	if l.guid {
		dst = append(dst, p.GUID[:]...)
	}
	if l.size {
		dst = binary.BigEndian.AppendUint32(dst, p.DecodedSize)
	}
	if l.lines {
		dst = binary.BigEndian.AppendUint32(dst, p.Lines)
	}
	return dst
}
