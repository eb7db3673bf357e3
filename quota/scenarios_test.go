package quota_test

import (
	"maps"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/store"
)

// scenario is a store with something wrong in it, what is recalculated, and the numbers that the roots then have to have.
type scenario struct {
	// no is its number in the catalogue: that of a scenario, or of a defect of Cyrus's program with a letter "D".
	no, what string
	domains  bool
	// boxes and roots are those of the base, if they are nil. A root of the base says 1/1/1 at first.
	boxes []box
	roots map[string]string
	// prepare does the rest.
	prepare func(g *ground)
	// ours and theirs say what is recalculated; of theirs nil is "-f".
	ours   asked
	theirs []string
	// want are the roots afterwards. Those of the base that are not named have to be right.
	want map[string]string
	// headers are the roots that the headers of mailboxes have to name.
	headers map[string]string
	// incomplete and orphans are the roots that are reported so.
	incomplete, orphans []string
	// problems are files that are reported beside the roots.
	problems []string
	// damaged are the roots whose record cannot be read; they are reported with what was counted.
	damaged map[string]string
	// cyrus is what the real program makes of it where that is wrong.
	cyrus *verdict
}

// asked are the roots that a recalculation is asked for, by name, by tree or by user; all of them if it is empty.
type asked struct {
	roots, under, prefixes, users []string
	deep, dryRun                  bool
}

// verdict is a result of the real program that is not right.
type verdict struct {
	// says is how the page for operators describes it, and ours what we make of the same.
	says, ours string
	code       int
	// roots differ from what is wanted; "gone" means that there is none any more.
	roots map[string]string
	// headers differ from what is wanted.
	headers map[string]string
	// writes is set where something is written that must not be.
	writes bool
}

// stopped is what the real program makes of a mailbox of user.foo that cannot be opened: it ends there.
func stopped(code int, foo string) *verdict {
	return &verdict{code: code, says: "the run ends there, and no root is set right", ours: "its root is reported and stays as it is; all others are counted",
		roots: map[string]string{"user.bob": "1/1/1/SCAN", "user.bobby": "1/1/1/SCAN", "user.foo": foo + "/SCAN", "user.foobar": "1/1/1"}}
}

const gone = "gone"

var (
	baseBoxes = []box{{"user.foo", 3, 1000}, {"user.foo.sub", 2, 2000}, {"user.foobar", 5, 1500}, {"user.bob", 1, 1500}, {"user.bobby", 4, 1500}}
	baseRight = map[string]string{"user.foo": "7000/5/2", "user.foobar": "7500/5/1", "user.bob": "1500/1/1", "user.bobby": "6000/4/1"}
)

// baseRoots are the roots of the base, all wrong, and some more.
func baseRoots(more map[string]string) map[string]string {
	all := map[string]string{}
	for root := range baseRight {
		all[root] = rootText("1/1/1", 100000, 500)
	}
	maps.Copy(all, more)
	return all
}

// wants are the right numbers of the base, but for those that are named.
func wants(other map[string]string) map[string]string {
	all := maps.Clone(baseRight)
	maps.Copy(all, other)
	return all
}

// build makes the store of a scenario.
func (s *scenario) build(g *ground) {
	boxes := s.boxes
	if boxes == nil {
		boxes = baseBoxes
	}
	roots := s.roots
	if roots == nil {
		roots = baseRoots(nil)
	}
	for _, root := range slices.Sorted(maps.Keys(roots)) {
		g.putRoot(root, rootText("0/0/0")) // before the mailboxes, whose headers name it
	}
	g.create(boxes...)
	for root, text := range roots {
		g.putRoot(root, text) // as the deliveries have changed it
	}
	if s.prepare != nil {
		s.prepare(g)
	}
	g.give()
}

func (s *scenario) options() realcyrus.Options {
	if s.domains {
		return realcyrus.Options{Extra: map[string]string{"virtdomains": "userid"}}
	}
	return realcyrus.Options{}
}

// addSubRoot adds a root by its file alone: the headers do not name it.
func addSubRoot(g *ground) { g.putRoot("user.foo.sub", rootText("1/1/1", 500)) }

// expunge has the first message of a mailbox expunged, but not yet removed.
func expunge(g *ground, name string) {
	g.update(name, func(tx *index.Tx) error {
		_, err := tx.Expunge(1, index.ExpungeDelayed)
		return err
	})
}

