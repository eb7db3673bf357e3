package dlist

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// shape writes a tree without regard to spelling: strings as Go strings, NIL as nil.
func shape(n *Node) string {
	switch n.Kind() {
	case Nil:
		return "nil"
	case String:
		return fmt.Sprintf("%q", n.Text())
	case File:
		id, _ := n.GUID()
		return fmt.Sprintf("file %q %x %q", n.Partition(), id, n.Text())
	}
	var parts []string
	for _, item := range n.Items {
		text := shape(item)
		if n.Kind() == KVList {
			text = fmt.Sprintf("%q:%s", item.Key(), text)
		}
		parts = append(parts, text)
	}
	if n.Kind() == KVList {
		return "{" + strings.Join(parts, " ") + "}"
	}
	return "[" + strings.Join(parts, " ") + "]"
}

const guid = "0123456789abcdef0123456789abcdef01234567"

// readable are texts that are read, and what they mean. All are written again as they were.
var readable = []struct{ text, shape string }{
	{`NIL`, `nil`},
	{`"NIL"`, `"NIL"`},
	{`nil`, `"nil"`},
	{`atom`, `"atom"`},
	{`""`, `""`},
	{`"a b"`, `"a b"`},
	{`"a\"b\\\c"`, `"a\"b\\c"`},
	{`"atom"`, `"atom"`},
	{"{3+}\r\na%b", `"a%b"`},
	{"{3}\r\na%b", `"a%b"`},
	{"{003+}\r\na%b", `"a%b"`},
	{"{+}\r\n", `""`},
	{"{}\r\n", `""`},
	{"{3+}\r\nabc", `"abc"`},
	{"({2+}\r\n)( {0}\r\n)", `[")(" ""]`},
	{`()`, `[]`},
	{`%()`, `{}`},
	{`( )`, `[""]`},
	{`(a )`, `["a"]`},
	{`(a  b)`, `["a" "" "b"]`},
	{`(a () (b (NIL)) %(c d))`, `["a" [] ["b" [nil]] {"c":"d"}]`},
	{`%(T e  I x)`, ""},
	{`%(I  P default)`, `{"I":"" "P":"default"}`},
	{`%( v)`, `{"":"v"}`},
	{`%("" v)`, `{"":"v"}`},
	{`%("a b" lr {3+}` + "\r\nx%y r)", `{"a b":"lr" "x%y":"r"}`},
	{`%(a "x" a y)`, `{"a":"x" "a":"y"}`},
	{`(a(b \Seen $Label1 [x] ,;')`, `["a(b" "\\Seen" "$Label1" "[x]" ",;'"]`},
	{"%(N user\x1falice\x1fx T ed)", `{"N":"user\x1falice\x1fx" "T":"ed"}`},
	{"%(N \"other.example\x1duser\x1fdan\")", `{"N":"other.example\x1duser\x1fdan"}`},
	{"(a\nb \x00\xff)", `["a\nb" "\x00\xff"]`},
	{"%(T e I x A %(alice lrswipkxtecdan anyone \"\") H (%(N y T ed)))",
		`{"T":"e" "I":"x" "A":{"alice":"lrswipkxtecdan" "anyone":""} "H":[{"N":"y" "T":"ed"}]}`},
}

