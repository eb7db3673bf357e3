// Package message derives from a mail message what Cyrus IMAP 3.6 stores about it: the fields of its index record and its
// cache record of version 11, byte for byte.
//
// A message is read once, as a stream. What is kept of it are the headers of its parts, so memory is bounded by
// [Limits], whatever its size: to some 64 MB with the defaults, besides the record itself, and 100 KB for ordinary mail.
// The rules are Cyrus's own, with its quirks: they decide what a server answers, and a record that differs from the one
// Cyrus would write is a finding for its reconstruct. All comments that say "Cyrus" mean 3.6.1 with the default settings
// of maxheaderlines, boundary_limit, rfc2046_strict and rfc2047_utf8.
package message

import (
	"errors"
	"io"
	"time"
)

// CacheVersion is the version of the rules that [Message.AppendCache] follows, to be written into the index record.
const CacheVersion = 11

// ErrTooLarge is returned for a message of 4 GiB or more, whose size the index record cannot hold.
var ErrTooLarge = errors.New("message: 4 GiB or more")

// ErrEmpty is returned for a message without a byte. Cyrus refuses to parse it.
var ErrEmpty = errors.New("message: empty")

// sizeMax is the first size that does not fit the 32 bits of an index record.
const sizeMax = 1 << 32

// Limits bound what one message may occupy. Within them the cache record is the one of Cyrus; a message that exceeds
// one is still parsed, and [Message.Limited] says what is missing in its cache record. Zero fields mean the default.
type Limits struct {
	// Parts is how many entities are told apart, messages in messages included: 20,000. What follows the last one
	// counts as the end of the outermost multipart.
	Parts int
	// HeaderBytes is how much of all headers together is examined: 4 MiB. Sizes and offsets stay right beyond it.
	HeaderBytes int
	// Nested is how many message/rfc822 parts within each other get a content GUID: 100. Each costs a pass of SHA-1
	// over the bytes inside.
	Nested int
}

const (
	partsMax       = 20_000
	headerBytesMax = 4 << 20
	nestedMax      = 100
	// addressesMax bounds the elements of all address lists together.
	addressesMax = 200_000
	// headerLinesMax and boundariesMax are the defaults of Cyrus's maxheaderlines and boundary_limit.
	headerLinesMax = 1000
	boundariesMax  = 1000
)

// Message is what one message derives to. It is valid until the next call of its Parser.
type Message struct {
	// GUID is the SHA-1 of the whole message.
	GUID [20]byte
	// Size is its length, HeaderSize that of the top-level header with the empty line that ends it.
	Size, HeaderSize int64
	// Root is the message as an entity, with its parts.
	Root *Part
	// Headers are the header fields of the cache.
	Headers []byte
	// Limited is empty, or says which limit the message exceeded.
	Limited string
}

// Dates returns what the index record calls sentdate and gmtime, given the internal date and the time zone of the
// server: sentdate is the day that the Date header names, at midnight of the server's zone; gmtime is the instant.
// What the header does not tell comes from the internal date. A zone can make
// gmtime negative; the index record holds the low 32 bits.
func (m *Message) Dates(internal int64, zone *time.Location) (sent, gm int64) {
	if t, ok := parseDate(m.Root.Date, true, zone); ok {
		sent = t
	}
	if t, ok := parseDate(m.Root.Date, false, zone); ok {
		gm = t
	}
	if sent == 0 {
		y, mon, d := time.Unix(internal, 0).In(zone).Date()
		sent = time.Date(y, mon, d, 0, 0, 0, 0, zone).Unix()
	}
	if gm == 0 {
		gm = internal
	}
	return sent, gm
}

// Header returns where the header of an entity begins and ends, Content the same of its content. They are inside the
// message, even where the sizes that Cyrus records are not: after a header that is a lone line feed before a boundary,
// it counts that boundary line twice.
func (m *Message) Header(b *Part) (from, to int64) { return m.within(b.HeaderOffset, b.HeaderSize) }

// Content is described with [Message.Header].
func (m *Message) Content(b *Part) (from, to int64) { return m.within(b.ContentOffset, b.ContentSize) }

func (m *Message) within(from, size int64) (int64, int64) {
	from = min(from, m.Size)
	return from, min(from+max(size, 0), m.Size)
}

