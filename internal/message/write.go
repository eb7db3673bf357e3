package message

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strconv"
)

// AppendCache appends the message's cache record, as it stands in cyrus.cache: ten items, each with its length before
// and padding behind it. Its CRC goes into the index record.
func (m *Message) AppendCache(dst []byte) []byte {
	dst = appendItem(dst, m.Root.appendEnvelope)
	dst = appendItem(dst, m.AppendBodyStructure)
	dst = appendItem(dst, func(b []byte) []byte { return m.Root.appendBody(b, false) })
	dst = appendItem(dst, m.appendSection)
	dst = appendItem(dst, func(b []byte) []byte { return append(b, m.Headers...) })
	for _, list := range [][]Address{m.Root.From, m.Root.To, m.Root.Cc, m.Root.Bcc} {
		dst = appendItem(dst, func(b []byte) []byte { return appendSearch(b, list) })
	}
	return appendItem(dst, m.appendSubject)
}

// CacheCRC is the checksum of a cache record that the index record holds.
func CacheCRC(record []byte) uint32 { return crc32.ChecksumIEEE(record) }

// AppendEnvelope appends the IMAP envelope.
func (m *Message) AppendEnvelope(dst []byte) []byte { return m.Root.appendEnvelope(dst) }

// AppendBodyStructure appends the IMAP body structure with its extension data.
func (m *Message) AppendBodyStructure(dst []byte) []byte { return m.Root.appendBody(dst, true) }

func appendItem(dst []byte, text func([]byte) []byte) []byte {
	start := len(dst)
	dst = text(append(dst, 0, 0, 0, 0))
	n := len(dst) - start - 4
	binary.BigEndian.PutUint32(dst[start:], uint32(n))
	for ; n%4 != 0; n++ {
		dst = append(dst, 0)
	}
	return dst
}

// quotedLen is the length from which on a string is a literal.
const quotedLen = 1024

// appendNString appends a quoted string, a literal, or NIL for nil.
func appendNString(dst, s []byte) []byte {
	if s == nil {
		return append(dst, "NIL"...)
	}
	if len(s) < quotedLen && quotable(s) {
		dst = append(dst, '"')
		dst = append(dst, s...)
		return append(dst, '"')
	}
	dst = append(dst, '{')
	dst = strconv.AppendInt(dst, int64(len(s)), 10)
	dst = append(dst, "}\r\n"...)
	return append(dst, s...)
}

func quotable(s []byte) bool {
	for _, c := range s {
		if c >= 0x80 || c == 0 || c == '\r' || c == '\n' || c == '"' || c == '%' || c == '\\' {
			return false
		}
	}
	return true
}

// spaced appends a space and a string.
func spaced(dst, s []byte) []byte { return appendNString(append(dst, ' '), s) }

func (b *Part) appendEnvelope(dst []byte) []byte {
	dst = appendNString(append(dst, '('), b.Date)
	dst = spaced(dst, b.Subject)
	sender, replyTo := b.Sender, b.ReplyTo
	if len(sender) == 0 {
		sender = b.From
	}
	if len(replyTo) == 0 {
		replyTo = b.From
	}
	for _, list := range [][]Address{b.From, sender, replyTo, b.To, b.Cc, b.Bcc} {
		dst = appendAddresses(append(dst, ' '), list)
	}
	dst = spaced(dst, b.InReplyTo)
	dst = spaced(dst, b.MessageID)
	return append(dst, ')')
}

func appendAddresses(dst []byte, list []Address) []byte {
	if len(list) == 0 {
		return appendNString(dst, nil)
	}
	dst = append(dst, '(')
	for _, a := range list {
		dst = appendNString(append(dst, '('), a.Name)
		dst = spaced(dst, a.Route)
		dst = spaced(dst, a.Mailbox)
		dst = spaced(dst, a.Host)
		dst = append(dst, ')')
	}
	return append(dst, ')')
}

// emptyText stands for a multipart without parts.
var emptyText = &Part{Type: textType, Subtype: plainType, Params: []Param{{charsetName, asciiName}}}

