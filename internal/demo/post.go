package demo

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mailspine/mailspine/index"
	"github.com/mailspine/mailspine/internal/vfs"
	"github.com/mailspine/mailspine/mboxdb"
	"github.com/mailspine/mailspine/store"
)

// post changes a mailbox and remembers what was acknowledged.
type post struct {
	*tally
	open func(context.Context) (*index.Mailbox, error)
	// box is changed, reader is read: a handle of its own, as a session of another client has it.
	box, reader *index.Mailbox
	hands       [writers]hand
	sent        atomic.Int64
	// appended, flagged and expunged are what was acknowledged, in messages.
	appended, flagged, expunged atomic.Int64

	mu sync.Mutex
	// acked holds the messages there have to be, expunged ones too.
	acked map[index.UID]message
}

// hand is a writer and the messages that it alone changes.
type hand struct{ uids []index.UID }

// message is what has to be known of a message to tell one of its states from every other.
type message struct {
	guid   index.GUID
	modseq index.ModSeq
	flags  index.Flags
	user   index.UserFlags
	bytes  int64
}

func messageOf(r *index.Record) message {
	return message{r.GUID, r.ModSeq, r.Flags, r.UserFlags, int64(r.Size)}
}

func openPost(ctx context.Context, st *store.Store, n mboxdb.Name, t *tally) (*post, error) {
	p := &post{tally: t, acked: map[index.UID]message{}}
	p.open = func(ctx context.Context) (*index.Mailbox, error) { return st.OpenMailbox(ctx, n) }
	var err error
	if p.box, err = p.open(ctx); err != nil {
		return nil, err
	}
	if p.reader, err = p.open(ctx); err != nil {
		return nil, errors.Join(err, p.box.Close())
	}
	return p, nil
}

func (p *post) close() error { return errors.Join(p.box.Close(), p.reader.Close()) }

// keyword is a flag of the user's own, whose name is in cyrus.header.
const keyword = "$Work"

// fill appends messages that nobody but the caller changes, all of them flagged.
func (p *post) fill(ctx context.Context) (uids []index.UID, err error) {
	if uids, err = p.append(ctx, messages); err != nil {
		return nil, err
	}
	if len(uids) != messages {
		return nil, errors.New("the disk is full before the story begins")
	}
	return uids, p.flag(ctx, uids...)
}

// change makes the next change of a writer: three messages are appended, or one, which may find room for its text and none for
// its record; the newest three and the oldest three are flagged, or not any more; the oldest is expunged. Three are one
// transaction: all of them or none.
func (p *post) change(ctx context.Context, h *hand, i int) error {
	const batch = 3
	n := min(batch, len(h.uids))
	flag := []func(context.Context, ...index.UID) error{p.flag, p.unflag}
	switch odd := i / 4 % 2; i % 4 {
	case 0:
		uids, err := p.append(ctx, []int{batch, 1}[odd])
		h.uids = append(h.uids, uids...)
		return err
	case 1:
		return flag[odd](ctx, h.uids[len(h.uids)-n:]...)
	case 2:
		return flag[1-odd](ctx, h.uids[:n]...)
	}
	if n == 0 {
		return nil
	}
	oldest := h.uids[0]
	h.uids = h.uids[1:]
	return p.expunge(ctx, oldest)
}

// append appends n messages in one transaction and returns their UIDs, none if it was refused.
func (p *post) append(ctx context.Context, n int) (uids []index.UID, _ error) {
	recs, err := p.update(ctx, &p.appended, n, func(tx *index.Tx, _ int) (index.Record, error) {
		text := letter(p.sent.Add(1))
		rec, err := tx.Append(index.NewMessage{Body: strings.NewReader(text)})
		rec.GUID, rec.Size = sha1.Sum([]byte(text)), uint64(len(text)) // what was sent decides
		return rec, err
	})
	for _, rec := range recs {
		uids = append(uids, rec.UID)
	}
	return uids, err
}

func (p *post) flag(ctx context.Context, uids ...index.UID) error {
	return p.setFlags(ctx, index.AddFlags, uids)
}