// broken are ways in which a mailbox cannot be opened.
var broken = map[string]func(g *ground){
	"empty index": func(g *ground) { g.write(g.rel(g.place("user.foo.sub").Paths.Index), "") },
	"short index": func(g *ground) {
		path := g.rel(g.place("user.foo.sub").Paths.Index)
		g.write(path, string(g.read(path)[:60]))
	},
	"bad header": func(g *ground) { g.write(g.rel(g.place("user.foo.sub").Paths.Header), "nonsense\n") },
	"no directory": func(g *ground) {
		dir := g.rel(g.place("user.foo.sub").Messages)
		for _, name := range g.list(dir) {
			require.NoError(g.t, g.fs.Unlink(g.path(dir+"/"+name)))
		}
		require.NoError(g.t, g.fs.Rmdir(g.path(dir)))
	},
}

// putRecord writes a record of the mailbox list as it is.
func putRecord(g *ground, name, value string) {
	g.opened(func(st *store.Store) {
		require.NoError(g.t, st.List().DB().Put(g.t.Context(), []byte("N"+mboxdb.InternalName(name).DB()), []byte(value)))
	})
}

// forget removes a mailbox from the list, as a list that has lost records has it.
func forget(g *ground, names ...string) {
	g.opened(func(st *store.Store) {
		for _, name := range names {
			rec, err := st.List().Lookup(g.t.Context(), mboxdb.InternalName(name))
			require.NoError(g.t, err)
			require.NoError(g.t, st.List().DB().Delete(g.t.Context(), []byte("N"+rec.Name.DB())))
			require.NoError(g.t, st.List().DB().Delete(g.t.Context(), []byte("I"+rec.UniqueID)))
		}
	})
}

// scenarios are those without anything that happens during the run.
func scenarios() (all []scenario) {
	all = append(all, headerScenarios()...)
	all = append(all, argumentScenarios()...)
	all = append(all, contentScenarios()...)
	return append(all, damageScenarios()...)
}

func headerScenarios() []scenario {
	fixed := map[string]string{"user.foo": "user.foo", "user.foo.sub": "user.foo"}
	split := map[string]string{"user.foo": "user.foo", "user.foo.sub": "user.foo.sub"}
	return []scenario{
		{no: "1", what: "a header without a root", prepare: func(g *ground) { g.putHeader("user.foo.sub", "") }, headers: fixed},
		{no: "2", what: "a header that names a root that is not there", prepare: func(g *ground) { g.putHeader("user.foo.sub", "user.bar") }, headers: fixed},
		{no: "2b", what: "a header that names the root of another user", prepare: func(g *ground) { g.putHeader("user.foo.sub", "user.foobar") }, headers: fixed},
		{no: "3", what: "a root added by its file", prepare: addSubRoot, headers: split,
			want: wants(map[string]string{"user.foo": "3000/3/1", "user.foo.sub": "4000/2/1"})},
		{no: "4", what: "a root added by its file, and only the outer one is asked for", prepare: addSubRoot,
			ours: asked{roots: []string{"user.foo"}}, theirs: []string{"-f", "user.foo"},
			want: map[string]string{"user.foo": "3000/3/1", "user.foo.sub": "1/1/1", "user.foobar": "1/1/1", "user.bob": "1/1/1", "user.bobby": "1/1/1"},
			cyrus: &verdict{says: "all roots whose names begin so are counted, that of `user.foobar`, too", ours: "one is counted",
				roots: map[string]string{"user.foo.sub": "4000/2/1", "user.foobar": "7500/5/1"}}},
		{no: "5", what: "a root added by its file, and only that is asked for", prepare: func(g *ground) {
			addSubRoot(g)
			g.putRoot("user.foo", rootText("7000/5/2", 100000))
		}, ours: asked{roots: []string{"user.foo.sub"}}, theirs: []string{"-f", "user.foo.sub"}, headers: split,
			want: map[string]string{"user.foo": "7000/5/2", "user.foo.sub": "4000/2/1", "user.foobar": "1/1/1", "user.bob": "1/1/1", "user.bobby": "1/1/1"}},
		{no: "6", what: "a mailbox after one with a root of its own", boxes: append(slices.Clone(baseBoxes), box{"user.foo.z", 1, 500}),
			roots: baseRoots(map[string]string{"user.foo.sub": rootText("1/1/1")}), headers: split,
			want: wants(map[string]string{"user.foo": "3500/4/2", "user.foo.sub": "4000/2/1"})},
		{no: "22", what: "a mailbox with a root of its own renamed to where another one counts", roots: baseRoots(map[string]string{"user.foo.sub": rootText("1/1/1", 700)}),
			prepare: func(g *ground) {
				g.opened(func(st *store.Store) {
					_, err := st.Rename(g.t.Context(), store.Renaming{From: mboxdb.InternalName("user.foo.sub"), To: mboxdb.InternalName("user.foo.moved")})
					require.NoError(g.t, err)
				})
				g.putHeader("user.foo.moved", "user.foo.sub") // where Cyrus leaves it
				for root, text := range baseRoots(map[string]string{"user.foo.sub": rootText("1/1/1", 700)}) {
					g.putRoot(root, text)
				}
			},
			want: wants(map[string]string{"user.foo.sub": "1/1/1"}), headers: map[string]string{"user.foo.moved": "user.foo"}, orphans: []string{"user.foo.sub"},
			cyrus: &verdict{says: "its old root is deleted, with its limits", ours: "its old root is reported, and stays as it is",
				roots: map[string]string{"user.foo.sub": gone}}},
		{no: "23", what: "a root of a whole domain", domains: true, boxes: []box{{"dom!user.new", 1, 1000}, {"user.bob", 1, 1500}},
			roots: map[string]string{"dom!": rootText("1/1/1", 5000), "user.bob": rootText("1/1/1", 10)},
			want:  map[string]string{"dom!": "1000/1/1", "user.bob": "1500/1/1"}, headers: map[string]string{"dom!user.new": "dom!"},
			cyrus: &verdict{says: "the root is deleted, with its limits", ours: "what has no closer root counts for it",
				roots: map[string]string{"dom!": gone}, headers: map[string]string{"dom!user.new": ""}}},
	}
}

