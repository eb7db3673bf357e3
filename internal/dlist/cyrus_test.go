package dlist

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/skiplist"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/real.txt anew, from a real server")

// oracle is the program in testdata/oracle.c: the dlist functions of the installed Cyrus.
type oracle struct {
	in  *bufio.Writer
	out *bufio.Reader
}

func startOracle(t *testing.T) *oracle {
	t.Helper()
	realcyrus.NeedOracle(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "imapd.conf")
	require.NoError(t, os.WriteFile(conf, []byte("configdirectory: "+dir+"\n"), 0o644))
	program := filepath.Join(dir, "oracle")
	// libcyrus_imap expects things of Cyrus's programs that dlists do not need.
	out, err := exec.Command("gcc", "-D_GNU_SOURCE", "-O1", "-Wall", "-Werror", "testdata/oracle.c", "-o", program, "-rdynamic",
		"-Wl,--allow-shlib-undefined,-z,lazy", "-lcyrus_imap", "-lcyrus_sieve", "-lcyrus", "-lcyrus_min").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.Command(program, conf)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		require.NoError(t, cmd.Wait(), "the oracle died")
	})
	return &oracle{in: bufio.NewWriter(in), out: bufio.NewReader(stdout)}
}

// ask returns the answer to one question: what the parser of stored values read ('s'), or what the other parser and the
// printer made of a text ('p'), as hex; "!" is a refusal.
func (o *oracle) ask(t require.TestingT, question byte, text []byte) string {
	_, err := fmt.Fprintf(o.in, "%c%x\n", question, text)
	require.NoError(t, err)
	require.NoError(t, o.in.Flush())
	answer, err := o.out.ReadString('\n')
	require.NoError(t, err, "no answer to %q", text)
	return strings.TrimSuffix(answer, "\n")
}

// events writes a tree as the oracle does. A value ends at its first NUL there: Cyrus's parser hands out C strings.
func events(n *Node, keyed bool) string {
	key := ""
	if keyed {
		key = hex.EncodeToString([]byte(n.Key()))
	}
	switch n.Kind() {
	case Nil:
		return key + "=~"
	case String:
		text, _, _ := strings.Cut(n.Text(), "\x00")
		return key + "=" + hex.EncodeToString([]byte(text))
	}
	parts := []string{map[Kind]string{List: "(", KVList: "["}[n.Kind()] + key}
	for _, item := range n.Items {
		parts = append(parts, events(item, n.Kind() == KVList))
	}
	return strings.Join(append(parts, ")"), ",")
}

// sameAsCyrus compares one text. It tells whether both accept it.
func sameAsCyrus(t require.TestingT, o *oracle, text []byte) bool {
	want := o.ask(t, 's', text)
	n, err := Parse(text)
	if err != nil {
		require.Equal(t, "!", want, "Cyrus reads %q, and here: %v", text, err)
		return false
	}
	if want == "!" && n.Kind() == String && text[0] == '{' {
		return false // a literal that ends the text: this parser takes it, the one of stored values does not
	}
	require.Equal(t, want, events(n, false), "%q", text)
	return true
}

// TestParserAgainstCyrus compares the parser with that of the installed Cyrus on texts that are mostly wrong.
func TestParserAgainstCyrus(t *testing.T) {
	t.Parallel()
	o := startOracle(t)
	for _, c := range readable {
		sameAsCyrus(t, o, []byte(c.text))
	}
	const seed = 4
	rnd := rand.New(rand.NewPCG(seed, seed))
	pieces := []string{"(", ")", "%(", " ", " ", "a", "NIL", `"x y"`, `"\"`, `"`, "{1}\r\nz", "{2+}\r\n) ", "{9}\r\nz", "{", "\\Seen", "%", "\x00", "7"}
	accepted, refused := 0, 0
	for range 10_000 {
		var text []byte
		if rnd.IntN(2) == 0 {
			for range 1 + rnd.IntN(9) {
				text = append(text, pieces[rnd.IntN(len(pieces))]...)
			}
		} else {
			text = mutate(rnd, []byte(readable[rnd.IntN(len(readable))].text))
		}
		if sameAsCyrus(t, o, text) {
			accepted++
		} else {
			refused++
		}
	}
	t.Logf("%d texts accepted by both, %d refused, seed %d", accepted, refused, seed)
	require.Greater(t, accepted, 2000)
	require.Greater(t, refused, 3400)
}

// mutate changes a few bytes.
func mutate(rnd *rand.Rand, text []byte) []byte {
	for range rnd.IntN(3) {
		at := rnd.IntN(len(text) + 1)
		switch c := `() %"{\N`[rnd.IntN(8)]; {
		case rnd.IntN(3) == 0:
			text = slices.Insert(text, at, c)
		case at == len(text):
		case rnd.IntN(2) == 0:
			text = slices.Delete(text, at, at+1)
		default:
			text[at] = c
		}
	}
	return text
}

// TestPrinterAgainstCyrus lets Cyrus read and print random trees: it must spell all as we do, and read what we mean.
func TestPrinterAgainstCyrus(t *testing.T) {
	t.Parallel()
	o := startOracle(t)
	rapid.Check(t, func(t *rapid.T) {
		for range 10 {
			n := nodes(3).Draw(t, "tree")
			if n.Kind() != List && n.Kind() != KVList || endsKeyAtNUL(n) {
				n = NewList(NewString(n.Text()))
			}
			text := n.Append(nil)
			require.Equal(t, events(n, false), o.ask(t, 's', text))
			require.Equal(t, hex.EncodeToString(text), o.ask(t, 'p', text), "%q", text)
		}
	})
}

