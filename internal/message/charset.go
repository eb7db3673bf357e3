package message

import (
	_ "embed"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

// charset is a character set by its canonical name, and how it is decoded.
type charset struct {
	name  string
	kind  charsetKind
	table *[256]rune
	enc   encoding.Encoding
	pairs *double
}

type charsetKind byte

const (
	// kindASCII and kindUTF8 are decoded byte by byte, the others piece by piece as they come.
	kindASCII charsetKind = iota
	kindUTF8
	kindTable
	kindMulti
	kindDouble
	kindUTF7
	kindISO2022JP
	// kindOpaque is known by name, but taken for ASCII.
	kindOpaque
)

var (
	usASCII = &charset{name: "us-ascii", kind: kindASCII}
	utf8    = &charset{name: "utf-8", kind: kindUTF8}
)

// icuNames has a line for each charset that the library ICU 72 knows: its canonical name and its other names, without
// what does not count in comparisons. Cyrus asks ICU for what is not in its own list.
//
//go:embed charsets.txt
var icuNames string

// icuTables has a line for each single-byte charset of the ASCII family: its canonical name and runs of characters,
// as first byte, first character and length, all hexadecimal. Bytes in no run have no character.
//
//go:embed tables.txt
var icuTables string

// multibyte are the charsets that golang.org/x/text decodes.
var multibyte = map[string]encoding.Encoding{
	"UTF-8":                     unicode.UTF8,
	"UTF-16":                    unicode.UTF16(unicode.BigEndian, unicode.UseBOM),
	"UTF-16BE":                  unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM),
	"UTF-16LE":                  unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM),
	"UTF-32":                    utf32.UTF32(utf32.BigEndian, utf32.UseBOM),
	"UTF-32BE":                  utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM),
	"UTF-32LE":                  utf32.UTF32(utf32.LittleEndian, utf32.IgnoreBOM),
	"gb18030":                   simplifiedchinese.GB18030,
	"windows-936-2000":          simplifiedchinese.GBK,
	"ibm-1383_P110-1999":        simplifiedchinese.GBK,
	"HZ":                        simplifiedchinese.HZGB2312,
	"windows-950-2000":          traditionalchinese.Big5,
	"ibm-950_P110-1999":         traditionalchinese.Big5,
	"ibm-1375_P100-2008":        traditionalchinese.Big5,
	"euc-jp-2007":               japanese.EUCJP,
	"ibm-943_P15A-2003":         japanese.ShiftJIS,
	"ibm-970_P110_P110-2006_U2": korean.EUCKR,
	"windows-949-2000":          korean.EUCKR,
	"ibm-1363_P11B-1998":        korean.EUCKR,
	"UTF16_PlatformEndian":      unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM),
	"UTF16_OppositeEndian":      unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM),
}

// charsets is made once, when the first uncommon name is looked up.
var charsets = sync.OnceValue(func() map[string]*charset {
	tables := map[string]*[256]rune{}
	for line := range strings.Lines(icuTables) {
		name, runs, _ := strings.Cut(strings.TrimSpace(line), " ")
		tables[name] = parseTable(runs)
	}
	pairs := doubles()
	m := map[string]*charset{}
	for line := range strings.Lines(icuNames) {
		words := strings.Fields(line)
		cs := &charset{name: words[0], kind: kindOpaque}
		if t := tables[cs.name]; t != nil {
			cs.kind, cs.table = kindTable, t
		} else if d := pairs[cs.name]; d != nil {
			cs.kind, cs.pairs = kindDouble, d
		} else if e := multibyte[cs.name]; e != nil {
			cs.kind, cs.enc = kindMulti, e
		} else if cs.name == "UTF-7" {
			cs.kind = kindUTF7
		} else if strings.HasPrefix(cs.name, "ISO_2022,locale=ja") {
			cs.kind = kindISO2022JP
		} else if cs.name == "US-ASCII" {
			cs.kind, cs.table = kindTable, parseTable("0:0+80")
		}
		for _, alias := range words[1:] {
			m[alias] = cs
		}
	}
	return m
})

func parseTable(runs string) *[256]rune {
	t := new([256]rune)
	for i := range t {
		t[i] = replacement
	}
	for _, run := range strings.Fields(runs) {
		run, count, _ := strings.Cut(run, "+")
		first, char, _ := strings.Cut(run, ":")
		n := hexNumber(count)
		if count == "" {
			n = 1
		}
		for i := range n {
			t[hexNumber(first)+i] = rune(hexNumber(char) + i)
		}
	}
	return t
}

func hexNumber(s string) int {
	n, _ := strconv.ParseUint(s, 16, 21)
	return int(n)
}