func argumentScenarios() []scenario {
	only := func(roots ...string) map[string]string {
		all := map[string]string{}
		for root := range baseRight {
			all[root] = "1/1/1"
			if slices.Contains(roots, root) {
				all[root] = baseRight[root]
			}
		}
		return all
	}
	foo := only("user.foo")
	return []scenario{
		{no: "D1", what: "the same root named twice", ours: asked{roots: []string{"user.foo", "user.foo"}}, theirs: []string{"-f", "user.foo", "user.foo"}, want: foo,
			cyrus: &verdict{code: 70, says: "the usage is doubled, then the roots whose names begin so are deleted, with their limits", ours: "counted once",
				roots: map[string]string{"user.foo": gone, "user.foobar": gone}}},
		{no: "D1b", what: "the same user named twice", ours: asked{users: []string{"bob", "bob"}}, theirs: []string{"-f", "-u", "bob", "bob"}, want: only("user.bob"),
			cyrus: &verdict{code: 70, says: "the root is deleted, with its limits", ours: "counted once", roots: map[string]string{"user.bob": gone}}},
		{no: "7", what: "a name, and another that begins with it", ours: asked{under: []string{"user.foo", "user.foobar"}}, theirs: []string{"-f", "user.foo", "user.foobar"},
			want: only("user.foo", "user.foobar"), cyrus: &verdict{code: 70, says: "the root of the longer name is deleted, with its limits", ours: "both are counted", roots: map[string]string{"user.foobar": gone}}},
		{no: "D2", what: "bob and bobby", ours: asked{under: []string{"user.bob", "user.bobby"}}, theirs: []string{"-f", "user.bob", "user.bobby"},
			want: only("user.bob", "user.bobby"), headers: map[string]string{"user.bob": "user.bob", "user.bobby": "user.bobby"}, cyrus: &verdict{code: 70, says: "bobby's root is deleted, with its limits", ours: "both are counted", roots: map[string]string{"user.bobby": gone}}},
		{no: "D2b", what: "bobby and bob", ours: asked{under: []string{"user.bobby", "user.bob"}}, theirs: []string{"-f", "user.bobby", "user.bob"},
			want: only("user.bob", "user.bobby"), headers: map[string]string{"user.bob": "user.bob", "user.bobby": "user.bobby"}, cyrus: &verdict{code: 70, says: "both roots are deleted, and bob's mailbox counts nowhere any more", ours: "both are counted",
				roots: map[string]string{"user.bob": gone, "user.bobby": gone}, headers: map[string]string{"user.bob": ""}}},
		{no: "D2c", what: "bob and bobby as beginnings of names", ours: asked{prefixes: []string{"user.bob", "user.bobby"}}, theirs: []string{"-f", "user.bob", "user.bobby"},
			want: only("user.bob", "user.bobby"), headers: map[string]string{"user.bob": "user.bob", "user.bobby": "user.bobby"}, cyrus: &verdict{code: 70, says: "bobby's root is deleted, with its limits", ours: "both are counted", roots: map[string]string{"user.bobby": gone}}},
		{no: "D14", what: "a beginning of names shorter than the first letter", ours: asked{prefixes: []string{"us"}}, theirs: []string{"-f", "us"}, want: baseRight,
			headers: map[string]string{"user.foo.sub": "user.foo", "user.bob": "user.bob", "user.bobby": "user.bobby"}, cyrus: &verdict{says: "nothing is counted, and the headers of all mailboxes lose their root", ours: "all are counted",
				roots:   map[string]string{"user.bob": "1/1/1", "user.bobby": "1/1/1", "user.foo": "1/1/1", "user.foobar": "1/1/1"},
				headers: map[string]string{"user.foo.sub": "", "user.bob": "", "user.bobby": ""}}},
	}
}