// endsKeyAtNUL tells of a key that Cyrus refuses to read from the wire.
func endsKeyAtNUL(n *Node) bool {
	return slices.ContainsFunc(n.Items, func(item *Node) bool {
		return strings.Contains(item.Key(), "\x00") || endsKeyAtNUL(item)
	})
}

// TestRealStore makes a store of hard names with a real server and reads every dlist in its databases. With -rewrite it
// keeps some of them as testdata/real.txt.
func TestRealStore(t *testing.T) {
	realcyrus.NeedServer(t)
	t.Parallel()
	options := realcyrus.LegacyLayout()
	options.UnixHS = true
	options.Extra["mailbox_legacy_dirs"] = "no"
	s := realcyrus.StartServer(t, options)
	s.Fill(t, 1, 2, 3, 5)
	admin := s.Dial(t, realcyrus.AdminUser)
	for _, c := range []string{
		`CREATE "user/alice"`, `CREATE "user/alice/plus+comma,dot.(p)"`, `CREATE "user/alice/a b*c"`, `CREATE "user/alice/[x] &- &AOQ-"`,
		`CREATE "user/dan@other.example"`, `CREATE "user/dan/x y@other.example"`, `CREATE "user/alice/old"`, `RENAME "user/alice/old" "user/alice/new"`,
		`CREATE "user/alice/gone"`, `SETACL "user/alice/gone" cyrus lx`, `DELETE "user/alice/gone"`, `SETACL "user/alice/new" anyone lr`, `SETACL "user/alice/new" -u000 lrs`,
		`SETACL "user/alice/new" "group:mail" l`, `CREATE shared`, `SETACL shared u000 lrswipkxtecda`,
	} {
		_, err := admin.Cmd("%s", c)
		require.NoError(t, err, c)
	}
	subjects := []string{"plain", "=?utf-8?q?=C3=A4_=22quoted=22?=", "a b (c) {d} 50%", `back\slash`, ""}
	for i, subject := range subjects {
		mail := fmt.Sprintf("From: \"A (x) %% y\" <a.%d@example.com>\r\nSubject: %s\r\nMessage-ID: <%d@example.com>\r\n\r\nx\r\n", i, subject, i)
		require.NoError(t, s.Dial(t, "u000").Append("INBOX", "", time.Unix(1500000000, 0), []byte(mail)))
	}
	require.NoError(t, s.Stop())

	var kept bytes.Buffer
	count := map[string]int{}
	require.NoError(t, filepath.WalkDir(filepath.Join(s.Dir, "conf"), func(path string, _ os.DirEntry, err error) error {
		name, _ := strings.CutSuffix(filepath.Base(path), ".db")
		if name != "mailboxes" && name != "conversations" || err != nil {
			return err
		}
		for _, value := range dlistsOf(t, path) {
			sameText(t, value)
			count[name]++
			fmt.Fprintf(&kept, "%s %q\n", name, value)
		}
		return nil
	}))
	t.Logf("dlists read and written again: %v", count)
	require.Greater(t, count["mailboxes"], 20)
	require.Greater(t, count["conversations"], 10)
	if *rewrite {
		require.NoError(t, os.WriteFile("testdata/real.txt", kept.Bytes(), 0o644))
	}
}

// dlistsOf returns the values of a database that are dlists, in the order of their keys. Those of a conversations
// database follow a version and a space.
func dlistsOf(t *testing.T, path string) (list []string) {
	t.Helper()
	db, err := skiplist.Open(t.Context(), path, skiplist.Options{ReadOnly: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	require.NoError(t, db.View(t.Context(), func(s *skiplist.Snapshot) error {
		for r, err := range s.All() {
			if err != nil {
				return err
			}
			value := string(r.Value)
			if version, rest, ok := strings.Cut(value, " "); ok && version != "" && strings.Trim(version, "0123456789") == "" {
				value = rest
			}
			if strings.HasPrefix(value, "(") || strings.HasPrefix(value, "%(") {
				list = append(list, value)
			}
		}
		return nil
	}))
	return list
}

// sameText reads a dlist that Cyrus wrote, writes it, and then writes it once more without remembering its spelling:
// all must be equal, so the printer's choices are Cyrus's.
func sameText(t *testing.T, value string) {
	t.Helper()
	n, err := Parse([]byte(value))
	require.NoError(t, err, "%q", value)
	require.Equal(t, value, string(n.Append(nil)))
	require.Equal(t, value, string(respell(n).Append(nil)), "spelling")
}

func respell(n *Node) *Node {
	c := *n
	c.asRead, c.keyAsRead, c.spaceAtEnd = false, false, false
	c.Items = nil
	for _, item := range n.Items {
		c.Items = append(c.Items, respell(item))
	}
	return &c
}

// TestGoldens reads what a real Cyrus 3.6.1 wrote, wherever the test runs.
func TestGoldens(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/real.txt")
	require.NoError(t, err)
	count := 0
	for line := range strings.Lines(string(text)) {
		_, quotedValue, ok := strings.Cut(strings.TrimSpace(line), " ")
		require.True(t, ok)
		value, err := strconv.Unquote(quotedValue)
		require.NoError(t, err)
		sameText(t, value)
		count++
	}
	require.Greater(t, count, 30)
}
