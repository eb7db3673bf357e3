package fuzz

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/killsup"
	"github.com/mailspine/mailspine/internal/realcyrus"
	"github.com/mailspine/mailspine/skiplist"
)

// TestRoundsWithCyrus has writers of ours and of the real Cyrus take turns on one file, most of them killed at a random
// system call, in commits, checkpoints and recoveries, with the skipstamp old, new or missing. After each round nothing
// that was acknowledged is lost, for a reader of ours on the file as it lies there, and for Cyrus after its recovery; and
// after each change of ours both list the same.
//
// Cyrus's skiplist itself shows half a transaction that a killed process left, until something writes: so it lists a
// copy, which it recovers. It is only killed here, not given errors, for then it loses data by itself.
func TestRoundsWithCyrus(t *testing.T) {
	needSupervisor(t)
	realcyrus.NeedOracle(t)
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			n := campaign(30, 520)
			done, ours, theirs := 0, 0, 0
			for seed := uint64(0); done < n; seed++ {
				name := cell(f, seed)
				if !chosen(name) {
					if seed > uint64(n) {
						break
					}
					continue
				}
				g := &rounds{t: t, f: f, r: rand.New(rand.NewPCG(seed, 8)), dir: fastDir(t), stamps: int(seed) % stampKinds, j: &judge{format: f, cyrus: startCyrus(t)}}
				if err := g.play(min(30, n-done)); err != nil {
					failCell(t, name, fmt.Errorf("round %d, %s: %w", g.n, g.last, err), g.said)
				}
				done, ours, theirs = done+g.n, ours+g.killed[0], theirs+g.killed[1]
			}
			t.Logf("%d rounds, %d writers of ours killed and %d of Cyrus", done, ours, theirs)
		})
	}
}

// What becomes of the skipstamp in a game.
const (
	stampMissing = iota
	stampOld
	stampNew
	stampKinds
)

// rounds is a game on one file.
type rounds struct {
	t      *testing.T
	f      skiplist.Format
	r      *rand.Rand
	dir    string
	j      *judge
	state  map[string]string
	stamps int
	n      int
	killed [2]int // of ours, of Cyrus
	last   string // what the last round was
	said   []byte
}

func (g *rounds) path() string { return filepath.Join(g.dir, "data", "db") }

// conf is what realcyrus takes for a store's imapd.conf: the skipstamp lies in conf/db beside it.
func (g *rounds) conf() string  { return filepath.Join(g.dir, "imapd.conf") }
func (g *rounds) stamp() string { return filepath.Join(g.dir, "conf", "db", "skipstamp") }

func (g *rounds) play(n int) error {
	require.NoError(g.t, os.MkdirAll(filepath.Dir(g.path()), 0o755))
	require.NoError(g.t, skiplist.Create(ctx, g.path(), skiplist.Options{Format: g.f}))
	g.j.skipstamp = g.stamp()
	g.state = map[string]string{}
	for g.n = 1; g.n <= n; g.n++ {
		if err := g.setStamp(); err != nil {
			return err
		}
		o := &outcome{sure: maps.Clone(g.state)}
		seed, steps := g.r.Uint64N(1<<32), 1+g.r.IntN(3)
		plan := killsup.Plan{Dir: filepath.Dir(g.path())}
		who := g.r.IntN(2)
		if g.r.IntN(4) > 0 {
			// Cyrus makes more calls for the same changes.
			plan.Action, plan.At = killsup.Kill, 1+g.r.IntN([]int{14, 40}[who])
			if g.r.IntN(3) == 0 {
				plan.Action = killsup.KillAfter
			}
		}
		turn := []func(uint64, int, killsup.Plan, *outcome) (bool, error){g.ours, g.theirs}[who]
		g.last = fmt.Sprintf("%s, program %d of %d steps, kill %d at call %d", []string{"ours", "Cyrus"}[who], seed, steps, plan.Action, plan.At)
		fired, err := turn(seed, steps, plan, o)
		if err != nil {
			return err
		}
		if fired {
			g.killed[who]++
		}
		if err := g.settle(o); err != nil {
			return err
		}
	}
	g.n = n
	return g.j.next(g.path(), g.state)
}

