package index

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailspine/mailspine/internal/owner"
	"github.com/mailspine/mailspine/internal/realcyrus"
)

// ack is a change of one message that was acknowledged to a worker.
type ack struct {
	Worker string
	// Op is append, flag, unflag or expunge. A flag is that of the worker, which nobody else touches.
	Op     string
	UID    UID
	ModSeq ModSeq `json:",omitempty"` // where we were told
	GUID   string `json:",omitempty"` // of an appended message
}

const (
	besideConf   = "MAILSPINE_BESIDE_CONF"
	besideName   = "MAILSPINE_BESIDE_NAME"
	besidePrefix = "ack "
	besideBox    = "user.u000.beside"
	besideUsers  = 3 // goroutines a process, and IMAP sessions
)

func besideTime() time.Duration {
	switch os.Getenv("MAILSPINE_CAMPAIGN") {
	case "":
		return 3 * time.Second
	case "ci":
		return time.Minute
	}
	return 5 * time.Minute
}

// TestBeside: two processes of ours, with several goroutines each, and several sessions of a live Cyrus append to one mailbox,
// change flags in it and expunge from it, at the same time. In the end every change that was acknowledged to anybody is
// there, no UID and no modification sequence was given out twice, and all counters are exact.
func TestBeside(t *testing.T) {
	realcyrus.NeedServer(t)
	for name, o := range judgeStores() {
		t.Run(name, func(t *testing.T) { // one after the other: each is to have the machine
			s := realcyrus.StartServer(t, o)
			require.NoError(t, s.AddUser("u000"))
			admin := s.Dial(t, realcyrus.AdminUser)
			for _, box := range []string{"user.u000", besideBox} {
				_, err := admin.Cmd("CREATE %s", box)
				require.NoError(t, err)
			}
			b := &beside{t: t, s: s}
			b.run(besideTime())
			b.verify()
		})
	}
}

// beside collects what was acknowledged.
type beside struct {
	t    *testing.T
	s    *realcyrus.Server
	mu   sync.Mutex
	acks []ack
}

func (b *beside) add(a ack) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acks = append(b.acks, a)
}

// run has everybody work for a time.
func (b *beside) run(d time.Duration) {
	var all sync.WaitGroup
	failed := make(chan error, 16)
	start := func(name string, do func() error) {
		all.Go(func() {
			if err := do(); err != nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	end := time.Now().Add(d)
	for i := range 2 {
		name := fmt.Sprintf("p%d", i)
		start(name, func() error { return b.process(name, end) })
	}
	for i := range besideUsers {
		name := fmt.Sprintf("imap%d", i)
		start(name, func() error { return b.session(name, uint64(i), end) })
	}
	all.Wait()
	close(failed)
	for err := range failed {
		require.NoError(b.t, err)
	}
}

// process runs this test binary as a process of ours, which becomes the owner of the store, as the command does.
func (b *beside) process(name string, end time.Time) error {
	cmd := exec.Command(os.Args[0], "-test.run=^TestBesideProcess$", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), besideConf+"="+b.s.Conf, besideName+"="+name)
	cmd.Stderr = os.Stderr
	stop, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	time.AfterFunc(time.Until(end), func() { _ = stop.Close() })
	lines := bufio.NewScanner(out)
	var rest []string
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), besidePrefix)
		if !ok {
			rest = append(rest, lines.Text())
			continue
		}
		var a ack
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			return err
		}
		b.add(a)
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		return fmt.Errorf("%w\n%s", err, strings.Join(rest, "\n"))
	}
	return nil
}

// TestBesideProcess is a process of TestBeside.
func TestBesideProcess(t *testing.T) {
	conf := os.Getenv(besideConf)
	if conf == "" {
		t.Skip("a part of TestBeside")
	}
	id, err := owner.Named("cyrus")
	require.NoError(t, err)
	require.NoError(t, id.Become())
	l, layout := openStore(t, &realcyrus.Store{Conf: conf})
	m := openMailbox(t, l, layout, besideBox)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var mu sync.Mutex
	report := func(a ack) {
		b, _ := json.Marshal(a)
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(besidePrefix + string(b))
	}
	var all sync.WaitGroup
	failed := make(chan error, besideUsers)
	for i := range besideUsers {
		w := &besideWorker{name: fmt.Sprintf("%s-%d", os.Getenv(besideName), i), m: m, report: report, set: map[UID]bool{}}
		w.rnd = rand.New(rand.NewPCG(uint64(i), sum32(w.name)))
		all.Go(func() {
			for ctx.Err() == nil {
				if err := w.step(t.Context()); err != nil {
					failed <- fmt.Errorf("%s: %w", w.name, err)
					return
				}
			}
		})
	}
	all.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
}

func sum32(s string) (n uint64) {
	for _, c := range s {
		n = n*31 + uint64(c)
	}
	return n
}

