package realcyrus

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// Filled says what [Server.Fill] made.
type Filled struct {
	// Users are the login names, Mailboxes the full names of all mailboxes in the order of making.
	Users, Mailboxes []string
	// Appended is the number of messages stored, Expunged how many of them were removed again (delayed: their files
	// are still there).
	Appended, Expunged int
}

// fillFlags are what a message may be stored with.
var fillFlags = []string{"", `\Seen`, `\Seen \Answered`, `\Flagged`, "$Label1", `Junk \Seen`}

// Fill makes users u000, u001, ... that can log in, each with INBOX and folders-1 further mailboxes of msgs messages, in
// which everything varies that the server's files record: MIME structure, header forms, charsets, flags, dates, quotas
// and, from ten messages on, expunged ones. The same seed gives the same mail.
func (s *Server) Fill(t testing.TB, users, folders, msgs int, seed uint64) Filled {
	t.Helper()
	filled, err := s.fill(users, folders, msgs, seed)
	if err != nil {
		t.Fatalf("fill the server: %v\n%s", err, s.log)
	}
	return filled
}

func (s *Server) fill(users, folders, msgs int, seed uint64) (Filled, error) {
	var filled Filled
	c, err := s.Login(AdminUser)
	if err != nil {
		return filled, err
	}
	defer c.conn.Close()
	g := &mailGen{rnd: rand.New(rand.NewPCG(seed, 0))}
	for u := range users {
		user := fmt.Sprintf("u%03d", u)
		if err := s.AddUser(user); err != nil {
			return filled, err
		}
		filled.Users = append(filled.Users, user)
		root := "user" + s.Separator() + user
		for f := range max(folders, 1) {
			name := root
			if f > 0 {
				name += fmt.Sprintf("%sF%d", s.Separator(), f)
			}
			if err := s.fillMailbox(c, g, name, msgs, &filled); err != nil {
				return filled, fmt.Errorf("mailbox %s: %w", name, err)
			}
		}
		if _, err := c.Cmd("SETQUOTA %s (STORAGE 1000000 MESSAGE 100000)", Quote(root)); err != nil {
			return filled, err
		}
	}
	return filled, c.Close()
}

// fillMailbox makes and fills one mailbox and sets or removes some flags afterwards.
func (s *Server) fillMailbox(c *Client, g *mailGen, name string, msgs int, filled *Filled) error {
	quoted := Quote(name)
	for _, command := range []string{"CREATE " + quoted, "SETACL " + quoted + " cyrus lrswipkxtecda"} {
		if _, err := c.Cmd("%s", command); err != nil {
			return err
		}
	}
	filled.Mailboxes = append(filled.Mailboxes, name)
	for range msgs {
		filled.Appended++
		date := time.Unix(1600000000+int64(filled.Appended)*60, 0).UTC()
		flags := fillFlags[g.rnd.IntN(len(fillFlags))]
		if err := c.Append(name, flags, date, g.message(filled.Appended)); err != nil {
			return err
		}
	}
	if msgs < 10 {
		return nil
	}
	filled.Expunged += 2
	for _, command := range []string{
		"SELECT " + quoted, `STORE 2:3 +FLAGS (\Deleted)`, `STORE 5 +FLAGS (\Draft $Label2)`, `STORE 6:7 -FLAGS (\Seen)`,
		"EXPUNGE", "UNSELECT",
	} {
		if _, err := c.Cmd("%s", command); err != nil {
			return err
		}
	}
	return nil
}

// mailGen invents messages.
type mailGen struct{ rnd *rand.Rand }

var words = strings.Fields("alpha beta gamma delta Überraschung naïve 漢字 résumé quota mailbox skiplist crash disk full " +
	"recover ship harbour")

// Message invents message number n of the given seed, with CRLF line ends, as [Server.Fill] does.
func Message(seed uint64, n int) []byte {
	g := &mailGen{rnd: rand.New(rand.NewPCG(seed, uint64(n)))}
	return g.message(n)
}

// message invents one: a plain text, an alternative, or a mixed one with an attachment and sometimes a message inside.
func (g *mailGen) message(n int) []byte {
	date := time.Unix(1600000000+g.rnd.Int64N(1e8), 0).UTC().Format(time.RFC1123Z)
	subject := words[g.rnd.IntN(len(words))]
	if g.rnd.IntN(2) == 0 {
		subject = "=?utf-8?b?" + base64.StdEncoding.EncodeToString([]byte(g.line(3))) + "?="
	}
	head := []string{
		fmt.Sprintf("From: =?utf-8?q?S=C3=B8ren?= <s%d@example.org>", n),
		fmt.Sprintf(`To: "Doe, Jane" <jane%d@example.com>, undisclosed:;`, n%7),
		fmt.Sprintf("Cc: c%d@example.net", n),
		fmt.Sprintf("Subject: %s %d", subject, n),
		"Date: " + date,
		fmt.Sprintf("Message-ID: <%d.%x@example.org>", n, g.rnd.Uint64()),
		"X-Mailer: fill",
		"References: <a@b>",
		" <c@d>",
		"MIME-Version: 1.0",
	}
	kind, boundary := g.rnd.IntN(10), fmt.Sprintf("b%dx", n)
	var body []string
	switch {
	case kind < 4:
		body = append([]string{"Content-Type: text/plain; charset=utf-8", ""}, g.lines(1+g.rnd.IntN(60))...)
	case kind < 7:
		body = g.alternative("a" + boundary)
	default:
		body = []string{"Content-Type: multipart/mixed; boundary=" + boundary, "", "preamble", "--" + boundary}
		body = append(append(body, g.alternative("a"+boundary)...), "--"+boundary)
		body = append(body, g.attachment(n)...)
		if kind == 9 {
			body = append(body, "--"+boundary, "Content-Type: message/rfc822", "", fmt.Sprintf("Subject: inner %d", n),
				"From: x@y", "")
			body = append(body, g.lines(5)...)
		}
		body = append(body, "--"+boundary+"--")
	}
	return []byte(strings.Join(append(head, body...), "\r\n") + "\r\n")
}

// alternative is a text and an HTML part.
func (g *mailGen) alternative(boundary string) []string {
	part := []string{`Content-Type: multipart/alternative; boundary="` + boundary + `"`, "", "--" + boundary,
		"Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", ""}
	part = append(part, g.lines(10)...)
	part = append(part, "--"+boundary, "Content-Type: text/html", "", "<p>"+g.line(40)+"</p>")
	return append(part, "--"+boundary+"--")
}

// attachment is a base64 part of random bytes.
func (g *mailGen) attachment(n int) []string {
	data := make([]byte, 100+g.rnd.IntN(8900))
	for i := range data {
		data[i] = byte(g.rnd.Uint32())
	}
	part := []string{fmt.Sprintf(`Content-Type: application/pdf; name="f%d.pdf"`, n), "Content-Transfer-Encoding: base64",
		fmt.Sprintf("Content-Disposition: attachment; filename*=utf-8''f%%C3%%A4%d.pdf", n), ""}
	for text := base64.StdEncoding.EncodeToString(data); text != ""; {
		cut := min(76, len(text))
		part, text = append(part, text[:cut]), text[cut:]
	}
	return part
}

// lines is some lines of words, line one of the given number.
func (g *mailGen) lines(count int) (list []string) {
	for range count {
		list = append(list, g.line(4+g.rnd.IntN(9)))
	}
	return list
}

func (g *mailGen) line(count int) string {
	list := make([]string, count)
	for i := range list {
		list[i] = words[g.rnd.IntN(len(words))]
	}
	return strings.Join(list, " ")
}
