package message

import "bytes"

// Part is an entity: the message itself, a part of a multipart, or a message inside a message/rfc822 part. Text fields
// are nil if the header is absent; they hold the bytes of the message, unfolded and without further decoding.
type Part struct {
	// Type and Subtype are in upper case, and never nil.
	Type, Subtype []byte
	Params        []Param
	// Encoding is the content transfer encoding in upper case.
	ID, Description, Encoding, MD5, Location []byte
	Disposition                              []byte
	DispositionParams                        []Param
	Language                                 [][]byte

	// HeaderOffset and ContentOffset count from the start of the message. HeaderSize includes the empty line. They are
	// as Cyrus records them: to read, ask [Message.Header] and [Message.Content].
	HeaderOffset, HeaderSize   int64
	ContentOffset, ContentSize int64
	ContentLines               int64
	// ContentGUID is the SHA-1 of the decoded content, DecodedSize its length; zero for a multipart and where the
	// encoding is not known.
	ContentGUID [20]byte
	DecodedSize int64

	// Parts are those of a multipart, or the one message of a message/rfc822.
	Parts []*Part

	// The fields of the envelope matter for the message itself and for messages inside it.
	Date, Subject, InReplyTo, MessageID      []byte
	From, Sender, ReplyTo, To, Cc, Bcc       []Address
	receivedDate, deliveredDate              []byte
	headerLines, boundarySize, boundaryLines int64
}

// Param is a parameter of Content-Type or Content-Disposition, its name in upper case.
type Param struct{ Name, Value []byte }

// Multipart tells whether the type is multipart, which says nothing about whether it has parts.
func (b *Part) Multipart() bool { return string(b.Type) == "MULTIPART" }

// Message tells whether the type is message/rfc822: then Parts holds one part, the message inside.
func (b *Part) Message() bool { return string(b.Type) == "MESSAGE" && string(b.Subtype) == "RFC822" }

// parts is the number of parts of a multipart.
func (b *Part) numParts() int {
	if b.Message() {
		return 0
	}
	return len(b.Parts)
}

// body parses an entity, up to the boundary line that ends it or the end of the message. inDigest is set directly
// inside a multipart/digest.
func (p *Parser) body(b *Part, inDigest, top bool) {
	sawBoundary := p.header(b, top)
	if b.Type == nil {
		b.setDefaultType(inDigest)
	}
	switch {
	case b.Multipart():
		if !sawBoundary {
			p.multipart(b)
		}
	case b.Message():
		p.inner(b, sawBoundary)
	case !sawBoundary:
		p.content(b, true)
	}
}

// setDefaultType is for an entity without a valid Content-Type.
func (b *Part) setDefaultType(inDigest bool) {
	if inDigest {
		b.Type, b.Subtype = []byte("MESSAGE"), []byte("RFC822")
		return
	}
	b.Type, b.Subtype = textType, plainType
	b.Params = append(b.Params[:0], Param{charsetName, asciiName})
}

var (
	textType    = []byte("TEXT")
	plainType   = []byte("PLAIN")
	charsetName = []byte("CHARSET")
	asciiName   = []byte("us-ascii")
)

// inner parses the message inside a message/rfc822 part. If a boundary has ended the part's header there is none, and
// an empty one stands for it.
func (p *Parser) inner(b *Part, sawBoundary bool) {
	if sawBoundary || p.parts >= p.Limits.Parts {
		if len(b.Parts) == 0 {
			b.Parts = append(b.Parts, &Part{})
		}
		b.Parts[0].setDefaultType(false)
		if !sawBoundary {
			p.limited("parts")
			p.content(b, true)
		}
		return
	}
	from := p.in.offset()
	var hash *region
	if p.nested < p.Limits.Nested {
		hash = p.in.begin(codingNone)
	} else {
		p.limited("nested messages")
	}
	p.nested++
	sub := p.part()
	b.Parts = append(b.Parts, sub)
	p.body(sub, false, false)
	p.nested--
	b.ContentSize = sub.HeaderSize + sub.ContentSize
	b.ContentLines = sub.headerLines + sub.ContentLines
	b.boundarySize, b.boundaryLines = sub.boundarySize, sub.boundaryLines
	if hash == nil {
		return
	}
	// A NUL in a header inside makes the size smaller than the content, and Cyrus hashes as many bytes as the size
	// says: they are over by now.
	guid, size, ok := p.in.finish(hash, from+b.ContentSize)
	if ok {
		b.ContentGUID, b.DecodedSize = guid, size
	} else {
		p.redo = append(p.redo, redo{b, from})
	}
}

