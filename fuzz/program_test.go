package fuzz

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mailspine/mailspine/skiplist"
)

// op is one change of a key; member a transaction, which is made whole or not at all.
type (
	op struct {
		key, value string
		del        bool
	}
	member []op
)

func (m member) apply(state map[string]string) {
	for _, o := range m {
		if o.del {
			delete(state, o.key)
		} else {
			state[o.key] = o.value
		}
	}
}

func (m member) run(tx *skiplist.Tx) error {
	for _, o := range m {
		var err error
		if o.del {
			err = tx.Delete([]byte(o.key))
		} else {
			err = tx.Put([]byte(o.key), []byte(o.value))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// step is what a writer does between two looks at its database. Only a group has several members: callers of Batch who
// wait together.
type step struct {
	kind    string
	members []member
}

// kinds is the order in which steps follow each other, so that a short program has one of each.
var kinds = []string{"put", "txn", "delete", "group", "checkpoint", "put", "txn", "reopen", "txn", "delete", "recover"}

// program is the list of steps that a seed stands for: the writer carries it out and the judge knows it too.
func program(seed uint64, n int) []step {
	r := rand.New(rand.NewPCG(seed, 11))
	list := make([]step, n)
	at := int(seed) // the first seed begins with the first kind
	for i := range list {
		s := &list[i]
		s.kind = kinds[(at+i)%len(kinds)]
		switch s.kind {
		case "put":
			s.members = []member{{put(r, "k")}}
		case "delete":
			s.members = []member{{op{key: "k" + strconv.Itoa(r.IntN(12)), del: true}}}
		case "txn":
			var m member
			for range 2 + r.IntN(4) {
				if r.IntN(3) == 0 {
					m = append(m, op{key: "k" + strconv.Itoa(r.IntN(12)), del: true})
				} else {
					m = append(m, put(r, "k"))
				}
			}
			s.members = []member{m}
		case "group":
			for j := range 3 { // no key in two members: they commit in any order
				s.members = append(s.members, member{put(r, "g"+strconv.Itoa(j)+"-"), put(r, "h"+strconv.Itoa(j)+"-")})
			}
		}
	}
	return list
}

// put draws a change. Values are letters only: Cyrus's skiplist takes some binary values for the end of its log.
func put(r *rand.Rand, prefix string) op {
	size := r.IntN(200)
	if r.IntN(10) == 0 {
		size = 1500
	}
	return op{key: prefix + strconv.Itoa(r.IntN(12)), value: letters(r, size)}
}

func letters(r *rand.Rand, size int) string {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte('a' + r.IntN(26))
	}
	return string(b)
}

// outcome is what is known of a database from what its writer said.
type outcome struct {
	// sure holds what was acknowledged and not changed since.
	sure map[string]string
	// open are members of which nothing is known: each may be there or not, but whole.
	open []member
	// unknown counts the answers ErrCommitUnknown, refused the failures.
	acked, refused, unknown int
	// ended is set if the writer said its last word.
	ended bool
}

// read follows the program along the lines that the writer printed: "ACK STEP MEMBER" and the like. With killed, the
// step after the last finished one may have been under way.
func (o *outcome) read(steps []step, said []byte, killed bool) error {
	done := map[[2]int]bool{}
	last := -1
	for line := range bytes.Lines(said) {
		if line[len(line)-1] != '\n' {
			break // cut off by the kill
		}
		word := strings.Fields(string(line))
		switch word[0] {
		case "END":
			o.ended = true
			continue
		case "LAST":
			o.sure["last"] = "one"
			continue
		}
		i, err := strconv.Atoi(word[1])
		if err != nil {
			return fmt.Errorf("the writer said %q", line)
		}
		last = max(last, i)
		if word[0] == "DONE" {
			continue
		}
		j, err := strconv.Atoi(word[2])
		if err != nil {
			return fmt.Errorf("the writer said %q", line)
		}
		m := steps[i].members[j]
		done[[2]int{i, j}] = true
		switch word[0] {
		case "ACK":
			m.apply(o.sure)
			o.acked++
		case "NACK":
			o.refused++
		case "UNKNOWN":
			o.open = append(o.open, m)
			o.unknown++
		}
	}
	if !killed {
		return nil
	}
	for i := max(last, 0); i < len(steps) && i <= last+1; i++ {
		for j, m := range steps[i].members {
			if !done[[2]int{i, j}] {
				o.open = append(o.open, m)
			}
		}
	}
	return nil
}

// allows tells whether a database may hold got.
func (o *outcome) allows(got map[string]string) bool {
	for subset := range 1 << len(o.open) {
		state := maps.Clone(o.sure)
		for i, m := range o.open {
			if subset>>i&1 != 0 {
				m.apply(state)
			}
		}
		if maps.Equal(state, got) {
			return true
		}
	}
	return false
}

// difference describes in a line what is wrong with got.
func (o *outcome) difference(got map[string]string) string {
	var missing, stale, extra int
	for k, v := range o.sure {
		switch g, ok := got[k]; {
		case !ok:
			missing++
		case g != v:
			stale++
		}
	}
	for k := range got {
		if _, ok := o.sure[k]; !ok {
			extra++
		}
	}
	return fmt.Sprintf("%d records, acknowledged are %d: %d missing, %d other values, %d more; %d changes are open",
		len(got), len(o.sure), missing, stale, extra, len(o.open))
}

// writer is the child that carries out a program and says what became of each step.
type writer struct {
	path string
	opts skiplist.Options
	db   *skiplist.DB
	out  outcome
}

// writerRole is the child: FORMAT PATH SEED STEPS [die] [SKIPSTAMP]. It opens the database, creating it if need be,
// carries out the program, creates PATH.over, by which the supervisor knows that the fault is over, and shows that the
// same handle works then. With die it ends instead.
func writerRole(args []string) int {
	seed, err1 := strconv.ParseUint(args[2], 10, 64)
	n, err2 := strconv.Atoi(args[3])
	if err := errors.Join(err1, err2); err != nil {
		return say("BAD", err)
	}
	die := len(args) > 4 && args[4] == "die"
	w := &writer{path: args[1], out: outcome{sure: map[string]string{}}}
	w.opts = writerOptions(skiplist.Format(args[0]), seed)
	if len(args) > 5 {
		w.opts.Skipstamp = args[5]
	}
	db, err := skiplist.Open(ctx, w.path, w.opts)
	if err == nil {
		w.db = db
		if w.out.sure, err = contents(db); err != nil {
			w.out.sure = nil // cannot be read for now, so not compared either
		}
		if err := w.steps(program(seed, n)); err != nil {
			return say("BAD", err)
		}
	}
	if die {
		return say("END")
	}
	f, err := os.Create(w.path + ".over")
	if err == nil {
		err = f.Close()
	}
	if err == nil && w.db == nil {
		w.db, err = skiplist.Open(ctx, w.path, w.opts)
	}
	if err == nil {
		err = w.db.Put(ctx, []byte("last"), []byte("one"))
	}
	if err != nil {
		return say("BAD", fmt.Errorf("when the fault is over: %w", err))
	}
	member{op{key: "last", value: "one"}}.applyTo(&w.out)
	say("LAST")
	if err := w.compare("after the last change"); err != nil {
		return say("BAD", err)
	}
	if err := w.db.Close(); err != nil {
		return say("BAD", err)
	}
	return say("END")
}

func (m member) applyTo(o *outcome) {
	if o.sure != nil {
		m.apply(o.sure)
	}
}

// say prints a line, in one write, and returns the exit status that goes with it.
func say(word string, rest ...any) int {
	line := word
	for _, r := range rest {
		line += " " + strings.ReplaceAll(fmt.Sprint(r), "\n", "; ")
	}
	if _, err := os.Stdout.WriteString(line + "\n"); err != nil || word == "BAD" {
		return 3
	}
	return 0
}

func writerOptions(f skiplist.Format, seed uint64) skiplist.Options {
	return skiplist.Options{Format: f, Create: true, Reserve: 8192, Random: rand.NewPCG(seed, 9).Uint64}
}

// steps carries out a program. It returns an error if the database showed something that it must not.
func (w *writer) steps(list []step) error {
	for i, s := range list {
		errs := w.step(s)
		for j, m := range s.members {
			switch err := errs[j]; {
			case err == nil:
				m.applyTo(&w.out)
				say("ACK", i, j)
			case errors.Is(err, skiplist.ErrCommitUnknown):
				w.out.open = append(w.out.open, m)
				say("UNKNOWN", i, j, err)
			default:
				say("NACK", i, j, err)
			}
		}
		if w.db == nil {
			return nil // reopening failed
		}
		if err := w.compare(fmt.Sprintf("after step %d (%s)", i, s.kind)); err != nil {
			return err
		}
		say("DONE", i)
		if len(w.out.open) > 0 {
			return nil // what the file holds now is decided by the next transaction
		}
	}
	return nil
}

func (w *writer) step(s step) []error {
	errs := make([]error, len(s.members))
	switch s.kind {
	case "put":
		errs[0] = w.db.Put(ctx, []byte(s.members[0][0].key), []byte(s.members[0][0].value))
	case "delete":
		errs[0] = w.db.Delete(ctx, []byte(s.members[0][0].key))
	case "txn":
		errs[0] = w.db.Update(ctx, s.members[0].run)
	case "group":
		w.group(s.members, errs)
	case "checkpoint":
		_ = w.db.Checkpoint(ctx)
	case "recover":
		_, _ = w.db.Recover(ctx)
	case "reopen":
		_ = w.db.Close()
		w.db, _ = skiplist.Open(ctx, w.path, w.opts)
	}
	return errs
}

// group has several callers of Batch wait behind a transaction without changes, so that they commit together, in the
// same order each time.
func (w *writer) group(members []member, errs []error) {
	var wg sync.WaitGroup
	start := func(*skiplist.Tx) error {
		for j, m := range members {
			wg.Go(func() { errs[j] = w.db.Batch(ctx, m.run) })
			time.Sleep(2 * time.Millisecond) // until it stands in the queue
		}
		return nil
	}
	if err := w.db.Update(ctx, start); err != nil {
		for j := range errs {
			errs[j] = err
		}
	}
	wg.Wait()
}

// compare holds what the handle shows against what was acknowledged through it.
func (w *writer) compare(when string) error {
	got, err := contents(w.db)
	if err != nil || w.out.sure == nil {
		return nil // a reader may fail while the disk does; that it shows nothing wrong is what counts
	}
	if !w.out.allows(got) {
		return fmt.Errorf("%s the handle shows %s", when, w.out.difference(got))
	}
	return nil
}

// refusals are the errors that the writer reported, for the message of a failure.
func refusals(said []byte) string {
	var b strings.Builder
	lines := bufio.NewScanner(bytes.NewReader(said))
	for lines.Scan() {
		if t := lines.Text(); strings.HasPrefix(t, "NACK") || strings.HasPrefix(t, "UNKNOWN") || strings.HasPrefix(t, "BAD") {
			b.WriteString("\n\t" + t)
		}
	}
	return b.String()
}
