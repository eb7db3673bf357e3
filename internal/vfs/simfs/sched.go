package simfs

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Task is what one process does. Its view of the disk, fs, and all it opens must be used by nobody else; ctx ends when
// the process is killed. It may start goroutines that use fs too, if it waits for them before it returns.
type Task func(ctx context.Context, fs *FS)

// Schedule decides a run.
type Schedule struct {
	// Seed chooses who goes on.
	Seed uint64
	// KillAt, if not 0, kills the task with index Kill before its KillAt-th call: its files are closed, its locks
	// dropped, and its goroutines end (as by runtime.Goexit, so deferred functions run, but no call reaches the disk).
	Kill, KillAt int
	// Kills are further kills: before which of its calls the task with an index is killed.
	Kills map[int]int
}

// Report tells what happened in a run.
type Report struct {
	// Steps are the calls in the order in which they were let through.
	Steps []Step
	// Killed is whether the run lasted until Schedule.KillAt, or one of Schedule.Kills.
	Killed bool
}

// Step is one call.
type Step struct {
	Task       int
	Call, Name string
}

func (s Step) String() string { return fmt.Sprintf("task %d: %s %s", s.Task, s.Call, s.Name) }

// Run runs tasks on one disk, each as a process of its own, one goroutine at a time. Every call of a view waits until
// all goroutines wait for something; then the seed chooses the call that goes on. So a run repeats itself for its seed,
// as far as the tasks do not race with each other outside of the disk.
//
// It runs in a bubble of testing/synctest: time stands still, and jumps to the next timer when nothing else can happen.
// Mutexes may be held across calls; what the bubble cannot know of them is read from the states of the goroutines.
func Run(t *testing.T, fs *FS, schedule Schedule, tasks ...Task) (report Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scheduler{
			d: fs.d, schedule: schedule, rng: rand.New(rand.NewPCG(schedule.Seed, 1)),
			wake: make(chan struct{}, 1), running: len(tasks), others: -1,
			tasks: map[*process]*taskState{}, waiting: map[*lockWait]struct{}{}, known: map[int]bool{},
		}
		fs.d.sched = s
		var start []func()
		for k, task := range tasks {
			view := fs.Process(strconv.Itoa(k))
			ctx, cancel := context.WithCancel(t.Context())
			s.tasks[view.proc] = &taskState{index: k, cancel: cancel}
			start = append(start, func() {
				defer s.end(view.proc)
				s.point(view.proc, "start", "")
				task(ctx, view)
			})
		}
		for _, run := range start {
			go run()
		}
		problem := s.loop()
		fs.d.sched = nil
		report = Report{Steps: s.steps, Killed: s.killed}
		if problem != "" {
			t.Fatal(problem)
		}
	})
	return report
}

type scheduler struct {
	d        *disk
	schedule Schedule
	rng      *rand.Rand
	wake     chan struct{}
	tasks    map[*process]*taskState
	steps    []Step
	killed   bool

	// others is how many goroutines there are beside this one and those of the tasks, by the last look; -1 before the
	// first. Of these, harness are in the bubble.
	others, harness int
	// known are the goroutines of the bubble that were ever seen.
	known map[int]bool

	mu      sync.Mutex
	parked  []*parkedCall
	waiting map[*lockWait]struct{}
	running int // tasks that have not ended
	over    bool
}

type taskState struct {
	index  int
	points int
	cancel context.CancelFunc
}

type parkedCall struct {
	proc   *process
	step   Step
	resume chan struct{}
}

// point parks the calling goroutine until it is chosen. For a dead process it does not return.
func (s *scheduler) point(p *process, call, name string) {
	task := -1
	if state := s.tasks[p]; state != nil {
		task = state.index
	}
	c := &parkedCall{proc: p, step: Step{task, call, name}, resume: make(chan struct{})}
	s.mu.Lock()
	over := s.over
	if !over {
		s.parked = append(s.parked, c)
	}
	s.mu.Unlock()
	s.signal()
	if !over {
		<-c.resume
	}
	s.d.mu.Lock()
	dead := p.dead
	s.d.mu.Unlock()
	if dead {
		runtime.Goexit()
	}
}

