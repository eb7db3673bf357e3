// Package demo re-enacts the outage that mailspine was written for, on a disk of its own: core dumps fill the disk while
// the mailbox list is being changed.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
)

// Disk is the small disk on which the story is played.
type Disk interface {
	// Describe says what it is, in one line or more.
	Describe() []string
	// Options are those with which databases are opened on it.
	Options() skiplist.Options
	// Fill takes the space away while refused counts what it keeps others from, until that is enough. It tells how.
	Fill(ctx context.Context, db string, refused func() int64) (how string, err error)
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
	s.row("the story", "%d writers make, share and delete mailboxes, a reader looks them up, and the space runs out", writers)
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		if err := s.play(ctx, f); err != nil {
			return fmt.Errorf("demo, %s: %w", f, err)
		}
	}
	s.head("What you saw")
	for _, t := range s.totals {
		s.row(string(t.format), "%d changes acknowledged, every one survived; %d refused, none left a trace", t.acks, t.refused)
	}
	s.row("yours", "mailspine db check FILE looks at a database of your own, and only reads it")
	return nil
}

type story struct {
	w      io.Writer
	color  bool
	dir    string
	disk   Disk
	fs     vfs.FS
	totals []total
}

type total struct {
	format        skiplist.Format
	acks, refused int64
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

// mailboxes is how many mailboxes the list begins with, writers how many change it at once. Each writer has mailboxes of
// its own, so that what has to be in the file is known without making them wait for each other.
const (
	mailboxes = 300
	writers   = 4
)

func (s *story) play(ctx context.Context, f skiplist.Format) error {
	path := filepath.Join(s.dir, "mailboxes-"+string(f)+".db")
	s.head(fmt.Sprintf("A mailbox list in Cyrus's format %s, %d mailboxes", f, mailboxes))
	o := s.disk.Options()
	o.Format, o.Create = f, true
	list, err := openList(ctx, path, o)
	if err != nil {
		return err
	}
	defer list.Close()
	l := &ledger{list: list, acked: map[mboxdb.Name]string{}}
	if err := l.fill(ctx); err != nil {
		return err
	}
	if err := s.fillDisk(ctx, l); err != nil {
		return err
	}
	if err := s.deleteOnFullDisk(ctx, l); err != nil {
		return err
	}
	if err := s.compare(ctx, l); err != nil {
		return err
	}
	if err := s.disk.Free(); err != nil {
		return err
	}
	const more = 300
	if err := l.work(ctx, more); err != nil {
		return err
	}
	s.row("3  space again", "%d more changes, %s", more, s.good("none refused"))
	if err := s.compare(ctx, l); err != nil {
		return err
	}
	if err := s.damageAndSalvage(ctx, list.DB(), path); err != nil {
		return err
	}
	s.totals = append(s.totals, total{f, l.acks.Load(), l.refused.Load()})
	return s.fs.Unlink(path)
}

// fillDisk takes the space away while writers change the list and a reader reads it.
func (s *story) fillDisk(ctx context.Context, l *ledger) error {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var stop atomic.Bool
	errs := make(chan error, writers+1)
	for w := range writers {
		wg.Go(func() {
			for i := w; !stop.Load(); i += writers {
				if err := l.change(ctx, i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Go(func() {
		for ; !stop.Load(); l.reads.Add(1) {
			if _, err := l.list.Lookup(ctx, name(mailboxes/2)); err != nil {
				errs <- fmt.Errorf("a read failed: %w", err)
				return
			}
		}
	})
	how, err := s.disk.Fill(ctx, l.list.DB().Path(), l.refused.Load)
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
	s.row("", "%d changes acknowledged, %d refused with ErrNoSpace", l.acks.Load(), l.refused.Load())
	s.row("", "%d reads meanwhile, %s", l.reads.Load(), s.good("none failed"))
	return nil
}

// deleteOnFullDisk shows that the reserve lets deletions through.
func (s *story) deleteOnFullDisk(ctx context.Context, l *ledger) error {
	before := l.refused.Load()
	const n = 100
	if !s.disk.HasReserve() {
		s.row("2  still no space", "deletions wait too: the reserve is space on a disk, and a limit is a limit all the same")
		return nil
	}
	for i := range n {
		if err := l.remove(ctx, name(i)); err != nil {
			return err
		}
	}
	refused := l.refused.Load() - before
	s.row("2  still no space", "%d of %d mailboxes deleted, out of the reserve", n-refused, n)
	if refused > 0 {
		return fmt.Errorf("%d of %d deletions were refused although there is a reserve", refused, n)
	}
	return nil
}

// compare holds what is in the file, opened anew, against what was acknowledged.
func (s *story) compare(ctx context.Context, l *ledger) error {
	d, err := l.differences(ctx)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%d lost, %d stale, %d back from the dead", d.lost, d.stale, d.extra)
	agree := "names, unique ids and reverse ACLs agree"
	if d.findings > 0 {
		agree = fmt.Sprintf("%d records do not agree with others", d.findings)
	}
	if d == (differences{}) {
		text, agree = s.good(text), s.good(agree)
	}
	s.row("   the list, reopened", "%d acknowledged mailboxes: %s", len(l.acked), text)
	s.row("", "%s", agree)
	if d != (differences{}) {
		return errors.New("the list is not what was acknowledged")
	}
	return nil
}

// damagedBytes is how much of a file is destroyed: more than a record, so that it shows also in a format that has no
// checksums. mostUnderDamage is how many records can be touched by it.
const (
	damagedBytes    = 256
	mostUnderDamage = 4
)

// damageAndSalvage destroys a few records in the middle of a copy and collects the rest.
func (s *story) damageAndSalvage(ctx context.Context, db *skiplist.DB, path string) error {
	damaged, out := path+".damaged", path+".salvaged"
	defer func() {
		_ = s.fs.Unlink(damaged)
		_ = s.fs.Unlink(out)
	}()
	if _, err := db.BackupFile(ctx, damaged); err != nil {
		return err
	}
	if err := zeroMiddle(s.fs, damaged); err != nil {
		return err
	}
	s.row("4  a copy is damaged", "%d bytes in its middle are overwritten with zeros", damagedBytes)
	found, err := skiplist.Check(ctx, damaged, skiplist.Options{})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return errors.New("the check does not see the damage")
	}
	for i, x := range found {
		detail, _, _ := strings.Cut(x.Detail, ";")
		s.row([]string{"   db check", ""}[min(i, 1)], "%s at %#x: %s", x.Severity, x.Offset, detail)
	}
	if _, err := skiplist.Open(ctx, damaged, skiplist.Options{}); !errors.Is(err, skiplist.ErrDamaged) {
		return fmt.Errorf("the damaged copy was opened for writing: %v", err)
	}
	s.row("   db set", "refused: nothing is written to a damaged file")
	res, err := skiplist.Salvage(ctx, damaged, out, skiplist.SalvageOptions{})
	if err != nil {
		return err
	}
	records := db.Stats().Records
	s.row("   db salvage", "%s into a new file; the %d under the zeros are gone",
		s.good(fmt.Sprintf("%d of %d records", res.Records, records)), records-res.Records)
	if res.Records < records-mostUnderDamage || res.Records > records {
		return errors.New("the salvage missed records")
	}
	return nil
}

func zeroMiddle(fsys vfs.FS, path string) error {
	f, err := fsys.Open(path, vfs.ReadWrite, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(make([]byte, damagedBytes), info.Size/2&^7)
	}
	return errors.Join(err, f.Close())
}