// Delivered returns the internal date that a delivery by LMTP gives to the message, if its headers tell one: that of
// X-DeliveredInternalDate, else that of the first Received.
func (m *Message) Delivered() (internal int64, ok bool) {
	if t, ok := parseDate(m.Root.deliveredDate, false, time.UTC); ok {
		return t, true
	}
	return parseDate(m.Root.receivedDate, false, time.UTC)
}

// Parser parses messages, one at a time. It keeps its memory from one to the next. Its zero value is ready for use.
type Parser struct {
	// Limits may be set before the first call.
	Limits Limits

	in       window
	again    io.ReaderAt // reads the message again, or nil
	msg      Message
	text     []byte   // kept header text; values of parts are slices of it or of memory of their own
	pending  [][]byte // the open boundaries, from the outermost
	slabs    [][]Part
	parts    int
	headers  int // bytes of headers kept
	nested   int // message/rfc822 parts that we are in and that are hashed
	lists    addressParser
	elements int // of address lists
	redo     []redo
}

// redo is a part whose content must be hashed in another pass, because its size says something else than what was read.
type redo struct {
	part *Part
	from int64
}

// Parse reads a message to its end. An error is one of the reader, [ErrEmpty] or [ErrTooLarge].
func (p *Parser) Parse(r io.Reader) (*Message, error) {
	p.again = nil
	return p.parse(r)
}

// ParseAt is [Parser.Parse] for a message that can be read again, which serves the content GUIDs of messages inside
// this one that have a NUL in their headers.
func (p *Parser) ParseAt(r io.ReaderAt, size int64) (*Message, error) {
	p.again = r
	return p.parse(io.NewSectionReader(r, 0, size))
}

func (p *Parser) parse(r io.Reader) (*Message, error) {
	p.reset(r)
	whole := p.in.begin(codingNone)
	root := p.part()
	p.body(root, false, true)
	// Whatever the structure says, all bytes are read: the GUID is that of the file.
	p.rest()
	if p.in.err != nil {
		return nil, p.in.err
	}
	m := &p.msg
	m.Size = p.in.offset()
	switch {
	case m.Size == 0:
		return nil, ErrEmpty
	case m.Size >= sizeMax:
		return nil, ErrTooLarge
	}
	m.GUID, _, _ = p.in.finish(whole, m.Size)
	m.Root, m.HeaderSize = root, root.HeaderSize
	if err := p.hashAgain(); err != nil {
		return nil, err
	}
	return m, nil
}

// reset prepares for the next message.
func (p *Parser) reset(r io.Reader) {
	l := &p.Limits
	l.Parts, l.HeaderBytes, l.Nested = orElse(l.Parts, partsMax), orElse(l.HeaderBytes, headerBytesMax), orElse(l.Nested, nestedMax)
	p.in.reset(r)
	p.msg = Message{Headers: p.msg.Headers[:0]}
	p.text, p.pending, p.redo = p.text[:0], p.pending[:0], p.redo[:0]
	if cap(p.text) > keepMax || len(p.slabs) > keepMax/(slabLen*256) || cap(p.msg.Headers) > keepMax {
		// One huge message is no reason to occupy its memory for ever.
		p.text, p.slabs, p.msg.Headers = nil, nil, nil
	}
	p.parts, p.headers, p.nested, p.elements = 0, 0, 0, 0
}

// keepMax is how much of each kind of memory a parser keeps for the next message.
const keepMax = 1 << 20

func orElse(n, standard int) int {
	if n <= 0 {
		return standard
	}
	return n
}

// slabLen is how many parts are allocated at once.
const slabLen = 8

// part returns the next unused part.
func (p *Parser) part() *Part {
	slab := p.parts / slabLen
	if slab == len(p.slabs) {
		p.slabs = append(p.slabs, make([]Part, slabLen))
	}
	part := &p.slabs[slab][p.parts%slabLen]
	p.parts++
	*part = Part{Parts: part.Parts[:0], From: part.From[:0], To: part.To[:0], Params: part.Params[:0],
		Sender: part.Sender[:0], ReplyTo: part.ReplyTo[:0], Cc: part.Cc[:0], Bcc: part.Bcc[:0],
		DispositionParams: part.DispositionParams[:0], Language: part.Language[:0]}
	return part
}

// limited remembers the first limit that was exceeded.
func (p *Parser) limited(what string) {
	if p.msg.Limited == "" {
		p.msg.Limited = what
	}
}

// rest reads what is left.
func (p *Parser) rest() {
	for p.in.more() {
		p.in.take(p.in.end - p.in.pos)
	}
}