func TestReadAndWrite(t *testing.T) {
	t.Parallel()
	for _, c := range readable {
		n, err := Parse([]byte(c.text))
		if c.shape == "" {
			require.ErrorIs(t, err, ErrSyntax, "%q", c.text)
			continue
		}
		require.NoError(t, err, "%q", c.text)
		require.Equal(t, c.shape, shape(n), "%q", c.text)
		require.Equal(t, c.text, string(n.Append(nil)))
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text   string
		offset int
		found  string
	}{
		{"", 0, "the end"},
		{"(", 1, "the end"},
		{"(a", 2, "the end"},
		{"(a ", 3, "the end"},
		{"%(a", 3, "the end"},
		{"%(a)", 3, `")"`},
		{"%(a b", 5, "the end"},
		{"%(a b c)", 7, `")"`},
		{"%(NIL b)", 2, `"N"`},
		{"%( T e)", 6, `")"`},
		{"%", 1, "the end"},
		{"%x", 1, `"x"`},
		{"%{default " + guid + " 1}\r\nx", 1, `"{"`},
		{"a b", 1, `" "`},
		{"a)", 1, `")"`},
		{"(a))", 3, `")"`},
		{" a", 0, `" "`},
		{`"a`, 2, "the end"},
		{`"a\`, 3, "the end"},
		{`("a"b)`, 4, `"b"`},
		{"{1", 2, "the end"},
		{"{1+2}\r\nab", 3, `"2"`},
		{"{-1}\r\n", 1, `"-"`},
		{"{1}\nx", 3, `"\n"`},
		{"{2}\r\nx", 6, "the end"},
		{"{99999999999999999999999999}\r\nx", 2, `"9"`},
		{"(()", 3, "the end"},
		{"(()())", 3, `"("`},
	} {
		n, err := Parse([]byte(c.text))
		require.Nil(t, n, "%q", c.text)
		require.ErrorIs(t, err, ErrSyntax, "%q", c.text)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, c.offset, e.Offset, "%q: %v", c.text, err)
		require.Equal(t, c.found, e.Found, "%q: %v", c.text, err)
		require.NotEmpty(t, e.Wanted)
	}
}

func TestWire(t *testing.T) {
	t.Parallel()
	p := Parser{Keyed: true, Files: true}
	for _, c := range []struct{ text, shape string }{
		{"MAILBOX %(UNIQUEID x RECORD ())", `{"UNIQUEID":"x" "RECORD":[]}`},
		{"MESSAGE (%{default " + guid + " 5}\r\na\x00)\r\n %{\"my part\" " + guid + " 0}\r\n)",
			`[file "default" ` + guid + ` "a\x00)\r\n" file "my part" ` + guid + ` ""]`},
		{"MESSAGE %{{3}\r\nabc \"" + guid + "\" 007}\n1234567", `file "abc" ` + guid + ` "1234567"`},
	} {
		n, rest, err := p.ParsePrefix([]byte(c.text + "\r\n"))
		require.NoError(t, err, "%q", c.text)
		require.Equal(t, "\r\n", string(rest))
		require.Equal(t, c.shape, shape(n))
		require.Equal(t, c.text, string(n.AppendKeyed(nil)))
	}
	for _, text := range []string{
		"M %{default " + guid + " 6}\r\n12345", "M %{default " + guid + " x}\r\n", "M %{default " + guid + " 1}x",
		"M %{default 0123 1}\r\nx", "M %{NIL " + guid + " 1}\r\nx", "M %{default", "M %{default " + guid + " 99999999999999999999}\r\nx", "M",
	} {
		_, err := p.Parse([]byte(text))
		require.ErrorIs(t, err, ErrSyntax, "%q", text)
	}
}

// TestLimits shows each limit at its edge, and that what lies far beyond costs neither stack nor memory.
func TestLimits(t *testing.T) {
	t.Parallel()
	nested := func(n int) []byte { return []byte(strings.Repeat("(", n) + strings.Repeat(")", n)) }
	n, err := Parse(nested(DefaultDepth))
	require.NoError(t, err)
	require.Equal(t, nested(DefaultDepth), n.Append(nil))
	for _, text := range [][]byte{
		nested(DefaultDepth + 1), nested(1_000_000),
		[]byte(strings.Repeat("%(a ", 1_000_000)), []byte(strings.Repeat("(", 1_000_000)),
	} {
		_, err = Parse(text)
		require.ErrorIs(t, err, ErrLimit)
		require.False(t, errors.Is(err, ErrSyntax))
	}

	deep := Parser{Limits: Limits{Depth: 200_000}}
	n, err = deep.Parse(nested(200_000))
	require.NoError(t, err, "a caller may allow it, and even then nothing recurses")
	require.True(t, bytes.Equal(nested(200_000), n.Append(nil)))

	few := Parser{Limits: Limits{Bytes: 10, Nodes: 3}}
	_, err = few.Parse([]byte("(a b)"))
	require.NoError(t, err)
	_, err = few.Parse([]byte("(a b c)"))
	require.ErrorIs(t, err, ErrLimit)
	_, err = few.Parse([]byte("(aaaaaaaaa)"))
	require.ErrorIs(t, err, ErrLimit)
}

// TestMemory shows what a hostile text costs at the most. It runs alone, as it counts what is allocated.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Parse([]byte("(" + strings.Repeat(" ", 4<<20) + ")"))
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, ErrLimit)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(512<<20))
}

func TestAccess(t *testing.T) {
	t.Parallel()
	n, err := Parse([]byte(`%(T ed V 1795432816 "F x" NIL G ` + guid + ` X 00000000000000ff A %(alice lr) T second unknown ("a" b))`))
	require.NoError(t, err)
	require.Equal(t, "ed", n.Get("T").Text())
	v, ok := n.Get("V").Uint64()
	require.True(t, ok)
	require.Equal(t, uint64(1795432816), v)
	at, ok := n.Get("V").Date()
	require.True(t, ok)
	require.Equal(t, int64(1795432816), at.Unix())
	x, ok := n.Get("X").Hex64()
	require.True(t, ok)
	require.Equal(t, uint64(255), x)
	id, ok := n.Get("G").GUID()
	require.True(t, ok)
	require.Equal(t, byte(0x67), id[19])
	require.Equal(t, Nil, n.Get("F x").Kind())
	require.Equal(t, "lr", n.Get("A").Get("alice").Text())
	require.Equal(t, 2, n.Get("unknown").Len())
	require.Equal(t, "b", n.Get("unknown").At(1).Text())
	for _, missing := range []*Node{n.Get("none"), n.Get("T").Get("x"), n.Get("none").Get("x").At(3), n.At(-1), n.At(99), nil} {
		require.Nil(t, missing)
		require.Equal(t, Nil, missing.Kind())
		require.Empty(t, missing.Text()+missing.Key()+missing.Partition())
		require.Zero(t, missing.Len())
		require.False(t, missing.Delete("x"))
		require.Equal(t, "NIL", string(missing.Append(nil)))
	}
	for _, s := range []string{"", "-1", "+1", "1x", "18446744073709551616", "0x10"} {
		_, ok := NewString(s).Uint64()
		require.False(t, ok, s)
		_, ok = NewString(s).Date()
		require.False(t, ok, s)
	}
	for _, s := range []string{"", "0x1", "+1", "1_0", "11111111111111111", "g"} {
		_, ok := NewString(s).Hex64()
		require.False(t, ok, s)
	}
	_, ok = NewString(strings.Repeat("x", 40)).GUID()
	require.False(t, ok)
	_, ok = NewList().GUID()
	require.False(t, ok)
}

// TestChange shows that a change touches nothing but what was changed.
func TestChange(t *testing.T) {
	t.Parallel()
	n, err := Parse([]byte(`%("T" e x  "V" {1+}` + "\r\n1 T old z (a ))"))
	require.NoError(t, err)
	n.Set("T", NewString("ed"))
	n.Set("V", NewUint(7))
	n.Set("new key", NewKVList(NewHex(1).Named("a")))
	require.Equal(t, `%("T" ed x  "V" 7 T old z (a ) "new key" %(a 0000000000000001))`, string(n.Append(nil)))
	require.True(t, n.Delete("T"))
	require.False(t, n.Delete("T"))
	require.Equal(t, `%(x  "V" 7 z (a ) "new key" %(a 0000000000000001))`, string(n.Append(nil)))
	require.Panics(t, func() { NewList().Set("a", NewNil()) })
}

func TestSpelling(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1023)
	for _, c := range []struct {
		n    *Node
		text string
	}{
		{NewString(""), `""`},
		{NewString("NIL"), `"NIL"`},
		{NewString("NILs"), `NILs`},
		{NewString("a b"), `"a b"`},
		{NewString("a\tb*{("), "\"a\tb*{(\""},
		{NewString("a]}',"), "a]}',"},
		{NewString("a\x1fb"), "a\x1fb"},
		{NewString("a\x1eb"), "\"a\x1eb\""},
		{NewString("a\x7fb"), "\"a\x7fb\""},
		{NewString("a\rb"), "{3+}\r\na\rb"},
		{NewString("a\x00b"), "{3+}\r\na\x00b"},
		{NewString("ä"), "{2+}\r\nä"},
		{NewString(`\Seen`), "{5+}\r\n\\Seen"},
		{NewString(long), long},
		{NewString(long + "x"), "{1024+}\r\n" + long + "x"},
		{NewString(long[1:] + " "), `"` + long[1:] + ` "`},
		{NewFlag(`\Seen`), `\Seen`},
		{NewFlag(`$Label1`), `$Label1`},
		{NewFlag(`\a b`), "{4+}\r\n\\a b"},
		{NewFlag(`\`), "{1+}\r\n\\"},
		{NewNil(), "NIL"},
		{NewUint(1<<64 - 1), "18446744073709551615"},
		{NewDate(time.Unix(7, 5)), "7"},
		{NewDate(time.Unix(-7, 0)), "0"},
		{NewGUID([20]byte{0xab}), "ab" + strings.Repeat("0", 38)},
		{NewFile("default", [20]byte{}, "x\r\n"), "%{default " + strings.Repeat("0", 40) + " 3}\r\nx\r\n"},
	} {
		require.Equal(t, c.text, string(c.n.Append(nil)))
		back, err := Parser{Files: true}.Parse([]byte(c.text))
		require.NoError(t, err, "%q", c.text)
		require.Equal(t, shape(c.n), shape(back))
	}
}

// nodes draws trees as a program would build them.
func nodes(depth int) *rapid.Generator[*Node] {
	text := rapid.OneOf(
		rapid.StringMatching(`[a-zA-Z0-9.]{1,8}`),
		rapid.StringOf(rapid.SampledFrom([]rune(" \"%\\()*{}[]$,'\x00\x01\x1d\x1e\x1f\x7f\r\n\tNIL+aä0"))),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 6), func(b []byte) string { return string(b) }),
		rapid.Map(rapid.IntRange(1020, 1026), func(n int) string { return strings.Repeat("y", n) }),
		rapid.SampledFrom([]string{"", "NIL", "nil"}),
	)
	return rapid.Custom(func(t *rapid.T) *Node {
		kinds := 6
		if depth == 0 {
			kinds = 4
		}
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			return NewNil()
		case 1:
			return NewUint(rapid.Uint64().Draw(t, "number"))
		case 4:
			return NewList(rapid.SliceOfN(nodes(depth-1), 0, 4).Draw(t, "items")...)
		case 5:
			list := NewKVList()
			for range rapid.IntRange(0, 4).Draw(t, "count") {
				key := text.Draw(t, "key")
				list.Items = append(list.Items, nodes(depth-1).Draw(t, "item").Named(key))
			}
			return list
		}
		return NewString(text.Draw(t, "string"))
	})
}

// TestRoundTrip writes random trees, reads them, and compares.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := nodes(3).Draw(t, "tree")
		text := n.Append(nil)
		back, err := Parse(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if shape(back) != shape(n) {
			t.Fatalf("%q: %s became %s", text, shape(n), shape(back))
		}
		if again := back.Append(nil); !bytes.Equal(again, text) {
			t.Fatalf("%q became %q", text, again)
		}
		rest := []byte(" x)")
		if _, tail, err := (Parser{}).ParsePrefix(append(text, rest...)); err != nil || !bytes.Equal(tail, rest) {
			t.Fatalf("%q followed by %q: %q, %v", text, rest, tail, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, c := range readable {
		f.Add([]byte(c.text), false)
	}
	f.Add([]byte("M (%{default "+guid+" 2}\r\nx) )"), true)
	f.Add([]byte("%({3}\r\nabc \"x\\\"\" (((( )) NIL) )"), false)
	f.Fuzz(func(t *testing.T, text []byte, wire bool) {
		n, rest, err := Parser{Keyed: wire, Files: wire, Limits: Limits{Bytes: 1 << 20, Depth: 100, Nodes: 10_000}}.ParsePrefix(text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Offset < 0 || e.Offset > len(text) || n != nil {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		var again []byte
		if wire {
			again = n.AppendKeyed(nil)
		} else {
			again = n.Append(nil)
		}
		if !bytes.Equal(append(again, rest...), text) {
			t.Fatalf("%q became %q and %q", text, again, rest)
		}
	})
}

func ExampleParse() {
	n, err := Parse([]byte("%(T e I 4vyaor0u P default V 1795432816 A %(alice lrswipkxtecdan) FUTURE (x))"))
	if err != nil {
		panic(err)
	}
	n.Get("A").Set("shared group", NewString("lr"))
	fmt.Println(n.Get("P").Text())
	fmt.Printf("%s\n", n.Append(nil))
	// Output:
	// default
	// %(T e I 4vyaor0u P default V 1795432816 A %(alice lrswipkxtecdan "shared group" lr) FUTURE (x))
}
