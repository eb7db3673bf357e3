package mboxdb

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// values are records as Cyrus 3.6.1 wrote them, and some that nobody writes but that can be read.
var values = []struct{ key, value string }{
	{"Nuser\x1falice\x1fWork\x1f2024\x1fQ1.final", "%(T e I 1tw0homtnbmcyeucp34gsynd P default V 1795432816 C 1 F 1 M 1795432815 A %(alice lrswipkxtecdan))"},
	{"I1tw0homtnbmcyeucp34gsynd", "%(T e N user\x1falice\x1fWork\x1f2024\x1fQ1.final P default V 1795432816 C 1 F 1 M 1795432815 A %(alice lrswipkxtecdan) H ())"},
	{"Nuser\x1falice\x1fToRename", "%(T ed I jzc6simxgnj31nujxrj5ilb1 V 1795432816 C 1 F 4 M 1795432816)"},
	{"Ijzc6simxgnj31nujxrj5ilb1", "%(T e N user\x1falice\x1fRenamed\x1fDeep P default V 1795432816 C 1 F 4 M 1795432816 A %(alice lrswipkxtecdan) H (%(N user\x1falice\x1fToRename M 1795432816 V 1795432816 C 1 F 4 T ed)))"},
	{"Ief58ervwsugmbmsogi5rbb22", "%(T e N \"user\x1falice\x1fplus+comma,dot.(p)\" P default V 1 C 1 F 1 M 1 A %() H ())"},
	{"Iahg42iqdxc96zhwo6yelxgxb", "%(T el N \"other.example\x1duser\x1fdan\x1fFolder\" P default V 1795432852 C 4 F 4 M 1795432851 A %(dan@other.example lrswipkxtecdan \"a b\" lr) H ())"},
	{"Nx", "%(T e I x P default S \"server x\" M 1 A %({3+}\r\na%b lr))"},
}

func TestRecords(t *testing.T) {
	for _, c := range values {
		key, value := []byte(c.key), []byte(c.value)
		decode, slow, encode := DecodeName, decodeName, Record.EncodeName
		if key[0] == idClass {
			decode, slow, encode = DecodeID, decodeID, Record.EncodeID
		}
		rec, err := decode(key, value)
		require.NoError(t, err)
		again, err := slow(key, value)
		require.NoError(t, err)
		require.Equal(t, again, rec)
		require.Equal(t, c.value, string(encode(rec, nil)))
		require.Equal(t, c.value, string(encode(rec, value)))
	}
}

// TestUnknownFieldsStay: what a later release has put into a record survives a change, in its place.
func TestUnknownFieldsStay(t *testing.T) {
	old := "%(X (1 2) T ey I id Y \"a\\\"b\" P default J jmap V 5 M 7 A %(alice lrq) Z z)"
	rec, err := DecodeName([]byte("Nx"), []byte(old))
	require.NoError(t, err)
	require.Equal(t, old, string(rec.EncodeName([]byte(old))))
	rec.Partition, rec.FolderModSeq = "other", 9
	rec.ACL, err = ACLRules{}.Set(rec.ACL, "bob", ReplaceRights, RightLookup)
	require.NoError(t, err)
	require.Equal(t, "%(X (1 2) T ey I id Y \"a\\\"b\" P other J jmap V 5 F 9 M 7 A %(alice lrq bob l) Z z)", string(rec.EncodeName([]byte(old))))
	require.Equal(t, Type("eyd"), rec.Type.With('d'))
	require.Equal(t, Type("ey"), rec.Type.With('d').Without('d'))
}

// TestFieldTwice: of two fields the last counts, and two access lists are one, as ctl_mboxlist of Cyrus 3.6.1 shows.
func TestFieldTwice(t *testing.T) {
	value := []byte("%(T e I abc P default V 1 F 1 M 1 A %(fred lrs) I abd P other V 7 F 8 M 9 T ez A %(bob r))")
	rec, err := DecodeName([]byte("Nx"), value)
	require.NoError(t, err)
	want := Record{Name: InternalName("x"), Type: "ez", UniqueID: "abd", Partition: "other", UIDValidity: 7, FolderModSeq: 8, Modified: 9,
		ACL: ACL{{Identifier: "fred", Rights: "lrs"}, {Identifier: "bob", Rights: "r"}}}
	require.Equal(t, want, rec)
	again, err := DecodeName([]byte("Nx"), rec.EncodeName(value))
	require.NoError(t, err)
	require.Equal(t, want, again)
}

