package mboxdb

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
)

// world is a configuration of Cyrus and the Namespace that should behave like it.
type world struct {
	name  string
	conf  map[string]string
	ns    Namespace
	users []string
}

var worlds = []world{
	{"plain", map[string]string{"altnamespace": "no"}, Namespace{}, []string{"alice", "d.ot"}},
	{"unix", map[string]string{"altnamespace": "no", "unixhierarchysep": "yes"}, Namespace{UnixSep: true}, []string{"alice", "d.ot"}},
	{"alt", map[string]string{"altnamespace": "yes"}, Namespace{Alt: true}, []string{"alice"}},
	{"alt unix prefixes", map[string]string{"altnamespace": "yes", "unixhierarchysep": "yes", "userprefix": "Users", "sharedprefix": "Shared", "deletedprefix": "GONE"},
		Namespace{Alt: true, UnixSep: true, UserPrefix: "Users", SharedPrefix: "Shared", DeletedPrefix: "GONE"}, []string{"alice"}},
	{"domains", map[string]string{"altnamespace": "no", "virtdomains": "userid", "defaultdomain": "def.example"},
		Namespace{VirtDomains: true, DefaultDomain: "def.example"}, []string{"alice", "dan@other.example", "eve@def.example"}},
	{"cross domains", map[string]string{"altnamespace": "no", "virtdomains": "userid", "defaultdomain": "def.example", "crossdomains": "yes"},
		Namespace{VirtDomains: true, DefaultDomain: "def.example", CrossDomains: true}, []string{"alice", "dan@other.example"}},
	{"cross domains alt", map[string]string{"altnamespace": "yes", "unixhierarchysep": "yes", "virtdomains": "userid", "defaultdomain": "def.example", "crossdomains": "yes", "crossdomains_onlyother": "yes"},
		Namespace{Alt: true, UnixSep: true, VirtDomains: true, DefaultDomain: "def.example", CrossDomains: true, CrossDomainsOther: true}, []string{"alice", "dan@other.example"}},
}

// each runs f as an admin, as nobody, and as each user of each world.
func each(t *testing.T, f func(t *testing.T, ns Namespace, cyrus *realcyrus.Names, r *rand.Rand)) {
	realcyrus.NeedOracle(t)
	for i, w := range worlds {
		conf := realcyrus.Conf(t, realcyrus.TempDir(t), realcyrus.Options{Extra: w.conf})
		for j, user := range append([]string{"+cyrus", ""}, w.users...) {
			t.Run(w.name+"/"+user, func(t *testing.T) {
				ns := w.ns
				ns.User, ns.Admin = strings.CutPrefix(user, "+")
				cyrus := realcyrus.StartNames(t, conf, ns.Admin, ns.User)
				f(t, ns, cyrus, rand.New(rand.NewPCG(uint64(i), uint64(j))))
			})
		}
	}
}

