package skiplist_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/skiplist"
)

const cyrDBTool = "/usr/lib/cyrus/bin/cyr_dbtool"

// cyrus is a directory in which real Cyrus's cyr_dbtool, which becomes the user cyrus, works on databases.
type cyrus struct {
	t    *testing.T
	dir  string
	conf string
}

func needCyrus(t *testing.T) *cyrus {
	if _, err := os.Stat(cyrDBTool); errors.Is(err, os.ErrNotExist) || os.Getuid() != 0 {
		if os.Getenv("MAILSPINE_REQUIRE_CYRUS") == "1" {
			t.Fatal("real Cyrus is required: install cyrus-common and run as root")
		}
		t.Skip("needs real Cyrus (package cyrus-common) and root")
	}
	dir, err := os.MkdirTemp("", "mailspine-cyrus-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &cyrus{t, dir, filepath.Join(dir, "imapd.conf")}
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "conf", "db"), 0o777))
	require.NoError(t, os.WriteFile(c.conf, fmt.Appendf(nil, "configdirectory: %s/conf\n", dir), 0o644))
	out, err := exec.Command("chown", "-R", "cyrus:mail", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.Chmod(dir, 0o755))
	return c
}

// create makes an empty database that belongs to Cyrus.
func (c *cyrus) create(name string, f skiplist.Format) string {
	path := filepath.Join(c.dir, name)
	require.NoError(c.t, skiplist.Create(ctx, path, skiplist.Options{Format: f}))
	out, err := exec.Command("chown", "cyrus:mail", path).CombinedOutput()
	require.NoError(c.t, err, "%s", out)
	return path
}

func (c *cyrus) tool(path string, f skiplist.Format, args ...string) string {
	cmd := exec.Command(cyrDBTool, append([]string{"-C", c.conf, path, string(f)}, args...)...)
	out, err := cmd.CombinedOutput()
	require.NoError(c.t, err, "%s", out)
	return string(out)
}

// show prints a database as cyr_dbtool does.
func show(t *testing.T, db *skiplist.DB) string {
	var all strings.Builder
	require.NoError(t, db.View(ctx, func(s *skiplist.Snapshot) error {
		for r, err := range s.All() {
			require.NoError(t, err)
			fmt.Fprintf(&all, "%s\t%s\n", r.Key, r.Value)
		}
		return nil
	}))
	return all.String()
}

// TestCyrusAgrees changes a file in turn with real Cyrus: after every change both list the same, and Cyrus finds the
// links consistent.
func TestCyrusAgrees(t *testing.T) {
	c := needCyrus(t)
	seeds := 2
	if os.Getenv("MAILSPINE_CAMPAIGN") != "" {
		seeds = 12
	}
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		for seed := range seeds {
			r := rand.New(rand.NewPCG(uint64(seed), 1))
			path := c.create(fmt.Sprintf("%s-%d", f, seed), f)
			db, err := skiplist.Open(ctx, path, skiplist.Options{Format: f})
			require.NoError(t, err)
			for round := range 25 {
				require.NoError(t, db.Update(ctx, func(tx *skiplist.Tx) error { return changes(tx, r) }))
				require.Equal(t, show(t, db), c.tool(path, f, "show"), "seed %d, round %d", seed, round)
				if f != skiplist.Flat {
					require.Equal(t, "Yes, consistent\n", c.tool(path, f, "consistent"), "seed %d, round %d", seed, round)
				}
				if round%5 == 4 {
					c.tool(path, f, "set", fmt.Sprintf("k%03d", r.IntN(300)), "by Cyrus")
					c.tool(path, f, "delete", fmt.Sprintf("k%03d", r.IntN(300)))
				}
				if round%10 == 9 {
					require.NoError(t, db.Checkpoint(ctx))
				}
			}
			require.NoError(t, db.Close())
			checkClean(t, path, skiplist.Options{Format: f})
		}
	})
}

func changes(tx *skiplist.Tx, r *rand.Rand) error {
	for range 1 + r.IntN(20) {
		k := fmt.Appendf(nil, "k%03d", r.IntN(300))
		var err error
		if r.IntN(3) == 0 {
			err = tx.Delete(k)
		} else {
			err = tx.Put(k, []byte(strings.Repeat("v", r.IntN(100))+"."))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestRootKeepsOwner holds that a database rewritten by root still belongs to its owner, and that Cyrus changes it.
func TestRootKeepsOwner(t *testing.T) {
	c := needCyrus(t)
	eachFormat(t, func(t *testing.T, f skiplist.Format) {
		path := c.create("owner-"+string(f), f)
		db, err := skiplist.Open(ctx, path, skiplist.Options{Format: f})
		require.NoError(t, err)
		require.NoError(t, db.Put(ctx, []byte("a"), []byte("1")))
		require.NoError(t, db.Checkpoint(ctx))
		require.NoError(t, db.Close())
		c.tool(path, f, "set", "b", "2")
		require.Equal(t, "a\t1\nb\t2\n", c.tool(path, f, "show"))
	})
}