// ownNames are the names that Cyrus itself knows, in lower case, with what they mean.
var ownNames = map[string]string{
	"utf8": "utf-8", "unicode-1-1-utf-8": "utf-8", "utf7": "utf-7", "unicode-1-1-utf-7": "utf-7",
	"imap-utf-7": "IMAP-mailbox-name",
	"ascii":      "us-ascii", "ansi_x3.4-1968": "us-ascii", "usascii": "us-ascii",
	"iso-8859-1": "windows-1252", "iso_8859_1": "windows-1252", "iso_8859-1": "windows-1252", "iso_8859": "windows-1252",
	"iso-8859": "windows-1252", "8859_1": "windows-1252", "iso--8859-1": "windows-1252", "so-8859-1": "windows-1252",
	"en_gb": "windows-1252", "auto": "windows-1252", "unknown": "windows-1252", "unknown-8bit": "windows-1252",
	"x-unknown": "windows-1252", "x-user-defined": "windows-1252", "x-europa": "windows-1252", "none": "windows-1252",
	"latin1": "windows-1252", "iso8859-1": "windows-1252", "8859-1": "windows-1252", "es-windows-1252": "windows-1252",
	"display": "windows-1252", "any": "windows-1252",
	"x-mac-roman": "macintosh", "mac": "macintosh", "csmacintosh": "macintosh",
	"646": "iso-8859-1", "iso646-us": "iso-8859-1",
	"8859_2": "iso-8859-2", "x-mac-turkish": "iso-8859-9", "greek-ccitt": "iso-8859-7", "iso-8859-8-i": "iso-8859-8",
	"iso8859_15_fdis": "iso-8859-15", "iso8859-15": "iso-8859-15", "tis-620": "iso-8859-11", "x-mac-thai": "iso-8859-11",
	"asmo-708": "iso-8859-6", "win-koi8": "koi8-r", "koi8-r": "koi8-r", "koi8-u": "koi8-u",
	"_iso-2022-jp$esc": "iso-2022-jp", "_iso-2022-jp": "iso-2022-jp", "csiso2022jp": "iso-2022-jp", "ks_c_5601": "ksc5601",
	"1250": "windows-1250", "cp1250": "windows-1250", "win-1250": "windows-1250", "238": "windows-1250",
	"1251": "windows-1251", "cp1251": "windows-1251", "win-1251": "windows-1251",
	"1252": "windows-1252", "cp1252": "windows-1252", "cp-1252": "windows-1252", "win-1252": "windows-1252",
	"1254": "windows-1254", "cp1254": "windows-1254", "win-1254": "windows-1254",
	"1255": "windows-1255", "cp1255": "windows-1255", "win-1255": "windows-1255",
	"1256": "windows-1256", "cp1256": "windows-1256", "win-1256": "windows-1256", "win1256": "windows-1256",
	"1257": "windows-1257", "cp1257": "windows-1257", "win-1257": "windows-1257",
	"1258": "windows-1258", "cp1258": "windows-1258", "win-1258": "windows-1258",
	"cp850": "windows-850", "cp-850": "windows-850", "dos-latin1": "windows-850", "msdos-latin1": "windows-850",
	"cp932": "windows-31j", "cp-932": "windows-31j", "win-31j": "windows-31j", "shift_jis": "windows-31j",
	"cp936": "windows-936", "cp-936": "windows-936", "win-936": "windows-936", "gbk": "windows-936",
	"x-gbk": "windows-936", "gb2312": "windows-936", "136": "big5",
}

// ownCanonical are the values of ownNames, with their spelling.
var ownCanonical = sync.OnceValue(func() map[string]string {
	m := map[string]string{}
	for _, canonical := range ownNames {
		m[strings.ToLower(canonical)] = canonical
	}
	return m
})

// nameLenMax is the length from which on ICU refuses a name, which spares us long ones.
const nameLenMax = 60

// lookupCharset finds a charset by any of its names.
func lookupCharset(name []byte) (*charset, bool) {
	switch string(name) {
	case "us-ascii", "US-ASCII":
		return usASCII, true
	case "utf-8", "UTF-8":
		return utf8, true
	}
	if cs, ok := found.Load(string(name)); ok {
		cs := cs.(*charset)
		return cs, cs != nil
	}
	cs := findCharset(string(name))
	if cs != nil && len(name) < nameLenMax {
		// Only what is known is remembered, in its usual spellings: a message cannot fill the memory with names.
		if foundCount.add() {
			found.Store(string(name), cs)
		}
	}
	return cs, cs != nil
}

// found remembers names, foundMax of them.
var (
	found      sync.Map
	foundCount limitedCounter
)

const foundMax = 1000

// limitedCounter counts to foundMax.
type limitedCounter struct {
	mu sync.Mutex
	n  int
}

func (c *limitedCounter) add() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n <= foundMax
}

func findCharset(name string) *charset {
	low := strings.ToLower(name)
	canonical, own := ownNames[low]
	if !own {
		canonical, own = ownCanonical()[low]
	}
	switch {
	case canonical == "utf-8" || low == "utf-8":
		return utf8
	case canonical == "us-ascii" || low == "us-ascii":
		return usASCII
	case own:
		name = canonical
	}
	cs := findICU(name)
	if cs != nil && own {
		named := *cs
		named.name = canonical
		return &named
	}
	return cs
}

// findICU finds a charset as ICU does: options behind a comma do not count, nor an x- at the start of an otherwise
// unknown name.
func findICU(name string) *charset {
	name, _, _ = strings.Cut(name, ",")
	if len(name) >= nameLenMax {
		return nil
	}
	if cs := charsets()[comparable(name)]; cs != nil {
		return cs
	}
	if rest, ok := strings.CutPrefix(name, "x-"); ok {
		return charsets()[comparable(rest)]
	}
	return nil
}

// comparable returns a name as ICU compares it: letters in lower case and digits, without the zeros with which numbers
// begin.
func comparable(name string) string {
	var b strings.Builder
	afterDigit := false
	for i := range len(name) {
		c := lower(name[i])
		switch {
		case isDigit(c):
			if c == '0' && !afterDigit && i+1 < len(name) && isDigit(name[i+1]) {
				continue
			}
			afterDigit = true
		case isAlpha(c):
			afterDigit = false
		default:
			afterDigit = false
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
