package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/mailspine/mailspine"
	root   = "../.."
	// maxFileLines and maxFuncLines are where a reader gets lost.
	maxFileLines = 800
	maxFuncLines = 120
)

// rooms are the layers from bottom to top. A package reaches, by its imports and theirs, its own room and lower ones.
// The other internal packages are in no room: they serve the one that imports them.
var rooms = []string{"internal/vfs", "skiplist", "mboxdb", "index", "quota", "reconstruct", "store", "cmd"}

// testHelpers are packages that only tests may import, and that may import anything.
var testHelpers = []string{"fuzz", "internal/realcyrus", "internal/killsup", "internal/lint", "internal/vfs/simfs", "internal/vfs/faultfs", "skiplist/internal/codectest"}

// fileCallsAllowed are the places, as prefixes of paths, that may touch files without package vfs, and why.
var fileCallsAllowed = map[string]string{
	"internal/vfs/":        "it is the door to files",
	"internal/realcyrus/":  "it runs other programs on files of its own, in tests",
	"internal/killsup/":    "it traces processes, in tests",
	"fuzz/":                "it mounts disks and kills processes, in tests",
	"cmd/mailspine/demo":   "the demo mounts and fills a disk of its own",
	"internal/demo/":       "the demo mounts and fills a disk of its own",
	"internal/owner/":      "it changes the user of the process, and touches no file",
	"examples/":            "a server reads its own configuration",
	"internal/vfs/simfs/":  "it is a file system itself",
	"internal/vfs/faultfs": "it is a file system itself",
}

// renameAllowed are the files that may call Rename or Exchange of a file system besides package vfs, and why.
var renameAllowed = map[string]string{
	"index/repack.go":                "three files change names together, and each step is a state that others may find",
	"index/repackfinish.go":          "the same",
	"skiplist/checkpoint.go":         "creates a database where there are no hard links",
	"cmd/mailspine/mailboxchange.go": "has package store rename a mailbox",
}

// mayPrint are the places that may print and exit.
var mayPrint = []string{"cmd/", "internal/imapdconf/gen/", "examples/", "fuzz/", "internal/realcyrus/", "internal/killsup/", "internal/demo/"}

// harmless are the names of packages that reach files and yet do not touch one.
var harmless = map[string]*regexp.Regexp{
	"os": regexp.MustCompile(`^(Args|Exit|Std(in|out|err)|Getenv|LookupEnv|Environ|Interrupt|Kill|Signal|Get(pid|ppid|uid|euid|gid|egid)|` +
		`Hostname|Err[A-Z]\w*|PathError|LinkError|SyscallError|IsNotExist|IsExist|IsPermission|FileMode|FileInfo|Mode[A-Z]\w*|ExpandEnv|Getpagesize|PathSeparator)$`),
	"syscall":                regexp.MustCompile(`^(E[A-Z0-9]+|SIG[A-Z0-9]+|Errno|Signal)$`),
	"golang.org/x/sys/unix":  regexp.MustCompile(`^(E[A-Z0-9]+|SIG[A-Z0-9]+|Errno|Signal)$`),
	"golang.org/x/sys/plan9": regexp.MustCompile(`^$`),
	"io/ioutil":              regexp.MustCompile(`^(Discard|NopCloser|ReadAll)$`),
	"path/filepath":          regexp.MustCompile(`^([^WGE].*|Ext)$`), // not Walk, WalkDir, Glob, EvalSymlinks
}

// source is one parsed Go file. Its path is relative to the root, with slashes.
type source struct {
	path string
	text []byte
	fset *token.FileSet
	file *ast.File
}

func (s *source) test() bool   { return strings.HasSuffix(s.path, "_test.go") }
func (s *source) dir() string  { return path.Dir(s.path) }
func (s *source) helper() bool { return within(s.path, testHelpers) }

func (s *source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(n.Pos()).Line)
}

// within tells whether a path is one of the directories, or below one.
func within(p string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return p == d || strings.HasPrefix(p, d+"/") })
}