func (s *scheduler) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// end is the end of a task, also of a killed one.
func (s *scheduler) end(p *process) {
	s.d.mu.Lock()
	s.d.exit(p)
	s.d.mu.Unlock()
	s.tasks[p].cancel()
	s.mu.Lock()
	s.running--
	s.mu.Unlock()
	s.signal()
}

// loop lets one call after the other go on until all tasks have ended. It returns what went wrong.
func (s *scheduler) loop() (problem string) {
	for {
		blocked := s.quiesce()
		s.mu.Lock()
		calls, running := len(s.parked), s.running
		s.mu.Unlock()
		switch {
		case calls > 0:
			s.step()
		case running == 0:
			return ""
		case blocked || !s.sleep():
			problem = fmt.Sprintf("simfs.Run: seed %#x: deadlock after %d steps\n%s", s.schedule.Seed, len(s.steps), stacks())
			s.giveUp()
			return problem
		}
	}
}

// step lets one parked call go on.
func (s *scheduler) step() {
	s.mu.Lock()
	// Goroutines that ran at the same time may have parked in any order.
	slices.SortStableFunc(s.parked, func(a, b *parkedCall) int {
		return cmp.Or(a.step.Task-b.step.Task, cmp.Compare(a.step.Call, b.step.Call), cmp.Compare(a.step.Name, b.step.Name))
	})
	k := s.rng.IntN(len(s.parked))
	c := s.parked[k]
	s.parked = slices.Delete(s.parked, k, k+1)
	s.mu.Unlock()
	if state := s.tasks[c.proc]; state != nil && c.step.Call != "start" {
		state.points++
		at := s.schedule.Kills[state.index]
		if at > 0 && state.points == at || state.index == s.schedule.Kill && state.points == s.schedule.KillAt {
			s.kill(c.proc)
		}
	}
	s.steps = append(s.steps, c.step)
	close(c.resume)
}

// kill ends a process and frees its goroutines that are parked, to end as well.
func (s *scheduler) kill(p *process) {
	s.killed = true
	s.d.mu.Lock()
	s.d.exit(p)
	s.d.mu.Unlock()
	s.tasks[p].cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parked = slices.DeleteFunc(s.parked, func(c *parkedCall) bool {
		if c.proc == p {
			close(c.resume)
		}
		return c.proc == p
	})
}

// giveUp ends all tasks as far as that is possible, so that the test can report the deadlock.
func (s *scheduler) giveUp() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	for p := range s.tasks {
		s.kill(p)
	}
}

// sleep lets the time of the bubble go on until a call is made or a task ends. Nothing in a day is a deadlock.
func (s *scheduler) sleep() bool {
	select {
	case <-s.wake:
		return true
	default:
	}
	timer := time.NewTimer(24 * time.Hour)
	defer timer.Stop()
	select {
	case <-s.wake:
		return true
	case <-timer.C:
		return false
	}
}

// quiesce waits until every other goroutine of the bubble waits for something, and tells whether one waits for a mutex.
// (synctest.Wait would not return while a goroutine waits for a mutex whose holder is parked in a call.)
//
// Reading the states of all goroutines costs some 100 µs. So it first counts: if each goroutine in the bubble is parked
// in a call or waits for a lock, no other can run.
func (s *scheduler) quiesce() (mutex bool) {
	for spin := 1; ; spin++ {
		runtime.Gosched()
		if s.allAccountedFor() {
			return false
		}
		if spin%16 != 0 {
			continue
		}
		if state := s.readBubble(stacks()); state.quiet {
			s.look(state.goroutines)
			return state.mutex
		}
	}
}

