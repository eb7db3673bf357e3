package fuzz

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs/faultfs"
	"github.com/mailspine/mailspine/internal/vfs/simfs"
	"github.com/mailspine/mailspine/internal/vfs/vfstest"
)

// boxMachine are two processes that change mailboxes on one disk, to which everything happens that can.
type boxMachine struct {
	disk  *simfs.FS
	runs  [2]*boxRun
	model boxes
}

// TestMailboxMachine has two processes make changes in any order, while processes are killed, the power fails, calls fail
// and the disk fills up: after each step the mailboxes are what the model says.
func TestMailboxMachine(t *testing.T) {
	lessCollecting(t)
	for _, v := range boxVersions {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			t.Parallel()
			seeds := uint64(campaign(1, 12))
			for seed := range seeds {
				rapid.Check(t, func(t *rapid.T) {
					m := &boxMachine{disk: simfs.New(simfs.Options{Blocks: 4096, Seed: seed}), model: newBoxes(v)}
					require.NoError(t, createBoxes(m.disk, "/", v))
					m.open(t)
					t.Repeat(map[string]func(*rapid.T){
						"step": m.step, "reopen": m.reopen, "full": m.full, "fault": m.fault, "crash": m.crash, "kill": m.kill,
						"": func(t *rapid.T) { m.is(t, m.model) },
					})
					m.close(t)
					require.NoError(t, checkBoxes(m.disk, "/"))
				})
			}
		})
	}
}

// open opens the mailboxes in two processes.
func (m *boxMachine) open(t *rapid.T) {
	for i := range m.runs {
		b, err := openBoxes(m.disk.Process(fmt.Sprint(i)), "/", index.OpenOptions{})
		require.NoError(t, err)
		m.runs[i] = b
	}
}

func (m *boxMachine) close(t *rapid.T) {
	for _, b := range m.runs {
		require.NoError(t, b.close())
	}
}

// draw makes up a step, and the states that it leads through.
func (m *boxMachine) draw(t *rapid.T) (boxStep, []boxes) {
	kind := rapid.SampledFrom(boxKinds).Draw(t, "kind")
	s := m.model.draw(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 26)), kind)
	return s, m.model.apply(s)
}

// is fails unless the mailboxes are in one of the states; it returns which.
func (m *boxMachine) is(t *rapid.T, states ...boxes) boxes {
	got, err := readBoxes(m.disk, "/")
	require.NoError(t, err)
	for i := range states {
		if maps.Equal(got, states[i].state()) {
			return states[i]
		}
	}
	t.Fatalf("none of %d states: %s", len(states), differences(got, states[0].state()))
	return boxes{}
}

func (m *boxMachine) run(t *rapid.T) *boxRun { return m.runs[rapid.IntRange(0, 1).Draw(t, "process")] }

// step has one of the processes make a step. The other one may have repacked the mailbox meanwhile.
func (m *boxMachine) step(t *rapid.T) {
	b := m.run(t)
	b.hold = rapid.IntRange(0, 3).Draw(t, "hold") == 0
	require.NoError(t, b.boxes[0].Refresh(ctx))
	s, next := m.draw(t)
	require.NoError(t, b.step(s), "%v", s)
	m.model = next[len(next)-1]
}

func (m *boxMachine) reopen(t *rapid.T) {
	m.close(t)
	m.open(t)
}

