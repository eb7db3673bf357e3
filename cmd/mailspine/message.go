package main

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/message"
	"github.com/mailspine/mailspine/internal/vfs"
)

func newMessage(s streams) *cobra.Command {
	var f boxFlags
	c := newBoxCommand("message", "Look at the messages of a mailbox, change them, and see what a message derives to",
		"Look at the messages of a mailbox, change them, and see what a message derives to.", &f)
	c.AddCommand(
		f.command(s, &cobra.Command{
			Use: "list MAILBOX", Short: "List the messages: sequence number, UID, time, size, flags, subject",
			Long: "List the messages that are not expunged, a line each with tabs between: sequence number, UID, time of arrival, size,\n" +
				"flags, subject. JSON has the path of the message file, too.",
			Args: cobra.ExactArgs(1),
		}, boxExits(headerDoubt), (*box).listMessages),
		f.command(s, &cobra.Command{
			Use: "cat MAILBOX UID...", Short: "Print messages as they are in the spool, expunged ones too", Args: cobra.MinimumNArgs(2),
		}, boxExits("there is no such message"), (*box).catMessages),
		parseCommand(s),
		f.appendCommand(s), f.flagCommand(s), f.expungeCommand(s), f.unexpungeCommand(s), f.transferCommand(s, false), f.transferCommand(s, true),
	)
	return c
}

// listedMessageJSON is a line of message list in JSON.
type listedMessageJSON struct {
	Sequence int `json:"sequence"`
	indexRecordJSON
	Subject string `json:"subject"`
	Path    string `json:"path"`
}

func (b *box) listMessages([]string) error {
	sequence := 0
	var p message.Parser
	return b.namedList(nil, func(m *index.Mailbox, l *list, _ index.RecordNo, r *index.Record) error {
		if r.Expunged() {
			return nil
		}
		sequence++
		h, err := m.HeaderFile()
		if err != nil {
			return err
		}
		j := listedMessageJSON{sequence, indexRecord(h, r), subject(m, r, &p), m.Place().Message(r)}
		if !b.out.text() {
			return l.add(j)
		}
		_, err = fmt.Fprintf(l.w, "%d\t%d\t%s\t%d\t%s\t%s\n", j.Sequence, j.UID, unixTime(j.InternalDate), j.Size, strings.Join(j.Flags, " "), j.Subject)
		return err
	})
}

// subject is that of the cached envelope, or of the message itself where there is none; decoded, on one line.
func subject(m *index.Mailbox, r *index.Record, p *message.Parser) string {
	raw := ""
	if c, err := m.Cache(r); err == nil {
		raw = envelopeSubject(c.Item(index.CacheEnvelope))
	} else if body, err := m.Body(r); err == nil {
		if parsed, err := p.ParseAt(body, body.Size()); err == nil {
			raw = string(parsed.Root.Subject)
		}
		_ = body.Close()
	}
	if decoded, err := new(mime.WordDecoder).DecodeHeader(raw); err == nil {
		raw = decoded
	}
	return printableText([]byte(strings.ReplaceAll(raw, "\t", " ")))
}

// envelopeSubject is the second string of an envelope, "" if it is NIL.
func envelopeSubject(envelope []byte) string {
	rest := strings.TrimPrefix(string(envelope), "(")
	_, rest = envelopeString(rest)
	s, _ := envelopeString(strings.TrimPrefix(rest, " "))
	return s
}

// envelopeString reads one string of an envelope: quoted, a literal, or NIL.
func envelopeString(text string) (s, rest string) {
	switch {
	case strings.HasPrefix(text, "\""):
		var b strings.Builder
		for i := 1; i < len(text); i++ {
			if text[i] == '"' {
				return b.String(), text[i+1:]
			}
			if text[i] == '\\' && i+1 < len(text) {
				i++
			}
			b.WriteByte(text[i])
		}
		return b.String(), ""
	case strings.HasPrefix(text, "{"):
		n := 0
		if _, err := fmt.Sscanf(text, "{%d}", &n); err != nil || n < 0 {
			return "", ""
		}
		_, text, _ = strings.Cut(text, "\n")
		n = min(n, len(text))
		return text[:n], text[n:]
	}
	return "", strings.TrimPrefix(text, "NIL")
}