// look learns how many goroutines to expect, now that all wait. At the first time all tasks are parked at their start,
// and the rest of the bubble is the harness.
func (s *scheduler) look(goroutines int) {
	if s.others < 0 {
		s.mu.Lock()
		s.harness = goroutines - len(s.parked)
		s.mu.Unlock()
	}
	s.others = runtime.NumGoroutine() - 1 - (goroutines - s.harness)
}

func (s *scheduler) allAccountedFor() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	accounted := len(s.parked)
	for w := range s.waiting {
		if !w.over() {
			accounted++
		}
	}
	return s.others >= 0 && runtime.NumGoroutine() == s.others+1+accounted
}

// waits and waited enclose the wait for a lock. Without a scheduler they do nothing.
func (s *scheduler) waits(w *lockWait) {
	if s != nil {
		s.mu.Lock()
		s.waiting[w] = struct{}{}
		s.mu.Unlock()
	}
}

func (s *scheduler) waited(w *lockWait) {
	if s != nil {
		s.mu.Lock()
		delete(s.waiting, w)
		s.mu.Unlock()
	}
}

var stackBuffers = sync.Pool{New: func() any { p := make([]byte, 64<<10); return &p }}

// stacks returns the traces of all goroutines, that of the caller first.
func stacks() []byte {
	buffer := stackBuffers.Get().(*[]byte)
	defer stackBuffers.Put(buffer)
	for {
		if n := runtime.Stack(*buffer, true); n < len(*buffer) {
			return bytes.Clone((*buffer)[:n])
		}
		*buffer = make([]byte, 2*len(*buffer))
	}
}

// bubble is what the traces say of the goroutines in the caller's bubble, but the caller.
type bubble struct {
	goroutines int
	quiet      bool // all wait for something
	mutex      bool // one for a mutex
}

// readBubble reads the traces of all goroutines: headers such as "goroutine 8 [select (durable), synctest bubble 1]:",
// and last lines such as "created by main.f in goroutine 7". While it starts a garbage collection or helps with one, a
// goroutine has no bubble; it is known from before, or by the goroutine that created it.
func (s *scheduler) readBubble(dump []byte) bubble {
	found := bubble{quiet: true}
	var own []byte
	for block := range bytes.SplitSeq(dump, []byte("\n\n")) {
		header, _, _ := bytes.Cut(block, []byte("\n"))
		_, state, _ := bytes.Cut(header, []byte("["))
		id := numberAfter(header, "goroutine ")
		at := bytes.Index(state, []byte("synctest bubble "))
		if at < 0 {
			if s.known[id] || s.known[numberAfter(block, " in goroutine ")] {
				found.quiet = false
			}
			continue
		}
		name, _, _ := bytes.Cut(state[at:], []byte("]"))
		name, _, _ = bytes.Cut(name, []byte(","))
		if own == nil {
			own = name // The first trace is the caller's.
			s.known[id] = true
			continue
		}
		if !bytes.Equal(name, own) {
			continue
		}
		found.goroutines++
		switch {
		case bytes.HasPrefix(state, []byte("synctest.")):
			continue // The test that called Run is in the bubble for now, but what it creates is not.
		case bytes.Contains(state[:at], []byte("(durable)")):
		case bytes.HasPrefix(state, []byte("sync.")), bytes.HasPrefix(state, []byte("semacquire")):
			found.mutex = true
		default:
			found.quiet = false
		}
		s.known[id] = true
	}
	return found
}

// numberAfter returns the number behind the last occurrence of a label, or 0.
func numberAfter(text []byte, label string) int {
	at := bytes.LastIndex(text, []byte(label))
	if at < 0 {
		return 0
	}
	digits := text[at+len(label):]
	n := 0
	for ; len(digits) > 0 && digits[0] >= '0' && digits[0] <= '9'; digits = digits[1:] {
		n = 10*n + int(digits[0]-'0')
	}
	return n
}