// draw makes a name out of pieces that matter, in any order; most such names are not valid.
func draw(r *rand.Rand, pieces []string) string {
	var b strings.Builder
	for range 1 + r.IntN(7) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

var internalPieces = []string{
	"user", ".", ".", "alice", "a", "^", "Work", "INBOX", "DELETED", "GONE", "6B042170", "0", "!", "other.example", "def.example",
	"user.alice", "user.d^ot.", "x y", "$", "~", "&-", "&AOQ-", "&AGE-", "&", "&AOT", "&AOQ-&AOQ-", "%", "*", "\"", "[", "(", "é", "\x7f", "Inbox",
	"Other Users", "Shared Folders", "Alt Folders", "anyone", "&2D3cAA-", "/", "\\", "..", "long" + strings.Repeat("g", 120),
}

func hasEmptyLevel(s string) bool {
	return strings.Contains(s, "..") || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") || strings.Contains(s, "!.")
}

// oddity tells names that no mailbox has and about which we do not follow Cyrus: it drops empty levels, and takes
// a name in the deleted namespace without a time apart and puts it together wrongly.
func oddity(ns Namespace, s string) bool {
	n := InternalName(s)
	_, deleted := n.Deleted(ns)
	return hasEmptyLevel(s) || strings.HasPrefix(s, "!") || strings.HasSuffix(s, "!") ||
		!deleted && len(n.Levels()) > 0 && n.Levels()[0] == ns.deletedPrefix()
}

func TestPolicyAgreesWithCyrus(t *testing.T) {
	each(t, func(t *testing.T, ns Namespace, cyrus *realcyrus.Names, r *rand.Rand) {
		bad := 0
		const rounds = 1500
		for range rounds {
			s := draw(r, internalPieces)
			if hasEmptyLevel(s) && strings.HasPrefix(s, ns.deletedPrefix()) {
				continue // Cyrus takes it for a deleted name, which it lets pass
			}
			words, _ := cyrus.Ask("policy", s)
			err := ns.Validate(InternalName(s))
			require.Equal(t, words[0] == "1", err != nil, "%q: %v", s, err)
			if err != nil {
				bad++
			}
		}
		require.Greater(t, bad, rounds/3)
		require.Less(t, bad, rounds*9/10)
	})
}

var externalPieces = []string{
	"user", ".", "/", ".", "/", "alice", "dan", "a", "^", "Work", "INBOX", "inbox", "DELETED", "GONE", "6B042170", "zz", "@", "@other.example", "@def.example",
	"user.alice", "user/alice", "Other Users", "Users", "Shared Folders", "Shared", "Alt Folders", "x y", "é",
}

func TestExternalNamesAgreeWithCyrus(t *testing.T) {
	each(t, func(t *testing.T, ns Namespace, cyrus *realcyrus.Names, r *rand.Rand) {
		for range 1500 {
			s := draw(r, externalPieces)
			words, ok := cyrus.Ask("from", s)
			n, err := ns.Parse(s)
			if !ok || words[0] == "" || oddity(ns, words[0]) {
				if ok && words[0] != "" {
					continue
				}
				require.Error(t, err, "%q: %q", s, n)
				continue
			}
			require.NoError(t, err, "%q", s)
			require.Equal(t, words[0], n.String(), "%q", s)
		}
		for range 1500 {
			s := draw(r, internalPieces)
			if oddity(ns, s) {
				continue
			}
			words, ok := cyrus.Ask("to", s)
			got, gotOK := ns.External(InternalName(s))
			require.Equal(t, ok, gotOK, "%q: %q %q", s, words, got)
			if ok {
				require.Equal(t, words[0], got, "%q", s)
			}
			owner, _ := cyrus.Ask("owner", s)
			require.Equal(t, strings.Join(owner, ""), InternalName(s).User(ns), "%q", s)
		}
	})
}

func TestACLAgreesWithCyrus(t *testing.T) {
	realcyrus.NeedOracle(t)
	const letters = "lrswipkxtecdan0123456789zqLR "
	for _, deleteRight := range []string{"c", "d", "x"} {
		conf := realcyrus.Conf(t, realcyrus.TempDir(t), realcyrus.Options{Extra: map[string]string{"deleteright": deleteRight}})
		cyrus := realcyrus.StartNames(t, conf, true, "cyrus")
		rules := ACLRules{DeleteRight: deleteRight[0]}
		r := rand.New(rand.NewPCG(1, uint64(deleteRight[0])))
		rights := func() string {
			b := make([]byte, r.IntN(6))
			for i := range b {
				b[i] = letters[r.IntN(len(letters))]
			}
			return string(b)
		}
		for range 4000 {
			s := rights()
			words, _ := cyrus.Ask("rights", s)
			mask, err := rules.ParseRights(s)
			require.Equal(t, words[0] == "1", err != nil, "%q", s)
			require.Equal(t, words[1], rules.FormatRights(mask), "%q", s)
		}
		ids := []string{"alice", "-alice", "anyone", "dan@other.example", "", "a/b", "a%", "é", "x y", strings.Repeat("i", 81), strings.Repeat("i", 80)}
		acl := ""
		for range 4000 {
			id, mode, s := ids[r.IntN(len(ids))], r.IntN(3), rights()
			words, ok := cyrus.Ask("set", acl, id, fmt.Sprintf("%d%s", mode, s))
			before, err := ParseACL(acl)
			require.NoError(t, err)
			mask, _ := rules.ParseRights(s)
			after, err := rules.Set(before, id, ACLMode(mode), mask)
			require.Equal(t, ok, err == nil, "%q %q %d %q: %v", acl, id, mode, s, err)
			if !ok {
				continue
			}
			require.Equal(t, words[0], after.String(), "%q %q %d %q", acl, id, mode, s)
			acl = words[0]
		}
	}
}

func TestPathsAgreeWithCyrus(t *testing.T) {
	realcyrus.NeedOracle(t)
	r := rand.New(rand.NewPCG(1, 2))
	for _, hash := range []bool{false, true} {
		for _, full := range []bool{false, true} {
			yes := map[bool]string{true: "yes", false: "no"}
			extra := map[string]string{"hashimapspool": yes[hash], "fulldirhash": yes[full], "virtdomains": "userid", "defaultdomain": "def.example"}
			dir := realcyrus.TempDir(t)
			cyrus := realcyrus.StartNames(t, realcyrus.Conf(t, dir, realcyrus.Options{Extra: extra}), true, "cyrus")
			l := Layout{HashSpool: hash, FullHash: full, ConfigDir: dir + "/conf", Namespace: Namespace{VirtDomains: true, DefaultDomain: "def.example"}}
			for range 2000 {
				s := draw(r, []string{"user", ".", ".", "alice", "Zoë", "d^ot", "9", "Sub", "DELETED", "6B042170", "x y", "other.example!", "def.example!"})
				n := InternalName(s)
				if l.Namespace.Validate(n) != nil || oddity(l.Namespace, s) || strings.Count(s, "!") > 1 {
					continue
				}
				words, _ := cyrus.Ask("path", s)
				require.Equal(t, words[0], "/"+l.namePath(n), "%q", s)
			}
			for _, user := range []string{"alice", "d.ot", "9x", "dan@other.example", "eve@def.example", "Z"} {
				words, _ := cyrus.Ask("userfile", user, "seen")
				require.Equal(t, words[0], l.UserFile(user, "seen"))
			}
		}
	}
}