// sources parses all Go files of the module.
func sources(t *testing.T) []*source {
	var list []*source
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel == "." {
				return nil
			}
			if strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
				return filepath.SkipDir // a module of its own
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		s, err := parse(filepath.ToSlash(rel), text)
		if err != nil {
			t.Error(err)
			return nil
		}
		list = append(list, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func parse(name string, text []byte) (*source, error) {
	s := &source{path: name, text: text, fset: token.NewFileSet()}
	var err error
	s.file, err = parser.ParseFile(s.fset, name, text, parser.ParseComments)
	return s, err
}

// TestRules applies every rule to every file.
func TestRules(t *testing.T) {
	all := sources(t)
	if len(all) < 20 {
		t.Fatalf("only %d files found under %s", len(all), root)
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, s := range all {
				for _, problem := range r.check(s) {
					t.Error(problem)
				}
			}
		})
	}
	for name, check := range map[string]func([]*source) []string{"imports": imports, "package comments": undocumented} {
		t.Run(name, func(t *testing.T) {
			for _, problem := range check(all) {
				t.Error(problem)
			}
		})
	}
}

type rule struct {
	name  string
	check func(*source) []string
}

// rules look at one file each and return what is wrong.
var rules = []rule{
	{"file calls", fileCalls},
	{"renames", renames},
	{"printing", printing},
	{"sizes", sizes},
	{"leftover marks", marks},
	{"gofmt", gofmt},
}

// imports checks the direction of imports. Tests may use anything.
func imports(all []*source) (wrong []string) {
	graph := map[string][]string{} // what each package imports, of ours
	each := func(f func(s *source, imp *ast.ImportSpec, to string)) {
		for _, s := range all {
			for _, imp := range s.file.Imports {
				p, _ := strconv.Unquote(imp.Path.Value)
				if to, ours := strings.CutPrefix(p, module+"/"); ours && !s.test() && !s.helper() {
					f(s, imp, to)
				}
			}
		}
	}
	each(func(s *source, _ *ast.ImportSpec, to string) { graph[s.dir()] = append(graph[s.dir()], to) })
	each(func(s *source, imp *ast.ImportSpec, to string) {
		from := room(s.dir())
		switch top := highest(graph, to); {
		case within(to, testHelpers):
			wrong = append(wrong, fmt.Sprintf("%s: imports %s, which is for tests", s.at(imp), to))
		case from >= 0 && room(top) > from:
			wrong = append(wrong, fmt.Sprintf("%s: %s must not reach %s: imports point downwards (%s)", s.at(imp), s.dir(), top, strings.Join(rooms, " < ")))
		}
	})
	return wrong
}

// highest is the package of the highest room that p reaches, p included.
func highest(graph map[string][]string, p string) string {
	top, seen := p, map[string]bool{p: true}
	for todo := []string{p}; len(todo) > 0; {
		p, todo = todo[0], todo[1:]
		if room(p) > room(top) {
			top = p
		}
		for _, q := range graph[p] {
			if !seen[q] {
				seen[q] = true
				todo = append(todo, q)
			}
		}
	}
	return top
}

// room is the layer of a package, -1 for internal packages in none; all else stands on top.
func room(p string) int {
	i := slices.IndexFunc(rooms, func(r string) bool { return within(p, []string{r}) })
	if i < 0 && !within(p, []string{"internal"}) {
		return len(rooms)
	}
	return i
}

// selectors calls f for every use of a name of an imported package.
func selectors(s *source, f func(importPath string, sel *ast.SelectorExpr)) {
	names := map[string]string{}
	for _, imp := range s.file.Imports {
		p, _ := strconv.Unquote(imp.Path.Value)
		name := path.Base(p)
		if imp.Name != nil {
			name = imp.Name.Name
		}
		names[name] = p
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); ok && names[id.Name] != "" {
			f(names[id.Name], sel)
		}
		return true
	})
}

// fileCalls checks that nobody touches files but through package vfs, where tests can put a failing disk.
func fileCalls(s *source) (wrong []string) {
	if s.test() || s.helper() {
		return nil
	}
	for prefix := range fileCallsAllowed {
		if strings.HasPrefix(s.path, prefix) {
			return nil
		}
	}
	for _, imp := range s.file.Imports {
		if imp.Name != nil && imp.Name.Name == "." {
			wrong = append(wrong, fmt.Sprintf("%s: a dot import hides what is called", s.at(imp)))
		}
	}
	selectors(s, func(p string, sel *ast.SelectorExpr) {
		if ok := harmless[p]; ok != nil && !ok.MatchString(sel.Sel.Name) {
			wrong = append(wrong, fmt.Sprintf("%s: %s.%s touches files outside internal/vfs", s.at(sel), p, sel.Sel.Name))
		}
	})
	return wrong
}

