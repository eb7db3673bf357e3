package twoskip

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist/internal/codec"
)

// tool is Cyrus's own reader and writer of these files.
const tool = "/usr/lib/cyrus/bin/cyr_dbtool"

// dbtool runs Cyrus's program on one file.
type dbtool struct{ conf, file string }

func newDBTool(t *testing.T) dbtool {
	if _, err := os.Stat(tool); err != nil {
		if os.Getenv("MAILSPINE_REQUIRE_CYRUS") != "" {
			t.Fatalf("MAILSPINE_REQUIRE_CYRUS is set: %v", err)
		}
		t.Skipf("Cyrus is not installed: %v", err)
	}
	// Cyrus's programs give up root, so the user cyrus must reach the directory; t.TempDir's parent is closed to it.
	dir, err := os.MkdirTemp("", "mailspine-twoskip-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o777))
	conf := filepath.Join(dir, "imapd.conf")
	text := fmt.Sprintf("configdirectory: %s\ndefaultpartition: default\npartition-default: %s/spool\n", dir, dir)
	require.NoError(t, os.WriteFile(conf, []byte(text), 0o644))
	return dbtool{conf: conf, file: filepath.Join(dir, "test.db")}
}

func (d dbtool) run(t *testing.T, input string, args ...string) string {
	cmd := exec.Command(tool, append([]string{"-C", d.conf, d.file, "twoskip"}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	require.Empty(t, stderr.String())
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

// show lists the file as "key=value".
func (d dbtool) show(t *testing.T) (list []string) {
	for line := range strings.Lines(d.run(t, "", "show")) {
		list = append(list, strings.Replace(strings.TrimSuffix(line, "\n"), "\t", "=", 1))
	}
	return list
}

// script is a transaction for batch.
func script(ops []op) string {
	var b strings.Builder
	b.WriteString("BEGIN\n")
	for _, o := range ops {
		if o.del {
			fmt.Fprintf(&b, "DELETE %s\n", o.key)
		} else {
			fmt.Fprintf(&b, "SET %s {%d+}\r\n%s\n", o.key, len(o.value), o.value)
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// effective leaves out what changes nothing.
func effective(m model, ops []op) (out []op) {
	for _, o := range ops {
		old, exists := m[o.key]
		if o.del && exists || !o.del && (!exists || old != o.value) {
			out = append(out, o)
			m.apply([]op{o})
		}
	}
	return out
}

// TestCyrusReadsOurs has Cyrus check, list and change our files; we read what it has made of them.
func TestCyrusReadsOurs(t *testing.T) {
	c := newDBTool(t)
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		d, m := newDisk(seed), model{}
		for i := range 60 {
			ops := randomOps(rnd, 40)
			d.commit(t, ops...)
			m.apply(ops)
			if i == 30 && seed%2 == 0 {
				d.rewrite(t)
			}
			if i%10 != 9 {
				continue
			}
			c.write(t, d.b)
			require.Contains(t, c.run(t, "", "consistent"), "Yes, consistent")
			require.Equal(t, m.list(), c.show(t))
			require.Equal(t, hex.Dump(d.b), hex.Dump(c.read(t)))

			if ops = effective(m, randomOps(rnd, 40)); len(ops) == 0 {
				continue
			}
			c.run(t, script(ops), "batch")
			d.b = c.read(t)
			requireSound(t, d.b, m.list())
			d.h, d.live, _ = replayed(t, d.view(), codec.ReplayOptions{})
		}
	}
}

// logLevels lists the levels of the RECORDs in a file, in the order in which they were written.
func logLevels(t *testing.T, b []byte) (list []int) {
	p := parser{mapped(b), int64(len(b))}
	for off := p.skipBlanks(emptySize); off < p.end; off = p.skipBlanks(off) {
		rec, _, err := p.whole(off)
		require.NoError(t, err)
		if rec.typ == typeRecord {
			list = append(list, rec.level)
		}
		off += rec.size
	}
	return list
}

// TestCyrusWritesTheSame lets Cyrus write transactions of one operation and does the same with the levels that it drew:
// every byte agrees.
func TestCyrusWritesTheSame(t *testing.T) {
	c := newDBTool(t)
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 6))
		m := model{}
		var txns [][]op
		var batch strings.Builder
		for range 80 { // short of the size at which Cyrus makes a checkpoint
			if ops := effective(m, randomOps(rnd, 20)[:1]); len(ops) > 0 {
				txns = append(txns, ops)
				batch.WriteString(script(ops))
			}
		}
		c.write(t, nil)
		c.run(t, batch.String(), "batch")
		theirs := c.read(t)
		require.EqualValues(t, 1, u64(theirs, offGeneration))
		requireSound(t, theirs, m.list())

		d := newDisk(1)
		d.random = levels(logLevels(t, theirs)...)
		for _, ops := range txns {
			d.commit(t, ops...)
		}
		require.Equal(t, hex.Dump(theirs), hex.Dump(d.b))
	}
}

// TestCyrusTransactions replays what Cyrus writes in transactions of several operations, and its checkpoint.
func TestCyrusTransactions(t *testing.T) {
	c := newDBTool(t)
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		c.write(t, nil)
		m := model{}
		for range 10 {
			var batch strings.Builder
			for range 20 {
				if ops := effective(m, randomOps(rnd, 60)); len(ops) > 0 {
					batch.WriteString(script(ops))
				}
			}
			c.run(t, batch.String(), "batch")
			b := c.read(t)
			requireSound(t, b, m.list())
			requireSpans(t, b, true)
			got, log := salvaged(t, b, false)
			require.Equal(t, m.list(), got)
			require.Equal(t, codec.Clean, log.State)
		}
		require.Greater(t, u64(c.read(t), offGeneration), int64(1), "Cyrus has never checkpointed")
	}
}

// TestCyrusRecoversOurs gives Cyrus what crashes in our commits and in our recoveries leave.
func TestCyrusRecoversOurs(t *testing.T) {
	c := newDBTool(t)
	rnd := rand.New(rand.NewPCG(1, 9))
	d, m := newDisk(4), model{}
	for range 25 {
		ops := randomOps(rnd, 20)
		p, live := d.plan(t, ops...)
		old := m.list()
		m.apply(ops)
		b := slices.Clone(d.b)
		for i, ph := range p.Phases {
			image := torn(rnd, b, ph)
			want := contents(t, image)
			require.True(t, slices.Equal(want, old) || i == 2 && slices.Equal(want, m.list()))
			for _, image := range [][]byte{image, recoveredSome(t, rnd, image)} {
				c.write(t, image)
				require.Equal(t, want, c.show(t))
				requireSound(t, c.read(t), want)
				ours, err := oracle{image}.recover1()
				require.NoError(t, err)
				require.Equal(t, hex.Dump(ours.b), hex.Dump(c.read(t)), "the oracle is not Cyrus")
			}
			b = perform(b, ph)
		}
		d.b, d.h, d.live = b, p.Header, live
	}
}

func recoveredSome(t *testing.T, rnd *rand.Rand, b []byte) []byte {
	b, _ = recovered(t, rnd, b)
	return b
}