func (b *box) catMessages(args []string) error {
	uids, err := uidArgs(args)
	if err != nil {
		return err
	}
	return b.open(func(m *index.Mailbox) error {
		var lost error
		err := b.records(m, uids, func(_ index.RecordNo, r *index.Record) error {
			body, err := m.Body(r)
			if errors.Is(err, fs.ErrNotExist) {
				lost = errors.Join(lost, fmt.Errorf("UID %d: %w", r.UID, err))
				return nil // the others are there nevertheless
			}
			if err != nil {
				return err
			}
			sum := sha1.New()
			_, err = io.Copy(io.MultiWriter(b.out.w, sum), body)
			if guid := index.GUID(sum.Sum(nil)); err == nil && r.GUID != (index.GUID{}) && guid != r.GUID {
				lost = errors.Join(lost, fmt.Errorf("UID %d: %s is not the message that was stored: its id is %s, and %s in the index: %w",
					r.UID, m.Place().Message(r), guid, r.GUID, index.ErrDamaged))
			}
			return errors.Join(err, body.Close())
		})
		return errors.Join(err, lost)
	})
}

func parseCommand(s streams) *cobra.Command {
	var internal int64
	c := &cobra.Command{
		Use: "parse [FILE]", Short: "Print what Cyrus derives from a message: index record and cache record",
		Long: "Print what Cyrus 3.6 derives from a message, a file or standard input: GUID, sizes, dates, and the cache record with\n" +
			"envelope, structure, sections, headers and search strings. No mailbox is needed. Lines have to end as in the spool, with CR LF.\n\n" +
			"A message that exceeds a limit (" + limitsHelp + ") is parsed as far as that goes; \"limited\" tells so.\n\n" +
			exitHelp(map[int]string{exitNo: "the message is empty: Cyrus makes no records of it", exitDamage: "", exitFailed: "the message cannot be read"}),
		Example: "  mailspine message parse mail.eml --json",
		Args:    cobra.MaximumNArgs(1),
	}
	c.Flags().Int64Var(&internal, "internaldate", 0, "time of arrival, in seconds since 1970; what the headers tell of it if not given")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		out, err := newOutput(cmd, s)
		if err != nil {
			return err
		}
		m, err := parseMessage(&interruptible{ctx: cmd.Context(), in: cmd.InOrStdin()}, args)
		if errors.Is(err, message.ErrEmpty) {
			return errors.Join(printEmpty(out), &exitError{exitNo, nil})
		}
		if err != nil {
			return err
		}
		if !cmd.Flags().Changed("internaldate") {
			if told, ok := m.Delivered(); ok {
				internal = told
			}
		}
		return printParsed(out, m, internal)
	}
	return c
}

// parseMessage parses a file, or standard input if there is none.
func parseMessage(stdin io.Reader, args []string) (m *message.Message, err error) {
	var p message.Parser
	if len(args) == 0 || args[0] == "-" {
		return p.Parse(stdin)
	}
	f, err := vfs.OS().Open(args[0], vfs.ReadOnly, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if m, err = p.ParseAt(f, info.Size); err != nil {
		return nil, &os.PathError{Op: "parse", Path: args[0], Err: err}
	}
	return m, nil
}

const limitsHelp = "20,000 parts, 4 MiB of headers, 100 content GUIDs of messages in messages"

// printEmpty prints what can be told of a message without a byte, which is what a disk that was full may have left.
func printEmpty(out output) error {
	guid := index.GUID(sha1.Sum(nil)).String()
	const reason = "the message is empty: Cyrus refuses to parse it"
	return out.result(map[string]any{"guid": guid, "size": 0, "header_size": 0, "limited": reason}, func(w io.Writer) {
		row := rowPrinter(w)
		row("GUID", "%s", guid)
		row("size", "0 bytes")
		row("limited", "%s", reason)
	})
}

func printParsed(out output, m *message.Message, internal int64) error {
	var c index.CacheRecord
	if err := c.Decode(m.AppendCache(nil)); err != nil {
		return err
	}
	sent, gm := m.Dates(internal, time.Local)
	guid := index.GUID(m.GUID).String()
	j := cacheJSON(c, message.CacheVersion)
	j["guid"], j["size"], j["header_size"], j["sentdate"], j["gmtime"] = guid, m.Size, m.HeaderSize, sent, gm
	if m.Limited != "" {
		j["limited"] = m.Limited
	}
	return out.result(j, func(w io.Writer) {
		row := rowPrinter(w)
		row("GUID", "%s", guid)
		row("size", "%d bytes, of which the header has %d", m.Size, m.HeaderSize)
		row("sentdate", "%d, %s", sent, unixTime(sent))
		row("gmtime", "%d, %s", gm, unixTime(gm))
		row("cache record", "%s, version %d, checksum %08x", plural(c.Len(), "byte"), message.CacheVersion, c.Checksum())
		if m.Limited != "" {
			row("limited", "%s", m.Limited)
		}
		printCache(w, c, message.CacheVersion)
	})
}
