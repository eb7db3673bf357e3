// Package corpus has the messages that tests compare with the real Cyrus: every odd outline, header, charset and structure that
// made a difference once, and generated ones.
package corpus

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
)

// Sample is a message of the corpus.
type Sample struct {
	Name string
	Text string
}

// Messages returns the hand-made messages and some generated ones, the same ones each time.
func Messages(generated int) []Sample {
	var list []Sample
	add := func(group string, messages []string) {
		for i, m := range messages {
			list = append(list, Sample{fmt.Sprintf("%s-%d", group, i), m})
		}
	}
	add("whole", wholeMessages())
	add("date", DateMessages())
	add("from", fieldMessages("From", addresses))
	add("cc", fieldMessages("Cc", addresses))
	add("subject", fieldMessages("Subject", words))
	add("name", nameMessages())
	add("charset", charsetMessages())
	add("type", fieldMessages("Content-Type", types))
	add("param", fieldMessages("Content-Type", params()))
	add("disposition", fieldMessages("Content-Disposition", append(dispositions, params()...)))
	add("language", fieldMessages("Content-Language", languages))
	add("encoding", fieldMessages("Content-Transfer-Encoding", encodings))
	add("body", bodyMessages())
	add("header", headerMessages())
	add("structure", structures())
	made := len(list)
	for seed := range generated {
		s := Sample{fmt.Sprintf("generated-%d", seed), ""}
		if base := list[seed*7919%made].Text; seed%3 == 2 && len(base) < 20_000 {
			g := &generator{r: rand.New(rand.NewPCG(uint64(seed), 6))}
			for range 1 + g.r.IntN(3) {
				base = g.damage(base)
			}
			s.Text = base + "\n"
		} else {
			s.Text = generate(uint64(seed))
		}
		list = append(list, s)
	}
	return list
}

// DateMessages are those whose dates are odd.
func DateMessages() []string { return fieldMessages("Date", dates) }

// fieldMessages makes a message for each value of one field. Messages are made different, so that their GUIDs are.
func fieldMessages(name string, values []string) (list []string) {
	for i, v := range values {
		list = append(list, fmt.Sprintf("X-Number: %d\r\n%s:%s\r\nX-Mailer: after\r\n\r\nbody\r\n", i, name, v))
		list = append(list, fmt.Sprintf("Message-ID: <%d@%s>\r\n%s: %s", i, name, name, v)+"\r\n\r\n")
	}
	return list
}

var dates = []string{
	" Wed, 01 Jan 2020 10:11:12 +0100", "Thu, 3 Mar 2022 03:04:05 +0530 (IST)", " 4 Apr 2023 01:02 GMT", " bad date", "",
	" Tue, 06 Jun 2023 12:00:00 EST", " Tue, 6 Jun 23 12:00:00 EDT", " 6 Jun 69 1:2:3 PST", " 6 Jun 70 1:2:3 PDT",
	" 06-Jun-2023 12:00:00 +0000", " 6 JUN 2023 12.00.00 -0800", " 6 jun 2023 12:00 -0800junk", " 31 Feb 2021 25:61:61 Z",
	" 6 Jun 2023 12:00:00 +5", " 6 Jun 2023 12:00:00 A", " 6 Jun 2023 12:00:00 a", " 6 Jun 2023 12:00:00 J",
	" 6 Jun 2023 12:00:00 k", " 6 Jun 2023 12:00:00 M", " 6 Jun 2023 12:00:00 n", " 6 Jun 2023 12:00:00 Y",
	" 6 Jun 2023 12:00:00 0100", " 6 Jun 2023 12:00:00 UT", " 6 Jun 2023 12:00:00 UTC", " 6 Jun 2023 12:00:00 HXT",
	" 6 Jun 2023 12:00:00 BST", " 6 Jun 2023 12:00:00 CET", " 6 Jun 2023T12:00:00Z", " 6 Jun 2023 12:00T", " 2023-06-06T12:00:00Z",
	" Tuesday, 6 Jun 2023 12:00:00 +0000", " Tue 6 Jun 2023 12:00:00 +0000", " Xyz, 6 Jun 2023 12:00:00 +0000",
	" Tue,6 Jun 2023 12:00:00 +0000", " Tue, 6/Jun/2023 12:00:00 +0000", " Tue, 6  Jun  2023  12:00:00  +0000",
	" Tue, 6 Jun 2023\r\n 12:00:00\r\n\t+0000", " Tue, 6 Jun 2023 (comment) 12:00:00 +0000", " 0 Jan 1970 00:00:00 +0000",
	" 1 Jan 1970 00:00:00 +0000", " 1 Jan 1970 00:00:01 +0000", " 1 Jan 1970 00:00:00 +0500", " 1 Jan 1969 00:00:00 +0000",
	" 1 Jan 1899 00:00:00 +0000", " 1 Jan 9999 00:00:00 +0000", " 1 Jan 99999 00:00:00 +0000", " 1 Jan 2106 07:28:16 +0000",
	" 1 Jan 123 00:00:00 +0000", " 1 Jan 3 00:00:00 +0000", " 123 Jan 2020", " 1 Jan 2020", " 1 Jan 2020 12", " 1 Jan 2020 12:",
	" 1 Jan 2020 1a:00:00", " 1 Jan 2020 123:00:00", " 1 January 2020 12:00:00 +0000", " 1 Jan 2020 12:00:00 ++0100",
	" 1 Jan 2020 12:00:00 +-0100", " 1 Jan 2020 12:00:00 +01:00", " 1 Jan 2020 12:00:00 +010", " 1 Jan 2020 12:00:00 +01000",
	" 1 Jan 2020 12:00:00 +9999", " 1 Jan 2020 24:00:00 +0000", " 99 Dec 2020 99:99:99 +0000", "\t1 Jan 2020 12:00:00 +0000",
	" 1 Jan 2020 12:00:00 -0000 (a comment (nested))", " 1 Jan 2020 12:00:00.123 +0000", " Jan 1 2020 12:00:00", " Mon, 1 Jan",
	" 1 Foo 2020 12:00:00 +0000", " 1 Jan 20201111111111111111111111111111111111 00:00:00", " 01 Jan 2020 12:00:00 zzz",
	" 1 Jan 2020 12:00:00 \"GMT\"", " , 1 Jan 2020 12:00:00 +0000", " 1 Jan 2020 12:00:00 +0100\xdd0", " 1Jan2020 12:00:00 +0000", " 1.Jan.2020 12:00:00 +0000",
}