// full makes a step on a disk on which so many blocks are free.
func (m *boxMachine) full(t *rapid.T) {
	b := m.run(t)
	require.NoError(t, b.boxes[0].Refresh(ctx))
	s, next := m.draw(t)
	before, err := treeBytes(m.disk, "/part")
	require.NoError(t, err)
	b.hold = false
	m.disk.FillUp(int64(rapid.IntRange(0, 12).Draw(t, "free")), true)
	err = b.step(s)
	m.disk.FreeUp()
	switch {
	case err == nil:
		m.model = next[len(next)-1]
	case b.copied:
		m.model = next[0]
	default:
		require.ErrorIs(t, err, index.ErrNoSpace, "%v", s)
		require.NotErrorIs(t, err, index.ErrCommitUnknown)
		after, err := treeBytes(m.disk, "/part")
		require.NoError(t, err)
		// What a killed process was writing is nobody's, and goes before the same is written again.
		maps.DeleteFunc(before, func(name, _ string) bool {
			_, stays := after[name]
			return strings.HasSuffix(name, ".NEW") && !stays
		})
		if s.kind == "convert" { // it puts the file of a database in order, whose records stay as they are
			for _, all := range []map[string]string{before, after} {
				maps.DeleteFunc(all, func(name, _ string) bool { return strings.HasSuffix(name, "/"+index.AnnotationsName) })
			}
		}
		if !maps.Equal(before, after) {
			t.Fatalf("%v was refused, and has changed %s", s, differentNames(after, before))
		}
	}
}

// fault makes a step in a third process, one call of which fails.
func (m *boxMachine) fault(t *rapid.T) {
	plan := &faultfs.Plan{N: rapid.IntRange(0, 120).Draw(t, "call"), Err: rapid.SampledFrom(errnos).Draw(t, "errno")}
	s, next := m.draw(t)
	third := m.disk.Process("third")
	b, err := openBoxes(faultfs.Wrap(third, plan), "/", index.OpenOptions{})
	if err != nil {
		require.True(t, plan.Fired(), "%v", err)
		return
	}
	err = b.step(s)
	plan.Stop()
	require.NoError(t, b.close())
	switch {
	case err == nil:
		m.model = next[len(next)-1]
	case b.made:
		m.model = m.is(t, next...)
	case s.kind == "repack" || s.kind == "convert":
		m.model = m.is(t, append(next, m.model)...)
	case b.copied:
		m.model = next[0]
	default:
		require.NotErrorIs(t, err, index.ErrCommitUnknown)
		require.True(t, plan.Fired(), "%v: %v", s, err)
	}
	third.Exit()
	// A repack that could not clear away is brought to its end by whoever comes next, with or without space.
	require.NoError(t, recoverBoxes(m.disk, "/", index.OpenOptions{}))
}

// within makes a step, of which only a part is there to see: as many of its operations as are drawn.
func (m *boxMachine) within(t *rapid.T, cut func(trace *simfs.Trace, at int) *simfs.FS) {
	b := m.run(t)
	require.NoError(t, b.boxes[0].Refresh(ctx))
	s, next := m.draw(t)
	b.hold = false
	from := m.disk.Ops()
	require.NoError(t, b.step(s), "%v", s)
	trace := m.disk.Trace()
	at := rapid.IntRange(from, trace.Len()).Draw(t, "operation")
	m.disk = cut(trace, at)
	require.NoError(t, recoverBoxes(m.disk, "/", index.OpenOptions{}))
	possible := append([]boxes{m.model}, next...)
	if at == trace.Len() {
		possible = next[len(next)-1:]
	}
	m.model = m.is(t, possible...)
	m.open(t)
}

func (m *boxMachine) kill(t *rapid.T) {
	m.within(t, func(trace *simfs.Trace, at int) *simfs.FS { return trace.Killed(at) })
	// What the killed process had not synced is there to see, though nobody was told of it, and a crash may yet take it away.
	// Here the system writes it back before that.
	require.NoError(t, vfstest.WriteBack(m.disk, "/"))
}

func (m *boxMachine) crash(t *rapid.T) {
	m.within(t, func(trace *simfs.Trace, at int) (disk *simfs.FS) {
		for img := range trace.Images(simfs.Search{From: at, To: at, Limit: 1, Samples: 1, Seed: rapid.Uint64().Draw(t, "image")}) {
			disk = img.FS
		}
		return disk
	})
}

// TestMailboxInterleaved has two processes change one mailbox at once, call by call in the order of a seed, one of them killed
// somewhere in every second run: no UID and no modification sequence is given out twice, and everything that was acknowledged
// is there once.
func TestMailboxInterleaved(t *testing.T) {
	for _, v := range boxVersions {
		t.Run(fmt.Sprint(v), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(campaign(6, 200)) {
				if err := interleaveBoxes(t, v, seed); err != nil {
					t.Fatalf("version %d, seed %d: %v", v, seed, err)
				}
			}
		})
	}
}