// multipart parses preamble, parts and epilogue.
func (p *Parser) multipart(b *Part) {
	boundary, ok := b.boundary()
	if !ok {
		p.content(b, true)
		return
	}
	digest := string(b.Subtype) == "DIGEST"
	p.pending = append(p.pending, boundary)
	depth := len(p.pending)
	var preamble, epilogue Part
	p.content(&preamble, false)
	for len(p.pending) == depth && depth < boundariesMax {
		if p.parts >= p.Limits.Parts {
			p.limited("parts")
			p.pending = p.pending[:0]
			break
		}
		sub := p.part()
		p.body(sub, digest, false)
		if !p.in.more() && sub.boundarySize == 0 {
			// The message is over, and with it all multiparts.
			p.pending = p.pending[:0]
		}
		b.Parts = append(b.Parts, sub)
	}
	switch n := len(b.Parts); {
	case len(p.pending) == depth-1:
		p.content(&epilogue, false)
	case n > 0:
		// The boundary of an enclosing multipart has ended the last part, and this one too.
		last := b.Parts[n-1]
		b.boundarySize, b.boundaryLines = last.boundarySize, last.boundaryLines
		last.boundarySize, last.boundaryLines = 0, 0
	default:
		b.boundarySize, b.boundaryLines = preamble.boundarySize, preamble.boundaryLines
		preamble.boundarySize, preamble.boundaryLines = 0, 0
	}
	b.ContentSize = preamble.ContentSize + preamble.boundarySize + epilogue.ContentSize
	b.ContentLines = preamble.ContentLines + preamble.boundaryLines + epilogue.ContentLines
	for _, sub := range b.Parts {
		b.ContentSize += sub.HeaderSize + sub.ContentSize + sub.boundarySize
		b.ContentLines += sub.headerLines + sub.ContentLines + sub.boundaryLines
	}
	b.boundarySize += epilogue.boundarySize
	b.boundaryLines += epilogue.boundaryLines
}

// boundary returns the boundary parameter.
func (b *Part) boundary() ([]byte, bool) {
	for _, param := range b.Params {
		switch string(param.Name) {
		case "BOUNDARY":
			return param.Value, true
		case "BOUNDARY*":
			if v, ok := decodeExtended(param.Value); ok {
				return v, true
			}
			return param.Value, true
		}
	}
	return nil, false
}

// content reads a leaf's content, or a preamble or epilogue, up to the boundary line that ends it or the end of the
// message.
func (p *Parser) content(b *Part, wanted bool) {
	from := p.in.offset()
	var hash *region
	if coding := b.coding(); wanted && coding != codingUnknown {
		hash = p.in.begin(coding)
	}
	matched := p.lines(b)
	if matched {
		b.boundaryLines++
		if b.ContentLines > 0 {
			b.ContentLines--
			b.boundaryLines++
		}
		if b.ContentSize > 1 {
			// The line break before a boundary belongs to it, and Cyrus does not look whether it is CRLF.
			b.ContentSize -= 2
			b.boundarySize += 2
		}
	}
	if hash != nil {
		b.ContentGUID, b.DecodedSize, _ = p.in.finish(hash, from+b.ContentSize)
	}
	if matched {
		b.boundarySize += p.in.takeLine()
	}
}

var lineThenDashes = []byte("\n--")

// lines reads lines until one is a boundary, which it leaves to be read, and tells whether it found one.
func (p *Parser) lines(b *Part) bool {
	p.in.held = -1
	atStart := true
	for p.in.more() {
		if atStart && len(p.pending) > 0 && p.boundaryAhead() {
			return true
		}
		ahead := p.in.ahead()
		n := len(ahead)
		if len(p.pending) > 0 {
			if i := bytes.Index(ahead[:n], lineThenDashes); i >= 0 {
				n = i + 1
			} else if !p.in.eof {
				// A line break or a dash at the end may be the start of what we look for.
				if n <= 2 {
					p.in.need(n + 1)
					continue
				}
				n -= 2
			}
		}
		b.ContentSize += int64(n)
		b.ContentLines += int64(bytes.Count(ahead[:n], newline))
		atStart = ahead[n-1] == '\n'
		p.in.take(n)
	}
	return false
}

var newline = []byte("\n")

// boundaryAhead tells whether the line that comes is a boundary line, and closes what it closes.
func (p *Parser) boundaryAhead() bool {
	if !p.in.need(2) || p.in.buf[p.in.pos] != '-' || p.in.buf[p.in.pos+1] != '-' {
		return false
	}
	longest := 0
	for _, b := range p.pending {
		longest = max(longest, len(b))
	}
	// With four bytes more than the longest boundary, the length of the line does not matter.
	p.in.need(longest + 8)
	line := p.in.ahead()
	line = line[:min(len(line), longest+8)]
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i+1]
	}
	return p.isBoundary(line)
}

// isBoundary tells whether a line, of which the start is enough, is a boundary line of one of the open multiparts, and
// closes the multiparts that it ends. It asks from the outermost on: where an inner multipart was never closed, its
// parent's separator separates its parts.
func (p *Parser) isBoundary(line []byte) bool {
	if len(line) < 2 || line[0] != '-' || line[1] != '-' {
		return false
	}
	line = line[2:]
	for i, b := range p.pending {
		n := len(b)
		if !bytes.HasPrefix(line, b) {
			continue
		}
		rest := line[n:]
		if len(rest) >= 2 && rest[0] == '-' && rest[1] == '-' {
			p.pending = p.pending[:i]
		} else if len(rest) > 1 && rest[0] != 0 && !isSpace(rest[0]) {
			continue // the start of a longer boundary
		}
		return true
	}
	return false
}