var addresses = []string{
	"a@b.example", "<a@b.example>", "Name <a@b.example>", "\"Quoted, Name\" <a@b.example>", "a@b.example (Comment Name)",
	"a@b.example (Com(ment) \\) Name) ", "First Last <First.Last@Example.ORG>", "=?utf-8?q?S=C3=B8ren?= <Soren@Example.ORG>",
	"\"=?utf-8?q?S=C3=B8ren?=\" <x@y>", "Team: a@x.org, b@y.org;, last@z.org", "undisclosed-recipients:;", "undisclosed-recipients:",
	"Group: Nested: a@b;;", "<@route.example,@two.example:a@b.example>", "Name <@r.example:a@b.example>", "<@r.example>",
	"<@r.example:>", "<@a,@b,:x>", "<@a,@b:x@y@z>", "a@b@c", "a@", "@b", "<>", "<@>", "a", "a b c", "a,b,c", ",,,", ";", ";;a@b", ":",
	": a@b", "a:b:c;", "\"unclosed <a@b>", "a@b \"unclosed", "<a@b", "Name <a@b> trailing, c@d", "A <a@b> x, c@d", "a@b;c@d", "a@b>c@d",
	"a@b c@d", "a@b.c.d. , e@f", "a@.b..c., e@f", "a@[127.0.0.1]", "a@[IPv6:::1]", "a @ b . c", "a (c1) @ (c2) b (c3) . (c4) c (c5)",
	"(c1) a (c2)", "(only comment)", "(unclosed", "a@b (unclosed", "a@b (\\", "\"\" <a@b>", "\" \" <a@b>", "\"a\"@b", "\"a b\"@c.d",
	"\"a\\\"b\" <c@d>", "\"a\\\\b\" <c@d>", "a\\b@c", "a\\,b@c", "Mr. X <a@b>", "O'Brien <o@b>", "A&B <a@b>", "J\xf8rgen <j@b>",
	"J\xc3\xb8rgen <j@b>", "\"J\xf8\" <j@b>", "a@b\xf8c.d", "a@b_c.d, e@f", "a@b/c", "a@b!c", "mailto:a@b", "<mailto:a@b>", "a%b@c", "a%b <x@y>",
	"Long Name\r\n Folded <a@b>", "\"Folded\r\n Quoted\" <a@b>", "\"Folded\r\n\tQuoted\" <a@b>", "a@b,\r\n c@d,\r\n\te@f", "\r\n a@b", "\r\n\t\r\n a@b",
	"a@b (fol\r\n ded)", "\"back\\\r\n slash\" <a@b>", "\"cr\rin\" <a@b>", "cr\rout <a@b>", "tab\there <a@b>", "\"tab\there\" <a@b>", "\"ctl\x01\x02\x7f\" <a@b>",
	"\x01 <a@b>", "\x0b\x0ca@b", strings.Repeat("Name <a@example.com>, ", 100), strings.Repeat("a", 1100) + "@b", "\"" + strings.Repeat("x", 2000) + "\" <a@b>",
	"a@b,", "a@b,,c@d", "a@b, ,c@d", "a <b <c@d>>", "<a> <b>", "a <b>", "<a b@c>", "<a@b c>", "a < b @ c . d >", "Group:;,a@b", "Group:a@b", "Group: (c);",
	"\"Group, quoted\": a@b;", "=?utf-8?q?Gr=C3=BCppe?=: a@b;", "A@B.C, D <E@F.G>", "a@b (=?utf-8?q?=C3=A9?=)", "a@b (c) (d)", "a@b (c) e, f@g",
	"a@b\"c\"d", "a\"b\"c@d", "a;b", "x:a@b,c;d@e", "x:a@b;y:c@d;", "x: <a@b>; <c@d>", "x: y <a@b> z; q", "a@b:c", "a@b[c]:d", "<a@b:c>", "<a:b@c>", "a<b@c", "a>b@c",
	"a@b <c@d>", "a@b, <c@d> e@f", "'Single' <a@b>", "a-b+c=d@e", "?? <a@b>", "=?bad?= <a@b>", "=?utf-8?q?a,b?= <c@d>", "=?utf-8?b?IlF1b3RlZCI=?= <c@d>", "~{}|` <a@b>",
}