// shared is what two processes have been told.
type shared struct {
	mu    sync.Mutex
	acked map[string]string // texts of messages and the flag that was set
	err   error
}

func interleaveBoxes(t *testing.T, v index.Version, seed uint64) error {
	disk := simfs.New(simfs.Options{})
	if err := createBoxes(disk, "/", v); err != nil {
		return err
	}
	c := &shared{acked: map[string]string{}}
	schedule := simfs.Schedule{Seed: seed}
	if seed%2 == 1 {
		schedule.Kill, schedule.KillAt = int(seed/2%2), 1+rand.New(rand.NewPCG(seed, 4)).IntN(250)
	}
	simfs.Run(t, disk, schedule, c.writer(0), c.writer(1))
	if c.err != nil {
		return c.err
	}
	last := disk.Process("last")
	if err := recoverBoxes(last, "/", index.OpenOptions{}); err != nil {
		return err
	}
	if err := checkBoxes(last, "/"); err != nil {
		return err
	}
	return c.judge(last, v)
}

// writer appends messages and flags each in a transaction of its own.
func (c *shared) writer(i int) simfs.Task {
	return func(ctx context.Context, view *simfs.FS) {
		err := c.write(ctx, view, i)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil && ctx.Err() == nil && !errors.Is(err, syscall.ESRCH) {
			c.err = errors.Join(c.err, fmt.Errorf("process %d: %w", i, err))
		}
	}
}

func (c *shared) write(ctx context.Context, view *simfs.FS, i int) error {
	m, err := index.Open(ctx, view, boxPlaces("/")[0])
	if err != nil {
		return err
	}
	for n := range 3 {
		text := fmt.Sprintf("Subject: %d of process %d\r\n\r\ntext\r\n", n, i)
		var rec index.Record
		err := m.Update(ctx, func(tx *index.Tx) (err error) {
			rec, err = tx.Append(index.NewMessage{Body: strings.NewReader(text), InternalDate: boxDate})
			return err
		})
		if err != nil {
			return err
		}
		c.ack(text, "")
		flag := fmt.Sprint("by", i)
		err = m.Update(ctx, func(tx *index.Tx) error {
			_, err := tx.SetFlags(rec.UID, index.FlagChange{Op: index.AddFlags, User: []string{flag}})
			return err
		})
		if err != nil {
			return err
		}
		c.ack(text, flag+" ")
	}
	return m.Close()
}

func (c *shared) ack(text, flag string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked[text] = flag
}

// judge looks for all that was acknowledged.
func (c *shared) judge(disk *simfs.FS, v index.Version) error {
	p := boxPlaces("/")[0]
	f, err := index.OpenFiles(disk, p.Paths)
	if err != nil {
		return err
	}
	defer f.Close()
	seen, modseqs := map[string]string{}, map[index.ModSeq]bool{}
	for e, err := range f.Index.Records(1) {
		if err != nil {
			return err
		}
		b, err := index.Open(ctx, disk, p)
		if err != nil {
			return err
		}
		body, err := b.Body(&e.Record)
		if err != nil {
			return err
		}
		text := make([]byte, body.Size())
		if _, err := body.ReadAt(text, 0); err != nil {
			return err
		}
		if err := errors.Join(body.Close(), b.Close()); err != nil {
			return err
		}
		if _, twice := seen[string(text)]; twice || modSeqs(v) && modseqs[e.ModSeq] {
			return fmt.Errorf("UID %d: its text or its modseq %d is there twice", e.UID, e.ModSeq)
		}
		modseqs[e.ModSeq] = true
		for _, name := range f.Header.FlagNames(0, e.UserFlags) {
			seen[string(text)] += name + " "
		}
		seen[string(text)] += ""
	}
	for text, flag := range c.acked {
		if got, there := seen[text]; !there || flag != "" && got != flag {
			return fmt.Errorf("%q with the flag %q was acknowledged, and is there: %v, with %q", text, flag, there, got)
		}
	}
	return nil
}
