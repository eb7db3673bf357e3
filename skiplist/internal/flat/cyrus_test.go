package flat

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

// tool is Cyrus's own reader and writer of these files.
const tool = "/usr/lib/cyrus/bin/cyr_dbtool"

// dbtool runs Cyrus's program on files of one directory.
type dbtool struct{ conf, file string }

func newDBTool(t *testing.T) dbtool {
	if _, err := os.Stat(tool); err != nil {
		if os.Getenv("MAILSPINE_REQUIRE_CYRUS") != "" {
			t.Fatalf("MAILSPINE_REQUIRE_CYRUS is set: %v", err)
		}
		t.Skipf("Cyrus is not installed: %v", err)
	}
	// Cyrus's programs give up root, so the user cyrus must reach the directory; t.TempDir's parent is closed to it.
	dir, err := os.MkdirTemp("", "mailspine-flat-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o777))
	conf := filepath.Join(dir, "imapd.conf")
	text := fmt.Sprintf("configdirectory: %s\ndefaultpartition: default\npartition-default: %s/spool\n", dir, dir)
	require.NoError(t, os.WriteFile(conf, []byte(text), 0o644))
	return dbtool{conf: conf, file: filepath.Join(dir, "fred.sub")}
}

func (d dbtool) run(t *testing.T, input string, args ...string) string {
	cmd := exec.Command(tool, append([]string{"-C", d.conf, d.file, "flat"}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return string(out)
}

func (d dbtool) write(t *testing.T, b []byte) {
	require.NoError(t, os.WriteFile(d.file, b, 0o666))
	require.NoError(t, os.Chmod(d.file, 0o666))
}

func (d dbtool) read(t *testing.T) []byte {
	b, err := os.ReadFile(d.file)
	require.NoError(t, err)
	return b
}

// shown is what show prints for a list of records.
func shown(list []pair) string {
	var b strings.Builder
	for _, p := range list {
		fmt.Fprintf(&b, "%s\t%s\n", p.key, p.value)
	}
	return b.String()
}

// TestCyrusReadsOurs has Cyrus list, find and change what we write; the bytes agree after the change.
func TestCyrusReadsOurs(t *testing.T) {
	d := newDBTool(t)
	list := []pair{{"Zed", "4"}, {"a", ""}, {"user.fred", "1"}, {"user.fred.x", "2"}, {"user.fred-x", "3"}, {"user.fr\xc3\xa9d", "5 \xff \r."}}
	file, _ := built(t, list)
	d.write(t, file)
	require.Equal(t, shown(list), d.run(t, "", "show"))
	for _, p := range list {
		require.Equal(t, p.value+"\n", d.run(t, "", "get", p.key))
	}

	d.run(t, "", "set", "user.fred.y", "new")
	d.run(t, "", "delete", "Zed")
	v := mapped(file)
	live, _ := replayed(t, v, codec.ReplayOptions{})
	ed := tree.Edit(live, lookup(v))
	r, err := New().Put(&codec.Txn{View: v}, []byte("user.fred.y"), []byte("new"), 0)
	require.NoError(t, err)
	ed.Put([]byte("user.fred.y"), r)
	ed.Delete([]byte("Zed"))
	require.Equal(t, string(rewritten(t, v, ed.Tree())), string(d.read(t)))
}

// TestCyrusAgrees lets Cyrus build a file of random keys, which are hard to sort, and builds the same one.
func TestCyrusAgrees(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	d := newDBTool(t)
	d.write(t, nil)
	const alphabet = "\x00\x01\x02\x07\x08\t\n\x0b\x0c\r\x0e !-./09AZaz\x7f\x80\x89\x8a\x8d\xfe\xff"
	word := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = alphabet[rnd.IntN(len(alphabet))]
		}
		return string(b)
	}
	var list []pair
	var batch strings.Builder
	for range 400 {
		p := pair{word(1 + rnd.IntN(4)), word(rnd.IntN(6))}
		list = append(list, p)
		fmt.Fprintf(&batch, "SET {%d+}\r\n%s {%d+}\r\n%s\n", len(p.key), p.key, len(p.value), p.value)
	}
	d.run(t, batch.String(), "batch")
	ours, live := built(t, list)
	require.Equal(t, string(ours), string(d.read(t)))
	require.Greater(t, live.Len(), 200)

	v := mapped(d.read(t))
	theirs, log := replayed(t, v, codec.ReplayOptions{})
	require.Equal(t, codec.Log{End: v.Size}, log)
	require.Equal(t, d.run(t, "", "show"), shown(pairs(t, v, theirs)))
}
