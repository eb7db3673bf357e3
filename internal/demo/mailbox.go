package demo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/imapdconf"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/skiplist"
	"github.com/mailspine/mailspine/store"
)

// messages is how many messages the mailbox begins with. The writers do not change them.
const messages = 100

// playMailbox plays the story with a mailbox, in a store of its own.
func (s *story) playMailbox(ctx context.Context) (err error) {
	s.head(fmt.Sprintf("A mailbox in Cyrus's own files, %d messages", messages))
	st, err := newStore(ctx, s.fs, s.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	fred := mboxdb.InternalName("user.fred")
	if _, err := st.Create(ctx, store.NewMailbox{Name: fred}); err != nil {
		return err
	}
	p, err := openPost(ctx, st, fred, &tally{what: "mailbox"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	kept, err := p.fill(ctx)
	if err != nil {
		return err
	}
	change := func(ctx context.Context, w, i int) error { return p.change(ctx, &p.hands[w], i) }
	read := func(ctx context.Context) error { return p.read(ctx, kept[0]) }
	if err := s.fillDisk(ctx, p.tally, p.box.Place().Paths.Cache, change, read); err != nil {
		return err
	}
	s.row("", "of the changes %d are new messages, %d of flags, %d expunged", p.appended.Load(), p.flagged.Load(), p.expunged.Load())
	if err := s.expungeOnFullDisk(ctx, p, kept); err != nil {
		return err
	}
	if err := s.comparePost(ctx, p); err != nil {
		return err
	}
	if err := s.spaceAgain(ctx, 300, p.work); err != nil {
		return err
	}
	if err := s.comparePost(ctx, p); err != nil {
		return err
	}
	s.totals = append(s.totals, p.tally)
	return nil
}

// newStore makes a store as imapd.conf describes it: a directory for Cyrus's databases, with a mailbox list, and a partition.
func newStore(ctx context.Context, fsys vfs.FS, dir string) (*store.Store, error) {
	conf, spool := filepath.Join(dir, "conf"), filepath.Join(dir, "spool")
	for _, d := range []string{conf, spool} {
		if err := fsys.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(dir, "imapd.conf")
	text := fmt.Sprintf("configdirectory: %s\ndefaultpartition: default\npartition-default: %s\n", conf, spool)
	f, err := fsys.Open(path, vfs.ReadWrite|vfs.Create, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt([]byte(text), 0)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	c, err := imapdconf.Read(fsys, path).Config("")
	if err != nil {
		return nil, err
	}
	list, err := skiplist.Open(ctx, c.Path("mboxlist_db_path"), skiplist.Options{Create: true, Format: skiplist.Twoskip})
	if err != nil {
		return nil, err
	}
	if err := list.Close(); err != nil {
		return nil, err
	}
	return store.Open(ctx, c, store.Options{})
}

// expungeOnFullDisk shows that who takes away needs no space.
func (s *story) expungeOnFullDisk(ctx context.Context, p *post, uids []index.UID) error {
	const n = messages / 2
	var how string
	for _, step := range []struct {
		uids []index.UID
		do   func(ctx context.Context, uids ...index.UID) error
	}{{uids[:n], p.unflag}, {uids[n:], p.expunge}} {
		for _, uid := range step.uids {
			var err error
			if how, err = s.disk.StillFull(); err != nil {
				return err
			}
			refused := p.refused.Load()
			if err := step.do(ctx, uid); err != nil {
				return err
			}
			if p.refused.Load() != refused {
				return errors.New("a flag could not be removed, or a message not expunged, for want of space")
			}
		}
	}
	s.row("2  still no space", "%s: %d of %[2]d flags removed, %d of %[3]d messages expunged", how, n, len(uids)-n)
	return nil
}

// comparePost holds what is in the mailbox, opened anew, against what was acknowledged.
func (s *story) comparePost(ctx context.Context, p *post) error {
	d, err := p.differences(ctx)
	if err != nil {
		return err
	}
	flagged, expunged := 0, 0
	for _, m := range p.acked {
		if m.flags&index.FlagExpunged != 0 {
			expunged++
		} else if m.flags&index.FlagFlagged != 0 {
			flagged++
		}
	}
	text := fmt.Sprintf("%d lost, %d stale, %d half applied", d.lost, d.stale, d.half)
	agree := "index, cache, counters and message files agree"
	if d.findings > 0 {
		agree = fmt.Sprintf("%d findings of the check", d.findings)
	}
	if d == (mailDifferences{}) {
		text, agree = s.good(text), s.good(agree)
	}
	s.row("   mailbox, reopened", "%d acknowledged messages, %d flagged, %d expunged: %s", len(p.acked), flagged, expunged, text)
	s.row("", "%s", agree)
	if d != (mailDifferences{}) {
		return errors.New("the mailbox is not what was acknowledged")
	}
	return nil
}
