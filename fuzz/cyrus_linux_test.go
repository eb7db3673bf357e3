package fuzz

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/skiplist"
)

// cyrus is a process of the real Cyrus's library that lists databases. Nil stands for none.
type cyrus struct {
	t   *testing.T
	dir string
	o   *realcyrus.Oracle
}

// startCyrus returns nil where Cyrus is not installed.
func startCyrus(t *testing.T) *cyrus {
	if !realcyrus.HaveOracle(t) {
		return nil
	}
	return &cyrus{t: t, dir: fastDir(t)}
}

func (c *cyrus) String() string {
	if c == nil {
		return "no Cyrus"
	}
	return "the real Cyrus"
}

// listCopy has Cyrus open a copy of a database, which it may recover, and list it.
func (c *cyrus) listCopy(f skiplist.Format, path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	copied := filepath.Join(c.dir, "copy")
	if err := errors.Join(removeIfThere(copied+".NEW"), os.WriteFile(copied, data, 0o644)); err != nil {
		return nil, err
	}
	return c.list(f, copied)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// list has Cyrus open the file itself. Without a skipstamp it recovers every skiplist that it opens.
func (c *cyrus) list(f skiplist.Format, path string) (map[string]string, error) {
	if c.o == nil {
		c.o = realcyrus.StartOracle(c.t, realcyrus.OracleOptions{})
	}
	got, err := listThrough(c.o, f, path)
	if errors.Is(err, realcyrus.ErrOracleGone) {
		c.o = nil // it stumbled over the file; the next gets another process
	}
	return got, err
}

func listThrough(o *realcyrus.Oracle, f skiplist.Format, path string) (map[string]string, error) {
	db, err := o.Open(string(f), path, 0)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	rows, err := db.Foreach(nil, 0)
	if err != nil {
		return nil, fmt.Errorf("foreach: %w", err)
	}
	got := map[string]string{}
	for _, r := range rows {
		if _, twice := got[string(r.Key)]; twice {
			return nil, fmt.Errorf("foreach: a key comes twice")
		}
		got[string(r.Key)] = string(r.Value)
	}
	return got, db.Close()
}
