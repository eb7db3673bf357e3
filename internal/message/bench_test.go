package message

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// smallMail is an ordinary message of 2 KB: the headers that servers add, and a text of two alternatives.
func smallMail() []byte {
	var b strings.Builder
	b.WriteString("Return-Path: <sender@example.com>\r\nReceived: from mail.example.com (mail.example.com [192.0.2.1])\r\n\tby mx.example.org (Postfix) with ESMTPS id 4F0C61A2B3\r\n\tfor <recipient@example.org>; Tue, 14 Nov 2023 22:13:20 +0000 (UTC)\r\n")
	b.WriteString("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; s=mail;\r\n\th=from:to:subject:date; bh=" + strings.Repeat("A", 43) + "=;\r\n\tb=" + strings.Repeat("B", 172) + "\r\n")
	b.WriteString("From: \"Sender, Some\" <sender@example.com>\r\nTo: Recipient One <recipient@example.org>, second@example.org\r\nCc: =?utf-8?q?J=C3=B8rgen?= <j@example.net>\r\nSubject: =?UTF-8?Q?Re=3A_Ordinary_message_=C3=A9?= of some length\r\n")
	b.WriteString("Date: Tue, 14 Nov 2023 23:13:19 +0100\r\nMessage-ID: <20231114221319.1234@example.com>\r\nIn-Reply-To: <20231113.987@example.org>\r\nReferences: <20231113.987@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"=_boundary_0123456789\"\r\nX-Mailer: Example 1.2\r\nList-Id: <list.example.org>\r\n\r\n")
	b.WriteString("--=_boundary_0123456789\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("A line of text, =C3=A9 and more of it.\r\n", 6))
	b.WriteString("--=_boundary_0123456789\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n" + strings.Repeat("<p>A line of text, and more of it.</p>\r\n", 6) + "\r\n--=_boundary_0123456789--\r\n")
	return []byte(b.String())
}

// ordinaryMail is the small message, plain text and an attachment in base64, of about 200 KB.
func ordinaryMail() []byte {
	data := make([]byte, 120<<10)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(r.IntN(256))
	}
	var b strings.Builder
	b.WriteString("From: a@b.example\r\nSubject: ordinary\r\nContent-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\nContent-Type: text/plain\r\n\r\n")
	b.WriteString(strings.Repeat("An ordinary line of plain text, as people write it in their messages.\r\n", 400))
	b.WriteString("--outer\r\nContent-Type: application/pdf; name=x.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for text := base64.StdEncoding.EncodeToString(data); len(text) > 0; {
		n := min(76, len(text))
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	b.WriteString("--outer--\r\n")
	return []byte(b.String())
}

func benchmark(b *testing.B, message []byte) {
	p, r := &Parser{}, bytes.NewReader(nil)
	var record []byte
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(message)
		m, err := p.Parse(r)
		if err != nil {
			b.Fatal(err)
		}
		record = m.AppendCache(record[:0])
	}
}

// BenchmarkSmall derives everything from a message of 2 KB, as an import does for each.
func BenchmarkSmall(b *testing.B) { benchmark(b, smallMail()) }

// BenchmarkOrdinary does so for a message of 200 KB, most of it an attachment.
func BenchmarkOrdinary(b *testing.B) { benchmark(b, ordinaryMail()) }

// BenchmarkPlain does so for 1 MB of plain text.
func BenchmarkPlain(b *testing.B) {
	benchmark(b, []byte("Subject: x\r\n\r\n"+strings.Repeat("An ordinary line of plain text, as people write it in their messages.\r\n", 15_000)))
}

// BenchmarkMany does so for a digest of 10,000 messages.
func BenchmarkMany(b *testing.B) {
	var text strings.Builder
	text.WriteString("Content-Type: multipart/digest; boundary=b\r\n\r\n")
	for i := range 9_000 {
		fmt.Fprintf(&text, "--b\r\n\r\nSubject: %d\r\nFrom: a@b.example\r\n\r\nbody %d\r\n", i, i)
	}
	benchmark(b, []byte(text.String()))
}
