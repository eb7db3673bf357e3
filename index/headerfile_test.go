package index

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// readableHeaders are bodies that Cyrus reads, and what they say.
var readableHeaders = []struct {
	body string
	want HeaderFile
}{
	{"user.alice\t4vyaor0ube104vi1ce8xv4x1\n$Label1 Junk NonJunk \nalice\tlrswipkxtecdan\t\n",
		HeaderFile{QuotaRoot: "user.alice", UniqueID: "4vyaor0ube104vi1ce8xv4x1", Flags: []string{"$Label1", "Junk", "NonJunk"},
			ACL: []ACLEntry{{"alice", "lrswipkxtecdan"}}}},
	{"\tid\n\n\n", HeaderFile{UniqueID: "id", ACL: []ACLEntry{}}},
	{"root\n\n\n", HeaderFile{QuotaRoot: "root", ACL: []ACLEntry{}}},
	{"\tid\tmore\tof it\n A  B\na\tlr\todd\nrest\n", HeaderFile{UniqueID: "id", Flags: []string{"", "A", "", "B"}, ACL: []ACLEntry{{"a", "lr"}}}},
	{"%(T e N user.d^ot I ktvap0pz1br513n9ngwiydhi A %(d.ot lrswipkxtecdan))\n",
		HeaderFile{Form: HeaderList, Type: "e", Name: "user.d^ot", UniqueID: "ktvap0pz1br513n9ngwiydhi", ACL: []ACLEntry{{"d.ot", "lrswipkxtecdan"}}}},
	{"%(T el N other.example!user.dan.Folder I x Q other.example!user.dan A %(dan@other.example lr anyone \"\") U ($Label1 NIL Junk))\n",
		HeaderFile{Form: HeaderList, Type: "el", Name: "other.example!user.dan.Folder", UniqueID: "x", QuotaRoot: "other.example!user.dan",
			ACL: []ACLEntry{{"dan@other.example", "lr"}, {"anyone", ""}}, Flags: []string{"$Label1", "", "Junk"}}},
	{"%(T e N NIL I NIL A %())\nlater\n", HeaderFile{Form: HeaderList, Type: "e", ACL: []ACLEntry{}}},
	{"%(Z (a %(b c)) U (F) I \"quo\\\"ted\" \"W\" x J jid)\n",
		HeaderFile{Form: HeaderList, UniqueID: `quo"ted`, JMAPID: "jid", Flags: []string{"F"}}},
	{"%(T e N \"a b\" I x A %({3+}\r\na\"\n lr))\n", HeaderFile{Form: HeaderList, Type: "e", Name: "a b", UniqueID: "x", ACL: []ACLEntry{{"a\"\n", "lr"}}}},
}

func TestHeaderFile(t *testing.T) {
	t.Parallel()
	for _, c := range readableHeaders {
		b := []byte(headerMagic + c.body)
		var h HeaderFile
		require.NoError(t, h.Decode(b), "%q", c.body)
		require.Equal(t, c.want, h.values(), "%q", c.body)
		require.Equal(t, string(b), string(h.Append(nil)))
		require.Equal(t, checksum(b), h.Checksum())
		require.Equal(t, strings.Contains(c.body, "{3+}"), h.HasLiteral())
	}
	for body, class := range map[string]error{
		"": ErrDamaged, "a\tb": ErrDamaged, "a\tb\nc \n": ErrDamaged, "%": ErrDamaged, "%(T e)": ErrDamaged, "%(T e)\r\n": ErrDamaged, "%(T e) \n": ErrDamaged,
		"%(T (e))\n": ErrDamaged, "%(A lr)\n": ErrDamaged, "%(U x)\n": ErrDamaged, "%(T e I {9+}\r\nx)\n": ErrDamaged,
		"%(U " + strings.Repeat("(", 100) + strings.Repeat(")", 100) + ")\n": ErrDamaged,
	} {
		var h HeaderFile
		require.ErrorIs(t, h.Decode([]byte(headerMagic+body)), class, "%q", body)
		require.Equal(t, HeaderFile{}, h)
	}
	require.ErrorIs(t, new(HeaderFile).Decode([]byte("%(T e)\n")), ErrNotHeader)
	require.ErrorIs(t, new(HeaderFile).Decode(make([]byte, headerMax+1)), ErrDamaged)
}