// appendBody appends BODYSTRUCTURE, or without extension data BODY.
func (b *Part) appendBody(dst []byte, extended bool) []byte {
	if b.Multipart() {
		if len(b.Parts) == 0 {
			return emptyText.appendBody(dst, extended)
		}
		dst = append(dst, '(')
		for _, sub := range b.Parts {
			dst = sub.appendBody(dst, extended)
		}
		dst = spaced(dst, b.Subtype)
		if extended {
			dst = appendParams(append(dst, ' '), b.Params)
			dst = b.appendExtension(dst)
		}
		return append(dst, ')')
	}
	dst = appendNString(append(dst, '('), b.Type)
	dst = spaced(dst, b.Subtype)
	dst = appendParams(append(dst, ' '), b.Params)
	dst = spaced(dst, b.ID)
	dst = spaced(dst, b.Description)
	encoding := b.Encoding
	if encoding == nil {
		encoding = sevenBit
	}
	dst = spaced(dst, encoding)
	dst = appendNumber(dst, b.ContentSize)
	switch {
	case string(b.Type) == "TEXT":
		dst = appendNumber(dst, b.ContentLines)
	case b.Message():
		dst = b.Parts[0].appendEnvelope(append(dst, ' '))
		dst = b.Parts[0].appendBody(append(dst, ' '), extended)
		dst = appendNumber(dst, b.ContentLines)
	}
	if extended {
		dst = spaced(dst, b.MD5)
		dst = b.appendExtension(dst)
	}
	return append(dst, ')')
}

// appendNumber appends a space and a number, in the 32 bits that Cyrus has for it.
func appendNumber(dst []byte, n int64) []byte {
	return strconv.AppendUint(append(dst, ' '), uint64(uint32(n)), 10)
}

// appendExtension appends disposition, language and location.
func (b *Part) appendExtension(dst []byte) []byte {
	if b.Disposition == nil {
		dst = spaced(dst, nil)
	} else {
		dst = appendNString(append(dst, " ("...), b.Disposition)
		dst = appendParams(append(dst, ' '), b.DispositionParams)
		dst = append(dst, ')')
	}
	if len(b.Language) == 0 {
		dst = spaced(dst, nil)
	} else {
		dst = append(dst, ' ')
		for i, tag := range b.Language {
			dst = appendNString(append(dst, "( "[min(i, 1)]), tag)
		}
		dst = append(dst, ')')
	}
	return spaced(dst, b.Location)
}

func appendParams(dst []byte, params []Param) []byte {
	if len(params) == 0 {
		return appendNString(dst, nil)
	}
	for i, param := range params {
		dst = append(dst, "( "[min(i, 1)])
		dst = appendNString(dst, param.Name)
		dst = spaced(dst, param.Value)
	}
	return append(dst, ')')
}

// appendSubject appends the decoded subject.
func (m *Message) appendSubject(dst []byte) []byte {
	if m.Root.Subject == nil {
		return appendNString(dst, nil)
	}
	if plain(m.Root.Subject) {
		return appendNString(dst, m.Root.Subject)
	}
	return appendNString(dst, decodeWords([]byte{}, m.Root.Subject))
}

// appendSearch appends an address list in the form that searches look at.
func appendSearch(dst []byte, list []Address) []byte {
	comma := false
	for _, a := range list {
		if a.Host == nil && a.Mailbox == nil {
			dst = append(dst, ';')
			comma = true
			continue
		}
		if comma {
			dst = append(dst, ',')
		}
		if a.Host == nil {
			dst = append(decodeWords(dst, a.Mailbox), ':')
			comma = false
			continue
		}
		if a.Name != nil {
			dst = append(appendName(dst, a.Name), ' ')
		}
		dst = append(dst, '<')
		if a.Route != nil {
			dst = append(appendLower(dst, a.Route), ':')
		}
		dst = append(appendLower(dst, a.Mailbox), '@')
		dst = append(appendLower(dst, a.Host), '>')
		comma = true
	}
	return dst
}

func appendLower(dst, s []byte) []byte {
	for _, c := range s {
		dst = append(dst, lower(c))
	}
	return dst
}

// appendName appends a display name, decoded, and in quotes if it is not made of atoms.
func appendName(dst, name []byte) []byte {
	start := len(dst)
	dst = decodeWords(dst, name)
	atoms := true
	for _, c := range dst[start:] {
		if !isAlpha(c) && !isDigit(c) && !isSpace(c) && indexByte("!#$%&'*+-/=?^_`{|}~", c) < 0 {
			atoms = false
			break
		}
	}
	if atoms {
		return dst
	}
	text := bytes.Clone(dst[start:])
	dst = append(dst[:start], '"')
	for _, c := range text {
		if c == '\\' || c == '"' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
