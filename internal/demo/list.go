package demo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/skiplist"
)

// mailboxes is how many mailboxes the list begins with.
const mailboxes = 300

// playList plays the story with a mailbox list.
func (s *story) playList(ctx context.Context, f skiplist.Format) error {
	path := filepath.Join(s.dir, "mailboxes-"+string(f)+".db")
	s.head(fmt.Sprintf("A mailbox list in Cyrus's format %s, %d mailboxes", f, mailboxes))
	o := s.disk.Options()
	o.Format, o.Create = f, true
	list, err := openList(ctx, path, o)
	if err != nil {
		return err
	}
	defer list.Close()
	l := newLedger(list, string(f))
	if err := l.fill(ctx); err != nil {
		return err
	}
	change := func(ctx context.Context, w, i int) error { return l.change(ctx, i*writers+w) }
	if err := s.fillDisk(ctx, &l.tally, path, change, l.read); err != nil {
		return err
	}
	if err := s.deleteOnFullDisk(ctx, l); err != nil {
		return err
	}
	if err := s.compare(ctx, l); err != nil {
		return err
	}
	if err := s.spaceAgain(ctx, 300, l.work); err != nil {
		return err
	}
	if err := s.compare(ctx, l); err != nil {
		return err
	}
	if err := s.damageAndSalvage(ctx, list.DB(), path); err != nil {
		return err
	}
	s.totals = append(s.totals, &l.tally)
	return s.fs.Unlink(path)
}

// deleteOnFullDisk shows that the reserve lets deletions through.
func (s *story) deleteOnFullDisk(ctx context.Context, l *ledger) error {
	before := l.refused.Load()
	const n = 100
	if !s.disk.HasReserve() {
		s.row("2  still no space", "deletions wait too: the reserve is space on a disk, and a limit is a limit all the same")
		return nil
	}
	how, err := s.disk.StillFull()
	if err != nil {
		return err
	}
	for i := range n {
		if err := l.remove(ctx, name(i)); err != nil {
			return err
		}
	}
	refused := l.refused.Load() - before
	s.row("2  still no space", "%s: %d of %d mailboxes deleted, out of the reserve", how, n-refused, n)
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