var words = []string{
	"plain", "", " ", "  leading", "trailing  ", "with \"quotes\"", "back\\slash", "100%", "tab\tin", "fol\r\n ded", "fol\r\n\tded\r\n  twice", "\r\n only fold",
	"\r\n \r\n ", "8bit \xe9\xe8", "utf8 \xc3\xa9", "=?utf-8?q?=C3=A9?=", "=?UTF-8?Q?=C3=A9?= text", "text =?utf-8?b?w6k=?=", "=?utf-8?q?a?= =?utf-8?q?b?=",
	"=?utf-8?q?a?=\r\n =?utf-8?q?b?=", "=?utf-8?q?a?= x =?utf-8?q?b?=", "=?utf-8?q?a?==?utf-8?q?b?=", "=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "=?utf-8?b?w?= =?utf-8?b?6k=?=",
	"=?utf-8?b?ww==?= =?utf-8?b?qQ==?=", "=?utf-8?q?=C3?= =?utf-8?b?qQ==?=", "=?utf-8?q?=C3?= x", "=?utf-8?q?=C3x?=", "=?utf-8?q?=E2=82?= =?UTF8?q?=AC?=",
	"=?iso-8859-1?q?=E9?=", "=?ISO-8859-1*en?q?=E9?=", "=?iso-8859-1?q?=E9?= =?windows-1252?q?=80?=", "=?unknown-charset?q?abc?=", "a =?nope?q?abc?= b", "=?nope?q?a?= =?nope?q?b?= =?utf-8?q?c?=",
	"=?utf-8?q?=C3?= =?nope?q?x?= =?utf-8?q?=A9?=", "=??q?abc?=", "=?*en?q?abc?=", "=?utf-8?x?abc?=", "=?utf-8?q?abc", "=?utf-8?q?abc?", "=?utf-8?q?a b?=", "=?utf-8?q?a?b?=", "=?utf-8?q?a=?=",
	"=?utf-8?q?a=3?=", "=?utf-8?q?a=3D?=", "=?utf-8?q?a=zz?=", "=?utf-8?q?a_b?=", "=?utf-8?q?a ?= b", "=?utf-8?q?a_?= b", "=?utf-8?q? a?=", "=?utf-8?q??=", "x=?utf-8?q??=y", "=?utf-8?b??=", "=?utf-8?b?@@@@?=",
	"=?utf-8?b?w6k?=", "=?utf-8?b?w6n=w6k=?=", "=?utf-8?b?YQ==YQ==?=", "=?utf-8?b?Y Q = =?=", "=?utf-8?q?=00abc?=", "=?us-ascii?q?=00abc?=", "=?iso-8859-1?q?=00abc?=", "=?utf-8?q?a=0D=0A_b?=", "=?us-ascii?q?=E9?=",
	"a=?utf-8?q?b?=c", "a =?utf-8?q?b?= c =?utf-8?q?d?= e", "= ?utf-8?q?b?=", "==?utf-8?q?b?=", "=?=?utf-8?q?b?=", "=?utf-8?q?b?==", "=?utf-8?q?=?utf-8?q?b?=", "=?utf-8?q?=?=?=", "=?utf-8?q?=?==?=", "=?utf-8?q?a=?b?=",
	"=?utf-8?q?=F0=9F=98=80?=", "=?utf-8?q?=ED=A0=80?=", "=?utf-8?q?=F4=90=80=80?=", "=?utf-8?q?=C0=80?=", "=?utf-8?q?=E0=80=80?=", "=?utf-8?q?=F5=80?=", "=?utf-8?q?=FF=FE?=", "=?utf-8?q?=80?=", "=?utf-8?q?=E2=82=E9?=",
	"=?utf-8?q?=C3=FF=A9?=", "=?windows-1252?q?=80=81=9F?=", "=?koi8-r?b?8NLJ18XU?=", "=?big5?b?pKSk5Q==?=", "=?gb2312?b?1tDOxA==?=", "=?shift_jis?b?k/qWe4zq?=", "=?euc-jp?b?xvzL3Ljs?=", "=?iso-2022-jp?b?GyRCRnxLXDhsGyhC?=",
	"=?iso-2022-jp?b?GyRCRnw=?= =?iso-2022-jp?b?S1w4bBsoQg==?=", "=?euc-kr?b?x9G5zg==?=", "=?euc-kr?b?xw==?= =?euc-kr?b?0bnO?=", "=?utf-16?b?/v8AYQBi?=", "=?utf-16be?b?AGEAYg==?=", "=?utf-16le?b?YQBiAA==?=",
	"cr\ronly", "cr at end\r", "a\r =?utf-8?q?b?=", "\x01ctl", "nul-free \x7f", strings.Repeat("long ", 300), "=?utf-8?q?" + strings.Repeat("=C3=A9", 700) + "?=", strings.Repeat("=?utf-8?q?=C3=A9?=\r\n ", 50),
	"=?windows-1252?q?" + strings.Repeat("=E9", 5000) + "?=", "Re: [list] =?utf-8?Q?Caf=C3=A9?= (was: x)", "=?utf-8?q?a?= \t =?utf-8?q?b?=", "=?cp1252?q?=E9?= =?iso-8859-1?q?=E9?=", "=?latin1?b?6Q==?= =?l1?b?6Q==?=",
	"=?utf-7?q?+AOk-?=", "=?iso-8859-1?Q?a?=\x0b=?iso-8859-1?Q?b?=", "=?utf-8?q?%22?=", "=?utf-8?q?x?=\xe9=?utf-8?q?y?=",
}

