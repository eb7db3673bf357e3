package corpus

import (
	"fmt"
	"strings"
)

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// wholeMessages have odd outlines.
func wholeMessages() []string {
	return []string{
		"\r\n", "\n", "x", "\r\n\r\n", "\r\nbody", "body without header\r\n", "Subject: x", "Subject: x\r", "Subject: x\r\n", "Subject: x\r\n\r\n", "Subject: x\r\n\r\nbody",
		"Subject: no from no date\r\n\r\nbody without date\r\n", "Subject: x\n\nbody\n", "Subject: x\nFrom: a@b\n\nbody\n", "Subject: x\n y\nFrom: a@b\r\n\r\nbody\n", "\nSubject: x\r\n\r\nbody\r\n",
		"Subject: a\x00b\r\nFrom: x@y\r\n\r\nbody\r\n", "Subject: a\r\n\r\nbo\x00dy\r\n", "\x00Subject: a\r\n\r\nbody\r\n", "Subject: a\r\n\x00\r\n\r\nbody\r\n", "\x00", "Subject: a\r\rFrom: b\r\n\r\nx", "Subject: a\r\nFrom: b\r\r\n\r\nx",
		"From a@b Mon Jan  1 2020\r\nSubject: mbox line\r\n\r\nbody\r\n", ": empty name\r\nSubject: x\r\n\r\n", "Subject : blank before colon\r\n\r\n", " Subject: first line is a continuation\r\nTo: a@b\r\n\r\n", "Subject: a\r\nSubject: b\r\nTo: a@b\r\nTo: c@d\r\nDate: 1 Jan 2020 00:00:00 +0000\r\nDate: bad\r\n\r\n",
		"Received: from x; 1 Jan 2020 00:00:00 +0000\r\nReceived: from y; 2 Jan 2020 00:00:00 +0000\r\n\r\n", "Subject:\r\nTo:\r\nDate:\r\nContent-Type:\r\n\r\n", "Subject:\nTo: a@b\r\nCc:\nBcc: c@d\r\n\r\n", "Subject: \nTo: a@b\r\nX-Y:\nList-Id: q\r\n\r\n",
		"List-Id:\nList-Post: q\r\n\r\n", "Content-Type:\n text/html\r\n\r\n", "Content-Id:\r\nContent-Md5: \r\nContent-Location: \t\r\n\r\n", "Subject: unterminated\r\n ", "To: a@b,\r\n ", "Subject: x\r\n \r\n \r\nTo: a@b\r\n\r\nbody",
		strings.Repeat("X-Mailer: line\r\n", 999) + "Subject: in\r\nTo: a@b\r\nCc: c@d\r\n\r\n", strings.Repeat("X-Mailer: line\r\n", 998) + "Subject: in\r\nTo: a\r\n @b\r\nCc: c@d\r\nBcc: e@f\r\n\r\nbody", strings.Repeat(" fold\r\n", 1005) + "Subject: out\r\n\r\n", "Subject: long\r\n" + strings.Repeat(" fold\r\n", 1500) + "To: out@x\r\n\r\n",
		"X-Mailer: " + strings.Repeat("y", 100_000) + "\r\nSubject: " + strings.Repeat("z", 70_000) + "\r\n\r\nbody\r\n", "Subject: x\r\n\r\n" + strings.Repeat("line of body\r\n", 20_000), "Subject: x\r\n\r\n" + strings.Repeat("y", 300_000), "Subject: long line\r\n\r\n" + strings.Repeat("y", 100_000) + "\r\n",
		"sender: a@b\r\nREPLY-TO: c@d\r\nFrom: e@f\r\nX-Priority: 1\r\nx-ME-message-id: <x>\r\nx-unknown: y\r\nX: y\r\nX-: y\r\nReferences: <a> <b>\r\nUser-Agent: z\r\nMIME-Version: 1.0\r\nDKIM-Signature: q\r\nReturn-Path: <a>\r\nAuto-Submitted: no\r\n\r\n",
		strings.Repeat("n", 31) + ": cached\r\n" + strings.Repeat("n", 32) + ": not cached\r\nX-Truedomain-Domain: y\r\nx-apple-mail-remote-attachments: y\r\n\r\n", "List-Id: fol\r\n ded\r\n\tthrice\r\nList-Post: bare\n fold\n\tx\nList-Help: q\r\n\r\n", "List-Id: x\r\r\n\r\n", "A\rB: x\r\n\r\n", "Comments: a\r\n  \r\nKeywords: b\r\n\r\n",
	}
}