// besideWorker is a goroutine of ours.
type besideWorker struct {
	name   string
	m      *Mailbox
	report func(ack)
	rnd    *rand.Rand
	mine   []UID // appended, and not expunged
	gone   []UID
	set    map[UID]bool // who has its flag
	n      int
}

func besideText(worker string, n int) string {
	return fmt.Sprintf("From: %s@example.org\r\nSubject: message %d\r\n\r\n%s\r\n", worker, n, strings.Repeat("x", n%300))
}

func (w *besideWorker) step(ctx context.Context) error {
	switch n := w.rnd.IntN(20); {
	case n < 7 || len(w.mine) == 0:
		return w.append(ctx, 1+n%3)
	case n < 15:
		return w.flag(ctx)
	case n < 17:
		return w.expunge(ctx)
	case n < 18 && len(w.gone) > 0:
		return w.restore(ctx)
	default:
		return w.copy(ctx)
	}
}

func (w *besideWorker) append(ctx context.Context, count int) error {
	var recs []Record
	err := w.m.Update(ctx, func(tx *Tx) error {
		recs = nil
		for range count {
			w.n++
			rec, err := tx.Append(NewMessage{Body: strings.NewReader(besideText(w.name, w.n))})
			if err != nil {
				return err
			}
			recs = append(recs, rec)
		}
		return nil
	})
	for i := range recs {
		if err == nil {
			w.got(&recs[i])
		}
	}
	return err
}

// got is told of a new message of this worker.
func (w *besideWorker) got(r *Record) {
	w.report(ack{w.name, "append", r.UID, r.ModSeq, r.GUID.String()})
	w.mine = append(w.mine, r.UID)
}

// flag sets or clears the flag of this worker on anybody's messages.
func (w *besideWorker) flag(ctx context.Context) error {
	s, err := w.m.Snapshot(ctx)
	if err != nil || len(s.Messages) == 0 {
		return err
	}
	var uids []UID
	for range 1 + w.rnd.IntN(3) {
		uids = append(uids, s.Messages[w.rnd.IntN(len(s.Messages))].UID)
	}
	slices.Sort(uids)
	uids = slices.Compact(uids)
	var done []ack
	err = w.m.Update(ctx, func(tx *Tx) error {
		done = nil
		for _, uid := range uids {
			c, op := FlagChange{User: []string{w.name}}, "flag"
			if w.set[uid] {
				c.Op, op = RemoveFlags, "unflag"
			}
			rec, err := tx.SetFlags(uid, c)
			if errors.Is(err, ErrNotFound) {
				continue // somebody has expunged it
			}
			if err != nil {
				return err
			}
			done = append(done, ack{Worker: w.name, Op: op, UID: uid, ModSeq: rec.ModSeq})
		}
		return nil
	})
	for i := range done {
		if err == nil {
			w.set[done[i].UID] = done[i].Op == "flag"
			w.report(done[i])
		}
	}
	return err
}

func (w *besideWorker) expunge(ctx context.Context) error {
	i := w.rnd.IntN(len(w.mine))
	uid := w.mine[i]
	var rec Record
	err := w.m.Update(ctx, func(tx *Tx) (err error) {
		rec, err = tx.Expunge(uid, ExpungeDelayed)
		return err
	})
	if err == nil {
		w.report(ack{Worker: w.name, Op: "expunge", UID: uid, ModSeq: rec.ModSeq})
		w.mine = slices.Delete(w.mine, i, i+1)
		w.gone = append(w.gone, uid)
	}
	return err
}

func (w *besideWorker) restore(ctx context.Context) error {
	uid := w.gone[len(w.gone)-1]
	var rec Record
	err := w.m.Update(ctx, func(tx *Tx) (err error) {
		rec, err = tx.Unexpunge(uid, FlagDeleted)
		return err
	})
	if err != nil {
		return err
	}
	w.gone = w.gone[:len(w.gone)-1]
	w.got(&rec)
	w.took(&rec)
	return nil
}

// took is told of a copy: it may have the flag of this worker.
func (w *besideWorker) took(r *Record) {
	if names, err := w.m.FlagNames(r.Flags, r.UserFlags); err == nil && slices.Contains(names, w.name) {
		w.set[r.UID] = true
	}
}

func (w *besideWorker) copy(ctx context.Context) error {
	uid := w.mine[w.rnd.IntN(len(w.mine))]
	copied, err := Copy(ctx, w.m, w.m, []UID{uid}, CopyOptions{})
	if err != nil {
		return err
	}
	rec, err := w.m.Record(ctx, copied[0].To)
	if errors.Is(err, ErrNotFound) {
		err = w.m.Refresh(ctx)
		if err == nil {
			rec, err = w.m.Record(ctx, copied[0].To)
		}
	}
	if err != nil {
		return fmt.Errorf("the copy %d: %w", copied[0].To, err)
	}
	rec.ModSeq = 0 // somebody may have changed it already
	w.got(&rec)
	w.took(&rec)
	return nil
}
