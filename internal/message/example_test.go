package message_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/mailspine/mailspine/internal/message"
)

func ExampleParser_Parse() {
	text := "Date: Wed, 01 Jan 2020 10:11:12 +0100\r\nFrom: =?utf-8?q?S=C3=B8ren?= <Soren@Example.ORG>\r\n" +
		"Subject: hello\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello!\r\n"
	var p message.Parser
	m, err := p.Parse(strings.NewReader(text))
	if err != nil {
		fmt.Println(err)
		return
	}
	sent, gm := m.Dates(1577873472, time.UTC)
	fmt.Println(m.Size, m.HeaderSize, sent, gm)
	fmt.Printf("%s\n%s\n", m.AppendEnvelope(nil), m.AppendBodyStructure(nil))
	from, to := m.Content(m.Root)
	fmt.Printf("%q\n", text[from:to])
	record := m.AppendCache(nil)
	fmt.Printf("%d bytes, cache_crc %08x\n", len(record), message.CacheCRC(record))
	// Output:
	// 156 148 1577836800 1577869872
	// ("Wed, 01 Jan 2020 10:11:12 +0100" "hello" (("=?utf-8?q?S=C3=B8ren?=" NIL "Soren" "Example.ORG")) (("=?utf-8?q?S=C3=B8ren?=" NIL "Soren" "Example.ORG")) (("=?utf-8?q?S=C3=B8ren?=" NIL "Soren" "Example.ORG")) NIL NIL NIL NIL NIL)
	// ("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "7BIT" 8 1 NIL NIL NIL NIL)
	// "Hello!\r\n"
	// 588 bytes, cache_crc 85281dc6
}