// nameMessages have the words as display names.
func nameMessages() (list []string) {
	for i, w := range words {
		list = append(list, fmt.Sprintf("To: \"%s\" <a%d@b.example>, %s <c@d>\r\n\r\n", w, i, w))
	}
	return list
}

// charsetNames are names that Cyrus or ICU know, and some that nobody knows.
var charsetNames = []string{
	"us-ascii", "utf-8", "UTF8", "iso-8859-1", "iso-8859-2", "iso-8859-3", "iso-8859-4", "iso-8859-5", "iso-8859-6", "iso-8859-7", "iso-8859-8", "iso-8859-9",
	"iso-8859-10", "iso-8859-11", "iso-8859-13", "iso-8859-14", "iso-8859-15", "windows-1250", "windows-1251", "windows-1252", "windows-1253", "windows-1254",
	"windows-1255", "windows-1256", "windows-1257", "windows-1258", "windows-874", "cp850", "cp437", "cp852", "cp866", "koi8-r", "koi8-u", "macintosh", "x-mac-roman",
	"mac-cyrillic", "tis-620", "ISO_8859-1:1987", "latin2", "l9", "8859_15", "cp-850", "646", "ISO646-US", "csASCII", "iso-ir-6", "IBM437", "ibm862", "hp-roman8",
	"koi8-", "utf-8\xe9", "KOI8_R", "windows1252", "iso88591", "iso-8859-01", "x-windows-1251", "X-iso-8859-2", "x-iso-8859-2", "nope", "iso-8859-16", "iso-8859-12", "238", "136",
}

// doubleNames are charsets of two bytes.
var doubleNames = []string{"gb2312", "gb18030", "big5", "euc-jp", "shift_jis", "euc-kr", "ks_c_5601-1987", "windows-949", "gbk"}