// renames checks that files are replaced by the one helper of package vfs, which syncs what must be synced.
func renames(s *source) (wrong []string) {
	if s.test() || s.helper() || strings.HasPrefix(s.path, "internal/vfs/") || renameAllowed[s.path] != "" {
		return nil
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && (sel.Sel.Name == "Rename" || sel.Sel.Name == "Exchange") {
			wrong = append(wrong, fmt.Sprintf("%s: %s is for vfs.ReplaceFile and its like alone", s.at(call), sel.Sel.Name))
		}
		return true
	})
	return wrong
}

// printing checks that the library neither prints nor exits.
func printing(s *source) (wrong []string) {
	if s.test() || slices.ContainsFunc(mayPrint, func(p string) bool { return strings.HasPrefix(s.path, p) }) {
		return nil
	}
	selectors(s, func(p string, sel *ast.SelectorExpr) {
		if p == "log" || p == "os" && sel.Sel.Name == "Exit" || p == "fmt" && strings.HasPrefix(sel.Sel.Name, "Print") {
			wrong = append(wrong, fmt.Sprintf("%s: a library does not call %s.%s", s.at(sel), p, sel.Sel.Name))
		}
	})
	return wrong
}

// undocumented checks that every package says what its job is.
func undocumented(all []*source) (wrong []string) {
	documented := map[string]bool{}
	for _, s := range all {
		name := strings.TrimSuffix(s.file.Name.Name, "_test")
		key := s.dir() + " package " + name
		good := s.file.Doc != nil
		if good && name != "main" {
			good = strings.HasPrefix(s.file.Doc.Text(), "Package "+name+" ")
		}
		documented[key] = documented[key] || good
	}
	for key, good := range documented {
		if !good {
			wrong = append(wrong, key+" has no package comment (\"Package NAME ...\")")
		}
	}
	slices.Sort(wrong)
	return wrong
}

func sizes(s *source) (wrong []string) {
	if ast.IsGenerated(s.file) {
		return nil
	}
	if n := bytes.Count(s.text, []byte("\n")); n > maxFileLines {
		wrong = append(wrong, fmt.Sprintf("%s: %d lines, more than %d", s.path, n, maxFileLines))
	}
	for _, d := range s.file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || s.test() { // a test may be a long table
			continue
		}
		if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > maxFuncLines {
			wrong = append(wrong, fmt.Sprintf("%s: func %s has %d lines, more than %d", s.at(f), f.Name.Name, n, maxFuncLines))
		}
	}
	return wrong
}

