package fuzz

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
)

// boxProgram is what a child does with mailboxes; the judge knows it too.
type boxProgram struct {
	base, steps []boxStep
	// states are the mailboxes after each commit, the first of them before the first step. After step i they are
	// states[ends[i]].
	states []boxes
	ends   []int
}

// newBoxProgram makes up a program of n steps that a seed stands for, with each kind of step in turn.
func newBoxProgram(v index.Version, seed uint64, n int) *boxProgram {
	r := rand.New(rand.NewPCG(seed, 24))
	p := &boxProgram{}
	model := newBoxes(v)
	for _, kind := range []string{"append many", "new flag", "append many", "expunge"} {
		s := model.draw(r, kind)
		p.base = append(p.base, s)
		model = model.apply(s)[0]
	}
	p.states = []boxes{model}
	for i := range n {
		last := &p.states[len(p.states)-1]
		s := last.draw(r, boxKinds[(int(seed)*n+i)%len(boxKinds)])
		p.steps = append(p.steps, s)
		p.states = append(p.states, last.apply(s)...)
		p.ends = append(p.ends, len(p.states)-1)
	}
	return p
}

// make makes the mailboxes that the child finds.
func (p *boxProgram) make(root string, v index.Version) error {
	if err := createBoxes(vfs.OS(), root, v); err != nil {
		return err
	}
	b, err := openBoxes(vfs.OS(), root, index.OpenOptions{})
	if err != nil {
		return err
	}
	for _, s := range p.base {
		if err := b.step(s); err != nil {
			return errors.Join(err, b.close())
		}
	}
	return b.close()
}

// allowed are the states of which one has to be there, if so many steps were acknowledged.
func (p *boxProgram) allowed(acked int) []boxes {
	from, to := 0, len(p.states)-1
	if acked > 0 {
		from = p.ends[acked-1]
	}
	if acked < len(p.ends) {
		to = p.ends[acked]
	}
	return p.states[from : to+1]
}

// mailerRole is the child: VERSION DIR SEED STEPS. It says ACK after each step.
func mailerRole(args []string) int {
	v, err1 := strconv.Atoi(args[0])
	seed, err2 := strconv.ParseUint(args[2], 10, 64)
	n, err3 := strconv.Atoi(args[3])
	if err := errors.Join(err1, err2, err3); err != nil {
		return say("BAD", err)
	}
	p := newBoxProgram(index.Version(v), seed, n)
	b, err := openBoxes(vfs.OS(), args[1], index.OpenOptions{})
	if err != nil {
		return say("BAD", err)
	}
	for i, s := range p.steps {
		if err := b.step(s); err != nil {
			return say("BAD", fmt.Errorf("step %d, %v: %w", i, s, err))
		}
		say("ACK", i)
	}
	if err := b.close(); err != nil {
		return say("BAD", err)
	}
	return say("END")
}

// recoverRole is the child that does what "mailspine recover" does: VERSION DIR SEED STEPS, of which it needs the second.
func recoverRole(args []string) int {
	err := recoverBoxes(vfs.OS(), args[1], index.OpenOptions{})
	if err != nil {
		return say("BAD", err)
	}
	return say("END")
}