// charsetMessages decode all bytes in each charset.
func charsetMessages() (list []string) {
	var all strings.Builder
	for c := 1; c < 256; c++ {
		fmt.Fprintf(&all, "=%02X", c)
	}
	for _, name := range charsetNames {
		list = append(list, fmt.Sprintf("Subject: =?%s?q?%s?=\r\nContent-Type: text/plain; charset=%s\r\n\r\nbody\r\n", name, all.String(), name))
	}
	for _, name := range doubleNames {
		for lead := 0x80; lead < 256; lead++ {
			var pairs strings.Builder
			for trail := 1; trail < 256; trail++ {
				fmt.Fprintf(&pairs, "=%02X=%02X_", lead, trail)
			}
			list = append(list, fmt.Sprintf("Subject: =?%s?q?%s?=\r\n\r\n", name, pairs.String()))
		}
	}
	for row := 0x21; row < 0x7f; row++ {
		jis := []byte("\x1b$B")
		for cell := 0x21; cell < 0x7f; cell++ {
			jis = append(jis, byte(row), byte(cell))
		}
		list = append(list, "Subject: =?iso-2022-jp?b?"+base64.StdEncoding.EncodeToString(append(jis, "\x1b(B"...))+"?=\r\n\r\n")
	}
	for _, s := range []string{"iso-2022-jp?b?GyhKXH4bKEI=", "iso-2022-jp?q?a=0E=0Fb=E9", "iso-2022-jp?q?=1B$@F|=1B(Bx", "iso-2022-jp?q?=1B$BF", "iso-2022-jp?q?=1B$BF|=0D=0Ax", "iso-2022-jp?q?=1B(I1=1B(B",
		"iso-2022-jp?q?=1B$(D0!=1B(B", "iso-2022-jp?q?=1B(x", "iso-2022-jp?q?=1B$BF|=1B(EF|=1B(B", "iso-2022-jp?q?=1B$B F|", "iso-2022-jp?q?=1B$BF|=E9F|", "iso-2022-jp?q?=1B$BF=1B(Bx", "iso-2022-jp?q?=1B", "iso-2022-jp?q?=1B$", "iso-2022-jp?q?=1B(I =B1", "csiso2022jp2?q?a", "hz-gb-2312?q?~{VPND~}", "hz-gb-2312?q?~~", "hz-gb-2312?q?~x", "utf-16?q?=00a=00b", "utf-16?q?=FF=FEa=00", "utf-16be?q?=D8=3D=DE=00", "utf-16le?q?=3D=D8=00=DE",
		"utf-16be?q?=D8=3D=00a", "utf-16be?q?=00", "utf-32?q?=00=00=00a", "utf-32be?q?=00=01=F6=00", "utf-32le?q?a=00=00=00", "utf-7?q?a+AGI-c", "utf-7?q?+2D3eAA-", "utf-7?q?+-", "utf-7?q?+AG-", "utf-7?q?a=5Cb~",
		"utf-7?q?+AGIA", "utf-7?q?+=E9", "unicode-2-0-utf-8?q?=C3=A9", "unicode-2-0-utf-8?q?=C3", "unicode-2-0-utf-8?q?=E2=82x", "unicode-2-0-utf-8?q?=FF", "unicode-2-0-utf-8?q?=ED=A0=80", "unicode-2-0-utf-8?q?=C0=80", "cesu-8?q?a", "euc-tw?q?a", "iso-2022-kr?q?a", "cp037?q?a", "scsu?q?a", "imap-utf-7?q?a"} {
		list = append(list, "Subject: =?"+s+"?= after\r\n\r\n")
	}
	for lead := 0x81; lead < 0xff; lead += 5 {
		var long, jis strings.Builder
		for third := 0x81; third < 0xff; third += 7 {
			fmt.Fprintf(&long, "=%02X3=%02X9_=%02X0=%02XA_=%02X5=%02X_", lead, third, lead, third, lead, third)
			fmt.Fprintf(&jis, "=8F=%02X=%02X_=8F=%02XA_", lead, third, third)
		}
		list = append(list, "Subject: =?gb18030?q?"+long.String()+"?=\r\n\r\n", "Subject: =?euc-jp?q?"+jis.String()+"?=\r\n\r\n",
			fmt.Sprintf("Subject: =?gb18030?q?=%02X?= =?gb18030?q?=%02X1?= =?gb18030?q?=%02X1=90?= =?euc-jp?q?=8F=%02X?=\r\n\r\n", lead, lead, lead, lead))
	}
	for _, v := range []string{"\"utf-8\"", "nope; charset=koi8-r", "koi8-r; charset=nope", "\"\"; charset=us-ascii", "UTF-8; charset=\"\"", "utf-8,version=1",
		strings.Repeat("x", 70), "\" utf-8\"", "utf-8 (comment)", "'utf-8'", "=?utf-8?q?utf-8?=", "utf-16", "utf-32", "utf-7", "big5", "gb18030", "euc-tw", "ISO-2022-KR", "ebcdic-us", "ibm-37", "cp037"} {
		list = append(list, "Content-Type: text/html; charset="+v+"\r\n\r\nbody\r\n", "Content-Type: application/x; charset="+v+"\r\n\r\nbody\r\n",
			"Content-Type: message/x; charset="+v+"\r\n\r\nbody\r\n")
	}
	return list
}