var leftover = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`)

func marks(s *source) (wrong []string) {
	for _, group := range s.file.Comments {
		for _, c := range group.List {
			if m := leftover.FindString(c.Text); m != "" {
				wrong = append(wrong, fmt.Sprintf("%s: a %s; open an issue instead", s.at(c), m))
			}
		}
	}
	return wrong
}

func gofmt(s *source) []string {
	got, err := format.Source(s.text)
	if err != nil {
		return []string{err.Error()}
	}
	if !bytes.Equal(got, s.text) {
		return []string{s.path + ": not formatted by gofmt"}
	}
	return nil
}

// TestSkiplistIsLight checks that whoever imports skiplist gets nothing but the standard library and golang.org/x/sys.
func TestSkiplistIsLight(t *testing.T) {
	for _, pkg := range []string{"internal/vfs", "skiplist"} {
		cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./"+pkg)
		cmd.Dir = root
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list -deps ./%s: %v\n%s", pkg, err, stderr.Bytes())
		}
		for _, dep := range strings.Fields(string(out)) {
			if !within(dep, []string{module, "golang.org/x/sys"}) {
				t.Errorf("%s pulls in %s", pkg, dep)
			}
		}
	}
}

// TestRulesBite shows each rule something that it must not let pass, and its neighbour that it must.
func TestRulesBite(t *testing.T) {
	long := "package a\nfunc f() {\n" + strings.Repeat("f()\n", maxFuncLines) + "}\n"
	cases := []struct {
		rule  string
		path  string
		text  string
		wrong int
	}{
		{"imports", "skiplist/a.go", `package a; import _ "` + module + `/mboxdb"`, 1},
		{"imports", "skiplist/internal/a.go", `package a; import _ "` + module + `/skiplist"`, 0},
		{"imports", "internal/vfs/a.go", `package a; import _ "` + module + `/skiplist/internal/tree"`, 1},
		{"imports", "store/a.go", `package a; import (_ "` + module + `/skiplist"; _ "` + module + `/internal/finding"; _ "fmt")`, 0},
		{"imports", "store/a.go", `package a; import _ "` + module + `/internal/realcyrus"`, 1},
		{"imports", "store/a_test.go", `package a; import _ "` + module + `/internal/realcyrus"`, 0},
		{"imports", "store/a.go", `package a; import _ "` + module + `/examples/imapd"`, 1},
		{"file calls", "quota/a.go", `package a; import "os"; var x, y = os.Open, os.Args`, 1},
		{"file calls", "quota/a.go", `package a; import sys "syscall"; var x, y = sys.Open, sys.ENOSPC`, 1},
		{"file calls", "quota/a.go", `package a; import "path/filepath"; var x, y, z = filepath.Walk, filepath.Join, filepath.Ext`, 1},
		{"file calls", "quota/a.go", `package a; import . "os"; var x = Open`, 1},
		{"file calls", "quota/a.go", `package a; import "golang.org/x/sys/unix"; var x, y = unix.Pwrite, unix.EINTR`, 1},
		{"file calls", "internal/vfs/a.go", `package a; import "os"; var x = os.Open`, 0},
		{"file calls", "quota/a_test.go", `package a; import "os"; var x = os.Open`, 0},
		{"renames", "quota/a.go", `package a; func f() { g.fs.Rename("a", "b"); g.Exchange("a", "b"); h.Rename("a") }`, 2},
		{"renames", "internal/vfs/a.go", `package a; func f() { g.fs.Rename("a", "b") }`, 0},
		{"printing", "quota/a.go", `package a; import ("fmt"; "os"; "log"); func f() { fmt.Println(); os.Exit(1); log.Print(); fmt.Fprintln(w) }`, 3},
		{"printing", "cmd/a/a.go", `package a; import "fmt"; func f() { fmt.Println() }`, 0},
		{"sizes", "quota/a.go", "package a\n" + strings.Repeat("// a\n", maxFileLines), 1},
		{"sizes", "quota/a.go", long, 1},
		{"leftover marks", "quota/a.go", "package a\n// TO" + "DO: more\nvar todo int", 1},
		{"gofmt", "quota/a.go", "package  a\n", 1},
		{"gofmt", "quota/a.go", "package a\n", 0},
	}
	for _, c := range cases {
		s, err := parse(c.path, []byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		if c.rule == "imports" {
			if got := imports([]*source{s}); len(got) != c.wrong {
				t.Errorf("%s: %s: found %q", c.path, c.text, got)
			}
			continue
		}
		i := slices.IndexFunc(rules, func(r rule) bool { return r.name == c.rule })
		if got := rules[i].check(s); len(got) != c.wrong {
			t.Errorf("%s on %s:\n%s\nfound %d problems, not %d: %q", c.rule, c.path, c.text, len(got), c.wrong, got)
		}
	}
	through, _ := parse("internal/batch/a.go", []byte(`package batch; import _ "`+module+`/mboxdb"`))
	low, _ := parse("skiplist/a.go", []byte(`package skiplist; import _ "`+module+`/internal/batch"`))
	high, _ := parse("index/a.go", []byte(`package index; import _ "`+module+`/internal/batch"`))
	if got := imports([]*source{through, low, high}); len(got) != 1 || !strings.HasPrefix(got[0], "skiplist/a.go") {
		t.Errorf("imports through an internal package: %q", got)
	}
	good, _ := parse("a/a.go", []byte("// Package a is documented.\npackage a"))
	second, _ := parse("a/b.go", []byte("package a"))
	bad, _ := parse("b/b.go", []byte("// This is not how it is done.\npackage b"))
	if got := undocumented([]*source{good, second, bad}); len(got) != 1 {
		t.Errorf("package comments: %q", got)
	}
}