// TestChangedHeader changes one thing: all else stays, what is unknown too, and there is no line end inside.
func TestChangedHeader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body, want string
		change     func(h *HeaderFile)
	}{
		{readableHeaders[0].body, "user.alice\t4vyaor0ube104vi1ce8xv4x1\n$Label1  NonJunk New \nalice\tlrswipkxtecdan\t\n",
			func(h *HeaderFile) { h.Flags = []string{"$Label1", "", "NonJunk", "New"} }},
		{readableHeaders[3].body, "\tid\tmore\tof it\nA \na\tlr\todd\nrest\n", func(h *HeaderFile) { h.Flags = []string{"A", ""} }},
		{readableHeaders[3].body, "\tid\tmore\tof it\n A  B \na\tl\t\nrest\n", func(h *HeaderFile) { h.ACL = []ACLEntry{{"a", "l"}} }},
		{"root\n\n\n", "other\n\n\n", func(h *HeaderFile) { h.QuotaRoot = "other" }},
		{"root\n\n\n", "root\tid\n\n\n", func(h *HeaderFile) { h.UniqueID = "id" }},
		{readableHeaders[4].body, "%(T e N user.d^ot I ktvap0pz1br513n9ngwiydhi Q user.d^ot A %(d.ot lrswipkxtecdan) U (NIL \"NIL\"))\n",
			func(h *HeaderFile) { h.QuotaRoot, h.Flags = "user.d^ot", []string{"", "NIL"} }},
		{readableHeaders[7].body, "%(Z (a %(b c)) N NIL A %() I \"quo\\\"ted\" W x J jid)\n",
			func(h *HeaderFile) { h.Flags, h.ACL = nil, []ACLEntry{} }},
		{"%(T e I x Z ({1+}\r\n\" y) K {2}\r\n\\n Z2 %(a {1}\r\n%))\n", "%(T e N n I x Z (\"\\\"\" y) K \"\\\\n\" Z2 %(a \"%\"))\n", func(h *HeaderFile) { h.Name = "n" }},
		{readableHeaders[0].body, "%(T e N NIL I 4vyaor0ube104vi1ce8xv4x1 Q user.alice A %(alice lrswipkxtecdan) U ($Label1 Junk NonJunk))\n",
			func(h *HeaderFile) { h.Form = HeaderList }},
	} {
		var h, again HeaderFile
		require.NoError(t, h.Decode([]byte(headerMagic+c.body)))
		c.change(&h)
		b := h.Append(nil)
		require.Equal(t, headerMagic+c.want, string(b))
		require.NoError(t, again.Decode(b))
		if h.Form != h.read.was.Form {
			h.Type = typeMail
		}
		require.True(t, h.same(&again), "%+v\n%+v", h.values(), again.values())
		require.False(t, again.HasLiteral())
	}
}

// TestAnyHeader writes headers of random values and reads them.
func TestAnyHeader(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		form := rapid.SampledFrom([]HeaderForm{HeaderText, HeaderList}).Draw(t, "form")
		text := rapid.StringMatching(`[ -~\x80-\xff]{0,9}`)
		if form == HeaderList {
			text = rapid.OneOf(text, rapid.Just("\t"), rapid.StringN(1024, 1100, -1))
		}
		id := text.Filter(func(s string) bool { return s != "" && !strings.ContainsAny(s, "\x00\r\n") })
		h := HeaderFile{Form: form, UniqueID: id.Draw(t, "id"), ACL: []ACLEntry{}}
		if form == HeaderList {
			h.Type, h.Name = id.Draw(t, "type"), id.Draw(t, "name")
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "rights") {
			h.ACL = append(h.ACL, ACLEntry{id.Draw(t, "identifier"), id.Draw(t, "rights")})
			h.Flags = append(h.Flags, rapid.SampledFrom([]string{"", fmt.Sprintf("$F%d", i)}).Draw(t, "flag"))
		}
		require.NoError(t, h.Validate())
		b := h.Append(nil)
		var got HeaderFile
		require.NoError(t, got.Decode(b))
		require.True(t, h.same(&got), "%q", b)
		require.Equal(t, b, got.Append(nil))
		require.False(t, got.HasLiteral())
	})
}

func TestInvalidHeader(t *testing.T) {
	t.Parallel()
	many := make([]string, UserFlagsMax+1)
	for i := range many {
		many[i] = fmt.Sprintf("f%d", i)
	}
	for _, c := range []struct {
		h     HeaderFile
		class error
	}{
		{HeaderFile{}, ErrDamaged},
		{HeaderFile{UniqueID: "a\nb"}, ErrValue},
		{HeaderFile{UniqueID: "x", QuotaRoot: "a\tb"}, ErrValue},
		{HeaderFile{UniqueID: "x", ACL: []ACLEntry{{"\x00", ""}}}, ErrValue},
		{HeaderFile{UniqueID: "x", Flags: []string{"a b"}}, ErrValue},
		{HeaderFile{UniqueID: "x", Flags: []string{"a", "A"}}, ErrDamaged},
		{HeaderFile{UniqueID: "x", Flags: []string{"(a"}}, ErrDamaged},
		{HeaderFile{UniqueID: "x", Flags: many}, ErrDamaged},
	} {
		require.ErrorIs(t, c.h.Validate(), c.class, "%+v", c.h)
	}
	h := HeaderFile{UniqueID: "x", Flags: append(many[:UserFlagsMax:UserFlagsMax], "")}
	require.NoError(t, h.Validate())
}
