package fuzz

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/killsup"
	"github.com/mailspine/mailspine/skiplist"
)

// scenario is a database that a writer finds, and what it does with it.
type scenario struct {
	name  string
	base  []byte            // nil: there is none
	state map[string]string // what is in it
	seed  uint64
	steps int
}

// play runs a scenario under a plan. It returns where the database is and what is known of it.
func (s *scenario) play(w *workDir, f skiplist.Format, plan killsup.Plan, args ...string) (string, *outcome, killsup.Result, []byte, error) {
	path, err := w.fresh(s.base)
	if err != nil {
		return "", nil, killsup.Result{}, nil, err
	}
	plan.Dir = filepath.Dir(path)
	cmd := role("writer", append([]string{string(f), path, strconv.FormatUint(s.seed, 10), strconv.Itoa(s.steps)}, args...)...)
	res, said, err := supervised(cmd, plan)
	o := &outcome{sure: maps.Clone(s.state)}
	if err == nil {
		killed := plan.Action == killsup.Kill || plan.Action == killsup.KillAfter
		err = o.read(program(s.seed, s.steps), said, killed)
		if err == nil && !o.ended && !(killed && res.Fired) {
			err = fmt.Errorf("the writer has not ended well: %v\n%s", res.State, said)
		}
	}
	return path, o, res, said, err
}

// scenarios are a database that is made, one that is there, and one that a killed process left in the middle of a
// commit or of a recovery.
func scenarios(t *testing.T, w *workDir, f skiplist.Format, seed uint64) []scenario {
	list := []scenario{{name: "create", state: map[string]string{}, seed: seed, steps: min(campaign(7, len(kinds)), len(kinds))}}
	first := &list[0]
	path, o, _, _, err := first.play(w, f, killsup.Plan{})
	require.NoError(t, err)
	base, err := os.ReadFile(path)
	require.NoError(t, err)
	// Three more steps, which begin with each kind in turn.
	list = append(list, scenario{name: "use", base: base, state: o.sure, seed: seed + 100, steps: 3})

	// A transaction that is killed at one of its calls leaves what the next process recovers from.
	torn := scenario{name: "torn", base: base, state: o.sure, seed: transactionSeed, steps: 1}
	_, _, res, _, err := torn.play(w, f, killsup.Plan{}, "die")
	require.NoError(t, err)
	for at := 2; at <= len(res.Calls); at++ {
		if !long() && at != 2+int(seed)%(len(res.Calls)-1) {
			continue
		}
		path, o, _, _, err := torn.play(w, f, killsup.Plan{Action: killsup.Kill, At: at, Bytes: 1 << (at % 6)}, "die")
		require.NoError(t, err)
		left, err := os.ReadFile(path)
		require.NoError(t, err)
		got, err := (&judge{format: f}).reader(path, o)
		require.NoError(t, err)
		list = append(list, scenario{name: "torn-" + strconv.Itoa(at), base: left, state: got, seed: recoverySeed, steps: 2})
	}
	return list
}

// Seeds of programs that begin with a transaction, and with a recovery and a put after it.
const (
	transactionSeed = 11*50 + 1
	recoverySeed    = 11*50 + 10
)

// TestKillEverywhere sends SIGKILL to a writing process at each of its system calls that change files: instead of the
// call, after it, and in the middle of a write. What it acknowledged is there, what it did not acknowledge is there whole
// or not at all: for the next reader, the next writer, and for the real Cyrus.
func TestKillEverywhere(t *testing.T) {
	needSupervisor(t)
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			w := &workDir{dir: fastDir(t)}
			j := &judge{format: f, cyrus: startCyrus(t)}
			points := 0
			for seed := range uint64(campaign(1, 2)) {
				for _, s := range scenarios(t, w, f, seed) {
					points += killSweep(t, w, j, &s, cell(f, seed, s.name))
				}
			}
			t.Logf("%d kills, judged by a reader, a writer, a check and %s, which refused %d torn files", points, j.cyrus, j.refused)
		})
	}
}

// killWay is how a process is killed at a call.
type killWay struct {
	name   string
	action killsup.Action
	bytes  int
}

// killWays begin with those that are tried outside of campaigns, too, where time is short.
var killWays = []killWay{{"before", killsup.Kill, 0}, {"torn-13", killsup.Kill, 13}, {"after", killsup.KillAfter, 0}, {"torn-1", killsup.Kill, 1},
	{"torn-512", killsup.Kill, 512}}

