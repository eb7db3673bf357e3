// Package demo re-enacts the outage that mailspine was written for, on a disk of its own: core dumps fill the disk while
// the mailbox list is being changed.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// Run plays the story in dir, which lies on the small disk that disk describes, and tells it on w. It returns an error
// if anything that was acknowledged is lost, or if the story cannot be played.
func Run(ctx context.Context, w io.Writer, dir, disk string) error {
	s := &story{w: w, dir: dir, fs: vfs.OS()}
	s.say("The outage, once more", "A mail server's metadata lies on a small disk: %s.", disk)
	for _, f := range []skiplist.Format{skiplist.Skiplist, skiplist.Twoskip} {
		if err := s.play(ctx, f); err != nil {
			return fmt.Errorf("demo, %s: %w", f, err)
		}
	}
	s.say("What you saw", "Every change that was acknowledged survived; every change that was refused left no trace.")
	return nil
}

type story struct {
	w   io.Writer
	dir string
	fs  vfs.FS
}

func (s *story) say(title, format string, args ...any) {
	if title != "" {
		fmt.Fprintf(s.w, "\n== %s\n\n", title)
	}
	fmt.Fprintf(s.w, "   "+format+"\n", args...)
}

// mailboxes is how many mailboxes the list begins with, writers how many change it at once.
const (
	mailboxes = 500
	writers   = 4
)