// headerMessages have odd headers inside multiparts and messages.
func headerMessages() (list []string) {
	for _, inner := range []string{
		"", "\r\n", "x", "Subject: x", "Subject: x\r\n", "Subject: x\r\n\r\n", "Subject: x\n\nbody", "\x00\r\n", "Subject: a\x00b\r\n\r\nbody\r\n", "Subject: a\x00b\r\n", "\nSubject: x\r\n", "\n", "\r", "-", "--", "--x", "--b\x00\r\n", "\r\n\r\n", "\r\n\r\n\r\n", "a\r\n--b", "Content-Type: message/rfc822", "Content-Type: message/rfc822\r\n", "Content-Type: message/rfc822\r\n\r\n",
		"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n", "Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\n", "Content-Type: message/rfc822\r\n\r\nSubject: i\x00n\r\n\r\nbody\r\nmore\r\n", "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeA==\r\n", "Content-Type: multipart/mixed; boundary=c", "Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n--c--",
		"Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n", "Content-Type: multipart/mixed; boundary=c\r\n\r\n--c--\r\n", "Content-Type: multipart/mixed; boundary=c\r\n\r\npre\r\n--c\r\n\r\nbody\r\n--c--\r\npost\r\n", "Content-Type: multipart/mixed\r\n\r\nno boundary\r\n", "Content-Type: text/plain\r\n\r\nx", "Content-Type: text/plain\r\n\r\nx\r\n", "Content-Type: text/plain\r\n\r\n\r\n", "Content-Type: text/plain\r\n\r\n\n",
	} {
		for _, sep := range []string{"\r\n", "\n", ""} {
			list = append(list, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"+inner+sep+"--b\r\n\r\nsecond\r\n--b--\r\nepilogue\r\n")
		}
		list = append(list, "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n"+inner+"\r\n--b--\r\n", "Content-Type: message/rfc822\r\n\r\n"+inner, "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"+inner)
	}
	return list
}

// structures are trees of parts, whole and broken.
func structures() (list []string) {
	list = append(list,
		crlf("Content-Type: multipart/mixed; boundary=b\n\npreamble\n--b\nContent-Type: text/plain\n\none\n--b\nContent-Type: text/html\n\ntwo\n--b--\nepilogue\n"),
		crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\n\n--b\n\n\n--b\n\n\n\n--b--\n"),
		crlf("Content-Type: multipart/mixed; boundary=b\n\nonly preamble\n"), crlf("Content-Type: multipart/mixed; boundary=b\n\n--b--\n"), crlf("Content-Type: multipart/mixed; boundary=b\n\n--b"), crlf("Content-Type: multipart/mixed; boundary=b\n\n--b--"),
		"Content-Type: multipart/mixed; boundary=b\r\n", "Content-Type: multipart/mixed; boundary=b\r\n\r\n", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n", "Content-Type: multipart/mixed; boundary=b\r\n\r\nx--b\r\n\r\none\r\n--b \t\r\n\r\ntwo\r\n--b--  \r\n", "Content-Type: multipart/mixed; boundary=\"b \"\r\n\r\n--b \r\n\r\none\r\n--b\r\n--b --\r\n",
		crlf("Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=ab\n\n--ab\n\ninner\n--ab--\n--a\n\nlast\n--a--\n"), crlf("Content-Type: multipart/mixed; boundary=ab\n\n--ab\nContent-Type: multipart/mixed; boundary=a\n\n--a\n\ninner\n--a--\n--ab\n\nlast\n--ab--\n"),
		crlf("Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\ninner never closed\n--a\n\nlast\n--a--\n"), crlf("Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\ninner never closed\n--a--\nend\n"), crlf("Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=c\n\npreamble only\n--a--\nend\n"),
		crlf("Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=a\n\n--a\n\nsame\n--a--\n--a--\n"), crlf("Content-Type: multipart/mixed; boundary=a\n\n--ax\n--a-\n--a--x\n--a\n\nz\n--a\n"), crlf("Content-Type: multipart/mixed; boundary=\"\"\n\n--\n\none\n-- \n\ntwo\n----\n"),
		crlf("Content-Type: multipart/mixed; boundary="+strings.Repeat("long", 500)+"\n\n--"+strings.Repeat("long", 500)+"\n\none\n--"+strings.Repeat("long", 500)+"--\n"), crlf("Content-Type: multipart/mixed; boundary="+strings.Repeat("b", 40_000)+"\n\n--"+strings.Repeat("b", 40_000)+"\n\none\n--"+strings.Repeat("b", 40_000)+"--\n"),
		crlf("Content-Type: multipart/mixed; boundary=b\n\n--b"+strings.Repeat(" ", 70_000)+"\n\none\n--b"+strings.Repeat(" ", 140_000)+"\nContent-Type: message/rfc822\n\nSubject: x\n\ny\n--b--"+strings.Repeat("z", 70_000)+"\n"),
		crlf("Content-Type: message/rfc822\n\nContent-Type: message/rfc822\n\nSubject: inner\nFrom: a@b\n\nbody\n"), crlf("Content-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\n--b--\n"), crlf("Content-Type: message/rfc822\n\nContent-Type: multipart/mixed\n\nnone\n"), crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\n"),
		crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/external-body; x=y\nContent-Transfer-Encoding: base64\n\nQQ==\n--b\nContent-Type: multipart/x\n\nA\n--b\nContent-Type: multipart/x; boundary=q\nContent-Disposition: inline; a=b\nContent-Language: de\nContent-Location: http://x/%41\n\n--q\n\n--q--\n--b--\n"),
	)
	for _, depth := range []int{10, 50, 120} {
		list = append(list, nested(depth, "multipart"), nested(depth, "message"), nested(depth, "both"))
	}
	list = append(list, nested(1010, "multipart"))
	var many strings.Builder
	many.WriteString("Content-Type: multipart/digest; boundary=b\r\n\r\n")
	for i := range 1500 {
		fmt.Fprintf(&many, "--b\r\n\r\nSubject: %d\r\n\r\nbody %d\r\n", i, i)
	}
	return append(list, many.String()+"--b--\r\n", crlf("Content-Type: multipart/mixed; boundary=b\n\n"+strings.Repeat("--b\nContent-Type: message/rfc822\n\nContent-Type: message/rfc822\n\nX: y\n\nz\n", 50)))
}

// nested is a message with parts or messages within each other.
func nested(depth int, kind string) string {
	var head, tail string
	for i := range depth {
		switch {
		case kind == "message" || kind == "both" && i%2 == 1:
			head += fmt.Sprintf("Subject: level %d\r\nContent-Type: message/rfc822\r\n\r\n", i)
		default:
			head += fmt.Sprintf("Content-Type: multipart/mixed; boundary=\"level-%d-\"\r\n\r\n--level-%d-\r\n", i, i)
			tail = fmt.Sprintf("\r\n--level-%d---\r\n", i) + tail
		}
	}
	return head + "Subject: leaf\r\n\r\nleaf\r\n" + tail
}