var types = []string{
	"text/plain", " TEXT/HTML", " text / plain ", " text/plain;", " text/plain ; charset=x", " (c)text(c)/(c)plain(c)", " text", " text/", " /plain", " /", "", " ", " text/plain/x", " text/plain x", " te xt/plain", " text/pl@in",
	" text/plain, charset=x", " \"text\"/plain", " text/plain;;;charset=x", " text\r\n /plain", "\r\n text/plain;\r\n\tcharset=x", " text/;a=b", " x/y; (c) a (c) = (c) b (c) ; (c) c (c) = \"d\" (c)", " t\xe9xt/plain", " multipart/mixed",
	" multipart/mixed; boundary=", " multipart/mixed; boundary=\"\"", " multipart/digest; boundary=x", " message/rfc822", " MESSAGE/RFC822; x=y", " message/partial; id=1", " message/delivery-status", " image/jpeg; name=\"a b.jpg\"",
	" text/plain\r\nContent-Type: image/png", " text/plain; a=b\r\nContent-Type: bad", "=?utf-8?q?text/plain=3B_charset=3Dutf-8?=", " =?utf-8?q?text/plain=3B_name=3Dx?=\r\nSubject: =?utf-8?q?later?=", "\r\n =?utf-8?q?text/html?=",
	" =?utf-8?q?bad?=", " text/plain (unclosed", " text/plain; charset=\"unclosed", " text/plain; charset=us-ascii\r\n (comment)\r\n ; format=flowed", " x-foo/x-bar.baz+json", " text/plain=", " text/plain; =x", " a/b;c", " a/b;c=", " a/b;c;d=e",
	" =?utf-8?q?application/pdf=3B_name=3D=22=C3=A9t=C3=A9.pdf=22?=", " =?iso-8859-1?q?application/pdf=3B_name=3D=22=E9.pdf=22=3B_x=3Dplain?=", " =?utf-8?q?a/b=3B_name=3D=22" + strings.Repeat("=C3=A9", 60) + "=22?=",
	" =?utf-8?q?a/b=3B_name=3D=22=C3=A9_=3Ca=40b=2Ec=3E=22?=", " =?utf-8?q?a/b=3B_name=3D=22=C3=A9_=3D_=3F_=5F_x=22=3B_n*=3D=C3=A9?=",
}

// params are parameters behind a type.
func params() (list []string) {
	for _, p := range []string{
		"a=b", "a=b;c=d", " a = b ; c = d ", "a=\"b\"", "a=\"b c\"", "a=\"b\\\"c\"", "a=\"b\\\\c\"", "a=\"b;c\"; d=e", "a=b c", "a=b c ; d=e", "a=b;c=;d=e;f=g", "c=;;d=e", "a=", "a=;", "a", "a;b=c", "=b;c=d", "a=b=c", "a=b/c?d", "a=\xe9", "a=\"\xe9\"",
		"a=b\x01;c=d", "a=\"b\x01\";c=d", "a=b\tc", "a=b(c)d;e=f", "a=b (c);e=f", "a=(c)b;e=f", "a=\"b\" c;d=e", "a=\"b\"c;d=e", "a=\"b", "a=\"b\\", "a=b\r\n c;d=e", "a=\"b\r\n c\";d=e", "a=\"b\r\n\tc\";d=e", "a=\"b\rc\";d=e", "a=b\rc;d=e", "a=\"b\\\r\n c\";d=e",
		"\r\n a=b;\r\n\tc=d", "a=b;\r\n\r\n c=d", "a=b\r\n ;c=d", "a =\r\n b", "a\r\n =b", "A=b;a=c", "f*=utf-8''%C3%A9", "f*0=a;f*1=b", "f*0=a; f*1=b; f*2=c", "f*1=b;f*0=a", "f*0*=utf-8''%C3;f*1*=%A9", "f*0*=utf-8''a;f*1=b c%", "f*0=a b;f*1*=%A9", "f*0=a'*%;f*1*=b",
		"f*0=a;f*2=c", "f*0=a;f*1=b;g=h;f*2=c", "f*0=a;f*0=b;f*1=c;f*1=d", "f*0*=a;f*0=b;f*1=c", "f*00=a;f*01=b", "f*1=b", "f*=x;f=y", "*0=a;*1=b", "*=a", "f*0*0=a;f*1=b", "f*0=\"\";f*1=\"\"", "f*0=\"a\xe9\";f*1*=b", "f*0*=x;f*1=\"\xe9\"", "f*0;f*1=b",
		"f*0=a;F*1=b", "f*x=a", strings.Repeat("p=q;", 200), "f*0=0" + numbered(105), "a=\"" + strings.Repeat("x", 1500) + "\"", "a=%", "a=\"\\%\"", "a=b,c", "a=<b>", "a=[b]:@", "a{=b", "a}|~=b", "a\x7f=b", "a=\x7f", "a=b;\x00", "(a)=b;c=d", "a=\"\"", "a=\"\";b=c", "a=\" \"", "a=  ; b=c", "a=b; ; c=d",
		"a=b;c d=e;f=g", "a=b;c d;f=g", "a:b=c;d=e", "a=\"x\r\n", "a=\"x\\\r\n y\"", "boundary=\"a b\"", "boundary*=utf-8''x%20y", "boundary*=nope''x", "boundary*0=x;boundary*1=y",
	} {
		list = append(list, " multipart/x;"+p)
	}
	return list
}