func TestBadRecords(t *testing.T) {
	for _, value := range []string{
		"", "%", "%(", "%()x", "x", "()", "%(T", "%(T e", "%(T e  I x)", "%(T (e))", "%(V x)", "%(V 4294967296)", "%(V -1)", "%(A (alice lr))",
		"%(A %(alice (l)))", "%(A %(alice))", "%(F 99999999999999999999)", "%(M 9223372036854775808)", "%(H x)", "%(H (x))", "%(T e I x) ",
		"%(T \"e", "%(T {9}\r\ne)", "%(A " + strings.Repeat("%(a ", 1e6), strings.Repeat("(", 1e6),
	} {
		name := value
		if len(name) > 40 {
			name = name[:40]
		}
		_, err := DecodeID([]byte("Iabc"), []byte(value))
		require.ErrorIs(t, err, ErrRecord, "%q", name)
		var e *RecordError
		require.ErrorAs(t, err, &e)
		require.Equal(t, "Iabc", e.Key)
		if !strings.HasPrefix(value, "%(H") {
			if _, err = DecodeName([]byte("Nabc"), []byte(value)); value != "%()x" {
				require.ErrorIs(t, err, ErrRecord, "%q", name)
			}
		}
	}
	for _, key := range []string{"", "N", "I", "X", "Axyz"} {
		_, err := DecodeName([]byte(key), []byte("%(T e)"))
		require.ErrorIs(t, err, ErrRecord)
	}
}

func FuzzRecord(f *testing.F) {
	for _, c := range values {
		f.Add([]byte(c.key), []byte(c.value))
	}
	for _, r := range oldRecords {
		f.Add([]byte(r.key), []byte(r.value))
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if rec, err := DecodeName(key, value); err == nil {
			slow, err := decodeName(key, value)
			require.NoError(t, err)
			require.Equal(t, slow, rec)
			again, err := DecodeName(key, rec.EncodeName(value))
			require.NoError(t, err)
			if rec.Modified >= 0 {
				require.Equal(t, rec, again)
			}
		}
		if rec, err := DecodeID(key, value); err == nil {
			slow, err := decodeID(key, value)
			require.NoError(t, err)
			require.Equal(t, len(slow.History), len(rec.History))
			slow.History, rec.History = nil, nil
			require.Equal(t, slow, rec)
		}
		if rec, form, err := DecodeOld(key, value); err == nil {
			_, _, _ = rec.EncodeOld(form)
		}
		_, _ = formOfRecord(key, value)
	})
}

// TestCharacterOfAName names the character that a name may not have whole, however many bytes it is.
func TestCharacterOfAName(t *testing.T) {
	for s, want := range map[string]string{
		"user.é":             "'é', which is &AOk- in modified UTF-7",
		"user.漢":             "'漢', which is &byI- in modified UTF-7",
		"user.\ufffd":        "'\ufffd', which is &,,0- in modified UTF-7",
		"user.a\xe9":         "byte 0xe9, which is no character",
		"user.a\xc3":         "byte 0xc3, which is no character",
		"user.a%":            "character '%'",
		"user.a\x7f":         `character '\x7f'`,
		"user." + `a"` + "漢": `character '"'`,
	} {
		err := Namespace{}.Validate(InternalName(s))
		require.ErrorIs(t, err, ErrName)
		require.ErrorContains(t, err, want)
	}
}

func FuzzName(f *testing.F) {
	for _, s := range append(internalPieces, hardNames...) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, ns := range []Namespace{{}, {UnixSep: true}, {Alt: true, User: "alice"}, {Admin: true, VirtDomains: true, DefaultDomain: "d"}, {VirtDomains: true, CrossDomains: true, User: "a@b"}} {
			n := InternalName(s)
			valid := ns.Validate(n) == nil
			if !strings.ContainsAny(s, "\x1d\x1f") {
				require.Equal(t, s, n.String())
			}
			if ext, ok := ns.External(n); ok && valid && !oddity(ns, s) {
				if back, err := ns.Parse(ext); err == nil && !strings.ContainsAny(s, "@!\x1d") {
					require.Equal(t, n, back, "%q", ext)
				}
			}
			if p, err := ns.Parse(s); err == nil {
				require.NotEmpty(t, p.Levels())
			}
			_, _ = Layout{HashSpool: true, FullHash: true, Namespace: ns}.Subdir(Record{Name: n, Type: "el"})
		}
		if u, err := DecodeUTF7(s); err == nil {
			again, err := DecodeUTF7(EncodeUTF7(u))
			require.NoError(t, err)
			require.Equal(t, u, again)
		}
		if acl, err := ParseACL(s); err == nil {
			require.Equal(t, s, acl.String())
		}
	})
}
