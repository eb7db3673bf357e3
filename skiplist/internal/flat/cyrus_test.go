package flat

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/skiplist/internal/codec"
	"github.com/mailspine/mailspine/skiplist/internal/tree"
)

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
	d := realcyrus.NewDBTool(t, "flat", "fred.sub")
	list := []pair{{"Zed", "4"}, {"a", ""}, {"user.fred", "1"}, {"user.fred.x", "2"}, {"user.fred-x", "3"}, {"user.fr\xc3\xa9d", "5 \xff \r."}}
	file, _ := built(t, list)
	d.Write(t, file)
	require.Equal(t, shown(list), d.Run(t, "", "show"))
	for _, p := range list {
		require.Equal(t, p.value+"\n", d.Run(t, "", "get", p.key))
	}

	d.Run(t, "", "set", "user.fred.y", "new")
	d.Run(t, "", "delete", "Zed")
	v := mapped(file)
	live, _ := replayed(t, v, codec.ReplayOptions{})
	ed := tree.Edit(live, lookup(v))
	r, err := New().Put(&codec.Txn{View: v}, []byte("user.fred.y"), []byte("new"), 0)
	require.NoError(t, err)
	ed.Put([]byte("user.fred.y"), r)
	ed.Delete([]byte("Zed"))
	require.Equal(t, string(rewritten(t, v, ed.Tree())), string(d.Read(t)))
}

// TestCyrusAgrees lets Cyrus build a file of random keys, which are hard to sort, and builds the same one.
func TestCyrusAgrees(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	d := realcyrus.NewDBTool(t, "flat", "fred.sub")
	d.Write(t, nil)
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
	d.Run(t, batch.String(), "batch")
	ours, live := built(t, list)
	require.Equal(t, string(ours), string(d.Read(t)))
	require.Greater(t, live.Len(), 200)

	v := mapped(d.Read(t))
	theirs, log := replayed(t, v, codec.ReplayOptions{})
	require.Equal(t, codec.Log{End: v.Size}, log)
	require.Equal(t, d.Run(t, "", "show"), shown(pairs(t, v, theirs)))
}
