// Package demo re-enacts the outage that mailspine was written for, on a disk of its own: core dumps fill the disk while
// the mailbox list and a mailbox are being changed, and while quota roots that are wrong are being recalculated.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// Disk is the small disk on which the story is played.
type Disk interface {
	// Describe says what it is, in one line or more.
	Describe() []string
	// Options are those with which databases are opened on it.
	Options() skiplist.Options
	// Fill takes the space away while refused counts what it keeps others from, until that is enough. It tells how. The file is
	// the one that grows most.
	Fill(ctx context.Context, file string, refused func() int64) (how string, err error)
	// StillFull takes what was freed since, and tells how much space there is. It is an error if there is any.
	StillFull() (how string, err error)
	// HasReserve tells whether the space that a database keeps in reserve is of use once the disk is full.
	HasReserve() bool
	// Free gives the space back.
	Free() error
	// Close ends what the disk did to this process.
	Close() error
}

// Options are the choices of [Main].
type Options struct {
	Out, Err io.Writer
	// Color is set if Out is a terminal.
	Color bool
	// Kind is the kind of disk: tmpfs, limit, or auto, which stands for the first of them that can be had.
	Kind string
}

// Kinds are the values of Options.Kind.
var Kinds = []string{"auto", "tmpfs", "limit"}

// Run plays the story in dir, which lies on the disk, and tells it. It returns an error if anything that was acknowledged
// is lost, if a refused change has left a trace, if a read failed, or if the story cannot be played.
func Run(ctx context.Context, o Options, dir string, disk Disk) error {
	s := &story{w: o.Out, color: o.Color, dir: dir, disk: disk, fs: vfs.OS()}
	s.head("The night the disk filled up")
	for i, line := range disk.Describe() {
		s.row([]string{"the disk", ""}[min(i, 1)], "%s", line)
	}
	s.row("the story", "%d writers change a mailbox list, then a mailbox, then mailboxes with quotas;", writers)
	s.row("", "a reader reads; and the space runs out")
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		if err := s.playList(ctx, f); err != nil {
			return fmt.Errorf("demo, %s: %w", f, err)
		}
	}
	if err := s.playMailbox(ctx); err != nil {
		return fmt.Errorf("demo, mailbox: %w", err)
	}
	if err := s.playQuotas(ctx); err != nil {
		return fmt.Errorf("demo, quotas: %w", err)
	}
	s.head("What you saw")
	for _, t := range s.totals {
		s.row(t.what, "%d changes acknowledged, every one survived; %d refused, none left a trace", t.acks.Load(), t.refused.Load())
	}
	s.row("yours", "mailspine db check FILE, index check NAME and quota -f -n look at what is yours, and only read it")
	return nil
}

type story struct {
	w      io.Writer
	color  bool
	dir    string
	disk   Disk
	fs     vfs.FS
	totals []*tally
}

// head begins a part of the story, row tells one thing in it.
func (s *story) head(title string) {
	if s.color {
		title = "\x1b[1m" + title + "\x1b[m"
	}
	fmt.Fprintf(s.w, "\n%s\n\n", title)
}

func (s *story) row(what, format string, args ...any) {
	fmt.Fprintf(s.w, "  %-23s %s\n", what, fmt.Sprintf(format, args...))
}

// good marks a number that has to be what it is.
func (s *story) good(text string) string {
	if s.color {
		return "\x1b[32m" + text + "\x1b[m"
	}
	return text
}

// tally counts the answers to what was asked.
type tally struct {
	what                 string
	acks, refused, reads atomic.Int64
}

// answer counts n changes that were acknowledged together, or refused. A refusal for want of space is no error.
func (t *tally) answer(n int64, err error) (acknowledged bool, _ error) {
	if errors.Is(err, skiplist.ErrNoSpace) {
		t.refused.Add(n)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	t.acks.Add(n)
	return true, nil
}

// allMade makes n changes; every one has to succeed.
func (t *tally) allMade(n int, change func(i int) error) error {
	refused := t.refused.Load()
	for i := range n {
		if err := change(i); err != nil {
			return err
		}
	}
	if t.refused.Load() != refused {
		return errors.New("a change was refused although there is space")
	}
	return nil
}

// writers is how many change things at once. Each has things of its own, so that what has to be there afterwards is known
// without making them wait for each other.
const writers = 4

// fillMax is how long the disk may take to fill up: some tenths of a second, and longer where others keep the machine busy.
const fillMax = 30 * time.Second

// fillDisk takes the space away while writers change what is in file and a reader reads it.
func (s *story) fillDisk(ctx context.Context, t *tally, file string, change func(ctx context.Context, writer, i int) error, read func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, fillMax)
	defer cancel()
	var wg sync.WaitGroup
	var stop atomic.Bool
	errs := make(chan error, writers+1)
	for w := range writers {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				if err := change(ctx, w, i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Go(func() {
		for ; !stop.Load(); t.reads.Add(1) {
			if err := read(ctx); err != nil {
				errs <- fmt.Errorf("a read failed: %w", err)
				return
			}
		}
	})
	how, err := s.disk.Fill(ctx, file, t.refused.Load)
	stop.Store(true)
	wg.Wait()
	select {
	case e := <-errs:
		err = errors.Join(e, err)
	default:
	}
	if err != nil {
		return err
	}
	s.row("1  space runs out", "%s", how)
	s.row("", "%d changes acknowledged, %d refused with ErrNoSpace", t.acks.Load(), t.refused.Load())
	s.row("", "%d reads meanwhile, %s", t.reads.Load(), s.good("none failed"))
	return nil
}

// spaceAgain gives the space back, and lets work make n more changes.
func (s *story) spaceAgain(ctx context.Context, n int, work func(ctx context.Context, n int) error) error {
	if err := s.disk.Free(); err != nil {
		return err
	}
	if err := work(ctx, n); err != nil {
		return err
	}
	s.row("3  space again", "%d more changes, %s", n, s.good("none refused"))
	return nil
}
