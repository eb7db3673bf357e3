package realcyrus

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// DBTool runs cyr_dbtool on one file of a store of its own.
type DBTool struct {
	// File is the path of the file; nothing is there at first.
	File   string
	format string
	store  *Store
}

// NewDBTool makes a store and names a file in it.
func NewDBTool(t testing.TB, format, name string) DBTool {
	t.Helper()
	NeedPrograms(t)
	s := NewStore(t, Options{})
	return DBTool{File: filepath.Join(s.Dir, name), format: format, store: s}
}

// Run gives the program input and returns what it prints. Whatever it says on standard error fails the test, as does an
// exit status other than 0.
func (d DBTool) Run(t testing.TB, input string, args ...string) string {
	t.Helper()
	out := d.store.Try(t, "cyr_dbtool", []byte(input), append([]string{d.File, d.format}, args...)...)
	if out.Code != 0 || out.Stderr != "" {
		t.Fatalf("cyr_dbtool %s: exit status %d\n%s", strings.Join(args, " "), out.Code, out.Stderr)
	}
	return out.Stdout
}

// Write puts content into the file, for the user cyrus to change.
func (d DBTool) Write(t testing.TB, b []byte) {
	t.Helper()
	if err := os.WriteFile(d.File, b, 0o600); err != nil {
		t.Fatal(err)
	}
	Give(t, d.File)
}

// Read returns the content of the file.
func (d DBTool) Read(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile(d.File)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Show lists the records as "key=value".
func (d DBTool) Show(t testing.TB) (list []string) {
	t.Helper()
	for line := range strings.Lines(d.Run(t, "", "show")) {
		list = append(list, strings.Replace(strings.TrimSuffix(line, "\n"), "\t", "=", 1))
	}
	return list
}