func numbered(n int) string {
	var b strings.Builder
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, ";f*%d=%d", i, i)
	}
	return b.String()
}

var dispositions = []string{
	"inline", " ATTACHMENT; filename=x", " attachment;filename*=utf-8''%C3%A9", "", " ", " ;filename=x", " in line", " inline/x", " inline (c)", " (c) inline (c) ; (c)", " \"inline\"", " inline;", " in\xe9", " =?utf-8?q?inline?=", "\r\n inline",
	" inline\r\nContent-Disposition: attachment", " inline; a=b\r\nContent-Disposition: bad bad",
}

var languages = []string{
	"en", " EN", " en, de", " en,de", " en-GB, de-CH-1996", " en , de", " en;de", " en, ,fr", " ,en", "en,", "", " ", " en de", " e1", " (c) en (c) , (c) de (c)", " en,\r\n fr", " en\r\nContent-Language: fr", " en, b@d, fr", " x\xe9", " -", " --,a", " \"en\"",
}

var encodings = []string{
	"7bit", " 8BIT", " base64", " Quoted-Printable", " binary", " x-uuencode", "", " ", " base64 (c)", " (c) base64", " base64 x", " base64;", " base 64", " \"base64\"", " 7-bit", " BASE64\r\n ", "\r\n base64", " b\xe9", " none", " base64\r\nContent-Transfer-Encoding: bad;", " 8bits", " uuencode", " base64url", " bas", " q", " =?x?=",
}

// bodyMessages have contents to be decoded.
func bodyMessages() (list []string) {
	quoted := []string{"", "a", "a=", "a=\r\n", "a=\r\nb", "a=3D\r\n", "a=3", "a=3\r\n", "a=zz\r\n", "a  \r\n", "a \t", "=20\r\n", "a=20 \r\n", "a\nb\n", "a\rb\r\n", "a=\n", "a= \r\n b", "=e9=E9", "_a_", "a\x00b", "\xe9", strings.Repeat("x", 998), strings.Repeat("x", 999),
		strings.Repeat("x", 1000), strings.Repeat("x", 997) + "=41", strings.Repeat("x", 998) + " =41\r\n", strings.Repeat("x ", 3000) + "\r\n", "\r\n\r\n", "=\r\n=\r\n", "==41", strings.Repeat("=41=\r\n", 2000)}
	encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("hello ", 2000)))
	coded := []string{"", "YQ==", "YQ", "YQ=", "Y", "YWI=", "YWJj", "YW Jj\r\n", "YW=Jj", "====", "YQ==YQ==", "@@YQ@@==", "YWJjZ", "YWJjZG", "YWJjZGV", "Y=WJj", encoded, encoded[:len(encoded)-1], "YQ\x00==", "Y\r\nQ\r\n=\r\n=", "-_-_", "YWJ\xe9j"}
	for i, b := range quoted {
		list = append(list, fmt.Sprintf("X: %d\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n%s", i, b))
	}
	for i, b := range coded {
		list = append(list, fmt.Sprintf("X: %d\r\nContent-Transfer-Encoding: base64\r\nContent-Type: image/x\r\n\r\n%s", i, b))
	}
	for i, b := range append(quoted, coded...) {
		list = append(list, fmt.Sprintf("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: %s\r\n\r\n%s\r\n--b--\r\n",
			[]string{"quoted-printable", "base64", "x-other"}[i%3], b))
	}
	return list
}

// generate makes a message of nested parts, with damage.
func generate(seed uint64) string {
	g := &generator{r: rand.New(rand.NewPCG(seed, 5))}
	text := g.entity(0, "")
	for range g.r.IntN(4) {
		text = g.damage(text)
	}
	return text + "\n"
}

type generator struct {
	r     *rand.Rand
	count int
	open  []string
}

func pick[T any](g *generator, list []T) T { return list[g.r.IntN(len(list))] }

func (g *generator) eol() string {
	if g.r.IntN(60) == 0 {
		return pick(g, []string{"\n", "\r", "\r\r\n", "\n\r"})
	}
	return "\r\n"
}