func (w killWay) plan(dir string, at int) killsup.Plan {
	p := killsup.Plan{Dir: dir, Action: w.action, At: at, Bytes: w.bytes}
	if w.bytes > 0 {
		p.Match = func(c *killsup.Call) bool { return c.Name == "pwrite64" && c.Len > int64(w.bytes) }
	}
	return p
}

func lastCall(res killsup.Result) string {
	if len(res.Calls) == 0 {
		return "before the first call"
	}
	c := res.Calls[len(res.Calls)-1]
	return fmt.Sprintf("killed at %s %s, offset %d, %d bytes", c.Name, c.Path, c.Offset, c.Len)
}

// killSweep kills a scenario at every call in every way and returns how many kills there were.
func killSweep(t *testing.T, w *workDir, j *judge, s *scenario, name string) (points int) {
	if !chosen(name) {
		return 0
	}
	for _, way := range killWays {
		for at := 1; ; at++ {
			name := cell(name, way.name, at)
			path, o, res, said, err := s.play(w, j.format, way.plan("", at), "die") // play names the directory
			if err != nil {
				failCell(t, name, err, said)
			}
			if !res.Fired {
				break
			}
			if !chosen(name) {
				continue
			}
			points++
			j.absent = s.base == nil
			if err := j.after(path, o); err != nil {
				failCell(t, name, fmt.Errorf("%s: %w", lastCall(res), err), said)
			}
		}
	}
	return points
}

// TestKillCommandLine kills "mailspine db batch" at each of its system calls that change files: what is left is what the
// first so many of its transactions make.
func TestKillCommandLine(t *testing.T) {
	needSupervisor(t)
	if !long() {
		t.Skip("builds the program: only in campaigns")
	}
	ms := filepath.Join(t.TempDir(), "mailspine")
	out, err := exec.Command("go", "build", "-o", ms, "../cmd/mailspine").CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			w := &workDir{dir: fastDir(t)}
			j := &judge{format: f, cyrus: startCyrus(t)}
			input, states := batchOf(program(5, 2*len(kinds)))
			kills := 0
			for at := 1; ; at++ {
				name := cell(f, at)
				path, err := w.fresh(nil)
				require.NoError(t, err)
				require.NoError(t, skiplist.Create(ctx, path, skiplist.Options{Format: f}))
				cmd := exec.Command(ms, "db", "batch", path, "--format", string(f))
				cmd.Stdin = strings.NewReader(input)
				fired, err := killBatch(j, cmd, path, at, states)
				if err != nil {
					failCell(t, name, err, nil)
				}
				if !fired {
					break
				}
				kills++
			}
			require.Greater(t, kills, 20)
			t.Logf("%d kills of mailspine db batch", kills)
		})
	}
}

// killBatch kills a run of "db batch" and holds the file against the states between its transactions.
func killBatch(j *judge, cmd *exec.Cmd, path string, at int, states []map[string]string) (fired bool, err error) {
	res, _, err := supervised(cmd, killsup.Plan{Dir: filepath.Dir(path), Action: killsup.Kill, At: at})
	if err != nil {
		return false, err
	}
	got, err := (&judge{format: j.format}).read(path)
	if err != nil {
		return res.Fired, err
	}
	if !res.Fired {
		states = states[len(states)-1:]
	}
	for _, state := range states {
		if maps.Equal(state, got) {
			return res.Fired, j.after(path, &outcome{sure: got})
		}
	}
	return res.Fired, fmt.Errorf("%d records, which no number of the transactions makes", len(got))
}

// batchOf writes a program in cyr_dbtool's batch language, and the states between its transactions.
func batchOf(steps []step) (string, []map[string]string) {
	var b strings.Builder
	states := []map[string]string{{}}
	for _, s := range steps {
		for _, m := range s.members {
			if len(m) > 1 {
				b.WriteString("BEGIN\n")
			}
			for _, o := range m {
				if o.del {
					fmt.Fprintf(&b, "DELETE %s\n", o.key)
				} else {
					fmt.Fprintf(&b, "SET %s \"%s\"\n", o.key, o.value)
				}
			}
			if len(m) > 1 {
				b.WriteString("COMMIT\n")
			}
			next := maps.Clone(states[len(states)-1])
			m.apply(next)
			states = append(states, next)
		}
	}
	return b.String(), states
}
