package message

// Unsure tells that the search strings of the cache record, FROM, TO, CC, BCC and SUBJECT, may not be those of Cyrus: an
// encoded word is in a charset that Cyrus has ICU decode in ways that are not reproduced here. These are EBCDIC and other
// charsets known by name only, HZ and ISO-2022-JP with broken escapes.
func (m *Message) Unsure() bool {
	if unsure(m.Root.Subject) {
		return true
	}
	for _, list := range [][]Address{m.Root.From, m.Root.To, m.Root.Cc, m.Root.Bcc} {
		for _, a := range list {
			if unsure(a.Name) || a.Host == nil && unsure(a.Mailbox) {
				return true
			}
		}
	}
	return false
}

func unsure(text []byte) bool {
	for at := 0; ; {
		word, ok := nextWord(text, &at)
		if !ok {
			return false
		}
		if cs, ok := lookupCharset(word.charset); ok && (cs.kind == kindOpaque || cs.kind == kindISO2022JP || cs.name == "HZ") {
			return true
		}
	}
}