func (g *generator) fields() string {
	var b strings.Builder
	for range g.r.IntN(6) {
		name := pick(g, []string{"Subject", "From", "To", "Cc", "Bcc", "Sender", "Reply-To", "Date", "Message-ID", "In-Reply-To", "References", "X-Mailer", "X-Other", "Received",
			"Content-ID", "Content-Description", "Content-Location", "Content-MD5", "Content-Language", "Content-Disposition", "Content-Transfer-Encoding", "List-Id", "subject", "TO", "Priority", "Sender ", " From", "", "Mime-Version", "X-Spam-Score", "no colon"})
		var value string
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "from", "to", "cc", "bcc", "sender", "reply-to":
			value = pick(g, addresses)
		case "date":
			value = pick(g, dates)
		case "content-language":
			value = pick(g, languages)
		case "content-disposition":
			value = pick(g, append(dispositions, " attachment; "+pick(g, params())))
		case "content-transfer-encoding":
			value = pick(g, encodings[:6])
		case "no colon":
			b.WriteString("no colon" + g.eol())
			continue
		default:
			value = pick(g, words)
		}
		b.WriteString(name + ":" + pick(g, []string{" ", "", "\t", "  "}) + value + g.eol())
	}
	return b.String()
}

func (g *generator) lines() string {
	var b strings.Builder
	for range g.r.IntN(5) {
		b.WriteString(pick(g, []string{"text", "", "--", "-- ", "--not a boundary", "-", "=C3=A9=", "aGVsbG8=", "longer line of text here", "\xe9\xe8", "From: looks like a header", "--b", "--b1--", " trailing ", "."}) + g.eol())
	}
	if g.r.IntN(4) == 0 {
		b.WriteString("no end")
	}
	return b.String()
}

func (g *generator) entity(depth int, extra string) string {
	kind := g.r.IntN(10)
	if depth > 5 {
		kind = 0
	}
	head := g.fields()
	switch {
	case kind < 4:
		typ := pick(g, []string{"", "Content-Type: text/plain; charset=" + pick(g, charsetNames) + "\r\n", "Content-Type: text/html\r\n", "Content-Type: image/png; name=x\r\n", "Content-Type:" + pick(g, types) + "\r\n", "Content-Type: text/plain;" + pick(g, params()) + "\r\n"})
		if strings.Contains(typ, "rfc822") {
			typ = ""
		}
		return head + typ + extra + g.end() + g.lines()
	case kind < 6:
		return head + "Content-Type: message/rfc822\r\n" + extra + g.end() + g.entity(depth+1, "")
	default:
		return g.multipart(head, depth)
	}
}

func (g *generator) end() string {
	return pick(g, []string{"\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "", "\n", "\r\n\r\n"})
}

func (g *generator) multipart(head string, depth int) string {
	g.count++
	boundary := pick(g, []string{fmt.Sprintf("b%d", g.count), fmt.Sprintf("b%d", g.count), "b", "=_" + strings.Repeat("x", g.count), "b b"})
	g.open = append(g.open, boundary)
	defer func() { g.open = g.open[:len(g.open)-1] }()
	param := pick(g, []string{"; boundary=\"" + boundary + "\"", "; boundary=\"" + boundary + "\"", "; boundary=\"" + boundary + "\"", "; boundary*=utf-8''" + strings.ReplaceAll(boundary, " ", "%20"), "; BOUNDARY*0=\"" + boundary + "\"", ""})
	var b strings.Builder
	b.WriteString(head + "Content-Type: multipart/" + pick(g, []string{"mixed", "alternative", "digest", "related", "MIXED"}) + param + "\r\n" + g.end())
	if g.r.IntN(2) == 0 {
		b.WriteString(g.lines())
	}
	for range g.r.IntN(4) {
		line := boundary
		if g.r.IntN(12) == 0 {
			line = pick(g, g.open)
		}
		b.WriteString(g.eol() + "--" + line + pick(g, []string{"", "", "", "", " ", "\t ", "x"}) + g.eol())
		b.WriteString(g.entity(depth+1, ""))
	}
	if g.r.IntN(6) > 0 {
		b.WriteString(g.eol() + "--" + boundary + "--" + pick(g, []string{"", "", "", "-", "x", " "}) + g.eol())
	}
	if g.r.IntN(3) == 0 {
		b.WriteString(g.lines())
	}
	return b.String()
}

// damage changes a message at random places.
func (g *generator) damage(text string) string {
	if len(text) == 0 {
		return text
	}
	at := g.r.IntN(len(text))
	switch g.r.IntN(12) {
	case 0:
		return text[:at]
	case 1:
		return text[:at] + string([]byte{byte(g.r.IntN(256))}) + text[at:]
	case 2:
		return text[:at] + "\x00" + text[at:]
	case 3:
		return text[:at] + text[at+1:]
	case 4:
		return text[:at] + pick(g, []string{"\r\n", "\n", "\r", " ", "\"", "(", "--b\r\n", "\r\n--b--\r\n", "\r\n ", ";", "=?"}) + text[at:]
	case 5:
		to := at + g.r.IntN(len(text)-at)
		return text[:at] + text[to:]
	case 6:
		to := at + g.r.IntN(min(len(text)-at, 200))
		return text[:at] + text[at:to] + text[at:]
	}
	return text
}