// settle holds the file against what is known of it, and takes what a reader sees for the state from now on: a change
// that was seen once must not vanish, even if it was never acknowledged.
func (g *rounds) settle(o *outcome) error {
	got, err := g.j.reader(g.path(), o)
	if err != nil {
		return fmt.Errorf("a reader of ours: %w", err)
	}
	g.state = got
	seen, err := g.j.cyrus.listCopy(g.f, g.path())
	if err != nil {
		return fmt.Errorf("cyrus: %w", err)
	}
	if !maps.Equal(seen, got) {
		return fmt.Errorf("cyrus, after its recovery, lists other records than ours: %s", (&outcome{sure: got}).difference(seen))
	}
	if g.r.IntN(4) > 0 {
		return nil
	}
	return g.j.next(g.path(), g.state)
}

// setStamp writes the skipstamp as the game goes: never there, old, or renewed now and then. It never goes back: Cyrus
// would then take a file for recovered whose recovery was killed.
func (g *rounds) setStamp() error {
	switch {
	case g.stamps == stampOld && g.n == 1:
		return realcyrus.WriteSkipstamp(g.conf(), time.Now().Add(-time.Hour))
	case g.stamps == stampNew && g.r.IntN(4) == 0:
		return realcyrus.WriteSkipstamp(g.conf(), time.Now())
	}
	return nil
}

// ours is a round of a child of this program.
func (g *rounds) ours(seed uint64, steps int, plan killsup.Plan, o *outcome) (bool, error) {
	cmd := role("writer", string(g.f), g.path(), strconv.FormatUint(seed, 10), strconv.Itoa(steps), "die", g.stamp())
	res, said, err := supervised(cmd, plan)
	g.said = said
	if err == nil {
		err = o.read(program(seed, steps), said, res.Fired)
	}
	return res.Fired, err
}

// theirs is a round of libcyrus.
func (g *rounds) theirs(seed uint64, steps int, plan killsup.Plan, o *outcome) (bool, error) {
	g.said = nil
	var res killsup.Result
	c := realcyrus.StartOracle(g.t, realcyrus.OracleOptions{
		ConfDir: filepath.Join(g.dir, "conf"),
		Run: func(cmd *exec.Cmd) (err error) {
			within, cancel := context.WithTimeout(ctx, childMax)
			defer cancel()
			res, err = killsup.Run(within, cmd, plan)
			return err
		},
	})
	err := g.program(c, program(seed, steps), o)
	if e := c.Wait(); e != nil && !errors.Is(err, realcyrus.ErrOracleGone) {
		err = errors.Join(err, e)
	}
	if errors.Is(err, realcyrus.ErrOracleGone) && res.Fired {
		return true, nil
	}
	return res.Fired, err
}

// program carries out a program with libcyrus, where the members of a group are transactions one after the other.
func (g *rounds) program(c *realcyrus.Oracle, steps []step, o *outcome) error {
	db, err := c.Open(string(g.f), g.path(), 0)
	for _, s := range steps {
		if err != nil {
			return err
		}
		for _, m := range s.members {
			var ops []realcyrus.Op
			for _, one := range m {
				ops = append(ops, realcyrus.Op{Key: []byte(one.key), Value: []byte(one.value), Delete: one.del})
			}
			if err = db.Txn(ops...); err != nil {
				o.open = append(o.open, m)
				return err
			}
			m.apply(o.sure)
		}
		switch s.kind {
		case "checkpoint":
			if g.f != skiplist.Flat { // where there is nothing to checkpoint
				err = db.Checkpoint()
			}
		case "reopen", "recover":
			if err = db.Close(); err == nil {
				db, err = c.Open(string(g.f), g.path(), 0)
			}
		}
	}
	return err
}
