package message

import "bytes"

// header reads the header block of an entity and its fields, and tells whether a boundary line has ended it: then the
// entity has no content.
func (p *Parser) header(b *Part, top bool) (sawBoundary bool) {
	p.in.held = -1
	b.HeaderOffset = p.in.offset()
	block := headerBlock{start: len(p.text), nul: -1}
	for p.in.more() {
		if len(p.pending) > 0 && p.headerBoundary(b, &block) {
			sawBoundary = true
			break
		}
		if p.headerLine(&block) {
			break
		}
	}
	b.ContentOffset = p.in.offset()
	text := p.text[block.start:]
	whole := int64(len(text)) == block.size
	b.HeaderSize = block.size
	if block.nul >= 0 {
		b.HeaderSize = min(block.size, block.nul)
		text = text[:min(int64(len(text)), block.nul)]
	}
	if block.broken > 0 {
		// A lone line feed before the boundary: Cyrus takes that away but measures what follows.
		b.HeaderSize, b.headerLines = block.broken, -1
		return sawBoundary
	}
	b.headerLines = p.fields(b, text, top)
	if !whole {
		b.headerLines = block.lines
	}
	return sawBoundary
}

// headerBlock is what is known of a header block while it is read.
type headerBlock struct {
	start  int   // where it begins in Parser.text
	size   int64 // of the block so far, also of what is not kept
	nul    int64 // offset of the first NUL, -1 if there is none
	lines  int64 // line feeds before the first NUL
	broken int64 // size of a header that Cyrus measures wrongly
}

// headerLine takes the next line and tells whether it is the empty one that ends the block. A line that is only a line
// feed does not end it.
func (p *Parser) headerLine(block *headerBlock) (last bool) {
	for first := true; p.in.more(); first = false {
		line := p.in.ahead()
		i := bytes.IndexByte(line, '\n')
		if i < 0 && first && len(line) < 2 && p.in.need(len(line)+1) {
			line = p.in.ahead()
			i = bytes.IndexByte(line, '\n')
		}
		if i >= 0 {
			line = line[:i+1]
		}
		if block.nul < 0 {
			before := line
			if z := bytes.IndexByte(line, 0); z >= 0 {
				block.nul = block.size + int64(z)
				before = line[:z]
			}
			block.lines += int64(bytes.Count(before, newline))
		}
		p.keep(line)
		block.size += int64(len(line))
		p.in.take(len(line))
		if i >= 0 {
			return first && i == 1 && line[0] == '\r'
		}
	}
	return false
}

// keep keeps header text, as far as the limit allows.
func (p *Parser) keep(line []byte) {
	if room := p.Limits.HeaderBytes - p.headers; len(line) > room {
		p.limited("header bytes")
		line = line[:max(room, 0)]
	}
	p.headers += len(line)
	p.text = append(p.text, line...)
}

// headerBoundary tells whether a boundary line comes, and takes it then. The line break before it does not count as
// header.
func (p *Parser) headerBoundary(b *Part, block *headerBlock) bool {
	if !p.in.need(2) || p.in.buf[p.in.pos] != '-' || !p.headerBoundaryAhead() {
		return false
	}
	nul := p.in.lineNUL()
	n := p.in.takeLine()
	if nul >= 0 {
		n = nul
	}
	b.boundarySize, b.boundaryLines = n, 1
	switch {
	case block.size == 0:
		block.nul = 0
	case block.size == 1:
		block.broken = 1 + n
	default:
		cut := block.size - 2
		if block.nul < 0 || cut < block.nul {
			block.nul = cut
		}
	}
	if block.size > 0 {
		b.boundarySize += 2
		b.boundaryLines++
	}
	return true
}

// headerBoundaryAhead is boundaryAhead, for a line that ends at a NUL.
func (p *Parser) headerBoundaryAhead() bool {
	longest := 0
	for _, b := range p.pending {
		longest = max(longest, len(b))
	}
	p.in.need(longest + 8)
	line := p.in.ahead()
	line = line[:min(len(line), longest+8)]
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i+1]
	}
	if i := bytes.IndexByte(line, 0); i >= 0 {
		line = line[:i]
	}
	return p.isBoundary(line)
}

// lineNUL returns where in the line ahead, as far as it is in the window, the first NUL stands.
func (w *window) lineNUL() int64 {
	line := w.ahead()
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i]
	}
	return int64(bytes.IndexByte(line, 0))
}

// fields examines the fields of a header block and returns its number of lines.
func (p *Parser) fields(b *Part, text []byte, top bool) (lines int64) {
	for at := 0; ; lines++ {
		if lines > headerLinesMax {
			lines += int64(bytes.Count(text[at:], newline))
			break
		}
		line := text[at:]
		p.field(b, line, top)
		i := bytes.IndexByte(line, '\n')
		if i < 0 {
			break
		}
		at += i + 1
	}
	return lines
}