func (s *story) play(ctx context.Context, f skiplist.Format) error {
	path := filepath.Join(s.dir, "mailboxes-"+string(f)+".db")
	s.say("The mailbox list in Cyrus's format "+string(f), "%s: %d mailboxes.", filepath.Base(path), mailboxes)
	db, err := skiplist.Open(ctx, path, skiplist.Options{Format: f, Create: true})
	if err != nil {
		return err
	}
	defer db.Close()
	l := &ledger{db: db, acked: map[string]string{}}
	if err := l.fill(ctx); err != nil {
		return err
	}
	if err := s.fillDisk(ctx, l); err != nil {
		return err
	}
	if err := s.deleteOnFullDisk(ctx, l); err != nil {
		return err
	}
	if err := s.compare(ctx, l, "while the disk is full"); err != nil {
		return err
	}
	if err := s.fs.Unlink(filepath.Join(s.dir, "core")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before := l.acks.Load()
	if err := l.work(ctx, 300); err != nil {
		return err
	}
	s.say("", "The core dumps are removed: %d more changes, none refused.", l.acks.Load()-before)
	if err := s.compare(ctx, l, "after the disk has space again"); err != nil {
		return err
	}
	if err := s.damageAndSalvage(ctx, db, path); err != nil {
		return err
	}
	return s.fs.Unlink(path)
}

// ledger remembers what was acknowledged.
type ledger struct {
	db    *skiplist.DB
	mu    sync.Mutex
	acked map[string]string

	acks, refused, reads, badReads atomic.Int64
}

func name(i int) string { return fmt.Sprintf("user.u%04d", i) }

func (l *ledger) fill(ctx context.Context) error {
	return l.db.Update(ctx, func(tx *skiplist.Tx) error {
		for i := range mailboxes {
			v := fmt.Sprintf("%%(A %%(u%04d lrswipkxtecdan) I %032x P default)", i, i)
			if err := tx.Put([]byte(name(i)), []byte(v)); err != nil {
				return err
			}
			l.acked[name(i)] = v
		}
		return nil
	})
}

// change makes one change, durably, and notes whether it was acknowledged. A refusal for want of space is no error.
func (l *ledger) change(ctx context.Context, key, value string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if value == "" {
		err = l.db.Delete(ctx, []byte(key))
	} else {
		err = l.db.Put(ctx, []byte(key), []byte(value))
	}
	switch {
	case errors.Is(err, skiplist.ErrNoSpace):
		l.refused.Add(1)
		return nil
	case err != nil:
		return err
	}
	l.acks.Add(1)
	if value == "" {
		delete(l.acked, key)
	} else {
		l.acked[key] = value
	}
	return nil
}

// work changes the list n times; every change has to succeed.
func (l *ledger) work(ctx context.Context, n int) error {
	refused := l.refused.Load()
	for i := range n {
		if err := l.change(ctx, name(i%mailboxes), fmt.Sprintf("%%(A %%() I %032x P default)", i)); err != nil {
			return err
		}
	}
	if l.refused.Load() != refused {
		return errors.New("a change was refused although there is space")
	}
	return nil
}

// fillDisk lets the core dumps grow while writers change the list and readers read it.
func (s *story) fillDisk(ctx context.Context, l *ledger) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var readErr error
	errs := make(chan error, writers+1)
	stop := make(chan struct{})
	for w := range writers {
		wg.Go(func() {
			for i := w; ; i += writers {
				select {
				case <-stop:
					return
				default:
				}
				if err := l.change(ctx, name(i%mailboxes), fmt.Sprintf("%%(A %%(round %d) I %032x P default)", i, i)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := l.db.Get(ctx, []byte(name(mailboxes/2))); err != nil {
				l.badReads.Add(1)
				readErr = err
			}
			l.reads.Add(1)
		}
	})
	size, err := s.dumpCore(ctx, l)
	close(stop)
	wg.Wait()
	select {
	case e := <-errs:
		err = errors.Join(err, e)
	default:
	}
	if err != nil {
		return err
	}
	s.say("", "Core dumps have filled the disk (%d KiB) while %d writers changed the list:", size>>10, writers)
	s.say("", "%6d changes acknowledged, %d refused with ErrNoSpace, %d reads, %d of them failed.",
		l.acks.Load(), l.refused.Load(), l.reads.Load(), l.badReads.Load())
	if l.badReads.Load() > 0 {
		return fmt.Errorf("reads failed: %w", readErr)
	}
	return nil
}

// dumpCore writes a core file until there is no space, and on until the writers were refused.
func (s *story) dumpCore(ctx context.Context, l *ledger) (size int64, err error) {
	f, err := s.fs.Open(filepath.Join(s.dir, "core"), vfs.ReadWrite|vfs.Create, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := make([]byte, 16<<10)
	for n := len(block); l.refused.Load() < 50; {
		if err := ctx.Err(); err != nil {
			return size, fmt.Errorf("the disk did not fill up: %w", err)
		}
		k, err := f.WriteAt(block[:n], size)
		size += int64(k)
		if err != nil { // full: take what is left in small pieces, and what others free
			n = 512
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Millisecond)
	}
	return size, nil
}

// deleteOnFullDisk shows that the reserve lets deletions through.
func (s *story) deleteOnFullDisk(ctx context.Context, l *ledger) error {
	before, refused := l.acks.Load(), l.refused.Load()
	const n = 100
	for i := range n {
		if err := l.change(ctx, name(i), ""); err != nil {
			return err
		}
	}
	s.say("", "On the full disk: %d of %d mailboxes deleted, %d refused (deletions use the reserve).",
		l.acks.Load()-before, n, l.refused.Load()-refused)
	return nil
}

// compare holds what is in the file, opened anew, against what was acknowledged.
func (s *story) compare(ctx context.Context, l *ledger, when string) error {
	db, err := skiplist.Open(ctx, l.db.Path(), skiplist.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	lost, stale, extra := 0, 0, 0
	err = db.View(ctx, func(r *skiplist.Snapshot) error {
		for k, want := range l.acked {
			got, err := r.Get([]byte(k))
			switch {
			case errors.Is(err, skiplist.ErrNotFound):
				lost++
			case err != nil:
				return err
			case string(got) != want:
				stale++
			}
		}
		extra = r.Len() - (len(l.acked) - lost)
		return nil
	})
	if err != nil {
		return err
	}
	s.say("", "Acknowledged records %s: %d; lost: %d, stale: %d, back from the dead: %d.", when, len(l.acked), lost, stale, extra)
	if lost+stale+extra > 0 {
		return errors.New("acknowledged changes are lost")
	}
	return nil
}

// damagedBytes is how much of a file is destroyed: more than a record, so that it shows also in a format that has no
// checksums.
const damagedBytes = 256

// damageAndSalvage destroys a few records in the middle of a copy and collects the rest.
func (s *story) damageAndSalvage(ctx context.Context, db *skiplist.DB, path string) error {
	copyPath, out := path+".damaged", path+".salvaged"
	defer s.fs.Unlink(copyPath)
	defer s.fs.Unlink(out)
	if err := db.BackupFile(ctx, copyPath); err != nil {
		return err
	}
	f, err := s.fs.Open(copyPath, vfs.ReadWrite, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(make([]byte, damagedBytes), info.Size/2&^7)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	s.say("", "Now a copy is damaged: %d bytes in its middle are zero. mailspine db check says:", damagedBytes)
	found, err := skiplist.Check(ctx, copyPath, skiplist.Options{})
	if err != nil {
		return err
	}
	for _, x := range found {
		x.Path = filepath.Base(x.Path)
		s.say("", "  %s", x)
	}
	if _, err := skiplist.Open(ctx, copyPath, skiplist.Options{}); !errors.Is(err, skiplist.ErrDamaged) {
		return fmt.Errorf("the damaged copy was opened for writing: %v", err)
	}
	res, err := skiplist.Salvage(ctx, copyPath, out, skiplist.SalvageOptions{})
	if err != nil {
		return err
	}
	total := db.Stats().Records
	s.say("", "Writing to it is refused. mailspine db salvage brings out %d of %d records.", res.Records, total)
	if res.Records < total-4 || res.Records > total {
		return errors.New("the salvage missed records")
	}
	return nil
}
