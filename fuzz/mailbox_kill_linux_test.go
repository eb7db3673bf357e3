package fuzz

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/killsup"
	"github.com/mailspine/mailspine/internal/vfs"
)

// TestMailboxKill sends SIGKILL to a process that changes mailboxes at each of its system calls that change files: instead
// of the call, after it, and in the middle of a write; and to the one that recovers what the first has left. What was
// acknowledged is there, what was under way is there whole or not at all, the mailbox can be opened by everybody, the check
// finds nothing, and the next transaction works.
func TestMailboxKill(t *testing.T) {
	needSupervisor(t)
	for _, v := range boxVersions {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			t.Parallel()
			if !long() && v != index.VersionWritten {
				t.Skip("one version is enough outside of campaigns")
			}
			k := &boxKills{t: t, v: v, dir: fastDir(t)}
			// So many programs have all kinds of steps.
			steps, programs := 3, campaign(1, 5)
			for seed := range uint64(programs) {
				for _, way := range killWays[:min(len(killWays), campaign(2, len(killWays)))] {
					k.sweep(newBoxProgram(v, seed, steps), seed, steps, way)
				}
			}
			n := k.recoveries()
			t.Logf("%d kills, %d of a recovery", k.points, n)
		})
	}
}

type boxKills struct {
	t      *testing.T
	v      index.Version
	dir    string
	n      int
	points int
}

// fresh makes mailboxes in a directory of their own, and removes the last ones.
func (k *boxKills) fresh(p *boxProgram) (string, error) {
	if err := os.RemoveAll(filepath.Join(k.dir, strconv.Itoa(k.n))); err != nil {
		return "", err
	}
	k.n++
	root := filepath.Join(k.dir, strconv.Itoa(k.n))
	return root, p.make(root, k.v)
}

// sweep kills a program at every call in one way.
func (k *boxKills) sweep(p *boxProgram, seed uint64, steps int, way killWay) {
	for at := 1; ; at++ {
		name := cell(k.v, seed, way.name, at)
		if !chosen(name) {
			if *point != "" && at > 2000 {
				return
			}
			continue
		}
		root, err := k.fresh(p)
		var res killsup.Result
		var said []byte
		if err == nil {
			res, said, err = k.run("mailer", root, seed, steps, way.plan(root, at))
		}
		if err == nil {
			err = k.judge(root, p.allowed(bytes.Count(said, []byte("ACK"))))
		}
		if err != nil {
			failCell(k.t, name, fmt.Errorf("%s: %w", lastCall(res), err), said)
		}
		if !res.Fired {
			return
		}
		k.points++
	}
}

func (k *boxKills) run(role_, root string, seed uint64, steps int, plan killsup.Plan) (killsup.Result, []byte, error) {
	return supervised(role(role_, fmt.Sprint(k.v), root, fmt.Sprint(seed), fmt.Sprint(steps)), plan)
}

// judge looks at mailboxes that a killed process has left.
func (k *boxKills) judge(root string, states []boxes) error {
	for i, p := range boxPlaces(root) {
		f, err := index.OpenFiles(vfs.OS(), p.Paths)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return fmt.Errorf("%s, before recovery: %w", boxNames[i], err)
		}
	}
	if err := recoverBoxes(vfs.OS(), root, index.OpenOptions{}); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	if err := goOnWithOneOf(vfs.OS(), root, states); err != nil {
		return fmt.Errorf("after recovery: %w", err)
	}
	return nil
}

// recoveries kills recoveries: of a process that was killed at each of its calls on cyrus.index in the last step of a
// transaction that overwrites records and appends.
func (k *boxKills) recoveries() (n int) {
	const steps = 1
	seed := uint64(5) // a "mixed" step: see boxKinds
	p := newBoxProgram(k.v, seed, steps)
	first := killWay{"torn", killsup.Kill, 13}
	for left := 1; ; left++ {
		for at := 1; ; at++ {
			name := cell("recovery", left, at)
			if !chosen(name) && at > 100 {
				break
			}
			if !chosen(name) {
				continue
			}
			root, err := k.fresh(p)
			plan := first.plan(root, left)
			plan.Match = func(c *killsup.Call) bool { return c.Name == "pwrite64" && filepath.Base(c.Path) == index.IndexName }
			var killed, again killsup.Result
			var said []byte
			if err == nil {
				killed, said, err = k.run("mailer", root, seed, steps, plan)
			}
			if err == nil && killed.Fired {
				again, _, err = k.run("recoverer", root, seed, steps, killsup.Plan{Dir: root, Action: killsup.Kill, At: at})
			}
			if err == nil {
				err = k.judge(root, p.allowed(bytes.Count(said, []byte("ACK"))))
			}
			if err != nil {
				failCell(k.t, name, fmt.Errorf("%s; recovery %s: %w", lastCall(killed), lastCall(again), err), said)
			}
			if !killed.Fired {
				return n
			}
			if !again.Fired {
				break
			}
			n++
		}
		if left > 100 {
			return n
		}
	}
}
