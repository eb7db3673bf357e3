package lint

import (
	"flag"
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the table of planted bugs in docs/track-record.md anew")

// bug is what the code says of one planted bug.
type bug struct {
	name   string   // as the environment names it
	does   string   // from the comment
	places []string // where the switch stands
	caught string   // the test that catches it
}

const (
	plantedDir   = "internal/planted"
	plantedTable = "docs/track-record.md"
)

// TestPlantedBugs checks that every planted bug is in the code, in one place or two that belong together, that
// TestPlanted has a test to catch it, and that the table in the track record says the same.
func TestPlantedBugs(t *testing.T) {
	all := sources(t)
	bugs, order := declaredBugs(t, all)
	if len(bugs) < 25 {
		t.Fatalf("only %d planted bugs found", len(bugs))
	}
	for _, s := range all {
		for _, problem := range plantedIn(s, bugs) {
			t.Error(problem)
		}
	}
	caughtBy(t, all, bugs)
	var table strings.Builder
	table.WriteString("| bug | in | what it does | caught by |\n|---|---|---|---|\n")
	for _, id := range order {
		b := bugs[id]
		if len(b.places) == 0 || b.caught == "" {
			t.Errorf("%s: stands in %q, is caught by %q", id, b.places, b.caught)
		}
		slices.Sort(b.places)
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", b.name, strings.Join(slices.Compact(b.places), ", "), b.does, b.caught)
	}
	compareTable(t, table.String())
}

// declaredBugs reads the switches in the order of their declaration.
func declaredBugs(t *testing.T, all []*source) (bugs map[string]*bug, order []string) {
	bugs = map[string]*bug{}
	names := map[string]bool{}
	for _, s := range all {
		if s.dir() != plantedDir || s.test() {
			continue
		}
		for _, d := range s.file.Decls {
			gen, ok := d.(*ast.GenDecl)
			if !ok || gen.Tok != token.CONST {
				continue
			}
			for _, spec := range gen.Specs {
				v := spec.(*ast.ValueSpec)
				id := v.Names[0].Name
				name, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
				does, ok := strings.CutPrefix(v.Doc.Text(), id+" ")
				if err != nil || !ok || names[name] {
					t.Fatalf("%s: %s needs a name of its own and a comment that begins with its identifier", s.at(v), id)
				}
				names[name] = true
				does = strings.TrimSuffix(strings.Join(strings.Fields(does), " "), ".")
				bugs[id] = &bug{name: name, does: does}
				order = append(order, id)
			}
		}
	}
	return bugs, order
}

// plantedIn notes where the switches stand in a file. In the program they are only asked for, each as planted.On(planted.X).
func plantedIn(s *source, bugs map[string]*bug) (wrong []string) {
	if s.test() || s.dir() == plantedDir {
		return nil
	}
	asked := map[*ast.SelectorExpr]bool{}
	for _, d := range s.file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 {
				return true
			}
			on, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !isPlanted(on) || on.Sel.Name != "On" {
				return true
			}
			if arg, ok := call.Args[0].(*ast.SelectorExpr); ok && isPlanted(arg) && bugs[arg.Sel.Name] != nil {
				asked[on], asked[arg] = true, true
				b := bugs[arg.Sel.Name]
				b.places = append(b.places, fmt.Sprintf("`%s` %s", s.path, f.Name.Name))
			}
			return true
		})
	}
	selectors(s, func(p string, sel *ast.SelectorExpr) {
		if p == module+"/"+plantedDir && !asked[sel] {
			wrong = append(wrong, fmt.Sprintf("%s: planted.%s is used for something else than planted.On(planted.NAME)", s.at(sel), sel.Sel.Name))
		}
	})
	return wrong
}

func isPlanted(sel *ast.SelectorExpr) bool {
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == "planted"
}

// caughtBy reads the table of TestPlanted.
func caughtBy(t *testing.T, all []*source, bugs map[string]*bug) {
	i := slices.IndexFunc(all, func(s *source) bool { return s.path == "fuzz/planted_test.go" })
	if i < 0 {
		t.Fatal("fuzz/planted_test.go is missing")
	}
	ast.Inspect(all[i].file, func(n ast.Node) bool {
		row, ok := n.(*ast.CompositeLit)
		if !ok || len(row.Elts) != 2 {
			return true
		}
		id, ok := row.Elts[0].(*ast.SelectorExpr)
		by, isRow := row.Elts[1].(*ast.CompositeLit)
		if !ok || !isPlanted(id) || !isRow {
			return true
		}
		b := bugs[id.Sel.Name]
		pkg, test := literal(by.Elts[0]), literal(by.Elts[1])
		if b == nil || b.caught != "" || pkg == "" || test == "" {
			t.Errorf("%s: planted.%s is unknown, or there twice, or names no test", all[i].at(row), id.Sel.Name)
			return false
		}
		b.caught = fmt.Sprintf("`%s` of %s", test, pkg)
		return false
	})
}

func literal(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok {
		text, _ := strconv.Unquote(lit.Value)
		return text
	}
	return ""
}

func compareTable(t *testing.T, want string) {
	name := filepath.Join(root, plantedTable)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), "\n## Planted bugs\n")
	at := strings.Index(rest, "| bug |")
	if !ok || at < 0 {
		t.Fatalf("%s has no section \"Planted bugs\" with a table", plantedTable)
	}
	end := len(rest)
	if i := strings.Index(rest[at:], "\n\n"); i >= 0 {
		end = at + i + 1
	}
	if rest[at:end] == want {
		return
	}
	if *rewrite {
		text := head + "\n## Planted bugs\n" + rest[:at] + want + rest[end:]
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("the table in %s is not what the code says (go test ./internal/lint -run TestPlantedBugs -rewrite writes it anew):\n%s", plantedTable, want)
}