func (p *post) unflag(ctx context.Context, uids ...index.UID) error {
	return p.setFlags(ctx, index.RemoveFlags, uids)
}

func (p *post) setFlags(ctx context.Context, op index.FlagOp, uids []index.UID) error {
	_, err := p.update(ctx, &p.flagged, len(uids), func(tx *index.Tx, i int) (index.Record, error) {
		return tx.SetFlags(uids[i], index.FlagChange{Op: op, Flags: index.FlagFlagged, User: []string{keyword}})
	})
	return err
}

// expunge expunges messages: of every other one the file goes at once.
func (p *post) expunge(ctx context.Context, uids ...index.UID) error {
	_, err := p.update(ctx, &p.expunged, len(uids), func(tx *index.Tx, i int) (index.Record, error) {
		return tx.Expunge(uids[i], []index.ExpungeMode{index.ExpungeDelayed, index.ExpungeImmediate}[uids[i]%2])
	})
	return err
}

// update changes n messages in one transaction, and remembers the answer. It returns their records, none if it was refused.
func (p *post) update(ctx context.Context, acks *atomic.Int64, n int, do func(tx *index.Tx, i int) (index.Record, error)) (recs []index.Record, _ error) {
	err := p.box.Update(ctx, func(tx *index.Tx) error {
		for i := range n {
			rec, err := do(tx, i)
			if err != nil {
				return err
			}
			recs = append(recs, rec)
		}
		return nil
	})
	if ok, err := p.answer(int64(n), err); !ok {
		return nil, err
	}
	acks.Add(int64(n))
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, rec := range recs {
		p.acked[rec.UID] = messageOf(&rec)
	}
	return recs, nil
}

// letter is a message, different for each n.
func letter(n int64) string {
	return strings.ReplaceAll(fmt.Sprintf(`From: Ida <ida@example.org>
To: Fred <fred@example.org>
Subject: Letter %d
Message-ID: <%[1]d@example.org>
Date: Wed, 18 Nov 2026 03:14:00 +0000

This is letter %[1]d, and the disk is filling up.
`, n), "\n", "\r\n")
}

// read reads a message as a client does that comes back: status, envelope, text.
func (p *post) read(ctx context.Context, uid index.UID) error {
	if err := p.reader.Refresh(ctx); err != nil {
		return err
	}
	rec, err := p.reader.Record(ctx, uid)
	if err != nil {
		return err
	}
	if _, err := p.reader.Cache(&rec); err != nil {
		return err
	}
	body, err := p.reader.Body(&rec)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(body)
	if err == nil && sha1.Sum(text) != rec.GUID {
		err = errors.New("the message is another one")
	}
	return errors.Join(err, body.Close())
}

// work makes n changes; every one has to succeed.
func (p *post) work(ctx context.Context, n int) error {
	return p.allMade(n, func(i int) error { return p.change(ctx, &p.hands[0], i) })
}

// mailDifferences are those between the mailbox and what was acknowledged: messages that are missing; that are as they were
// before a change that was acknowledged; that show, or come from, a change that nobody acknowledged; and what a check of
// all files finds, with messages left where they are written before they have a number.
type mailDifferences struct{ lost, stale, half, findings int }

// differences opens the mailbox anew and compares.
func (p *post) differences(ctx context.Context) (d mailDifferences, err error) {
	m, err := p.open(ctx)
	if err != nil {
		return d, err
	}
	defer m.Close()
	found := 0
	for e, err := range m.Records(ctx) {
		if err != nil {
			return d, err
		}
		is := messageOf(&e.Record)
		want, ok := p.acked[e.UID]
		switch {
		case !ok:
			d.half++
			continue
		case is.guid != want.guid:
			continue
		case is.modseq < want.modseq:
			d.stale++
		case is != want:
			d.half++
		}
		found++
	}
	d.lost = len(p.acked) - found
	findings, err := index.Check(ctx, vfs.OS(), m.Place(), index.CheckOptions{Contents: true})
	if err != nil {
		return d, err
	}
	left, err := vfs.OS().ReadDir(m.Place().Stage)
	d.findings = len(findings) + len(left)
	return d, err
}