// nameMax is the length from which on a field name is never cached.
const nameMax = 32

// field looks at the line with which text begins and, if it begins a field of interest, at its value.
func (p *Parser) field(b *Part, text []byte, top bool) {
	var buf [nameMax]byte
	n := 0
	for ; n < len(text) && n < nameMax; n++ {
		c := text[n]
		if c == ':' {
			break
		}
		if c == '\r' || c == '\n' {
			return
		}
		buf[n] = lower(c)
	}
	if n == nameMax || n == len(text) {
		return
	}
	name, value := buf[:n], text[n+1:]
	if top && (n == 0 || !isBlank(text[0])) && cached(name) {
		p.msg.Headers = append(append(p.msg.Headers, fieldText(text)...), '\r', '\n')
	}
	if !p.addressField(b, name, value) {
		p.textField(b, name, value)
	}
}

// addressField handles the fields that hold addresses.
func (p *Parser) addressField(b *Part, name, value []byte) bool {
	var list *[]Address
	switch string(name) {
	case "from":
		list = &b.From
	case "sender":
		list = &b.Sender
	case "reply-to":
		list = &b.ReplyTo
	case "to":
		list = &b.To
	case "cc":
		list = &b.Cc
	case "bcc":
		list = &b.Bcc
	default:
		return false
	}
	p.lists.max = addressesMax - p.elements
	*list = p.lists.parse((*list)[:0], p.copyText(fieldText(value)))
	p.elements += len(*list)
	if p.elements > addressesMax {
		p.limited("addresses")
	}
	return true
}

// textField handles the other fields.
func (p *Parser) textField(b *Part, name, value []byte) {
	switch string(name) {
	case "subject":
		b.Subject = p.unfold(value)
	case "date":
		b.Date = p.unfold(value)
	case "message-id":
		b.MessageID = p.unfold(value)
	case "in-reply-to":
		b.InReplyTo = p.unfold(value)
	case "content-type":
		p.contentType(b, value)
	case "content-transfer-encoding":
		b.Encoding = parseEncoding(value)
	case "content-disposition":
		p.disposition(b, value)
	case "content-id":
		b.ID = p.unfold(value)
	case "content-description":
		b.Description = p.unfold(value)
	case "content-language":
		b.Language = parseLanguage(b.Language[:0], value)
	case "content-location":
		b.Location = p.unfold(value)
	case "content-md5":
		b.MD5 = p.unfold(value)
	case "received":
		if b.receivedDate == nil {
			b.receivedDate = p.received(value)
		}
	case "x-deliveredinternaldate":
		b.deliveredDate = p.unfold(value)
	}
}

// received returns what follows the last semicolon of a Received field, or all of it if there is none.
func (p *Parser) received(value []byte) []byte {
	text := p.unfold(value)
	if i := bytes.LastIndexByte(text, ';'); i > 0 {
		return bytes.TrimLeft(text[i+1:], " \t")
	}
	return text
}

// fieldText returns text up to the line feed that ends the field, or the CR before it. The first byte does not end it,
// even if it is a line feed.
func fieldText(text []byte) []byte {
	for i := 1; i < len(text); {
		n := bytes.IndexByte(text[i:], '\n')
		if n < 0 {
			return text
		}
		i += n + 1
		if i < len(text) && isBlank(text[i]) {
			continue
		}
		if i >= 2 && text[i-2] == '\r' {
			return text[:i-2]
		}
		return text[:i-1]
	}
	return text
}

// unfold returns the value of a text field, in one line. It is never nil.
func (p *Parser) unfold(value []byte) []byte {
	for len(value) > 0 && isBlank(value[0]) {
		value = value[1:]
	}
	value = fieldText(value)
	if bytes.IndexByte(value, '\n') < 0 {
		return value[:len(value):len(value)]
	}
	start := len(p.text)
	for _, c := range value {
		if c != '\n' {
			p.text = append(p.text, c)
		} else if n := len(p.text); n > start && p.text[n-1] == '\r' {
			p.text = p.text[:n-1]
		}
	}
	return p.text[start:len(p.text):len(p.text)]
}

// copyText copies bytes to memory that lives as long as the message.
func (p *Parser) copyText(b []byte) []byte {
	start := len(p.text)
	p.text = append(p.text, b...)
	return p.text[start:len(p.text):len(p.text)]
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		return c - ('a' - 'A')
	}
	return c
}

func upperCopy(b []byte) []byte {
	u := make([]byte, len(b))
	for i, c := range b {
		u[i] = upper(c)
	}
	return u
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isAlpha(c byte) bool { return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' }