func contentScenarios() []scenario {
	limits := baseRoots(map[string]string{"user.foo": rootText("1/1/1", 0, 0), "user.bob": rootText("1/1/1"), "user.bobby": rootText("1/1/1", -1, 7)})
	return []scenario{
		{no: "10", what: "a root without a mailbox", roots: baseRoots(map[string]string{"user.ghost": rootText("77/7/7", 4711)}), orphans: []string{"user.ghost"},
			want: wants(map[string]string{"user.ghost": "77/7/7"}), cyrus: &verdict{says: "the root is deleted, with its limits", ours: "the root is reported, and stays as it is", roots: map[string]string{"user.ghost": gone}}},
		{no: "11", what: "a message expunged, and kept", prepare: func(g *ground) { expunge(g, "user.foo"); addWrong(g) }, want: wants(map[string]string{"user.foo": "6000/4/2"})},
		{no: "11b", what: "a message expunged and restored", prepare: func(g *ground) {
			expunge(g, "user.foo")
			g.update("user.foo", func(tx *index.Tx) error {
				_, err := tx.Unexpunge(1, 0)
				return err
			})
			addWrong(g)
		}},
		{no: "12", what: `a message with \Deleted`, prepare: func(g *ground) {
			g.update("user.foo", func(tx *index.Tx) error {
				_, err := tx.SetFlags(1, index.FlagChange{Op: index.AddFlags, Flags: index.FlagDeleted})
				return err
			})
		}},
		{no: "13", what: "a mailbox deleted, and kept", prepare: func(g *ground) {
			g.opened(func(st *store.Store) {
				_, err := st.Delete(g.t.Context(), store.Deletion{Name: mboxdb.InternalName("user.foo.sub")})
				require.NoError(g.t, err)
			})
			addWrong(g)
		}, want: wants(map[string]string{"user.foo": "3000/3/1"})},
		{no: "14", what: "what remains of a deleted mailbox, and a name without a mailbox", prepare: func(g *ground) {
			putRecord(g, "user.foo.was", "%(T ed I jzc6simxgnj31nujxrj5ilb1 V 1795432816 C 1 F 4 M 1795432816)")
			putRecord(g, "user.foo.empty", "%(T ei I jzc6simxgnj31nujxrj5ilb2 P default V 1795432816 C 1 F 4 M 1795432816 A %())")
		}},
		{no: "20", what: "counters of an index that are not those of its records", prepare: func(g *ground) {
			g.putIndex("user.foo.sub", func(h *index.Header) { h.QuotaUsed, h.Exists = 99999, 50 })
		}, want: wants(map[string]string{"user.foo": "102999/53/2"})},
		{no: "20b", what: "counters of an index that are not those of its records (`--deep`)", ours: asked{deep: true}, prepare: func(g *ground) {
			g.putIndex("user.foo.sub", func(h *index.Header) { h.QuotaUsed, h.Exists = 99999, 50 })
		}, cyrus: &verdict{says: "there is no such option: they are counted", ours: "the records are counted",
			roots: map[string]string{"user.foo": "102999/53/2"}}},
		{no: "25", what: "limits of nothing, and none", roots: limits},
		{no: "D9", what: "a run that is not to change anything (`-n`)", ours: asked{dryRun: true}, theirs: []string{"-f", "-n"}, prepare: func(g *ground) { g.putHeader("user.foo.sub", "") },
			want:    map[string]string{"user.foo": "1/1/1", "user.foobar": "1/1/1", "user.bob": "1/1/1", "user.bobby": "1/1/1"},
			headers: map[string]string{"user.foo.sub": ""}, cyrus: &verdict{says: "headers are changed, and all roots are written", ours: "nothing is written", headers: map[string]string{"user.foo.sub": "user.foo"}, writes: true}},
	}
}

// addWrong makes all roots wrong again, after a delivery of ours has changed them.
func addWrong(g *ground) {
	for root, text := range baseRoots(nil) {
		g.putRoot(root, text)
	}
}

