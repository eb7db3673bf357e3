package message

import "bytes"

// decodeWords appends the text of a header to dst, with the encoded words of RFC 2047 decoded to UTF-8. What stands
// outside them is US-ASCII: other bytes become U+FFFD. White space between encoded words goes away. The result ends
// before its first NUL.
func decodeWords(dst, s []byte) []byte {
	if plain(s) {
		return append(dst, s...)
	}
	w := wordDecoder{t: textDecoder{out: dst}}
	w.t.use(usASCII)
	start := len(dst)
	text := s // what has not been written
	between := false
	for at := 0; ; {
		word, ok := nextWord(s, &at)
		if !ok {
			break
		}
		lead := s[len(s)-len(text) : word.start]
		if !between || !allSpace(lead) {
			w.plain(lead)
			w.end()
		}
		w.word(word)
		text = s[word.end:]
		between = true
	}
	if len(text) > 0 {
		w.plain(text)
	}
	out := w.t.out
	return append(out[:start], untilNUL(out[start:])...)
}

// plain tells whether a header is its own decoded text: ASCII without encoded words, and without a CR, which might be
// part of a fold.
func plain(s []byte) bool {
	last := byte(0)
	for _, c := range s {
		if c >= 0x80 || c == '\r' || c == '?' && last == '=' || c == 0 {
			return false
		}
		last = c
	}
	return true
}

func allSpace(b []byte) bool {
	for _, c := range b {
		if !isSpace(c) {
			return false
		}
	}
	return true
}

// encodedWord is =?charset*language?q?text?=, s[start:end] of a header.
type encodedWord struct {
	start, end    int
	charset, text []byte
	base64        bool
}

// nextWord finds the next encoded word from *from on, and moves that behind it.
func nextWord(s []byte, from *int) (word encodedWord, ok bool) {
	i := *from
	for {
		n := bytes.IndexByte(s[min(i, len(s)):], '=')
		if n < 0 {
			return word, false
		}
		i += n + 1
		if at(s, i) != '?' {
			continue
		}
		word, next, ok := wordAt(s, i)
		if ok {
			*from = word.end
			return word, true
		}
		i = next
	}
}

// wordAt parses the encoded word whose first question mark is at i. If there is none it returns where to search on.
func wordAt(s []byte, i int) (word encodedWord, next int, ok bool) {
	star := -1
	j := i + 1
	for ; at(s, j) != 0 && s[j] != '=' && s[j] != '?'; j++ {
		if s[j] == '*' && star < 0 {
			star = j
		}
	}
	if at(s, j) != '?' {
		return word, j, false
	}
	if star < 0 {
		star = j
	}
	enc := lower(at(s, j+1))
	if enc != 'b' && enc != 'q' || at(s, j+2) != '?' {
		return word, j, false
	}
	k := j + 3
	for ; at(s, k) != 0 && s[k] != '?'; k++ {
		if s[k] == '=' && at(s, k+1) == '?' && at(s, k+2) != '=' {
			break // the start of another word
		}
	}
	if at(s, k) != '?' || at(s, k+1) != '=' {
		return word, k, false
	}
	return encodedWord{start: i - 1, end: k + 2, charset: s[i+1 : star], text: s[j+3 : k], base64: enc == 'b'}, 0, true
}

// wordDecoder decodes a header. Words of the same charset and encoding that follow each other are decoded as one, as a
// character may be split between them.
type wordDecoder struct {
	t       textDecoder
	dec     decoder
	last    string // canonical name of the charset of the word before, if there is one
	fold    int    // state of unfolding: 1 after CR, 2 after CRLF
	scratch []byte
}

// end forgets the word before.
func (w *wordDecoder) end() { w.last = "" }

// plain writes text outside of encoded words, unfolded.
func (w *wordDecoder) plain(s []byte) {
	w.t.use(usASCII)
	out := w.scratch[:0]
	for _, c := range s {
		switch {
		case w.fold == 0 && c == '\r':
			w.fold = 1
			continue
		case w.fold == 1 && c == '\n':
			w.fold = 2
			continue
		case w.fold == 1:
			out = append(out, '\r')
		case w.fold == 2 && !isBlank(c):
			out = append(out, '\r', '\n')
		}
		w.fold = 0
		out = append(out, c)
	}
	w.scratch = out
	w.t.write(out)
	w.t.flush()
}

// word writes an encoded word.
func (w *wordDecoder) word(word encodedWord) {
	cs, ok := lookupCharset(word.charset)
	if !ok {
		w.t.replace()
		w.t.use(usASCII)
		w.end()
		return
	}
	c := codingQuoted
	if word.base64 {
		c = codingBase64
	}
	if w.last != cs.name || w.dec.coding != c {
		w.t.use(cs)
		w.dec.reset(c)
		w.dec.header = true
		w.last = cs.name
	}
	w.dec.write(word.text, w.t.write)
	w.dec.flush(w.t.write)
	w.t.flush()
}