func damageScenarios() []scenario {
	scan := "%(S (1 100000) M (1 500) AS (0) NF (1) SCAN %(MBOX user.foo.sub S 4444 M 44 AS 0 NF 4) MODSEQ 3)\n"
	all := []scenario{
		{no: "8", what: "a root file of no bytes", roots: baseRoots(map[string]string{"user.bob": ""}), want: wants(map[string]string{"user.bob": "?"}),
			headers: map[string]string{"user.bob": "user.bob"}, damaged: map[string]string{"user.bob": "1500/1/1"}, cyrus: &verdict{says: "its mailboxes count nowhere any more", ours: "what its mailboxes use is reported; the file and the headers stay as they are",
				headers: map[string]string{"user.bob": ""}}},
		{no: "9", what: "what a run that was killed has left in a root", roots: baseRoots(map[string]string{"user.foo": scan, "user.bob": scan})},
		{no: "24", what: "a root of Cyrus 2.4", roots: baseRoots(map[string]string{"user.bobby": "6001\n100000\n"})},
		{no: "21", what: "an index that cannot be read", prepare: func(g *ground) {
			broken["short index"](g)
			g.putRoot("user.foo", rootText("7000/5/2", 100000))
		}, want: wants(map[string]string{"user.foo": "7000/5/2"}), incomplete: []string{"user.foo"}, cyrus: stopped(70, "7000/5/2")},
		{no: "D7", what: "a root file that is cut off", roots: baseRoots(map[string]string{"user.bob": "%(S (1 100000) M (1 5"}),
			want: wants(map[string]string{"user.bob": "?%(S (1 100000) M (1 5"}), damaged: map[string]string{"user.bob": "1500/1/1"}, cyrus: &verdict{code: 70, says: "nothing is counted", ours: "it is reported, with what its mailboxes use; all others are counted",
				roots: map[string]string{"user.bobby": "1/1/1", "user.foo": "1/1/1", "user.foobar": "1/1/1"}}},
		{no: "D7b", what: "a root file in the directory of another letter", prepare: func(g *ground) {
			g.write("conf/quota/x/user.elsewhere", rootText("5/5/5"))
		}, want: wants(map[string]string{"user.elsewhere": "5/5/5"}), problems: []string{"conf/quota/x/user.elsewhere"}, cyrus: &verdict{code: 70, says: "nothing is counted", ours: "all others are counted",
			roots: map[string]string{"user.bob": "1/1/1", "user.bobby": "1/1/1", "user.foo": "1/1/1", "user.foobar": "1/1/1"}}},
		{no: "D8", what: "what a crash has left of a change of a root", roots: baseRoots(map[string]string{"user.bob.NEW": rootText("9/9/9")}),
			cyrus: &verdict{code: 74, says: "it is taken for a root, and the run ends in the middle", ours: "it is no root; all roots are counted",
				roots: map[string]string{"user.bobby": "1/1/1/SCAN", "user.foo": "1/1/1/SCAN", "user.foobar": "1/1/1/SCAN"}}},
		{no: "D8b", what: "the same, of a root whose name has one level", boxes: append(slices.Clone(baseBoxes), box{"pub", 1, 500}),
			roots: baseRoots(map[string]string{"pub": rootText("1/1/1")}), prepare: func(g *ground) { g.write("conf/quota/p/pub.NEW", rootText("9/9/9")) },
			want: wants(map[string]string{"pub": "500/1/1"}),
			cyrus: &verdict{code: 70, says: "nothing is counted", ours: "it is no root; all roots are counted",
				roots: map[string]string{"pub": "1/1/1", "pub.NEW": "9/9/9", "user.bob": "1/1/1", "user.bobby": "1/1/1", "user.foo": "1/1/1", "user.foobar": "1/1/1"}}},
		{no: "D11", what: "a list that has lost the mailboxes of a user", prepare: func(g *ground) { forget(g, "user.foo", "user.foo.sub") },
			want: wants(map[string]string{"user.foo": "1/1/1"}), orphans: []string{"user.foo"}, cyrus: &verdict{says: "the root is deleted, with its limits", ours: "the root is reported, and stays as it is", roots: map[string]string{"user.foo": gone}}},
	}
	for _, how := range slices.Sorted(maps.Keys(broken)) {
		code := map[bool]int{true: 74, false: 70}[how == "empty index" || how == "no directory"]
		all = append(all, scenario{no: "D6 " + how, what: "a mailbox that cannot be opened: " + how, prepare: broken[how],
			want: wants(map[string]string{"user.foo": "1/1/1"}), incomplete: []string{"user.foo"}, cyrus: stopped(code, "1/1/1")})
	}
	return all
}
